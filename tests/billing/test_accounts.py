"""Accounts, as the control plane creates and changes them."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from billing import accounts, ledger
from billing.accounts import AccountChange, Upserted
from billing.clock import ManualClock
from billing.ledger import Move
from billing.models import Account, AuditEntry
from billing.money_models import Card, Charge, LedgerKind, TransactionKind
from billing.refusal import RefusalCode, RefusalError
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceOrigin

pytestmark = pytest.mark.usefixtures("sqlite_database")

ANNA = AccountChange(external_id="acct-7", name="Anna", currency="EUR", email="anna@example.org")
POLICIES = {name: Policy(name=name, stages=()) for name in ("standard", "considerate")}


async def _upsert(change: AccountChange, clock: ManualClock) -> Upserted:
    return await accounts.upsert(change, policies=POLICIES, actor="control:panel", now=clock.now())


async def _refused(change: AccountChange, clock: ManualClock) -> list[tuple[RefusalCode, tuple[str, ...]]]:
    before = await Account.all().values()
    with pytest.raises(RefusalError) as refused:
        await _upsert(change, clock)
    assert await Account.all().values() == before
    assert not await AuditEntry.exists(kind="account.changed")
    return [(problem.code, problem.path) for problem in refused.value.problems]


async def test_it_creates_an_account_with_the_defaults(clock: ManualClock) -> None:
    """It fills what was left out, leaves one audit row and makes the account due at once."""
    done = await _upsert(ANNA, clock)
    account = await Account.get()
    assert done.account.id == account.id
    assert (account.external_id, account.name, account.currency) == ("acct-7", "Anna", "EUR")
    assert (account.locale, account.time_zone, account.policy, account.free_plan) == (
        "en",
        "UTC",
        "standard",
        False,
    )
    assert account.next_change_at == clock.now()
    assert account.created_at == clock.now()
    entry = await AuditEntry.get()
    assert (entry.kind, entry.actor, entry.account_id) == ("account.created", "control:panel", account.id)


async def test_it_keeps_what_is_left_out(clock: ManualClock) -> None:
    """It changes what was named, raises the version of the facts once and tells what changed."""
    await _upsert(replace(ANNA, locale="de-CH", free_plan=True, billing_emails=("a@example.org",)), clock)
    before = await Account.get()
    clock.advance(timedelta(hours=1))
    await _upsert(replace(ANNA, name="Anna B."), clock)
    account = await Account.get()
    assert (account.name, account.locale, account.free_plan) == ("Anna B.", "de-CH", True)
    assert account.billing_emails == ["a@example.org"]
    assert account.facts_version == before.facts_version + 1
    assert account.next_change_at == clock.now()
    entry = await AuditEntry.get(kind="account.changed")
    assert json.loads(entry.before or "") == {"name": "Anna"}
    assert json.loads(entry.after or "") == {"name": "Anna B."}
    assert entry.facts_version == account.facts_version


async def test_it_changes_nothing_when_told_the_same_again(clock: ManualClock) -> None:
    """It neither raises the version nor writes an audit row."""
    await _upsert(ANNA, clock)
    before = await Account.get().values()
    clock.advance(timedelta(hours=1))
    await _upsert(ANNA, clock)
    assert await Account.get().values() == before
    assert await AuditEntry.all().count() == 1


async def test_it_clears_the_address_when_told_so(clock: ManualClock) -> None:
    """It takes a null address as a statement, not as left out."""
    await _upsert(ANNA, clock)
    await _upsert(replace(ANNA, email=None), clock)
    assert (await Account.get()).email is None


async def _invoiced(account: Account, factory: Any, clock: ManualClock) -> None:
    await factory.invoice(account)


async def _given_money(account: Account, factory: Any, clock: ManualClock) -> None:
    move = Move(debit=LedgerKind.BANK, credit=LedgerKind.BALANCE, amount=1)
    told = {"at": clock.now(), "actor": "anna", "description": "test"}
    await ledger.book(TransactionKind.PAYMENT_RECORDED, account.id, [move], fact=("test", "1"), **told)


async def _charged(account: Account, factory: Any, clock: ManualClock) -> None:
    now = clock.now()
    card = await Card.create(
        account=account, stripe_payment_method_id="pm_1", fingerprint="x", brand="visa", last4="4242",
        exp_month=12, exp_year=2030, added_at=now,
    )  # fmt: skip
    await Charge.create(
        account=account, card=card, card_version=1, amount=500, currency="USD", on_session=True,
        occasion="top-up", idempotency_key="key", created_at=now, updated_at=now,
    )  # fmt: skip


@pytest.mark.parametrize("happens", [_invoiced, _given_money, _charged])
async def test_it_keeps_the_currency_once_something_is_in_it(
    clock: ManualClock, factory: Any, happens: Any
) -> None:
    """It lets the currency change before the first invoice, money or charge, and never after it."""
    await _upsert(ANNA, clock)
    await _upsert(replace(ANNA, currency="USD"), clock)
    account = await Account.get()
    assert account.currency == "USD"
    await happens(account, factory, clock)
    with pytest.raises(RefusalError) as refused:
        await _upsert(ANNA, clock)
    assert [problem.path for problem in refused.value.problems] == [("currency",)]
    assert (await Account.get()).currency == "USD"


async def test_it_tells_when_a_stripe_customer_is_new(clock: ManualClock) -> None:
    """It asks for the customer to be read once, and forgets when the former one was."""
    assert (await _upsert(ANNA, clock)).adopt_customer is None
    assert (await _upsert(replace(ANNA, stripe_customer_id="cus_1"), clock)).adopt_customer == "cus_1"
    assert (await _upsert(replace(ANNA, stripe_customer_id="cus_1"), clock)).adopt_customer is None
    await Account.all().update(stripe_fetched_at=clock.now(), stripe_deleted=True)
    assert (await _upsert(replace(ANNA, stripe_customer_id="cus_2"), clock)).adopt_customer == "cus_2"
    account = await Account.get()
    assert (account.stripe_fetched_at, account.stripe_deleted) == (None, False)


async def test_it_keeps_the_customer_whose_invoices_it_has(clock: ManualClock, factory: Any) -> None:
    """It refuses another Stripe customer once Stripe's invoices are on the account."""
    await _upsert(replace(ANNA, stripe_customer_id="cus_1"), clock)
    await factory.invoice(await Account.get(), origin=InvoiceOrigin.STRIPE)
    change = replace(ANNA, stripe_customer_id="cus_2")
    assert await _refused(change, clock) == [(RefusalCode.CONFLICT, ("stripeCustomerId",))]


async def test_it_gives_a_customer_to_one_account(clock: ManualClock, factory: Any) -> None:
    """It refuses a Stripe customer that another account has."""
    await factory.account(stripe_customer_id="cus_1")
    change = replace(ANNA, stripe_customer_id="cus_1")
    assert await _refused(change, clock) == [(RefusalCode.CONFLICT, ("stripeCustomerId",))]


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("external_id", "", ("externalId",)),
        ("external_id", " acct", ("externalId",)),
        ("external_id", "a" * 201, ("externalId",)),
        ("external_id", "a\nb", ("externalId",)),
        ("name", " ", ("name",)),
        ("name", "x" * 301, ("name",)),
        ("name", "bell\x07", ("name",)),
        ("currency", "eur", ("currency",)),
        ("currency", "EURO", ("currency",)),
        ("currency", "XXQ", ("currency",)),
        ("email", "anna", ("email",)),
        ("email", "anna@host", ("email",)),
        ("email", "a..b@example.org", ("email",)),
        ("email", ".a@example.org", ("email",)),
        ("email", "ü@example.org", ("email",)),
        ("email", "anna@exämple.org", ("email",)),
        ("email", "=?utf-8?q?a?=@example.org", ("email",)),
        ("billing_emails", ("anna@example.org", "a..b@example.org"), ("billingEmails", "1")),
        ("email", "anna@example.org\nBcc: all@example.org", ("email",)),
        ("email", "<anna@example.org>", ("email",)),
        ("email", "a@b@example.org", ("email",)),
        ("email", "a" * 310 + "@example.org", ("email",)),
        ("billing_emails", ("a@example.org", "b"), ("billingEmails", "1")),
        ("billing_emails", ("a@example.org",) * 11, ("billingEmails",)),
        ("locale", "german", ("locale",)),
        ("locale", "de_CH", ("locale",)),
        ("time_zone", "Mars/Olympus", ("timeZone",)),
        ("time_zone", "../../etc/passwd", ("timeZone",)),
        ("time_zone", "Europe", ("timeZone",)),
        ("time_zone", "", ("timeZone",)),
        ("stripe_customer_id", "acct_1", ("stripeCustomerId",)),
        ("stripe_customer_id", "cus_1 ", ("stripeCustomerId",)),
        ("policy", "generous", ("policy",)),
    ],
)
async def test_it_refuses_a_wrong_value_by_its_field(
    clock: ManualClock, field: str, value: Any, path: tuple[str, ...]
) -> None:
    """It creates nothing and names the field as the caller wrote it."""
    assert await _refused(replace(ANNA, **{field: value}), clock) == [(RefusalCode.INVALID, path)]


async def test_it_names_every_wrong_field_at_once(clock: ManualClock) -> None:
    """It makes nobody mend a request one field at a time."""
    change = replace(ANNA, currency="eur", time_zone="nowhere", policy="none")
    assert [path for _, path in await _refused(change, clock)] == [("currency",), ("timeZone",), ("policy",)]
