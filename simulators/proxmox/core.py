"""The machinery of the simulated cluster: what exists, what runs, what every node knows of the others.

Owns the state and its invariants. What a call may do is decided in `routes`, what a test may do is in `cluster`.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from simulators.proxmox.access import Access
from simulators.proxmox.errors import ApiError, ConfigLocked, TaskFailed, failed, lock_timeout
from simulators.proxmox.state import (
    Backup,
    BackupJob,
    Call,
    Fault,
    Guest,
    Kind,
    Node,
    Power,
    Published,
    Script,
    Storage,
    config_path,
)
from simulators.proxmox.tasks import Task, Tasks
from simulators.proxmox.timeline import Clock, Timeline

STATE_EXPIRES_SECONDS = 300
"""How long the cluster believes a silent node (`pve-cluster`, entries older than five minutes are dropped)."""
CONFIG_LOCK_SECONDS = 10
"""How long anybody waits for a guest's configuration lock (`PVE::AbstractConfig::lock_config`)."""
REMEMBERED_CALLS = 200_000


class Core:
    """A cluster's state with its clock; every look at it first lets happen what is due.

    `broadcast_seconds` is how often a node tells the others about its guests: `cluster/resources` is that old.
    """

    def __init__(
        self, *, clock: Clock, rng: random.Random, time_scale: float = 1.0, broadcast_seconds: float = 10.0
    ) -> None:
        self.mutex = threading.RLock()
        self.rng = rng
        self.timeline = Timeline(
            clock, time_scale=time_scale, broadcast_seconds=broadcast_seconds, publish=self._publish
        )
        self.access = Access()
        self.tasks = Tasks(self.timeline, rng)
        self.nodes: dict[str, Node] = {}
        self.guests: dict[int, Guest] = {}
        self.storages: dict[str, Storage] = {}
        self.backups: dict[str, Backup] = {}
        self.backup_jobs: dict[str, BackupJob] = {}
        self.quorate = True
        #: The cluster's certificate authority, and how often the nodes' own certificates were renewed since.
        self.authority = "a cluster"
        self.renewals = 0
        self.latency_seconds = 0.0
        self.faults: list[Fault] = []
        self.calls: deque[Call] = deque(maxlen=REMEMBERED_CALLS)
        self.destroying_calls: list[Call] = []

    @contextmanager
    def present(self) -> Iterator[datetime]:
        """Hold the state still, with everything that is due done."""
        with self.mutex:
            yield self.timeline.settle()

    def guest_on(self, node: str, kind: Kind, vmid: int) -> Guest:
        """Return a guest from the node it was asked of; elsewhere its configuration file does not exist."""
        guest = self.guests.get(vmid)
        if guest is None or guest.node != node or guest.kind is not kind:
            raise failed(f"Configuration file '{config_path(kind, node, vmid)}' does not exist")
        return guest

    def reach(self, node: str) -> None:
        """Raise what a call proxied to a node answers when that node is down or unknown."""
        if node not in self.nodes:
            raise failed(f"no such cluster node '{node}'")
        if not self.nodes[node].online:
            raise ApiError(595, "No route to host", bare=True)

    def need_quorum(self) -> None:
        """Raise what a writing call answers while the cluster has no majority."""
        if not self.quorate:
            raise failed("cluster not ready - no quorum?")

    def need_config_lock(self, guest: Guest) -> None:
        """Raise `ConfigLocked` while a task works on the guest."""
        if guest.holder is not None:
            raise ConfigLocked(guest.lock_path)

    def run(self, task: Task, seconds: float, work: Callable[[], None], *, guest: Guest | None = None) -> str:
        """Run a task; with a guest it holds the guest's configuration, follows its script and may wait for the lock.

        Returns the UPID, as every POST that starts a task does.
        """
        if guest is None:
            self.tasks.end_after(task, seconds, work)
            return task.upid
        self._take_lock(
            task, guest, CONFIG_LOCK_SECONDS, lambda: self._run_holding(task, seconds, work, guest)
        )
        return task.upid

    def power_on(self, guest: Guest, *, qmpstatus: str = "running") -> None:
        """The guest runs from now on."""
        guest.power = Power.RUNNING
        guest.started_at = self.timeline.now
        guest.qmpstatus = qmpstatus if guest.kind is Kind.QEMU else None

    def power_off(self, guest: Guest) -> None:
        """The guest is off from now on."""
        guest.power = Power.STOPPED
        guest.started_at = None
        guest.qmpstatus = None

    def publish_guest(self, guest: Guest) -> None:
        """Tell the cluster at once how a guest is; a node does it for all of its guests at every broadcast."""
        now = self.timeline.now
        guest.published = Published(at=now, name=guest.name, power=guest.power, uptime=guest.uptime(now))

    def known(self, guest: Guest) -> Published | None:
        """What the cluster believes about a guest: None when its node has been silent for too long."""
        told = guest.published
        if told is None or self.timeline.now - told.at > self.timeline.scaled(STATE_EXPIRES_SECONDS):
            return None
        return told

    def _publish(self, at: datetime) -> None:
        for guest in self.guests.values():
            if self.nodes[guest.node].online:
                guest.published = Published(
                    at=at, name=guest.name, power=guest.power, uptime=guest.uptime(at)
                )

    def _take_lock(self, task: Task, guest: Guest, seconds_left: float, then: Callable[[], None]) -> None:
        if task.exitstatus is not None:
            return
        if guest.holder is None:
            guest.holder = task.upid
            then()
        elif seconds_left <= 0:
            self.tasks.end(task, lock_timeout(guest.lock_path))
        else:
            self.timeline.after(1, lambda: self._take_lock(task, guest, seconds_left - 1, then))

    def _run_holding(self, task: Task, seconds: float, work: Callable[[], None], guest: Guest) -> None:
        script = guest.scripts.popleft() if guest.scripts else None

        def finish() -> None:
            guest.holder = None
            if script is None or script.acts:
                work()
            if script is not None:
                _follow(script)

        self.tasks.end_after(task, seconds, finish)


def _follow(script: Script) -> None:
    if script.exitstatus != "OK":
        raise TaskFailed(script.exitstatus)
