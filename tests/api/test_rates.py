"""Buckets: how often one caller may ask."""

from datetime import timedelta

from api.models import Role
from api.rates import Allowances, Buckets
from billing.clock import ManualClock


def test_it_grants_a_minutes_allowance_and_then_evenly(clock: ManualClock) -> None:
    """It grants all at once, then one per share of the minute; waiting as told is enough."""
    buckets = Buckets()
    assert [buckets.take("a", 6, clock.now()) for _ in range(6)] == [None] * 6
    for _ in range(3):
        wait = buckets.take("a", 6, clock.now())
        assert wait is not None
        assert timedelta() < wait <= timedelta(seconds=10)
        clock.advance(wait)
        assert buckets.take("a", 6, clock.now()) is None
    clock.advance(timedelta(hours=1))
    assert [buckets.take("a", 6, clock.now()) is None for _ in range(7)] == [True] * 6 + [False]


def test_it_charges_nothing_for_a_refusal(clock: ManualClock) -> None:
    """It tells the same wait however often one asks meanwhile."""
    buckets = Buckets()
    assert buckets.take("a", 1, clock.now()) is None
    waits = {buckets.take("a", 1, clock.now()) for _ in range(50)}
    assert waits == {timedelta(minutes=1)}


def test_it_counts_each_caller_apart(clock: ManualClock) -> None:
    """It refuses one and answers another."""
    buckets = Buckets()
    assert [buckets.take(caller, 1, clock.now()) is None for caller in ("a", "a", "b")] == [True, False, True]


def test_it_survives_a_clock_that_was_set_back(clock: ManualClock) -> None:
    """It neither fills nor empties a bucket for time that ran backwards."""
    buckets = Buckets()
    now = clock.now()
    assert buckets.take("a", 2, now) is None
    assert buckets.take("a", 2, now - timedelta(hours=1)) is None
    assert buckets.take("a", 2, now - timedelta(hours=1)) == timedelta(seconds=30)


def test_it_remembers_no_more_callers_than_it_may(clock: ManualClock) -> None:
    """It forgets whoever asked the longest ago, and keeps who asks often."""
    buckets = Buckets(most_callers=3)
    for stranger in range(100):
        buckets.take("often", 1, clock.now())
        buckets.take(stranger, 1, clock.now())
    assert len(buckets._left) == 3
    assert buckets.take("often", 1, clock.now()) is not None
    assert buckets.take(0, 1, clock.now()) is None


def test_it_allows_the_control_plane_more_than_people() -> None:
    """It gives every other role the allowance of people."""
    given = {role: Allowances(people=6, control=60).of(role) for role in Role}
    assert given == {role: 60 if role is Role.CONTROL else 6 for role in Role}
