"""Whole stories on a moving clock, with a platform in memory behind the port of runs."""

import asyncio
from datetime import timedelta

import pytest

from billing import overrides
from billing.models import Episode, Notice, StripeMirror, WorkItem
from billing.overrides import Authority, Placement
from billing.rules.terms import HoldCause, OverrideKind, Stage
from reconciler import holds, pause, servers, unknown
from reconciler.freshness import Freshness
from reconciler.holds import HoldPlacement
from reconciler.models import Admission, Hold, RestorePart, Run, Server, Step
from reconciler.rules.terms import StepKind, StepState


async def stage_of(account):
    """Return the admitted stage of the open episode."""
    episode = await Episode.get_or_none(account_id=account.id, server_id=None, ended_at=None)
    return episode.admitted if episode else Stage.CURRENT


def readings(platform):
    """Return everything that can be read of the platform."""
    return {name: guest.reading() for name, guest in platform.guests.items()}, dict(platform.pools)


async def nothing_is_left(stand):
    """Assert that whatever was taken was given back and that nothing is under way."""
    assert not await RestorePart.filter(closed_at=None).exists()
    assert not await Hold.filter(lifted_at=None, cause=HoldCause.BILLING).exists()
    assert await stand.open_steps() == []


async def test_stops_and_gives_back_exactly_what_ran(stand, debtor, platform):
    """The whole way: warned, locked, stopped, paid, given back; the server that its owner had stopped stays stopped."""
    account, invoice, (running, off) = await debtor(servers=2)
    platform.guests[off.guest].power = "stopped"
    before = readings(platform)

    await stand.climb_to_suspension()

    assert await stage_of(account) is Stage.SUSPENDED
    assert platform.guests[running.guest].power == "stopped"
    assert platform.guests[running.guest].backups == {"pbs:backup/a": True, "pbs:backup/b": True}
    assert platform.pools[f"customer-{account.external_id}"] == "Suspended"

    await stand.pay(invoice)
    await stand.settle()

    assert readings(platform) == before
    assert await stage_of(account) is Stage.CURRENT
    await nothing_is_left(stand)
    assert await Notice.filter(template="restored").count() == 1


async def test_leaves_guests_that_a_stop_had_not_reached_when_the_payment_came(stand, delinquent, platform):
    """A payment in the middle of a wave: who was reached is started again, who was not is never touched."""
    _, invoice, _ = await delinquent(servers=3)
    before = readings(platform)
    stopped = []

    async def pays_after_the_first(action, guest):
        if action == "stop_guests" and stopped == ["once"]:
            await stand.pay(invoice)
        if action == "stop_guests":
            stopped.append("once")

    platform.before = pays_after_the_first
    await stand.settle()
    platform.before = None
    await stand.settle()

    assert platform.count("stop_guests") == 1
    assert readings(platform) == before
    assert {row.state for row in await Step.filter(kind=StepKind.STOP)} == {StepState.DONE, StepState.VOID}
    await nothing_is_left(stand)


async def test_gives_back_when_a_node_comes_back_that_died_during_the_stop(
    stand, delinquent, platform, clock
):
    """The outcome is unknown, the payment comes, the node answers again: the guest runs as before."""
    _, invoice, (server,) = await delinquent()
    before = readings(platform)
    platform.fates["stop_guests", server.guest] = "half"
    await stand.settle()
    platform.silent.add("node1")
    assert [step.state for step in await stand.open_steps()] == [StepState.UNKNOWN]

    await stand.pay(invoice)
    await stand.settle()
    await stand.watch.resolve_unknown()
    assert [step.state for step in await stand.open_steps()] == [StepState.UNKNOWN]

    platform.silent.clear()
    clock.advance(timedelta(seconds=30))
    await stand.watch.resolve_unknown()
    await stand.settle()

    assert readings(platform) == before
    await nothing_is_left(stand)


async def test_keeps_what_another_cause_holds_when_the_payment_comes(stand, delinquent, platform, clock):
    """Payment lifts the billing cause alone; lifting the other one gives the rest back."""
    account, invoice, (server,) = await delinquent()
    before = readings(platform)
    abuse = HoldPlacement(
        server_id=server.id,
        cause=HoldCause.ABUSE,
        stops_server=True,
        locks_backups=False,
        reason="sends spam",
    )
    await stand.settle()
    await holds.place(abuse, actor="anna", now=clock.now())
    await stand.pay(invoice)
    await stand.settle()

    assert platform.guests[server.guest].power == "stopped"
    assert platform.guests[server.guest].backups == {"pbs:backup/a": False, "pbs:backup/b": True}
    assert platform.pools[f"customer-{account.external_id}"] == "Customer"

    await holds.lift(server.id, HoldCause.ABUSE, reason="cleaned", actor="anna", now=clock.now())
    await stand.settle()

    assert readings(platform) == before
    await nothing_is_left(stand)


async def test_keeps_what_its_owner_stopped_during_the_suspension_off(lite, delinquent, platform, clock):
    """The owner's own hold inherits the record and keeps the guest off until the owner wants it on."""
    _, invoice, (server,) = await delinquent()
    await lite.settle()
    await holds.switch_off(server.id, actor="owner", now=clock.now())
    await lite.pay(invoice)
    await lite.settle()
    assert platform.guests[server.guest].power == "stopped"

    await holds.switch_on(server.id, actor="owner", now=clock.now())
    await lite.settle()

    assert platform.guests[server.guest].power == "running"
    assert platform.guests[server.guest].onboot
    await nothing_is_left(lite)


@pytest.mark.parametrize("fate", ["unknown", "half", "done in silence", "lost", "lie", "later", "failed"])
async def test_gives_back_whatever_became_of_the_stop(lite, delinquent, platform, clock, fate):
    """Whichever way a stop ended, a payment leads to the state of before, and soon."""
    _, invoice, (server,) = await delinquent()
    before = readings(platform)
    platform.fates["stop_guests", server.guest] = fate
    await lite.settle()
    await lite.pay(invoice)
    for _ in range(3):
        await lite.watch.resolve_unknown()
        await lite.settle()
        clock.advance(timedelta(seconds=10))

    assert readings(platform) == before
    await nothing_is_left(lite)


@pytest.mark.parametrize("fate", ["unknown", "half", "done in silence", "lost", "lie", "later", "never"])
async def test_gives_back_whatever_became_of_the_start(lite, delinquent, platform, clock, fate):
    """A restore never gives up, whatever its attempts ended with."""
    _, invoice, (server,) = await delinquent()
    before = readings(platform)
    await lite.settle()
    platform.fates["start_guests", server.guest] = fate
    await lite.pay(invoice)
    for _ in range(4):
        await lite.settle()
        await lite.watch.resolve_unknown()
        clock.advance(timedelta(seconds=10))
    await lite.settle()

    assert readings(platform) == before
    await nothing_is_left(lite)


async def test_converges_after_the_process_died_in_the_middle_of_a_stop(stand, delinquent, platform, clock):
    """What a killed process leaves behind is unknown after a start, read back, judged, and carried on."""
    _, invoice, (server,) = await delinquent()
    before = readings(platform)
    platform.fates["stop_guests", server.guest] = "half"
    await stand.settle()
    await Step.filter(kind=StepKind.STOP).update(state=StepState.DISPATCHED, outcome=None)
    await Run.filter(action="stop_guests").update(state="RUNNING", finished_at=None, verified_gone=False)

    assert await unknown.mark_lost(clock.now()) == 1
    for _ in range(2):
        clock.advance(timedelta(seconds=25))
        await stand.watch.resolve_unknown()
        await stand.settle()
    assert platform.guests[server.guest].power == "stopped"

    await stand.pay(invoice)
    await stand.settle()

    assert readings(platform) == before
    await nothing_is_left(stand)


async def test_does_nothing_twice_when_two_processes_pass_at_once(stand, delinquent, platform):
    """Two processes on one database: one step a server, one act a guest."""
    await delinquent(servers=3)
    await stand.watch.cycle()
    other = stand.another_dispatcher()
    passes = [stand.passes, stand.another(other)]
    for _ in range(5):
        await asyncio.gather(*(one.run() for one in passes))
        await asyncio.gather(stand.dispatcher.idle(), other.idle())
        await asyncio.sleep(0.03)

    assert sorted(platform.done) == sorted(set(platform.done))
    assert platform.count("stop_guests") == 3
    assert platform.count("close_access") == 1
    await other.aclose()


async def test_admits_once_when_two_processes_pass_at_once(stand, debtor):
    """Two guards that let the same account climb: one admission."""
    for _ in range(3):
        await debtor()
    await stand.watch.cycle()
    other = stand.another(stand.another_dispatcher())
    await asyncio.gather(stand.passes.run(), other.run())

    assert await Admission.all().count() == 3
    assert await Notice.all().count() == 3


async def test_frees_an_exempt_server_and_the_access_of_its_owner(stand, delinquent, platform, clock):
    """An exemption of one server gives it back, and opens the access that could not be closed for it alone."""
    account, _, (server, other) = await delinquent(servers=2)
    await stand.settle()
    assert platform.pools[f"customer-{account.external_id}"] == "Suspended"
    asked = Placement(
        account_id=account.id,
        server_id=server.id,
        kind=OverrideKind.EXEMPT,
        reason="monitoring",
        expires_at=clock.now() + timedelta(days=2),
    )
    await overrides.place(asked, actor="anna", authority=Authority.ADMIN, now=clock.now())
    await stand.settle()

    assert platform.guests[server.guest].power == "running"
    assert platform.guests[other.guest].power == "stopped"
    assert platform.pools[f"customer-{account.external_id}"] == "Customer"


async def test_holds_a_server_again_only_a_day_after_its_exemption_was_told_to_be_over(
    lite, delinquent, platform, clock
):
    """An exemption that ended in an episode: a new notice naming the server, delivered for 24 h, and not before."""
    account, _, (server,) = await delinquent()
    await lite.settle()
    asked = Placement(
        account_id=account.id,
        server_id=server.id,
        kind=OverrideKind.EXEMPT,
        reason="monitoring",
        expires_at=clock.now() + timedelta(hours=30),
    )
    await overrides.place(asked, actor="anna", authority=Authority.ADMIN, now=clock.now())
    await lite.settle()
    clock.advance(timedelta(hours=31))
    before = await Notice.all().count()
    await lite.settle()
    assert await Notice.all().count() == before + 1
    clock.advance(timedelta(hours=23))
    await lite.settle()
    assert platform.guests[server.guest].power == "running"

    clock.advance(timedelta(hours=1, minutes=1))
    await lite.settle()

    assert platform.guests[server.guest].power == "stopped"


async def test_opens_the_access_of_an_account_that_paid_after_a_server_was_retired(
    stand, delinquent, platform, clock
):
    """The hold of a server that is gone keeps nobody locked out."""
    account, invoice, (gone, _) = await delinquent(servers=2)
    await stand.settle()
    await servers.retire(gone.id, reason="deleted by its owner", actor="control", now=clock.now())
    await stand.pay(invoice)
    await stand.settle()

    assert platform.pools[f"customer-{account.external_id}"] == "Customer"
    assert not await Hold.filter(lifted_at=None).exists()


async def test_freezes_what_is_restricted_and_lets_it_fall_on_payment(lite, delinquent, platform, clock):
    """FREEZE lifts nothing and delays no fall."""
    account, invoice, (server,) = await delinquent()
    await lite.settle()
    asked = Placement(
        account_id=account.id,
        kind=OverrideKind.FREEZE,
        reason="in talks",
        expires_at=clock.now() + timedelta(days=9),
    )
    await overrides.place(asked, actor="anna", authority=Authority.ADMIN, now=clock.now())
    await lite.settle()
    assert platform.guests[server.guest].power == "stopped"

    await lite.pay(invoice)
    await lite.settle()

    assert platform.guests[server.guest].power == "running"


async def test_pauses_no_restore(lite, delinquent, platform, clock):
    """A pause holds the stops and lets everything back."""
    _, invoice, (server,) = await delinquent()
    await lite.settle()
    _, _, (other,) = await delinquent()
    await pause.pause(reason="maintenance", actor="ida", now=clock.now())
    await lite.pay(invoice)
    await lite.settle()

    assert platform.guests[server.guest].power == "running"
    assert platform.guests[other.guest].power == "running"
    assert not await Step.filter(server_id=other.id).exists()


async def test_leaves_another_guest_of_the_same_number_alone(lite, delinquent, platform):
    """A number that was given away is not started for the one who had it before; a person is asked."""
    _, invoice, (server,) = await delinquent()
    await lite.settle()
    platform.guests[server.guest].marker = "hwaddr:another"
    before = readings(platform)
    await lite.pay(invoice)
    await lite.settle()

    assert readings(platform)[0] == before[0]
    assert platform.count("start_guests") == 0


async def test_stops_nobody_on_a_second_look_at_another_guest(lite, delinquent, platform):
    """A guest with another creation mark is refused before anything is committed, with a task for staff."""
    _, _, (server,) = await delinquent()
    await Server.filter(id=server.id).update(marker="hwaddr:the-one-we-know")
    before = readings(platform)
    await lite.settle()

    assert readings(platform)[0] == before[0]
    assert await WorkItem.filter(kind="guest_replaced", server_id=server.id).count() == 1
    assert not await RestorePart.filter(server_id=server.id).exists()


async def test_restores_while_stripe_does_not_answer(lite, make_stand, delinquent, platform, clock):
    """Every step of giving back is taken while Stripe is asked about somebody else and says nothing."""
    _, invoice, (server,) = await delinquent()
    await lite.settle()
    asked = []

    async def says_nothing(account):
        asked.append(account.id)
        await asyncio.Event().wait()

    stripe_on = make_stand(
        freshness=Freshness(stripe=True, facts_max_age=timedelta(minutes=15)), refetch=says_nothing
    )
    stripe_on.passes._asking.patience_seconds = 600.0
    await StripeMirror.filter(id=1).update(last_full_sweep_at=clock.now())
    await delinquent(stripe_customer_id="cus_old")
    await lite.pay(invoice)
    async with asyncio.timeout(120):
        while platform.guests[server.guest].power != "running":
            await stripe_on.turn()

    assert len(asked) == 1
    assert platform.count("open_access") == 1
    stripe_on.passes._asking._going.cancel()
