"""The driver for Proxmox VE: containers, virtual machines, their backups, and roles on customers' pools.

Owns what each step means in calls to the API, and waits for tasks. Every state it reports was read from the node that
the cluster map names now; an exit status never stands for a state.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .compare import Changes
from .proxmox_access import PoolAccess, SiteRoles
from .proxmox_client import ProxmoxClient
from .proxmox_endpoints import retry_of
from .proxmox_map import ClusterMap, Place, cluster_identity, read_map, split_tags
from .reports import Backup, GuestGoneError, PlatformError, Refusal, Retry, State, StillRunningError
from .targets import Target

#: A guest may take this much longer than its grace before we give up waiting (not before it is stopped).
MARGIN_SECONDS = 60.0
_FIRST_POLL, _LONGEST_POLL = 0.1, 2.0
#: What the HA manager shows while it leaves a guest in peace (`pve-ha-manager`, service states).
_HA_SETTLED = frozenset({"started", "stopped", "disabled", "ignored", "queued", "error"})
#: Tasks that only queue a wish with the HA manager (`PVE::API2::LXC::Status`, `PVE::API2::Qemu`).
_HA_TASKS = frozenset({"hastart", "hastop"})
_UPID_PARTS = 8
_HA_ERROR = "the HA service of the guest is in state error: a person has to clear it"


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the driver has to know of a site beside its endpoint."""

    storages: tuple[str, ...] = ()
    roles: SiteRoles | None = None


class ProxmoxDriver:
    """Implements `procedure.Driver` for one site; used by several threads at once."""

    def __init__(
        self,
        client: ProxmoxClient,
        site: Site,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._client, self._site = client, site
        self._monotonic, self._sleep = monotonic, sleep
        self._map = ClusterMap(places={}, online=frozenset(), silent=frozenset())
        self._tasks: dict[str, Mapping[str, str]] = {}
        self._access = PoolAccess(client, site.roles)
        self._lock = threading.Lock()
        self._identity: tuple[str | None] | None = None

    def prepare(self, targets: Sequence[Target]) -> None:
        """Read the map, the running tasks of the nodes concerned and, for pools, who holds which role."""
        guests = [target for target in targets if target.kind != "pool"]
        self._identity = None
        if guests:
            self._map = read_map(self._client)
            nodes = {self._map.places[t.guest].node for t in guests if t.guest in self._map.places}
            self._tasks = {node: self._running_tasks(node) for node in sorted(nodes & self._map.online)}
        if len(guests) < len(targets):
            self._access.load()

    def read(self, target: Target, parts: Sequence[str], *, restricts: bool) -> State:
        """Read a pool's role, or a guest; one that left its node since is looked for once more."""
        identity = self._who() if "identity" in parts else None
        return replace(self._read_target(target, parts, restricts=restricts), identity=identity)

    def _read_target(self, target: Target, parts: Sequence[str], *, restricts: bool) -> State:
        if target.kind == "pool":
            return State(role=self._access.role(target.pool, strictly=restricts))
        place = self._place(target)
        if restricts and place.node != target.node:
            raise Refusal(f"the guest is on node {place.node} now, not on {target.node}", Retry.LATER)
        if restricts and place.ha == "error" and "power" in parts:
            raise PlatformError(_HA_ERROR)
        try:
            return self._read(place, parts)
        except GuestGoneError as gone:
            self._map = read_map(self._client)
            moved = self._place(target)
            if moved.node == place.node:
                raise
            if restricts:
                raise Refusal(f"the guest left node {place.node}: {gone}", Retry.LATER) from None
            return self._read(moved, parts)

    def configure(self, target: Target, now: State, changes: Changes) -> None:
        """Set onboot, protection and our tag in one call, bound to the configuration that was compared."""
        parameters: dict[str, str] = {}
        if changes.onboot is not None:
            parameters["onboot"] = str(int(changes.onboot))
        if changes.protection is not None:
            parameters["protection"] = str(int(changes.protection))
        if changes.add_tag is not None or changes.take_tag is not None:
            kept = [tag for tag in now.tags or () if tag not in (changes.add_tag, changes.take_tag)]
            parameters["tags"] = ";".join([*kept, changes.add_tag] if changes.add_tag else kept)
        if now.digest:
            parameters["digest"] = now.digest
        self._client.call("configure", self._where(target, now), **parameters)

    def shut_down(self, target: Target, now: State, grace_seconds: float) -> None:
        """Ask for a shutdown that turns into a stop after the grace, and wait for its end.

        For a guest under HA the task only queues the wish: what counts is that the guest ends.
        """
        upid = self._client.call(
            "shut_down", self._where(target, now), timeout=str(max(1, round(grace_seconds))), forceStop="1"
        )
        limit = self._monotonic() + grace_seconds + MARGIN_SECONDS
        if self._await_task(upid, limit) in _HA_TASKS:
            self._await_power(target, now, "stopped", limit)

    def start(self, target: Target, now: State) -> None:
        """Start the guest and wait for the end of the task, or for HA to have done it."""
        upid = self._client.call("start", self._where(target, now))
        limit = self._monotonic() + 2 * MARGIN_SECONDS
        if self._await_task(upid, limit) in _HA_TASKS:
            self._await_power(target, now, "running", limit)

    def protect(self, target: Target, now: State, volid: str, *, protected: bool) -> None:
        """Set or lift the protection of one backup."""
        storage = volid.partition(":")[0]
        if storage not in self._site.storages:
            raise PlatformError(f"backup {volid} is on no storage of this site", Retry.NEVER)
        where = {"node": self._where(target, now)["node"], "storage": storage, "volid": volid}
        self._client.call("protect", where, protected=str(int(protected)))

    def swap_role(self, target: Target, now: State, role: str) -> None:
        """Swap the role on the target's pool."""
        self._access.swap(target.pool, taken=now.role, given=role)

    def _who(self) -> str | None:
        """Return which cluster answers; asked once for all targets of a chunk."""
        with self._lock:
            if self._identity is None:
                online = self._map.online or read_map(self._client).online
                self._identity = (cluster_identity(self._client, online),)
            return self._identity[0]

    def _place(self, target: Target) -> Place:
        place = self._map.places.get(target.guest)
        if place is None:
            raise Refusal(
                f"guest {target.guest} is not on the cluster's map: gone, or hidden from us", Retry.NEVER
            )
        if place.kind != target.kind:
            raise Refusal(f"guest {target.guest} is a {place.kind} now, not a {target.kind}", Retry.NEVER)
        if place.node not in self._map.online:
            raise Refusal(f"node {place.node} does not answer", Retry.LATER)
        return place

    def _where(self, target: Target, now: State) -> dict[str, str]:
        return {
            "node": now.node or target.node,
            "type": "qemu" if target.kind == "vm" else "lxc",
            "vmid": target.guest,
        }

    def _read(self, place: Place, parts: Sequence[str]) -> State:
        backups = self._backups(place) if "backups" in parts else None
        role = self._access.role_if_known(place.pool) if "role" in parts and place.pool else None
        if not {"power", "onboot", "protection", "tag", "marker"} & set(parts):
            return State(node=place.node, backups=backups, role=role)
        config = self._client.call("config", place.path)
        if not {"power", "onboot", "protection", "tag"} & set(parts):
            return State(node=place.node, marker=marker_of(place.kind, config), backups=backups, role=role)
        status = self._client.call("status", place.path)
        return State(
            power=str(status.get("status")) if status.get("status") in ("running", "stopped") else "unknown",
            onboot=bool(int(config.get("onboot") or 0)),
            protection=bool(int(config.get("protection") or 0)),
            tags=split_tags(config.get("tags")),
            node=place.node,
            digest=config.get("digest"),
            marker=marker_of(place.kind, config),
            busy=self._busy(place, config, status),
            backups=backups,
            role=role,
        )

    def _busy(self, place: Place, config: Mapping[str, Any], status: Mapping[str, Any]) -> str | None:
        if lock := config.get("lock") or status.get("lock"):
            return f"locked: {lock}"
        if status.get("qmpstatus") == "prelaunch":
            return "running for its backup only"
        if task := self._tasks.get(place.node, {}).get(place.vmid):
            return f"task: {task}"
        if place.ha is not None and place.ha not in _HA_SETTLED:
            return f"ha: {place.ha}"
        return None

    def _backups(self, place: Place) -> tuple[Backup, ...]:
        found = []
        for storage in self._site.storages:
            where = {"node": place.node, "storage": storage}
            for entry in self._client.call("backups", where, content="backup", vmid=place.vmid):
                protected = bool(int(entry.get("protected") or 0))
                found.append(
                    Backup(
                        volid=str(entry["volid"]), protected=protected, made=float(entry.get("ctime") or 0)
                    )
                )
        return tuple(sorted(found, key=lambda backup: backup.volid))

    def _running_tasks(self, node: str) -> Mapping[str, str]:
        """Return the type of the running task of each guest on a node; our own are always shown to us."""
        tasks = self._client.call("tasks", {"node": node}, source="active", limit="1000")
        return {
            str(task["id"]): str(task.get("type"))
            for task in tasks
            if task.get("id")
            and not task.get("endtime")
            and task.get("status") in (None, "", "running", "RUNNING")
        }

    def _await_task(self, upid: object, limit: float) -> str:
        """Poll a task to its end and return its type; a bad end raises, and so does a task that outlives `limit`."""
        parts = upid.split(":") if isinstance(upid, str) else []
        if len(parts) < _UPID_PARTS or parts[0] != "UPID":
            raise StillRunningError(f"expected a task, got {str(upid)[:60]!r}")
        node, kind = parts[1], parts[5]
        for _ in self._polls(limit):
            status = self._client.call("task", {"node": node, "upid": str(upid)})
            if status.get("status") == "stopped":
                break
        else:
            raise StillRunningError(f"task {kind} still runs")
        end = str(status.get("exitstatus", ""))
        if end != "OK" and not end.startswith("WARNINGS"):
            passes = retry_of(500, end) == "later"
            raise PlatformError(f"task {kind} ended with: {end}", Retry.LATER if passes else None)
        return kind

    def _await_power(self, target: Target, now: State, power: str, limit: float) -> None:
        """Wait for a guest under HA, whose task ends before anything has happened."""
        for _ in self._polls(limit):
            status = self._client.call("status", self._where(target, now))
            if status.get("status") == power:
                return
            if (status.get("ha") or {}).get("state") == "error":
                raise PlatformError(_HA_ERROR)
        raise StillRunningError(f"HA has not brought the guest to {power} yet")

    def _polls(self, limit: float) -> Any:
        """Yield at once and then at growing intervals, until `limit` has passed."""
        pause = _FIRST_POLL
        while True:
            yield
            if self._monotonic() + pause > limit:
                return
            self._sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL)


def marker_of(kind: str, config: Mapping[str, Any]) -> str | None:
    """Return what tells a guest from another one that has its number later.

    A VM's creation time (`meta: …,ctime=`) or generation id, a container's first hardware address.
    """
    if kind == "vm":
        if found := re.search(r"(?:^|,)ctime=(\d+)", str(config.get("meta", ""))):
            return f"ctime:{found[1]}"
        vmgenid = config.get("vmgenid")
        return f"vmgenid:{vmgenid}" if vmgenid else None
    interfaces = sorted((key for key in config if re.fullmatch(r"net\d+", key)), key=lambda key: int(key[3:]))
    for key in interfaces:
        if found := re.search(r"(?:^|,)hwaddr=([0-9A-Fa-f:]{17})", str(config[key])):
            return f"hwaddr:{found[1].upper()}"
    return None
