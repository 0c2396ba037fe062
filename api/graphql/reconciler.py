"""The health of the reconciler as people and monitors may read it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from tortoise.queryset import QuerySet

from api.graphql.context import Context, Info
from api.graphql.nodes import Mode
from billing.models import EventState, StripeEvent, StripeMirror
from reconciler import modes, waiting
from reconciler.models import ReconcilerState, SiteState


@strawberry.type
class ReconcilerHealth:
    """How the reconciler stands."""

    mode: Mode
    paused: bool
    breaker_open: bool
    breaker_reason: str | None
    safe_mode: bool
    safe_mode_reason: str | None
    last_pass_at: datetime | None
    last_observed_at: datetime | None
    facts_age_seconds: int | None
    oldest_pending_event_seconds: int | None
    oldest_waiting_restore_seconds: int | None
    dead_letters: int


async def health_of(context: Context) -> ReconcilerHealth:
    """Return how the reconciler stands at this instant."""
    state = await ReconcilerState.get_or_none(id=1) or ReconcilerState(id=1)
    mirror = await StripeMirror.all().first()
    observed = await _earliest(SiteState.filter(complete_at__isnull=False), "complete_at")
    pending = await _earliest(StripeEvent.filter(state=EventState.PENDING), "received_at")
    restoring = await waiting.oldest_restore(context.now)
    return ReconcilerHealth(
        mode=await modes.in_force(context.ports.mode),
        paused=state.paused_at is not None,
        breaker_open=state.breaker_open_at is not None,
        breaker_reason=state.breaker_reason,
        safe_mode=state.safe_mode_since is not None,
        safe_mode_reason=state.safe_mode_reason,
        last_pass_at=state.last_pass_at,
        last_observed_at=observed,
        facts_age_seconds=_age(context, mirror.last_full_sweep_at if mirror else None),
        oldest_pending_event_seconds=_age(context, pending),
        oldest_waiting_restore_seconds=_age(context, restoring),
        dead_letters=await StripeEvent.filter(state=EventState.DEAD).count(),
    )


async def _earliest(query: QuerySet[Any], column: str) -> datetime | None:
    rows: list[Any] = await query.order_by(column).limit(1).values_list(column, flat=True)
    return rows[0] if rows else None


def _age(context: Context, instant: datetime | None) -> int | None:
    return max(0, int((context.now - instant).total_seconds())) if instant is not None else None


@strawberry.type
class ReconcilerQueries:
    """The part of the query type that is about the reconciler."""

    @strawberry.field
    async def reconciler(self, info: Info) -> ReconcilerHealth:
        """How the reconciler stands."""
        return await health_of(info.context)
