"""A forecast walks everybody ahead by the rules of the passes to come."""

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
from billing.rules.terms import OverrideKind, Stage
from reconciler.rules.forecast import Ahead, Brakes, Walker, forecast
from reconciler.rules.guard import Limits

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
