"""What servers' rows mean for what they cost: the rate that is saved with a server, and whether its hours run.

Reads servers and holds and tells `billing.usage`, which writes; works inside the caller's transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from billing import usage
from billing.rules.terms import HoldCause
from reconciler.models import Hold, Observation, Server
from reconciler.rules.terms import Deployment

#: What a server's rate follows from.
_DECIDING = frozenset({"account_id", "sku", "deployed_at", "free", "stripe_subscription_id"})


async def priced(server: Server, told: Mapping[str, Any], *, at: datetime) -> dict[str, Any]:
    """Return what was told of a server with the rate that follows from it, on a registration and on every change.

    The rate is the price of the day of the deployment, or of the last change of size after it, in the account's
    currency; 0 while the server is not deployed, free, or covered by a subscription. Later prices change nothing.
    """
    if _DECIDING.isdisjoint(told):
        return dict(told)
    after = {name: told.get(name, getattr(server, name)) for name in _DECIDING}
    resized = {"resized_at": at} if "sku" in told and server.deployed_at is not None else {}
    priced_at = resized.get("resized_at") or server.resized_at or after["deployed_at"]
    metered = priced_at is not None and not after["free"] and after["stripe_subscription_id"] is None
    rate = await usage.rate_to_save(after["account_id"], after["sku"], at=priced_at) if metered else 0
    return {**told, **resized, **({} if rate == server.rate else {"rate": rate})}


async def follow(server_id: int, *, at: datetime, now: datetime) -> None:
    """Let the usage of a server be what its row says from `at` on.

    Under a billing hold that stops it, its hours stay as they are, running or not: the policy decides that when
    holds are settled.
    """
    server = await Server.get(id=server_id)
    held = await _stopped([server_id]) - await usage.running([server_id])
    failed = server.deployment is Deployment.FAILED
    await usage.follow(server, at=at, now=now, failed=failed, held=server_id in held)


async def follow_missing(server: Server, *, now: datetime) -> None:
    """End the usage of a server that has gone missing, at the last sighting of its guest."""
    seen = await Observation.get_or_none(server_id=server.id)
    last = (seen.seen_at if seen else None) or server.deployed_at or now
    await follow(server.id, at=last, now=now)


async def follow_holds(servers: Sequence[Server], *, charged: bool, now: datetime) -> None:
    """Let the hours of an account's servers stop and go on with its billing holds, unless those are `charged`.

    Looks at all of them, not only at what changed, so that whatever was missed is put right here.
    """
    metered = [server for server in servers if server.rate]
    if not metered:
        return
    ids = [server.id for server in metered]
    running = await usage.running(ids)
    stopped = frozenset() if charged else await _stopped(ids)
    for server in metered:
        failed, held = server.deployment is Deployment.FAILED, server.id in stopped
        if (usage.stands_against(server, failed=failed, held=held) is None) != (server.id in running):
            await usage.follow(server, at=now, now=now, failed=failed, held=held)


async def _stopped(server_ids: Sequence[int]) -> frozenset[int]:
    rows = Hold.filter(server_id__in=server_ids, cause=HoldCause.BILLING, stops_server=True, lifted_at=None)
    return frozenset([server_id for (server_id,) in await rows.values_list("server_id")])
