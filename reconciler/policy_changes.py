"""Ladders that changed since the last pass: whoever walks one that became shorter is warned anew before the next climb.

The only writer of `ladder_in_force`. What counts as shorter is `billing.rules.policy_change`'s word; an account that is
assigned another policy is `billing.accounts`' matter.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tortoise.expressions import F, Q, Subquery
from tortoise.transactions import in_transaction

from billing import audit
from billing.models import Account, Episode
from billing.rules.policy import Policy, StagePolicy
from billing.rules.policy_change import shortens
from billing.rules.terms import Stage
from reconciler.guard_models import LadderInForce

ACTOR = "system:reconciler"
_FALLBACK = "standard"

_Rungs = list[list[Any]]


async def follow(policies: Mapping[str, Policy], now: datetime) -> None:
    """Compare the ladders with those of the last pass; void the notices of everybody whose ladder became shorter.

    Only open episodes are concerned: all notices of a later one are sent under the new ladder. The accounts' facts
    move, so that no climb that was decided on the old warnings is admitted.
    """
    before = {row.name: row.rungs for row in await LadderInForce.all()}
    after = {name: _rungs(policy) for name, policy in policies.items()}
    if before == after:
        return
    async with in_transaction():
        for name in sorted(before.keys() | after.keys()):
            # An account whose policy is gone follows the standard one.
            old, new = before.get(name) or before.get(_FALLBACK), policies.get(name) or policies[_FALLBACK]
            if old is not None and shortens(_policy(name, old), new):
                await _warn_anew(name, known=sorted(before.keys() | after.keys()), now=now)
            if name not in after:
                await LadderInForce.filter(name=name).delete()
            elif before.get(name) != after[name]:
                await LadderInForce.update_or_create({"rungs": after[name], "since": now}, name=name)


async def _warn_anew(name: str, *, known: list[str], now: datetime) -> None:
    walking = Subquery(Episode.filter(ended_at=None).values("account_id"))
    whose = Q(policy=name) | ~Q(policy__in=known) if name == _FALLBACK else Q(policy=name)
    concerned = await Account.filter(whose, id__in=walking).update(
        notices_void_before=now, facts_version=F("facts_version") + 1, next_change_at=now
    )
    await audit.record(
        "policy.shortened",
        ("Policy", name),
        at=now,
        actor=ACTOR,
        reason="a stage comes sooner or upon a shorter warning: the notices so far open no stage any more",
        after={"accounts": concerned},
    )


def _rungs(policy: Policy) -> _Rungs:
    return [
        [str(rung.stage), rung.after.total_seconds(), rung.min_notice.total_seconds()]
        for rung in policy.stages
    ]


def _policy(name: str, rungs: _Rungs) -> Policy:
    """Return the ladder that was written down, with nothing but what a comparison looks at."""
    return Policy(
        name=name,
        stages=tuple(
            StagePolicy(
                stage=Stage(stage),
                after=timedelta(seconds=after),
                min_notice=timedelta(seconds=min_notice),
                notice="",
            )
            for stage, after, min_notice in rungs
        ),
    )
