"""A forecast walks everybody ahead by the rules of the passes to come."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import billing
from billing.policy_reader import read_policy
from billing.rules import shadow
from billing.rules.facts import (
    AccountFacts,
    CoverageFacts,
    EpisodeFact,
    InvoiceFact,
    NoticeFact,
    OverrideFact,
)
from billing.rules.policy import GuardPolicy, Limit, Policy, Window, Windows
from billing.rules.terms import Effect, OverrideKind, Stage
from reconciler.rules import forecast as module
from reconciler.rules.ahead_brakes import Brakes
from reconciler.rules.forecast import Ahead, Walker, forecast
from reconciler.rules.guard import Limits
from reconciler.rules.looks import Looks

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TEMPLATES = ("payment_overdue", "final_notice", "suspended", "retained", "final_warning")


@pytest.fixture(scope="session")
def standard() -> Policy:
    """The shipped standard policy, without the mails that open no stage."""
    text = (Path(billing.__file__).parent / "policies/standard.yaml").read_text("utf-8")
    return shadow.quiet(read_policy("standard", text, templates=TEMPLATES))


def brakes(a_pass: int = 50, a_day: int = 50, **more: Any) -> Brakes:
    """Return limits of so many accounts."""
    guard = GuardPolicy(
        max_new_per_pass=Limit(count=a_pass, percent=0), max_new_per_day=Limit(count=a_day, percent=0)
    )
    return Brakes(fleet=Limits(guard=guard, accounts=100, admitted_today=0), **more)


def walker(policy: Policy, key: int = 1, *, at: datetime = NOW, **facts: Any) -> Walker:
    """Return an account with one invoice that is overdue from `at` on."""
    owed = InvoiceFact(id=key, currency="EUR", amount_due=5000, overdue_at=at, counts_from=None)
    known = {"account_id": key, "currency": "EUR", "invoices": (owed,)}
    return Walker(account_id=key, policy=policy, facts=AccountFacts(**(known | facts)), servers=2)


def told(rows: list[Ahead]) -> list[tuple[timedelta, Stage, str | None]]:
    """Return after how long each stage is reached, and what it waited for."""
    return [(row.at - NOW, row.to_stage, row.waiting_for) for row in rows]


LADDER = [
    (0 * HOUR, Stage.PAST_DUE, None),
    (72 * HOUR, Stage.FINAL_NOTICE, None),
    (120 * HOUR, Stage.SUSPENDED, None),
    (30 * DAY, Stage.RETAINED, None),
    (90 * DAY, Stage.DECOMMISSION_REVIEW, None),
]


def walk(*walkers: Walker, days: int = 100, by: Brakes | None = None) -> list[Ahead]:
    """Return the forecast of these walkers."""
    return forecast(walkers, by or brakes(), now=NOW, until=NOW + days * DAY)


def test_it_walks_the_published_ladder(standard: Policy) -> None:
    """With nothing in the way every stage comes at its age, with the servers that it reaches."""
    rows = walk(walker(standard))

    assert told(rows) == LADDER
    assert [row.from_stage for row in rows] == [Stage.CURRENT, *(stage for _, stage, _ in LADDER[:-1])]
    assert {row.servers for row in rows} == {2}


def test_it_ends_with_the_days_asked_for(standard: Policy) -> None:
    """What comes later is not told; what is not overdue yet begins when it is."""
    assert told(walk(walker(standard), days=5)) == LADDER[:3]
    assert told(walk(walker(standard, at=NOW + 2 * DAY), days=5)) == [
        (2 * DAY, Stage.PAST_DUE, None),
        (5 * DAY, Stage.FINAL_NOTICE, None),
    ]


@pytest.mark.parametrize(
    "facts",
    [
        {"free_plan": True},
        {"invoices": ()},
        {"overrides": (OverrideFact(kind=OverrideKind.EXEMPT, placed_at=NOW, expires_at=None),)},
    ],
)
def test_it_foresees_nothing_for_whom_nothing_threatens(standard: Policy, facts: dict[str, Any]) -> None:
    """A free plan, no debt, an exemption without end."""
    assert walk(walker(standard, **facts)) == []


def test_it_stops_where_no_warning_can_arrive(standard: Policy) -> None:
    """Without an address an account stays at the first stage."""
    assert told(walk(walker(standard, has_address=False))) == LADDER[:1]


def test_it_waits_for_the_end_of_an_override_and_a_fresh_warning(standard: Policy) -> None:
    """A freeze of ten days is over first; then the final notice must stand for its time."""
    episode = EpisodeFact(started_at=NOW - 10 * DAY, admitted=Stage.FINAL_NOTICE, admitted_at=NOW - 7 * DAY)
    known = {
        "invoices": (
            InvoiceFact(
                id=1, currency="EUR", amount_due=500, overdue_at=NOW - 10 * DAY, counts_from=NOW - 10 * DAY
            ),
        ),
        "episode": episode,
        "notices": tuple(
            NoticeFact(
                stage=stage, template="any", sent_at=NOW - days * DAY, delivered_at=NOW - days * DAY,
                invoice_ids=frozenset({1}),
            )
            for stage, days in ((Stage.PAST_DUE, 10), (Stage.FINAL_NOTICE, 7))
        ),
        "overrides": (
            OverrideFact(kind=OverrideKind.FREEZE, placed_at=NOW - DAY, expires_at=NOW + 10 * DAY),
        ),
    }  # fmt: skip
    first = walk(walker(standard, **known))[0]

    assert (first.at - NOW, first.to_stage, first.waiting_for) == (11 * DAY, Stage.SUSPENDED, "freeze")


def test_it_takes_a_notice_that_is_on_its_way_as_delivered_and_says_so(standard: Policy) -> None:
    """The climb that follows tells that it waits for the delivery."""
    episode = EpisodeFact(started_at=NOW - 4 * DAY, admitted=Stage.PAST_DUE, admitted_at=NOW - 4 * DAY)
    sent = NoticeFact(
        stage=Stage.PAST_DUE,
        template="any",
        sent_at=NOW,
        delivered_at=None,
        invoice_ids=frozenset({1}),
    )
    old = InvoiceFact(
        id=1, currency="EUR", amount_due=500, overdue_at=NOW - 4 * DAY, counts_from=NOW - 4 * DAY
    )
    rows = walk(walker(standard, invoices=(old,), episode=episode, notices=(sent,)), days=5)

    assert told(rows)[0] == (48 * HOUR, Stage.FINAL_NOTICE, "notice_delivery")


def test_it_lets_the_longest_eligible_go_first_and_the_rest_wait_for_the_limit(standard: Policy) -> None:
    """One a day: the second climbs when the first counts no longer, and says what it waited for."""
    rows = walk(
        walker(standard, 1, at=NOW + HOUR), walker(standard, 2, at=NOW), days=5, by=brakes(a_pass=1, a_day=1)
    )
    finals = [
        (row.account_id, row.at - NOW, row.waiting_for) for row in rows if row.to_stage is Stage.FINAL_NOTICE
    ]

    assert finals == [(2, 72 * HOUR, None), (1, 96 * HOUR, "BLAST_RADIUS")]


def test_it_counts_who_was_admitted_in_the_last_day(standard: Policy) -> None:
    """What happened before the forecast takes room from it until it is a day old."""
    at = NOW + 60 * HOUR
    rows = walk(walker(standard), days=5, by=brakes(a_day=1, recent=((at, 9, "standard"),)))

    assert told(rows)[1] == (84 * HOUR, Stage.FINAL_NOTICE, "BLAST_RADIUS")


def test_it_never_ends_where_a_limit_lets_nobody_pass(standard: Policy) -> None:
    """A limit of nobody is a limit: nobody is foreseen to reach larger effects, and the forecast ends."""
    assert told(walk(walker(standard), by=brakes(a_pass=0, a_day=0))) == LADDER[:1]


def test_it_opens_the_windows_for_the_suspension_alone(standard: Policy) -> None:
    """The other stages do not ask; the suspension waits for Monday morning."""
    closed = Windows(zone="UTC", allow=(Window(days=frozenset({0}), from_minute=600, to_minute=660),))
    windowed = replace(standard, windows=closed)
    rows = walk(walker(windowed), days=12, by=brakes(windows={"standard": closed}))

    assert told(rows)[1:] == [
        (72 * HOUR, Stage.FINAL_NOTICE, None),
        (10 * DAY + HOUR, Stage.SUSPENDED, "WINDOW"),
    ]


def test_it_shows_the_earliest_instant_of_what_a_person_holds(standard: Policy) -> None:
    """Paused, everything says so; a site in plan mode holds larger effects alone."""
    paused = replace(walker(standard), held_by="PAUSED")
    planned = replace(walker(standard), held_larger_by="SITE_IN_PLAN")

    assert told(walk(paused)) == [(at, stage, "PAUSED") for at, stage, _ in LADDER]
    codes = [None, "SITE_IN_PLAN", "SITE_IN_PLAN", None, None]
    assert [row.waiting_for for row in walk(planned)] == codes


def test_it_tells_a_fall_that_is_due(standard: Policy) -> None:
    """Somebody who stands higher than anything supports falls first."""
    episode = EpisodeFact(started_at=NOW - DAY, admitted=Stage.SUSPENDED, admitted_at=NOW - DAY)
    first = walk(walker(standard, episode=episode, at=NOW - DAY), days=1)[0]

    assert (first.from_stage, first.to_stage, first.at) == (Stage.SUSPENDED, Stage.PAST_DUE, NOW)


def test_it_walks_an_uncovered_server_alone(standard: Policy) -> None:
    """Up to `RETAINED`, beside its account."""
    facts = CoverageFacts(server_id=7, ended_at=NOW - DAY, seen_at=NOW)
    rows = walk(Walker(account_id=1, server_id=7, policy=standard, facts=facts, servers=1))

    assert told(rows) == LADDER[:-1]
    assert {row.server_id for row in rows} == {7}


def crowd(policy: Policy, number: int, **more: Any) -> list[Walker]:
    """Return so many accounts that become overdue at the same instant."""
    return [replace(walker(policy, key), **more) for key in range(1, number + 1)]


def waits(rows: list[Ahead], stage: Stage) -> list[tuple[timedelta, str | None]]:
    """Return after how long a stage is reached, by whom, and what it waited for."""
    return [(row.at - NOW, row.waiting_for) for row in rows if row.to_stage is stage]


def test_it_foresees_the_breaker(standard: Policy) -> None:
    """Seven eligible at once where six are believed: everybody's larger effects wait for persons from then on."""
    rows = walk(*crowd(standard, 7), by=brakes(2), days=40)

    assert {code for _, code in waits(rows, Stage.PAST_DUE)} == {None}
    # It takes nothing new: no limit that somebody waited for before the breaker is told of it.
    assert {code for _, code in waits(rows, Stage.RETAINED)} == {None}
    assert waits(rows, Stage.FINAL_NOTICE) == [(72 * HOUR, "BREAKER")] * 7
    assert waits(rows, Stage.SUSPENDED) == [(120 * HOUR, "BREAKER")] * 7
    fewer = walk(*crowd(standard, 6), by=brakes(2), days=8)
    assert "BREAKER" not in {row.waiting_for for row in fewer}


def test_it_believes_as_many_as_come_one_after_the_other(standard: Policy) -> None:
    """What counts as at once is an hour; a policy of its own is counted on its own too."""
    spread = [walker(standard, key, at=NOW + key * 11 * HOUR / 10) for key in range(1, 8)]
    assert {row.waiting_for for row in walk(*spread, by=brakes(2), days=12)} == {None}
    own = replace(standard, name="own")
    tight = brakes(50, policies={"own": brakes(1).fleet})
    assert "BREAKER" in {row.waiting_for for row in walk(*crowd(own, 4), by=tight, days=4)}
    assert "BREAKER" not in {row.waiting_for for row in walk(*crowd(own, 3), by=tight, days=4)}


def test_it_starts_from_the_breaker_as_it_stands(standard: Policy) -> None:
    """Open already, filled already, or seen long ago; whom two persons released it lets pass and counts for nothing."""
    one = walker(standard)
    is_open = walk(one, by=brakes(breaker_open=True), days=4)
    assert waits(is_open, Stage.FINAL_NOTICE) == [(72 * HOUR, "BREAKER")]
    released = brakes(breaker_open=True, released=frozenset({(1, None)}))
    assert waits(walk(one, by=released, days=4), Stage.FINAL_NOTICE) == [(72 * HOUR, None)]

    told_already = replace(
        one, facts=shadow.climbed(shadow.settled(one.facts, standard, NOW)[0], Stage.PAST_DUE, NOW)
    )
    later = NOW + 72 * HOUR
    noted = tuple((later - 30 * HOUR / 60, key, "standard") for key in range(10, 16))
    filled = brakes(2, sudden=noted)
    assert waits(walk(told_already, by=filled, days=4), Stage.FINAL_NOTICE) == [(72 * HOUR, "BREAKER")]
    known = replace(told_already, awaits=Stage.FINAL_NOTICE)
    assert waits(walk(known, by=filled, days=4), Stage.FINAL_NOTICE) == [(72 * HOUR, "BREAKER")]


def test_it_takes_what_a_policy_came_to_do_since_for_larger_effects(standard: Policy) -> None:
    """Whoever stands there already has it done by the next climb alone, which then meets the brakes like any other."""
    rungs = tuple(replace(rung, effects=frozenset({Effect.LOCK_BACKUPS})) for rung in standard.stages)
    same = replace(standard, stages=rungs)
    reached = shadow.climbed(shadow.settled(walker(same).facts, same, NOW)[0], Stage.PAST_DUE, NOW)
    told_of = replace(walker(same), facts=reached)

    def held(granted: frozenset[Effect] | None) -> list[str | None]:
        one = replace(told_of, granted=granted)
        return [row.waiting_for for row in walk(one, by=brakes(breaker_open=True), days=40)]

    assert held(None) == held(frozenset({Effect.LOCK_BACKUPS})) == [None, None, None]
    assert held(frozenset()) == ["BREAKER", None, None]


def some_debtor(dice: random.Random, key: int, policy: Policy) -> Walker:
    """Return an account somewhere on the ladder, with the seconds that passes and mails really take."""

    def soon(most: int = 90) -> timedelta:
        return timedelta(milliseconds=dice.randrange(most * 1000))

    first = NOW + dice.choice([-40, -9, -5, -4, -3, -1, 0, 2, 9]) * DAY + dice.choice([0, 5]) * HOUR
    dues = [first + number * dice.choice([1, 9, 30]) * DAY for number in range(dice.choice([1, 1, 2, 3]))]
    invoices = tuple(
        InvoiceFact(
            id=10 * key + number,
            currency=dice.choice(["EUR"] * 9 + ["USD"]),
            amount_due=dice.choice([60, 500, 900]),
            overdue_at=due,
            counts_from=due + soon() if due + DAY / 24 <= NOW else due if due <= NOW else None,
        )
        for number, due in enumerate(dues)
    )
    facts = AccountFacts(account_id=key, currency="EUR", invoices=invoices, has_address=dice.random() < 0.95)
    if first >= NOW or dice.random() < 0.1:
        return Walker(account_id=key, policy=policy, facts=facts, servers=1)
    began = max(one.counts_from for one in invoices[:1] if one.counts_from) + soon()
    reached = [rung.stage for rung in policy.stages if began + rung.after + soon() <= NOW] or [Stage.PAST_DUE]
    notices = []
    for stage in reached[: dice.choice([None, None, 1])]:
        rung = policy.at(stage)
        assert rung is not None
        sent = began + rung.after + soon(5)
        named = frozenset(one.id for one in invoices if one.overdue_at and one.overdue_at <= sent)
        named = frozenset({9999}) if dice.random() < 0.1 else named  # an older debt that was paid meanwhile
        arrived = None if dice.random() < 0.05 else sent + soon()
        notices.append(
            NoticeFact(stage=stage, template="any", sent_at=sent, delivered_at=arrived, invoice_ids=named)
        )
    last = policy.at(reached[-1])
    assert last is not None
    episode = EpisodeFact(started_at=began, admitted=reached[-1], admitted_at=began + last.after)
    known = replace(facts, episode=episode, notices=tuple(notices))
    return Walker(account_id=key, policy=policy, facts=known, servers=1)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_over_changes_nothing(standard: Policy, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgetting it, and asking the ladder once for many, foresees what asking it about each as it is foresees."""
    dice = random.Random(seed)
    walkers = [some_debtor(dice, key, standard) for key in range(1, 60)]
    limits = brakes(dice.choice([1, 4, 50]), dice.choice([5, 50]))
    quickly = walk(*walkers, by=limits)

    monkeypatch.setattr(module, "timeless", lambda facts, _policy, _now: (facts, False))
    monkeypatch.setattr(Looks, "look", Looks._found)
    assert quickly == walk(*walkers, by=limits)
    assert {row.to_stage for row in quickly} >= {Stage.PAST_DUE, Stage.SUSPENDED}
