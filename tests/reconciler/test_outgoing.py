"""What the control plane is to be told, and that it is queued with the change and only with it."""

from datetime import timedelta
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from billing.models import Invoice
from billing.rules.terms import HoldCause, InvoiceStatus, Stage
from reconciler import holds, standing, subjects
from reconciler.holds import HoldPlacement
from reconciler.models import Hold, Server
from reconciler.outgoing_models import OutgoingEvent
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("sqlite_database")
EVERYTHING = ["LOCK_ACCOUNT", "LOCK_BACKUPS", "STOP_SERVERS"]


async def told() -> list[tuple[Any, ...]]:
    """Return what was queued, in order, and forget it."""
    rows = await OutgoingEvent.all().order_by("id")
    await OutgoingEvent.all().delete()
    return [(str(row.type), row.account, row.server, str(row.stage), row.effects) for row in rows]


@pytest.fixture
def settle(policies: Any, clock: Any) -> Any:
    """Reads and settles an account."""

    async def go(account: Any, mode: Mode = Mode.APPLY) -> None:
        own = await subjects.load([account.id], policies, clock.now())
        assert await standing.settle(own, mode=mode, now=clock.now())

    return go


def _abuse(server: Server, **given: Any) -> HoldPlacement:
    values = {"cause": HoldCause.ABUSE, "stops_server": True, "locks_backups": False, "reason": "spam"}
    return HoldPlacement(server_id=server.id, **(values | given))


async def test_a_climb_tells_the_new_standing(debtor: Any, settle: Any, policies: Any, clock: Any) -> None:
    """With its effects, once the guard admitted it; the beginning of an episode changes no standing."""
    account, _, _ = await debtor()
    await settle(account)
    assert await told() == []
    own = await subjects.load([account.id], policies, clock.now())
    assert await standing.admit(own[0], own, Stage.PAST_DUE, plan_digest="0" * 64, now=clock.now())
    assert await told() == [("standing.changed", account.external_id, None, "PAST_DUE", [])]


async def test_a_suspension_and_a_payment_tell_every_server(delinquent: Any, settle: Any) -> None:
    """Held with what all causes ask for, restored when none asks for anything, and nothing while nothing changes."""
    account, invoice, (first, second) = await delinquent(servers=2)
    await settle(account)
    assert await told() == [
        ("server.held", account.external_id, server.external_id, "SUSPENDED", EVERYTHING)
        for server in (first, second)
    ]
    await settle(account)
    assert await told() == []
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)
    await settle(account)
    assert await told() == [
        ("standing.changed", account.external_id, None, "CURRENT", []),
        ("server.restored", account.external_id, first.external_id, "CURRENT", []),
        ("server.restored", account.external_id, second.external_id, "CURRENT", []),
    ]


async def test_a_server_that_another_cause_holds_is_not_restored(
    delinquent: Any, settle: Any, clock: Any
) -> None:
    """After the payment it is told as held, with what is left; that is still news of something given back."""
    account, invoice, (server,) = await delinquent()
    await settle(account)
    await holds.place(_abuse(server), actor="admin:anna", now=clock.now())
    assert [row[4] for row in await told()] == [EVERYTHING, EVERYTHING]
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)
    await settle(account, Mode.PLAN)
    event = await OutgoingEvent.get(type="server.held")
    assert (event.effects, event.gives_back) == (["STOP_SERVERS"], True)
    await told()
    await holds.lift(server.id, HoldCause.ABUSE, reason="over", actor="admin:anna", now=clock.now())
    assert await told() == [("server.restored", account.external_id, server.external_id, "CURRENT", [])]


async def test_an_owners_switch_is_no_news(factory: Any, clock: Any) -> None:
    """No gate rests on it, so nobody is told, and it holds nothing in what is told of other causes."""
    server = await factory.server()
    await holds.switch_off(server.id, actor="customer:kim", now=clock.now())
    assert await told() == []
    await holds.place(_abuse(server, stops_server=False, locks_backups=True), actor="x", now=clock.now())
    assert [row[4] for row in await told()] == [["LOCK_BACKUPS"]]
    await holds.switch_on(server.id, actor="customer:kim", now=clock.now())
    assert await told() == []


async def test_a_hold_that_ends_by_time_is_told(factory: Any, clock: Any) -> None:
    """It is closed as of its expiry, once, and its end recorded."""
    server = await factory.server()
    ends = clock.now() + timedelta(hours=1)
    await holds.place(_abuse(server, expires_at=ends), actor="admin:anna", now=clock.now())
    await told()
    clock.advance(timedelta(minutes=59))
    assert await holds.close_expired(clock.now()) == 0
    clock.advance(timedelta(minutes=2))
    assert [await holds.close_expired(clock.now()) for _ in range(2)] == [1, 0]
    assert [row[0] for row in await told()] == ["server.restored"]
    hold = await Hold.get()
    assert (hold.lifted_at, hold.lifted_by) == (ends, "system:expiry")


async def test_a_retired_server_is_nobodys_business(delinquent: Any, settle: Any, clock: Any) -> None:
    """Its hold ends without a word."""
    account, _, (server, other) = await delinquent(servers=2)
    await settle(account)
    await told()
    await Server.filter(id=server.id).update(retired_at=clock.now())
    await settle(account)
    assert await Hold.filter(server_id=server.id, lifted_at=None).count() == 0
    assert await told() == []
    assert await Hold.filter(server_id=other.id, lifted_at=None).exists()


async def test_what_did_not_happen_is_not_told(factory: Any, clock: Any) -> None:
    """An event is part of the transaction of its change."""
    server = await factory.server()

    async def failing() -> None:
        async with in_transaction():
            await holds.place(_abuse(server), actor="admin:anna", now=clock.now())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await failing()
    assert await told() == []
