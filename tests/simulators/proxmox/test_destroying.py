"""Calls that could destroy: refused, and written down."""

from typing import Any

import pytest

from simulators.proxmox import Cluster
from simulators.proxmox.destroying import what_it_destroys

GUEST = "/nodes/pve1/qemu/102"
DESTROYING = [
    ("DELETE", GUEST, {}),
    ("DELETE", "/nodes/pve1/lxc/101", {"purge": "1"}),
    ("DELETE", "/nodes/pve1/storage/pbs/content/pbs:backup/ct/101/2026-11-19T12:00:00Z", {}),
    ("DELETE", "/nodes/pve1/storage/pbs/prunebackups", {}),
    ("DELETE", f"{GUEST}/snapshot/before", {}),
    ("DELETE", "/storage/pbs", {}),
    ("DELETE", "/pools/customer-anna", {}),
    ("DELETE", "/cluster/backup/nightly", {}),
    ("POST", f"{GUEST}/snapshot/before/rollback", {}),
    ("POST", f"{GUEST}/template", {}),
    ("PUT", f"{GUEST}/unlink", {"idlist": "scsi0"}),
    ("PUT", f"{GUEST}/resize", {"disk": "scsi0", "size": "1G"}),
    ("PUT", f"{GUEST}/config", {"delete": "tags,scsi1"}),
    ("PUT", "/nodes/pve1/lxc/101/config", {"delete": "mp0"}),
    ("POST", f"{GUEST}/move_disk", {"disk": "scsi0", "delete": "1"}),
    ("POST", "/nodes/pve1/lxc/101/move_volume", {"volume": "rootfs", "delete": "1"}),
    ("POST", "/nodes/pve1/qemu", {"vmid": "102", "archive": "pbs:backup/vm/102/x", "force": "1"}),
    ("POST", "/nodes/pve1/lxc", {"vmid": "101", "ostemplate": "pbs:backup/ct/101/x", "restore": "1"}),
    ("POST", "/nodes/pve1/vzdump", {"vmid": "101", "storage": "pbs", "remove": "1"}),
    ("POST", "/nodes/pve1/vzdump", {"vmid": "101", "storage": "pbs", "prune-backups": "keep-last=1"}),
    ("POST", "/nodes/pve1/vzdump", {"vmid": "101", "storage": "pruning"}),
    ("PUT", "/cluster/backup/nightly", {"prune-backups": "keep-last=1"}),
    ("PUT", "/nodes/pve1/disks/wipedisk", {"disk": "/dev/sda"}),
]
HARMLESS = [
    ("GET", GUEST, {}),
    ("GET", "/nodes/pve1/storage/pbs/prunebackups", {}),
    ("POST", f"{GUEST}/status/stop", {}),
    ("POST", f"{GUEST}/status/shutdown", {"forceStop": "1"}),
    ("PUT", f"{GUEST}/config", {"delete": "tags,protection", "onboot": "0"}),
    ("PUT", "/access/acl", {"path": "/pool/x", "roles": "Customer", "users": "a@pve", "delete": "1"}),
    ("POST", "/nodes/pve1/vzdump", {"vmid": "101", "storage": "pbs", "remove": "0"}),
    ("POST", "/nodes/pve1/vzdump", {"vmid": "101", "storage": "pbs"}),
    ("POST", "/nodes/pve1/vzdump", {"vmid": "101", "storage": "pruning", "remove": "0"}),
    ("PUT", "/nodes/pve1/storage/pbs/content/pbs:backup/ct/101/2026-11-19T12:00:00Z", {"protected": "0"}),
]


@pytest.mark.parametrize(("method", "path", "params"), DESTROYING)
async def test_a_destroying_call_is_refused_even_to_root_and_recorded(
    cluster: Cluster, root: Any, method: str, path: str, params: dict[str, str]
) -> None:
    """Nothing changes, and a test can fail on the record."""
    cluster.add_storage("pruning", prunes=True)
    cluster.add_backup(101, "pbs", at="2026-11-19T12:00:00+00:00")
    before = cluster.snapshot()
    answer = await root(method, path, **params)
    assert answer.status == 403
    assert "the simulator refuses" in answer.reason
    assert [(call.method, call.path) for call in cluster.destroying_calls] == [(method, path)]
    cluster.reset_calls()
    assert len(cluster.destroying_calls) == 1
    assert cluster.snapshot() == before


@pytest.mark.parametrize(("method", "path", "params"), HARMLESS)
def test_a_harmless_call_is_no_destroying_one(method: str, path: str, params: dict[str, str]) -> None:
    """What the product does every day does not raise the alarm."""
    assert what_it_destroys(method, path, params, storage_prunes=params.get("storage") == "pruning") is None


async def test_one_without_a_valid_token_is_recorded_too(cluster: Cluster, caller: Any) -> None:
    """Trying is enough."""
    assert (await caller("x@pve!y", "z")("DELETE", GUEST)).status == 401
    assert len(cluster.destroying_calls) == 1
