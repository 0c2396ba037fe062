"""What did not happen is tried again: restores soon and for ever, restrictions later."""

from datetime import timedelta

import pytest

from reconciler.backoff import Backoff
from reconciler.rules.outcome import StepFate
from reconciler.rules.terms import Lane


@pytest.mark.parametrize(
    ("lane", "fate", "attempt", "seconds"),
    [
        (Lane.RESTORE, StepFate.PLAN_AGAIN, 1, 5),
        (Lane.RESTORE, StepFate.PLAN_AGAIN, 2, 10),
        (Lane.RESTORE, StepFate.FAILED, 1, 5),
        (Lane.RESTORE, StepFate.FAILED, 10_000, 120),
        (Lane.RESTRICT, StepFate.PLAN_AGAIN, 1, 20),
        (Lane.RESTRICT, StepFate.PLAN_AGAIN, 4, 160),
        (Lane.RESTRICT, StepFate.PLAN_AGAIN, 10_000, 900),
        (Lane.RESTRICT, StepFate.FAILED, 1, 6 * 3600),
    ],
)
def test_waits(lane, fate, attempt, seconds):
    """Doubled with each try, up to the most; a restriction that failed waits for a person."""
    assert Backoff().wait(lane, fate, attempt) == timedelta(seconds=seconds)


def test_is_scaled():
    """Compressed time divides every wait."""
    assert Backoff(scale=10).wait(Lane.RESTORE, StepFate.PLAN_AGAIN, 1) == timedelta(seconds=0.5)
