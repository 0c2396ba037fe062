"""What the recorded decisions of staff do to the ladder at an instant.

Owns which override is in force, until when, and when one that held the climb last ended. Who may place one, and for how
long, is decided where it is placed.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from billing.rules.facts import OverrideFact
from billing.rules.terms import OverrideKind

#: Kinds that keep an account from climbing; when the last of them ends, a fresh notice comes first.
HOLDS_THE_CLIMB = frozenset({OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE, OverrideKind.FREEZE})

_ENDS_SUSPEND_NOW = frozenset({OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE})
_NEVER = datetime.max.replace(tzinfo=UTC)


def ends_at(override: OverrideFact) -> datetime | None:
    """Return when it stops holding: its expiry or its revocation, the earlier; null without end."""
    return min((end for end in (override.expires_at, override.revoked_at) if end), default=None)


def is_active(override: OverrideFact, now: datetime) -> bool:
    """Return whether it holds now: from its placing on, up to and without its end."""
    return override.placed_at <= now < (ends_at(override) or _NEVER)


def strongest(overrides: Iterable[OverrideFact], kind: OverrideKind, now: datetime) -> OverrideFact | None:
    """Return the one of this kind that is active now and lasts longest; null when there is none."""
    active = [override for override in overrides if override.kind is kind and is_active(override, now)]
    return max(active, key=lambda override: (ends_at(override) or _NEVER, override.placed_at), default=None)


def climb_held_until(overrides: Iterable[OverrideFact], now: datetime) -> datetime | None:
    """Return when the last override that held the climb ended; null while one holds it, or when none ever did.

    `ALLOW_BACKUPS` and `SUSPEND_NOW` hold no climb, so their end resets nothing.
    """
    holding = [override for override in overrides if override.kind in HOLDS_THE_CLIMB]
    if any(is_active(override, now) for override in holding):
        return None
    ends = [end for override in holding if (end := ends_at(override)) and override.placed_at < end <= now]
    return max(ends, default=None)


def suspend_now(
    overrides: tuple[OverrideFact, ...], episode_start: datetime, now: datetime
) -> OverrideFact | None:
    """Return the `SUSPEND_NOW` in force; null when there is none.

    It belongs to the episode in which it was placed, and an `EXEMPT` or `EXTEND_GRACE` that staff placed since ends it
    for good.
    """
    mercies = [
        override.placed_at
        for override in overrides
        if override.kind in _ENDS_SUSPEND_NOW and not override.by_customer and override.placed_at <= now
    ]
    standing = [
        override
        for override in overrides
        if override.placed_at >= episode_start and not any(mercy >= override.placed_at for mercy in mercies)
    ]
    return strongest(standing, OverrideKind.SUSPEND_NOW, now)


def edges(overrides: Iterable[OverrideFact]) -> Iterator[datetime]:
    """Yield every instant at which one of them begins or ends."""
    for override in overrides:
        yield override.placed_at
        if end := ends_at(override):
            yield end
