"""Which calls could destroy something: a guest, a disk, a backup, a snapshot, or what a backup job keeps.

Owns that judgement for the whole of the Proxmox VE API, whether the simulator serves the path or not. It errs on
the side of suspicion: no part of the product has a reason to come near any of these.
"""

import re
from collections.abc import Mapping

_DISK = re.compile(r"(rootfs|efidisk0|tpmstate0|(mp|unused|ide|sata|scsi|virtio)\d+)")
_GUEST = r"/nodes/[^/]+/(lxc|qemu)"
_ALWAYS = (
    ("POST", re.compile(rf"{_GUEST}/\d+/snapshot/[^/]+/rollback"), "rolls a guest back"),
    ("POST", re.compile(rf"{_GUEST}/\d+/template"), "turns a guest into a template"),
    ("PUT", re.compile(r"/nodes/[^/]+/qemu/\d+/unlink"), "unlinks disks"),
    ("PUT", re.compile(rf"{_GUEST}/\d+/resize"), "resizes a disk"),
    ("PUT", re.compile(r"/nodes/[^/]+/disks/wipedisk"), "wipes a disk"),
    ("POST", re.compile(r"/nodes/[^/]+/disks/initgpt"), "overwrites a disk"),
    ("POST", re.compile(r"/nodes/[^/]+/(execute|termproxy|vncshell|spiceshell)"), "opens a shell on a node"),
)
_SWITCHED = (
    (re.compile(rf"{_GUEST}/\d+/(move_disk|move_volume|remote_migrate)"), "delete", "removes the original"),
    (re.compile(_GUEST), "force", "restores over a guest"),
    (re.compile(_GUEST), "restore", "restores over a guest"),
    (re.compile(_GUEST), "archive", "restores over a guest"),
    (re.compile(r"/nodes/[^/]+/vzdump|/cluster/backup(/.*)?"), "remove", "prunes older backups"),
    (re.compile(r"/nodes/[^/]+/vzdump|/cluster/backup(/.*)?"), "prune-backups", "prunes older backups"),
)


def what_it_destroys(
    method: str, path: str, params: Mapping[str, str], *, storage_prunes: bool
) -> str | None:
    """Return what a call would destroy, in a few words, or None for a harmless one.

    `storage_prunes`: the storage in the call has a retention of its own, which `vzdump` applies unless `remove=0`.
    """
    if method == "DELETE":
        return "deletes"
    for verb, pattern, reason in _ALWAYS:
        if method == verb and pattern.fullmatch(path):
            return reason
    if method == "GET":
        return None
    for pattern, switch, reason in _SWITCHED:
        if pattern.fullmatch(path) and params.get(switch, "0") not in ("", "0", "no", "off", "false"):
            return reason
    if path.endswith("/vzdump") and storage_prunes and "remove" not in params:
        return "prunes older backups by the storage's own retention"
    if path.endswith("/config") and any(
        _DISK.fullmatch(name) for name in re.split(r"[,;\s]+", params.get("delete", ""))
    ):
        return "removes a disk"
    return None
