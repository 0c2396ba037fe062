"""The cluster's state as plain data that survives JSON and compares with `==`."""

from typing import Any

from simulators.proxmox.core import Core
from simulators.proxmox.state import Guest


def snapshot(core: Core) -> dict[str, Any]:
    """Return nodes, guests, backups, access and tasks as they really are, whatever the cluster believes of them."""
    return {
        "authority": core.authority,
        "now": core.timeline.now.isoformat(),
        "nodes": {name: {"online": node.online} for name, node in core.nodes.items()},
        "guests": {str(vmid): _guest(core, guest) for vmid, guest in core.guests.items()},
        "backups": {
            backup.volid: {"protected": backup.protected, "storage": backup.storage, "vmid": backup.vmid}
            for backup in core.backups.values()
        },
        "access": [
            {"path": grant.path, "propagate": propagate, "role": grant.role, "who": grant.who}
            for grant, propagate in core.access.grants.items()
        ],
        "tasks": [
            {
                "exitstatus": task.exitstatus,
                "id": task.id,
                "type": task.type,
                "upid": task.upid,
                "user": task.user,
            }
            for task in core.tasks.by_upid.values()
        ],
    }


def _guest(core: Core, guest: Guest) -> dict[str, Any]:
    return {
        "config": guest.config(),
        "ha": guest.ha,
        "kind": guest.kind,
        "lock": guest.lock,
        "name": guest.name,
        "node": guest.node,
        "pool": core.access.pool_of.get(guest.vmid),
        "power": guest.power,
        "qmpstatus": guest.qmpstatus,
    }
