"""Two forecasts are compared by where everybody stands, not by when rows were written."""

from datetime import UTC, datetime, timedelta
from typing import Any

from billing.rules.terms import Stage
from reconciler.rules.compare import differences
from reconciler.rules.forecast import Ahead

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
PRESENT = {(1, None): (Stage.CURRENT, 3), (2, None): (Stage.SUSPENDED, 1)}


def ahead(days: int, before: Stage, after: Stage, account: int = 1, **more: Any) -> Ahead:
    """Return one change of a stage in so many days."""
    known = {"account_id": account, "server_id": None, "servers": 3, "waiting_for": None}
    return Ahead(at=NOW + timedelta(days=days), from_stage=before, to_stage=after, **(known | more))


def told(today: list[Ahead], tried: list[Ahead]) -> list[tuple[int, int, int | None, Stage, Stage]]:
    """Return account, first and last day, and where today's policy and the one on trial have it."""
    found = differences(today, tried, PRESENT, now=NOW)
    return [
        (
            one.account_id,
            (one.at - NOW).days,
            (one.until - NOW).days if one.until else None,
            one.from_stage,
            one.to_stage,
        )
        for one in found
    ]


LADDER = [
    ahead(0, Stage.CURRENT, Stage.PAST_DUE),
    ahead(3, Stage.PAST_DUE, Stage.FINAL_NOTICE),
    ahead(5, Stage.FINAL_NOTICE, Stage.SUSPENDED),
]


def test_the_same_ladder_differs_in_nothing() -> None:
    """Not even where it waits for something else."""
    waiting = [*LADDER[:2], ahead(5, Stage.FINAL_NOTICE, Stage.SUSPENDED, waiting_for="WINDOW")]
    assert told(LADDER, LADDER) == []
    assert told(LADDER, waiting) == []


def test_a_stage_that_comes_sooner_is_told_once() -> None:
    """From the sooner instant on, until today's policy has caught up."""
    sooner = [LADDER[0], LADDER[1], ahead(4, Stage.FINAL_NOTICE, Stage.SUSPENDED)]
    assert told(LADDER, sooner) == [(1, 4, 5, Stage.FINAL_NOTICE, Stage.SUSPENDED)]


def test_a_stage_that_comes_later_is_told_as_the_milder_one() -> None:
    """From the instant at which today's policy would go on."""
    assert told(LADDER, LADDER[:2]) == [(1, 5, None, Stage.SUSPENDED, Stage.FINAL_NOTICE)]


def test_a_fall_at_once_is_told() -> None:
    """Somebody who stands higher than the policy on trial supports."""
    falls = [ahead(0, Stage.SUSPENDED, Stage.PAST_DUE, account=2)]
    assert told([], falls) == [(2, 0, None, Stage.SUSPENDED, Stage.PAST_DUE)]


def test_a_difference_ends_where_another_one_begins() -> None:
    """Two days of each, then both ladders meet again."""
    slower = [
        LADDER[0],
        ahead(5, Stage.PAST_DUE, Stage.FINAL_NOTICE),
        ahead(7, Stage.FINAL_NOTICE, Stage.SUSPENDED),
    ]
    assert told(LADDER, slower) == [
        (1, 3, 5, Stage.FINAL_NOTICE, Stage.PAST_DUE),
        (1, 5, 7, Stage.SUSPENDED, Stage.FINAL_NOTICE),
    ]
