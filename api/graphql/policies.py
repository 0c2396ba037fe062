"""Policies: the published ladders as everybody may read them."""

from datetime import timedelta

import strawberry

from api.graphql.context import Info
from api.graphql.nodes import Effect, Stage
from billing.rules import policy as rules

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@strawberry.type
class PolicyStage:
    """One rung of a ladder."""

    stage: Stage
    after: timedelta
    min_notice: timedelta | None
    effects: list[Effect]
    remind_every: timedelta | None


@strawberry.type
class Policy:
    """A published ladder."""

    name: str
    stages: list[PolicyStage]
    windows: list[str]

    @classmethod
    def of(cls, policy: rules.Policy) -> "Policy":
        """Return a policy as it goes on the wire."""
        return cls(
            name=policy.name,
            stages=[
                PolicyStage(
                    stage=rung.stage,
                    after=rung.after,
                    min_notice=rung.min_notice or None,
                    effects=in_order(rung.effects),
                    remind_every=rung.remind_every,
                )
                for rung in policy.stages
            ],
            windows=[_span(window) for window in policy.windows.allow] if policy.windows else [],
        )


def in_order(effects: frozenset[Effect]) -> list[Effect]:
    """Return effects in the order of the contract, so that the same answer is the same text."""
    return [effect for effect in Effect if effect in effects]


def policy_named(info: Info, name: str) -> rules.Policy:
    """Return the policy of this name; one that is gone falls back to `standard`, as the reconciler does."""
    policies = info.context.ports.policies()
    return policies.get(name) or policies["standard"]


def _span(window: rules.Window) -> str:
    days = ",".join(_DAYS[day] for day in sorted(window.days))
    return f"{days} {_clock(window.from_minute)}-{_clock(window.to_minute)}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@strawberry.type
class PolicyQueries:
    """The part of the query type that is about policies."""

    @strawberry.field
    def policies(self, info: Info) -> list[Policy]:
        """The policies in force, by name."""
        return [Policy.of(policy) for _, policy in sorted(info.context.ports.policies().items())]
