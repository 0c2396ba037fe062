"""Transfers, credits and entries that are taken back."""

from datetime import timedelta
from typing import Any

import pytest

from billing import ledger
from billing.models import Account, AuditEntry, Invoice
from billing.money_back import MOST, BankPayment, grant_credit, record_payment, take_back
from billing.money_models import InvoicePart, LedgerTransaction, PartSource, TransactionKind
from billing.refusal import RefusalCode, RefusalError
from billing.rules.money import Money
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def means(clock: Any, policies: Any) -> Means:
    """Without Stripe."""
    return Means(clock=clock, policies=policies)


@pytest.fixture
async def account(database: str, factory: Any) -> Account:
    """Somebody who owes nothing yet."""
    return await factory.account()


def transfer(account: Account, clock: Any, minor: int = 500, **given: Any) -> BankPayment:
    """A transfer that arrived an hour ago."""
    values = {
        "account_id": account.id,
        "amount": Money(minor, "EUR"),
        "reference": "RF18 5390",
        "received_at": clock.now() - timedelta(hours=1),
    }
    return BankPayment(**(values | given))


def code(error: pytest.ExceptionInfo[RefusalError]) -> RefusalCode:
    """Why it was refused."""
    return error.value.problems[0].code


async def test_it_pays_the_named_invoice_and_puts_the_rest_on_the_balance(
    factory, wallet, clock, means, account
):
    """What the customer wrote on the transfer goes before the order; the rest settles what else is open."""
    other = await factory.invoice(account, total=100, amount_due=100)
    named = await factory.invoice(account, total=300, amount_due=300)
    taken = await record_payment(transfer(account, clock, invoice_id=named.id), actor="anna", means=means)
    assert (taken.paid, taken.to_balance) == (300, 200)
    assert (await Invoice.get(id=named.id)).status is InvoiceStatus.PAID
    assert (await Invoice.get(id=other.id)).status is InvoiceStatus.PAID
    assert (await wallet.holds(account)).balance == 100
    [part] = await InvoicePart.filter(invoice_id=named.id)
    assert (part.source, part.amount) == (PartSource.OUT_OF_BAND, 300)
    assert await AuditEntry.exists(kind="payment.recorded", actor="anna")


async def test_it_records_the_same_money_once(clock, wallet, means, account):
    """The same reference, amount and day is the same transfer; another day is another one."""
    await record_payment(transfer(account, clock), actor="anna", means=means)
    for copied in (" RF18  5390 ", "rf185390"):
        with pytest.raises(RefusalError) as refused:
            await record_payment(transfer(account, clock, reference=copied), actor="bert", means=means)
        assert code(refused) is RefusalCode.CONFLICT
    clock.advance(timedelta(days=30))
    await record_payment(transfer(account, clock), actor="anna", means=means)
    assert (await wallet.holds(account)).balance == 1000


async def test_it_records_money_anew_that_was_taken_back(clock, wallet, means, account):
    """Recorded by mistake, such as for the wrong invoice; each time once."""
    for _ in range(3):
        await record_payment(transfer(account, clock), actor="anna", means=means)
        with pytest.raises(RefusalError) as refused:
            await record_payment(transfer(account, clock), actor="bert", means=means)
        assert code(refused) is RefusalCode.CONFLICT
        assert (await wallet.holds(account)).balance == 500
        booked = await entry(TransactionKind.PAYMENT_RECORDED)
        await take_back(booked, reason="the wrong invoice", actor="anna", means=means)
        assert (await wallet.holds(account)).balance == 0
    assert await ledger.proven() == []


async def test_it_refuses_what_cannot_be(factory, clock, means, account):
    """With the field that is wrong, and without a trace."""
    closed = await factory.invoice(account, status=InvoiceStatus.PAID, amount_due=0)
    strange = await factory.invoice(await factory.account())
    for given, wanted, field in (
        ({"minor": 0}, RefusalCode.INVALID, "amount"),
        ({"minor": MOST + 1}, RefusalCode.INVALID, "amount"),
        ({"amount": Money(5, "USD")}, RefusalCode.CURRENCY_MISMATCH, "amount"),
        ({"reference": "  "}, RefusalCode.INVALID, "reference"),
        ({"received_at": clock.now() + timedelta(days=1)}, RefusalCode.INVALID, "receivedAt"),
        ({"account_id": 9999}, RefusalCode.NOT_FOUND, "accountId"),
        ({"invoice_id": strange.id}, RefusalCode.NOT_FOUND, "invoiceId"),
        ({"invoice_id": closed.id}, RefusalCode.INVOICE_NOT_OPEN, "invoiceId"),
    ):
        with pytest.raises(RefusalError) as refused:
            await record_payment(transfer(account, clock, **given), actor="anna", means=means)
        assert (code(refused), refused.value.problems[0].path[0]) == (wanted, field)
    assert await LedgerTransaction.all().count() == 0


async def test_it_grants_a_credit_once_per_key(factory, wallet, means, account):
    """And settles with it."""
    invoice = await factory.invoice(account, total=300, amount_due=300)
    for _ in range(2):
        await grant_credit(
            account.id, Money(500, "EUR"), reason="sorry", key="k-1", actor="anna", means=means
        )
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    assert (await wallet.holds(account)).balance == 200


async def entry(kind: TransactionKind) -> int:
    """The id of the last entry of this kind."""
    found = await LedgerTransaction.filter(kind=kind).order_by("-id").first()
    assert found is not None
    return found.id


async def test_it_takes_money_back_that_is_still_there(clock, wallet, means, account):
    """No invoice: nothing is owed."""
    await record_payment(transfer(account, clock), actor="anna", means=means)
    done = await take_back(
        await entry(TransactionKind.PAYMENT_RECORDED), reason="not ours", actor="anna", means=means
    )
    assert (done.invoice, done.reversal.taken) == (None, 500)
    assert await wallet.holds(account) == ledger.Purses(currency="EUR")


async def test_it_makes_an_invoice_over_money_that_was_spent(factory, clock, wallet, means, account):
    """Over the whole, with a fresh grace, paid in part by what the balance has; vouchers and paid invoices stay."""
    paid = await factory.invoice(account, total=300, amount_due=300)
    await record_payment(transfer(account, clock), actor="anna", means=means)
    await wallet.voucher(account, 400)
    done = await take_back(
        await entry(TransactionKind.PAYMENT_RECORDED), reason="returned", actor="anna", means=means
    )
    assert done.invoice is not None
    invoice = await Invoice.get(id=done.invoice.id)
    assert (invoice.origin, invoice.status) == (InvoiceOrigin.ADJUSTMENT, InvoiceStatus.OPEN)
    assert (invoice.total, invoice.amount_paid, invoice.amount_due) == (500, 200, 300)
    assert invoice.overdue_at == clock.now() + timedelta(hours=72)
    assert invoice.number == "2026-000001"
    assert await wallet.holds(account) == ledger.Purses(currency="EUR", voucher=400)
    assert (await Invoice.get(id=paid.id)).status is InvoiceStatus.PAID
    assert await ledger.proven() == []


async def test_it_takes_an_entry_back_once(clock, means, account):
    """Whoever asks the second time is refused."""
    await record_payment(transfer(account, clock), actor="anna", means=means)
    paid = await entry(TransactionKind.PAYMENT_RECORDED)
    await take_back(paid, reason="returned", actor="anna", means=means)
    with pytest.raises(RefusalError) as refused:
        await take_back(paid, reason="returned", actor="bert", means=means)
    assert code(refused) is RefusalCode.CONFLICT


async def test_it_never_takes_voucher_money(wallet, means, account):
    """A redeemed voucher cannot be taken back, nor an entry that does not exist."""
    await wallet.voucher(account, 400)
    for ident, wanted in (
        (await entry(TransactionKind.VOUCHER_REDEEMED), RefusalCode.INVALID),
        (9999, RefusalCode.NOT_FOUND),
    ):
        with pytest.raises(RefusalError) as refused:
            await take_back(ident, reason="no", actor="anna", means=means)
        assert code(refused) is wanted
    assert (await wallet.holds(account)).voucher == 400
