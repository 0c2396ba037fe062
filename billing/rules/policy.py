"""The published ladder as a value.

Owns shapes and defaults of a policy; reading and refusing files is `billing.policy_files`' work. Durations are exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from billing.rules.terms import Effect, Stage


@dataclass(frozen=True, kw_only=True)
class StagePolicy:
    """One rung: when it is reached and what it does."""

    stage: Stage
    #: Age of the anchor at which the stage is supported.
    after: timedelta
    #: How long a notice of the present or a later stage must have been delivered before climbing to this stage.
    min_notice: timedelta = timedelta(0)
    effects: frozenset[Effect] = frozenset()
    notice: str
    #: How often the stage's notice is repeated; null: never.
    remind_every: timedelta | None = None
    approve_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A count and a share; the larger of the two applies."""

    count: int
    percent: int

    def of(self, total: int) -> int:
        """Return how many of `total` the limit allows: the larger of the count and the share, rounded down."""
        return max(self.count, total * self.percent // 100)


@dataclass(frozen=True, kw_only=True)
class GuardPolicy:
    """How many accounts may newly reach larger effects."""

    max_new_per_pass: Limit = Limit(count=5, percent=5)
    max_new_per_day: Limit = Limit(count=30, percent=20)
    breaker_factor: int = 3


@dataclass(frozen=True, kw_only=True)
class SelfServiceExtension:
    """How far a customer may promise to pay later, and how often."""

    up_to: timedelta
    once_per: timedelta


@dataclass(frozen=True, kw_only=True)
class BillingPolicy:
    """Terms that concern money rather than stages."""

    payment_term: timedelta = timedelta(days=14)
    charge_while_suspended: bool = False
    partial_from_purses: bool = True
    refund_reopens_debt: bool = False
    grace_after_lost_dispute: timedelta = timedelta(hours=72)
    #: Whether a server whose subscription ended climbs the ladder (`ladder`) or nothing happens (`ignore`).
    subscription_end_climbs: bool = True
    self_service_extension: SelfServiceExtension | None = None


@dataclass(frozen=True, kw_only=True)
class Window:
    """A span within one day of the week in which accounts may be admitted to `SUSPENDED`; days 0 (Monday) to 6."""

    days: frozenset[int]
    from_minute: int
    to_minute: int


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The only times in which an account may be admitted to `SUSPENDED`."""

    #: An IANA name, or null for the account's own zone.
    zone: str | None
    allow: tuple[Window, ...]
    holidays: frozenset[date] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A whole policy. `stages` holds the present stages in order, without `CURRENT`."""

    name: str
    tolerance: Mapping[str, int] = field(default_factory=dict)
    before_due: timedelta | None = timedelta(days=3)
    before_card_expiry: timedelta | None = timedelta(days=15)
    before_runway_end: timedelta | None = timedelta(days=30)
    #: The notice of one stage is sent anew at most this often.
    repeat_every: timedelta = timedelta(days=1)
    stages: tuple[StagePolicy, ...]
    guard: GuardPolicy = GuardPolicy()
    billing: BillingPolicy = BillingPolicy()
    windows: Windows | None = None

    def at(self, stage: Stage) -> StagePolicy | None:
        """Return the rung of this stage, or of the nearest present one below it; null at `CURRENT`."""
        reached = [rung for rung in self.stages if rung.stage.rank <= stage.rank]
        return reached[-1] if reached else None

    def above(self, stage: Stage) -> StagePolicy | None:
        """Return the next present rung above this stage; null at the top."""
        return next((rung for rung in self.stages if rung.stage.rank > stage.rank), None)

    def effects_at(self, stage: Stage) -> frozenset[Effect]:
        """Return what the stage does; nothing at `CURRENT`."""
        rung = self.at(stage)
        return rung.effects if rung else frozenset()

    def earliest(
        self, stage: Stage, *, standing: Stage = Stage.CURRENT, age: timedelta = timedelta(0)
    ) -> timedelta:
        """Return the age at which a debt comes to a higher stage at the earliest, every notice delivered at once.

        It stands at `standing` and is of `age` now; by default it only begins.
        """
        for rung in self.stages:
            if standing.rank < rung.stage.rank <= stage.rank:
                age = max(rung.after, age + rung.min_notice)
        return age

    def tolerated(self, currency: str) -> int:
        """Return the debt, in minor units, up to which nobody climbs; 0 for a currency that is not named."""
        return self.tolerance.get(currency, 0)
