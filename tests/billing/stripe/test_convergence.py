"""Level, not edge: whatever happens to the stream of events, the mirror ends as Stripe is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import pytest

from billing.models import Account, Invoice, Subscription, WorkItem
from billing.stripe.inbox import subject_kind

Story = Callable[[Any], Iterator[None]]
"""Something that happens at Stripe, pausing wherever news may arrive in between."""


def _paid_after_a_failure(world: Any) -> Iterator[None]:
    key = world.charged_invoice()
    yield
    world.simulator.fail_payment(key)
    yield
    world.simulator.pay_invoice(key)


def _credited_and_paid_in_part(world: Any) -> Iterator[None]:
    key = world.create_invoice(1000)
    yield
    note = world.simulator.credit(key, 250)["id"]
    yield
    world.simulator.report_payment(key, 300)
    yield
    world.simulator.void_credit_note(note)


def _given_up_then_paid(world: Any) -> Iterator[None]:
    key = world.create_invoice()
    yield
    world.simulator.mark_uncollectible(key)
    yield
    world.simulator.pay_invoice(key)


def _drafted_and_voided(world: Any) -> Iterator[None]:
    key = world.create_invoice(finalize=False)
    yield
    world.simulator.finalize_invoice(key)
    yield
    world.simulator.void_invoice(key)


def _disputed_and_lost(world: Any) -> Iterator[None]:
    key = world.create_invoice()
    world.simulator.pay_invoice(key)
    yield
    dispute = world.simulator.open_dispute(key)["id"]
    yield
    world.simulator.close_dispute(dispute, won=False)


def _refunded(world: Any) -> Iterator[None]:
    key = world.create_invoice()
    yield
    world.simulator.pay_invoice(key)
    yield
    world.simulator.refund(key)


def _subscription_ended(world: Any) -> Iterator[None]:
    world.simulator.add_card(world.customer)
    made = world.simulator.create_subscription(world.customer, 500)
    yield
    world.simulator.end_subscription(made["id"])


def _customer_deleted(world: Any) -> Iterator[None]:
    world.create_invoice()
    yield
    world.simulator.delete_customer(world.customer)


STORIES = [
    _paid_after_a_failure,
    _credited_and_paid_in_part,
    _given_up_then_paid,
    _drafted_and_voided,
    _disputed_and_lost,
    _refunded,
    _subscription_ended,
    _customer_deleted,
]


@pytest.mark.parametrize("story", STORIES)
async def test_it_changes_nothing_when_the_same_event_comes_fifty_times(
    each_world: Any, everything: Any, story: Story
) -> None:
    """After the first time not a column of any row changes, whichever is repeated among its neighbours in any order."""
    for _ in story(each_world):
        await each_world.deliver()
    await each_world.deliver()
    events = each_world.simulator.events()
    await each_world.deliver(events)
    before = await everything()
    asked = each_world.wire.requests.total()
    rng = Random(1)
    for event in events:
        around = [event] * 50 + events
        rng.shuffle(around)
        await each_world.deliver(around)
    assert await everything() == before
    assert each_world.wire.requests.total() == asked


async def test_it_ends_alike_for_every_order_with_doubles_and_losses(world: Any, factory: Any) -> None:
    """All orders of the last five events of an invoice's life, one doubled and every other time one lost."""
    wanted: Any = None
    for number, order in enumerate(permutations(range(5))):
        world = await _newcomer(world, factory)
        for _ in _paid_after_a_failure(world):
            pass
        lived = _acted_on(world.news())[-5:]
        arriving = [lived[index] for index in order]
        doubled = arriving[number % 5]
        if number % 2:
            del arriving[number % 5]
        for event in [*arriving, doubled]:
            await world.deliver([event])
        found = await _mirrored(world)
        assert [invoice["status"] for invoice in found["invoices"]] == ["PAID"]
        wanted = wanted or found
        assert found == wanted, order


@pytest.mark.parametrize("story", STORIES)
async def test_it_ends_alike_however_events_arrive_while_things_happen(
    world: Any, factory: Any, story: Story
) -> None:
    """News late, early, lost or doubled between the steps of a story: at the end, what one look at the end gives."""
    calm = await _newcomer(world, factory)
    for _ in story(calm):
        pass
    await calm.deliver(_last_of_each(_acted_on(calm.news())))
    wanted = await _mirrored(calm)
    assert wanted["invoices"]
    for seed in range(15):
        rng = Random(seed)
        world = await _newcomer(world, factory)
        happened: list[dict[str, Any]] = []
        for _ in story(world):
            happened += _acted_on(world.news())
            for event in rng.choices(happened, k=rng.randrange(4)):
                await world.deliver([event])
        happened += _acted_on(world.news())
        # That a thing whose every event is lost is found all the same is the sweep's promise.
        ending = rng.sample(happened, k=len(happened) // 2) + _last_of_each(happened)
        rng.shuffle(ending)
        for event in ending:
            await world.deliver([event])
        assert await _mirrored(world) == wanted, seed


def _acted_on(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if subject_kind(event["type"]) is not None]


def _last_of_each(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({event["data"]["object"]["id"]: event for event in events}.values())


async def _newcomer(world: Any, factory: Any) -> Any:
    customer = world.simulator.create_customer()["id"]
    account = await factory.account(stripe_customer_id=customer)
    return replace(world, account=account, customer=customer, read=len(world.simulator.store.kinds["event"]))


async def _mirrored(world: Any) -> dict[str, Any]:
    """What is mirrored of this account, without names and without what only tells when it was read."""
    hidden = {
        "id", "account_id", "fetched_at", "stripe_invoice_id", "stripe_subscription_id", "number",
        "hosted_url", "pdf_url",
    }  # fmt: skip
    tables = {"invoices": Invoice, "subscriptions": Subscription}
    found: dict[str, Any] = {
        name: [
            {column: value for column, value in row.items() if column not in hidden}
            for row in await table.filter(account_id=world.account.id).order_by("id").values()
        ]
        for name, table in tables.items()
    }
    # That staff were asked to answer a dispute is history; that one was lost stays true.
    items = WorkItem.filter(account_id=world.account.id).exclude(kind="stripe.dispute")
    account = await Account.get(id=world.account.id)
    return found | {
        "items": sorted(await items.values_list("kind", "state")),
        "deleted": account.stripe_deleted,
        "linked": [invoice["stripe_subscription_id"] is not None for invoice in await _links(world)],
    }


async def _links(world: Any) -> list[dict[str, Any]]:
    return await Invoice.filter(account_id=world.account.id).order_by("id").values("stripe_subscription_id")
