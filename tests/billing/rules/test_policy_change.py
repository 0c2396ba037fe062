"""Which changes of policy count as shortening it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.rules.policy import Policy
from billing.rules.policy_change import shortens
from billing.rules.terms import Stage

HOUR = timedelta(hours=1)


def changed(policy: Policy, stage: Stage, **how: timedelta) -> Policy:
    """Return the policy with one stage's lengths moved by these differences."""
    return replace(
        policy,
        stages=tuple(
            replace(rung, **{name: getattr(rung, name) + by for name, by in how.items()})
            if rung.stage is stage
            else rung
            for rung in policy.stages
        ),
    )


def without(policy: Policy, *stages: Stage) -> Policy:
    """Return the policy without some stages."""
    return replace(policy, stages=tuple(rung for rung in policy.stages if rung.stage not in stages))


@pytest.mark.parametrize(
    "stage", [Stage.FINAL_NOTICE, Stage.SUSPENDED, Stage.RETAINED, Stage.DECOMMISSION_REVIEW]
)
@pytest.mark.parametrize("name", ["after", "min_notice"])
def test_it_is_shortened_by_any_length_of_any_stage(standard: Policy, stage: Stage, name: str) -> None:
    """One hour less anywhere asks for a fresh notice; one hour more, or nothing, does not."""
    assert shortens(standard, changed(standard, stage, **{name: -HOUR}))
    assert not shortens(standard, changed(standard, stage, **{name: HOUR}))
    assert not shortens(standard, standard)


def test_it_is_shortened_by_a_stage_that_was_not_there(standard: Policy) -> None:
    """A new last stage, and a new step before a later one, both come sooner than before."""
    assert shortens(without(standard, Stage.DECOMMISSION_REVIEW), standard)
    assert shortens(without(standard, Stage.FINAL_NOTICE), standard)


def test_it_is_not_shortened_by_a_stage_that_goes(standard: Policy) -> None:
    """What is no longer done comes later than it did."""
    assert not shortens(standard, without(standard, Stage.RETAINED, Stage.DECOMMISSION_REVIEW))


def test_it_is_shortened_from_considerate_to_standard_only(standard: Policy, considerate: Policy) -> None:
    """The considerate policy is the longer one in every stage."""
    assert shortens(considerate, standard)
    assert not shortens(standard, considerate)
