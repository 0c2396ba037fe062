"""The table of a policy says what the gates and the announcements say."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.rules.policy import Policy
from billing.rules.policy_table import table
from billing.rules.terms import Stage


def cells(policy: Policy, stage: Stage) -> list[str]:
    """Return the cells of one stage's row."""
    row = next(line for line in table(policy).splitlines() if line.startswith(f"| `{stage}` |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_it_has_a_row_for_each_stage(standard: Policy) -> None:
    """And a head; a stage that a policy lacks has none."""
    assert len(table(standard).splitlines()) == 2 + len(standard.stages)
    shorter = replace(standard, stages=standard.stages[:3])
    assert "RETAINED" not in table(shorter)


@pytest.mark.parametrize(
    ("stage", "closed", "opened"),
    [
        (Stage.PAST_DUE, "new servers, resizing", "starting"),
        (Stage.FINAL_NOTICE, "also reinstalling, backups (making", "starting"),
        (Stage.SUSPENDED, "servers are stopped; also starting", "reading files"),
        (Stage.RETAINED, "as before", "reading files"),
    ],
)
def test_it_tells_what_is_closed_and_what_stays_open(
    standard: Policy, stage: Stage, closed: str, opened: str
) -> None:
    """What a stage adds to the one before it, and everything that is open; paying always is."""
    row = cells(standard, stage)
    assert row[3].startswith(closed)
    assert row[4].startswith("paying, ")
    assert opened in row[4]


def test_it_follows_the_effects(standard: Policy) -> None:
    """A suspension that locks no account leaves more open."""
    rungs = [replace(rung, effects=frozenset()) for rung in standard.stages]
    assert cells(replace(standard, stages=tuple(rungs)), Stage.SUSPENDED)[3] == "as before"


def test_it_tells_lengths_as_people_do(standard: Policy) -> None:
    """Hours up to a week, days from then on, seconds where a ladder is that quick."""
    assert cells(standard, Stage.SUSPENDED)[1].startswith(
        "120 h overdue; the notice before was delivered at least 24 h"
    )
    assert cells(standard, Stage.RETAINED)[1].startswith("30 days overdue")
    quick = replace(standard, stages=(replace(standard.stages[1], after=timedelta(seconds=1.5)),))
    assert cells(quick, Stage.FINAL_NOTICE)[1].startswith("1.5 s overdue")
