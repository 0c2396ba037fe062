"""Policies that changed since the last pass: whoever walks one that became shorter is warned anew first.

The only writer of `ladder_in_force`. What counts as shorter is `billing.rules.policy_change`'s word; an account that is
assigned another policy is `billing.accounts`' matter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any

from tortoise.expressions import F, Q, Subquery
from tortoise.queryset import QuerySet
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
_Says = dict[str, str]


async def follow(policies: Mapping[str, Policy], now: datetime) -> bool:
    """Compare the policies with those of the last pass; return whether any changed.

    Everybody who walks a changed ladder is looked at anew; where it became shorter the notices so far are void, and the
    accounts' facts move, so that no climb that was decided on the old warnings is admitted. Only open episodes are
    concerned: all notices of a later one are sent under the new ladder.
    """
    before = {row.name: row for row in await LadderInForce.all()}
    after = {name: dict(_said(policy)) for name, policy in policies.items()}
    if {name: row.says for name, row in before.items()} == after:
        return False
    known = sorted(before.keys() | after.keys())
    async with in_transaction():
        for name in known:
            # An account whose policy is gone follows the standard one.
            old, new = before.get(name) or before.get(_FALLBACK), policies.get(name) or policies[_FALLBACK]
            if old is not None and old.says != dict(_said(new)):
                await _look_anew(name, known=known, now=now)
            if old is not None and shortens(_policy(name, old.rungs), new):
                await _warn_anew(name, known=known, now=now)
            if before and (name not in before or name not in after or before[name].says != after[name]):
                await _record(name, before[name].says if name in before else None, after.get(name), now)
            if name not in after:
                await LadderInForce.filter(name=name).delete()
            elif name not in before or before[name].says != after[name]:
                values = {"rungs": _rungs(policies[name]), "says": after[name], "since": now}
                await LadderInForce.update_or_create(values, name=name)
    return bool(before)


def _walking(name: str, known: list[str]) -> QuerySet[Account]:
    """Return the accounts with an open episode whose ladder this is."""
    walking = Subquery(Episode.filter(ended_at=None).values("account_id"))
    whose = Q(policy=name) | ~Q(policy__in=known) if name == _FALLBACK else Q(policy=name)
    return Account.filter(whose, id__in=walking)


async def _look_anew(name: str, *, known: list[str], now: datetime) -> None:
    """Let a change that is kinder come to whom it concerns at once and not at their next turn."""
    await _walking(name, known).update(next_change_at=now)


async def _record(name: str, before: _Says | None, after: _Says | None, now: datetime) -> None:
    """Write down what the file says otherwise than before, and nothing of what it says as before."""
    kind = "policy.added" if before is None else "policy.removed" if after is None else "policy.changed"
    old, new = before or {}, after or {}
    differing = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    await audit.record(
        kind,
        ("Policy", name),
        at=now,
        actor=ACTOR,
        reason="the policy file was changed",
        before={key: old[key] for key in sorted(differing & old.keys())},
        after={key: new[key] for key in sorted(differing & new.keys())},
    )


async def _warn_anew(name: str, *, known: list[str], now: datetime) -> None:
    concerned = await _walking(name, known).update(
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


def _said(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield everything that a policy says by its dotted key, as texts that are the same in every process."""
    if isinstance(value, StagePolicy):
        key = f"stages.{value.stage.lower()}"
    if is_dataclass(value):
        for one in fields(value):
            if one.name not in ("name", "stage"):
                yield from _said(getattr(value, one.name), f"{key}.{one.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for name in value:
            yield from _said(value[name], f"{key}.{name}")
    elif isinstance(value, tuple):
        for place, one in enumerate(value):
            yield from _said(one, f"{key}.{place}")
    elif isinstance(value, frozenset):
        yield key, ", ".join(sorted(map(str, value)))
    else:
        yield key, str(value)


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
