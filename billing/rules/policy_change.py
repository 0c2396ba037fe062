"""What a change of policy means for accounts that are on the ladder already.

Owns the comparison of two policies; voiding notices and telling anybody is done where policies are assigned.
"""

from billing.rules.policy import Policy, StagePolicy
from billing.rules.terms import Stage


def shortens(before: Policy, after: Policy) -> bool:
    """Return whether `after` lets any stage come sooner, or upon a shorter warning, than `before` did.

    Such a change counts like the end of an override: a fresh notice first. A stage that only the new policy has is
    compared with the next harsher one of the old policy; one harsher than all of those is new and therefore sooner.
    """
    return any(_is_sooner(rung, _at_or_above(before, rung.stage)) for rung in after.stages)


def _at_or_above(policy: Policy, stage: Stage) -> StagePolicy | None:
    return next((rung for rung in policy.stages if rung.stage.rank >= stage.rank), None)


def _is_sooner(rung: StagePolicy, old: StagePolicy | None) -> bool:
    return old is None or rung.after < old.after or rung.min_notice < old.min_notice
