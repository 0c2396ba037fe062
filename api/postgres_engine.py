"""The PostgreSQL connections that the ORM uses here: within one answer, one for all of its statements.

Owns that sharing. Taking a connection from the pool and giving it back cost as much as a small statement, and an answer
has several. Whoever begins a transaction, and whoever is outside of such a block, has a connection of its own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import asyncpg
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import TransactionalDBClient, TransactionContext, TransactionContextPooled
from tortoise.connection import get_connections

#: Seconds without a statement after which the connection is given back: what is worked out meanwhile needs none.
IDLE = 0.1

_READING = ("SELECT ", "WITH ")

_sharing: ContextVar["Shared | None"] = ContextVar("sharing", default=None)


@asynccontextmanager
async def one_connection() -> AsyncIterator[None]:
    """Send the statements of this block, and of the tasks that it begins, one after the other over one connection.

    It is taken with the first statement. Nobody waits for another one while holding it: before a transaction begins it
    is given back. Has no effect where the database is SQLite, whose connection is one anyway.
    """
    shared = Shared()
    before = _sharing.set(shared)
    try:
        yield
    finally:
        _sharing.reset(before)
        await shared.end()


class Shared:
    """The connection of one block."""

    def __init__(self) -> None:
        self.connection: Any = None
        #: Whether the block is over; a task that goes on after it is on its own.
        self.over = False
        self._pool: Any = None
        self._turn = asyncio.Lock()
        self._used = 0.0
        self._watch: asyncio.TimerHandle | None = None

    async def take(self, client: AsyncpgDBClient) -> Any:
        """Wait for this statement's turn; returns the connection."""
        await self._turn.acquire()
        try:
            if self.connection is not None and _is_broken(self.connection):
                await self._give_back()
            if self.connection is None:
                # The ORM's own way in, which opens the pool where it is not open yet.
                self.connection = await AsyncpgDBClient.acquire_connection(client).__aenter__()
                self._pool = client._pool  # noqa: SLF001  # it has no other door
                self._watch_from_now()
        except BaseException:
            self._turn.release()
            raise
        return self.connection

    async def leave(self) -> None:
        """End a statement's turn; the last one of a block that is over gives the connection back."""
        self._used = asyncio.get_running_loop().time()
        self._turn.release()
        if self.over:
            await self.give_back()

    async def give_back(self) -> None:
        """Give the connection back as soon as no statement is under way; the next one takes another."""
        async with self._turn:
            await self._give_back()

    async def end(self) -> None:
        """Give it back for good; waits for no statement, for that may wait for a lock of somebody else."""
        self.over = True
        if not self._turn.locked():
            await self._give_back()

    async def _give_back(self) -> None:
        connection, self.connection = self.connection, None
        if self._watch is not None:
            self._watch.cancel()
        if connection is not None:
            await self._pool.release(connection)

    def _watch_from_now(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(IDLE, self._look)

    def _look(self) -> None:
        idle = asyncio.get_running_loop().time() - self._used
        if self._turn.locked() or idle < IDLE:
            self._watch_from_now()
        else:
            self._leaving = asyncio.create_task(self.give_back())


def _is_broken(connection: Any) -> bool:
    """Return whether it was closed; the pool takes it back then by itself, and it answers nothing any more."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


class _Turn:
    """One statement's use of a shared connection."""

    __slots__ = ("_client", "_shared")

    def __init__(self, shared: Shared, client: AsyncpgDBClient) -> None:
        self._shared = shared
        self._client = client

    async def __aenter__(self) -> Any:
        return await self._shared.take(self._client)

    async def __aexit__(self, *_: object) -> None:
        await self._shared.leave()


class SharingClient(AsyncpgDBClient):
    """A pool of connections, of which a block may keep one."""

    def acquire_connection(self) -> Any:
        """Return what enters the connection of this block, or one of the pool."""
        shared = _sharing.get()
        return super().acquire_connection() if shared is None or shared.over else _Turn(shared, self)

    async def execute_query(self, query: str, values: list[Any] | None = None) -> tuple[int, Any]:
        """Return the number of rows and the rows, as the ORM does.

        Within such a block a reading statement goes the short way: the ORM writes all of it in capitals to make out
        that it reads, and enters four coroutines on the way.
        """
        shared = _sharing.get()
        if shared is None or shared.over or not query.startswith(_READING):
            return await super().execute_query(query, values)  # type: ignore[no-any-return]
        connection = await shared.take(self)
        try:
            rows = await connection.fetch(query, *(values or ()))
        except asyncpg.PostgresError as error:
            await self._translate_exceptions(_failed, error)
            raise
        finally:
            await shared.leave()
        return len(rows), rows

    def _in_transaction(self) -> TransactionContext:
        return _Transaction(TransactionWrapper(self), self._pool_init_lock)


async def _failed(_: AsyncpgDBClient, error: Exception) -> Any:
    raise error


class _Transaction(TransactionContextPooled):
    """A transaction on a connection of its own."""

    async def __aenter__(self) -> TransactionalDBClient:
        shared = _sharing.get()
        if shared is not None:
            await shared.give_back()
        try:
            return await super().__aenter__()
        except BaseException:
            token = getattr(self, "token", None)
            if token is not None:
                # It did not begin, so nobody will end it: whoever goes on is outside of it, and the pool has its place
                # again. Nothing was done, and a server that does not answer is not asked to take it back.
                get_connections().reset(token)
                with suppress(asyncpg.InterfaceError):
                    self.client._connection.terminate()  # noqa: SLF001
            raise


client_class: Any = SharingClient
