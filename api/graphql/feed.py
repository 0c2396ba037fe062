"""Who watches what: one look for all watchers of this process whenever something was committed.

Owns the looking and what each watcher has not been told yet. A watcher holds at most the keys that it watches, so that
however slow its client is, nothing piles up.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog

from api.changes import Changes
from api.graphql.marks import RUN, Key, marks_of

log = structlog.get_logger(__name__)

Look = Callable[[Collection[Key]], Awaitable[Mapping[Key, Hashable]]]

#: However much is committed, looks are this far apart.
APART_SECONDS = 0.5
#: A signal may be lost, and some processes give none; then changes are seen after this.
AT_LATEST_SECONDS = 15.0
#: While a run is watched: its outcomes are written as they are read back, without a signal for each.
RUN_SECONDS = 1.0


@dataclass(kw_only=True, eq=False)
class Watcher:
    """What one subscription watches, and what of it changed since it was last told."""

    marks: dict[Key, Hashable]
    _changed: dict[Key, None] = field(default_factory=dict)
    _event: asyncio.Event = field(default_factory=asyncio.Event)

    async def changed(self, seconds: float) -> list[Key]:
        """Wait for changes and return what changed; nothing when nothing did within `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self._event.clear()
        changed, self._changed = list(self._changed), {}
        return changed

    def compare(self, marks: Mapping[Key, Hashable]) -> None:
        """Note what differs from the marks that were seen last."""
        for key, mark in self.marks.items():
            if marks.get(key) != mark:
                self._changed[key] = None
        for key in self._changed:
            self.marks[key] = marks.get(key)
        if self._changed:
            self._event.set()


@dataclass(kw_only=True, eq=False)
class Feed:
    """Tells watchers of this process what changed."""

    changes: Changes
    look: Look = marks_of
    _watchers: set[Watcher] = field(default_factory=set)
    _looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watching(self, keys: Collection[Key]) -> AsyncIterator[Watcher]:
        """Yield a watcher that is told of every change after this call, until the end of the block."""
        marks = await self.look(keys)
        watcher = Watcher(marks={key: marks.get(key) for key in keys})
        self._watchers.add(watcher)
        if self._looking is None:
            self._looking = asyncio.create_task(self._watch(), name="feed")
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _watch(self) -> None:
        rung = asyncio.Event()
        with self.changes.listening(rung.set):
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(rung.wait(), self._pause())
                rung.clear()
                await self._look_once()
                await asyncio.sleep(APART_SECONDS)

    def _pause(self) -> float:
        runs = any(noun == RUN for watcher in self._watchers for noun, _ in watcher.marks)
        return RUN_SECONDS if runs else AT_LATEST_SECONDS

    async def _look_once(self) -> None:
        watchers = tuple(self._watchers)  # one that comes while we look has its own marks
        try:
            marks = await self.look({key for watcher in watchers for key in watcher.marks})
        except Exception:
            log.exception("feed.not_read")  # the database is away: the next look tells what changed meanwhile
            return
        for watcher in watchers:
            watcher.compare(marks)
