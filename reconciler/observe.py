"""Observation: what a site's guests are really doing, read in one call per site and cycle.

The only writer of observations and site states. Absent is not deleted, empty is not
gone, and a node that does not answer makes its guests unknown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tortoise.transactions import in_transaction

from billing import audit, work_queue
from billing.accounts import note_fact
from billing.rules.policy import GuardPolicy, Limit
from reconciler import identity, metering, safety
from reconciler.guard_models import SafeModeKind
from reconciler.inventory import Site
from reconciler.models import Observation, Server, SiteState
from reconciler.overview import GuestSeen, SiteSeen, names_per_node
from reconciler.readings import Reading
from reconciler.rules.terms import Deployment, Power

ACTOR = "system:reconciler"
#: Complete observations in a row without the guest, after which its server is missing.
ABSENCES_UNTIL_MISSING = 2
#: A read-back from the node counts for this long against an overview that still shows the state of before: Proxmox VE's
#: `cluster/resources` is up to ten seconds old (pvestatd publishes every 10 s).
OVERVIEW_LAG = timedelta(seconds=15)
#: So many privileges are named to people; an administrator's token holds hundreds.
_SHOWN = 10
#: How many guests of a site may go missing at once where no policy says otherwise.
BELIEVED = GuardPolicy().max_new_per_pass


async def apply(site: Site, seen: SiteSeen, now: datetime, *, believed: Limit = BELIEVED) -> None:
    """Write one observation of a site down, set-based: readings, absences, what went missing and what came back.

    `now` is when the reading began: what it shows may be as old as that. More guests missing at once than `believed`
    are taken for a mistake until a person has looked. Nothing is made of what another platform shows.
    """
    seen = await identity.judged(site, seen, now)
    servers = await Server.filter(
        site=site.name, retired_at=None, deployment=Deployment.SUCCEEDED, guest__isnull=False
    ).order_by("id")
    if servers and seen.complete and not seen.guests:
        seen = replace(
            seen,
            complete=False,
            problem="the site showed no guest at all, which is taken for a lost privilege and not for empty nodes",
        )
    by_name = {_key(site, guest.guest, guest.node): guest for guest in seen.guests}
    known = {
        row.server_id: row
        for row in await Observation.filter(server_id__in=[server.id for server in servers])
    }
    fresh, changed = [], []
    for server in servers:
        row = known.get(server.id)
        reading = _reading(site, server, row, by_name, seen, now)
        if row is not None:
            row.update_from_dict(reading)
            changed.append(row)
        elif reading["observed_at"] is not None:
            fresh.append(Observation(server_id=server.id, **reading))
    async with in_transaction():
        await _save_site(site, seen, now)
        await Observation.bulk_create(fresh, batch_size=1000)
        if changed:
            fields = ["observed_at", "seen_at", "power", "node", "busy", "absences", "marked_at"]
            await Observation.bulk_update(changed, fields=fields, batch_size=1000)
        rows = [*fresh, *changed]
        crowd = await _not_believed(site, servers, rows, now=now, believed=believed)
        await _missing_and_back(servers, [row for row in rows if row.server_id not in crowd], now)


async def note_deep(server_id: int, reading: Reading, at: datetime) -> None:
    """Let a deep reading from the right node be the server's observation: every part that it read, and no other."""
    columns: dict[str, Any] = {
        "node": reading.node,
        "onboot": reading.onboot,
        "protection": reading.protection,
        "digest": reading.digest,
        "protected_backups": list(reading.protected) if reading.protected is not None else None,
        "unprotected_backups": list(reading.unprotected) if reading.unprotected is not None else None,
    }
    known = {name: value for name, value in columns.items() if value is not None}
    if reading.power is not Power.UNKNOWN:
        known |= {
            "observed_at": at,
            "seen_at": at,
            "deep_at": at,
            "power": reading.power,
            "busy": reading.busy,
        }
    if reading.marked is False:
        known["marked_at"] = None
    if known:
        await Observation.filter(server_id=server_id).update(**known)
    if reading.marked:
        await Observation.filter(server_id=server_id, marked_at=None).update(marked_at=at)


def _key(site: Site, guest: str, node: str | None) -> tuple[str, str]:
    return (guest, node or "") if names_per_node(site) else (guest, "")


def _reading(
    site: Site,
    server: Server,
    row: Observation | None,
    by_name: Mapping[tuple[str, str], GuestSeen],
    seen: SiteSeen,
    now: datetime,
) -> dict[str, object]:
    """Return the columns of one server's observation; what was not seen is unknown and keeps its age.

    `observed_at` is null where it was never seen at all. What a cluster shows of a silent node is what it remembers.
    """
    found = by_name.get(_key(site, server.guest or "", server.site_node))
    absences = row.absences if row else 0
    node = row.node if row and row.node else server.site_node
    if found is not None:
        power: Power = found.power
        read_at: datetime | None = now
        marked_at = _marked_at(row, found.marked, now)
        if found.node in seen.silent_nodes:
            power, read_at = Power.UNKNOWN, row.observed_at if row else None
        elif row is not None and row.deep_at is not None and now - row.deep_at < OVERVIEW_LAG:
            power, read_at, marked_at = row.power, max(row.observed_at, now), row.marked_at
        return {
            "observed_at": read_at,
            "seen_at": now,
            "power": power,
            "node": found.node,
            "busy": found.busy,
            "absences": 0,
            "marked_at": marked_at,
        }
    if seen.complete:
        return {
            "observed_at": now,
            "power": Power.UNKNOWN,
            "node": node,
            "busy": None,
            "absences": absences + 1,
        }
    # Not shown by an incomplete reading: if its node is silent it is unknown, else the old reading just grows older.
    power = Power.UNKNOWN if row is None or node in seen.silent_nodes else row.power
    return {
        "observed_at": row.observed_at if row else None,
        "power": power,
        "node": node,
        "busy": None,
        "absences": absences,
    }


def _marked_at(row: Observation | None, marked: bool | None, now: datetime) -> datetime | None:
    """Return since when a guest carries our mark; a reading that does not tell changes nothing."""
    before = row.marked_at if row is not None else None
    if marked is None:
        return before
    return (before or now) if marked else None


async def _save_site(site: Site, seen: SiteSeen, now: datetime) -> None:
    columns: dict[str, Any] = {
        "attempted_at": now,
        "silent_nodes": sorted(seen.silent_nodes),
        "problem": seen.problem,
        "identities": dict(seen.identities),
    }
    if seen.complete:
        columns["complete_at"] = now
    if seen.excess is not None:
        columns["excess"] = list(seen.excess)
        await _tell_of_excess(site, seen.excess, now)
    if not await SiteState.filter(site=site.name).update(**columns):
        await SiteState.create(site=site.name, **columns)


async def _tell_of_excess(site: Site, excess: Sequence[str], now: datetime) -> None:
    """Let people know of a token that could destroy, once for as long as it could."""
    key = f"token_too_strong:{site.name}"
    if not excess:
        await work_queue.resolve(
            key, at=now, by=ACTOR, resolution="the token cannot destroy anything any more"
        )
        return
    await work_queue.open_item(
        "token_too_strong",
        key,
        at=now,
        title=f"The token of site {site.name} could destroy",
        detail=f"it holds {', '.join(excess[:_SHOWN])}; until then nothing is restricted there for money",
    )


async def _not_believed(
    site: Site, servers: Sequence[Server], rows: Iterable[Observation], *, now: datetime, believed: Limit
) -> frozenset[int]:
    """Return the servers whose absence is doubted because so many are missing at once, and enter safe mode for it."""
    known = {server.id for server in servers if server.missing_since is not None}
    gone = frozenset(row.server_id for row in rows if row.absences >= ABSENCES_UNTIL_MISSING) - known
    most = believed.of(len(servers))
    if len(gone) <= most or await safety.was_released(SafeModeKind.GUESTS_MISSING, site.name):
        return frozenset()
    reason = (
        f"{len(gone)} of {len(servers)} guests of site {site.name} are missing at once; more than {most} is not "
        "believed until an admin releases it"
    )
    await safety.enter(SafeModeKind.GUESTS_MISSING, reason, scope=site.name, since=now, now=now)
    return gone


async def _missing_and_back(servers: Sequence[Server], rows: Iterable[Observation], now: datetime) -> None:
    """Mark what is gone from two complete readings, and what is back; either is a fact about its account."""
    by_id = {server.id: server for server in servers}
    for row in rows:
        server = by_id[row.server_id]
        if row.absences >= ABSENCES_UNTIL_MISSING and server.missing_since is None:
            await Server.filter(id=server.id, missing_since=None).update(missing_since=now)
            await _note(
                server,
                "server.missing",
                f"absent from {row.absences} complete readings of site {server.site}",
                now,
            )
            await metering.follow_missing(server, now=now)
            await work_queue.open_item(
                "server_missing",
                f"server_missing:{server.id}",
                at=now,
                title=f"A guest is missing from site {server.site}",
                detail=f"guest {server.guest} of server {server.external_id}; nothing is recreated",
                account_id=server.account_id,
                server_id=server.id,
            )
        elif row.absences == 0 and server.missing_since is not None:
            await Server.filter(id=server.id).update(missing_since=None, joined_at=now)
            await _note(server, "server.back", f"seen again on site {server.site}", now)
            await metering.follow(server.id, at=now, now=now)
            await work_queue.resolve(
                f"server_missing:{server.id}", at=now, by=ACTOR, resolution="it was seen again"
            )


async def _note(server: Server, kind: str, reason: str, now: datetime) -> None:
    await note_fact(server.account_id, now=now)
    await audit.record(
        kind, ("Server", server.id), at=now, actor=ACTOR, reason=reason, account_id=server.account_id
    )
