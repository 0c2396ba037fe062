"""Servers with their accounts, read by one statement of our own, are the rows that the ORM would show."""

from typing import Any

import pytest

from api.auth import Principal
from api.graphql.scope import Scope
from api.graphql.server_rows import servers_with_accounts
from api.models import Role
from billing.models import Account
from reconciler.models import Server


@pytest.mark.usefixtures("database")
async def test_it_reads_whole_rows(factory: Any) -> None:
    """Every column arrives in its place, each server is told once, and what is not there is left out."""
    servers = [await factory.server(), await factory.server(), await factory.server()]
    asked = [servers[2].external_id, servers[0].external_id, servers[2].external_id, "missing", "'; --"]
    rows = await servers_with_accounts(Scope(principal=Principal(role=Role.CONTROL, name="k")), asked)
    assert sorted(server.id for server, _ in rows) == [servers[0].id, servers[2].id]
    for server, account in rows:
        assert vars(server) == vars(await Server.get(id=server.id))
        assert vars(account) == vars(await Account.get(id=server.account_id))


@pytest.mark.usefixtures("database")
async def test_a_customer_is_shown_its_own_alone(factory: Any) -> None:
    """It finds the servers of its accounts, and of no other; without accounts it finds nothing."""
    account = await factory.account()
    own, other = await factory.server(account), await factory.server()
    asked = [own.external_id, other.external_id]

    async def seen(*accounts: str) -> list[int]:
        principal = Principal(role=Role.CUSTOMER, name="c", accounts=frozenset(accounts))
        return [server.id for server, _ in await servers_with_accounts(Scope(principal=principal), asked)]

    assert await seen(account.external_id) == [own.id]
    assert await seen() == []
    assert await seen("nobody") == []
