"""How many persons are enough, and when one is."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.rules.approvals import SecondPerson

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
DAY = timedelta(hours=24)


@pytest.mark.parametrize(
    ("persons", "enough"),
    [([], False), (["anna"], False), (["anna", "anna"], False), (["anna", "ben"], True)],
)
def test_it_takes_two_persons(persons, enough):
    """Two, and not the same one twice; waiting helps nobody where two are required."""
    rule = SecondPerson()

    assert rule.alone_at(NOW) is None
    assert rule.enough(persons, None, NOW) is enough
    assert rule.enough(persons, NOW - DAY, NOW) is enough


@pytest.mark.parametrize(("later", "enough"), [(DAY - timedelta(seconds=1), False), (DAY, True)])
def test_it_lets_one_person_wait_where_that_is_the_rule(later, enough):
    """From the full delay on, and not a second sooner; nobody's vote is never enough."""
    rule = SecondPerson(wait=DAY)
    alone_at = rule.alone_at(NOW)

    assert rule.enough(["anna"], alone_at, NOW + later) is enough
    assert not rule.enough([], alone_at, NOW + later)


def test_it_counts_alone_only_what_was_asked_for_under_that_rule():
    """A request made while two persons were required stays one of two persons."""
    assert not SecondPerson(wait=DAY).enough(["anna"], SecondPerson().alone_at(NOW), NOW + 9 * DAY)
