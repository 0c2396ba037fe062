"""The examples of the documents that move money do what the documents say, as they are printed there."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing.money_models import LedgerTransaction, TransactionKind
from billing.rules.terms import Stage

pytestmark = pytest.mark.usefixtures("sqlite_database")

DOCS = Path(__file__).parents[3] / "docs"


async def _run(
    door: Any,
    document: str,
    name: str,
    role: Role = Role.ADMIN,
    *,
    account: str | None = None,
    **variables: Any,
) -> dict[str, Any]:
    """Send the operation of this name as a document prints it; return its payload, which must have no errors."""
    text = (DOCS / document).read_text(encoding="utf-8")
    [operation] = [
        body
        for body in re.findall(r"```graphql\n(.*?)```", text, re.DOTALL)
        if re.match(rf"\w+ {name}\b", body)
    ]
    data = await door.data(role, operation, variables, account=account)
    [payload] = data.values()
    assert payload.get("errors", []) == []
    told: dict[str, Any] = payload
    return told


async def test_the_portals_examples_of_money(door: Any, factory: Any) -> None:
    """It redeems a code, shows the purses, and leaves nobody suspended."""
    account = await factory.account()
    await factory.invoice(account)
    await factory.episode(account, admitted=Stage.SUSPENDED, started_at=door.clock.now() - timedelta(days=9))
    batch = await _run(door, "operations.md", "IssueVouchers")
    assert len(batch["codes"]) == len(batch["vouchers"]) == 100
    name = account.external_id
    redeemed = await _run(
        door, "portal.md", "Redeem", Role.CUSTOMER, account=name, code=batch["codes"][0], key="k"
    )
    assert redeemed["account"]["standing"] == {"stage": "CURRENT"}
    query = re.search(r"```graphql\n(query Purses.*?)```", (DOCS / "portal.md").read_text("utf-8"), re.DOTALL)
    assert query is not None
    seen = await door.data(Role.CUSTOMER, query[1], account=name)
    assert seen["viewer"]["account"]["voucherBalance"] == {"amount": "5.00", "currency": "EUR"}
    assert len(seen["viewer"]["account"]["ledger"]["edges"]) == 2
    revoked = await _run(door, "operations.md", "RevokeVoucher", voucherId=batch["vouchers"][1]["id"])
    assert revoked["voucher"] == {"state": "REVOKED"}


async def test_the_operators_examples_of_money(door: Any, factory: Any) -> None:
    """It sets a price, records a transfer, takes it back and forgives what that left open."""
    price = await _run(door, "operations.md", "SetPrice")
    assert price["price"]["monthly"] == {"amount": "5.00"}
    account = await factory.account()
    invoice = await factory.invoice(account)
    named = {
        "accountId": ids.global_id("Account", account.id),
        "invoiceId": ids.global_id("Invoice", invoice.id),
    }
    recorded = await _run(door, "operations.md", "RecordTransfer", Role.SUPPORT, **named, key="k")
    assert recorded["invoice"]["status"] == "PAID"
    assert recorded["account"]["balance"] == {"amount": "20.00", "currency": "EUR"}
    entry = await LedgerTransaction.get(kind=TransactionKind.PAYMENT_RECORDED)
    back = await _run(
        door, "operations.md", "TakeBack", entryId=ids.global_id("LedgerEntry", entry.id), key="k"
    )
    [owed] = [edge["node"] for edge in back["account"]["invoices"]["edges"]]
    assert owed == {"origin": "ADJUSTMENT", "total": {"amount": "25.00"}, "amountDue": {"amount": "5.00"}}
    late = await factory.invoice(account, total=900, amount_due=900)
    await factory.episode(account, started_at=door.clock.now() - timedelta(days=1))
    forgiven = await _run(
        door, "operations.md", "Forgive", invoiceId=ids.global_id("Invoice", late.id), stage="PAST_DUE"
    )
    assert forgiven["invoice"]["payments"] == [{"source": "WRITE_OFF", "amount": {"amount": "9.00"}}]
    assert forgiven["account"]["standing"] == {"stage": "CURRENT"}
