"""What the control plane is to be told, queued in the transaction in which it came true.

The only writer of `outgoing_event`. Tells nobody itself: sending is `reconciler.outgoing_delivery`'s. An owner's own
switch is no news, because no gate rests on it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from billing.models import Episode
from billing.rules.terms import Effect, HoldCause, Stage
from reconciler.chunks import chunks
from reconciler.hold_effects import effects_of, in_force
from reconciler.models import Hold, Server
from reconciler.outgoing_models import EventType, OutgoingEvent


async def standing_changed(
    account: str,
    *,
    before: Stage,
    after: Stage,
    effects: Iterable[Effect],
    at: datetime,
    server: str | None = None,
) -> None:
    """Queue that an account, or one of its servers alone, stands at another stage, which has these effects."""
    await OutgoingEvent.create(
        type=EventType.STANDING_CHANGED,
        at=at,
        account=account,
        server=server,
        stage=after,
        effects=sorted(effects),
        gives_back=after.rank < before.rank,
    )


async def holds_changed(server_ids: Collection[int], *, at: datetime, eased: Collection[int] = ()) -> None:
    """Queue what now holds these servers, all causes together: `server.held`, or `server.restored` when nothing does.

    Call it after the change. `eased` are those of them whose holds do less than before. A retired server is nobody's
    business any more.
    """
    for ids in chunks(server_ids):
        servers = await Server.filter(id__in=ids, retired_at=None).select_related("account").order_by("id")
        held = await _effects(ids, at)
        stages = await _stages({server.account_id for server in servers})
        events = []
        for server in servers:
            effects = held.get(server.id, set())
            own = (stages.get((server.account_id, None)), stages.get((server.account_id, server.id)))
            events.append(
                OutgoingEvent(
                    type=EventType.SERVER_HELD if effects else EventType.SERVER_RESTORED,
                    at=at,
                    account=server.account.external_id,
                    server=server.external_id,
                    stage=max(
                        (stage for stage in own if stage), key=lambda one: one.rank, default=Stage.CURRENT
                    ),
                    effects=sorted(effects),
                    gives_back=not effects or server.id in eased,
                )
            )
        await OutgoingEvent.bulk_create(events)


async def _effects(server_ids: Collection[int], now: datetime) -> Mapping[int, set[Effect]]:
    found: dict[int, set[Effect]] = defaultdict(set)
    for hold in await Hold.filter(in_force(now), server_id__in=list(server_ids)).exclude(
        cause=HoldCause.CUSTOMER
    ):
        found[hold.server_id] |= effects_of(hold)
    return found


async def _stages(account_ids: Collection[int]) -> Mapping[tuple[int, int | None], Stage]:
    """Return what the open episodes have admitted, by account and, for an uncovered server, by server."""
    rows = Episode.filter(account_id__in=list(account_ids), ended_at=None)
    return {(row.account_id, row.server_id): row.admitted for row in await rows}
