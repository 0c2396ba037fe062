"""The statements of one answer share a connection, and nobody waits for a second one while holding it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tortoise.connection import get_connection
from tortoise.exceptions import OperationalError
from tortoise.transactions import in_transaction

from api import postgres_engine
from api.database import open_database
from api.postgres_engine import one_connection

pytestmark = pytest.mark.postgres
#: So long nobody waits here unless it is for ever.
PATIENCE = 60


@pytest.fixture
async def narrow(postgres_url: str) -> AsyncIterator[str]:
    """A database whose pool has a single connection."""
    async with open_database(f"{postgres_url}?minsize=1&maxsize=1"):
        yield postgres_url


@pytest.fixture
async def wide(postgres_url: str) -> AsyncIterator[str]:
    """A database whose pool has several connections."""
    async with open_database(f"{postgres_url}?minsize=4&maxsize=4"):
        yield postgres_url


@pytest.fixture
def never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that gives its connection back only where it has to."""
    monkeypatch.setattr(postgres_engine, "IDLE", 10.0 * PATIENCE)


async def backend(statement: str = "SELECT pg_backend_pid() AS pid, pg_sleep(0.05)") -> int:
    """Return which of the server's processes answers a statement."""
    (row,) = await get_connection("default").execute_query_dict(statement)
    return int(row["pid"])


async def test_the_statements_of_a_block_share_one_connection(wide: str) -> None:
    """It sends them over one, those of its tasks too; outside, whatever runs at once has one each."""
    async with one_connection():
        shared = set(await asyncio.gather(*(asyncio.create_task(backend()) for _ in range(4))))
    apart = set(await asyncio.gather(*(backend() for _ in range(4))))
    assert (len(shared), len(apart)) == (1, 4)


async def test_two_blocks_do_not_share(wide: str) -> None:
    """It gives each block its own."""

    async def block() -> set[int]:
        async with one_connection():
            return {await backend(), await backend()}

    one, other = await asyncio.gather(asyncio.create_task(block()), asyncio.create_task(block()))
    assert len(one) == len(other) == 1
    assert one != other


async def test_a_transaction_gets_a_connection_although_the_block_has_the_last(
    narrow: str, never_idle: None
) -> None:
    """It gives the block's back before the transaction asks the pool for one."""
    async with asyncio.timeout(PATIENCE), one_connection():
        await backend()
        async with in_transaction() as transaction:
            await transaction.execute_query("SELECT 1")
        await backend()


async def test_an_idle_block_keeps_nothing_from_others(narrow: str) -> None:
    """It gives the connection back while the block works something out, and takes another for what comes next."""
    async with asyncio.timeout(PATIENCE), one_connection():
        await backend()
        await asyncio.create_task(_of_somebody_else())
        await backend()


async def _elsewhere(url: str, statement: str) -> int:
    server = await asyncpg.connect(url)
    try:
        return int(await server.fetchval(statement))
    finally:
        await server.close()


async def _of_somebody_else() -> None:
    postgres_engine._sharing.set(None)
    await backend()


async def test_a_block_at_its_end_keeps_nothing(narrow: str, never_idle: None) -> None:
    """It gives the connection back, after a fault too, and a task that outlives it asks the pool itself."""
    late: list[asyncio.Task[int]] = []
    go = asyncio.Event()

    async def later() -> int:
        await go.wait()
        return await backend()

    async def block() -> None:
        async with one_connection():
            late.append(asyncio.create_task(later()))
            await backend()
            raise ZeroDivisionError

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ZeroDivisionError):
            await block()
        await backend()
        go.set()
        await late[0]
        await backend()


async def test_it_tells_rows_and_faults_as_the_orm_does(wide: str) -> None:
    """In a block and outside, of what reads and of what writes."""
    connection = get_connection("default")
    statements = (
        "SELECT 1 AS one UNION SELECT 2",
        "WITH two AS (SELECT 2 AS one) SELECT one FROM two",
        "VALUES (1), (2)",
        "UPDATE stripe_mirror SET problem = NULL",
        "SELECT nothing FROM nowhere",
        "SELECT 1 / 0",
        "SELECT 'x'::int",
    )

    async def told(statement: str) -> tuple[object, ...]:
        try:
            number, rows = await connection.execute_query(statement)
        except Exception as fault:  # noqa: BLE001
            return type(fault), str(fault)
        return number, [tuple(row) for row in rows]

    outside = [await told(statement) for statement in statements]
    async with one_connection():
        assert [await told(statement) for statement in statements] == outside
    assert [one[0] for one in outside] == [2, 1, 2, 1, *[OperationalError] * 3]


async def test_a_failed_statement_spoils_nothing_for_the_next(wide: str) -> None:
    """It goes on with the same connection."""
    async with one_connection():
        first = await backend()
        with pytest.raises(OperationalError):
            await backend("SELECT no_such_column FROM account")
        assert await backend() == first


async def test_a_statement_that_is_given_up_spoils_nothing_for_the_next(narrow: str) -> None:
    """It ends it at the server, and answers the next one."""
    async with asyncio.timeout(PATIENCE), one_connection():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await backend("SELECT pg_backend_pid() AS pid, pg_sleep(600)")
        await backend()
    await backend()


async def test_the_end_of_a_block_waits_for_no_statement(narrow: str, never_idle: None) -> None:
    """It leaves the connection to whoever still uses it, and that one gives it back."""
    async with asyncio.timeout(PATIENCE):
        async with one_connection():
            late = asyncio.create_task(backend("SELECT pg_backend_pid() AS pid, pg_sleep(600)"))
            asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            while not await _elsewhere(narrow, asleep):  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.01)
        assert not late.done()
        late.cancel()
        await backend()


async def test_a_transaction_that_cannot_begin_keeps_nothing(narrow: str) -> None:
    """It leaves the pool as it was, and whoever gave it up outside of it, while the server does not answer."""
    async with asyncio.timeout(PATIENCE):
        stuck = await backend()
        os.kill(stuck, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), in_transaction():
                    raise AssertionError
            assert await backend() != stuck
        finally:
            os.kill(stuck, signal.SIGCONT)
        async with in_transaction():
            await backend()
        await backend()


async def test_a_connection_that_broke_is_replaced(wide: str) -> None:
    """It takes another for the next statement."""
    async with asyncio.timeout(PATIENCE), one_connection():
        broken = await backend()
        server = await asyncpg.connect(wide)
        await server.execute("SELECT pg_terminate_backend($1)", broken)
        await server.close()
        with contextlib.suppress(
            asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError
        ):
            await backend()  # this one fails where it is not known yet, or where the farewell is read half
        assert await backend() != broken


async def test_the_pool_is_whole_after_many_blocks(narrow: str, never_idle: None) -> None:
    """It loses no connection, whatever becomes of a block."""

    async def block(number: int) -> None:
        async with one_connection():
            await backend("SELECT pg_backend_pid() AS pid")
            if number % 3 == 0:
                raise ZeroDivisionError
            if number % 3 == 1:
                async with in_transaction():
                    await backend("SELECT pg_backend_pid() AS pid")

    async with asyncio.timeout(PATIENCE):
        ends = await asyncio.gather(*(block(number) for number in range(30)), return_exceptions=True)
        assert sum(isinstance(end, ZeroDivisionError) for end in ends) == 10
        assert sum(end is None for end in ends) == 20
        await backend()


async def test_sqlite_has_one_connection_anyway(sqlite_database: str) -> None:
    """It answers within a block as outside."""
    async with one_connection():
        assert await get_connection("default").execute_query_dict("SELECT 1 AS one") == [{"one": 1}]
