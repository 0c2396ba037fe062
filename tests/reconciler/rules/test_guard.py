"""The guard holds back what must wait, and never a step that gives something back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.rules.policy import GuardPolicy, Limit, Window, Windows
from billing.rules.terms import HoldCause, Stage
from reconciler.rules.guard import Breaker, Limits, guard, overload
from reconciler.rules.plan import propose
from reconciler.rules.terms import Mode, Power, StepKind
from reconciler.rules.world import RecordView, SiteView


def checked(build, world, **changes):
    """Return what the guard made of the world's plan: kind to the code that holds it back."""
    plan = guard(propose(world), world, build.circumstances(**changes))
    return [(step.kind, step.held_back_by) for step in plan.steps]


def stopping(build, **changes):
    """Return a server that is about to be stopped."""
    return build.server(holds=(build.hold(),), record=RecordView(backups_locked=True), **changes)


def test_lets_a_fresh_climb_and_a_fresh_stop_pass(build):
    """With everything fresh and within limits nothing is held back."""
    world = build.world(stopping(build), climbs=(build.climb(2),))

    assert checked(build, world) == [(StepKind.ADVANCE, None), (StepKind.STOP, None)]


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"paused": "paused by ann"}, "PAUSED"), ({"safe_mode": "the database was restored"}, "SAFE_MODE")],
)
def test_holds_everything_restrictive_back_on_a_brake(build, changes, code):
    """Pause and safe mode stop climbs and stops alike."""
    world = build.world(stopping(build), climbs=(build.climb(2),))

    assert checked(build, world, **changes) == [(StepKind.ADVANCE, code), (StepKind.STOP, code)]


@pytest.mark.parametrize(
    "changes",
    [
        {"paused": "paused by ann"},
        {"safe_mode": "restored"},
        {"facts_max_age": timedelta(0)},
        {"breaker": Breaker(open="too many")},
        {
            "fleet": Limits(
                guard=GuardPolicy(max_new_per_pass=Limit(count=0, percent=0)), accounts=0, admitted_today=9
            )
        },
    ],
)
def test_never_delays_a_restore(build, changes):
    """Restores pass every brake there is."""
    old = build.seen(Power.STOPPED, observed_at=build.now - timedelta(days=9))
    server = build.server(observed=old, record=build.taken(backups_locked=False))
    world = build.world(server, stale=("FACTS_STALE", "old"))

    assert checked(build, world, **changes) == [(StepKind.START, None)]


def test_holds_a_climb_back_on_stale_facts(build):
    """Old or moving facts restrict nobody."""
    world = build.world(climbs=(build.climb(stale=("EVENTS_PENDING", "an event waits")),))

    assert checked(build, world) == [(StepKind.ADVANCE, "EVENTS_PENDING")]


def test_holds_a_stop_back_on_stale_facts(build):
    """The facts are asked again before each guest, not only before the climb."""
    world = build.world(stopping(build), stale=("FACTS_STALE", "not read again"))

    assert checked(build, world) == [(StepKind.STOP, "FACTS_STALE")]


def test_holds_back_what_a_payment_shields_and_only_if_nothing_else_does(build):
    """What a customer may use up of it counts by this reason."""
    shielded = ("CUSTOMER_PAYING", "a payment has not ended")
    climbing = build.world(climbs=(build.climb(shielded=shielded),))
    stops = build.world(stopping(build))
    stops = replace(stops, accounts={1: replace(stops.accounts[1], shielded=shielded)})
    for world, kind in ((climbing, StepKind.ADVANCE), (stops, StepKind.STOP)):
        assert checked(build, world) == [(kind, "CUSTOMER_PAYING")]
        assert checked(build, world, paused="x") == [(kind, "PAUSED")]
    late = replace(climbing, climbs=(build.climb(shielded=shielded, stale=("FACTS_STALE", "old")),))
    assert checked(build, late) == [(StepKind.ADVANCE, "FACTS_STALE")]


def test_lets_other_causes_pass_on_stale_billing_facts(build):
    """An abuse hold needs identity, observation and mode only."""
    server = stopping(build)
    abuse = build.server(holds=(build.hold(HoldCause.ABUSE),), record=server.record, observed=server.observed)
    world = build.world(abuse, stale=("FACTS_STALE", "not read again"))

    assert checked(build, world) == [(StepKind.STOP, None)]


@pytest.mark.parametrize(("age", "code"), [(15, None), (15 * 60, None), (15 * 60 + 1, "OBSERVATION_STALE")])
def test_holds_a_stop_back_on_an_old_reading(build, age, code):
    """A reading may be as old as the limit, and not a second older."""
    seen = build.seen(observed_at=build.now - timedelta(seconds=age))

    assert checked(build, build.world(stopping(build, observed=seen))) == [(StepKind.STOP, code)]


def test_holds_a_climb_with_effects_back_while_a_server_of_it_was_not_read(build):
    """Only whom the climb would reach: the others climb, and so does everybody to a stage that only warns."""
    unread = "server srv-1 on site zrh1 was never read"
    world = build.world(climbs=(build.climb(1, unread=unread), build.climb(2)))
    plan = guard(propose(world), world, build.circumstances())

    assert [(step.account_id, step.held_back_by, step.held_back_reason) for step in plan.steps] == [
        (1, "OBSERVATION_STALE", unread),
        (2, None, None),
    ]
    assert checked(build, build.world(climbs=(build.climb(unread=unread, larger=False),))) == [
        (StepKind.ADVANCE, None)
    ]


def test_holds_a_climb_with_effects_back_while_a_site_only_looks(build):
    """Every site of the account's live servers has to apply."""
    world = build.world(climbs=(build.climb(),), site_mode=Mode.PLAN)

    assert checked(build, world) == [(StepKind.ADVANCE, "SITE_IN_PLAN")]


def test_holds_a_climb_with_effects_back_on_a_site_that_nobody_knows(build):
    """Of a site that left the inventory nothing is read any more."""
    world = build.world(climbs=(build.climb(sites=frozenset({"gone"})),))

    assert checked(build, world) == [(StepKind.ADVANCE, "SITE_UNKNOWN")]


def test_takes_nothing_at_all_where_another_platform_answers(build):
    """Whatever the cause asks for it: a guest there merely has the number of ours. What is given back passes."""
    strange = SiteView(name="zrh1", mode=Mode.APPLY, stranger="it answers as another")
    sites = {"zrh1": strange}

    assert checked(build, build.world(stopping(build), sites=sites)) == [(StepKind.STOP, "SITE_IDENTITY")]
    abuse = build.server(holds=(build.hold(HoldCause.ABUSE, locks_backups=False),))
    assert checked(build, build.world(abuse, sites=sites)) == [(StepKind.STOP, "SITE_IDENTITY")]
    taken = build.server(observed=build.seen(Power.STOPPED), record=build.taken(backups_locked=False))
    assert checked(build, build.world(taken, sites=sites)) == [(StepKind.START, None)]


def test_takes_nothing_for_money_through_a_token_that_could_destroy(build):
    """Neither a climb with effects nor a stop for money; other causes' stops and every restore pass."""
    strong = SiteView(name="zrh1", mode=Mode.APPLY, excess=("VM.Allocate on /vms",))
    sites = {"zrh1": strong}

    assert checked(build, build.world(climbs=(build.climb(),), sites=sites)) == [
        (StepKind.ADVANCE, "TOKEN_TOO_STRONG")
    ]
    assert checked(build, build.world(stopping(build), sites=sites)) == [(StepKind.STOP, "TOKEN_TOO_STRONG")]
    server = stopping(build)
    abuse = build.server(holds=(build.hold(HoldCause.ABUSE),), record=server.record, observed=server.observed)
    assert checked(build, build.world(abuse, sites=sites)) == [(StepKind.STOP, None)]
    taken = build.server(observed=build.seen(Power.STOPPED), record=build.taken(backups_locked=False))
    assert checked(build, build.world(taken, sites=sites)) == [(StepKind.START, None)]


def test_lets_a_climb_without_effects_pass_whatever_the_site_does(build):
    """A first notice needs no site at all."""
    climb = build.climb(larger=False, to_stage=Stage.PAST_DUE, sites=frozenset({"elsewhere"}))

    assert checked(build, build.world(climbs=(climb,))) == [(StepKind.ADVANCE, None)]


@pytest.mark.parametrize("mode", [Mode.PLAN, Mode.OFF])
def test_admits_nobody_outside_apply(build, mode):
    """In `PLAN` and `OFF` nobody is admitted to anything."""
    world = build.world(climbs=(build.climb(larger=False),), mode=mode)

    assert checked(build, world) == [(StepKind.ADVANCE, f"MODE_{mode}")]


def test_admits_who_has_been_eligible_longest_up_to_the_limit(build):
    """The blast radius counts accounts, and the longest eligible go first."""
    climbs = [
        build.climb(number, eligible_since=build.now - timedelta(hours=number)) for number in range(1, 9)
    ]
    world = build.world(climbs=climbs)
    plan = guard(propose(world), world, build.circumstances())

    assert {step.account_id for step in plan.steps if step.held_back_by is None} == {4, 5, 6, 7, 8}
    assert {step.held_back_by for step in plan.steps if step.account_id < 4} == {"BLAST_RADIUS"}


def test_counts_what_the_last_day_admitted(build):
    """The limit of a day slides over 24 hours and spans passes."""
    fleet = Limits(
        guard=GuardPolicy(
            max_new_per_pass=Limit(count=9, percent=0), max_new_per_day=Limit(count=3, percent=0)
        ),
        accounts=100,
        admitted_today=2,
    )
    world = build.world(climbs=[build.climb(number) for number in (1, 2)])

    assert sorted(str(code) for _, code in checked(build, world, fleet=fleet)) == ["BLAST_RADIUS", "None"]


def test_applies_a_policys_own_tighter_limit_to_its_accounts_alone(build):
    """Another policy may be tighter than the fleet and counts its own accounts."""
    tight = Limits(
        guard=GuardPolicy(max_new_per_pass=Limit(count=1, percent=0)), accounts=10, admitted_today=0
    )
    climbs = [build.climb(number, policy="kind" if number < 4 else "standard") for number in range(1, 6)]
    world = build.world(climbs=climbs)
    plan = guard(propose(world), world, build.circumstances(policies={"kind": tight}))

    assert sorted(step.account_id for step in plan.steps if step.held_back_by is None) == [1, 4, 5]


def test_does_not_count_climbs_without_larger_effects(build):
    """Notices go on however many there are."""
    climbs = [build.climb(number, larger=False, to_stage=Stage.PAST_DUE) for number in range(1, 40)]

    assert {code for _, code in checked(build, build.world(climbs=climbs))} == {None}


def test_suspends_only_within_the_windows(build):
    """Outside the policy's windows nobody is admitted to `SUSPENDED`; other stages do not ask."""
    closed = Windows(zone="UTC", allow=(Window(days=frozenset({0}), from_minute=0, to_minute=1),))
    climbs = (build.climb(1), build.climb(2, to_stage=Stage.FINAL_NOTICE))
    world = build.world(climbs=climbs)

    assert checked(build, world, windows={"standard": closed}) == [
        (StepKind.ADVANCE, "WINDOW"),
        (StepKind.ADVANCE, None),
    ]
    held = guard(propose(world), world, build.circumstances(windows={"standard": closed})).steps[0]
    assert held.held_back_until == build.now.replace(day=23, hour=0)


def test_lets_a_decision_of_two_persons_pass_the_windows_and_nothing_else(build):
    """SUSPEND_NOW goes past windows, and past no other check."""
    closed = {"standard": Windows(zone="UTC", allow=())}
    forced = build.climb(forced=True)

    assert checked(build, build.world(climbs=(build.climb(),)), windows=closed) == [
        (StepKind.ADVANCE, "WINDOW")
    ]
    assert checked(build, build.world(climbs=(forced,)), windows=closed) == [(StepKind.ADVANCE, None)]
    assert checked(build, build.world(climbs=(forced,)), windows=closed, paused="x") == [
        (StepKind.ADVANCE, "PAUSED")
    ]


@pytest.mark.parametrize(("accounts", "tripped"), [(15, False), (16, True)])
def test_takes_more_than_three_times_the_limit_at_once_for_a_mistake(build, accounts, tripped):
    """Accounts count once each, whatever their policies."""
    sudden = {"standard": frozenset(range(10)), "kind": frozenset(range(accounts))}
    circumstances = build.circumstances(breaker=Breaker(sudden=sudden))

    assert (overload(circumstances) is not None) is tripped
    climbs = (build.climb(1), build.climb(2, larger=False, to_stage=Stage.PAST_DUE), build.climb(3))
    plan = checked(build, build.world(climbs=climbs), breaker=circumstances.breaker)
    assert [code for _, code in plan] == (["BREAKER", None, "BREAKER"] if tripped else [None] * 3)


def test_takes_a_policys_own_limit_for_its_own_accounts(build):
    """A tighter policy trips it for everybody: nobody knows yet what went wrong."""
    tight = Limits(
        guard=GuardPolicy(max_new_per_pass=Limit(count=1, percent=0)), accounts=9, admitted_today=0
    )
    for policy, tripped in (("kind", True), ("standard", False)):
        sudden = {policy: frozenset(range(4))}
        circumstances = build.circumstances(breaker=Breaker(sudden=sudden), policies={"kind": tight})
        assert (overload(circumstances) is not None) is tripped


def test_lets_released_climbs_pass_an_open_breaker_and_no_limit(build):
    """What two persons looked at goes on, as fast as the limits allow."""
    one = Limits(guard=GuardPolicy(max_new_per_pass=Limit(count=1, percent=0)), accounts=9, admitted_today=0)
    world = build.world(climbs=[build.climb(number) for number in (1, 2, 3)])
    opened = Breaker(open="too many", released=frozenset({(1, None), (2, None)}))

    assert [code for _, code in checked(build, world, fleet=one, breaker=opened)] == [
        None,
        "BLAST_RADIUS",
        "BREAKER",
    ]


def test_says_nothing_of_whom_a_stop_leaves_out(build):
    """Whatever brakes are on, they are skipped for what they are."""
    world = build.world(passed_over=(build.passed_over(),))

    assert checked(build, world, paused="paused by ann", safe_mode="restored") == [(StepKind.STOP, "FREE")]
