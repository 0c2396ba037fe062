"""One pass does everything that is due, and nothing that stops it for one stops it for all."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.models import Account, Episode, Invoice, Notice, Subscription
from billing.rules.terms import NoticeState, Stage
from reconciler import passes, standing
from reconciler.dispatch import Dispatcher
from reconciler.models import Admission, Hold, PlanSnapshot, ReconcilerState, Step
from reconciler.rules.terms import Mode, StepKind


async def test_admits_a_debtor_in_the_first_pass(stand, debtor):
    """An episode begins and its first stage is reached in one pass, which asks for another."""
    account, _, _ = await debtor()

    result = await stand.turn()

    assert (result.admitted, result.again) == (1, True)
    assert (await Episode.get(account_id=account.id)).admitted is Stage.PAST_DUE
    assert not (await stand.act()).again


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("mode", [Mode.PLAN, Mode.OFF])
async def test_changes_nothing_that_a_customer_sees_outside_apply(make_stand, debtor, platform, mode):
    """No mail, no hold, no stage, no touch; in `PLAN` the plan is shown."""
    await ReconcilerState.filter(id=1).update(first_apply_at=datetime(2026, 1, 1, tzinfo=UTC))
    account, _, _ = await debtor()
    stand = make_stand(mode=mode)

    for _ in range(9):
        result = await stand.turn()
        stand.clock.advance(timedelta(days=1))

    assert not await Notice.all().exists()
    assert not await Hold.all().exists()
    assert not await Admission.all().exists()
    assert platform.done == []
    waits = [(step.kind, step.held_back_by) for step in result.plan.steps]
    assert waits == [(StepKind.ADVANCE, f"MODE_{mode}")]
    assert account.id == result.plan.steps[0].account_id


@pytest.mark.usefixtures("sqlite_database")
async def test_only_plans_on_a_database_that_never_applied(make_stand, debtor):
    """The first apply is answered by a person."""
    await debtor()
    stand = make_stand()

    result = await stand.turn()

    assert (result.plan.mode, result.admitted) == (Mode.PLAN, 0)


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(("mode", "power"), [(Mode.PLAN, "running"), (Mode.OFF, "stopped")])
async def test_gives_back_in_plan_and_waits_in_off(make_stand, lite, delinquent, platform, mode, power):
    """What was taken in `APPLY` comes back in `PLAN`; `OFF` sends nothing anywhere."""
    _, invoice, (server,) = await delinquent()
    await lite.settle()
    await lite.pay(invoice)

    await make_stand(mode=mode).settle()

    assert platform.guests[server.guest].power == power


@pytest.mark.parametrize(
    ("away", "admitted"), [(timedelta(hours=24), 1), (timedelta(hours=24, seconds=1), 0)]
)
async def test_warns_anew_after_more_than_a_day_outside_apply(
    make_stand, lite, delinquent, clock, away, admitted
):
    """A notice from before counts for climbing only after a short absence."""
    account, _, _ = await delinquent()
    await lite.settle()
    clock.advance(timedelta(days=30))
    await Account.filter(id=account.id).update(next_change_at=clock.now())
    await ReconcilerState.filter(id=1).update(last_pass_at=clock.now())
    looking = make_stand(mode=Mode.PLAN)
    await looking.act()
    clock.advance(away)

    await lite.turn()

    assert await Admission.filter(to_stage=Stage.RETAINED).count() == admitted
    if not admitted:
        assert await Notice.filter(stage=Stage.SUSPENDED, state=NoticeState.PENDING).count() == 1


async def test_settles_the_others_beside_an_account_that_fails(lite, debtor, monkeypatch):
    """One poisoned account is logged, stays due and stops nobody else."""
    (bad, _, _), (good, _, _) = await debtor(), await debtor()
    genuine = standing.settle

    async def poisoned(own, **named):
        if own[0].account.id == bad.id:
            raise ValueError("poison")
        return await genuine(own, **named)

    monkeypatch.setattr(standing, "settle", poisoned)
    await lite.turn()

    assert [row.account_id for row in await Episode.all()] == [good.id]
    assert (await Account.get(id=bad.id)).next_change_at <= lite.clock.now()


async def test_admits_the_others_beside_an_account_that_fails(lite, debtor, monkeypatch):
    """The same for the climb."""
    (bad, _, _), (good, _, _) = await debtor(), await debtor()
    genuine = standing.admit

    async def poisoned(subject, *arguments, **named):
        if subject.account.id == bad.id:
            raise ValueError("poison")
        return await genuine(subject, *arguments, **named)

    monkeypatch.setattr(standing, "admit", poisoned)
    assert (await lite.turn()).admitted == 1
    assert [row.account_id for row in await Admission.all()] == [good.id]


async def test_admits_one_subject_of_an_account_a_pass(lite, debtor, factory, clock):
    """Account and uncovered server climb one after the other: what was read before the first is not acted on."""
    account, _, (server,) = await debtor()
    await type(server).filter(id=server.id).update(stripe_subscription_id="sub_1")
    await Subscription.create(
        stripe_subscription_id="sub_1",
        account_id=account.id,
        status="canceled",
        ended_at=clock.now(),
        fetched_at=clock.now(),
    )
    await lite.watch.cycle()

    counts = [(await lite.act()).admitted for _ in range(3)]

    assert counts == [1, 1, 0]
    assert await Notice.filter(stage=Stage.PAST_DUE).count() == 2


async def test_keeps_to_the_blast_radius(lite, debtor, policies, clock):
    """At most so many accounts newly reach larger effects in a pass; the rest waits, the longest wait first."""
    for _ in range(7):
        await debtor()
    await lite.settle()
    clock.advance(timedelta(days=3))
    await lite.watch.cycle()

    result = await lite.act()

    assert result.admitted == policies["standard"].guard.max_new_per_pass.count == 5
    assert [step.held_back_by for step in result.plan.steps if step.held_back_by] == ["BLAST_RADIUS"] * 2


async def test_holds_only_whom_a_silent_node_concerns(lite, debtor, platform):
    """The others of its site climb on; who has one server there of several waits, with the reason in the plan."""
    (near, _, _), (far, _, servers) = await debtor(), await debtor(2)
    platform.guests[servers[1].guest].node = "node2"
    await lite.settle()
    lite.clock.advance(timedelta(hours=72))
    await lite.watch.cycle()
    platform.silent = {"node2"}
    lite.clock.advance(timedelta(minutes=16))

    plan = (await lite.turn()).plan

    assert [(step.account_id, step.held_back_by, step.held_back_reason) for step in plan.steps] == [
        (near.id, None, None),
        (
            far.id,
            "OBSERVATION_STALE",
            f"server {servers[1].external_id} on site demo was not read for more than 0:15:00",
        ),
    ]
    platform.silent = set()
    plan = (await lite.turn()).plan
    assert [step.held_back_by for step in plan.steps if step.account_id == far.id] == [None]


async def test_wakes_when_time_alone_changes_something(lite, factory, clock):
    """The next look at an account, the end of a wait, the end of a hold: whichever comes first."""
    server = await factory.server()
    await factory.hold(server, cause="ABUSE", expires_at=clock.now() + timedelta(minutes=3))
    assert (await lite.act()).next_at == clock.now() + timedelta(minutes=3)
    done = await factory.step(server, retry_at=clock.now() + timedelta(minutes=2), state="VOID")
    assert (await lite.act()).next_at == clock.now() + timedelta(minutes=2)
    await Account.filter(id=server.account_id).update(next_change_at=clock.now() + timedelta(minutes=1))

    assert (await lite.act()).next_at == clock.now() + timedelta(minutes=1)
    assert done.id == (await Step.get()).id


async def test_looks_without_changing_anything(lite, debtor, platform):
    """The plan can be shown without a row written or a run started."""
    account, _, _ = await debtor()

    seen = await lite.passes.look()

    assert [(step.kind, step.held_back_by) for step in seen.plan.steps] == [(StepKind.ADVANCE, None)]
    assert (seen.names.accounts, seen.eased) == ({account.id: account.external_id}, ())
    assert not await Episode.all().exists()
    assert not await PlanSnapshot.all().exists()
    assert platform.runs == []
    assert (await Invoice.get()).account_id == account.id


@pytest.mark.parametrize(("mode", "named"), [(Mode.APPLY, True), (Mode.PLAN, True), (Mode.OFF, False)])
async def test_names_who_gets_something_back_by_the_next_pass(lite, delinquent, debtor, mode, named):
    """A payment that no pass has seen yet is in no plan; in `OFF` nothing comes back, whoever paid."""
    account, invoice, _ = await delinquent()
    _, small, _ = await debtor()
    await lite.settle()
    assert (await lite.passes.look()).eased == ()
    for paid in (invoice, small):
        await lite.pay(paid)
    lite.passes.mode = mode

    assert (await lite.passes.look()).eased == ((account.external_id,) if named else ())
    lite.passes.mode = Mode.APPLY
    await lite.act()
    assert (await lite.passes.look()).eased == ()


async def test_shows_all_night_what_a_dead_node_keeps_from_who_paid(lite, delinquent, platform):
    """The node dies with a run, so that nobody knows how the first step ended; back again, everything comes back."""
    _, invoice, (server,) = await delinquent()
    before = platform.guests[server.guest].reading()
    await lite.settle()
    await lite.pay(invoice)
    platform.fates["unlock_backups", server.guest] = "lost"
    await lite.act()
    platform.silent.add("node1")

    for hours in (0, 6):
        lite.clock.advance(timedelta(hours=hours))
        await lite.watch.resolve_unknown()
        await lite.turn()
        plan = (await lite.passes.look()).plan
        assert [(step.kind, step.held_back_reason) for step in plan.steps] == [
            (kind, "node node1 does not answer") for kind in (StepKind.UNLOCK_BACKUPS, StepKind.START)
        ]
    platform.silent.clear()
    for _ in range(3):
        await lite.watch.resolve_unknown()
        await lite.settle()
        lite.clock.advance(timedelta(seconds=10))

    assert platform.guests[server.guest].reading() == before
    assert (await lite.passes.look()).plan.steps == ()


async def test_keeps_each_plan_once_and_only_so_many(lite, debtor, monkeypatch):
    """The API reads the plan of the last pass; the same plan is not kept twice, and old ones go."""
    monkeypatch.setattr(passes, "SNAPSHOTS_KEPT", 2)
    for _ in range(2):
        await lite.act()
    assert await PlanSnapshot.all().count() == 1
    for _ in range(3):
        await debtor()
        await lite.act()
        await lite.act()

    assert await PlanSnapshot.all().count() <= 2
    assert (await ReconcilerState.get(id=1)).last_pass_at == lite.clock.now()


async def test_dispatches_what_is_given_back_before_it_asks_anybody(lite, delinquent, monkeypatch, clock):
    """Restores are submitted first, whatever else the pass finds to do."""
    _, invoice, _ = await delinquent()
    await lite.settle()
    await lite.pay(invoice)
    order = []
    genuine = Dispatcher.submit

    def submit(self, steps, digest):
        order.append({step.kind.restricts for step in steps})
        return genuine(self, steps, digest)

    async def ask(*_, **__):
        order.append("asked")
        return frozenset()

    monkeypatch.setattr(Dispatcher, "submit", submit)
    monkeypatch.setattr(type(lite.passes._asking), "about", ask)
    await lite.act()

    assert order == [{False}, "asked", set()]


async def test_reads_everybody_due_in_turn(lite, debtor, monkeypatch):
    """More accounts than fit in a pass are worked off in the next ones, which follow at once."""
    monkeypatch.setattr(passes, "MAX_ACCOUNTS", 2)
    for _ in range(3):
        await debtor()

    assert (await lite.turn()).again
    for _ in range(2):
        lite.clock.advance(timedelta(seconds=1))
        await lite.act()

    assert await Episode.all().count() == 3
