"""Which process reconciles: one at a time for one database.

Owns the lock that says so. It ends with the process that holds it, however that process ends, so it is never stuck.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from api.database import tortoise_config

#: The key of the advisory lock, one of this product's own.
LEADER_LOCK = 0x6162_6579_0002


@asynccontextmanager
async def leadership(url: str) -> AsyncIterator[bool]:
    """Say whether this process may reconcile, and keep that so until the end of the block.

    With PostgreSQL it is an advisory lock of a connection of its own; with SQLite a lock on a file beside the database.
    """
    credentials = tortoise_config(url)["connections"]["default"]["credentials"]
    if "file_path" in credentials:
        with_lock = Path(f"{credentials['file_path']}.reconciler")
        handle = os.open(with_lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield _take(handle)
        finally:
            os.close(handle)
        return
    names = ("host", "port", "user", "password", "database")
    connection = await asyncpg.connect(
        **{name: credentials.get(name) for name in names}, ssl=credentials.get("ssl"), timeout=10
    )
    try:
        yield bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK))
    finally:
        await asyncio.shield(connection.close(timeout=5))


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
