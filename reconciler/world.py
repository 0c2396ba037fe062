"""Loads what one pass plans from: servers and access roles that are not as they should be, and sites.

Reads a fixed number of statements for each few thousand of them, and rows only of those. Writes nothing.
"""

from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from billing.models import Account
from reconciler import access, identity, restore_record
from reconciler.access import Pair
from reconciler.chunks import chunks
from reconciler.hold_effects import in_force
from reconciler.inventory import Inventory, InventoryError, Site
from reconciler.models import Hold, Observation, RestorePart, Server, SiteState, Step
from reconciler.restore_record import BACKUP_PARTS, POWER_PARTS
from reconciler.rules.terms import Deployment, Mode, Power, StepKind, StepState
from reconciler.rules.world import (
    NOTHING_TAKEN,
    AccessView,
    HoldView,
    ObservedView,
    OpenStep,
    RecordView,
    ServerView,
    SiteView,
)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The part of the fleet that somebody or something restricts, or did."""

    servers: tuple[ServerView, ...]
    access: tuple[AccessView, ...]
    sites: Mapping[str, SiteView]

    @property
    def account_ids(self) -> frozenset[int]:
        """The accounts that own any of it."""
        return frozenset(view.account_id for view in self.servers) | {view.account_id for view in self.access}


async def load(inventory: Inventory, now: datetime) -> Fleet:
    """Return the servers and access roles whose holds, restore records, readings and wishes do not agree."""
    servers: list[Server] = []
    holds: dict[int, list[HoldView]] = defaultdict(list)
    observed: dict[int, Observation] = {}
    records: dict[int, RecordView] = {}
    steps = await _Steps.read(now)
    for ids in chunks(await _with_a_gap(now)):
        live = Server.filter(
            id__in=ids, retired_at=None, deployment=Deployment.SUCCEEDED, guest__isnull=False
        )
        servers += await live.order_by("id")
        holds |= await _holds(ids, now)
        observed |= {row.server_id: row for row in await Observation.filter(server_id__in=ids)}
        records |= await restore_record.of_servers(ids)
        steps.note_stopped(
            await Step.filter(server_id__in=ids, kind=StepKind.STOP)
            .order_by("id")
            .values_list("server_id", "state")
        )
    sites = await _sites(inventory)
    views = tuple(
        _server_view(server, holds.get(server.id, []), observed.get(server.id), records.get(server.id), steps)
        for server in servers
    )
    return Fleet(servers=views, access=await _access(inventory, sites, steps, now), sites=sites)


async def _with_a_gap(now: datetime) -> set[int]:
    """Return the servers that may need a step; those that are as they should be cost an id and no row."""
    stopped, locked = await _held(now, stops_server=True), await _held(now, locks_backups=True)
    running = Observation.filter(
        power=Power.RUNNING, server__holds__stops_server=True, server__holds__lifted_at=None
    )
    drifting = await _ids(running.values_list("server_id")) & stopped
    wished = await _ids(Server.filter(start_wanted_at__isnull=False, retired_at=None).values_list("id"))
    return stopped ^ await _taken(POWER_PARTS) | locked ^ await _taken(BACKUP_PARTS) | drifting | wished


async def _held(now: datetime, **effect: bool) -> set[int]:
    held = Hold.filter(in_force(now), server__retired_at=None, **effect)
    return await _ids(held.distinct().values_list("server_id"))


async def _taken(parts: Iterable[str]) -> set[int]:
    taken = RestorePart.filter(closed_at=None, server_id__isnull=False, part__in=list(parts))
    return await _ids(taken.distinct().values_list("server_id"))


async def _ids(rows: Awaitable[Iterable[tuple[int]]]) -> set[int]:
    return {server_id for (server_id,) in await rows}


async def _holds(server_ids: Sequence[int], now: datetime) -> Mapping[int, list[HoldView]]:
    found: dict[int, list[HoldView]] = defaultdict(list)
    for row in await Hold.filter(server_id__in=list(server_ids), lifted_at=None).order_by("since", "id"):
        if row.expires_at is None or row.expires_at > now:
            found[row.server_id].append(
                HoldView(
                    cause=row.cause,
                    stops_server=row.stops_server,
                    locks_backups=row.locks_backups,
                    locks_account=row.locks_account,
                    stage=row.stage,
                    reason=row.reason,
                    since=row.since,
                )
            )
    return found


@dataclass(kw_only=True)
class _Steps:
    """What is under way, what must wait, and whose last stop was done, by server and by account and site."""

    open_servers: Mapping[int, OpenStep]
    open_access: Mapping[Pair, OpenStep]
    retry_servers: Mapping[int, Mapping[StepKind, datetime]]
    retry_access: Mapping[Pair, Mapping[StepKind, datetime]]
    stopped: set[int] = field(default_factory=set)

    @classmethod
    async def read(cls, now: datetime) -> "_Steps":
        under_way = (
            await Step.filter(state__in=[StepState.DISPATCHED, StepState.UNKNOWN])
            .order_by("id")
            .values_list("server_id", "account_id", "site", "kind", "state", "dispatched_at")
        )
        open_servers: dict[int, OpenStep] = {}
        open_access: dict[Pair, OpenStep] = {}
        for server_id, account_id, site, kind, state, since in under_way:
            step = OpenStep(kind=kind, unknown=state is StepState.UNKNOWN, since=since)
            if server_id is not None:
                open_servers[server_id] = step
            else:
                open_access[account_id, site] = step
        retry_servers: dict[int, dict[StepKind, datetime]] = defaultdict(dict)
        retry_access: dict[Pair, dict[StepKind, datetime]] = defaultdict(dict)
        waiting = Step.filter(retry_at__gt=now).order_by("id")
        for server_id, account_id, site, kind, retry_at in await waiting.values_list(
            "server_id", "account_id", "site", "kind", "retry_at"
        ):
            of = retry_servers[server_id] if server_id else retry_access[account_id, site]
            of[kind] = retry_at
        return cls(
            open_servers=open_servers,
            open_access=open_access,
            retry_servers=retry_servers,
            retry_access=retry_access,
        )

    def note_stopped(self, stops: Iterable[tuple[int, StepState]]) -> None:
        """Take in the stops of some servers, oldest first: the last one of each counts."""
        last = dict(stops)
        self.stopped |= {server_id for server_id, state in last.items() if state is StepState.DONE}


def _server_view(
    server: Server,
    holds: list[HoldView],
    seen: Observation | None,
    record: RecordView | None,
    steps: _Steps,
) -> ServerView:
    observed = None
    if seen is not None:
        observed = ObservedView(
            power=seen.power,
            node=seen.node,
            observed_at=seen.observed_at,
            busy=seen.busy,
            absences=seen.absences,
        )
    return ServerView(
        id=server.id,
        external_id=server.external_id,
        account_id=server.account_id,
        site=server.site,
        node=server.site_node,
        kind=server.kind,
        guest=server.guest or "",
        critical=server.critical,
        missing=server.missing_since is not None,
        holds=tuple(holds),
        observed=observed,
        record=record or NOTHING_TAKEN,
        start_wanted=server.start_wanted_at is not None,
        open_step=steps.open_servers.get(server.id),
        stop_done=server.id in steps.stopped,
        retry_at=steps.retry_servers.get(server.id, {}),
    )


async def _sites(inventory: Inventory) -> Mapping[str, SiteView]:
    states = {row.site: row for row in await SiteState.all()}
    strangers = await identity.strangers()
    views = {}
    for site in inventory.sites:
        state = states.get(site.name)
        views[site.name] = SiteView(
            name=site.name,
            mode=Mode(site.mode.upper()),
            silent_nodes=frozenset(state.silent_nodes) if state else frozenset(),
            excess=tuple(state.excess) if state else (),
            stranger=strangers.get(site.name),
        )
    return views


async def _access(
    inventory: Inventory, sites: Mapping[str, SiteView], steps: _Steps, now: datetime
) -> tuple[AccessView, ...]:
    """Return the access roles that are to be changed or are being changed, of sites where customers have a login."""
    patterns = {site.name: site for site in inventory.sites if site.pool_pattern}
    closed = {
        (row.account_id or 0, row.site)
        for row in await RestorePart.filter(part="role", server_id=None, closed_at=None)
    }
    wanted = await access.wanted_closed(now) if patterns or closed else set()
    pairs = sorted(pair for pair in (wanted ^ closed) | steps.open_access.keys() if pair[1] in patterns)
    account_ids = {account_id for account_id, _ in pairs}
    records: dict[Pair, RecordView] = {}
    external: dict[int, str] = {}
    for ids in chunks(account_ids):
        records |= await restore_record.of_access(ids)
        external |= dict(await Account.filter(id__in=ids).values_list("id", "external_id"))
    views = []
    for account_id, site in pairs:
        pool = _pool(patterns[site], external[account_id])
        if pool is None:
            continue
        views.append(
            AccessView(
                account_id=account_id,
                site=site,
                pool=pool,
                node=_answering_node(patterns[site].node_names, sites[site]),
                wanted_closed=(account_id, site) in wanted,
                record=records.get((account_id, site), NOTHING_TAKEN),
                open_step=steps.open_access.get((account_id, site)),
                retry_at=steps.retry_access.get((account_id, site), {}),
            )
        )
    return tuple(views)


def _pool(site: Site, external_id: str) -> str | None:
    """Return the account's pool; null when no pool can be called by this id: nobody has a login there."""
    try:
        return site.pool_for(external_id)
    except InventoryError:
        return None


def _answering_node(nodes: Iterable[str], site: SiteView) -> str | None:
    return next((node for node in nodes if node not in site.silent_nodes), None)
