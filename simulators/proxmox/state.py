"""What the simulated cluster consists of: nodes, guests, storages, backups and what was asked of it.

Owns the nouns and how they look in the API; must not decide who may do what, nor when anything happens.
"""

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

GIB = 1024**3


class Kind(StrEnum):
    """The two kinds of guests, as they are spelled in paths."""

    LXC = "lxc"
    QEMU = "qemu"


class Power(StrEnum):
    """What `status` says of a guest."""

    RUNNING = "running"
    STOPPED = "stopped"


class OnShutdown(StrEnum):
    """What a guest does when it is asked to shut down."""

    OBEY = "obey"
    IGNORE = "ignore"


class HaState(StrEnum):
    """The state of a guest's service in the HA manager."""

    STARTED = "started"
    STOPPED = "stopped"
    REQUEST_STOP = "request_stop"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Script:
    """What a test wants the next task of a guest to end like, whatever would have happened."""

    exitstatus: str
    acts: bool


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a node last told the cluster about a guest; old news while the node is silent."""

    at: datetime
    name: str
    power: Power
    uptime: int


@dataclass(kw_only=True)
class Node:
    """One host of the cluster."""

    name: str
    online: bool = True
    booted_at: datetime
    died_at: datetime | None = None
    power_lost: bool = True


@dataclass(kw_only=True)
class Guest:
    """One container or VM, with its configuration file (`options`, `hardware`) and its behaviour."""

    vmid: int
    kind: Kind
    node: str
    name: str
    power: Power
    created_at: datetime
    options: dict[str, str | int]
    hardware: dict[str, str | int]
    on_shutdown: OnShutdown = OnShutdown.OBEY
    shutdown_seconds: float
    start_seconds: float
    template: bool = False
    lock: str | None = None
    qmpstatus: str | None = None
    ha: HaState | None = None
    ha_wants_running: bool = False
    holder: str | None = None
    started_at: datetime | None = None
    scripts: deque[Script] = field(default_factory=deque)
    published: Published | None = None

    @property
    def running(self) -> bool:
        """Whether `status` says running; true for a VM in `prelaunch`, too."""
        return self.power is Power.RUNNING

    @property
    def config_path(self) -> str:
        """The file that messages name when the guest is not where it was looked for."""
        return config_path(self.kind, self.node, self.vmid)

    @property
    def lock_path(self) -> str:
        """The file that a task holds while it works on the guest."""
        if self.kind is Kind.LXC:
            return f"/run/lock/lxc/pve-config-{self.vmid}.lock"
        return f"/var/lock/qemu-server/lock-{self.vmid}.conf"

    @property
    def label(self) -> str:
        """`CT` or `VM`, as messages say it."""
        return "CT" if self.kind is Kind.LXC else "VM"

    def config(self) -> dict[str, str | int]:
        """The configuration as `GET …/config` shows it: a description gains a newline, the digest covers the file."""
        shown: dict[str, str | int] = {**self.hardware, **self.options}
        shown["hostname" if self.kind is Kind.LXC else "name"] = self.name
        if "description" in shown:
            shown["description"] = f"{shown['description']}\n"
        if self.lock:
            shown["lock"] = self.lock
        if self.template:
            shown["template"] = 1
        text = "".join(f"{key}: {shown[key]}\n" for key in sorted(shown))
        return {**shown, "digest": hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()}

    def uptime(self, now: datetime) -> int:
        """Seconds since the guest started; 0 while it is stopped."""
        if not self.running or self.started_at is None:
            return 0
        return max(int((now - self.started_at).total_seconds()), 0)


def config_path(kind: Kind, node: str, vmid: int) -> str:
    """The configuration file of a guest below `/etc/pve`, as messages name it."""
    return f"nodes/{node}/{'lxc' if kind is Kind.LXC else 'qemu-server'}/{vmid}.conf"


@dataclass(kw_only=True)
class Storage:
    """One storage that every node reaches; `kind` is `pbs` (Backup Server) or `dir` (files)."""

    name: str
    kind: str
    max_protected: int | None = None
    prunes: bool = False
    reachable: bool = True


@dataclass(kw_only=True)
class Backup:
    """One backup of one guest on one storage."""

    volid: str
    storage: str
    kind: Kind
    vmid: int
    at: datetime
    size: int = 2 * GIB
    protected: bool = False
    notes: str | None = None

    @property
    def format(self) -> str:
        """The archive format as the content list names it."""
        if ":backup/ct/" in self.volid or ":backup/vm/" in self.volid:
            return "pbs-ct" if self.kind is Kind.LXC else "pbs-vm"
        return "tar.zst" if self.kind is Kind.LXC else "vma.zst"


def backup_volid(storage: Storage, kind: Kind, vmid: int, at: datetime) -> str:
    """Name a backup the way its storage does: a snapshot path on PBS, a file name elsewhere."""
    if storage.kind == "pbs":
        group = "ct" if kind is Kind.LXC else "vm"
        return f"{storage.name}:backup/{group}/{vmid}/{at:%Y-%m-%dT%H:%M:%SZ}"
    ending = "tar.zst" if kind is Kind.LXC else "vma.zst"
    return f"{storage.name}:backup/vzdump-{kind}-{vmid}-{at:%Y_%m_%d-%H_%M_%S}.{ending}"


@dataclass(kw_only=True)
class BackupJob:
    """One scheduled job of `/cluster/backup`; it runs as root, whatever customers may do."""

    id: str
    storage: str
    schedule: str = "daily"
    pool: str | None = None
    all: bool = False


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call as it was asked: never with a secret in it."""

    at: datetime
    method: str
    path: str
    params: Mapping[str, str]
    user: str | None


@dataclass(kw_only=True)
class Fault:
    """Trouble between the client and the cluster, for the next calls that match.

    `status` answers that status without acting, or after acting with `acts`; without a status the connection hangs for
    `seconds` (real ones, not scaled) and then goes on as usual.
    """

    method: str | None
    path_contains: str
    times: int
    status: int | None = None
    reason: str = "Internal Server Error"
    seconds: float = 0.0
    acts: bool = False
