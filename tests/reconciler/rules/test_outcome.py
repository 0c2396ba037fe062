"""What a target's reports amount to, and what becomes of its step."""

import pytest

from reconciler.rules.outcome import Outcome, Retry, StepFate, TargetReport, fold, step_fate


def report(outcome: Outcome) -> TargetReport:
    return TargetReport(id="srv-1", outcome=outcome, after={"power": "stopped"})


@pytest.mark.parametrize("outcome", list(Outcome))
def test_it_takes_a_single_report_as_it_stands(outcome: Outcome) -> None:
    """One report is what the target did, whatever it says."""
    assert fold("srv-1", [report(outcome)]) == report(outcome)


def test_it_takes_silence_for_unknown() -> None:
    """A target without a report was not read back."""
    silent = fold("srv-1", [])
    assert (silent.id, silent.outcome, silent.after) == ("srv-1", Outcome.UNKNOWN, None)


@pytest.mark.parametrize("second", list(Outcome))
def test_it_believes_neither_of_two_reports(second: Outcome) -> None:
    """Two reports are unknown and flagged even when they agree."""
    folded = fold("srv-1", [report(Outcome.CHANGED), report(second)])
    assert folded.outcome is Outcome.UNKNOWN
    assert folded.flags
    assert folded.after is None


@pytest.mark.parametrize(
    ("outcome", "retry", "fate"),
    [
        (Outcome.CHANGED, None, StepFate.DONE),
        (Outcome.CHANGED, Retry.LATER, StepFate.DONE),
        (Outcome.UNCHANGED, None, StepFate.DONE),
        (Outcome.UNCHANGED, Retry.NEVER, StepFate.DONE),
        (Outcome.REFUSED, Retry.LATER, StepFate.PLAN_AGAIN),
        (Outcome.FAILED, Retry.LATER, StepFate.PLAN_AGAIN),
        (Outcome.REFUSED, Retry.NEVER, StepFate.FAILED),
        (Outcome.REFUSED, None, StepFate.FAILED),
        (Outcome.FAILED, Retry.NEVER, StepFate.FAILED),
        (Outcome.FAILED, None, StepFate.FAILED),
        (Outcome.UNKNOWN, None, StepFate.OBSERVE_FIRST),
        (Outcome.UNKNOWN, Retry.LATER, StepFate.OBSERVE_FIRST),
        (Outcome.UNKNOWN, Retry.NEVER, StepFate.OBSERVE_FIRST),
    ],
)
def test_it_decides_what_becomes_of_the_step(outcome: Outcome, retry: Retry | None, fate: StepFate) -> None:
    """Only success is done, only `later` is tried again by itself, and unknown is observed before anything else."""
    assert step_fate(outcome, retry) is fate
