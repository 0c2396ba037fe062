"""One thing of the mirror brought up to date: never with an older answer, and honest about what is not known."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from billing.models import Account, AuditEntry, Invoice, StripeEvent
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.stripe import mirror
from billing.stripe.gateway import RetryLaterError
from billing.stripe.reading import UnreadableError
from billing.stripe.refresh import (
    Agreement,
    Refreshed,
    adopt_customer,
    refetch_account,
    refresh_customer,
    refresh_invoice,
    refresh_subscription,
)
from simulators.stripe import Trouble


def overtaken(world: Any, key: str, meanwhile: Any) -> None:
    """The next answer about an invoice is held back while something else happens."""
    path = f"/v1/invoices/{key}"

    async def hold(asked: str) -> None:
        if asked == path:
            world.wire.before_answer = None
            await meanwhile()

    world.wire.before_answer = hold


async def test_it_never_writes_an_answer_that_was_overtaken(each_world: Any) -> None:
    """Read as open; paid, and mirrored as paid, before the answer arrives: the invoice stays paid."""
    key = each_world.create_invoice()
    await each_world.deliver()
    each_world.simulator.credit(key, 100)

    async def paid_meanwhile() -> None:
        each_world.simulator.pay_invoice(key)
        assert await refresh_invoice(each_world.gateway, each_world.clock, key) is Refreshed.CHANGED

    overtaken(each_world, key, paid_meanwhile)
    assert await refresh_invoice(each_world.gateway, each_world.clock, key) is Refreshed.UNCHANGED
    row = await each_world.invoice(key)
    assert (row.status, row.amount_due) == (InvoiceStatus.PAID, 0)
    assert not any(
        '"status": "OPEN"' in str(entry.after) for entry in await AuditEntry.filter(kind="invoice.changed")
    )


async def test_it_would_regress_without_holding_the_account(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard above is what prevents it: without the comparison the paid invoice is open again."""

    async def always(account: Account) -> bool:
        return True

    monkeypatch.setattr(mirror, "lock", always)
    key = world.create_invoice()
    await world.deliver()

    async def paid_meanwhile() -> None:
        world.simulator.pay_invoice(key)
        await refresh_invoice(world.gateway, world.clock, key)

    overtaken(world, key, paid_meanwhile)
    await refresh_invoice(world.gateway, world.clock, key)
    assert (await world.invoice(key)).status is InvoiceStatus.OPEN


async def test_it_creates_an_invoice_once_when_many_meet_it(each_world: Any) -> None:
    """Eight readers of a new invoice: one row, one audit row, one version."""
    key = each_world.create_invoice()
    before = await each_world.facts_version()
    outcomes = await asyncio.gather(
        *(
            refresh_invoice(each_world.gateway, each_world.clock, key, customer=each_world.customer)
            for _ in range(8)
        )
    )
    assert sorted(outcomes) == [Refreshed.CHANGED] + [Refreshed.UNCHANGED] * 7
    assert await AuditEntry.filter(kind="invoice.mirrored").count() == 1
    assert await each_world.facts_version() == before + 1


async def test_it_gives_up_for_now_when_the_account_never_stands_still(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few tries, then later; nothing is written."""
    key = world.create_invoice()

    async def never(account: Account) -> bool:
        return False

    monkeypatch.setattr(mirror, "lock", never)
    with pytest.raises(RetryLaterError, match="kept changing"):
        await refresh_invoice(world.gateway, world.clock, key, customer=world.customer)
    assert await Invoice.all().count() == 0
    assert world.wire.requests[f"/v1/invoices/{key}"] < 10


@pytest.mark.parametrize("guess", [None, "right", "cus_of_nobody"])
async def test_it_finds_out_whose_an_invoice_is(world: Any, guess: str | None) -> None:
    """With a right guess, a wrong one or none."""
    key = world.create_invoice()
    customer = world.customer if guess == "right" else guess
    assert await refresh_invoice(world.gateway, world.clock, key, customer=customer) is Refreshed.CHANGED
    assert (await world.invoice(key)).account_id == world.account.id


async def test_it_knows_nothing_of_strangers(world: Any) -> None:
    """Neither their invoices nor their subscriptions nor themselves."""
    stranger = world.simulator.create_customer()["id"]
    invoice = world.simulator.create_invoice(stranger, 100)["id"]
    subscription = world.simulator.create_subscription(stranger, 100)["id"]
    outcomes = [
        await refresh_invoice(world.gateway, world.clock, invoice),
        await refresh_subscription(world.gateway, world.clock, subscription),
        await refresh_customer(world.gateway, world.clock, stranger),
    ]
    assert set(outcomes) == {Refreshed.UNKNOWN}
    assert await Invoice.all().count() == 0


async def test_it_refuses_an_open_invoice_that_is_missing_at_stripe(world: Any) -> None:
    """Only drafts can go: anything else missing is a contradiction, and contradictions change nothing."""
    key = world.create_invoice()
    await world.deliver()
    world.simulator.store.remove(world.simulator.store.get("invoice", key))
    with pytest.raises(UnreadableError, match="missing at Stripe"):
        await refresh_invoice(world.gateway, world.clock, key)
    assert (await world.invoice(key)).status is InvoiceStatus.OPEN


async def test_it_adopts_a_customer_whose_events_were_ignored(each_world: Any, factory: Any) -> None:
    """Named later, the account gets the customer's unpaid invoices of before."""
    late = each_world.simulator.create_customer()["id"]
    owed = each_world.simulator.create_invoice(late, 800)["id"]
    given_up = each_world.simulator.create_invoice(late, 900)["id"]
    each_world.simulator.mark_uncollectible(given_up)
    await each_world.deliver()
    assert await Invoice.all().count() == 0
    account = await factory.account(stripe_customer_id=late)
    assert await adopt_customer(each_world.gateway, each_world.clock, account.id) is True
    rows = {row.stripe_invoice_id: row.status for row in await Invoice.filter(account_id=account.id)}
    assert rows == {owed: InvoiceStatus.OPEN, given_up: InvoiceStatus.UNCOLLECTIBLE}
    await account.refresh_from_db()
    assert account.stripe_fetched_at == each_world.clock.now()
    assert await adopt_customer(each_world.gateway, each_world.clock, account.id) is False
    assert await adopt_customer(each_world.gateway, each_world.clock, (await factory.account()).id) is False


async def test_it_agrees_when_stripe_says_what_the_mirror_says(each_world: Any) -> None:
    """Equal, and as fresh as the question."""
    key = each_world.create_invoice()
    await each_world.deliver()
    each_world.clock.advance(timedelta(hours=1))
    row = await each_world.invoice(key)
    found = await refetch_account(each_world.gateway, each_world.clock, each_world.account.id, [row.id])
    assert (found.agreement, found.reason) == (Agreement.EQUAL, None)
    assert (await each_world.invoice(key)).fetched_at == each_world.clock.now()
    assert (await Account.get(id=each_world.account.id)).stripe_fetched_at == each_world.clock.now()


async def test_it_says_when_the_mirror_was_behind(each_world: Any) -> None:
    """Paid without our hearing of it: changed, and mirrored at once."""
    key = each_world.create_invoice()
    await each_world.deliver()
    row = await each_world.invoice(key)
    each_world.simulator.pay_invoice(key)
    found = await refetch_account(each_world.gateway, each_world.clock, each_world.account.id, [row.id])
    assert found.agreement is Agreement.CHANGED
    assert (await each_world.invoice(key)).status is InvoiceStatus.PAID


@pytest.mark.parametrize("trouble", [Trouble.RATE_LIMITED, Trouble.SERVER_ERROR, Trouble.TIMEOUT])
async def test_it_says_when_it_could_not_ask(world: Any, trouble: Trouble) -> None:
    """Unavailable is neither equal nor changed, and freshens nothing."""
    key = world.create_invoice()
    await world.deliver()
    row = await world.invoice(key)
    world.clock.advance(timedelta(hours=1))
    world.simulator.outage.begin(trouble, seconds=0, path=f"/v1/invoices/{key}")
    found = await refetch_account(world.gateway, world.clock, world.account.id, [row.id])
    assert found.agreement is Agreement.UNAVAILABLE
    assert found.reason
    assert (await world.invoice(key)).fetched_at == row.fetched_at


async def test_it_finds_no_firm_ground_at_a_deleted_customer(world: Any) -> None:
    """Time and again, until a person has looked."""
    key = world.create_invoice()
    await world.deliver()
    row = await world.invoice(key)
    world.simulator.delete_customer(world.customer)
    for _ in range(2):
        found = await refetch_account(world.gateway, world.clock, world.account.id, [row.id])
        assert found.agreement is Agreement.UNAVAILABLE
        assert "deleted" in str(found.reason)


async def test_it_cannot_agree_about_an_account_without_customer(world: Any, factory: Any) -> None:
    """There is nobody to ask."""
    account = await factory.account()
    found = await refetch_account(world.gateway, world.clock, account.id, [])
    assert found.agreement is Agreement.UNAVAILABLE


async def test_it_does_not_agree_about_an_invoice_of_somebody_else(world: Any, factory: Any) -> None:
    """An id that is not this account's was asked for by mistake, and mistakes restrict nobody."""
    foreign = await factory.invoice(await factory.account())
    found = await refetch_account(world.gateway, world.clock, world.account.id, [foreign.id])
    assert found.agreement is Agreement.UNAVAILABLE


async def test_it_passes_over_invoices_of_ours(world: Any, factory: Any) -> None:
    """Stripe knows nothing of them."""
    ours = await factory.invoice(world.account, origin=InvoiceOrigin.USAGE)
    found = await refetch_account(world.gateway, world.clock, world.account.id, [ours.id])
    assert found.agreement is Agreement.EQUAL


async def test_it_keeps_the_key_out_of_every_row(world: Any, everything: Any) -> None:
    """A canary through refusals, poison and good days: in no table, work item or audit row."""
    world.create_invoice()
    await world.deliver()
    key, world.simulator.api_key = world.simulator.api_key, "sk_test_other"
    world.create_invoice()
    await world.deliver()
    world.simulator.api_key = key
    world.clock.advance(timedelta(minutes=10))
    await world.process()
    rows = str(await everything())
    assert await StripeEvent.all().count() > 0
    assert "canary" in key
    assert key not in rows
