"""Backups of the simulated cluster: taking them, listing them, protecting them.

Owns what a running backup does to its guest (a stopped VM is started paused for it) and the limit on protected
ones. Nothing here removes a backup; `Cluster.lose_backup` stands for the file that somebody took away.
"""

from simulators.proxmox.core import Core
from simulators.proxmox.errors import TaskFailed, failed
from simulators.proxmox.state import Backup, Guest, Kind, Storage, backup_volid

DEFAULT_MAX_PROTECTED = 5
"""Protected backups per guest and storage, unless configured or the caller holds `Datastore.Allocate`."""


def begin(core: Core, guest: Guest, storage: Storage, *, user: str, seconds: float) -> str:
    """Start a backup task and return its UPID; the guest is locked meanwhile, and stays so when its node dies."""
    task = core.tasks.start(node=guest.node, type="vzdump", id=str(guest.vmid), user=user)
    started_for_it = False
    refused = guest.lock is not None or not storage.reachable
    if not refused:
        guest.lock = "backup"
        if guest.kind is Kind.QEMU and not guest.running:
            started_for_it = True
            core.power_on(guest, qmpstatus="prelaunch")

    def work() -> None:
        if refused:
            raise TaskFailed("job errors")
        guest.lock = None
        if started_for_it and guest.qmpstatus == "prelaunch":
            core.power_off(guest)
        add(core, guest, storage)

    return core.run(task, 0.5 if refused else seconds, work)


def add(core: Core, guest: Guest, storage: Storage) -> Backup:
    """Put a finished backup of a guest onto a storage, named by the present instant."""
    now = core.timeline.now
    volid = backup_volid(storage, guest.kind, guest.vmid, now)
    core.backups[volid] = Backup(volid=volid, storage=storage.name, kind=guest.kind, vmid=guest.vmid, at=now)
    return core.backups[volid]


def protect(core: Core, storage: Storage, volid: str, *, protected: bool, unlimited: bool) -> None:
    """Set or lift the protection of a backup.

    A missing file archive is passed over in silence (`PVE::Storage::DirPlugin`); a missing PBS snapshot is an error,
    in words of our own. The limit counts the backups of the same guest on the same storage; a configured one holds
    even for `unlimited` callers.
    """
    backup = core.backups.get(volid)
    if backup is None:
        _missing(storage, volid)
        return
    limit = storage.max_protected
    if limit is None:
        limit = -1 if unlimited else DEFAULT_MAX_PROTECTED
    if protected and not backup.protected and -1 < limit <= _protected_of(core, backup):
        raise failed(
            f"The number of protected backups per guest is limited to {limit} on storage '{storage.name}'"
        )
    backup.protected = protected


def annotate(core: Core, storage: Storage, volid: str, notes: str) -> None:
    """Write the notes of a backup."""
    backup = core.backups.get(volid)
    if backup is None:
        _missing(storage, volid)
        return
    backup.notes = notes or None


def _protected_of(core: Core, backup: Backup) -> int:
    return sum(
        other.protected
        for other in core.backups.values()
        if (other.storage, other.vmid, other.kind) == (backup.storage, backup.vmid, backup.kind)
    )


def _missing(storage: Storage, volid: str) -> None:
    if storage.kind == "pbs":
        raise failed(
            f"proxmox-backup-client failed: Error: snapshot {volid.partition(':backup/')[2]} does not exist"
        )
