"""The static gate at the moment of a run: what could destroy is not played, whenever the files were edited.

Owns when the gate is asked and for how long its answer holds; what is forbidden is `reconciler.play_gate`'s word. Reads
files only.
"""

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from reconciler.play_gate import gate_play
from reconciler.plugin_gate import Finding
from reconciler.runs.request import RunRefusedError

log = structlog.get_logger(__name__)

#: Every file's name, instant of change, size and number on its disk.
_Print = frozenset[tuple[str, int, int, int]]


@dataclass(kw_only=True)
class PlayGuard:
    """Remembers what the gate found of each play, until any file of the playbooks changes."""

    playbooks: Path
    _seen: _Print | None = None
    _found: dict[tuple[Path, str], tuple[Finding, ...]] = field(default_factory=dict)
    _one: threading.Lock = field(default_factory=threading.Lock)

    async def check(self, play: Path, platform: str) -> None:
        """Raise `RunRefusedError` with the first thing that a play must not be able to do on a platform."""
        found = await asyncio.to_thread(self._findings, play, platform)
        if found:
            for finding in found:
                log.error("play.refused", finding=str(finding))
            raise RunRefusedError(f"the static gate refuses it: {found[0]}")

    def _findings(self, play: Path, platform: str) -> tuple[Finding, ...]:
        with self._one:
            now = _print(self.playbooks)
            if now != self._seen:
                self._seen, self._found = now, {}
            if (play, platform) not in self._found:
                self._found[play, platform] = gate_play(self.playbooks, play, platform)
            return self._found[play, platform]


def _print(folder: Path) -> _Print:
    """Return what tells any change of the files below a folder; what tools leave behind is no file of anybody's."""
    seen = set()
    for file in folder.rglob("*"):
        if "__pycache__" in file.parts or not file.is_file():
            continue
        about = file.stat()
        seen.add((str(file), about.st_mtime_ns, about.st_size, about.st_ino))
    return frozenset(seen)
