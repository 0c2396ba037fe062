"""A server that goes to another account: what it leaves behind, what it takes along, and when it may be held again."""

from datetime import timedelta
from typing import Any

import pytest

from billing.models import Account, AuditEntry, Episode, Notice
from billing.money_models import UsageInterval
from billing.refusal import RefusalCode, RefusalError
from billing.rules.terms import HoldCause, NoticeState, Stage
from reconciler import holds, metering, servers, standing, subjects
from reconciler.holds import HoldPlacement
from reconciler.models import Hold, RestorePart, Server
from reconciler.outgoing_models import OutgoingEvent
from reconciler.rules.terms import Mode, StepState
from reconciler.transfer import transfer


async def _transfer(server: Server, to: Account, clock: Any, **given: Any) -> Server:
    told: dict[str, Any] = {"reason": "sold", "actor": "control:panel", "now": clock.now()} | given
    return await transfer(server.id, to.id, **told)


async def _refused(server: Server, to: Account, clock: Any, **given: Any) -> RefusalCode:
    before = await Server.get(id=server.id).values()
    with pytest.raises(RefusalError) as refused:
        await _transfer(server, to, clock, **given)
    assert await Server.get(id=server.id).values() == before
    return refused.value.problems[0].code


@pytest.mark.usefixtures("sqlite_database")
async def test_it_takes_no_debt_along(delinquent: Any, factory: Any, clock: Any, policies: Any) -> None:
    """The old account's hold is lifted with the transfer, whatever the old account goes on owing; others go on."""
    account, _, (server, other) = await delinquent(servers=2)
    own = await subjects.load([account.id], policies, clock.now())
    assert await standing.settle(own, mode=Mode.APPLY, now=clock.now())
    abuse = HoldPlacement(
        server_id=server.id, cause=HoldCause.ABUSE, stops_server=True, locks_backups=False, reason="spam"
    )
    await holds.place(abuse, actor="admin:anna", now=clock.now())
    new = await factory.account()
    version = new.facts_version
    await OutgoingEvent.all().delete()

    moved = await _transfer(server, new, clock)

    assert (moved.account_id, moved.joined_at) == (new.id, clock.now())
    held = {(hold.server_id, hold.cause) for hold in await Hold.filter(lifted_at=None)}
    assert held == {(server.id, HoldCause.ABUSE), (other.id, HoldCause.BILLING)}
    assert (await Account.get(id=new.id)).facts_version == version + 1
    event = await OutgoingEvent.get()
    assert (event.account, event.effects, event.gives_back) == (new.external_id, ["STOP_SERVERS"], True)
    for who, kind in ((account, "server.transferred"), (new, "server.received")):
        row = await AuditEntry.get(kind=kind)
        assert (row.account_id, row.reason, row.actor) == (who.id, "sold", "control:panel")


async def test_what_billing_took_is_given_back(stand: Any, debtor: Any, factory: Any) -> None:
    """The guest that ran runs again, under its new owner, while the old account stays suspended."""
    account, _, (server, other) = await debtor(servers=2)
    await stand.climb_to_suspension()
    assert {guest.power for guest in stand.platform.guests.values()} == {"stopped"}
    new = await factory.account()

    await _transfer(server, new, stand.clock)
    await stand.settle()

    assert stand.platform.guests[str(server.guest)].power == "running"
    assert stand.platform.guests[str(other.guest)].power == "stopped"
    assert not await RestorePart.filter(server_id=server.id, closed_at=None).exists()
    assert (await Episode.get(account_id=account.id)).admitted is Stage.SUSPENDED


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(("hours", "held"), [(23, False), (24, True)])
async def test_a_suspended_account_holds_it_a_day_after_it_was_told(
    delinquent: Any, factory: Any, clock: Any, policies: Any, hours: int, held: bool
) -> None:
    """The notice of the present stage is sent anew, names it, and must have been delivered for 24 hours."""

    async def settle() -> None:
        own = await subjects.load([new.id], policies, clock.now())
        assert await standing.settle(own, mode=Mode.APPLY, now=clock.now())

    new, _, _ = await delinquent()
    await settle()
    server = await factory.server(joined_at=clock.now() - timedelta(days=90))
    clock.advance(timedelta(minutes=1))
    await _transfer(server, new, clock)
    await settle()
    assert not await Hold.filter(server_id=server.id).exists()
    notice = await Notice.get(account_id=new.id, state=NoticeState.PENDING)
    assert (notice.stage, server.id in notice.server_ids) == (Stage.SUSPENDED, True)
    await Notice.filter(id=notice.id).update(state=NoticeState.DELIVERED, delivered_at=clock.now())

    clock.advance(timedelta(hours=hours))
    await settle()

    assert await Hold.filter(server_id=server.id, lifted_at=None).exists() is held


@pytest.mark.usefixtures("sqlite_database")
async def test_its_hours_change_hands(factory: Any, clock: Any) -> None:
    """The old account's interval ends where the new one's begins; each pays in its own currency at its own price."""
    old, new = await factory.account(), await factory.account()
    server = await factory.server(old, rate=700)
    await metering.follow(server.id, at=clock.now(), now=clock.now())
    clock.advance(timedelta(days=3))

    await _transfer(await Server.get(id=server.id), new, clock)

    ended = await UsageInterval.get(account_id=old.id)
    assert (ended.ended_at, ended.ended_because) == (clock.now(), "resized")
    assert not await UsageInterval.filter(account_id=new.id).exists(), "the SKU has no price"
    assert (await Server.get(id=server.id)).rate == 0


@pytest.mark.usefixtures("sqlite_database")
async def test_a_subscription_stays_with_its_account(factory: Any, clock: Any) -> None:
    """It covers the server no longer, and its end is nothing that the new owner is warned of."""
    server = await factory.server(stripe_subscription_id="sub_old", start_wanted_at=clock.now())
    await factory.episode(await server.account, server_id=server.id)
    moved = await _transfer(server, await factory.account(), clock)
    assert (moved.stripe_subscription_id, moved.start_wanted_at) == (None, None)
    assert (await Episode.get(server_id=server.id)).ended_at == clock.now()


@pytest.mark.usefixtures("sqlite_database")
async def test_to_its_own_account_it_changes_nothing(factory: Any, clock: Any) -> None:
    """The same request again is answered alike."""
    server = await factory.server()
    before = await Server.get(id=server.id).values()
    await _transfer(server, await server.account, clock)
    assert await Server.get(id=server.id).values() == before
    assert await AuditEntry.all().count() == 0


@pytest.mark.usefixtures("sqlite_database")
async def test_it_waits_for_what_is_under_way(factory: Any, clock: Any) -> None:
    """Not while a step is dispatched or of unknown end, not when retired, and not without account and reason."""
    server, new = await factory.server(), await factory.account()
    step = await factory.step(server)
    for state in (StepState.DISPATCHED, StepState.UNKNOWN):
        await type(step).filter(id=step.id).update(state=state)
        assert await _refused(server, new, clock) is RefusalCode.CONFLICT
    await type(step).filter(id=step.id).update(state=StepState.DONE)
    assert await _refused(server, new, clock, reason=" ") is RefusalCode.REASON_REQUIRED
    nobody = Account(id=10**6)
    assert await _refused(server, nobody, clock) is RefusalCode.NOT_FOUND
    await servers.retire(server.id, reason="gone", actor="control:panel", now=clock.now())
    assert await _refused(server, new, clock) is RefusalCode.CONFLICT
