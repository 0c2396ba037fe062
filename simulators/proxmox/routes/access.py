"""Access: the control list, roles and what one may do oneself (`PVE::API2::ACL`, `PVE::API2::AccessControl`)."""

import re
from typing import Any

from simulators.proxmox.access import BUILT_IN_ROLES, Grant
from simulators.proxmox.endpoints import FLAG, TEXT, Answer, Ask, Endpoint, Parameter
from simulators.proxmox.errors import bad_parameter, bad_parameters, failed

_PATH = re.compile(
    r"/|/access(/groups(/[^/]+)?|/realm(/[^/]+)?)?|/nodes(/[^/]+)?|/pool(/[^/]+)*|/sdn(/[^/]+)*|/storage(/[^/]+)?"
    r"|/vms(/[1-9]\d{2,})?|/mapping(/[^/]+)*"
)


def _list(ask: Ask) -> Answer:
    """Only the lines of paths whose access the caller may change, unless it audits `/access`."""
    everything = ask.may("/access", "Sys.Audit")
    return [
        {
            "path": grant.path,
            "propagate": int(propagate),
            "roleid": grant.role,
            "type": grant.kind,
            "ugid": grant.who,
        }
        for grant, propagate in ask.core.access.grants.items()
        if everything or ask.core.access.may_modify(ask.user, grant.path)
    ]


def _change(ask: Ask) -> Answer:
    """Add lines, or remove them with `delete`: adding one role never replaces another."""
    subjects = [
        (kind, who)
        for kind in ("user", "group", "token")
        for who in _split(str(ask.params.get(f"{kind}s", "")))
    ]
    if not subjects:
        raise bad_parameters(
            dict.fromkeys(("users", "groups", "tokens"), "either 'users', 'groups' or 'tokens' is required.")
        )
    path, delete = _normal(ask.params["path"]), ask.params.get("delete", False)
    if not delete and not _PATH.fullmatch(path):
        raise bad_parameter(path=f"invalid ACL path '{ask.params['path']}'")
    if not ask.core.quorate:
        raise failed("ACL update failed: error with cfs lock 'file-user_cfg': no quorum!")
    propagate = ask.params.get("propagate", True)
    for role in _split(ask.params["roles"]):
        for kind, who in subjects:
            grant = Grant(path=path, kind=kind, who=who, role=role)
            ask.core.access.check_delegation(ask.user, grant, propagate=propagate, delete=delete)
            ask.core.access.change(grant, propagate=propagate, delete=delete)
    return None


def _permissions(ask: Ask) -> Answer:
    who, path = ask.params.get("userid", ask.user), ask.params.get("path")
    if who != ask.user and not who.startswith(f"{ask.user}!"):
        ask.check("/access", "Sys.Audit")
    if who.partition("!")[0] not in ask.core.access.users:
        raise bad_parameter(userid=f"value '{who}' does not look like a valid user name")
    paths = [_normal(path)] if path else sorted(ask.core.access.known_paths())
    shown: dict[str, Any] = {}
    for each in paths:
        held = ask.core.access.privileges(who, each)
        if held or path:
            shown[each] = {privilege: int(propagate) for privilege, propagate in sorted(held.items())}
    return shown


def _roles(ask: Ask) -> Answer:
    return [
        {"privs": ",".join(sorted(privileges)), "roleid": name, "special": int(name in BUILT_IN_ROLES)}
        for name, privileges in sorted(ask.core.access.roles.items())
    ]


def _normal(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r"[,;\s]+", text) if part]


def _modifies(ask: Ask) -> None:
    ask.core.access.check_modify(ask.user, _normal(ask.raw.get("path", "")))


ENDPOINTS = (
    Endpoint(method="GET", path="/access/acl", answer=_list),
    Endpoint(
        method="PUT",
        path="/access/acl",
        answer=_change,
        accepts={
            "delete": FLAG,
            "groups": TEXT,
            "path": Parameter(required=True),
            "propagate": FLAG,
            "roles": Parameter(required=True),
            "tokens": TEXT,
            "users": TEXT,
        },
        permitted=_modifies,
    ),
    Endpoint(
        method="GET", path="/access/permissions", answer=_permissions, accepts={"path": TEXT, "userid": TEXT}
    ),
    Endpoint(method="GET", path="/access/roles", answer=_roles),
)
