"""Holds of every cause but money: the owner's switch, and what staff holds for abuse, maintenance or otherwise.

The only writer of these holds; billing's are the standing's. One transaction each with its audit row. Acting on a hold
is the loop's work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tortoise.exceptions import IntegrityError
from tortoise.expressions import F, Q
from tortoise.transactions import in_transaction

from billing.accounts import look_at, note_fact
from billing.audit import record
from billing.models import Override
from billing.refusal import Problem, RefusalCode, RefusalError, refusal, required_reason
from billing.rules.gates import Gate, GateHold, GateQuestion, gate
from billing.rules.terms import GateAction, HoldCause, OverrideKind
from billing.rules.words import phrase
from reconciler import outgoing
from reconciler.hold_effects import effects_of, in_force
from reconciler.models import Hold, RestorePart, Server
from reconciler.rules.terms import Deployment, Power
from reconciler.servers import live_server

#: What people hold by hand.
BY_HAND = frozenset({HoldCause.ABUSE, HoldCause.MAINTENANCE, HoldCause.ADMIN})
EXPIRED = "system:expiry"


@dataclass(frozen=True, kw_only=True)
class HoldPlacement:
    """The restriction that is asked for. `expires_at` null: until somebody lifts it."""

    server_id: int
    cause: HoldCause
    stops_server: bool
    locks_backups: bool
    reason: str
    expires_at: datetime | None = None


async def place(asked: HoldPlacement, *, actor: str, now: datetime) -> Server:
    """Hold a server for a cause that is not money; the same hold again changes nothing.

    Refuses a hold without an effect, an end in the past, and a second hold of a cause that holds it otherwise already.
    """
    reason = required_reason(asked.reason)
    if asked.cause not in BY_HAND:
        raise refusal(RefusalCode.INVALID, f"{asked.cause} holds are not placed by hand", "cause")
    if not (asked.stops_server or asked.locks_backups):
        raise refusal(RefusalCode.INVALID, "say what it does: STOP_SERVERS, LOCK_BACKUPS or both", "effects")
    if asked.expires_at is not None and asked.expires_at <= now:
        raise refusal(RefusalCode.EXPIRY_IN_PAST, "give an instant in the future", "expiresAt")
    try:
        async with in_transaction():
            server = await live_server(asked.server_id)
            standing = await _in_force(server.id, asked.cause, now)
            if standing is None:
                await _place(server, asked, reason=reason, actor=actor, now=now)
            elif not _same(standing, asked):
                raise _held_otherwise(asked.cause)
    except IntegrityError:  # the index that lets a cause hold a server once
        raise _held_otherwise(asked.cause) from None
    return await Server.get(id=asked.server_id)


async def lift(server_id: int, cause: HoldCause, *, reason: str, actor: str, now: datetime) -> Server:
    """End a hold of this cause; what other causes hold stays held. Refused when there is none."""
    told = required_reason(reason)
    if cause not in BY_HAND:
        raise refusal(RefusalCode.INVALID, f"{cause} holds are not lifted by hand", "cause")
    async with in_transaction():
        server = await live_server(server_id)
        if not await _lift(server, cause, reason=told, actor=actor, now=now):
            raise refusal(RefusalCode.CONFLICT, f"nothing holds the server for {cause}", "cause")
    return await Server.get(id=server_id)


async def switch_off(server_id: int, *, actor: str, now: datetime) -> Server:
    """Hold the server off because its owner wants it off; again: no change. The gate is asked first."""
    async with in_transaction():
        server = await _switchable(server_id, GateAction.STOP, now)
        if await _in_force(server.id, HoldCause.CUSTOMER, now) is None:
            asked = HoldPlacement(
                server_id=server.id,
                cause=HoldCause.CUSTOMER,
                stops_server=True,
                locks_backups=False,
                reason="switched off by its owner",
            )
            await _place(server, asked, reason=asked.reason, actor=actor, now=now)
        await Server.filter(id=server.id).update(start_wanted_at=None)
    return await Server.get(id=server_id)


async def switch_on(server_id: int, *, actor: str, now: datetime) -> Server:
    """Lift the owner's own hold and have the server started. The gate is asked first.

    A start that the restore record already promises is not asked for twice.
    """
    async with in_transaction():
        server = await _switchable(server_id, GateAction.START, now)
        await _lift(server, HoldCause.CUSTOMER, reason="switched on by its owner", actor=actor, now=now)
        promised = await RestorePart.exists(
            server_id=server.id, part="power", found=Power.RUNNING.value, closed_at__isnull=True
        )
        if not promised and server.start_wanted_at is None:
            await Server.filter(id=server.id).update(start_wanted_at=now)
            await look_at(server.account_id, now=now)
            await record(
                "server.start_wanted",
                ("Server", server.id),
                at=now,
                actor=actor,
                reason="switched on by its owner",
                account_id=server.account_id,
            )
    return await Server.get(id=server_id)


async def close_expired(now: datetime) -> int:
    """Close the holds that ended by time, with their audit rows; return how many.

    Nothing rests on it: a hold does nothing from its expiry on. It is how the end is recorded and told.
    """
    async with in_transaction():
        expired = await Hold.filter(lifted_at__isnull=True, expires_at__lte=now).order_by("id")
        await _close(expired, now)
    return len(expired)


async def gate_holds(server_id: int, now: datetime) -> tuple[GateHold, ...]:
    """Return the holds in force on a server as the gates take them."""
    return tuple(as_gate_hold(hold) for hold in await _all_in_force(server_id, now))


def as_gate_hold(hold: Hold) -> GateHold:
    """Return a hold as the gates take it."""
    return GateHold(cause=hold.cause, effects=effects_of(hold), expires_at=hold.expires_at)


def gate_refusal(answer: Gate) -> RefusalError:
    """Return the refusal that carries a gate's answer."""
    return RefusalError(
        Problem(code=RefusalCode.GATE_REFUSED, message=answer.message, path=("power",), gate=answer)
    )


async def _switchable(server_id: int, action: GateAction, now: datetime) -> Server:
    """Return the server if its owner may switch it now."""
    server = await Server.get_or_none(id=server_id)
    if server is None:
        raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such server."), "serverId")
    answer = gate(
        GateQuestion(
            action=action,
            holds=await gate_holds(server.id, now),
            exempt=await _exempt(server, now),
            gone=server.retired_at is not None or server.missing_since is not None,
        )
    )
    if not answer.allowed:
        raise gate_refusal(answer)
    if server.deployment is not Deployment.SUCCEEDED or server.guest is None:
        raise refusal(RefusalCode.CONFLICT, phrase("The server has not been set up yet."), "serverId")
    return server


async def _exempt(server: Server, now: datetime) -> bool:
    active = Q(revoked_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=now))
    of_this = Q(server_id__isnull=True) | Q(server_id=server.id)
    return await Override.exists(active, of_this, account_id=server.account_id, kind=OverrideKind.EXEMPT)


async def _all_in_force(server_id: int, now: datetime) -> Sequence[Hold]:
    return await Hold.filter(in_force(now), server_id=server_id).order_by("since", "id")


async def _in_force(server_id: int, cause: HoldCause, now: datetime) -> Hold | None:
    """Return the hold of this cause; one that has expired is closed first, so that another may follow it."""
    expired = Hold.filter(server_id=server_id, cause=cause, lifted_at__isnull=True, expires_at__lte=now)
    await _close(await expired, now)
    return await Hold.get_or_none(server_id=server_id, cause=cause, lifted_at__isnull=True)


async def _close(expired: Sequence[Hold], now: datetime) -> None:
    """Close holds that have expired, as of then."""
    ids = [hold.id for hold in expired]
    if not ids:
        return
    await Hold.filter(id__in=ids, lifted_at__isnull=True).update(lifted_at=F("expires_at"), lifted_by=EXPIRED)
    servers = {row.id: row for row in await Server.filter(id__in=[hold.server_id for hold in expired])}
    for hold in expired:
        await record(
            "hold.expired",
            ("Server", hold.server_id),
            at=now,
            actor=EXPIRED,
            reason=f"it was placed until {hold.expires_at:%Y-%m-%d %H:%M} UTC",
            account_id=servers[hold.server_id].account_id,
            before={"cause": hold.cause},
        )
    told = {hold.server_id for hold in expired if hold.cause is not HoldCause.CUSTOMER}
    await outgoing.holds_changed(told, at=now, eased=told)


async def _place(server: Server, asked: HoldPlacement, *, reason: str, actor: str, now: datetime) -> None:
    await Hold.create(
        server_id=server.id,
        cause=asked.cause,
        stops_server=asked.stops_server,
        locks_backups=asked.locks_backups,
        reason=reason,
        placed_by=actor,
        since=now,
        expires_at=asked.expires_at,
    )
    await _tell(server, asked.cause, now)
    if asked.cause is not HoldCause.CUSTOMER:
        await outgoing.holds_changed([server.id], at=now)
    await record(
        "hold.placed",
        ("Server", server.id),
        at=now,
        actor=actor,
        reason=reason,
        account_id=server.account_id,
        after={
            "cause": asked.cause,
            "stops_server": asked.stops_server,
            "locks_backups": asked.locks_backups,
            "expires_at": asked.expires_at,
        },
    )


async def _lift(server: Server, cause: HoldCause, *, reason: str, actor: str, now: datetime) -> bool:
    hold = await _in_force(server.id, cause, now)
    if hold is None:
        return False
    await Hold.filter(id=hold.id, lifted_at__isnull=True).update(lifted_at=now, lifted_by=actor)
    await _tell(server, cause, now)
    if cause is not HoldCause.CUSTOMER:
        await outgoing.holds_changed([server.id], at=now, eased=[server.id])
    await record(
        "hold.lifted",
        ("Server", server.id),
        at=now,
        actor=actor,
        reason=reason,
        account_id=server.account_id,
        before={"cause": cause},
    )
    return True


async def _tell(server: Server, cause: HoldCause, now: datetime) -> None:
    """Wake the account; an owner's switch is no fact that anybody's standing rests on, however often it is thrown."""
    tell = look_at if cause is HoldCause.CUSTOMER else note_fact
    await tell(server.account_id, now=now)


def _same(hold: Hold, asked: HoldPlacement) -> bool:
    return (hold.stops_server, hold.locks_backups, hold.expires_at) == (
        asked.stops_server,
        asked.locks_backups,
        asked.expires_at,
    )


def _held_otherwise(cause: HoldCause) -> RefusalError:
    return refusal(
        RefusalCode.CONFLICT, f"the server is held for {cause} already; lift that hold first", "cause"
    )
