"""The plan proposes exactly what closes the gap between holds, records and readings."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.rules.terms import HoldCause
from reconciler.rules.plan import propose
from reconciler.rules.terms import Mode, Power, StepKind, StepState
from reconciler.rules.world import OpenStep, RecordView, SiteView


def kinds(plan, *, ready=True):
    """Return the kinds of the steps that are not held back."""
    return [step.kind for step in plan.steps if not ready or step.held_back_by is None]


def under_way(build, kind, unknown):
    """Return a step that is open since the instant of the world."""
    return OpenStep(kind=kind, unknown=unknown, since=build.now)


def test_asks_for_nothing_without_a_hold(build):
    """A guest that is off without a hold is neither drift nor work."""
    off = build.server(observed=build.seen(Power.STOPPED))

    assert propose(build.world(off)).steps == ()


def test_locks_backups_before_it_stops(build):
    """A server takes one step at a time, the milder one first."""
    world = build.world(build.server(holds=(build.hold(),)))

    assert kinds(propose(world)) == [StepKind.LOCK_BACKUPS]


def test_stops_a_running_guest_once_its_backups_are_locked(build):
    """The stop follows when the lock is on record."""
    server = build.server(holds=(build.hold(),), record=RecordView(backups_locked=True))

    assert kinds(propose(build.world(server))) == [StepKind.STOP]


def test_closes_access_before_anything_else_of_the_account(build):
    """While access is to be closed, the account's servers wait for it."""
    world = build.world(build.server(holds=(build.hold(),)), access=(build.access(),))
    plan = propose(world)

    assert kinds(plan) == [StepKind.CLOSE_ACCESS]
    assert [(step.kind, step.held_back_by) for step in plan.steps if step.held_back_by] == [
        (StepKind.LOCK_BACKUPS, "ORDER")
    ]


def test_goes_on_when_closing_access_has_to_wait(build):
    """A refused role change does not keep the servers of an unpaid account running for ever."""
    waiting = build.access(retry_at={StepKind.CLOSE_ACCESS: build.now + timedelta(minutes=5)})
    server = build.server(holds=(build.hold(),))

    assert kinds(propose(build.world(server, access=(waiting,)))) == [StepKind.LOCK_BACKUPS]


def test_records_a_guest_that_its_owner_had_stopped(build):
    """A stopped guest without a record is configured too, so that a reboot of its node does not start it."""
    server = build.server(
        holds=(build.hold(),),
        observed=build.seen(Power.STOPPED),
        record=RecordView(backups_locked=True),
    )

    assert kinds(propose(build.world(server))) == [StepKind.STOP]


def test_is_content_with_a_stop_on_record_that_is_read_stopped(build):
    """Nothing is left to do for a stopped guest whose stop is on record."""
    server = build.server(holds=(build.hold(),), observed=build.seen(Power.STOPPED), record=build.taken())

    assert propose(build.world(server)).steps == ()


def test_shows_a_guest_that_came_back_as_drift(build):
    """A stop that was done and came undone without us is drift."""
    server = build.server(holds=(build.hold(),), record=build.taken(), stop_done=True)
    (step,) = propose(build.world(server)).steps

    assert step.kind is StepKind.STOP
    assert step.drift


@pytest.mark.parametrize("power", [Power.UNKNOWN])
def test_never_restricts_what_is_unknown(build, power):
    """Unknown is not running, not stopped and not absent."""
    server = build.server(holds=(build.hold(),), observed=build.seen(power))
    (step,) = propose(build.world(server)).steps

    assert step.held_back_by == "UNKNOWN"


def test_leaves_a_guest_alone_that_the_platform_works_on(build):
    """A VM that only looks running because it is being backed up is not stopped."""
    server = build.server(holds=(build.hold(),), observed=build.seen(busy="backup"))
    (step,) = propose(build.world(server)).steps

    assert step.held_back_by == "BUSY"


def test_leaves_guests_of_a_silent_node_alone(build):
    """A node that does not answer is not asked to stop anything."""
    silent = SiteView(name="zrh1", mode=Mode.APPLY, silent_nodes=frozenset({"pve1"}))
    world = build.world(build.server(holds=(build.hold(),)), sites={"zrh1": silent})

    assert [step.held_back_by for step in propose(world).steps] == ["NODE_SILENT"]


def test_gives_everything_back_when_no_hold_asks_any_more(build):
    """Backups come first, power next, each as its own step."""
    server = build.server(observed=build.seen(Power.STOPPED), record=build.taken())
    unlocked = replace(server, record=build.taken(backups_locked=False))

    assert kinds(propose(build.world(server))) == [StepKind.UNLOCK_BACKUPS]
    assert kinds(propose(build.world(unlocked))) == [StepKind.START]


def test_starts_the_guest_while_unlocking_has_to_wait(build):
    """A backup store that refuses does not keep a paid server off."""
    server = build.server(
        observed=build.seen(Power.STOPPED),
        record=build.taken(),
        retry_at={StepKind.UNLOCK_BACKUPS: build.now + timedelta(seconds=30)},
    )

    plan = propose(build.world(server))

    assert kinds(plan) == [StepKind.START]
    assert [step.held_back_by for step in plan.steps if step.kind is StepKind.UNLOCK_BACKUPS] == ["RETRY"]


def test_keeps_the_server_off_while_another_cause_holds_it(build):
    """Payment lifts the billing hold alone: an abuse hold that stops keeps the record and the guest off."""
    abuse = build.hold(HoldCause.ABUSE, locks_backups=False, locks_account=False)
    server = build.server(observed=build.seen(Power.STOPPED), record=build.taken(), holds=(abuse,))

    assert kinds(propose(build.world(server))) == [StepKind.UNLOCK_BACKUPS]
    unlocked = replace(server, record=build.taken(backups_locked=False))
    assert kinds(propose(build.world(unlocked))) == []


def test_starts_what_its_owner_asked_for(build):
    """`serverPowerSet(RUNNING)` starts a guest that no record of ours covers."""
    server = build.server(observed=build.seen(Power.STOPPED), start_wanted=True)

    assert kinds(propose(build.world(server))) == [StepKind.START]


def test_does_nothing_while_a_step_is_open(build):
    """Never two steps at once on a server."""
    for unknown in (False, True):
        server = build.server(holds=(build.hold(),), open_step=under_way(build, StepKind.STOP, unknown))

        assert propose(build.world(server)).steps == ()


@pytest.mark.parametrize(
    ("kind", "unknown", "listed"),
    [
        (StepKind.STOP, False, {StepKind.UNLOCK_BACKUPS: "STEP_UNDER_WAY", StepKind.START: "STEP_UNDER_WAY"}),
        (StepKind.STOP, True, {StepKind.UNLOCK_BACKUPS: "STEP_UNKNOWN", StepKind.START: "STEP_UNKNOWN"}),
        (StepKind.UNLOCK_BACKUPS, False, {}),
        (StepKind.UNLOCK_BACKUPS, True, {StepKind.UNLOCK_BACKUPS: "STEP_UNKNOWN", StepKind.START: "STEP_UNKNOWN"}),
    ],
)  # fmt: skip
def test_lists_what_is_owed_behind_the_step_that_is_open(build, kind, unknown, listed):
    """Who paid is not forgotten because a stop still runs; while things come back one by one, nothing waits."""
    server = build.server(
        observed=build.seen(Power.STOPPED), record=build.taken(), open_step=under_way(build, kind, unknown)
    )

    steps = propose(build.world(server)).steps

    assert {step.kind: step.held_back_by for step in steps} == listed
    assert all(
        f"{kind} " in step.held_back_reason and "2026-11-20 09:00 UTC" in step.held_back_reason
        for step in steps
    )


@pytest.mark.parametrize(
    ("kind", "unknown", "listed"),
    [
        (StepKind.OPEN_ACCESS, False, []),
        (StepKind.OPEN_ACCESS, True, ["STEP_UNKNOWN"]),
        (StepKind.CLOSE_ACCESS, False, ["STEP_UNDER_WAY"]),
    ],
)
def test_lists_access_that_is_owed_behind_the_step_that_is_open(build, kind, unknown, listed):
    """As for a server; a role that is to be closed is not listed."""
    beside = under_way(build, kind, unknown)
    owed = build.access(wanted_closed=False, record=RecordView(role="Customer"), open_step=beside)
    taken = build.access(wanted_closed=True, open_step=beside)

    assert [step.held_back_by for step in propose(build.world(access=(owed,))).steps] == listed
    assert propose(build.world(access=(taken,))).steps == ()


def test_lists_all_that_is_owed_while_a_node_is_silent(build):
    """Whoever looks at the plan at night sees the start that is waited for, and not only the step before it."""
    silent = SiteView(name="zrh1", mode=Mode.APPLY, silent_nodes=frozenset({"pve1"}))
    paid = build.server(observed=build.seen(Power.UNKNOWN), record=build.taken())

    steps = propose(build.world(paid, sites={"zrh1": silent})).steps

    assert [(step.kind, step.held_back_by, step.held_back_reason) for step in steps] == [
        (StepKind.UNLOCK_BACKUPS, "NODE_SILENT", "node pve1 does not answer"),
        (StepKind.START, "NODE_SILENT", "node pve1 does not answer"),
    ]


def test_restricts_no_missing_guest(build):
    """Absent is not an order to act."""
    server = build.server(holds=(build.hold(HoldCause.ADMIN),), missing=True)

    assert propose(build.world(server)).steps == ()


@pytest.mark.parametrize(
    ("mode", "site_mode", "held_by"),
    [
        (Mode.PLAN, Mode.APPLY, "MODE_PLAN"),
        (Mode.APPLY, Mode.PLAN, "SITE_IN_PLAN"),
        (Mode.OFF, Mode.APPLY, "MODE_PLAN"),
    ],
)
def test_restricts_only_where_product_and_site_apply(build, mode, site_mode, held_by):
    """Looking is the default; both switches have to say apply."""
    world = build.world(build.server(holds=(build.hold(),)), mode=mode, site_mode=site_mode)

    assert [step.held_back_by for step in propose(world).steps] == [held_by]


@pytest.mark.parametrize("site_mode", [Mode.PLAN, Mode.APPLY])
def test_gives_back_in_plan_mode(build, site_mode):
    """What was taken earlier is given back whatever mode follows."""
    server = build.server(observed=build.seen(Power.STOPPED), record=build.taken(backups_locked=False))
    world = build.world(server, mode=Mode.PLAN, site_mode=site_mode)

    assert kinds(propose(world)) == [StepKind.START]


def test_sends_nothing_when_switched_off(build):
    """`OFF` is the one exception to giving back at once."""
    server = build.server(observed=build.seen(Power.STOPPED), record=build.taken(backups_locked=False))

    assert [step.held_back_by for step in propose(build.world(server, mode=Mode.OFF)).steps] == ["MODE_OFF"]


def test_stops_critical_servers_last_and_starts_them_first(build):
    """The critical mark decides the order within a kind."""
    record = RecordView(backups_locked=True)
    stopping = [
        build.server(1, critical=True, holds=(build.hold(),), record=record),
        build.server(2, holds=(build.hold(),), record=record),
    ]
    starting = [replace(server, holds=(), record=build.taken(backups_locked=False)) for server in stopping]
    starting = [replace(server, observed=build.seen(Power.STOPPED)) for server in starting]

    assert [step.server_id for step in propose(build.world(*stopping)).steps] == [2, 1]
    assert [step.server_id for step in propose(build.world(*starting[::-1])).steps] == [1, 2]


def test_has_the_same_digest_for_the_same_facts_in_any_order(build):
    """The order in which rows were read never shows."""
    servers = [build.server(number, holds=(build.hold(),)) for number in (1, 2, 3)]
    plan = propose(build.world(*servers))
    other = propose(build.world(*servers[::-1]))

    assert plan.steps == other.steps
    assert plan.digest == other.digest


def test_has_another_digest_when_the_facts_moved(build):
    """A plan is bound to the version of its facts."""
    world = build.world(build.server(holds=(build.hold(),)))
    moved = replace(world, accounts={1: replace(world.accounts[1], facts_version=4)})

    assert propose(world).digest != propose(moved).digest


def test_marks_steps_that_money_alone_asks_for(build):
    """An abuse hold beside the billing hold takes the step out of the billing guard."""
    record = RecordView(backups_locked=True)
    money = build.server(1, holds=(build.hold(),), record=record)
    abuse = build.server(2, holds=(build.hold(), build.hold(HoldCause.ABUSE)), record=record)

    assert [(step.server_id, step.billing) for step in propose(build.world(money, abuse)).steps] == [
        (1, True),
        (2, False),
    ]


def test_proposes_a_climb_with_its_reason_and_invoices(build):
    """An account that may climb is a step like any other."""
    (step,) = propose(build.world(climbs=(build.climb(),))).steps

    assert (step.kind, step.to_stage, step.invoice_ids) == (StepKind.ADVANCE, "SUSPENDED", (7,))
    assert step.state is StepState.PLANNED


def test_starts_nothing_that_the_platform_does_not_have(build):
    """A missing guest's record waits for the guest, or for a person, instead of being tried for ever."""
    gone = build.server(missing=True, record=build.taken(), observed=build.seen(Power.UNKNOWN))

    plan = propose(build.world(gone))

    assert {step.held_back_by for step in plan.steps} == {"MISSING"}


def test_lists_whom_a_stop_leaves_out(build):
    """As skipped, with a code, a sentence and the end of an exemption; nothing else is said of them."""
    exempt = build.passed_over(8, free=False, until=build.now)
    steps = propose(build.world(passed_over=(build.passed_over(9), exempt))).steps

    assert [
        (step.kind, step.state, step.server_id, step.held_back_by, step.held_back_until) for step in steps
    ] == [
        (StepKind.STOP, StepState.SKIPPED, 8, "EXEMPT", build.now),
        (StepKind.STOP, StepState.SKIPPED, 9, "FREE", None),
    ]
    assert [step.held_back_reason for step in steps] == [
        "staff exempted it from billing holds",
        "it is free of charge and takes no billing hold",
    ]
