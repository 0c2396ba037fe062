"""Loads what one pass plans from: restricted servers, access roles, sites.

Reads a fixed number of statements whatever the fleet's size, and only servers that a hold, a restore record or a wish
touches. Writes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tortoise.expressions import Q

from billing.models import Account, Override
from billing.rules.terms import HoldCause, OverrideKind
from reconciler import restore_record
from reconciler.billing_holds import is_active
from reconciler.inventory import Inventory, InventoryError, Site
from reconciler.models import Hold, Observation, RestorePart, Server, SiteState, Step
from reconciler.rules.terms import Deployment, Mode, StepKind, StepState
from reconciler.rules.world import (
    NOTHING_TAKEN,
    AccessView,
    HoldView,
    ObservedView,
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


async def load(inventory: Inventory, now: datetime, *, only: Iterable[int] | None = None) -> Fleet:
    """Return the servers with an open hold, an unfinished restore or a wish; `only` narrows to some accounts."""
    server_ids = await _touched_servers(now)
    rows = Server.filter(
        id__in=server_ids, retired_at=None, deployment=Deployment.SUCCEEDED, guest__isnull=False
    )
    if only is not None:
        rows = rows.filter(account_id__in=list(only))
    servers = await rows.order_by("id")
    ids = [server.id for server in servers]
    holds = await _holds(ids, now)
    steps = await _Steps.read()
    sites = await _sites(inventory)
    observed = {row.server_id: row for row in await Observation.filter(server_id__in=ids)}
    records = await restore_record.of_servers(ids)
    views = tuple(
        _server_view(
            server, holds[server.id], observed.get(server.id), records.get(server.id, NOTHING_TAKEN), steps
        )
        for server in servers
    )
    return Fleet(servers=views, access=await _access(views, inventory, sites, steps, now), sites=sites)


async def _touched_servers(now: datetime) -> list[int]:
    holding = Q(lifted_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    held = await Hold.filter(holding).distinct().values_list("server_id", flat=True)
    taken = (
        await RestorePart.filter(closed_at=None, server_id__isnull=False)
        .distinct()
        .values_list("server_id", flat=True)
    )
    wished = await Server.filter(start_wanted_at__isnull=False, retired_at=None).values_list("id", flat=True)
    return sorted({*held, *taken, *wished})  # type: ignore[arg-type]


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


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """What is under way, what must wait, and which stops were done, by server and by account and site."""

    open_servers: frozenset[int]
    open_access: frozenset[tuple[int, str]]
    retry_servers: Mapping[int, Mapping[StepKind, datetime]]
    retry_access: Mapping[tuple[int, str], Mapping[StepKind, datetime]]
    stopped: frozenset[int]

    @classmethod
    async def read(cls) -> "_Steps":
        under_way = await Step.filter(state__in=[StepState.DISPATCHED, StepState.UNKNOWN])
        retry_servers: dict[int, dict[StepKind, datetime]] = defaultdict(dict)
        retry_access: dict[tuple[int, str], dict[StepKind, datetime]] = defaultdict(dict)
        for row in await Step.filter(retry_at__isnull=False).order_by("id"):
            of = retry_servers[row.server_id] if row.server_id else retry_access[row.account_id, row.site]
            of[row.kind] = row.retry_at  # type: ignore[assignment]
        taken = RestorePart.filter(part="power", closed_at=None, server_id__isnull=False)
        steps = dict(await taken.values_list("server_id", "step_id"))
        last = (
            await Step.filter(server_id__in=list(steps), kind=StepKind.STOP)
            .order_by("id")
            .values_list("server_id", "state")
        )
        latest = dict(last)
        return cls(
            open_servers=frozenset(row.server_id for row in under_way if row.server_id is not None),
            open_access=frozenset((row.account_id, row.site) for row in under_way if row.server_id is None),
            retry_servers=retry_servers,
            retry_access=retry_access,
            stopped=frozenset(server for server, state in latest.items() if state is StepState.DONE),
        )


def _server_view(
    server: Server, holds: list[HoldView], seen: Observation | None, record: RecordView, steps: _Steps
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
        record=record,
        start_wanted=server.start_wanted_at is not None,
        step_open=server.id in steps.open_servers,
        stop_done=server.id in steps.stopped,
        retry_at=steps.retry_servers.get(server.id, {}),
    )


async def _sites(inventory: Inventory) -> Mapping[str, SiteView]:
    states = {row.site: row for row in await SiteState.all()}
    views = {}
    for site in inventory.sites:
        state = states.get(site.name)
        views[site.name] = SiteView(
            name=site.name,
            mode=Mode(site.mode.upper()),
            complete_at=state.complete_at if state else None,
            silent_nodes=frozenset(state.silent_nodes) if state else frozenset(),
        )
    return views


async def _access(
    servers: Sequence[ServerView],
    inventory: Inventory,
    sites: Mapping[str, SiteView],
    steps: _Steps,
    now: datetime,
) -> tuple[AccessView, ...]:
    """Return the access roles that are closed or should be, of sites where customers have a login."""
    patterns = {site.name: site for site in inventory.sites if site.pool_pattern}
    locking = {
        (server.account_id, server.site)
        for server in servers
        if server.site in patterns and any(_locks_access(hold) for hold in server.holds)
    }
    closed = {
        (row.account_id or 0, row.site)
        for row in await RestorePart.filter(part="role", server_id=None, closed_at=None)
    }
    wanted = locking - await _spared(locking, now)
    pairs = sorted(wanted | closed)
    records = await restore_record.of_access({account_id for account_id, _ in pairs})
    external = dict(
        await Account.filter(id__in=sorted({account_id for account_id, _ in pairs})).values_list(
            "id", "external_id"
        )
    )
    views = []
    for account_id, site in pairs:
        pool = _pool(patterns.get(site), str(external[account_id]))
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
                step_open=(account_id, site) in steps.open_access,
                retry_at=steps.retry_access.get((account_id, site), {}),
            )
        )
    return tuple(views)


def _pool(site: Site | None, external_id: str) -> str | None:
    """Return the account's pool; null where customers have no login, or none that this id could name."""
    try:
        return site.pool_for(external_id) if site else None
    except InventoryError:
        return None


def _locks_access(hold: HoldView) -> bool:
    return hold.cause is HoldCause.BILLING and hold.locks_account


async def _spared(pairs: Iterable[tuple[int, str]], now: datetime) -> set[tuple[int, str]]:
    """Return the accounts and sites with a server there that billing must not touch: its people keep their access."""
    accounts = sorted({account_id for account_id, _ in pairs})
    exempt = [
        row.server_id
        for row in await Override.filter(
            account_id__in=accounts, kind=OverrideKind.EXEMPT, server_id__isnull=False
        )
        if is_active(row, now)
    ]
    spared = Server.filter(Q(id__in=exempt) | Q(free=True), account_id__in=accounts, retired_at=None)
    return set(await spared.values_list("account_id", "site"))


def _answering_node(nodes: Iterable[str], site: SiteView) -> str | None:
    return next((node for node in nodes if node not in site.silent_nodes), None)
