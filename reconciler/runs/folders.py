"""The private folder of one run and the record that outlives a killed supervisor.

Owns both places: the folder (mode 0700, in memory where the machine has room, else in the state directory) and
`<state>/runs/<run id>.json`, locked by the supervisor for as long as it lives. Decides nothing about processes.
"""

import fcntl
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - the folder made in it is ours alone, mode 0700 and with a random name
_ROOM_BYTES = 64 * 1024 * 1024
_PREFIX = "abeyance-run-"
_RECORD = re.compile(r"[0-9a-f]{32}\.json")


@dataclass(frozen=True, kw_only=True)
class Record:
    """A started run and the process that asked for it (see `start_mark`)."""

    run_id: str
    parent: int
    parent_mark: str | None


class HeldRecord:
    """A run's record on disk with its lock, which the kernel drops when the holder ends however that happens."""

    def __init__(self, state_dir: Path, record: Record) -> None:
        self.path = _runs(state_dir) / f"{record.run_id}.json"
        text = json.dumps({"parent": record.parent, "parent_mark": record.parent_mark})
        # Locked before it has its name: nobody ever sees an unlocked record of a living run.
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".")
        self._handle = handle
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.write(handle, text.encode())
        Path(temporary).rename(self.path)

    def release(self) -> None:
        """Remove the record and its lock; the run has left nothing behind."""
        self.path.unlink(missing_ok=True)
        os.close(self._handle)


def make_folder(run_id: str, state_dir: Path, memory: Path) -> Path:
    """Make a fresh folder for a run and return it; raises `OSError` when no place can be written."""
    base = memory if _has_room(memory) else _runs(state_dir)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{run_id}-", dir=base))


def records(state_dir: Path) -> Iterator[Record]:
    """Yield the record of every run that has not cleaned up after itself, running ones included."""
    for path in sorted(_runs(state_dir).iterdir()):
        if not _RECORD.fullmatch(path.name):
            continue
        try:
            stored = json.loads(path.read_text())
            yield Record(
                run_id=path.stem,
                parent=int(stored["parent"]),
                parent_mark=stored["parent_mark"],
            )
        except FileNotFoundError:
            continue  # its run ended between the two looks
        except (ValueError, KeyError, TypeError):
            # Torn by a full disk: the name alone is enough to sweep by.
            yield Record(run_id=path.stem, parent=0, parent_mark=None)


def is_known(state_dir: Path, run_id: str) -> bool:
    """Return whether there is a record of a run; makes nothing."""
    return (state_dir / "runs" / f"{run_id}.json").exists()


def is_held(state_dir: Path, run_id: str) -> bool:
    """Return whether the supervisor of a run still holds its record."""
    try:
        handle = os.open(_runs(state_dir) / f"{run_id}.json", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def wait_until_free(state_dir: Path, run_id: str, seconds: float) -> None:
    """Wait until the supervisor of a run let go of its record, at most so long."""
    until = time.monotonic() + seconds
    while is_held(state_dir, run_id) and time.monotonic() < until:
        time.sleep(0.05)


def forget(state_dir: Path, run_id: str, memory: Path) -> None:
    """Remove all that a dead run left on disk: its folder wherever it was made, then its record."""
    remove_folder(state_dir, run_id, memory)
    (_runs(state_dir) / f"{run_id}.json").unlink(missing_ok=True)


def remove_folder(state_dir: Path, run_id: str, memory: Path) -> None:
    """Remove the folder of a run, wherever it was made."""
    for base in (memory, _runs(state_dir)):
        for folder in base.glob(f"{_PREFIX}{run_id}-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(state_dir: Path) -> Path:
    runs = state_dir / "runs"
    runs.mkdir(mode=0o700, parents=True, exist_ok=True)
    return runs


def _has_room(memory: Path) -> bool:
    if not memory.is_dir() or not os.access(memory, os.W_OK | os.X_OK):
        return False
    free = os.statvfs(memory)
    return free.f_bavail * free.f_frsize >= _ROOM_BYTES
