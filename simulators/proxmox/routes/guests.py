"""Guests on their nodes: lists, status, power and configuration.

A guest is only found on the node it is on (`PVE::API2::LXC`, `PVE::API2::Qemu` and their `Status` and `Config`).
"""

import re
from typing import Any

from simulators.proxmox import power
from simulators.proxmox.endpoints import FLAG, NUMBER, TEXT, Answer, Ask, Endpoint, Parameter
from simulators.proxmox.errors import bad_parameters, failed
from simulators.proxmox.state import GIB, Guest, Kind

_OPTIONS = {
    "description": TEXT,
    "onboot": FLAG,
    "protection": FLAG,
    "startup": TEXT,
    "tags": TEXT,
}
"""The options that can be changed here; all of them need `VM.Config.Options`."""
_CONFIG_PRIVILEGES = {
    Kind.LXC: (
        "VM.Config.Disk",
        "VM.Config.CPU",
        "VM.Config.Memory",
        "VM.Config.Network",
        "VM.Config.Options",
    ),
    Kind.QEMU: (
        "VM.Config.Disk",
        "VM.Config.CDROM",
        "VM.Config.CPU",
        "VM.Config.Memory",
        "VM.Config.Network",
        "VM.Config.HWType",
        "VM.Config.Options",
        "VM.Config.Cloudinit",
    ),
}
_TAG = re.compile(r"[a-z0-9_][a-z0-9_\-+.]*", re.IGNORECASE)


def _list(ask: Ask) -> Answer:
    return [
        _status_row(ask, guest)
        for guest in ask.core.guests.values()
        if guest.node == ask.node and guest.kind is ask.kind and ask.may(f"/vms/{guest.vmid}", "VM.Audit")
    ]


def _current(ask: Ask) -> Answer:
    guest = ask.core.guest_on(ask.node, ask.kind, ask.vmid)
    ha: dict[str, Any] = {"managed": int(guest.ha is not None)}
    if guest.ha is not None:
        ha["state"] = str(guest.ha)
    return {**_status_row(ask, guest), "ha": ha}


def _status_row(ask: Ask, guest: Guest) -> dict[str, Any]:
    row: dict[str, Any] = {
        "cpu": 0.02 if guest.running else 0,
        "cpus": guest.hardware["cores"],
        "diskread": 0,
        "diskwrite": 0,
        "maxdisk": 8 * GIB,
        "maxmem": int(guest.hardware["memory"]) * 1024**2,
        "mem": GIB // 4 if guest.running else 0,
        "name": guest.name,
        "netin": 0,
        "netout": 0,
        "status": str(guest.power),
        "uptime": guest.uptime(ask.core.timeline.now),
        "vmid": guest.vmid,
    }
    if guest.kind is Kind.LXC:
        row |= {"disk": GIB, "maxswap": 512 * 1024**2, "type": "lxc"}
    else:
        row["qmpstatus"] = guest.qmpstatus or "stopped"
        if guest.running:
            row["pid"] = 4000 + guest.vmid
    if guest.lock:
        row["lock"] = guest.lock
    if tags := guest.options.get("tags"):
        row["tags"] = tags
    if guest.template:
        row["template"] = 1
    return row


def _order(ask: Ask) -> power.Order:
    return power.Order(node=ask.node, kind=ask.kind, vmid=ask.vmid, user=ask.user)


def _start(ask: Ask) -> Answer:
    return power.start(ask.core, _order(ask))


def _shutdown(ask: Ask) -> Answer:
    force = bool(ask.params.get("forceStop", False))
    return power.shutdown(ask.core, _order(ask), timeout=ask.params.get("timeout"), force=force)


def _stop(ask: Ask) -> Answer:
    return power.stop(ask.core, _order(ask))


def _config(ask: Ask) -> Answer:
    return dict(ask.core.guest_on(ask.node, ask.kind, ask.vmid).config())


def _configure(ask: Ask) -> Answer:
    """Change options; under a lock, with a stale digest or while a task works on the guest it is refused."""
    changes = {name: value for name, value in ask.params.items() if name in _OPTIONS}
    removed = [name for name in re.split(r"[,;\s]+", ask.params.get("delete", "")) if name]
    if not changes and not removed:
        raise failed("no options specified")
    _check_changes(changes, removed)
    ask.check(f"/vms/{ask.vmid}", "VM.Config.Options")
    if not ask.core.quorate:
        path = f"/etc/pve/nodes/{ask.node}/{'lxc' if ask.kind is Kind.LXC else 'qemu-server'}/{ask.vmid}.conf.tmp"
        raise failed(f"unable to open file '{path}' - Permission denied")
    guest = ask.core.guest_on(ask.node, ask.kind, ask.vmid)
    ask.core.need_config_lock(guest)
    stale = ask.params.get("digest", "") not in ("", guest.config()["digest"])
    if guest.kind is Kind.QEMU and stale:
        raise failed("checksum mismatch (file change by other user?)")
    if guest.lock:
        raise failed(f"{guest.label} is locked ({guest.lock})")
    if stale:
        raise failed("detected modified configuration - file changed by other user? Try again.")
    for name in removed:
        guest.options.pop(name, None)
    guest.options |= {name: _stored(name, value) for name, value in changes.items()}
    return None


def _check_changes(changes: dict[str, Any], removed: list[str]) -> None:
    errors: dict[str, str] = {}
    for name in removed:
        if name not in _OPTIONS:
            errors["delete"] = f"unknown option '{name}'"
        if name in changes:
            errors["delete"] = f"you can't use '-{name}' and -delete {name}' at the same time"
    tags = re.split(r"[,;\s]+", changes.get("tags", "").strip())
    if tags != [""] and not all(_TAG.fullmatch(tag) for tag in tags):
        errors["tags"] = "invalid format - invalid characters in tag"
    if errors:
        raise bad_parameters(errors)


def _stored(name: str, value: str | bool) -> str | int:
    if isinstance(value, bool):
        return int(value)
    if name == "tags":
        return ";".join(sorted({tag.lower() for tag in re.split(r"[,;\s]+", value) if tag}))
    return value


def _audits(ask: Ask) -> None:
    ask.check(f"/vms/{ask.parts['vmid']}", "VM.Audit")


def _powers(ask: Ask) -> None:
    ask.check(f"/vms/{ask.parts['vmid']}", "VM.PowerMgmt")


def _configures(ask: Ask) -> None:
    ask.core.access.check_any(ask.user, f"/vms/{ask.parts['vmid']}", *_CONFIG_PRIVILEGES[ask.kind])


_GUEST = "/nodes/{node}/{kind}/{vmid}"
_SHUTDOWN = {"forceStop": FLAG, "timeout": NUMBER}
ENDPOINTS = (
    Endpoint(method="GET", path="/nodes/{node}/{kind}", answer=_list),
    Endpoint(method="GET", path=f"{_GUEST}/status/current", answer=_current, permitted=_audits),
    Endpoint(method="POST", path=f"{_GUEST}/status/start", answer=_start, permitted=_powers),
    Endpoint(
        method="POST",
        path=f"{_GUEST}/status/shutdown",
        answer=_shutdown,
        accepts=_SHUTDOWN,
        permitted=_powers,
    ),
    Endpoint(method="POST", path=f"{_GUEST}/status/stop", answer=_stop, permitted=_powers),
    Endpoint(
        method="GET", path=f"{_GUEST}/config", answer=_config, accepts={"current": FLAG}, permitted=_audits
    ),
    Endpoint(
        method="PUT",
        path=f"{_GUEST}/config",
        answer=_configure,
        accepts={**_OPTIONS, "delete": TEXT, "digest": Parameter()},
        permitted=_configures,
    ),
)
