"""Billing holds: what a standing means for each server of an account.

The only writer of holds whose cause is `BILLING`. Works inside the caller's transaction; lifts at once, and places only
on servers that a delivered notice has named in time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from billing import audit
from billing.models import Override
from billing.rules.facts import NoticeFact
from billing.rules.terms import Effect, HoldCause, OverrideKind, Stage
from reconciler import metering, outgoing
from reconciler.hold_effects import effects_of
from reconciler.models import Hold, Server
from reconciler.rules.terms import Mode
from reconciler.subjects import Subject

#: How long a notice must have named a server that joined during the episode before a hold comes on it.
LATECOMER_NOTICE = timedelta(hours=24)
ACTOR = "system:reconciler"
_COLUMNS = {
    "stops_server": Effect.STOP_SERVERS,
    "locks_backups": Effect.LOCK_BACKUPS,
    "locks_account": Effect.LOCK_ACCOUNT,
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one subject's standing asks of the servers that it reaches."""

    subject: Subject
    stage: Stage
    effects: frozenset[Effect]
    reason: str


@dataclass(kw_only=True)
class _Changes:
    """Which servers are held otherwise than before, and which of them for less."""

    all: set[int] = field(default_factory=set)
    eased: set[int] = field(default_factory=set)

    def note(self, server_id: int, before: frozenset[Effect], after: frozenset[Effect]) -> None:
        if before != after:
            self.all.add(server_id)
        if after < before:
            self.eased.add(server_id)


async def sync(
    subjects: Sequence[Subject], standings: Mapping[int | None, Stage], *, mode: Mode, now: datetime
) -> datetime | None:
    """Make the billing holds of one account's servers follow its standings; return when time may change them again.

    `subjects` are the account itself and its uncovered servers; `standings` their stages by server id (null: the
    account). A server takes the larger of the account's effects and its own. Outside `APPLY` nothing is added.
    """
    account = subjects[0].account
    servers = await Server.filter(account_id=account.id, retired_at=None).order_by("id")
    standing_holds = await Hold.filter(
        server__account_id=account.id, cause=HoldCause.BILLING, lifted_at=None
    ).prefetch_related("server")
    holds = {hold.server_id: hold for hold in standing_holds}
    exemptions = await exemptions_of(account.id)
    verdicts = {
        subject.server.id if subject.server else None: _of(subject, standings) for subject in subjects
    }
    later: list[datetime] = []
    changes = _Changes()
    for server in servers:
        own = exemptions.get(server.id, [])
        asking = [verdicts[None], verdicts[server.id]] if server.id in verdicts else [verdicts[None]]
        ready = []
        for verdict in (one for one in asking if one.effects):
            at = may_hold_from(server, verdict.subject, own, holds.get(server.id), now=now)
            if at is not None and at <= now:
                ready.append(verdict)
            elif at is not None:
                later.append(at)
        chosen = max(ready, key=lambda verdict: len(verdict.effects), default=None)
        before, after = await _apply(server, holds.pop(server.id, None), chosen, mode=mode, now=now)
        changes.note(server.id, before, after)
    for hold in holds.values():  # of servers that were retired since
        await _lift(hold.server, hold, now)
    await outgoing.holds_changed(changes.all, at=now, eased=changes.eased)
    await metering.follow_holds(servers, charged=subjects[0].policy.billing.charge_while_suspended, now=now)
    return min(later, default=None)


async def lift_of(server: Server, now: datetime) -> bool:
    """Lift the billing hold of a server that leaves its account; return whether there was one."""
    hold = await Hold.get_or_none(server_id=server.id, cause=HoldCause.BILLING, lifted_at=None)
    if hold is not None:
        await _lift(server, hold, now)
    return hold is not None


def _of(subject: Subject, standings: Mapping[int | None, Stage]) -> Verdict:
    stage = standings[subject.server.id if subject.server else None]
    effects = subject.effects_at(stage)
    debt = subject.eligibility.debt
    since = f" since {debt.anchor_overdue_at:%Y-%m-%d}" if debt else ""
    if subject.server:
        reason = f"its subscription has ended; by itself it stands at {stage}"
    else:
        reason = f"payment is overdue{since}; the account stands at {stage}"
    return Verdict(
        subject=subject,
        stage=stage,
        effects=effects - {Effect.LOCK_ACCOUNT} if subject.server else effects,
        reason=reason,
    )


async def exemptions_of(account_id: int) -> Mapping[int, list[Override]]:
    """Return the exemptions of single servers of an account, past ones too, by server."""
    found: dict[int, list[Override]] = {}
    rows = Override.filter(account_id=account_id, kind=OverrideKind.EXEMPT, server_id__isnull=False)
    for row in await rows:
        found.setdefault(row.server_id or 0, []).append(row)
    return found


def joined_at(server: Server, exemptions: Sequence[Override]) -> datetime:
    """Return since when the server can be held: when it came to its account, or when its last exemption ended."""
    return max([server.joined_at, *(ended_at(row) for row in exemptions)])


def may_hold_from(
    server: Server, subject: Subject, exemptions: Sequence[Override], hold: Hold | None, *, now: datetime
) -> datetime | None:
    """Return from when a billing hold may be on the server; null while no instant is known.

    Free, missing and exempt servers take none; a latecomer only after a notice of a stage has named it in time. One
    that stands was due when it was placed, also after the clock was set back.
    """
    if server.free or server.missing_since is not None or subject.episode is None:
        return None
    if any(is_active(row, now) for row in exemptions):
        return max(ended_at(row) for row in exemptions if is_active(row, now))
    joined = joined_at(server, exemptions)
    if joined <= subject.episode.started_at:
        return now
    told = [at for notice in subject.facts.notices if (at := _named_at(notice, server.id, joined))]
    due = min(told) + LATECOMER_NOTICE if told else None
    return now if due and hold and hold.since >= due else due


def _named_at(notice: NoticeFact, server_id: int, since: datetime) -> datetime | None:
    """Return when a notice of a stage that was sent since then and names the server was delivered."""
    names = notice.stage is not None and server_id in notice.server_ids
    return notice.delivered_at if names and notice.sent_at >= since else None


def is_active(override: Override, now: datetime) -> bool:
    """Return whether an override is in force at `now`."""
    return override.placed_at <= now and override.revoked_at is None and now < ended_at(override)


def ended_at(override: Override) -> datetime:
    """Return when an override ends or ended; the far future for one without end."""
    ends = [instant for instant in (override.expires_at, override.revoked_at) if instant is not None]
    return min(ends) if ends else datetime.max.replace(tzinfo=override.placed_at.tzinfo)


async def _apply(
    server: Server, hold: Hold | None, verdict: Verdict | None, *, mode: Mode, now: datetime
) -> tuple[frozenset[Effect], frozenset[Effect]]:
    """Place, change or lift the billing hold of one server; outside `APPLY` it only ever gets milder.

    Returns what billing held it for before and after.
    """
    before = effects_of(hold) if hold else frozenset()
    wanted = verdict.effects if verdict else frozenset()
    if mode is not Mode.APPLY:
        wanted &= before
    if verdict is None or not wanted:
        if hold is not None:
            await _lift(server, hold, now)
        return before, frozenset()
    if hold is not None and wanted == before and hold.stage is verdict.stage:
        return before, before
    columns: dict[str, Any] = {name: effect in wanted for name, effect in _COLUMNS.items()}
    if hold is None:
        await Hold.create(
            server_id=server.id,
            cause=HoldCause.BILLING,
            stage=verdict.stage,
            reason=verdict.reason,
            placed_by=ACTOR,
            since=now,
            **columns,
        )
    else:
        await Hold.filter(id=hold.id, lifted_at=None).update(
            stage=verdict.stage, reason=verdict.reason, **columns
        )
    await _record(
        "hold.placed" if hold is None else "hold.changed",
        server,
        verdict.reason,
        now,
        before={"effects": sorted(before)} if hold else None,
        after={"effects": sorted(wanted), "stage": verdict.stage},
    )
    return before, wanted


async def _lift(server: Server, hold: Hold, now: datetime) -> None:
    await Hold.filter(id=hold.id, lifted_at=None).update(lifted_at=now, lifted_by=ACTOR)
    await _record("hold.lifted", server, "nothing that billing holds it for stands any more", now)


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
