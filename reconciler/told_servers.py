"""What a letter says of each server: that we stopped it, that it was off already, that somebody else keeps it.

Reads the holds of the same transaction, the restore record and the last reading; decides nothing and writes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from billing.models import Episode, Override
from billing.notice_request import Fate, HeldOn, NamedServer
from billing.rules.facts import AccountFacts, OverrideFact
from billing.rules.overrides import ends_at, strongest
from billing.rules.terms import HoldCause, OverrideKind
from reconciler import restore_record
from reconciler.billing_holds import LATECOMER_NOTICE, exemptions_of, is_active, joined_at, may_hold_from
from reconciler.hold_effects import in_force
from reconciler.models import Hold, Observation, Server
from reconciler.rules.terms import Power
from reconciler.subjects import Subject


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What is known of the servers that a letter names."""

    subject: Subject
    now: datetime
    account_restricts: bool
    exemptions: Mapping[int, Sequence[Override]]
    #: The billing holds in force, by server.
    billed: Mapping[int, Hold]
    #: Those whose billing hold is lifted in this transaction.
    just_lifted: Collection[int]
    #: Those that are restricted because their own subscription has ended.
    uncovered: Collection[int | None]
    #: Those that neither billing nor their owner holds, but somebody else.
    others: Collection[int]
    #: Those that their owner switched off, or that were found off.
    off: Collection[int]


async def live_of(subject: Subject) -> list[Server]:
    """Return the live servers that the subject's standing could reach."""
    if subject.server is not None:
        return [subject.server]
    return await Server.filter(account_id=subject.account.id, retired_at=None, free=False).order_by("id")


async def reached(subject: Subject, now: datetime) -> list[Server]:
    """Return the servers that a notice may speak of: neither an exempt one nor one that cannot be found."""
    servers, exemptions = await live_of(subject), await exemptions_of(subject.account.id)
    if subject.server is not None:
        return servers
    spared = {id_ for id_, rows in exemptions.items() if any(is_active(row, now) for row in rows)}
    return [server for server in servers if server.id not in spared and server.missing_since is None]


async def under_stage(subject: Subject, *, account_restricts: bool, now: datetime) -> list[NamedServer]:
    """Return the servers as the letter of a stage names them, with what is so of each.

    `account_restricts` tells whether the account's own stage takes something.
    """
    servers = await reached(subject, now)
    seen = await _look(subject, servers, account_restricts=account_restricts, now=now)
    return [_under_stage(server, seen) for server in servers]


async def given_back(
    subject: Subject, servers: Sequence[Server], *, account_restricts: bool, now: datetime
) -> list[NamedServer]:
    """Return servers as the letter names them that tells that they come back.

    `account_restricts` tells whether the account's own stage still takes something. One that was never held, because it
    came too late, is left out.
    """
    seen = await _look(subject, servers, account_restricts=account_restricts, now=now)
    held = {*seen.billed, *seen.just_lifted}
    return [
        # Nobody starts what is held on, whatever it was before.
        _named(server, Fate.ALIKE if _held_on(server, seen) else _power(server, seen), seen)
        for server in servers
        if subject.server is not None or not _came_late(server, seen) or server.id in held
    ]


async def _look(
    subject: Subject, servers: Sequence[Server], *, account_restricts: bool, now: datetime
) -> _Seen:
    ids = [server.id for server in servers]
    holds = await Hold.filter(in_force(now), server_id__in=ids)
    lifted = Hold.filter(server_id__in=ids, cause=HoldCause.BILLING, lifted_at=now)
    episodes = Episode.filter(server_id__in=ids, ended_at=None)
    return _Seen(
        subject=subject,
        now=now,
        account_restricts=account_restricts,
        exemptions=await exemptions_of(subject.account.id),
        billed={hold.server_id: hold for hold in holds if hold.cause is HoldCause.BILLING},
        just_lifted={hold.server_id for hold in await lifted},
        uncovered={one.server_id for one in await episodes if subject.policy.effects_at(one.admitted)},
        others={
            hold.server_id for hold in holds if hold.cause not in (HoldCause.BILLING, HoldCause.CUSTOMER)
        },
        off={hold.server_id for hold in holds if hold.cause is HoldCause.CUSTOMER} | await _found_off(ids),
    )


async def _found_off(server_ids: Sequence[int]) -> set[int]:
    """Return those that were off: what we found before a stop of ours says more than what is read after it."""
    found = {id_: record.power for id_, record in (await restore_record.of_servers(server_ids)).items()}
    read = {row.server_id: row.power for row in await Observation.filter(server_id__in=list(server_ids))}
    return {id_ for id_ in server_ids if (found.get(id_) or read.get(id_)) is Power.STOPPED}


def _held_on(server: Server, seen: _Seen) -> HeldOn | None:
    """Return what goes on to restrict a server when what the letter is about is settled; null where nothing does."""
    if server.id in seen.others:
        return HeldOn.KEPT
    if server.id not in seen.billed:
        return None
    if seen.subject.server is not None:
        return HeldOn.OWING if seen.account_restricts else None
    return HeldOn.UNCOVERED if server.id in seen.uncovered else None


def _power(server: Server, seen: _Seen) -> Fate:
    return Fate.OFF if server.id in seen.off else Fate.ALIKE


def _came_late(server: Server, seen: _Seen) -> bool:
    """Return whether it can be held only since the episode began."""
    episode = seen.subject.episode
    return episode is not None and joined_at(server, seen.exemptions.get(server.id, ())) > episode.started_at


def _reached_later_at(server: Server, seen: _Seen) -> datetime | None:
    """Return from when on the stage can reach a server that came late; null for one that it has reached.

    A hold that stops nothing is no sign of that: it may be for the end of its own subscription, or for an account's
    earlier stage.
    """
    hold, own = seen.billed.get(server.id), seen.exemptions.get(server.id, ())
    if not _came_late(server, seen) or (hold is not None and hold.stops_server):
        return None
    due = may_hold_from(server, seen.subject, own, hold, now=seen.now)
    if due is None:  # what is not on its way yet counts from its delivery, which is not before now
        return seen.now + LATECOMER_NOTICE
    return due if due > seen.now else None


def _under_stage(server: Server, seen: _Seen) -> NamedServer:
    later_at = _reached_later_at(server, seen)
    named = _named(server, Fate.LATER if later_at else _power(server, seen), seen)
    return replace(named, later_at=later_at)


def _named(server: Server, fate: Fate, seen: _Seen) -> NamedServer:
    opened = _opened(server, seen)
    return NamedServer(
        id=server.id,
        name=server.name,
        fate=fate,
        held_on=_held_on(server, seen),
        backups_open=opened is not None,
        backups_open_until=ends_at(opened) if opened else None,
    )


def _opened(server: Server, seen: _Seen) -> OverrideFact | None:
    """Return the decision of staff in force that lets backups of a server be made and exported."""
    subject = seen.subject
    placed = subject.overrides if isinstance(subject.facts, AccountFacts) else subject.facts.overrides
    own = (one for one in placed if one.server_id in (None, server.id))
    return strongest(own, OverrideKind.ALLOW_BACKUPS, seen.now)
