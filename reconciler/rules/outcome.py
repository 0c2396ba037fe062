"""What a target's reports amount to, and what becomes of its step.

Owns the five outcomes and the two decisions made from them. Knows nothing of Ansible: an exit code or a
"changed" of a task is never an argument here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How an action ended for one target; whatever was not read back is `UNKNOWN`."""

    CHANGED = "CHANGED"
    UNCHANGED = "UNCHANGED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    REFUSED = "REFUSED"


class Retry(StrEnum):
    """Whether trying again could help: `LATER` (locked, node down), `NEVER` (forbidden, gone)."""

    LATER = "LATER"
    NEVER = "NEVER"


class StepFate(StrEnum):
    """What becomes of a step after its run."""

    DONE = "DONE"
    PLAN_AGAIN = "PLAN_AGAIN"  # with back-off
    FAILED = "FAILED"  # and a work item for a person
    OBSERVE_FIRST = "OBSERVE_FIRST"  # unknown until read from the platform


@dataclass(frozen=True, kw_only=True)
class TargetReport:
    """What a run said about one target.

    `before` and `after` were read from the platform by the play, after the act. `flags` lists what was odd
    about the report itself, for the run's record.
    """

    id: str
    outcome: Outcome
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    message: str = ""
    retry: Retry | None = None
    flags: tuple[str, ...] = field(default=())


def fold(target: str, reports: Sequence[TargetReport]) -> TargetReport:
    """Return the one report that counts for `target`.

    Exactly one report counts as it stands. None at all is unknown, and so are two or more, even when they
    agree: a play that reports twice has acted twice, or has lost track of what it did.
    """
    if len(reports) == 1:
        return reports[0]
    if not reports:
        return TargetReport(id=target, outcome=Outcome.UNKNOWN, message="the run sent no report")
    said = ", ".join(report.outcome.value for report in reports)
    return TargetReport(
        id=target,
        outcome=Outcome.UNKNOWN,
        message=f"the run reported {len(reports)} times ({said})",
        flags=("reported more than once",),
    )


def step_fate(outcome: Outcome, retry: Retry | None) -> StepFate:
    """Return what becomes of the step whose target ended with `outcome`.

    A refusal or failure is tried again only when the platform said that later may help; without that word a
    person looks at it.
    """
    match outcome:
        case Outcome.CHANGED | Outcome.UNCHANGED:
            return StepFate.DONE
        case Outcome.UNKNOWN:
            return StepFate.OBSERVE_FIRST
        case Outcome.REFUSED | Outcome.FAILED:
            return StepFate.PLAN_AGAIN if retry is Retry.LATER else StepFate.FAILED
