"""Starts the Ansible command line so that it ends when its supervisor does.

Run as a script by its path, in isolated mode: `launch.py <supervisor's pid> playbook …`. Owns nothing but that
bond and a quick start and end; the other arguments are Ansible's own.
"""

import atexit
import gc
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become `python -m ansible`."""
    # On SIGTERM the main process of a play stops its workers itself; SIGKILL would leave them at work, because
    # each of them is in a session of its own.
    if not _die_with(int(sys.argv.pop(1))):
        sys.exit("the supervisor of this run is gone")
    _tie_workers()
    # A play loads hundreds of modules, of which nothing is ever garbage: looking for it takes a tenth of a short play.
    gc.set_threshold(50_000, 20, 20)
    ended: list[int] = []
    # Registered first, so that it is the last thing done.
    atexit.register(_leave, ended)
    try:
        runpy.run_module("ansible", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        ended += [int(end.code or 0)] if isinstance(end.code, int | None) else []
        raise


def _die_with(parent: int) -> bool:
    """Ask the kernel for a SIGTERM when the parent ends; return whether it still is the parent."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
    return os.getppid() == parent


def _tie_workers() -> None:
    """Let each worker end with the process that forked it: a worker that is just starting is told by nobody."""
    parent = 0

    def remember() -> None:
        nonlocal parent
        parent = os.getpid()

    def tie() -> None:
        if not _die_with(parent):
            os._exit(1)

    os.register_at_fork(before=remember, after_in_child=tie)


def _leave(ended: list[int]) -> None:
    """End the process without taking the interpreter to pieces, which takes a fifth of a short play."""
    if ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended[0])


if __name__ == "__main__":
    main()
