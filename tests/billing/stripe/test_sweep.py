"""What webhooks lost is found, whatever else breaks meanwhile."""

from datetime import timedelta
from typing import Any

import pytest

from billing.models import (
    Account,
    AuditEntry,
    EventState,
    Invoice,
    StripeEvent,
    StripeMirror,
    Subscription,
    WorkItem,
)
from billing.rules.terms import InvoiceStatus
from billing.stripe import inbox
from billing.stripe.gateway import NeedsHumanError, RetryLaterError
from billing.stripe.processing import WrongStripeAccountError
from billing.stripe.sweep import (
    KEPT,
    OVERLAP,
    confirm_account,
    full_sweep,
    sweep_events,
    sweep_open_invoices,
    tell_of_silence,
    webhook_silence,
)
from simulators.stripe import Trouble


async def cursor() -> Any:
    """How far events were read."""
    return (await StripeMirror.get(id=1)).events_until


async def test_it_finds_what_every_webhook_lost(each_world: Any) -> None:
    """Nothing was delivered: one full sweep and the mirror is as Stripe is."""
    open_one, paid_one = each_world.create_invoice(500), each_world.create_invoice(700)
    await full_sweep(each_world.gateway, each_world.clock)
    each_world.clock.advance(timedelta(minutes=5))
    each_world.simulator.pay_invoice(paid_one)
    swept = await full_sweep(each_world.gateway, each_world.clock)
    assert (await each_world.invoice(open_one)).status is InvoiceStatus.OPEN
    assert (await each_world.invoice(paid_one)).status is InvoiceStatus.PAID
    assert swept.events > 0
    mirror = await StripeMirror.get(id=1)
    assert (mirror.last_full_sweep_at, mirror.events_until) == (
        each_world.clock.now(),
        each_world.clock.now(),
    )
    assert set(await StripeEvent.all().values_list("source", flat=True)) == {"sweep"}


async def test_it_finds_an_event_at_once_on_a_new_database(world: Any) -> None:
    """The very second it was made."""
    world.create_invoice()
    assert await sweep_events(world.gateway, world.clock) > 0
    await world.process()
    assert await Invoice.filter(status=InvoiceStatus.OPEN).count() == 1


async def test_it_finds_changes_that_no_event_tells(each_world: Any) -> None:
    """An invoice that we take for open and one that we do not know, compared with Stripe's list."""
    known, unknown, same = (
        each_world.create_invoice(500),
        each_world.create_invoice(600),
        each_world.create_invoice(700),
    )
    await each_world.deliver(
        [event for event in each_world.news() if event["data"]["object"]["id"] in {known, same}]
    )
    each_world.clock.advance(timedelta(hours=1))
    each_world.simulator.pay_invoice(known)
    before = each_world.wire.requests[f"/v1/invoices/{same}"]
    swept = await sweep_open_invoices(each_world.gateway, each_world.clock)
    assert swept.invoices == 2
    assert (await each_world.invoice(known)).status is InvoiceStatus.PAID
    assert (await each_world.invoice(unknown)).amount_due == 600
    assert each_world.wire.requests[f"/v1/invoices/{same}"] == before
    assert (await each_world.invoice(same)).fetched_at == each_world.clock.now()


async def test_it_finds_a_first_failed_attempt_without_any_event(world: Any) -> None:
    """A list shows that an attempt was made, not when: then it is looked up."""
    key = world.charged_invoice()
    await world.deliver()
    world.clock.advance(timedelta(hours=1))
    world.simulator.fail_payment(key)
    await sweep_open_invoices(world.gateway, world.clock)
    assert (await world.invoice(key)).overdue_at == world.clock.now()


async def test_it_changes_nothing_when_nothing_changed(each_world: Any, everything: Any) -> None:
    """Not the version, not an audit row; only how fresh the rows are."""
    each_world.create_invoice()
    await each_world.deliver()
    await full_sweep(each_world.gateway, each_world.clock)
    before = await everything()
    each_world.clock.advance(timedelta(minutes=5))
    await full_sweep(each_world.gateway, each_world.clock)
    after = await everything()
    for rows in (*before["Invoice"], *after["Invoice"]):
        assert rows.pop("fetched_at") is not None
    assert after == before


async def test_it_moves_the_cursor_only_over_what_is_stored(each_world: Any) -> None:
    """A list that breaks off in the middle is read again from where it began."""
    await full_sweep(each_world.gateway, each_world.clock)
    start = await cursor()
    each_world.clock.advance(timedelta(hours=1))
    for _ in range(60):
        each_world.create_invoice()
    assert len(each_world.news()) > 100

    async def breaks(path: str) -> None:
        if each_world.wire.requests["/v1/events"] - asked == 1:
            each_world.simulator.outage.begin(Trouble.UNAVAILABLE)

    asked = each_world.wire.requests["/v1/events"]
    each_world.wire.before_answer = breaks
    with pytest.raises(RetryLaterError):
        await sweep_events(each_world.gateway, each_world.clock)
    each_world.wire.before_answer = None
    stored = await StripeEvent.all().count()
    assert stored > 0
    assert await cursor() == start
    each_world.simulator.outage.end()
    assert await sweep_events(each_world.gateway, each_world.clock) > 0
    assert await cursor() == each_world.clock.now()
    assert await StripeEvent.all().count() == len(each_world.simulator.events())


async def test_it_reads_a_long_backlog_day_by_day(world: Any) -> None:
    """Three days of silence, and a connection that breaks on the third day: two are kept."""
    await full_sweep(world.gateway, world.clock)
    start = await cursor()
    for _ in range(3):
        world.clock.advance(timedelta(days=1))
        world.create_invoice()

    async def breaks(path: str) -> None:
        if world.wire.requests["/v1/events"] - asked == 2:
            world.simulator.outage.begin(Trouble.UNAVAILABLE)

    asked = world.wire.requests["/v1/events"]
    world.wire.before_answer = breaks
    with pytest.raises(RetryLaterError):
        await sweep_events(world.gateway, world.clock)
    assert await cursor() == start + timedelta(days=2) - OVERLAP
    world.wire.before_answer = None
    world.simulator.outage.end()
    await sweep_events(world.gateway, world.clock)
    assert await cursor() == world.clock.now()
    assert await StripeEvent.all().count() == len(world.simulator.events())


async def test_it_reads_everything_after_a_gap_longer_than_stripe_keeps_events(each_world: Any) -> None:
    """Off for 40 days: what was paid, voided, ended and deleted meanwhile is known again, although no event tells."""
    each_world.simulator.add_card(each_world.customer)
    subscription = each_world.simulator.create_subscription(each_world.customer, 500)["id"]
    each_world.simulator.end_subscription(subscription, at_period_end=True)
    paid, voided, given_up = (
        each_world.create_invoice(100),
        each_world.create_invoice(200),
        each_world.create_invoice(300),
    )
    each_world.simulator.mark_uncollectible(given_up)
    await each_world.deliver()
    await full_sweep(each_world.gateway, each_world.clock)
    each_world.clock.advance(timedelta(days=1))
    each_world.simulator.pay_invoice(paid)
    each_world.simulator.void_invoice(voided)
    each_world.simulator.pay_invoice(given_up)
    fresh = each_world.create_invoice(400)
    each_world.simulator.delete_customer(each_world.customer)
    each_world.clock.advance(timedelta(days=40))
    assert await sweep_events(each_world.gateway, each_world.clock) == 0
    assert await cursor() < each_world.clock.now() - KEPT
    await full_sweep(each_world.gateway, each_world.clock)
    statuses = {row.stripe_invoice_id: row.status for row in await Invoice.all()}
    assert statuses[paid] is statuses[given_up] is InvoiceStatus.PAID
    assert statuses[voided] is InvoiceStatus.VOID
    assert statuses[fresh] is InvoiceStatus.OPEN
    assert (await Account.get(id=each_world.account.id)).stripe_deleted is True
    assert (await Subscription.get(stripe_subscription_id=subscription)).ended_at is not None
    assert await cursor() == each_world.clock.now()


async def test_it_does_not_count_as_swept_when_it_broke_off(world: Any) -> None:
    """Nobody is restricted on half a look."""
    await full_sweep(world.gateway, world.clock)
    before = (await StripeMirror.get(id=1)).last_full_sweep_at
    for path in ("/v1/account", "/v1/events", "/v1/invoices"):
        world.clock.advance(timedelta(minutes=5))
        world.simulator.outage.begin(Trouble.SERVER_ERROR, path=path)
        with pytest.raises(RetryLaterError):
            await full_sweep(world.gateway, world.clock)
    assert (await StripeMirror.get(id=1)).last_full_sweep_at == before


async def test_it_goes_on_past_an_invoice_that_it_cannot_read(world: Any) -> None:
    """One that is in a state of tomorrow stays as old as it is; the others are swept."""
    strange, plain = world.create_invoice(100), world.create_invoice(200)
    await world.deliver()
    read_at = world.clock.now()
    world.clock.advance(timedelta(hours=1))
    world.simulator.store.get("invoice", strange)["currency"] = "a currency of tomorrow"
    world.simulator.credit(plain, 50)
    swept = await sweep_open_invoices(world.gateway, world.clock)
    assert (swept.invoices, swept.unreadable) == (1, 1)
    assert (await world.invoice(plain)).amount_due == 150
    assert (await world.invoice(strange)).fetched_at == read_at


async def test_it_tells_staff_that_the_key_is_refused(world: Any) -> None:
    """Also when no event waits: otherwise nobody would know why nothing is fresh."""
    world.simulator.api_key = "sk_test_other"
    for _ in range(2):
        with pytest.raises(NeedsHumanError):
            await full_sweep(world.gateway, world.clock)
    assert await WorkItem.filter(kind="stripe.access", state="OPEN").count() == 1


async def test_it_leaves_strangers_alone(world: Any) -> None:
    """Open invoices of customers of nobody are not even read."""
    stranger = world.simulator.create_customer()["id"]
    key = world.simulator.create_invoice(stranger, 900)["id"]
    assert (await sweep_open_invoices(world.gateway, world.clock)).invoices == 0
    assert world.wire.requests[f"/v1/invoices/{key}"] == 0


async def test_it_looks_at_old_drafts_once_a_day(each_world: Any) -> None:
    """A draft deleted without an event is found; a young one is left alone."""
    key = each_world.create_invoice(finalize=False)
    await each_world.deliver()
    each_world.simulator.invoices.delete(key)
    await sweep_open_invoices(each_world.gateway, each_world.clock)
    assert (await each_world.invoice(key)).status is InvoiceStatus.DRAFT
    each_world.clock.advance(timedelta(days=1, seconds=1))
    await sweep_open_invoices(each_world.gateway, each_world.clock)
    assert (await each_world.invoice(key)).status is InvoiceStatus.VOID


async def test_it_tells_how_long_webhooks_are_silent(each_world: Any) -> None:
    """Nothing while nothing happens or webhooks arrive; the age of the first that only the sweep found."""
    await each_world.deliver(each_world.simulator.events())
    await full_sweep(each_world.gateway, each_world.clock)
    assert await webhook_silence(now=each_world.clock.now()) is None
    each_world.create_invoice()
    await each_world.deliver()
    each_world.clock.advance(timedelta(hours=2))
    await sweep_events(each_world.gateway, each_world.clock)
    assert await webhook_silence(now=each_world.clock.now()) is None
    each_world.create_invoice()
    lost = each_world.news()
    each_world.clock.advance(timedelta(minutes=20))
    await sweep_events(each_world.gateway, each_world.clock)
    assert await webhook_silence(now=each_world.clock.now()) == timedelta(minutes=20)
    for event in lost:
        await inbox.store(event, source="webhook", now=each_world.clock.now())
    assert await webhook_silence(now=each_world.clock.now()) is None


async def test_it_tells_people_of_webhooks_that_do_not_arrive(world: Any) -> None:
    """Not of one that is merely late, once for a silence, and no more once webhooks arrive."""
    silent = WorkItem.filter(kind="webhooks_silent")
    await full_sweep(world.gateway, world.clock)
    world.create_invoice()
    lost = world.news()
    for minutes in (14, 1, 5):
        world.clock.advance(timedelta(minutes=minutes))
        await full_sweep(world.gateway, world.clock)
        await tell_of_silence(now=world.clock.now())
        assert await silent.count() == (0 if minutes == 14 else 1)
    assert (await silent.get()).state == "OPEN"
    for event in lost:
        await inbox.store(event, source="webhook", now=world.clock.now())
    await tell_of_silence(now=world.clock.now())
    assert (await silent.get()).state == "RESOLVED"


async def test_it_pins_the_first_account_that_it_sees(world: Any) -> None:
    """Once, and audited."""
    assert await confirm_account(world.gateway, world.clock) == world.simulator.id
    await confirm_account(world.gateway, world.clock, configured=world.simulator.id)
    assert (await StripeMirror.get(id=1)).stripe_account_id == world.simulator.id
    assert await AuditEntry.filter(kind="stripe.pinned").count() == 1


@pytest.mark.parametrize("configured", [True, False])
async def test_it_stops_everything_at_another_account(each_world: Any, *, configured: bool) -> None:
    """A key of another account than the configured, or than the one of before: nothing is read or applied."""
    if not configured:
        await StripeMirror.filter(id=1).update(stripe_account_id="acct_before")
    each_world.create_invoice()
    with pytest.raises(WrongStripeAccountError, match="ABEYANCE_STRIPE_API_KEY"):
        await full_sweep(
            each_world.gateway, each_world.clock, configured_account="acct_before" if configured else None
        )
    with pytest.raises(WrongStripeAccountError, match=f"{each_world.simulator.id}.*acct_before"):
        await each_world.deliver()
    assert await Invoice.all().count() == 0
    assert await WorkItem.filter(kind="stripe.account", state="OPEN").count() == 1
    assert (await StripeMirror.get(id=1)).last_full_sweep_at is None
    assert await StripeEvent.filter(state=EventState.PENDING).count() > 0
    await StripeMirror.filter(id=1).update(stripe_account_id=None)
    await full_sweep(each_world.gateway, each_world.clock, configured_account=each_world.simulator.id)
    assert await Invoice.all().count() == 1
    assert await WorkItem.filter(kind="stripe.account", state="OPEN").count() == 0
