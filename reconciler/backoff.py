"""How long a change that did not happen waits before it is tried again.

Pure. Restores wait little and never give up; restrictions wait longer, and after a plain failure for a person.
"""

from dataclasses import dataclass
from datetime import timedelta

from reconciler.rules.outcome import StepFate
from reconciler.rules.terms import Lane


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """The spans of one installation; `scale` divides them all (the demo runs in seconds what takes minutes)."""

    scale: float = 1.0
    restore_first: timedelta = timedelta(seconds=5)
    restore_most: timedelta = timedelta(minutes=2)
    restrict_first: timedelta = timedelta(seconds=20)
    restrict_most: timedelta = timedelta(minutes=15)
    #: A restriction that failed for good is not repeated before a person had the time to look.
    after_failure: timedelta = timedelta(hours=6)

    def wait(self, lane: Lane, fate: StepFate, attempt: int) -> timedelta:
        """Return the wait after the `attempt`-th try in a row (from 1), doubled with each up to the most."""
        restores = lane is Lane.RESTORE
        if fate is StepFate.FAILED and not restores:
            return self.after_failure / self.scale
        first, most = (
            (self.restore_first, self.restore_most) if restores else (self.restrict_first, self.restrict_most)
        )
        doubled: timedelta = first * 2 ** min(attempt - 1, 10)
        return min(doubled, most) / self.scale
