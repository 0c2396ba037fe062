"""Finding and ending every process of one run, by what the kernel says and never by what a run says.

Owns the environment tag, the reading of /proc and the sweep. A process belongs to a run when its environment
carries the run's tag, or when it descends from the run's supervisor. Linux only.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Set for the supervisor and inherited by all that it starts.
RUN_TAG = "ABEYANCE_RUN_ID"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
#: While a process executes a new program its environment reads as empty for an instant, so one clean look
#: proves nothing; two with this pause between them do.
_SECOND_LOOK_SECONDS = 0.02


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(parent: int, *, by: signal.Signals = signal.SIGTERM) -> bool:
    """Ask the kernel to signal this process when its parent ends; return whether `parent` still is the parent.

    The kernel counts the *thread* that created this process as the parent: whoever starts a process that calls
    this must do so from a thread that lives as long as it should.
    """
    _prctl(_PR_SET_PDEATHSIG, by.value)
    return os.getppid() == parent


def adopt_orphans() -> None:
    """Become the parent of every orphaned descendant, so that none can leave this process's tree."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    pid: int
    parent: int
    zombie: bool


def start_mark(pid: int) -> str | None:
    """Return the boot and start time of a process, which together name it for ever; None when there is none."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def _all_processes() -> list[_Seen]:
    found = []
    for entry in (path.name for path in _PROC.iterdir() if path.name.isdigit()):
        with suppress(OSError, IndexError, ValueError):
            fields = (_PROC / entry / "stat").read_text().rpartition(")")[2].split()
            found.append(_Seen(pid=int(entry), parent=int(fields[1]), zombie=fields[0] in "ZX"))
    return found


def _carries(pid: int, tag: bytes) -> bool:
    try:
        return tag in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone, or another user's: neither is ours


def _is_guest(pid: int) -> bool:
    """Whether a process is a container that a play on this machine started: what it gave back, not what it left behind.

    LXC puts the monitor and the payload of a container into control groups of these names (lxc.container.conf(5)).
    """
    try:
        groups = (_PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return False
    return any(f"/{kind}." in groups for kind in ("lxc.monitor", "lxc.payload"))


def members(run_id: str, *, below: int | None = None) -> list[int]:
    """Return the living processes of a run; with `below` also every descendant of that process, itself excluded.

    A container's processes count only if they carry the tag.
    """
    tag = f"{RUN_TAG}={run_id}".encode()
    seen = _all_processes()
    family: set[int] = set()
    if below is not None:
        family.add(below)
        grown = -1
        while grown != len(family):
            grown = len(family)
            family |= {
                process.pid for process in seen if process.parent in family and not _is_guest(process.pid)
            }
    mine = {
        process.pid
        for process in seen
        if not process.zombie and (process.pid in family or _carries(process.pid, tag))
    }
    return sorted(mine - {below, os.getpid()})


def children(of: int) -> list[int]:
    """Return the living direct children of a process."""
    return [
        process.pid
        for process in _all_processes()
        if process.parent == of and not process.zombie and not _is_guest(process.pid)
    ]


def send(pids: Iterable[int], what: signal.Signals, *, still: Callable[[], Iterable[int]]) -> None:
    """Signal those of `pids` that `still` names once all are pinned, so that a reused number is never hit."""
    pinned: dict[int, int] = {}
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                pinned[pid] = os.pidfd_open(pid)
        for pid in pinned.keys() & set(still()):
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(pinned[pid], what)
    finally:
        for handle in pinned.values():
            os.close(handle)


def sweep(run_id: str, *, below: int | None = None, seconds: float = 10.0) -> bool:
    """Kill every process of a run until two looks in a row find none; return whether that was reached in time."""
    deadline = time.monotonic() + seconds
    clean_looks = 0
    while clean_looks < 2:
        found = members(run_id, below=below)
        if found:
            clean_looks = 0
            send(found, signal.SIGKILL, still=lambda: members(run_id, below=below))
        else:
            clean_looks += 1
        if time.monotonic() > deadline:
            return False
        time.sleep(_SECOND_LOOK_SECONDS / 4 if found else _SECOND_LOOK_SECONDS)
    return True
