"""The inbox is worked off by reading again, through outages, poison and dying processes."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from api.database import open_database
from billing.models import AuditEntry, EventState, Invoice, StripeEvent, StripeMirror, WorkItem
from billing.rules.terms import InvoiceStatus
from billing.stripe import inbox, processing
from billing.stripe.processing import MAX_FAILURES, WrongStripeAccountError, process_due
from simulators.stripe import Trouble


async def test_it_shields_everybody_until_it_knows_whose_a_dispute_is(world: Any) -> None:
    """A dispute names no customer; looked up once, it shields its own account although it cannot be applied yet."""
    key = world.create_invoice()
    world.simulator.pay_invoice(key)
    await world.deliver()
    world.simulator.open_dispute(key)
    for event in world.news():
        await inbox.store(event, source="webhook", now=world.clock.now())
    assert await inbox.unattributed(now=world.clock.now()) > 0
    world.simulator.outage.begin(Trouble.UNAVAILABLE, path="/v1/invoices/")
    await world.process()
    assert await inbox.unattributed(now=world.clock.now()) == 0
    pending = await inbox.pending_for_accounts([world.account.id], now=world.clock.now())
    assert pending[world.account.id].waiting > 0


async def test_it_keeps_events_of_strangers_and_of_other_kinds_without_acting(world: Any) -> None:
    """They are stored for whoever wants to look, and change nothing."""
    stranger = world.simulator.create_customer()["id"]
    world.simulator.create_invoice(stranger, 700)
    await world.deliver()
    assert await Invoice.all().count() == 0
    assert set(await StripeEvent.all().values_list("state", flat=True)) == {EventState.IGNORED}
    assert "customer.created" in await StripeEvent.all().values_list("type", flat=True)


async def test_it_reads_a_thing_once_for_all_events_of_a_batch(world: Any) -> None:
    """Ten events about one invoice are one question."""
    key = world.create_invoice()
    for _ in range(4):
        world.simulator.credit(key, 10)
    result = await world.deliver()
    assert result.done >= 10
    assert world.wire.requests[f"/v1/invoices/{key}"] == 1


async def test_it_believes_what_it_reads_and_not_what_the_event_says(world: Any) -> None:
    """A payload that claims the opposite of the truth, in another version, changes nothing."""
    key = world.create_invoice()
    world.simulator.pay_invoice(key)
    event = world.news()[-1] | {
        "id": "evt_lie",
        "type": "invoice.payment_failed",
        "api_version": "2017-01-01",
    }
    event["data"]["object"] = {"id": key, "object": "invoice", "status": "open", "amount_remaining": 10**9}
    await world.deliver([event])
    row = await world.invoice(key)
    assert (row.status, row.amount_due) == (InvoiceStatus.PAID, 0)


async def test_it_waits_out_an_outage_and_loses_nothing(each_world: Any) -> None:
    """However long Stripe is away, no event is given up, and the attempts do not count."""
    keys = [each_world.create_invoice() for _ in range(8)]
    each_world.simulator.outage.begin(Trouble.UNAVAILABLE)
    await each_world.deliver()
    # Payments of Stripe's own are nobody's here, which needs no question.
    about_invoices = StripeEvent.filter(state=EventState.PENDING).exclude(object_type="payment_intent")
    waiting = await about_invoices.count()
    assert waiting >= 32
    assert each_world.wire.requests.total() <= 3, "an outage is not hammered"
    for _ in range(40):
        each_world.clock.advance(timedelta(minutes=10))
        await each_world.process()
    assert await about_invoices.count() == waiting
    each_world.simulator.outage.end()
    each_world.clock.advance(timedelta(minutes=10))
    await each_world.process()
    assert await Invoice.filter(stripe_invoice_id__in=keys, status=InvoiceStatus.OPEN).count() == 8
    assert await StripeEvent.filter(state__in=(EventState.PENDING, EventState.DEAD)).count() == 0


async def test_it_forgives_the_attempts_of_an_outage(world: Any) -> None:
    """An event that waited out a long outage has all its attempts left when something else goes wrong."""
    key = world.create_invoice()
    world.simulator.outage.begin(Trouble.UNAVAILABLE)
    await world.deliver()
    for _ in range(MAX_FAILURES * 2):
        world.clock.advance(timedelta(minutes=6))
        await world.process()
    world.simulator.outage.end()
    stored = world.simulator.store.get("invoice", key)
    stored["status"] = "a_status_of_tomorrow"
    world.clock.advance(timedelta(minutes=6))
    await world.process()
    stored["status"] = "open"
    world.clock.advance(timedelta(minutes=6))
    await world.process()
    assert (await world.invoice(key)).status is InvoiceStatus.OPEN
    assert await StripeEvent.filter(state__in=(EventState.PENDING, EventState.DEAD)).count() == 0


@pytest.mark.parametrize(
    "trouble", [Trouble.RATE_LIMITED, Trouble.SERVER_ERROR, Trouble.TIMEOUT, Trouble.LOST_ANSWER]
)
async def test_it_tries_again_after_a_single_trouble(world: Any, trouble: Trouble) -> None:
    """One refused question delays its event and nothing else."""
    keys = [world.create_invoice(), world.create_invoice()]
    world.simulator.outage.begin(trouble, requests=1, seconds=0)
    await world.deliver()
    assert await Invoice.all().count() == 1
    world.clock.advance(timedelta(minutes=1))
    await world.process()
    assert await Invoice.filter(stripe_invoice_id__in=keys).count() == 2


async def test_it_stops_at_a_refused_key_and_asks_a_person(world: Any) -> None:
    """A key that was revoked kills no event; once mended, all goes on."""
    world.create_invoice()
    world.create_invoice()
    key, world.simulator.api_key = world.simulator.api_key, "sk_test_other"
    for _ in range(20):
        await world.deliver()
        world.clock.advance(timedelta(minutes=6))
    assert await StripeEvent.filter(state=EventState.DEAD).count() == 0
    assert await WorkItem.filter(kind="stripe.access").count() == 1
    world.simulator.api_key = key
    await world.process()
    assert await Invoice.all().count() == 2


async def test_it_gives_a_poison_event_up_and_the_queue_keeps_moving(each_world: Any) -> None:
    """After its attempts it is shown to a person, and shields its account for a day."""
    good = each_world.create_invoice()
    bad = each_world.create_invoice()
    each_world.simulator.store.get("invoice", bad)["status"] = "a_status_of_tomorrow"
    await each_world.deliver()
    assert (await each_world.invoice(good)).status is InvoiceStatus.OPEN
    for _ in range(MAX_FAILURES):
        each_world.clock.advance(timedelta(minutes=5))
        await each_world.process()
    dead = await StripeEvent.filter(state=EventState.DEAD)
    assert {event.object_id for event in dead} == {bad}
    assert all("a_status_of_tomorrow" in str(event.error) for event in dead)
    assert await WorkItem.filter(kind="stripe.event_dead", account_id=each_world.account.id).count() == len(
        dead
    )
    assert await Invoice.filter(stripe_invoice_id=bad).count() == 0
    now = each_world.clock.now()
    assert (await inbox.pending_for_accounts([each_world.account.id], now=now))[
        each_world.account.id
    ].dead == len(dead)
    assert await inbox.pending_for_accounts([each_world.account.id], now=now + timedelta(hours=24)) == {}


@pytest.mark.parametrize("about", [None, {}, {"id": 7}, {"id": "x" * 300}, [], "text"])
async def test_it_gives_up_an_event_about_nothing(world: Any, about: Any) -> None:
    """A null or shapeless object ends as a dead letter, not as an endless loop."""
    event = {
        "id": "evt_x",
        "object": "event",
        "type": "invoice.paid",
        "created": 1_790_000_000,
        "data": {"object": about},
    }
    for _ in range(MAX_FAILURES + 1):
        await world.deliver([event])
        world.clock.advance(timedelta(minutes=5))
    assert (await StripeEvent.get(event_id="evt_x")).state is EventState.DEAD


async def test_it_does_nothing_while_the_account_is_the_wrong_one(world: Any) -> None:
    """Events are stored and wait."""
    world.create_invoice()
    await StripeMirror.filter(id=1).update(problem="the Stripe key belongs to acct_2")
    with pytest.raises(WrongStripeAccountError, match="acct_2"):
        await world.deliver()
    assert world.wire.requests.total() == 0
    assert await StripeEvent.filter(state=EventState.PENDING).count() > 0


@pytest.mark.postgres
async def test_it_applies_each_event_once_however_many_processes_work(
    postgres_url: str, simulator: Any, clock: Any, factory: Any, gateway: Any, wire: Any
) -> None:
    """Six workers on one inbox: every invoice is read and audited once, and the version rises once for each."""
    async with open_database(postgres_url):
        customers = [simulator.create_customer()["id"] for _ in range(4)]
        accounts = [await factory.account(stripe_customer_id=customer) for customer in customers]
        keys = [
            simulator.create_invoice(customer, 100 + number, due_date=clock.now() + timedelta(days=1))["id"]
            for customer in customers
            for number in range(5)
        ]
        for event in simulator.events():
            await inbox.store(event, source="webhook", now=clock.now())
        results = await asyncio.gather(*(process_due(gateway, clock) for _ in range(6)))
        clock.advance(timedelta(minutes=1))
        results.append(await process_due(gateway, clock))
        assert await Invoice.all().count() == 20
        assert await AuditEntry.filter(kind="invoice.mirrored").count() == 20
        for account in accounts:
            await account.refresh_from_db()
            assert account.facts_version == 6
        handled = await StripeEvent.filter(state=EventState.DONE).count()
        assert sum(result.done for result in results) == handled
        assert sum(result.dead for result in results) == 0
        assert all(wire.requests[f"/v1/invoices/{key}"] >= 1 for key in keys)


async def test_it_takes_up_again_what_a_killed_process_had_claimed(each_world: Any) -> None:
    """A claim ends by itself: an event in the hands of a dead process is worked off by the next."""
    key = each_world.create_invoice()
    for event in each_world.news():
        await inbox.store(event, source="webhook", now=each_world.clock.now())
    ids = list(await StripeEvent.filter(state=EventState.PENDING).values_list("id", flat=True))
    assert await processing._claim(ids, each_world.clock.now())
    await each_world.process()
    assert await Invoice.all().count() == 0
    each_world.clock.advance(timedelta(minutes=6))
    await each_world.process()
    assert (await each_world.invoice(key)).status is InvoiceStatus.OPEN


async def test_it_leaves_the_event_waiting_when_its_effect_could_not_be_written(
    each_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the event and the mirror are one transaction: neither without the other."""
    key = each_world.create_invoice()

    async def fails(*args: Any, **kwargs: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(processing, "_mark", fails)
    await each_world.deliver()
    assert await Invoice.filter(stripe_invoice_id=key).count() == 0
    monkeypatch.undo()
    each_world.clock.advance(timedelta(minutes=1))
    await each_world.process()
    assert await Invoice.filter(stripe_invoice_id=key).count() == 1
