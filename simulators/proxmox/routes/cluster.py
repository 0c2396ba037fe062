"""The cluster as a whole: version, resources, nodes, HA resources and backup jobs.

Served from what the nodes last broadcast, never by asking a node (`PVE::API2::Cluster`, `PVE::API2Tools`); certificates
alone are read on the node.
"""

import hashlib
from typing import Any

from simulators.proxmox.core import Core
from simulators.proxmox.endpoints import Answer, Ask, Endpoint, Parameter
from simulators.proxmox.state import GIB, Guest, Kind, Node

VERSION = {"release": "9.2", "repoid": "5a3f1d07c9e2b846", "version": "9.2.11"}


def _version(_ask: Ask) -> Answer:
    return dict(VERSION)


def _resources(ask: Ask) -> Answer:
    wanted = ask.params.get("type")
    rows: list[dict[str, Any]] = []
    if wanted is None:
        rows += [
            {"id": f"/pool/{name}", "pool": name, "type": "pool"}
            for name in ask.core.access.pools
            if ask.may(f"/pool/{name}", "Pool.Audit")
        ]
    if wanted in (None, "vm"):
        # Guests that one may not see are left out without a word: absent is not gone.
        rows += [
            guest_row(ask.core, guest)
            for guest in ask.core.guests.values()
            if ask.may(f"/vms/{guest.vmid}", "VM.Audit")
        ]
    if wanted in (None, "node"):
        rows += [_node_row(ask, node) for node in ask.core.nodes.values()]
    if wanted in (None, "storage"):
        rows += _storage_rows(ask)
    return rows


def guest_row(core: Core, guest: Guest) -> dict[str, Any]:
    """One guest as the cluster knows it: state from the last broadcast, lock, tags and pool from the configuration."""
    row: dict[str, Any] = {
        "id": f"{guest.kind}/{guest.vmid}",
        "node": guest.node,
        "status": "unknown",
        "type": str(guest.kind),
        "vmid": guest.vmid,
    }
    if pool := core.access.pool_of.get(guest.vmid):
        row["pool"] = pool
    if guest.lock:
        row["lock"] = guest.lock
    if tags := guest.options.get("tags"):
        row["tags"] = tags
    if guest.ha is not None:
        row["hastate"] = str(guest.ha)
    if told := core.known(guest):
        running = bool(told.uptime) or told.power == "running"
        row |= {
            "cpu": 0.02 if running else 0,
            "disk": 0,
            "diskread": 0,
            "diskwrite": 0,
            "maxcpu": guest.hardware["cores"],
            "maxdisk": 8 * GIB,
            "maxmem": int(guest.hardware["memory"]) * 1024**2,
            "mem": GIB // 4 if running else 0,
            "name": told.name,
            "netin": 0,
            "netout": 0,
            "status": str(told.power),
            "template": int(guest.template),
            "uptime": told.uptime,
        }
    return row


def _node_row(ask: Ask, node: Node) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": f"node/{node.name}",
        "level": "",
        "node": node.name,
        "status": "online" if node.online else "offline",
        "type": "node",
    }
    if ask.may(f"/nodes/{node.name}", "Sys.Audit"):
        row |= {"cgroup-mode": 2, "maxcpu": 32, "maxdisk": 100 * GIB, "maxmem": 128 * GIB}
        if node.online:
            uptime = int((ask.core.timeline.now - node.booted_at).total_seconds())
            row |= {"cpu": 0.1, "disk": 20 * GIB, "mem": 40 * GIB, "uptime": uptime}
    return row


def _storage_rows(ask: Ask) -> list[dict[str, Any]]:
    return [
        {
            "content": "backup",
            "disk": 200 * GIB,
            "id": f"storage/{node.name}/{storage.name}",
            "maxdisk": 2000 * GIB,
            "node": node.name,
            "plugintype": storage.kind,
            "shared": 1,
            "status": "available" if node.online and storage.reachable else "unknown",
            "storage": storage.name,
            "type": "storage",
        }
        for storage in ask.core.storages.values()
        if ask.may(f"/storage/{storage.name}", "Datastore.Audit")
        for node in ask.core.nodes.values()
    ]


def _nodes(ask: Ask) -> Answer:
    rows = [_node_row(ask, node) for node in ask.core.nodes.values()]
    for row in rows:
        row.pop("cgroup-mode", None)
        row["ssl_fingerprint"] = _fingerprint(_of_node(ask.core, str(row["node"])))
    return rows


def _certificates(ask: Ask) -> Answer:
    """The cluster's authority and the node's own certificate; anybody who may log in sees them."""
    return [
        {"filename": name, "fingerprint": _fingerprint(made_of), "subject": made_of}
        for name, made_of in (
            (
                "pve-root-ca.pem",
                f"/CN=Proxmox Virtual Environment/O=PVE Cluster Manager CA/OU={ask.core.authority}",
            ),
            ("pve-ssl.pem", _of_node(ask.core, ask.node)),
        )
    ]


def _of_node(core: Core, node: str) -> str:
    return f"/O=Proxmox Virtual Environment/OU={core.authority} {core.renewals}/CN={node}"


def _fingerprint(made_of: str) -> str:
    """A fingerprint as Proxmox VE writes it; two certificates that were made of the same have the same."""
    return hashlib.sha256(made_of.encode()).digest().hex(":").upper()


def _ha_resources(ask: Ask) -> Answer:
    return [
        {
            "sid": f"{'ct' if guest.kind is Kind.LXC else 'vm'}:{guest.vmid}",
            "state": "started" if guest.ha_wants_running else "stopped",
            "type": "ct" if guest.kind is Kind.LXC else "vm",
        }
        for guest in ask.core.guests.values()
        if guest.ha is not None
    ]


def _backup_jobs(ask: Ask) -> Answer:
    rows: list[dict[str, Any]] = []
    for job in ask.core.backup_jobs.values():
        row = {
            "enabled": 1,
            "id": job.id,
            "mode": "snapshot",
            "schedule": job.schedule,
            "storage": job.storage,
        }
        if job.pool:
            row["pool"] = job.pool
        if job.all:
            row["all"] = 1
        rows.append(row)
    return rows


def _audits_root(ask: Ask) -> None:
    ask.check("/", "Sys.Audit")


ENDPOINTS = (
    Endpoint(method="GET", path="/version", answer=_version),
    Endpoint(
        method="GET",
        path="/cluster/resources",
        answer=_resources,
        accepts={"type": Parameter(choices=("vm", "storage", "node", "sdn"))},
    ),
    Endpoint(method="GET", path="/nodes", answer=_nodes),
    Endpoint(method="GET", path="/nodes/{node}/certificates/info", answer=_certificates),
    Endpoint(method="GET", path="/cluster/ha/resources", answer=_ha_resources, permitted=_audits_root),
    Endpoint(method="GET", path="/cluster/backup", answer=_backup_jobs, permitted=_audits_root),
)
