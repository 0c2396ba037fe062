"""Lists within a list: every owner gets the page that it would have got alone."""

from typing import Any

import pytest

from api.graphql import ids
from api.models import Role

#: What is asked of every account: forwards, backwards, narrowed, and behind or before a cursor.
PAGES = {
    "first": "first: 2",
    "all": "",
    "last": "last: 2",
    "after": 'first: 2, after: "CURSOR"',
    "before": 'last: 1, before: "CURSOR"',
    "narrowed": "first: 5, filter: {status: [OPEN]}",
}
SHOWN = "{ totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor } edges { cursor node { id } } }"


async def _accounts(factory: Any) -> list[Any]:
    """Five accounts: with no invoice, with one, and with several of two states, mixed up with one another."""
    accounts = [await factory.account() for _ in range(5)]
    for round_ in range(4):
        for number, account in enumerate(accounts):
            if round_ < number:
                paid = {"status": "PAID", "amount_due": 0} if round_ % 2 else {}
                await factory.invoice(account, **paid)
    return accounts


@pytest.mark.parametrize("page", sorted(PAGES))
async def test_every_owner_gets_its_own_page(door: Any, factory: Any, database: str, page: str) -> None:
    """It answers for five accounts at once as for each alone, with the same rows, ends, cursors and counts."""
    accounts = await _accounts(factory)
    arguments = PAGES[page].replace("CURSOR", ids.cursor("invoices", 8))
    invoices = f"invoices({arguments}) {SHOWN}" if arguments else f"invoices {SHOWN}"
    together = await door.data(Role.ADMIN, f"{{ accounts {{ edges {{ node {{ id {invoices} }} }} }} }}")
    found = {edge["node"]["id"]: edge["node"]["invoices"] for edge in together["accounts"]["edges"]}
    alone = f"query($id: ID!) {{ account(id: $id) {{ {invoices} }} }}"
    for account in accounts:
        key = ids.global_id("Account", account.id)
        assert found[key] == (await door.data(Role.ADMIN, alone, {"id": key}))["account"]["invoices"]
    assert len({str(one) for one in found.values()}) > 2


async def test_a_bad_cursor_is_refused_for_each(door: Any, factory: Any, sqlite_database: str) -> None:
    """It says so of every owner, with the code, and never that something went wrong."""
    await _accounts(factory)
    query = '{ accounts { edges { node { notices(after: "x") { totalCount } } } } }'
    answer = await door.ask(Role.ADMIN, query)
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"BAD_CURSOR"}


async def test_a_customer_sees_no_other_customers_page(door: Any, factory: Any, sqlite_database: str) -> None:
    """The pages that are read together are of its own accounts alone."""
    accounts = await _accounts(factory)
    query = "{ accounts { edges { node { externalId invoices { totalCount } } } } }"
    seen = await door.data(Role.CUSTOMER, query, account=accounts[4].external_id)
    assert seen["accounts"]["edges"] == [
        {"node": {"externalId": accounts[4].external_id, "invoices": {"totalCount": 4}}}
    ]
