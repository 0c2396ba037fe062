"""Since when a dispute is open, and until when it was: what its shield is counted from."""

from datetime import UTC, datetime, timedelta
from typing import Any

from billing.models import AuditEntry, Dispute

HOUR = timedelta(hours=1)


async def paid(world: Any) -> str:
    """An invoice that a card has paid."""
    key = world.charged_invoice(1000)
    world.simulator.pay_invoice(key)
    await world.deliver()
    return str(key)


def opened_at(dispute: Any) -> datetime:
    """Stripe's instant."""
    return datetime.fromtimestamp(dispute["created"], UTC)


async def test_it_keeps_when_a_dispute_was_opened_however_late_it_was_heard_of(each_world: Any) -> None:
    """By Stripe's word; the end, which Stripe does not date, is when it was first read."""
    dispute = each_world.simulator.open_dispute(await paid(each_world), amount=800)
    each_world.clock.advance(5 * HOUR)
    await each_world.deliver()
    row = await Dispute.get(stripe_dispute_id=dispute["id"])
    assert (row.account_id, row.amount, row.opened_at, row.closed_at) == (
        each_world.account.id,
        800,
        opened_at(dispute),
        None,
    )
    each_world.simulator.close_dispute(dispute["id"], won=True)
    each_world.clock.advance(HOUR)
    read_at = each_world.clock.now()
    news = each_world.news()
    await each_world.deliver(news)
    version = await each_world.facts_version()
    each_world.clock.advance(HOUR)
    await each_world.deliver([one | {"id": f"{one['id']}_again"} for one in news])
    row = await Dispute.get()
    assert (row.opened_at, row.closed_at) == (opened_at(dispute), read_at)
    assert await each_world.facts_version() == version
    kinds = await AuditEntry.filter(kind__startswith="dispute.").order_by("id").values_list("kind", flat=True)
    assert kinds == ["dispute.mirrored", "dispute.changed"]


async def test_it_lets_a_dispute_that_nobody_knew_while_it_was_open_shield_nobody(world: Any) -> None:
    """It used up nothing of what an episode has."""
    dispute = world.simulator.open_dispute(await paid(world))
    world.clock.advance(5 * HOUR)
    world.simulator.close_dispute(dispute["id"], won=True)
    await world.deliver()
    row = await Dispute.get()
    assert row.closed_at == row.opened_at == opened_at(dispute)


async def test_it_takes_one_dispute_for_another_as_news(world: Any) -> None:
    """What is contested in all is the same, and how long it has been is not."""
    first, second = await paid(world), await paid(world)
    over = world.simulator.open_dispute(first)["id"]
    await world.deliver()
    version = await world.facts_version()
    world.simulator.close_dispute(over, won=True)
    await world.deliver()
    world.simulator.open_dispute(second)
    await world.deliver()
    assert await world.facts_version() == version + 2
