"""Something was committed: told by whoever committed it, heard by whoever looks.

Owns this signal alone, within a process and, on PostgreSQL, between all processes of one database. It carries nothing:
listeners read what is so now, and a lost, doubled or late signal changes nothing but the delay.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import structlog

from api.leadership import PATIENCE_SECONDS, connect_postgres

log = structlog.get_logger(__name__)

CHANNEL = "abeyance_changed"
#: However much is committed, the other processes are told at most once in this time.
TELL_SECONDS = 0.2
RECONNECT_SECONDS = 5.0
#: How often the connection is tried when there is nothing to tell.
WATCH_SECONDS = 30.0

Heard = Callable[[], None]


@dataclass(kw_only=True, eq=False)
class Changes:
    """The signal of one process."""

    _listeners: set[Heard] = field(default_factory=set)
    #: Set while the other processes are still to be told.
    _untold: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self) -> None:
        """Say that something was committed; call it after the commit. Returns at once."""
        self._untold.set()
        self._tell_here()

    @contextlib.contextmanager
    def listening(self, heard: Heard) -> Iterator[None]:
        """Call `heard` at each signal until the end of the block."""
        self._listeners.add(heard)
        try:
            yield
        finally:
            self._listeners.discard(heard)

    @asynccontextmanager
    async def shared(self, url: str) -> AsyncIterator[None]:
        """Share the signal with the other processes of this database until the end of the block.

        SQLite has no other process that answers. Without a connection everything goes on, only later.
        """
        if url.startswith("sqlite"):
            yield
            return
        sharing = asyncio.create_task(self._share(url), name="changes")
        try:
            yield
        finally:
            sharing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sharing

    def _tell_here(self) -> None:
        for heard in tuple(self._listeners):
            heard()

    async def _share(self, url: str) -> None:
        while True:
            try:
                await self._share_once(url)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
                log.warning("changes.not_shared", problem=str(problem) or type(problem).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _share_once(self, url: str) -> None:
        """Listen and tell on one connection until it breaks. Names of PostgreSQL's own: NOTIFY, LISTEN."""
        connection = await connect_postgres(url)
        own = connection.get_server_pid()

        def heard(_: object, sender: int, *__: object) -> None:
            if sender != own:
                self._tell_here()

        try:
            await connection.add_listener(CHANNEL, heard)
            self._tell_here()  # what was told meanwhile was missed
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._untold.wait(), WATCH_SECONDS)
                told = "SELECT pg_notify($1, '')" if self._untold.is_set() else "SELECT $1::text"
                self._untold.clear()
                await asyncio.wait_for(connection.fetchval(told, CHANNEL), PATIENCE_SECONDS)
                await asyncio.sleep(TELL_SECONDS)
        finally:
            connection.terminate()
