"""Storages and the backups on them, and taking one (`PVE::API2::Storage::Content`, `PVE::API2::VZDump`).

A backup is seen with `Datastore.AllocateSpace` on the storage and `VM.Backup` on its guest, or with
`Datastore.Allocate`; others are left out of the list without a word.
"""

from typing import Any

from simulators.proxmox import backups
from simulators.proxmox.endpoints import FLAG, NUMBER, TEXT, Answer, Ask, Endpoint, Parameter
from simulators.proxmox.errors import ApiError, TaskFailed, bad_parameter, failed, forbidden
from simulators.proxmox.state import GIB, Backup, Storage

_BACKUP_SECONDS = 30.0


def _storages(ask: Ask) -> Answer:
    return [
        {
            "active": int(storage.reachable),
            "avail": 1800 * GIB,
            "content": "backup",
            "enabled": 1,
            "shared": 1,
            "storage": storage.name,
            "total": 2000 * GIB,
            "type": storage.kind,
            "used": 200 * GIB,
            "used_fraction": 0.1,
        }
        for storage in ask.core.storages.values()
        if ask.params.get("storage", storage.name) == storage.name
        and ask.params.get("content", "backup") == "backup"
        and ask.may(f"/storage/{storage.name}", "Datastore.Audit", "Datastore.AllocateSpace")
    ]


def _content(ask: Ask) -> Answer:
    storage = _storage(ask)
    if ask.params.get("content", "backup") != "backup":
        return []
    return [
        _row(backup)
        for backup in ask.core.backups.values()
        if backup.storage == storage.name
        and ask.params.get("vmid", backup.vmid) == backup.vmid
        and _refusal(ask, backup.volid) is None
    ]


def _row(backup: Backup) -> dict[str, Any]:
    row: dict[str, Any] = {
        "content": "backup",
        "ctime": int(backup.at.timestamp()),
        "format": backup.format,
        "size": backup.size,
        "subtype": str(backup.kind),
        "vmid": backup.vmid,
        "volid": backup.volid,
    }
    if backup.notes:
        row["notes"] = backup.notes.splitlines()[0]
    if backup.protected:
        row["protected"] = 1  # never 0: an unprotected backup has no such field
    return row


def _info(ask: Ask) -> Answer:
    volid = _accessible_volid(ask)
    backup = ask.core.backups.get(volid)
    if backup is None:
        raise failed(f"volume_size_info on '{volid}' failed - no format")
    row: dict[str, Any] = {
        "format": backup.format,
        "path": f"/mnt/pve/{backup.storage}/{volid.partition(':')[2]}",
        "protected": int(backup.protected),
        "size": backup.size,
        "used": backup.size,
    }
    if backup.notes:
        row["notes"] = backup.notes
    return row


def _update(ask: Ask) -> Answer:
    volid, storage = _accessible_volid(ask), _storage(ask)
    if "notes" in ask.params:
        backups.annotate(ask.core, storage, volid, ask.params["notes"])
    if "protected" in ask.params:
        unlimited = ask.may(f"/storage/{storage.name}", "Datastore.Allocate")
        backups.protect(ask.core, storage, volid, protected=ask.params["protected"], unlimited=unlimited)
    return None


def _vzdump(ask: Ask) -> Answer:
    """Back up one guest. On another node than the guest's it answers `OK` and does nothing."""
    given = ask.params["vmid"]
    if not given.isdecimal():
        raise bad_parameter(vmid=f"the simulator backs up one guest per call - got '{given}'")
    vmid = int(given)
    guest = ask.core.guests.get(vmid)
    if guest is not None and guest.node != ask.node:
        return "OK"
    ask.check(f"/storage/{ask.params['storage']}", "Datastore.AllocateSpace")
    storage = _storage_named(ask, ask.params["storage"])
    if guest is None or not ask.may(f"/vms/{vmid}", "VM.Backup"):
        return _refused_backup(ask, vmid, known=guest is not None)
    return backups.begin(ask.core, guest, storage, user=ask.user, seconds=_BACKUP_SECONDS)


def _refused_backup(ask: Ask, vmid: int, *, known: bool) -> str:
    task = ask.core.tasks.start(node=ask.node, type="vzdump", id=str(vmid), user=ask.user)
    missing = f"unable to find VM '{vmid}'"

    def work() -> None:
        raise TaskFailed(forbidden(f"/vms/{vmid}, VM.Backup").reason if known else missing)

    return ask.core.run(task, 0.5, work)


def _storage(ask: Ask) -> Storage:
    return _storage_named(ask, ask.parts["storage"])


def _storage_named(ask: Ask, name: str) -> Storage:
    storage = ask.core.storages.get(name)
    if storage is None:
        raise failed(f"storage '{name}' does not exist")
    if not storage.reachable:
        raise failed(
            f"{name}: error fetching datastores - 500 Can't connect to {name}:8007 (No route to host)"
        )
    return storage


def _accessible_volid(ask: Ask) -> str:
    """The volume that the path names, with or without its storage; 403 unless the caller may see it."""
    storage, volume = ask.parts["storage"], ask.parts["volume"]
    volid = volume if ":" in volume.partition("/")[0] else f"{storage}:{volume}"
    if volid.partition(":")[0] != storage:
        raise bad_parameter(volume=f"storage ID mismatch ({volid.partition(':')[0]} != {storage})")
    if refusal := _refusal(ask, volid):
        raise refusal
    return volid


def _refusal(ask: Ask, volid: str) -> ApiError | None:
    """Why the caller may not see a volume (`PVE::Storage::check_volume_access`)."""
    name, _, rest = volid.partition(":")
    if ask.may(f"/storage/{name}", "Datastore.Allocate"):
        return None
    owner = _owner(rest)
    if owner is None:
        return forbidden(f"/storage/{name}, Datastore.Allocate")
    if not ask.may(f"/storage/{name}", "Datastore.AllocateSpace"):
        return forbidden(f"/storage/{name}, Datastore.AllocateSpace")
    return None if ask.may(f"/vms/{owner}", "VM.Backup") else forbidden(f"/vms/{owner}, VM.Backup")


def _owner(name: str) -> int | None:
    """The guest that a backup's name speaks of."""
    parts = name.split("/") if "/ct/" in name or "/vm/" in name else name.split("-")
    return int(parts[2]) if len(parts) > 2 and parts[2].isdecimal() else None


def _lists(ask: Ask) -> None:
    path = f"/storage/{ask.parts['storage']}"
    ask.core.access.check_any(ask.user, path, "Datastore.Audit", "Datastore.AllocateSpace")


_CONTENT = "/nodes/{node}/storage/{storage}/content"
ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/nodes/{node}/storage",
        answer=_storages,
        accepts={"content": TEXT, "enabled": FLAG, "storage": TEXT},
    ),
    Endpoint(
        method="GET",
        path=_CONTENT,
        answer=_content,
        accepts={"content": TEXT, "vmid": NUMBER},
        permitted=_lists,
    ),
    Endpoint(method="GET", path=f"{_CONTENT}/{{volume}}", answer=_info),
    Endpoint(
        method="PUT",
        path=f"{_CONTENT}/{{volume}}",
        answer=_update,
        accepts={"notes": TEXT, "protected": FLAG},
    ),
    Endpoint(
        method="POST",
        path="/nodes/{node}/vzdump",
        answer=_vzdump,
        accepts={
            "compress": TEXT,
            "mode": Parameter(choices=("snapshot", "suspend", "stop")),
            "remove": FLAG,
            "storage": Parameter(required=True),
            "vmid": Parameter(required=True),
        },
    ),
)
