"""What becomes of answers and of the pool when the database keeps somebody waiting."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from tortoise.connection import get_connection

from api.database import open_database
from api.graphql.ids import global_id
from api.models import Role

pytestmark = pytest.mark.postgres
#: So long nobody waits here unless it is for ever.
PATIENCE = 10
NAMES = (
    "query($a: ID!, $b: ID!, $c: ID!) { a: node(id: $a) { ...Name } b: node(id: $b) { ...Name }"
    " c: node(id: $c) { ...Name } } fragment Name on Server { name }"
)
OWN = "{ accounts(first: 5) { edges { node { name } } } }"


@pytest.fixture
async def url(postgres_url: str, door: Any) -> AsyncIterator[str]:
    """A database whose pool has two connections, and an application with little time."""
    door.ports = replace(door.ports, query_timeout=timedelta(seconds=1))
    async with open_database(f"{postgres_url}?minsize=1&maxsize=2"):
        yield postgres_url


@contextlib.asynccontextmanager
async def locked(url: str, table: str) -> AsyncIterator[None]:
    """Somebody else changes the table until the end of the block."""
    other = await asyncpg.connect(url)
    try:
        async with other.transaction():
            await other.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE')
            yield
    finally:
        await other.close()


async def is_whole() -> bool:
    """Return whether every connection comes back to the pool."""
    pool: Any = get_connection("default")._pool
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while pool.get_idle_size() != pool.get_size():  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.01)
    return bool(pool.get_idle_size() == pool.get_size())


async def test_a_page_that_waits_for_a_lock_is_given_up_in_time(door: Any, factory: Any, url: str) -> None:
    """It answers that it took too long, however many keys are loaded together, and ends the statement."""
    account = await factory.account()
    servers = [await factory.server(account) for _ in range(3)]
    given = {name: global_id("Server", one.id) for name, one in zip("abc", servers, strict=True)}
    before = await door.data(Role.SUPPORT, NAMES, given)
    async with locked(url, "server"):
        async with asyncio.timeout(PATIENCE):
            assert await door.code(Role.SUPPORT, NAMES, given) == "LIMIT_EXCEEDED"
        assert await is_whole()
    assert await door.data(Role.SUPPORT, NAMES, given) == before


async def test_a_customer_is_told_so_although_its_language_cannot_be_read(
    door: Any, factory: Any, url: str
) -> None:
    """It answers in another language where the account is what everybody waits for."""
    account = await factory.account()
    await door.token(Role.CUSTOMER, account.external_id)
    async with locked(url, "account"):
        async with asyncio.timeout(PATIENCE):
            code = await door.code(Role.CUSTOMER, OWN, account=account.external_id)
    assert code == "LIMIT_EXCEEDED"
    assert await is_whole()
