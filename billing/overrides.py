"""Overrides: decisions of staff with author, reason and expiry, within the published limits.

The only writer of `override`. What an override does to a stage is the ladder's; who may ask at all is the doors'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from tortoise.transactions import in_transaction

from billing.accounts import note_fact
from billing.audit import record
from billing.models import Account, Episode, Override
from billing.refusal import RefusalCode, refusal, required_reason
from billing.rules.facts import OverrideFact
from billing.rules.overrides import suspend_now
from billing.rules.policy import Policy
from billing.rules.terms import OverrideKind
from billing.rules.words import phrase


class Authority(StrEnum):
    """In which capacity somebody decides; it bounds the kinds and how long they last."""

    SUPPORT = "SUPPORT"
    ADMIN = "ADMIN"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Who may place a kind, for how long at most, and whether on a single server."""

    longest: Mapping[Authority, timedelta]
    on_server: bool = False


_LONGEST_ACTOR = 200
#: Kept as the reason of a customer that gives none.
PROMISE = "a promise to pay"

#: The published table. `SUSPEND_NOW` is not in it: it takes the votes of two persons.
LIMITS: Mapping[OverrideKind, Limits] = {
    OverrideKind.EXEMPT: Limits(longest={Authority.ADMIN: timedelta(days=400)}, on_server=True),
    OverrideKind.EXTEND_GRACE: Limits(
        longest={Authority.SUPPORT: timedelta(days=30), Authority.ADMIN: timedelta(days=180)}
    ),
    OverrideKind.FREEZE: Limits(
        longest={Authority.SUPPORT: timedelta(days=90), Authority.ADMIN: timedelta(days=90)}
    ),
    OverrideKind.ALLOW_BACKUPS: Limits(
        longest={Authority.SUPPORT: timedelta(days=90), Authority.ADMIN: timedelta(days=90)}, on_server=True
    ),
}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The override that is asked for. `server_id` null: on the whole account."""

    account_id: int
    server_id: int | None = None
    kind: OverrideKind
    reason: str
    expires_at: datetime | None = None


async def place(asked: Placement, *, actor: str, authority: Authority, now: datetime) -> Override:
    """Place the override and tell the reconciler; refuses whatever the table does not allow.

    The caller has made sure that the server, if any, is the account's.
    """
    told = replace(asked, reason=required_reason(asked.reason))
    _refuse_beyond_limits(told, authority, now)
    async with in_transaction():
        if not await Account.exists(id=asked.account_id):
            raise refusal(RefusalCode.NOT_FOUND, "there is no such account", "accountId")
        return await _place(told, actor=actor, now=now)


async def place_suspend_now(
    account_id: int, *, reason: str, actors: Sequence[str], now: datetime
) -> Override:
    """Place the `SUSPEND_NOW` that these actors voted for, in the transaction of the last vote."""
    asked = Placement(account_id=account_id, kind=OverrideKind.SUSPEND_NOW, reason=reason)
    return await _place(asked, actor=" and ".join(actors)[:_LONGEST_ACTOR], now=now)


async def _place(asked: Placement, *, actor: str, now: datetime, by_customer: bool = False) -> Override:
    placed = await Override.create(
        account_id=asked.account_id,
        server_id=asked.server_id,
        kind=asked.kind,
        reason=asked.reason,
        placed_by=actor,
        by_customer=by_customer,
        placed_at=now,
        expires_at=asked.expires_at,
    )
    await note_fact(asked.account_id, now=now)
    await record(
        "override.placed",
        ("Override", placed.id),
        at=now,
        actor=actor,
        reason=asked.reason,
        account_id=asked.account_id,
        after={"kind": asked.kind, "server_id": asked.server_id, "expires_at": asked.expires_at},
    )
    return placed


async def request_grace(
    account_id: int, until: datetime, *, reason: str | None, policy: Policy, actor: str, now: datetime
) -> Override:
    """Give a customer the time that it asks for itself, as far and as often as its policy allows.

    Refused while a `SUSPEND_NOW` is in force: what two persons decided is not put off by the customer.
    """
    terms = policy.billing.self_service_extension
    if terms is None:
        raise refusal(
            RefusalCode.FORBIDDEN, phrase("More time to pay is given by our support alone."), "until"
        )
    if until <= now:
        raise refusal(RefusalCode.EXPIRY_IN_PAST, phrase("Choose a time in the future."), "until")
    if until - now > terms.up_to:
        message = phrase("You can have time until %(latest)s at most.", latest=now + terms.up_to)
        raise refusal(RefusalCode.EXPIRY_TOO_LATE, message, "until")
    async with in_transaction():
        await Account.filter(id=account_id).select_for_update(no_key=True).first()
        placed = await Override.filter(account_id=account_id, server_id=None).order_by("id")
        own = [row.placed_at for row in placed if row.by_customer]
        if own and own[-1] + terms.once_per > now:
            again = own[-1] + terms.once_per
            message = phrase("You had more time already; you can ask again after %(again)s.", again=again)
            raise refusal(RefusalCode.CONFLICT, message)
        episode = await Episode.get_or_none(account_id=account_id, server_id=None, ended_at=None)
        if episode and suspend_now(tuple(map(fact_of, placed)), episode.started_at, now):
            raise refusal(
                RefusalCode.CONFLICT,
                phrase("More time is not given now; please pay, or talk to our support."),
            )
        asked = Placement(
            account_id=account_id,
            kind=OverrideKind.EXTEND_GRACE,
            reason=(reason or "").strip() or PROMISE,
            expires_at=until,
        )
        return await _place(asked, actor=actor, now=now, by_customer=True)


def fact_of(row: Override) -> OverrideFact:
    """Return the row as the rules see it."""
    return OverrideFact(
        kind=row.kind,
        server_id=row.server_id,
        placed_at=row.placed_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        by_customer=row.by_customer,
    )


async def revoke(
    override_id: int, *, reason: str, actor: str, authority: Authority, now: datetime
) -> Override:
    """End the override now. Refuses one that has ended already, and kinds that this authority may not place."""
    told = required_reason(reason)
    async with in_transaction():
        override = await Override.get_or_none(id=override_id)
        if override is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such override", "overrideId")
        limits = LIMITS.get(override.kind)
        if authority is not Authority.ADMIN and (limits is None or authority not in limits.longest):
            raise refusal(RefusalCode.FORBIDDEN, f"only an admin revokes {override.kind}", "overrideId")
        if override.expires_at is not None and override.expires_at <= now:
            raise refusal(RefusalCode.CONFLICT, "the override has expired already", "overrideId")
        ended = await Override.filter(id=override_id, revoked_at__isnull=True).update(
            revoked_at=now, revoked_by=actor
        )
        if not ended:
            raise refusal(RefusalCode.CONFLICT, "the override has been revoked already", "overrideId")
        await note_fact(override.account_id, now=now)
        await record(
            "override.revoked",
            ("Override", override.id),
            at=now,
            actor=actor,
            reason=told,
            account_id=override.account_id,
            before={"kind": override.kind, "expires_at": override.expires_at},
        )
    return await Override.get(id=override_id)


def _refuse_beyond_limits(asked: Placement, authority: Authority, now: datetime) -> None:
    limits = LIMITS.get(asked.kind)
    if limits is None:
        raise refusal(RefusalCode.FORBIDDEN, f"{asked.kind} takes the votes of two persons", "kind")
    longest = limits.longest.get(authority)
    if longest is None:
        raise refusal(RefusalCode.FORBIDDEN, f"only an admin places {asked.kind}", "kind")
    if asked.server_id is not None and not limits.on_server:
        raise refusal(RefusalCode.INVALID, f"{asked.kind} is placed on a whole account", "serverId")
    if asked.expires_at is None:
        raise refusal(
            RefusalCode.EXPIRY_REQUIRED, f"say until when, at most {longest.days} days", "expiresAt"
        )
    if asked.expires_at <= now:
        raise refusal(RefusalCode.EXPIRY_IN_PAST, "give an instant in the future", "expiresAt")
    if asked.expires_at - now > longest:
        latest = (now + longest).isoformat()
        raise refusal(
            RefusalCode.EXPIRY_TOO_LATE,
            f"{asked.kind} lasts at most {longest.days} days: {latest}",
            "expiresAt",
        )
