"""The funds of many accounts, read as the rules take them, and the payment that really restores."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from billing import funds, usage
from billing.clock import ManualClock
from billing.models import Account, Invoice
from billing.money_models import Card
from billing.rules.cards import expires_at
from billing.rules.facts import AccountFacts
from billing.rules.funds import Funds, runway
from billing.rules.ladder import debt
from billing.rules.policy import Policy
from billing.rules.restoring import pay_to_restore
from billing.rules.settlement import Purses
from billing.rules.terms import InvoiceOrigin
from billing.settling import Means, Occasion, settle
from reconciler import subject_rows

on_both = pytest.mark.usefixtures("database")
on_sqlite = pytest.mark.usefixtures("sqlite_database")

#: A cent an hour.
CENT = 1_000_000


@pytest.fixture
def means(clock: ManualClock, policies: Mapping[str, Policy]) -> Means:
    """Settling without Stripe."""
    return Means(clock=clock, policies=policies)


async def _of(account: Account, means: Means) -> Funds:
    return (await funds.of_accounts([account.id], means, now=means.clock.now()))[account.id]


@on_both
async def test_it_reads_what_each_account_has_and_owes(
    factory: Any, wallet: Any, clock: ManualClock, means: Means
) -> None:
    """Purses, card, open invoices of its own currency, and usage since the last invoice; of each its own."""
    rich, poor = await factory.account(), await factory.account(currency="USD", time_zone="UTC")
    await wallet.cash(rich, 700)
    await wallet.voucher(rich, 300)
    await factory.card(rich)
    await factory.metered_server(rich)
    owed = await factory.invoice(poor, origin=InvoiceOrigin.STRIPE, total=900, amount_due=400)
    taken_back = await factory.invoice(poor, origin=InvoiceOrigin.ADJUSTMENT)
    await factory.invoice(poor, currency="EUR")
    found = await funds.of_accounts([rich.id, poor.id, 10**9], means, now=clock.now())
    assert set(found) == {rich.id, poor.id}
    one, other = found[rich.id], found[poor.id]
    assert (one.currency, one.has_card, one.purses) == ("EUR", True, Purses(voucher=300, balance=700))
    assert one.usage is not None
    assert (one.usage.zone, [span.rate for span in one.usage.running]) == ("Europe/Berlin", [CENT])
    assert one.usage.invoiced_until == datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert (other.currency, other.has_card, other.purses, other.usage) == ("USD", False, Purses(), None)
    seen = {open_.payable.id: open_ for open_ in other.invoices}
    assert set(seen) == {owed.id, taken_back.id}
    assert (seen[owed.id].payable.total, seen[owed.id].payable.amount_due) == (900, 400)
    assert seen[owed.id].overdue_at == owed.overdue_at
    assert not seen[taken_back.id].payable.takes_vouchers


@on_sqlite
async def test_a_card_counts_until_it_expires_or_is_removed(
    factory: Any, clock: ManualClock, means: Means
) -> None:
    """In its owner's zone."""
    account = await factory.account()
    card = await factory.card(account, exp_month=12, exp_year=2026)
    assert (await _of(account, means)).has_card
    ends = expires_at(2026, 12, account.time_zone)
    [(_, at_last)] = (await funds.of_accounts([account.id], means, now=ends - timedelta(seconds=1))).items()
    [(_, after)] = (await funds.of_accounts([account.id], means, now=ends)).items()
    assert (at_last.has_card, after.has_card) == (True, False)
    await Card.filter(id=card.id).update(removed_at=clock.now())
    assert not (await _of(account, means)).has_card


@on_sqlite
async def test_it_counts_usage_since_the_last_invoice_alone(
    factory: Any, clock: ManualClock, means: Means
) -> None:
    """What ended before, and what is invoiced, is not to be paid twice; what ended since is."""
    account = await factory.account()
    first = await factory.metered_server(account)
    await factory.metered_server(account)
    clock.advance(timedelta(hours=10))
    first.retired_at = clock.now()
    async with in_transaction():
        await usage.follow(first, at=clock.now(), now=clock.now())
    held = await _of(account, means)
    assert held.usage is not None
    assert (len(held.usage.spans), len(held.usage.running)) == (2, 1)


@on_sqlite
async def test_a_card_is_needed_for_a_server_that_no_purse_covers(
    factory: Any, wallet: Any, clock: ManualClock, means: Means
) -> None:
    """Without servers it is not, and a voucher for the coming month sets it free."""
    account = await factory.account()
    assert not await funds.needs_card(account.id, means, now=clock.now())
    await factory.metered_server(account)
    assert await funds.needs_card(account.id, means, now=clock.now())
    await wallet.voucher(account, 729)
    assert await funds.needs_card(account.id, means, now=clock.now())
    await wallet.voucher(account, 1)
    assert not await funds.needs_card(account.id, means, now=clock.now())


async def _owed(account: Account, clock: ManualClock) -> AccountFacts:
    found = await subject_rows.read([account.id], now=clock.now())
    return AccountFacts(account_id=account.id, currency="EUR", invoices=tuple(found.invoices[account.id]))


async def _amount(account: Account, means: Means, tolerance: int) -> int:
    facts, held = await _owed(account, means.clock), await _of(account, means)  # type: ignore[arg-type]
    owed = debt(facts, means.clock.now())
    overdue = [fact for fact in facts.invoices if owed and fact.id in owed.invoice_ids]
    return pay_to_restore([one.payable for one in held.invoices], overdue, held.purses, tolerance=tolerance)


@on_sqlite
@pytest.mark.parametrize("policy", ["standard", "whole"])
@pytest.mark.parametrize("less", [0, 1])
async def test_settling_with_exactly_this_payment_restores_and_with_a_cent_less_does_not(
    factory: Any, wallet: Any, clock: ManualClock, means: Means, policy: str, less: int
) -> None:
    """The real ledger and the real settling agree with the search, whatever is open beside the debt."""
    account = await factory.account(policy=policy)
    later = clock.now() + timedelta(days=9)
    for total, due, overdue_at in ((2000, 1500, None), (700, 700, None), (300, 300, later)):
        given = {"overdue_at": overdue_at, "overdue_seen_at": None} if overdue_at else {}
        await factory.invoice(account, total=total, amount_due=due, amount_paid=total - due, **given)
    await factory.invoice(account, total=5000, amount_due=5000, overdue_at=later, overdue_seen_at=None)
    await wallet.voucher(account, 400)
    tolerance = means.policies[policy].tolerated("EUR")
    amount = await _amount(account, means, tolerance)
    assert amount == (2000 if policy == "standard" else 2100)
    await wallet.cash(account, amount - less)
    await settle(account.id, occasion=Occasion(), means=means)
    owed = debt(await _owed(account, clock), clock.now())
    assert ((owed.amount if owed else 0) <= tolerance) is (less == 0)
    assert await _amount(account, means, tolerance) == less


@on_sqlite
async def test_the_runway_stays_when_an_invoice_is_settled(
    factory: Any, wallet: Any, clock: ManualClock, means: Means
) -> None:
    """Money that is spent on what was counted already changes nothing."""
    account = await factory.account()
    await factory.metered_server(account)
    await wallet.voucher(account, 300)
    await wallet.cash(account, 200)
    await factory.invoice(account, total=350, amount_due=350)
    before = runway(await _of(account, means), clock.now())
    await settle(account.id, occasion=Occasion(), means=means)
    assert await Invoice.filter(amount_due=0).count() == 1
    assert runway(await _of(account, means), clock.now()) == before
