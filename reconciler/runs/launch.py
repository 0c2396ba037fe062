"""Starts the Ansible command line so that it ends when its supervisor does.

Run as a script by its path, in isolated mode: `launch.py <supervisor's pid> playbook …`. Owns nothing but that
bond; the other arguments are Ansible's own.
"""

import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become `python -m ansible`."""
    import ctypes

    # On SIGTERM the main process of a play stops its workers itself; SIGKILL would leave them at work, because
    # each of them is in a session of its own.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(sys.argv.pop(1)):
        sys.exit("the supervisor of this run is gone")
    runpy.run_module("ansible", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
