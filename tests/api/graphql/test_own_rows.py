"""The pages of an account's rows are those that the ORM would make, for everybody who may see them."""

from itertools import product
from typing import Any

import pytest

from api.auth import Principal
from api.graphql.own_rows import accounts_of, own_invoices, own_servers
from api.graphql.scope import Scope
from api.models import Role
from billing.models import Account


def _scope(*accounts: Account, role: Role = Role.CUSTOMER) -> Scope:
    return Scope(
        principal=Principal(role=role, name="x", accounts=frozenset(one.external_id for one in accounts))
    )


@pytest.mark.usefixtures("database")
async def test_it_reads_the_pages_that_the_orm_would(factory: Any) -> None:
    """It keeps to the bounds, the order and the size, shows customers no draft, and nobody another's rows."""
    mine, others = await factory.account(), await factory.account()
    for number in range(6):
        await factory.server(mine)
        await factory.server(others)
        await factory.invoice(mine, **({"status": "DRAFT", "amount_due": 0} if number % 3 == 0 else {}))
        await factory.invoice(others)
    staff = _scope(role=Role.SUPPORT)
    for scope, account in product(
        (_scope(mine), _scope(mine, others), _scope(others), staff), (mine, others)
    ):
        lists: Any = (
            (own_servers(scope, account.id), scope.servers()),
            (own_invoices(scope, account.id), scope.invoices()),
        )
        for own, query in lists:
            every = await query.filter(account_id=account.id).order_by("id")
            assert await own.count() == len(every)
            keys = [None, *(row.id for row in every)]
            for above, below, descending, most in product(keys, keys, (False, True), (2, 20)):
                found = await own.between(above, below, descending=descending, most=most)
                inside = [
                    row
                    for row in (reversed(every) if descending else every)
                    if (above is None or row.id > above) and (below is None or row.id < below)
                ]
                assert [vars(row) for row in found] == [vars(row) for row in inside[:most]]
    assert await own_invoices(staff, mine.id).count() == 6
    assert await own_invoices(_scope(mine), mine.id).count() == 4
    assert await own_servers(_scope(others), mine.id).count() == 0


@pytest.mark.usefixtures("database")
async def test_it_reads_the_accounts_of_a_customer(factory: Any) -> None:
    """It reads its own ones alone, the oldest first, and no more than it is asked for."""
    mine, others, too = [await factory.account() for _ in range(3)]
    assert [row.id for row in await accounts_of(_scope(too, mine), most=9)] == [mine.id, too.id]
    assert [row.id for row in await accounts_of(_scope(too, others), most=1)] == [others.id]
    assert await accounts_of(_scope(), most=9) == []
