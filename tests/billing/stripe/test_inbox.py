"""Each event is stored once, durably, whatever it holds."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from billing.models import EventState, StripeEvent, StripeMirror
from billing.stripe import inbox
from billing.stripe.inbox import Pending, UnstorableError, pending_for_accounts, store, subject_kind


def an_event(number: int = 1, **given: Any) -> dict[str, Any]:
    """An event about an invoice."""
    about = {"id": "in_1", "object": "invoice", "customer": "cus_1"}
    return {
        "id": f"evt_{number}",
        "object": "event",
        "type": "invoice.paid",
        "created": 1_790_000_000,
        "api_version": "2026-10-28.endive",
        "data": {"object": about},
    } | given


async def test_it_stores_an_event_once(database: str, clock: Any) -> None:
    """The second time it says so and changes nothing."""
    assert await store(an_event(), source="webhook", now=clock.now())
    before = await StripeEvent.all().values()
    clock.advance(timedelta(hours=1))
    assert not await store(an_event(type="invoice.voided"), source="webhook", now=clock.now())
    assert not await store(an_event(), source="sweep", now=clock.now())
    assert await StripeEvent.all().values() == before
    assert (await StripeMirror.get(id=1)).last_webhook_at == clock.now() - timedelta(hours=1)


async def test_it_stores_an_event_once_when_fifty_bring_it_together(database: str, clock: Any) -> None:
    """Exactly one is told that it was new."""
    stored = await asyncio.gather(*(store(an_event(), source="webhook", now=clock.now()) for _ in range(50)))
    assert sum(stored) == 1
    assert await StripeEvent.all().count() == 1


async def test_it_notes_a_webhook_for_what_the_sweep_had_found(database: str, clock: Any) -> None:
    """A late webhook shows that webhooks work, once."""
    await store(an_event(), source="sweep", now=clock.now())
    clock.advance(timedelta(minutes=1))
    arrived = clock.now()
    for _ in range(3):
        assert not await store(an_event(), source="webhook", now=clock.now())
        clock.advance(timedelta(minutes=1))
    assert (await StripeEvent.get(event_id="evt_1")).source == "webhook"
    assert (await StripeMirror.get(id=1)).last_webhook_at == arrived


async def test_it_keeps_what_postgresql_cannot(database: str, clock: Any) -> None:
    """NUL, half a surrogate, a number beyond all columns: the event is kept all the same."""
    about = {
        "id": "in_1",
        "note": "a\0b",
        "half": "\ud800",
        "huge": 10**40,
        "none": float("inf"),
        "ke\0y": [1, None],
    }
    await store(an_event(data={"object": about}), source="webhook", now=clock.now())
    kept = (await StripeEvent.get(event_id="evt_1")).payload["data"]["object"]
    assert kept["id"] == "in_1"
    assert kept["huge"] == str(10**40)
    assert kept["note"] == "a\N{REPLACEMENT CHARACTER}b"


async def test_it_notes_now_and_then_that_webhooks_arrive(database: str, clock: Any) -> None:
    """Each note is a write of the same row, for which all others would wait; and it never goes back."""
    first = clock.now()
    for number, (seconds, noted) in enumerate([(0, 0), (4, 0), (5, 0), (6, 6), (3, 6), (10, 6), (12, 12)]):
        at = first + timedelta(seconds=seconds)
        assert await store(an_event(number), source="webhook", now=at)
        assert (await StripeMirror.get(id=1)).last_webhook_at == first + timedelta(seconds=noted)
    assert await store(an_event(99), source="sweep", now=first + timedelta(hours=1))
    assert (await StripeMirror.get(id=1)).last_webhook_at == first + timedelta(seconds=12)


@pytest.mark.parametrize("levels", [200, 300, 900])
async def test_it_refuses_what_is_nested_too_deeply(sqlite_database: str, clock: Any, levels: int) -> None:
    """Whole or not at all, and with a reason."""
    about: dict[str, Any] = {}
    for _ in range(levels):
        about = {"in": about}
    if levels == 200:
        assert await store(an_event(data={"object": about}), source="webhook", now=clock.now())
    else:
        with pytest.raises(UnstorableError, match="nested"):
            await store(an_event(data={"object": about}), source="webhook", now=clock.now())
    assert await StripeEvent.all().count() == (levels == 200)


@pytest.mark.parametrize(
    "damage",
    [
        {"id": None}, {"id": ""}, {"id": "x" * 256}, {"id": "evt\n1"}, {"id": 7}, {"id": "évt"},
        {"type": None}, {"type": "x" * 101}, {"type": []},
        {"created": None}, {"created": "now"}, {"created": -1}, {"created": 10**18}, {"created": True},
        {"api_version": "x" * 65}, {"api_version": 3},
    ],
)  # fmt: skip
async def test_it_refuses_what_is_no_event(sqlite_database: str, clock: Any, damage: dict[str, Any]) -> None:
    """Naming the field; nothing is kept."""
    with pytest.raises(UnstorableError, match=next(iter(damage))):
        await store(an_event(**damage), source="webhook", now=clock.now())
    assert await StripeEvent.all().count() == 0


@pytest.mark.parametrize(
    "data", [None, [], {}, {"object": None}, {"object": "text"}, {"object": {"customer": 9}}]
)
async def test_it_keeps_an_event_about_nothing(sqlite_database: str, clock: Any, data: object) -> None:
    """It may still be of interest to a person."""
    assert await store(an_event(data=data), source="webhook", now=clock.now())
    row = await StripeEvent.get(event_id="evt_1")
    assert (row.object_id, row.stripe_customer_id) == (None, None)


async def test_it_knows_whose_an_event_is(sqlite_database: str, clock: Any) -> None:
    """A customer's own events, and those whose customer is expanded."""
    await store(
        an_event(1, type="customer.updated", data={"object": {"id": "cus_7", "object": "customer"}}),
        source="webhook",
        now=clock.now(),
    )
    await store(
        an_event(2, data={"object": {"id": "in_1", "customer": {"id": "cus_8"}}}),
        source="webhook",
        now=clock.now(),
    )
    assert list(await StripeEvent.all().order_by("id").values_list("stripe_customer_id", flat=True)) == [
        "cus_7",
        "cus_8",
    ]


async def test_it_only_keeps_events_that_nobody_acts_on(sqlite_database: str, clock: Any) -> None:
    """They never wait for anything."""
    await store(an_event(type="payout.paid"), source="webhook", now=clock.now())
    row = await StripeEvent.get(event_id="evt_1")
    assert (row.state, row.processed_at) == (EventState.IGNORED, clock.now())
    assert await inbox.oldest_pending() is None


def test_it_acts_on_every_event_that_can_change_a_debt() -> None:
    """The list of design and specification."""
    acted = {
        "invoice": "created finalized updated paid payment_succeeded payment_failed payment_action_required voided "
        "marked_uncollectible deleted overpaid",
        "invoice_payment": "paid",
        "credit_note": "created updated voided",
        "charge.dispute": "created updated closed funds_withdrawn funds_reinstated",
        "refund": "created updated failed",
        "charge": "refunded",
        "customer": "updated deleted",
        "customer.subscription": "updated deleted created paused",
    }
    for family, names in acted.items():
        for name in names.split():
            assert subject_kind(f"{family}.{name}") is not None, name
    assert subject_kind("invoice.upcoming") is None
    assert subject_kind("invoiceitem.created") is None
    assert subject_kind("customer.source.created") is None


async def test_it_counts_what_is_pending_of_each_account(database: str, clock: Any, factory: Any) -> None:
    """Waiting and given up, younger than a day, by account; others are left out."""
    first = await factory.account(stripe_customer_id="cus_1")
    second = await factory.account(stripe_customer_id="cus_2")
    third = await factory.account(stripe_customer_id="cus_3")
    without = await factory.account()
    old, late = clock.now() - timedelta(hours=24), clock.now() - timedelta(hours=23)
    await factory.stripe_event(stripe_customer_id="cus_1", received_at=late)
    await factory.stripe_event(stripe_customer_id="cus_1")
    await factory.stripe_event(stripe_customer_id="cus_1", state=EventState.DEAD)
    await factory.stripe_event(stripe_customer_id="cus_1", state=EventState.DONE)
    await factory.stripe_event(stripe_customer_id="cus_2", received_at=old)
    await factory.stripe_event(stripe_customer_id="cus_3", state=EventState.IGNORED)
    await factory.stripe_event()
    ids = [account.id for account in (first, second, third, without)]
    assert await pending_for_accounts(ids, now=clock.now()) == {
        first.id: Pending(waiting=2, dead=1, oldest=late)
    }
    assert await pending_for_accounts([second.id], now=clock.now()) == {}
    await factory.stripe_event(attempts=2)
    await factory.stripe_event(state=EventState.DEAD)
    assert await inbox.unattributed(now=clock.now()) == 1
    assert await inbox.oldest_pending() == old
