"""The only calls that a play can make to Proxmox VE, by method, path and parameters.

Owns that list; `abeyance actions check` reads it without running it. There is no DELETE in it, and no way around it:
the client sends nothing else. Names and parameters as in the API viewer of Proxmox VE 9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .reports import PlatformError
from .targets import NODE, VMID, VOLID

#: name: (method, path, parameters that may be sent)
ENDPOINTS = {
    "resources": ("GET", "/cluster/resources", ()),
    "permissions": ("GET", "/access/permissions", ()),
    "acl": ("GET", "/access/acl", ()),
    "certificates": ("GET", "/nodes/{node}/certificates/info", ()),
    "tasks": ("GET", "/nodes/{node}/tasks", ("source", "limit")),
    "task": ("GET", "/nodes/{node}/tasks/{upid}/status", ()),
    "config": ("GET", "/nodes/{node}/{type}/{vmid}/config", ()),
    "status": ("GET", "/nodes/{node}/{type}/{vmid}/status/current", ()),
    "backups": ("GET", "/nodes/{node}/storage/{storage}/content", ("content", "vmid")),
    "configure": ("PUT", "/nodes/{node}/{type}/{vmid}/config", ("onboot", "protection", "tags", "digest")),
    "shut_down": ("POST", "/nodes/{node}/{type}/{vmid}/status/shutdown", ("timeout", "forceStop")),
    "start": ("POST", "/nodes/{node}/{type}/{vmid}/status/start", ()),
    "protect": ("PUT", "/nodes/{node}/storage/{storage}/content/{volid}", ("protected",)),
    "give_role": ("PUT", "/access/acl", ("path", "roles", "users", "groups", "tokens", "propagate")),
    "take_role": ("PUT", "/access/acl", ("path", "roles", "users", "groups", "tokens", "delete")),
}

_FILLING = {
    "node": NODE,
    "type": re.compile("lxc|qemu"),
    "vmid": VMID,
    "storage": re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}"),
    "volid": VOLID,
    "upid": re.compile(r"UPID:[A-Za-z0-9_.@!:+-]{1,400}"),
}


def call_line(name: str, where: Mapping[str, str], parameters: Mapping[str, str]) -> tuple[str, str]:
    """Return method and path of a listed call; anything that the list does not allow raises `PlatformError`."""
    method, template, allowed = ENDPOINTS[name]
    for key, value in where.items():
        if _FILLING[key].fullmatch(value) is None:
            raise PlatformError(f"{key} {value[:60]!r} is not one that Proxmox VE could have")
    if extra := sorted(set(parameters) - set(allowed)):
        raise PlatformError(f"{name}: parameter {extra[0]!r} is not allowed")
    return method, template.format(**where)


def retry_of(status: int, reason: str) -> str | None:
    """Say whether an error passes (`later`), stays (`never`), means `gone`, or needs a person (None).

    The texts are those of `pve-container`, `qemu-server`, `pve-guest-common` and `pve-cluster`; 595, 596 and 599 come
    from `pveproxy` when another node does not answer.
    """
    if status in (401, 403):
        return "never"
    if status in (429, 502, 503, 504, 595, 596, 599):
        return "later"
    lowered = reason.lower()
    if "configuration file" in lowered and ("does not exist" in lowered or "no such machine" in lowered):
        return "gone"
    if "/etc/pve" in lowered and "permission denied" in lowered:
        return "later"  # the cluster's file system is read-only without quorum
    if any(word in lowered for word in _PASSING):
        return "later"
    return None


_PASSING = (
    "is locked",
    "can't lock file",
    "got timeout",
    "timed out",
    "no quorum",
    "not ready",
    "detected modified configuration",
    "checksum mismatch",
    "no route to host",
    "connection refused",
    "is not online",
    "can't connect to",
)
