"""A payment whose answer is lost: the database, the process or the time was over before it was kept."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from tortoise.exceptions import OperationalError

from api.graphql import ids, payments
from api.models import IdempotencyKey, Role
from billing import ledger

PAY = """mutation($id: ID!, $key: String!) { invoicePay(input: { invoiceId: $id, idempotencyKey: $key }) {
  state invoice { status } errors { code path } } }"""


class _KilledError(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("trouble", [OperationalError("gone"), asyncio.CancelledError(), _KilledError()])
@pytest.mark.parametrize("kept", [True, False], ids=["while it is made up", "while it is kept"])
async def test_what_was_paid_is_told_although_its_answer_was_lost(
    portal: Any,
    factory: Any,
    wallet: Any,
    monkeypatch: pytest.MonkeyPatch,
    trouble: BaseException,
    kept: bool,
) -> None:
    """It tells of a payment from purses that succeeded when it is asked again, at once, and pays once."""
    invoice = await factory.invoice(portal.account)
    await wallet.cash(portal.account, 1_000)
    named = ids.global_id("Invoice", invoice.id)

    async def paid(key: str = "key-1") -> dict[str, Any]:
        payload: dict[str, Any] = (await portal.data(PAY, id=named, key=key))["invoicePay"]
        return payload

    def lost(*_: Any, **__: Any) -> Any:
        patch.undo()
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(*((payments, "_kept") if kept else (IdempotencyKey, "filter")), lost)
        with suppress(AssertionError, asyncio.CancelledError, _KilledError):
            await paid()
    assert (await ledger.purses([portal.account.id]))[portal.account.id].balance == 500
    told = {"state": "SUCCEEDED", "invoice": {"status": "PAID"}, "errors": []}
    assert [await paid(), await paid()] == [told, told]
    assert (await ledger.purses([portal.account.id]))[portal.account.id].balance == 500
    refused = await paid("another")
    assert [error["code"] for error in refused["errors"]] == ["INVOICE_NOT_OPEN"]


async def test_a_lost_payment_is_repeated_for_its_own_wish_alone(
    portal: Any, factory: Any, wallet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its key for what was asked for with it, whatever came of that."""
    first, second = [await factory.invoice(portal.account) for _ in range(2)]
    await wallet.cash(portal.account, 2_000)

    async def asked(row: Any) -> dict[str, Any]:
        given = {"id": ids.global_id("Invoice", row.id), "key": "key-1"}
        answer: dict[str, Any] = await portal.door.ask(
            Role.CUSTOMER, PAY, given, account=portal.account.external_id
        )
        return answer

    def lost(*_: Any) -> Any:
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(payments, "_kept", lost)
        assert (await asked(first))["errors"][0]["extensions"]["code"] == "INTERNAL"
    refused = (await asked(second))["data"]["invoicePay"]
    assert [error["code"] for error in refused["errors"]] == ["IDEMPOTENCY_MISMATCH"]
    assert (await asked(first))["data"]["invoicePay"]["state"] == "SUCCEEDED"
