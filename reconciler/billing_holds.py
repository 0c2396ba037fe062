"""Billing holds: what a standing means for each server of an account.

The only writer of holds whose cause is `BILLING`. Works inside the caller's transaction; lifts at once, and places only
on servers that a delivered notice has named in time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing import audit
from billing.models import Override
from billing.rules.facts import NoticeFact
from billing.rules.terms import Effect, HoldCause, OverrideKind, Stage
from reconciler.models import Hold, Server
from reconciler.subjects import Subject

#: How long a notice must have named a server that joined during the episode before a hold comes on it.
LATECOMER_NOTICE = timedelta(hours=24)
ACTOR = "system:reconciler"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one subject's standing asks of the servers that it reaches."""

    stage: Stage
    effects: frozenset[Effect]
    reason: str


async def sync(
    subjects: Sequence[Subject], standings: Mapping[int | None, Stage], now: datetime
) -> list[int]:
    """Make the billing holds of one account's servers follow its standings; return the ids of changed servers.

    `subjects` are the account itself and its uncovered servers; `standings` their stages by server id (null: the
    account). A server takes the larger of the account's effects and its own.
    """
    account = subjects[0].account
    servers = await Server.filter(account_id=account.id, retired_at=None).order_by("id")
    holds = {
        hold.server_id: hold
        for hold in await Hold.filter(
            server_id__in=[server.id for server in servers], cause=HoldCause.BILLING, lifted_at=None
        )
    }
    exemptions = await _exemptions(account.id)
    by_server = {subject.server.id if subject.server else None: subject for subject in subjects}
    changed = []
    for server in servers:
        verdict = _verdict(server, by_server, standings, now)
        if verdict and not _may_hold(server, by_server, exemptions, now):
            verdict = None
        if await _apply(server, holds.get(server.id), verdict, now):
            changed.append(server.id)
    return changed


def _verdict(
    server: Server,
    by_server: Mapping[int | None, Subject],
    standings: Mapping[int | None, Stage],
    now: datetime,
) -> Verdict | None:
    """Return the larger of what the account's standing and the server's own ask for; null: nothing."""
    own = by_server.get(server.id)
    verdicts = [_of(by_server[None], standings[None], now)] if None in by_server else []
    if own is not None:
        verdict = _of(own, standings[server.id], now)
        verdicts.append(
            Verdict(
                stage=verdict.stage,
                effects=verdict.effects - {Effect.LOCK_ACCOUNT},
                reason=verdict.reason,
            )
        )
    asking = [verdict for verdict in verdicts if verdict.effects]
    return max(asking, key=lambda verdict: len(verdict.effects), default=None)


def _of(subject: Subject, stage: Stage, now: datetime) -> Verdict:
    debt = subject.eligibility.debt
    since = f" since {debt.anchor_overdue_at:%Y-%m-%d}" if debt else ""
    what = "its subscription has ended" if subject.server else f"payment is overdue{since}"
    return Verdict(
        stage=stage, effects=subject.policy.effects_at(stage), reason=f"{what}; the account stands at {stage}"
    )


async def _exemptions(account_id: int) -> Mapping[int, list[Override]]:
    found: dict[int, list[Override]] = {}
    rows = Override.filter(account_id=account_id, kind=OverrideKind.EXEMPT, server_id__isnull=False)
    for row in await rows:
        found.setdefault(row.server_id or 0, []).append(row)
    return found


def _may_hold(
    server: Server,
    by_server: Mapping[int | None, Subject],
    exemptions: Mapping[int, list[Override]],
    now: datetime,
) -> bool:
    """Free, missing and exempt servers take no billing hold; latecomers only after a notice that named them in time."""
    if server.free or server.missing_since is not None:
        return False
    own_exemptions = exemptions.get(server.id, [])
    if any(is_active(row, now) for row in own_exemptions):
        return False
    subject = by_server.get(server.id) or by_server[None]
    if subject.episode is None:
        return False
    joined = max([server.joined_at, *(ended_at(row) for row in own_exemptions)])
    if joined <= subject.episode.started_at:
        return True
    return any(_named_in_time(notice, server.id, joined, now) for notice in subject.facts.notices)


def _named_in_time(notice: NoticeFact, server_id: int, since: datetime, now: datetime) -> bool:
    return (
        server_id in notice.server_ids
        and notice.sent_at >= since
        and notice.delivered_at is not None
        and notice.delivered_at + LATECOMER_NOTICE <= now
    )


def is_active(override: Override, now: datetime) -> bool:
    """Return whether an override is in force at `now`."""
    return override.placed_at <= now and override.revoked_at is None and now < ended_at(override)


def ended_at(override: Override) -> datetime:
    """Return when an override ends or ended; the far future for one without end."""
    ends = [instant for instant in (override.expires_at, override.revoked_at) if instant is not None]
    return min(ends) if ends else datetime.max.replace(tzinfo=override.placed_at.tzinfo)


async def _apply(server: Server, hold: Hold | None, verdict: Verdict | None, now: datetime) -> bool:
    """Place, change or lift the billing hold of one server; return whether anything changed."""
    if verdict is None:
        return await _lift(server, hold, now)
    effects: dict[str, Any] = {
        "stops_server": Effect.STOP_SERVERS in verdict.effects,
        "locks_backups": Effect.LOCK_BACKUPS in verdict.effects,
        "locks_account": Effect.LOCK_ACCOUNT in verdict.effects,
    }
    if hold is None:
        await Hold.create(
            server_id=server.id,
            cause=HoldCause.BILLING,
            stage=verdict.stage,
            reason=verdict.reason,
            placed_by=ACTOR,
            since=now,
            **effects,
        )
        await _record("hold.placed", server, verdict.reason, now, after={**effects, "stage": verdict.stage})
        return True
    before = {name: getattr(hold, name) for name in effects}
    if before == effects and hold.stage is verdict.stage:
        return False
    await Hold.filter(id=hold.id, lifted_at=None).update(
        stage=verdict.stage, reason=verdict.reason, **effects
    )
    await _record(
        "hold.changed", server, verdict.reason, now, before=before, after={**effects, "stage": verdict.stage}
    )
    return True


async def _lift(server: Server, hold: Hold | None, now: datetime) -> bool:
    if hold is None:
        return False
    await Hold.filter(id=hold.id, lifted_at=None).update(lifted_at=now, lifted_by=ACTOR)
    await _record("hold.lifted", server, "nothing that billing holds it for stands any more", now)
    return True


async def _record(
    kind: str,
    server: Server,
    reason: str,
    now: datetime,
    *,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    await audit.record(
        kind,
        ("Server", server.id),
        at=now,
        actor=ACTOR,
        reason=reason,
        account_id=server.account_id,
        before=before,
        after=after,
    )
