"""Simulated time."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.clock import ManualClock
from simulators.proxmox.timeline import Timeline

START = datetime(2026, 11, 20, tzinfo=UTC)


def _timeline(
    clock: ManualClock, *, scale: float = 1.0, broadcasts: list[datetime] | None = None
) -> Timeline:
    told = broadcasts if broadcasts is not None else []
    return Timeline(clock, time_scale=scale, broadcast_seconds=10, publish=told.append)


def test_events_happen_in_order_at_their_own_instants_however_late_one_looks() -> None:
    """What an event starts may be due as well, and happens in between."""
    clock = ManualClock(START)
    timeline = _timeline(clock)
    seen: list[tuple[str, float]] = []

    def note(name: str) -> None:
        seen.append((name, (timeline.now - START).total_seconds()))

    def first() -> None:
        note("first")
        timeline.after(2, lambda: note("second"))

    timeline.after(5, lambda: note("third"))
    timeline.after(1, first)
    clock.advance(timedelta(seconds=60))
    timeline.settle()
    assert seen == [("first", 1), ("second", 3), ("third", 5)]
    assert timeline.now == START + timedelta(seconds=60)


def test_a_scale_shortens_every_duration() -> None:
    """0.1: a minute takes six seconds of the clock."""
    clock, seen = ManualClock(START), []
    timeline = _timeline(clock, scale=0.1)
    timeline.after(60, lambda: seen.append(timeline.now))
    clock.advance(timedelta(seconds=5.9))
    timeline.settle()
    assert seen == []
    clock.advance(timedelta(seconds=0.1))
    timeline.settle()
    assert seen == [START + timedelta(seconds=6)]


def test_time_can_be_skipped_and_looking_inside_an_event_stays_at_its_instant() -> None:
    """An event that looks at the cluster does not run ahead of itself."""
    timeline, seen = _timeline(ManualClock(START)), []
    timeline.after(1, lambda: seen.append(timeline.settle()))
    timeline.skip(30)
    assert seen == [START + timedelta(seconds=1)]
    assert timeline.now == START + timedelta(seconds=30)
    with pytest.raises(ValueError, match="forward"):
        timeline.skip(-1)


def test_broadcasts_carry_the_state_of_their_boundary_and_not_of_the_look() -> None:
    """An event just before a boundary is in it, one just after is not."""
    told: list[datetime] = []
    timeline = _timeline(ManualClock(START), broadcasts=told)
    order: list[object] = []
    timeline.after(9, lambda: order.append(len(told)))
    timeline.after(11, lambda: order.append(len(told)))
    timeline.skip(35)
    assert order == [0, 1]
    assert [(at - START).total_seconds() for at in told] == [10, 30]


def test_a_clock_that_goes_back_does_not_undo_anything() -> None:
    """The cluster's time never runs backwards."""

    class Jumping:
        instant = START

        def now(self) -> datetime:
            return self.instant

    clock = Jumping()
    timeline = Timeline(clock, time_scale=1, broadcast_seconds=10, publish=lambda _at: None)
    clock.instant = START - timedelta(hours=1)
    assert timeline.settle() == START


def test_a_scale_of_nothing_is_refused() -> None:
    """Everything at once would be no simulation."""
    with pytest.raises(ValueError, match="time_scale"):
        _timeline(ManualClock(START), scale=0)
