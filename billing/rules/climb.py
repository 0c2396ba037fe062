"""How anything walks the ladder, whether an account in debt or one uncovered server: staying, and climbing by one.

Pure. Owns the age, the notice and the overrides; what is owed and to whom a stage belongs is decided by its caller.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from billing.rules.facts import NoticeFact, OverrideFact
from billing.rules.overrides import climb_held_until, edges, ends_at, strongest, suspend_now
from billing.rules.policy import Policy
from billing.rules.terms import OverrideKind, Stage

#: The code of the one bar whose end nobody knows beforehand.
DISPUTE = "dispute"


@dataclass(frozen=True, kw_only=True)
class NextStage:
    """The climb that follows if nothing is paid."""

    stage: Stage
    #: The earliest instant at which the account becomes eligible for it; where it waits for a `dispute` alone, the
    #: latest end of that.
    at: datetime
    #: A stable code of what has to happen first beside the passing of time (`notice_delivery`, `address`, `freeze`,
    #: `override`, `dispute`); null when time alone decides.
    waiting_for: str | None = None
    #: Until when, at the latest, a dispute holds it back as well, beside what it waits for.
    disputed_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Climber:
    """What stands on the ladder, with everything that moves it."""

    #: The moment that its age counts from.
    age_from: datetime
    #: Start of its episode; an episode that is not open yet starts now.
    episode_start: datetime
    admitted: Stage
    #: Since when; null: no episode is open. It is never earlier than that, whatever a clock says that was set back.
    admitted_at: datetime | None = None
    #: The notices of its episode that name what it climbs for, delivered or not.
    notices: tuple[NoticeFact, ...]
    notices_void_before: datetime | None
    overrides: tuple[OverrideFact, ...]
    has_address: bool
    #: Until when a dispute keeps it from climbing past `FINAL_NOTICE`; null: not at all.
    shielded_until: datetime | None = None
    #: The highest stage that it can reach.
    top: Stage = Stage.DECOMMISSION_REVIEW


@dataclass(frozen=True, kw_only=True)
class Course:
    """Where something stands and what comes next."""

    stage: Stage
    #: One of the codes of `billing.rules.ladder.REASONS`.
    reason_code: str
    next: NextStage | None
    next_change_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class _Bar:
    """Something beside time that keeps from climbing; `until` null: without end."""

    code: str
    until: datetime | None


def course(climber: Climber, policy: Policy, now: datetime) -> Course:
    """Return the highest stage that facts and time support: at most one above the admitted one.

    The only exception is an active `SUSPEND_NOW`, which supports `SUSPENDED` at once.
    """
    stays, code = _staying(climber, policy, now)
    following = next_climb(climber, policy, stays, now)
    stage = stays
    # A stage that is being left, or that the policy lacks, is written first: nobody falls and climbs in one step.
    if stays is climber.admitted and following and following.waiting_for is None and following.at <= now:
        stage = following.stage
        code = "suspend_now" if _forced(climber, stage, now) else "overdue"
    changes = [instant for instant in _changes(climber, policy, following) if instant > now]
    return Course(stage=stage, reason_code=code, next=following, next_change_at=min(changes, default=None))


def _staying(climber: Climber, policy: Policy, now: datetime) -> tuple[Stage, str]:
    """Return the highest stage up to the admitted one that is still supported, and why it is no higher.

    What supported the stage when it was reached supports it at any earlier instant: a clock that was set back undoes
    nothing. Mercy goes by the clock as it is.
    """
    at = max(now, climber.admitted_at or now)
    if strongest(climber.overrides, OverrideKind.EXEMPT, now):
        return Stage.CURRENT, "exempt"
    extended = strongest(climber.overrides, OverrideKind.EXTEND_GRACE, now) is not None
    named = any(_delivered(notice, at) for notice in climber.notices)
    frozen = strongest(climber.overrides, OverrideKind.FREEZE, now) is not None
    ceiling = min(
        climber.admitted.rank, climber.top.rank, Stage.PAST_DUE.rank if extended else climber.top.rank
    )
    for rung in reversed(policy.stages):
        if rung.stage.rank > ceiling:
            continue
        if _forced(climber, rung.stage, at):
            return rung.stage, "suspend_now"
        aged = at - climber.age_from >= rung.after
        if aged and (named or rung.stage is Stage.PAST_DUE):
            unnamed = not named and climber.admitted.rank > Stage.PAST_DUE.rank
            usual = "not_named" if unnamed else "overdue"
            return rung.stage, "extended_grace" if extended else "frozen" if frozen else usual
    return Stage.CURRENT, "frozen" if frozen else "not_yet"


def _forced(climber: Climber, stage: Stage, now: datetime) -> bool:
    """Return whether an active `SUSPEND_NOW` supports this stage, whatever its age and notices."""
    force = suspend_now(climber.overrides, climber.episode_start, now)
    return force is not None and stage.rank <= Stage.SUSPENDED.rank


def next_climb(climber: Climber, policy: Policy, base: Stage, now: datetime) -> NextStage | None:
    """Return the climb from `base` that follows; null at the top, and where something without end forbids it."""
    force = suspend_now(climber.overrides, climber.episode_start, now)
    if force and base.rank < Stage.SUSPENDED.rank and not _bars(climber, Stage.SUSPENDED, now, forced=True):
        return NextStage(stage=Stage.SUSPENDED, at=force.placed_at)
    rung = policy.above(base)
    if rung is None or rung.stage.rank > climber.top.rank:
        return None
    bars = _bars(climber, rung.stage, now)
    at = climber.age_from + rung.after
    # A dispute may be over any day: beside something else that bars the way, its latest end is not the earliest day.
    for bar in [bar for bar in bars if bar.code != DISPUTE] or bars:
        if bar.until is None:
            return None
        at = max(at, bar.until)
    if rung.stage is not Stage.PAST_DUE:
        at = max(at, _told_at(climber, base, now, bars) + rung.min_notice)
        if not bars and not _opening(climber, base, now):
            return NextStage(stage=rung.stage, at=at, waiting_for="notice_delivery")
    return NextStage(
        stage=rung.stage,
        at=at,
        waiting_for=bars[0].code if bars else None,
        disputed_until=next((bar.until for bar in bars[1:] if bar.code == DISPUTE), None),
    )


def _bars(climber: Climber, stage: Stage, now: datetime, *, forced: bool = False) -> list[_Bar]:
    """Return what forbids climbing to this stage now, the strongest first."""
    bars = []
    for kind, code in (
        (OverrideKind.EXEMPT, "override"),
        (OverrideKind.EXTEND_GRACE, "override"),
        (OverrideKind.FREEZE, "freeze"),
    ):
        override = strongest(climber.overrides, kind, now)
        if override and not (kind is OverrideKind.EXTEND_GRACE and stage is Stage.PAST_DUE):
            bars.append(_Bar(code=code, until=ends_at(override)))
    if not climber.has_address and stage is not Stage.PAST_DUE:
        bars.append(_Bar(code="address", until=now))
    if climber.shielded_until and stage.rank > Stage.FINAL_NOTICE.rank and not forced:
        bars.append(_Bar(code=DISPUTE, until=climber.shielded_until))
    return bars


def _opening(climber: Climber, base: Stage, now: datetime) -> list[datetime]:
    """Return when the notices were delivered that open the way up from `base`, once they have been for long enough."""
    fresh_from = max(
        climber.episode_start,
        climb_held_until(climber.overrides, now) or climber.episode_start,
        climber.notices_void_before or climber.episode_start,
    )
    return [
        notice.delivered_at
        for notice in climber.notices
        if notice.delivered_at
        and notice.stage
        and notice.stage.rank >= base.rank
        and notice.sent_at >= fresh_from
    ]


def _told_at(climber: Climber, base: Stage, now: datetime, bars: list[_Bar]) -> datetime:
    """Return when the opening notice was delivered, or the earliest instant at which one can be."""
    held = [bar.until for bar in bars if bar.code in ("override", "freeze") and bar.until]
    if held:
        return max(held)
    return min(_opening(climber, base, now), default=now)


def _delivered(notice: NoticeFact, now: datetime) -> bool:
    return notice.delivered_at is not None and notice.delivered_at <= now


def _changes(climber: Climber, policy: Policy, following: NextStage | None) -> Iterator[datetime]:
    """Yield the instants at which the course may be another one without a new fact."""
    yield from edges(climber.overrides)
    for notice in climber.notices:
        if notice.delivered_at:
            yield notice.delivered_at
    for rung in policy.stages:
        if rung.stage.rank <= climber.admitted.rank:
            yield climber.age_from + rung.after
    if following and following.waiting_for is None:
        yield following.at
    if climber.shielded_until:
        yield climber.shielded_until
