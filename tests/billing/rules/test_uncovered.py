"""The ladder of one server whose subscription has ended."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.rules.facts import CoverageFacts, EpisodeFact, NoticeFact, OverrideFact
from billing.rules.ladder import eligible_uncovered
from billing.rules.policy import BillingPolicy, Policy
from billing.rules.terms import OverrideKind, Stage

T = datetime(2026, 11, 2, 8, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


def server(admitted: Stage | None = None, **more: object) -> CoverageFacts:
    """Return a server uncovered since `T`; told of everything at `T` once its episode runs."""
    notices = tuple(
        NoticeFact(stage=stage, template="any", sent_at=T, delivered_at=T, server_ids=frozenset({7}))
        for stage in (Stage.PAST_DUE, Stage.FINAL_NOTICE, Stage.SUSPENDED, Stage.RETAINED)
    )
    episode = EpisodeFact(started_at=T, admitted=admitted, admitted_at=T) if admitted else None
    known = {"ended_at": T, "seen_at": T, "episode": episode, "notices": notices}
    return CoverageFacts(server_id=7, **{**known, **more})


@pytest.mark.parametrize(
    ("admitted", "following", "after"),
    [
        (None, Stage.PAST_DUE, timedelta(0)),
        (Stage.PAST_DUE, Stage.FINAL_NOTICE, 72 * HOUR),
        (Stage.FINAL_NOTICE, Stage.SUSPENDED, 120 * HOUR),
        (Stage.SUSPENDED, Stage.RETAINED, 30 * DAY),
    ],
)
@pytest.mark.parametrize("late", [-SECOND, timedelta(0), SECOND])
def test_it_climbs_from_the_end_of_the_period(
    standard: Policy, admitted: Stage | None, following: Stage, after: timedelta, late: timedelta
) -> None:
    """The end of the paid period is its due date."""
    reached = eligible_uncovered(server(admitted), standard, T + after + late)
    assert reached.stage is (following if late >= timedelta(0) else admitted or Stage.CURRENT)
    assert reached.debt is None


@pytest.mark.parametrize("back", [SECOND, 5 * HOUR, 400 * DAY])
def test_it_undoes_nothing_when_the_clock_goes_back(standard: Policy, back: timedelta) -> None:
    """Not even before the end of the period, which a look at the stage has seen already."""
    reached = T + 120 * HOUR
    episode = EpisodeFact(started_at=T, admitted=Stage.SUSPENDED, admitted_at=reached)
    facts = server(episode=episode)
    assert eligible_uncovered(facts, standard, reached - back).stage is Stage.SUSPENDED
    assert eligible_uncovered(replace(facts, free=True), standard, reached - back).stage is Stage.CURRENT


def test_it_ends_at_retained(standard: Policy) -> None:
    """Nobody is asked to decommission a server for a subscription that ended."""
    reached = eligible_uncovered(server(Stage.RETAINED), standard, T + 400 * DAY)
    assert (reached.stage, reached.next, reached.next_change_at) == (Stage.RETAINED, None, None)


def test_it_climbs_only_by_notices_that_name_the_server(standard: Policy) -> None:
    """A notice about another server opens nothing."""
    told = tuple(replace(notice, server_ids=frozenset({8})) for notice in server(Stage.PAST_DUE).notices)
    assert (
        eligible_uncovered(server(Stage.PAST_DUE, notices=told), standard, T + 9 * DAY).stage
        is Stage.PAST_DUE
    )


def test_it_counts_from_when_the_end_was_seen(standard: Policy) -> None:
    """An end that we learned of late starts its waiting late."""
    facts = server(Stage.PAST_DUE, seen_at=T + DAY)
    assert eligible_uncovered(facts, standard, T + 96 * HOUR - SECOND).stage is Stage.PAST_DUE
    assert eligible_uncovered(facts, standard, T + 96 * HOUR).stage is Stage.FINAL_NOTICE


def test_it_leaves_alone_what_is_free_ignored_or_not_over(standard: Policy) -> None:
    """Three ways to be at `CURRENT`, each with its reason and without an episode."""
    ignoring = replace(standard, billing=BillingPolicy(subscription_end_climbs=False))
    now = T + 400 * DAY
    free = eligible_uncovered(server(Stage.RETAINED, free=True), standard, now)
    ignored = eligible_uncovered(server(Stage.RETAINED), ignoring, now)
    alive = eligible_uncovered(server(Stage.RETAINED, ended_at=now + DAY), standard, now)
    assert [(r.stage, r.reason_code, r.in_episode, r.next_change_at) for r in (free, ignored, alive)] == [
        (Stage.CURRENT, "free_server", False, None),
        (Stage.CURRENT, "ends_ignored", False, None),
        (Stage.CURRENT, "covered", False, now + DAY),
    ]


@pytest.mark.parametrize("server_id", [None, 7, 8])
def test_it_obeys_overrides_of_the_account_and_of_itself(standard: Policy, server_id: int | None) -> None:
    """An exemption of the account or of this server frees it, one of another server does not."""
    exempt = OverrideFact(kind=OverrideKind.EXEMPT, server_id=server_id, placed_at=T, expires_at=T + 90 * DAY)
    reached = eligible_uncovered(server(Stage.SUSPENDED, overrides=(exempt,)), standard, T + 10 * DAY)
    assert reached.stage is (Stage.SUSPENDED if server_id == 8 else Stage.CURRENT)


def test_it_is_no_subject_of_suspend_now(standard: Policy) -> None:
    """That is about the account's debt, and stops the account's servers by itself."""
    force = OverrideFact(kind=OverrideKind.SUSPEND_NOW, placed_at=T, expires_at=None)
    reached = eligible_uncovered(server(Stage.PAST_DUE, overrides=(force,)), standard, T + HOUR)
    assert reached.stage is Stage.PAST_DUE
