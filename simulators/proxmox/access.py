"""Who may do what in the simulated cluster: users, tokens, roles, pools and access control lists.

Owns Proxmox VE's rules for privileges (`PVE::AccessControl::roles`, `PVE::RPCEnvironment::permissions`); must
not know any endpoint. Nearer path replaces, tokens before users before groups, pool roles are added, `NoAccess`
beats all.
"""

import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime

from simulators.proxmox.errors import bad_parameter, failed, forbidden, unauthorized

ROOT = "root@pam"
_VM_USER = ("VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.PowerMgmt")
PRIVILEGES = frozenset({
    *_VM_USER, "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit",
    "Group.Allocate", "Permissions.Modify", "Pool.Allocate", "Pool.Audit", "Realm.Allocate", "Realm.AllocateUser",
    "Sys.Audit", "Sys.Console", "Sys.Modify", "Sys.PowerMgmt", "Sys.Syslog", "User.Modify", "VM.Allocate", "VM.Clone",
    "VM.Config.CPU", "VM.Config.Disk", "VM.Config.HWType", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options",
    "VM.Migrate", "VM.Snapshot", "VM.Snapshot.Rollback",
})  # fmt: skip
BUILT_IN_ROLES = {
    "Administrator": PRIVILEGES,
    "NoAccess": frozenset[str](),
    "PVEAuditor": frozenset({"Datastore.Audit", "Pool.Audit", "Sys.Audit", "VM.Audit"}),
    "PVEVMUser": frozenset(_VM_USER),
}


@dataclass(kw_only=True)
class Token:
    """An API token; with privilege separation it may do what both it and its user may do."""

    secret: str
    privsep: bool = True
    expires_at: datetime | None = None


@dataclass(kw_only=True)
class User:
    """A user of the cluster with its tokens."""

    enabled: bool = True
    groups: set[str] = field(default_factory=set)
    tokens: dict[str, Token] = field(default_factory=dict)


@dataclass(kw_only=True)
class Pool:
    """Guests and storages that share access rules."""

    comment: str | None = None
    vmids: set[int] = field(default_factory=set)
    storages: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True, order=True)
class Grant:
    """One line of the access control list; `kind` is `user`, `group` or `token`."""

    path: str
    kind: str
    who: str
    role: str


class Access:
    """The whole access configuration (`user.cfg`)."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {ROOT: User()}
        self.roles: dict[str, frozenset[str]] = dict(BUILT_IN_ROLES)
        self.pools: dict[str, Pool] = {}
        self.pool_of: dict[int, str] = {}
        self._grants: dict[str, dict[Grant, bool]] = {}

    @property
    def grants(self) -> dict[Grant, bool]:
        """Every line of the access list with whether it propagates, in the order of paths."""
        return {
            grant: spread
            for path in sorted(self._grants)
            for grant, spread in sorted(self._grants[path].items())
        }

    def assign(self, vmid: int, pool: str | None) -> None:
        """Put a guest into one pool, or into none; Proxmox VE knows at most one pool per guest."""
        if vmid in self.pool_of:
            self.pools[self.pool_of.pop(vmid)].vmids.discard(vmid)
        if pool is not None:
            self.pools[pool].vmids.add(vmid)
            self.pool_of[vmid] = pool

    def authenticate(self, header: str | None, now: datetime) -> str:
        """Return who calls, from the `Authorization` header; 401 with Proxmox VE's words otherwise."""
        given = re.fullmatch(r"PVEAPIToken=([^!=]+)!([^=]+)=(.+)", header or "")
        if given is None:
            raise unauthorized("No ticket")
        username, name, secret = given.groups()
        user = self.users.get(username)
        if user is None:
            raise unauthorized(f"no such user ('{username}')")
        if not user.enabled:
            raise unauthorized(f"user {username} is disabled")
        token = user.tokens.get(name)
        if token is None:
            raise unauthorized(f"no such token '{name}' for user '{username}'")
        if token.expires_at is not None and token.expires_at <= now:
            raise unauthorized(f"token '{name}' access expired")
        if not hmac.compare_digest(token.secret.encode(), secret.encode()):
            raise unauthorized("invalid token value!")
        return f"{username}!{name}"

    def privileges(self, who: str, path: str) -> dict[str, bool]:
        """Return the privileges on a path, each with whether it propagates further down."""
        username, _, name = who.partition("!")
        if not name:
            return self._own_privileges(username, path)
        token = self.users[username].tokens.get(name) if username in self.users else None
        if token is None:
            return {}
        owner = self._own_privileges(username, path)
        if not token.privsep:
            return owner
        own = self._from_roles(self._roles_with_pools(who, path))
        if username == ROOT:
            return own
        return {
            privilege: spread and owner[privilege] for privilege, spread in own.items() if privilege in owner
        }

    def check(self, who: str, path: str, *privileges: str) -> None:
        """Raise 403 naming the first privilege that is missing on the path."""
        held = self.privileges(who, path)
        for privilege in privileges:
            if privilege not in held:
                raise forbidden(f"{path}, {privilege}")

    def check_any(self, who: str, path: str, *privileges: str) -> None:
        """Raise 403 naming all the privileges when none of them is held on the path."""
        if not self.may_any(who, path, *privileges):
            raise forbidden(f"{path}, {'|'.join(privileges)}")

    def may_any(self, who: str, path: str, *privileges: str) -> bool:
        """Return whether one of the privileges is held on the path."""
        held = self.privileges(who, path)
        return any(privilege in held for privilege in privileges)

    def may_modify(self, who: str, path: str) -> bool:
        """Return whether the access list of a path may be read and changed (`check_perm_modify`)."""
        return self.may_any(who, path, *self._modifying(path))

    def check_modify(self, who: str, path: str) -> None:
        """Raise 403 unless the access list of a path may be changed."""
        self.check_any(who, path, *self._modifying(path))

    def change(self, grant: Grant, *, propagate: bool, delete: bool) -> None:
        """Add or remove one line; an unknown role, user, group or token is an error."""
        if grant.role not in self.roles:
            raise failed(f"role '{grant.role}' does not exist")
        username, _, name = grant.who.partition("!")
        if grant.kind == "group":
            if not any(grant.who in user.groups for user in self.users.values()):
                raise failed(f"group '{grant.who}' does not exist")
        elif username not in self.users:
            raise failed(f"user '{username}' does not exist")
        elif grant.kind == "token" and name not in self.users[username].tokens:
            raise failed(f"no such token '{name}' for user '{username}'")
        here = self._grants.setdefault(grant.path, {})
        if delete:
            here.pop(grant, None)
        else:
            here[grant] = propagate

    def check_delegation(self, who: str, grant: Grant, *, propagate: bool, delete: bool) -> None:
        """Without `Permissions.Modify`, as with `Pool.Allocate`, one hands out only what one holds oneself.

        That keeps such a caller from giving itself more than it has, which `Permissions.Modify` does not.
        """
        held = self.privileges(who, grant.path)
        if "Permissions.Modify" in held:
            return
        asked = f"Cannot {'remove' if delete else 'add'} role '{grant.role}'"
        needed = self.roles.get(grant.role, frozenset())
        if not needed <= held.keys():
            raise bad_parameter(role=f"{asked} - requires 'Permissions.Modify' or superset of privileges.")
        if propagate and not delete and not all(held[privilege] for privilege in needed):
            raise bad_parameter(
                role=f"{asked} with propagation - requires 'Permissions.Modify' or propagated superset of privileges."
            )
        if grant.role == "NoAccess":
            raise bad_parameter(role=f"{asked} - requires 'Permissions.Modify'")

    def known_paths(self) -> set[str]:
        """The paths of which `GET /access/permissions` speaks when none is asked for."""
        paths = {"/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"}
        paths.update(path for path, grants in self._grants.items() if grants)
        for pool in self.pools.values():
            paths.update(f"/vms/{vmid}" for vmid in pool.vmids)
            paths.update(f"/storage/{name}" for name in pool.storages)
        return paths

    def _modifying(self, path: str) -> tuple[str, ...]:
        allocate = {"storage": "Datastore.Allocate", "vms": "VM.Allocate", "pool": "Pool.Allocate"}
        top, _, rest = path.strip("/").partition("/")
        return ("Permissions.Modify", allocate[top]) if rest and top in allocate else ("Permissions.Modify",)

    def _own_privileges(self, username: str, path: str) -> dict[str, bool]:
        if username == ROOT:
            return dict.fromkeys(PRIVILEGES, True)
        return self._from_roles(self._roles_with_pools(username, path))

    def _from_roles(self, roles: dict[str, bool]) -> dict[str, bool]:
        held: dict[str, bool] = {}
        for role, propagate in roles.items():
            for privilege in self.roles.get(role, frozenset()):
                held[privilege] = held.get(privilege, False) or propagate
        return held

    def _roles_with_pools(self, who: str, path: str) -> dict[str, bool]:
        roles = self._roles(who, path)
        from_pools: set[str] = set()
        for name in self._pools_with(path):
            from_pools.update(self._roles(who, f"/pool/{name}"))
        if not from_pools or "NoAccess" in roles:
            return roles
        if "NoAccess" in from_pools:
            return {"NoAccess": False}
        return {**dict.fromkeys(from_pools, False), **roles}

    def _pools_with(self, path: str) -> list[str]:
        _, top, rest = (*path.split("/", 2), "", "")[:3]
        if top == "vms" and rest.isdecimal() and int(rest) in self.pool_of:
            return [self.pool_of[int(rest)]]
        if top == "storage":
            return [name for name, pool in self.pools.items() if rest in pool.storages]
        return []

    def _roles(self, who: str, path: str) -> dict[str, bool]:
        """Walk from `/` to the path; the last place that names the subject wins."""
        roles: dict[str, bool] = {}
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            here = "/" + "/".join(parts[:depth])
            found = self._roles_at(who, here, final=depth == len(parts))
            if found is not None:
                roles = found
        return {"NoAccess": roles["NoAccess"]} if "NoAccess" in roles else roles

    def _roles_at(self, who: str, path: str, *, final: bool) -> dict[str, bool] | None:
        here = self._grants.get(path)
        if not here:
            return None
        groups = self.users[who].groups if who in self.users else set()
        for kind, names in (("token", {who}), ("user", {who}), ("group", groups)):
            found = {
                grant.role: propagate
                for grant, propagate in here.items()
                if grant.kind == kind and grant.who in names and (final or propagate)
            }
            if found:
                return found
        return None
