"""Building the simulated cluster: nodes, storages, guests, backups, and who may do what.

Owns what a thing looks like when it is new; what happens to it later is in `cluster`.
"""

from datetime import datetime
from typing import Any

from simulators.proxmox.access import Grant, Pool, Token, User
from simulators.proxmox.core import Core
from simulators.proxmox.hardware import hardware
from simulators.proxmox.scripted import scripted
from simulators.proxmox.state import (
    Backup,
    BackupJob,
    Guest,
    HaState,
    Kind,
    Node,
    OnShutdown,
    Power,
    Storage,
    backup_volid,
)


class Buildable(Core):
    """A cluster that starts empty and to which everything can be added."""

    # -- what exists ---------------------------------------------------------------------------------------------------

    @scripted
    def add_node(self, name: str) -> None:
        """Add a host that is up."""
        self.nodes[name] = Node(name=name, booted_at=self.timeline.now)

    @scripted
    def add_storage(
        self, name: str, *, kind: str = "pbs", max_protected: int | None = None, prunes: bool = False
    ) -> None:
        """Add a shared storage for backups; `kind` is `pbs` or `dir`."""
        self.storages[name] = Storage(name=name, kind=kind, max_protected=max_protected, prunes=prunes)

    @scripted
    def add_pool(self, name: str, *, comment: str | None = None) -> None:
        """Add an empty pool."""
        self.access.pools[name] = Pool(comment=comment)

    @scripted
    def add_guest(
        self,
        kind: str,
        vmid: int,
        node: str,
        *,
        pool: str | None = None,
        running: bool = True,
        onboot: bool | None = None,
        name: str | None = None,
        **behaviour: Any,
    ) -> None:
        """Add a guest; `onboot=None` leaves the option out of its configuration, as for a fresh guest.

        `behaviour`: `on_shutdown` (`obey`, `ignore`), `shutdown_seconds`, `start_seconds`, `ha` (true: managed by HA),
        `tags`, `protection`, `description`, `startup`, `template`.
        """
        if (
            vmid in self.guests
            or node not in self.nodes
            or (pool is not None and pool not in self.access.pools)
        ):
            raise ValueError(
                f"guest {vmid}: the number must be free, node {node!r} and pool {pool!r} must exist"
            )
        options = _options(behaviour, onboot=onboot)
        which = Kind(kind)
        managed = behaviour.pop("ha", False)
        guest = Guest(
            vmid=vmid,
            kind=which,
            node=node,
            name=name or f"{'ct' if which is Kind.LXC else 'vm'}{vmid}",
            power=Power.STOPPED,
            created_at=self.timeline.now,
            options=options,
            hardware=hardware(which, vmid, self.rng, self.timeline.now),
            on_shutdown=OnShutdown(behaviour.pop("on_shutdown", OnShutdown.OBEY)),
            shutdown_seconds=behaviour.pop("shutdown_seconds", 3.0 if which is Kind.LXC else 8.0),
            start_seconds=behaviour.pop("start_seconds", 2.0 if which is Kind.LXC else 3.0),
            template=behaviour.pop("template", False),
        )
        if behaviour:
            raise ValueError(f"guest {vmid}: unknown {', '.join(sorted(behaviour))}")
        self.guests[vmid] = guest
        self.access.assign(vmid, pool)
        if running:
            self.power_on(guest)
        if managed:
            guest.ha, guest.ha_wants_running = (HaState.STARTED if running else HaState.STOPPED), running
        self.publish_guest(guest)

    @scripted
    def add_backup(
        self,
        vmid: int,
        storage: str,
        *,
        at: datetime | str | None = None,
        protected: bool = False,
        notes: str | None = None,
    ) -> str:
        """Add a finished backup of a guest, from the present instant or an earlier one; returns its volid."""
        when = datetime.fromisoformat(at) if isinstance(at, str) else at or self.timeline.now
        guest = self.guests[vmid]
        volid = backup_volid(self.storages[storage], guest.kind, vmid, when)
        if volid in self.backups:
            raise ValueError(f"{volid} exists: give `at`, backups are named by the second")
        self.backups[volid] = Backup(
            volid=volid,
            storage=storage,
            kind=guest.kind,
            vmid=vmid,
            at=when,
            protected=protected,
            notes=notes,
        )
        return volid

    @scripted
    def add_backup_job(self, id: str, storage: str, *, pool: str | None = None, all: bool = False) -> None:  # noqa: A002 - PVE's own words
        """Add a scheduled job; the simulator lists it but runs backups only on `begin_backup`."""
        self.backup_jobs[id] = BackupJob(id=id, storage=storage, pool=pool, all=all)

    # -- who may do what -----------------------------------------------------------------------------------------------

    @scripted
    def add_role(self, name: str, privileges: list[str]) -> None:
        """Add or replace a role."""
        self.access.roles[name] = frozenset(privileges)

    @scripted
    def add_user(self, name: str, *, groups: list[str] | None = None, enabled: bool = True) -> None:
        """Add a user such as `anna@pve`."""
        self.access.users[name] = User(enabled=enabled, groups=set(groups or ()))

    @scripted
    def add_token(
        self,
        identity: str,
        *,
        secret: str | None = None,
        privsep: bool = True,
        expires_at: datetime | None = None,
    ) -> str:
        """Add a token such as `anna@pve!portal` to an existing user; returns its secret."""
        username, _, name = identity.partition("!")
        token = Token(
            secret=secret or f"{self.rng.getrandbits(128):032x}", privsep=privsep, expires_at=expires_at
        )
        self.access.users[username].tokens[name] = token
        return token.secret

    @scripted
    def grant(self, path: str, who: str, role: str, *, propagate: bool = True) -> None:
        """Give a role on a path to a user, a token (`user!name`) or a group (no `@`)."""
        self.access.change(_grant(path, who, role), propagate=propagate, delete=False)

    @scripted
    def revoke(self, path: str, who: str, role: str) -> None:
        """Take a role on a path away again."""
        self.access.change(_grant(path, who, role), propagate=True, delete=True)


def _options(given: dict[str, Any], *, onboot: bool | None) -> dict[str, str | int]:
    """Take the configuration options out of what was given for a new guest."""
    options: dict[str, Any] = {} if onboot is None else {"onboot": onboot}
    for key in ("tags", "protection", "description", "startup"):
        if (value := given.pop(key, None)) is not None:
            options[key] = value
    return {key: int(value) if isinstance(value, bool) else value for key, value in options.items()}


def _grant(path: str, who: str, role: str) -> Grant:
    kind = "token" if "!" in who else "user" if "@" in who else "group"
    return Grant(path=path, kind=kind, who=who, role=role)
