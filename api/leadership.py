"""Which process reconciles: one at a time for one database.

Owns the lock that says so. It ends with the process that holds it, however that process ends, so it is never stuck; and
whoever loses it is told, so that two never reconcile for longer than the watch takes to notice.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from api.database import tortoise_config

#: The key of the advisory lock, one of this product's own.
LEADER_LOCK = 0x6162_6579_0002
WATCH_SECONDS = 5.0
#: A lock connection that does not answer within this is taken for lost.
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Lead:
    """The right to reconcile. With SQLite it cannot be lost; with PostgreSQL it ends with its connection."""

    connection: asyncpg.Connection | None = None

    async def lost(self) -> None:
        """Return once the right is lost; never, where it cannot be."""
        if self.connection is None:
            await asyncio.Event().wait()
            return
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await asyncio.wait_for(self.connection.fetchval("SELECT 1"), PATIENCE_SECONDS)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return


@asynccontextmanager
async def leadership(url: str) -> AsyncIterator[Lead | None]:
    """Yield the right to reconcile this database until the end of the block, or null while another process has it.

    With PostgreSQL it is an advisory lock of a connection of its own, with SQLite a lock on a file beside the database.
    """
    credentials = tortoise_config(url)["connections"]["default"]["credentials"]
    if "file_path" in credentials:
        handle = os.open(Path(f"{credentials['file_path']}.reconciler"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield Lead() if _take(handle) else None
        finally:
            os.close(handle)
        return
    connection = await connect_postgres(url)
    try:
        taken = await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK)
        yield Lead(connection=connection) if taken else None
    finally:
        connection.terminate()


async def connect_postgres(url: str) -> asyncpg.Connection:
    """Open a connection of its own beside the pool, which ends with its process or by `terminate`."""
    credentials = tortoise_config(url)["connections"]["default"]["credentials"]
    names = ("host", "port", "user", "password", "database")
    return await asyncpg.connect(
        **{name: credentials.get(name) for name in names},
        ssl=credentials.get("ssl"),
        timeout=PATIENCE_SECONDS,
    )


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
