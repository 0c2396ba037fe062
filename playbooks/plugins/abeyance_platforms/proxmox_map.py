"""The map of a Proxmox VE cluster: which guest is on which node, which nodes answer, and which cluster it is.

Owns the reading of `/cluster/resources`, `/access/permissions` and the cluster's own certificate. Guests that the token
may not see are missing from the map without a word, so the map also says whether that can be excluded, and whether
the token could destroy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .proxmox_client import ProxmoxClient
from .reports import PlatformError, Retry
from .targets import NODE, VMID

KINDS = {"lxc": "lxc", "qemu": "vm"}

#: With any of these, a token could destroy a guest, its disks, snapshots or backups, or work inside it (the privileges
#: of pveum(1), "Privileges"). `VM.Backup` with `Datastore.AllocateSpace` lets it delete backups that are not protected
#: as well, but without the two no backup can be protected either.
DESTROYING = frozenset({
    "VM.Allocate", "VM.Config.Disk", "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Monitor",
    "VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted", "Datastore.Allocate", "Sys.Modify",
})  # fmt: skip
#: Gives its holder every other right below a path. On pools it is what swaps the customers' role, and what holds on a
#: pool is shown for each guest and storage in it (`PVE::RPCEnvironment::get_effective_permissions`).
GRANTING = "Permissions.Modify"
#: The certificate of the cluster's own authority. It is made with the cluster and shared by all of its nodes: a node
#: that joins takes it over, and renewing a node's certificate leaves it alone (`pvecm(1)`, `PVE::Cluster::Setup`).
_AUTHORITY = "pve-root-ca.pem"
_FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}")
#: So many nodes are asked who the cluster is before it counts as not told.
_ASKED = 3
_OF_A_POOL = re.compile(r"/pool(/.*)?|/vms/\d+|/storage/[^/]+")


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the map says of one guest. `power` is unknown when its node does not answer."""

    vmid: str
    kind: str
    node: str
    power: str
    tags: tuple[str, ...]
    lock: str | None
    ha: str | None
    pool: str | None

    @property
    def busy(self) -> str | None:
        """Why the guest should be left alone now."""
        return f"locked: {self.lock}" if self.lock else None

    @property
    def path(self) -> dict[str, str]:
        """The parts of an endpoint's path that name this guest."""
        return {"node": self.node, "type": "qemu" if self.kind == "vm" else "lxc", "vmid": self.vmid}

    def wire(self) -> dict[str, object]:
        """Return the guest as a shallow observation reports it."""
        return {
            "guest": self.vmid,
            "kind": self.kind,
            "node": self.node,
            "power": self.power,
            "tags": list(self.tags),
            "busy": self.busy,
        }


@dataclass(frozen=True, kw_only=True)
class ClusterMap:
    """One reading of the map. It lags by some 10 s, and by minutes for a node that died: never a proof of power."""

    places: Mapping[str, Place]
    online: frozenset[str]
    silent: frozenset[str]


def read_map(client: ProxmoxClient) -> ClusterMap:
    """Read the map with one call, which every node can answer from memory."""
    entries = [entry for entry in client.call("resources") if isinstance(entry, dict)]
    nodes = {str(entry.get("node")): entry.get("status") for entry in entries if entry.get("type") == "node"}
    online = frozenset(name for name, status in nodes.items() if status == "online")
    places = {}
    for entry in entries:
        if (kind := KINDS.get(str(entry.get("type")))) is None:
            continue
        vmid, node = str(entry.get("vmid")), str(entry.get("node"))
        if VMID.fullmatch(vmid) and NODE.fullmatch(node):
            places[vmid] = _place(entry, vmid, kind, node, answers=node in online)
    return ClusterMap(places=places, online=online, silent=frozenset(nodes) - online)


def _place(entry: Mapping[str, Any], vmid: str, kind: str, node: str, *, answers: bool) -> Place:
    status = entry.get("status")
    return Place(
        vmid=vmid,
        kind=kind,
        node=node,
        power=str(status) if answers and status in ("running", "stopped") else "unknown",
        tags=split_tags(entry.get("tags")),
        lock=entry.get("lock") or None,
        ha=entry.get("hastate") or None,
        pool=entry.get("pool") or None,
    )


def split_tags(raw: object) -> tuple[str, ...]:
    """Return the tags of a guest; Proxmox VE separates them by semicolons, and reads commas and blanks as well."""
    return tuple(tag for tag in re.split(r"[;, ]+", raw) if tag) if isinstance(raw, str) else ()


def sees_everything(held: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether the token holds VM.Audit on all guests; without that, absent means nothing."""
    if held.get("/vms", {}).get("VM.Audit") != 1:
        return False
    below = [rights for path, rights in held.items() if path.startswith("/vms/")]
    return all("VM.Audit" in rights for rights in below)


def excess(held: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return every privilege with which the token could destroy, such as `VM.Allocate on /vms`."""
    return sorted(
        f"{privilege} on {path}"
        for path, rights in held.items()
        for privilege in rights
        if privilege in DESTROYING or (privilege == GRANTING and not _OF_A_POOL.fullmatch(path))
    )


def _held(client: ProxmoxClient) -> dict[str, Mapping[str, int]]:
    """Read what the token may do, from `GET /access/permissions`: per path its privileges, 1 where they hold below."""
    held = client.call("permissions")
    if not isinstance(held, dict):
        return {}
    return {str(path): rights for path, rights in held.items() if isinstance(rights, dict)}


def cluster_identity(client: ProxmoxClient, online: frozenset[str]) -> str | None:
    """Return who the cluster is: the fingerprint of its authority's certificate; None where it has none.

    `GET /nodes/{node}/certificates/info` needs no privilege. Raises `PlatformError` when no node of `online` tells.
    """
    problem = PlatformError("no node of the cluster answers", Retry.LATER)
    for node in sorted(online)[:_ASKED]:
        try:
            told = client.call("certificates", {"node": node})
        except PlatformError as error:
            problem = error
            continue
        entries = [entry for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
        prints = [str(one.get("fingerprint")) for one in entries if one.get("filename") == _AUTHORITY]
        return next((f"CA {found.upper()}" for found in prints if _FINGERPRINT.fullmatch(found)), None)
    raise problem


def survey(client: ProxmoxClient, nodes: Sequence[str]) -> dict[str, object]:
    """Return the shallow observation of a site whose inventory lists `nodes`."""
    found = read_map(client)
    silent = found.silent | (frozenset(nodes) - found.online)
    held = _held(client)
    problem, identity = None, None
    try:
        identity = cluster_identity(client, found.online)
    except PlatformError as error:
        problem = f"the cluster does not tell who it is: {error}"
    if silent:
        problem = f"no answer from {', '.join(sorted(silent))}"
    elif problem is None and not sees_everything(held):
        problem = "the token lacks VM.Audit on /vms: what it does not show may still be there"
    return {
        "guests": [place.wire() for _, place in sorted(found.places.items(), key=lambda item: int(item[0]))],
        "nodes": sorted(found.online),
        "silent_nodes": sorted(silent),
        "excess": excess(held),
        "identity": identity,
        "complete": problem is None,
        "problem": problem,
    }
