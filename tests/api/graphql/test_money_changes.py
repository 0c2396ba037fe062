"""Money that staff book at the door: transfers, credits, entries taken back, invoices forgiven."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import IdempotencyKey, Role
from billing import ledger, settling
from billing.models import AuditEntry, Invoice
from billing.money_models import LedgerTransaction, TransactionKind
from billing.rules.terms import InvoiceOrigin, InvoiceStatus, Stage
from billing.stripe.refresh import refresh_invoice
from billing.stripe.settle_gateway import SettleGateway

pytestmark = pytest.mark.usefixtures("sqlite_database")

SHOWN = """state invoice { status amountDue { amount } payments { source amount { amount } } }
  account { balance { amount currency } voucherBalance { amount } standing { stage } }"""
ACCOUNT = "account { balance { amount currency } voucherBalance { amount } }"


def _codes(payload: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["path"]) for error in payload["errors"]]


def _id(row: Any) -> str:
    noun = "LedgerEntry" if isinstance(row, LedgerTransaction) else type(row).__name__
    return ids.global_id(noun, row.id)


def _money(amount: str, currency: str = "EUR") -> dict[str, str]:
    return {"amount": amount, "currency": currency}


async def _recorded(door: Any, account: Any, amount: str, /, **given: Any) -> dict[str, Any]:
    asked = {
        "accountId": _id(account), "amount": _money(amount, account.currency), "reference": "RF18 5390",
        "idempotencyKey": "key-1",
    }  # fmt: skip
    payload: dict[str, Any] = await door.do(Role.SUPPORT, "paymentRecord", asked | given, show=SHOWN)
    return payload


async def _credited(door: Any, account: Any, amount: str, /, **given: Any) -> dict[str, Any]:
    asked = {
        "accountId": _id(account), "amount": _money(amount, account.currency), "reason": "the outage of June",
        "idempotencyKey": "key-1",
    }  # fmt: skip
    payload: dict[str, Any] = await door.do(Role.ADMIN, "creditGrant", asked | given, show=ACCOUNT)
    return payload


async def _reversed(door: Any, entry: Any, **given: Any) -> dict[str, Any]:
    asked = {"entryId": _id(entry), "reason": "another customer's", "idempotencyKey": "reverse-1"}
    payload: dict[str, Any] = await door.do(Role.ADMIN, "ledgerReverse", asked | given, show=ACCOUNT)
    return payload


async def _due(account: Any) -> list[int]:
    rows = Invoice.filter(account_id=account.id).order_by("id")
    return [amount for (amount,) in await rows.values_list("amount_due")]


# -------------------------------------------------------------------------------------------------------- transfers


async def test_a_transfer_pays_the_invoice_that_it_names_and_then_the_rest(door: Any, factory: Any) -> None:
    """It pays the named one first although another is smaller, wakes the reconciler, and lets the standing fall."""
    account = await factory.account()
    small = await factory.invoice(account, total=800, amount_due=800)
    named = await factory.invoice(account, total=1000, amount_due=1000)
    await factory.episode(account, admitted=Stage.SUSPENDED, started_at=door.clock.now() - timedelta(days=9))
    payload = await _recorded(door, account, "12.00", invoiceId=_id(named))
    assert payload == {
        "errors": [],
        "state": "SUCCEEDED",
        "invoice": {"status": "PAID", "amountDue": {"amount": "0.00"},
                    "payments": [{"source": "OUT_OF_BAND", "amount": {"amount": "10.00"}}]},
        "account": {"balance": _money("0.00"), "voucherBalance": {"amount": "0.00"}, "standing": {"stage": "PAST_DUE"}},
    }  # fmt: skip
    assert await _due(account) == [600, 0]
    rest = await _recorded(door, account, "6.01", reference="the rest", idempotencyKey="key-2")
    assert (rest["account"]["balance"], rest["account"]["standing"]) == (_money("0.01"), {"stage": "CURRENT"})
    assert (await Invoice.get(id=small.id)).status is InvoiceStatus.PAID
    assert door.wakes == [account.id] * 2
    told = await AuditEntry.filter(kind="payment.recorded").first()
    assert told is not None
    assert (told.actor, told.reason) == ("support:support-anna", "RF18 5390")


async def test_a_transfer_is_recorded_once(door: Any, factory: Any) -> None:
    """It answers the same request alike, and refuses another body, and the same transfer under another key."""
    account = await factory.account()
    answers = [await _recorded(door, account, "5.00") for _ in range(2)]
    assert answers == [answers[0]] * 2
    assert answers[0]["account"]["balance"] == _money("5.00")
    assert _codes(await _recorded(door, account, "6.00")) == [
        ("IDEMPOTENCY_MISMATCH", ["input", "idempotencyKey"])
    ]
    twice = await _recorded(door, account, "5.00", reference=" RF18  5390 ", idempotencyKey="key-2")
    assert _codes(twice) == [("CONFLICT", ["input", "reference"])]
    other = await _recorded(door, account, "5.00", reference="RF19", idempotencyKey="key-2")
    assert other["account"]["balance"] == _money("10.00")


@pytest.mark.parametrize(
    ("amount", "currency", "balance"), [("1250", "JPY", "1250"), ("1.250", "KWD", "1.250")]
)
async def test_amounts_have_the_digits_of_their_currency(
    door: Any, factory: Any, amount: str, currency: str, balance: str
) -> None:
    """It takes yen without and dinars with three digits after the point, and no others."""
    account = await factory.account(currency=currency)
    assert _codes(await _recorded(door, account, "12.50")) == [("INVALID", ["input", "amount", "amount"])]
    payload = await _recorded(door, account, amount)
    assert payload["account"]["balance"] == _money(balance, currency)
    assert (await ledger.purses([account.id]))[account.id].balance == 1250


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"amount": _money("0.00")}, "INVALID", "amount.amount"),
        ({"amount": _money("5.00", "USD")}, "CURRENCY_MISMATCH", "amount.currency"),
        ({"reference": " "}, "INVALID", "reference"),
        ({"receivedAt": "2026-11-20T09:00:01Z"}, "INVALID", "receivedAt"),
        ({"accountId": "garbage"}, "NOT_FOUND", "accountId"),
        ({"invoiceId": "garbage"}, "NOT_FOUND", "invoiceId"),
        ({"idempotencyKey": ""}, "INVALID", "idempotencyKey"),
    ],
)
async def test_a_transfer_is_refused_with_the_field_that_is_wrong(
    door: Any, factory: Any, given: dict[str, Any], code: str, path: str
) -> None:
    """It names the field, books nothing and keeps nothing under the key."""
    account = await factory.account()
    assert _codes(await _recorded(door, account, "5.00", **given)) == [(code, ["input", *path.split(".")])]
    assert not await LedgerTransaction.exists()
    assert not await IdempotencyKey.exists()
    assert door.wakes == []


async def test_a_transfer_pays_no_invoice_of_somebody_else_or_that_is_closed(door: Any, factory: Any) -> None:
    """It refuses another account's as a missing one, and a closed one with what to do instead."""
    account, other = await factory.account(), await factory.account()
    theirs = await factory.invoice(other)
    closed = await factory.invoice(account, status=InvoiceStatus.PAID, amount_due=0, paid_at=door.clock.now())
    missing = await _recorded(door, account, "5.00", invoiceId=ids.global_id("Invoice", 999))
    assert await _recorded(door, account, "5.00", invoiceId=_id(theirs)) == missing
    assert _codes(missing) == [("NOT_FOUND", ["input", "invoiceId"])]
    payload = await _recorded(door, account, "5.00", invoiceId=_id(closed))
    assert _codes(payload) == [("INVOICE_NOT_OPEN", ["input", "invoiceId"])]
    assert not await LedgerTransaction.exists()


async def test_what_was_booked_is_told_although_settling_failed(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers what was recorded, and the sweep settles."""
    account = await factory.account()
    await factory.invoice(account)

    async def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    with monkeypatch.context() as patched:
        patched.setattr(settling, "_spend", fails)
        payload = await _recorded(door, account, "7.00")
        credited = await _credited(door, account, "1.00")
    assert (payload["errors"], payload["account"]["balance"]) == ([], _money("7.00"))
    assert (credited["errors"], credited["account"]["balance"]) == ([], _money("8.00"))
    assert door.wakes == [account.id] * 2
    assert await LedgerTransaction.all().count() == 2


# ---------------------------------------------------------------------------------------------------------- credits


async def test_a_credit_becomes_balance_and_pays(door: Any, factory: Any) -> None:
    """It is granted once per key; another key is another credit, also with the same words."""
    account = await factory.account()
    await factory.invoice(account)
    for _ in range(2):
        assert (await _credited(door, account, "7.00"))["account"]["balance"] == _money("2.00")
    assert (await _credited(door, account, "7.00", idempotencyKey="key-2"))["account"]["balance"] == _money(
        "9.00"
    )
    assert _codes(await _credited(door, account, "8.00")) == [
        ("IDEMPOTENCY_MISMATCH", ["input", "idempotencyKey"])
    ]
    assert await _due(account) == [0]
    assert await AuditEntry.filter(kind="credit.granted").count() == 2


async def test_two_admins_may_choose_the_same_key(door: Any, factory: Any) -> None:
    """It keeps what one did apart from what the other does."""
    account = await factory.account()
    await _credited(door, account, "1.00")
    door.person = "bert"
    assert (await _credited(door, account, "2.00"))["account"]["balance"] == _money("3.00")


async def test_a_credit_needs_a_reason_and_an_amount(door: Any, factory: Any) -> None:
    """It is refused without either."""
    account = await factory.account()
    assert _codes(await _credited(door, account, "1.00", reason=" ")) == [
        ("REASON_REQUIRED", ["input", "reason"])
    ]
    assert _codes(await _credited(door, account, "0.00")) == [("INVALID", ["input", "amount", "amount"])]
    assert not await LedgerTransaction.exists()


# --------------------------------------------------------------------------------------------------------- taken back


async def test_an_entry_is_taken_back_out_of_the_balance(door: Any, factory: Any) -> None:
    """It leaves nothing owed while the balance has it all, once however often it is asked."""
    account = await factory.account()
    await _recorded(door, account, "7.00")
    entry = await LedgerTransaction.get()
    for _ in range(2):
        payload = await _reversed(door, entry)
        assert (payload["errors"], payload["account"]["balance"]) == ([], _money("0.00"))
    again = await _reversed(door, entry, idempotencyKey="reverse-2")
    assert _codes(again) == [("CONFLICT", ["input", "entryId"])]
    assert await Invoice.all().count() == 0
    assert door.wakes == [account.id] * 3


async def test_what_was_spent_already_is_owed_anew(door: Any, factory: Any) -> None:
    """It leaves the paid invoice paid and issues one over the whole with a fresh grace, paid in part."""
    account = await factory.account()
    invoice = await factory.invoice(account)
    await _recorded(door, account, "7.00")
    entry = await LedgerTransaction.get(kind=TransactionKind.PAYMENT_RECORDED)
    payload = await _reversed(door, entry)
    assert (payload["errors"], payload["account"]["balance"]) == ([], _money("0.00"))
    adjustment = await Invoice.get(origin=InvoiceOrigin.ADJUSTMENT)
    assert (adjustment.total, adjustment.amount_due, adjustment.status) == (700, 500, InvoiceStatus.OPEN)
    assert adjustment.overdue_at is not None
    assert adjustment.overdue_at > door.clock.now()
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID


async def test_only_what_brought_money_in_is_taken_back(door: Any, factory: Any, wallet: Any) -> None:
    """It refuses vouchers, payments of invoices and what does not exist, each with its reason."""
    account = await factory.account()
    await factory.invoice(account)
    await wallet.voucher(account, 500)
    await _recorded(door, account, "7.00")
    voucher = await LedgerTransaction.get(kind=TransactionKind.VOUCHER_REDEEMED)
    spent = await LedgerTransaction.get(kind=TransactionKind.INVOICE_PAID)
    for entry in (voucher, spent):
        payload = await _reversed(door, entry)
        assert _codes(payload) == [("INVALID", ["input", "entryId"])]
        assert (
            f"{entry.kind.value} cannot be taken back, only CARD_CHARGED" in payload["errors"][0]["message"]
        )
    for entry_id in ("garbage", ids.global_id("LedgerEntry", 999)):
        payload = await _reversed(door, voucher, entryId=entry_id)
        assert _codes(payload) == [("NOT_FOUND", ["input", "entryId"])]
    paid = await LedgerTransaction.get(kind=TransactionKind.PAYMENT_RECORDED)
    assert _codes(await _reversed(door, paid, reason="")) == [("REASON_REQUIRED", ["input", "reason"])]
    assert not await LedgerTransaction.filter(kind=TransactionKind.REVERSED).exists()


# ---------------------------------------------------------------------------------------------------------- forgiven


async def _forgiven(door: Any, invoice: Any, **given: Any) -> dict[str, Any]:
    asked = {"invoiceId": _id(invoice), "reason": "goodwill"} | given
    payload: dict[str, Any] = await door.do(Role.ADMIN, "invoiceForgive", asked, show=SHOWN)
    return payload


async def test_what_is_left_of_an_invoice_is_forgiven(door: Any, factory: Any) -> None:
    """It writes the rest off, keeps what was paid, lets the standing fall at once and wakes the reconciler."""
    account = await factory.account()
    invoice = await factory.invoice(account, total=1500, amount_due=1500)
    await factory.episode(account, admitted=Stage.SUSPENDED, started_at=door.clock.now() - timedelta(days=9))
    await _recorded(door, account, "7.00", invoiceId=_id(invoice))
    payload = await _forgiven(door, invoice, expectedStage="PAST_DUE")
    assert (payload["errors"], payload["account"]["standing"]) == ([], {"stage": "CURRENT"})
    assert payload["invoice"] == {
        "status": "PAID", "amountDue": {"amount": "0.00"},
        "payments": [{"source": "OUT_OF_BAND", "amount": {"amount": "7.00"}},
                     {"source": "WRITE_OFF", "amount": {"amount": "8.00"}}],
    }  # fmt: skip
    assert door.wakes == [account.id] * 2
    again = await _forgiven(door, invoice)
    assert _codes(again) == [("INVOICE_NOT_OPEN", ["input", "invoiceId"])]
    assert (await AuditEntry.get(kind="invoice.forgiven")).reason == "goodwill"


async def test_forgiving_looks_at_the_stage_that_it_was_decided_for(door: Any, factory: Any) -> None:
    """It refuses when the account stands elsewhere by now, and forgives nothing without a reason."""
    account = await factory.account()
    invoice = await factory.invoice(account)
    for given, code, path in (
        ({"expectedStage": "SUSPENDED"}, "CONFLICT", "expectedStage"),
        ({"reason": ""}, "REASON_REQUIRED", "reason"),
        ({"invoiceId": "garbage"}, "NOT_FOUND", "invoiceId"),
    ):
        assert _codes(await _forgiven(door, invoice, **given)) == [(code, ["input", path])]
    assert await _due(account) == [500]
    assert door.wakes == []


async def test_an_invoice_of_stripe_is_not_forgiven_while_stripe_is_off(door: Any, factory: Any) -> None:
    """It changes nothing here before Stripe has."""
    account = await factory.account()
    invoice = await factory.invoice(account, origin=InvoiceOrigin.STRIPE)
    payload = await _forgiven(door, invoice)
    assert _codes(payload) == [("PROVIDER_UNAVAILABLE", ["input", "invoiceId"])]
    assert await _due(account) == [500]


async def _at_stripe(door: Any, factory: Any, simulator: Any, gateway: Any) -> Invoice:
    """An overdue invoice of Stripe over 10.00, as it is mirrored here."""
    door.ports = replace(door.ports, invoices=SettleGateway(gateway))
    customer = simulator.create_customer()["id"]
    await factory.account(stripe_customer_id=customer)
    due = door.clock.now() - timedelta(days=2)
    made = simulator.create_invoice(customer, 1000, "eur", due_date=due)
    await refresh_invoice(gateway, door.clock, made["id"])
    return await Invoice.get().select_related("account")


async def test_an_invoice_of_stripe_is_ended_there(
    door: Any, factory: Any, simulator: Any, gateway: Any
) -> None:
    """It is void at Stripe, and here because of that."""
    invoice = await _at_stripe(door, factory, simulator, gateway)
    payload = await _forgiven(door, invoice)
    assert (payload["errors"], payload["invoice"]["status"]) == ([], "VOID")
    assert simulator.get("invoice", invoice.stripe_invoice_id)["status"] == "void"


async def test_a_transfer_for_an_invoice_of_stripe_is_reported_there(
    door: Any, factory: Any, simulator: Any, gateway: Any
) -> None:
    """It is paid from the balance that the transfer brought, at Stripe first."""
    invoice = await _at_stripe(door, factory, simulator, gateway)
    payload = await _recorded(door, invoice.account, "12.00", invoiceId=_id(invoice))
    assert (payload["errors"], payload["invoice"]["status"]) == ([], "PAID")
    assert payload["account"]["balance"] == _money("2.00")
    assert simulator.get("invoice", invoice.stripe_invoice_id)["status"] == "paid"
