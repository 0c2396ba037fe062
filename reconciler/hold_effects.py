"""What a hold does, as effects, and which holds are in force.

Reads nothing itself; shared by everything that looks at holds.
"""

from datetime import datetime

from tortoise.expressions import Q

from billing.rules.terms import Effect
from reconciler.models import Hold


def effects_of(hold: Hold) -> frozenset[Effect]:
    """Return what a hold does."""
    effects = {
        Effect.STOP_SERVERS: hold.stops_server,
        Effect.LOCK_BACKUPS: hold.locks_backups,
        Effect.LOCK_ACCOUNT: hold.locks_account,
    }
    return frozenset(effect for effect, held in effects.items() if held)


def in_force(now: datetime) -> Q:
    """Return the condition that a hold is neither lifted nor expired at `now`."""
    return Q(lifted_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=now))
