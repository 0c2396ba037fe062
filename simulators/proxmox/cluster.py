"""The simulated cluster as tests and the demo handle it: let things happen to it, by hand or by bad luck.

Owns the scripting methods; those marked `scripted` can also be called over `/_simulator/…`. Must not hold
rules of its own about what the API answers.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from simulators.proxmox import backups
from simulators.proxmox.building import Buildable
from simulators.proxmox.hardware import hardware
from simulators.proxmox.scripted import scripted
from simulators.proxmox.snapshot import snapshot
from simulators.proxmox.state import Fault, Guest, HaState, Node, OnShutdown, Script

HA_RECOVERY_SECONDS = 180
"""How long the HA manager waits before it starts a dead node's services elsewhere (fencing included)."""
ROOT = "root@pam"


class Cluster(Buildable):
    """A cluster to develop against: `Cluster(clock=…, rng=…)`, add what it has, then `create_app` or `running`.

    Read it through `snapshot()`: attributes are as they were when somebody last looked.
    """

    # -- what somebody does by hand ------------------------------------------------------------------------------------

    @scripted
    def start_by_hand(self, vmid: int) -> None:
        """Somebody starts a guest, at once and without a task; a node down is refused."""
        guest = self.guests[vmid]
        self.reach(guest.node)
        self.power_on(guest)
        self._tell_ha(guest, running=True)

    @scripted
    def stop_by_hand(self, vmid: int) -> None:
        """Somebody stops a guest (its owner from inside, say), at once and without a task."""
        guest = self.guests[vmid]
        self.power_off(guest)
        self._tell_ha(guest, running=False)

    @scripted
    def pause(self, vmid: int) -> None:
        """Somebody pauses a running VM."""
        self.guests[vmid].qmpstatus = "paused"

    @scripted
    def configure(self, vmid: int, options: Mapping[str, str | int | None]) -> None:
        """Somebody edits a guest's configuration; None removes an option. The digest changes with it."""
        for key, value in options.items():
            if value is None:
                self.guests[vmid].options.pop(key, None)
            else:
                self.guests[vmid].options[key] = value

    @scripted
    def behave(
        self, vmid: int, *, on_shutdown: str | None = None, shutdown_seconds: float | None = None
    ) -> None:
        """Change how a guest takes a shutdown: `obey` or `ignore`, and how long it takes."""
        guest = self.guests[vmid]
        guest.on_shutdown = OnShutdown(on_shutdown or guest.on_shutdown)
        guest.shutdown_seconds = guest.shutdown_seconds if shutdown_seconds is None else shutdown_seconds

    @scripted
    def set_protected(self, volid: str, *, protected: bool) -> None:
        """Somebody protects a backup or lifts its protection."""
        self.backups[volid].protected = protected

    @scripted
    def lose_backup(self, volid: str) -> None:
        """A backup is gone: its platform's own retention, or somebody with access to the files."""
        del self.backups[volid]

    @scripted
    def lose_guest(self, vmid: int) -> None:
        """A guest is gone, removed by somebody outside the product; its backups stay."""
        self.access.assign(vmid, None)
        del self.guests[vmid]

    @scripted
    def recreate(self, vmid: int) -> None:
        """Another guest takes the number: same place, new creation time, generation id and hardware address."""
        guest = self.guests[vmid]
        guest.created_at = self.timeline.now
        guest.hardware = hardware(guest.kind, vmid, self.rng, self.timeline.now)

    @scripted
    def move_to_pool(self, vmid: int, pool: str | None) -> None:
        """Somebody moves a guest to another pool, or out of all."""
        self.access.assign(vmid, pool)

    @scripted
    def begin_backup(self, vmid: int, storage: str, *, seconds: float = 30.0) -> str:
        """The platform's own scheduled backup starts, as root; returns the UPID."""
        return backups.begin(self, self.guests[vmid], self.storages[storage], user=ROOT, seconds=seconds)

    # -- trouble -------------------------------------------------------------------------------------------------------

    @scripted
    def lock(self, vmid: int, reason: str = "backup") -> None:
        """Write a lock into a guest's configuration: `backup`, `migrate`, `snapshot`, …"""
        self.guests[vmid].lock = reason

    @scripted
    def unlock(self, vmid: int) -> None:
        """Take the lock out again."""
        self.guests[vmid].lock = None

    @scripted
    def fail_next_task(
        self, vmid: int, exitstatus: str = "got unexpected error", *, acts: bool = False
    ) -> None:
        """The guest's next power task ends with this, without having acted unless `acts`. Several calls queue up.

        `exitstatus="OK"` makes a task that says it worked and did nothing; `acts=True` one that worked and says it
        failed, or that ended with `WARNINGS: 1`.
        """
        self.guests[vmid].scripts.append(Script(exitstatus=exitstatus, acts=acts))

    @scripted
    def migrate(self, vmid: int, node: str, *, seconds: float = 0.0) -> None:
        """Somebody moves a guest to another node; with `seconds` it is locked (`migrate`) for so long first."""
        guest = self.guests[vmid]

        def arrive() -> None:
            guest.node = node
            guest.lock = None

        if node not in self.nodes:
            raise ValueError(f"no node {node!r}")
        if seconds == 0:
            guest.node = node
            return
        guest.lock = "migrate"
        self.timeline.after(seconds, arrive)

    @scripted
    def kill_node(self, node: str, *, power_lost: bool = True) -> None:
        """A node falls silent, its tasks die. Without `power_lost` its guests run on behind a broken network."""
        dead = self.nodes[node]
        dead.online, dead.power_lost, dead.died_at = False, power_lost, self.timeline.now
        self.tasks.kill_all_on(node)
        for guest in self._guests_of(node):
            guest.holder = None
            if power_lost:
                self.power_off(guest)
        if power_lost:
            died_at = dead.died_at
            self.timeline.after(HA_RECOVERY_SECONDS, lambda: self._recover(node, died_at))

    @scripted
    def revive_node(self, node: str) -> None:
        """A node is back; after a loss of power it starts what it starts at boot."""
        back = self.nodes[node]
        if back.online:
            return
        back.online = True
        if back.power_lost:
            self._boot(back)
        for guest in self._guests_of(node):
            self.publish_guest(guest)

    @scripted
    def reboot_node(self, node: str, *, seconds: float = 60.0) -> None:
        """A node reboots, back after `seconds`: only guests with `onboot=1` and wanted HA services start again."""
        self.kill_node(node)
        self.timeline.after(seconds, lambda: self.revive_node(node))

    @scripted
    def set_quorum(self, *, quorate: bool) -> None:
        """Take the cluster's majority away, or give it back: without it everything that writes fails."""
        self.quorate = quorate

    @scripted
    def answer_as(self, authority: str) -> None:
        """To whoever asks it is another cluster from now on; that its guests are others is for `recreate` to say."""
        self.authority = authority

    @scripted
    def renew_certificates(self) -> None:
        """Every node gets a new certificate; the cluster's authority stays."""
        self.renewals += 1

    @scripted
    def set_storage(self, name: str, *, reachable: bool = True, max_protected: int | None = None) -> None:
        """Change a storage: out of reach it cannot be listed; `max_protected` limits everybody (-1: nobody)."""
        self.storages[name].reachable = reachable
        self.storages[name].max_protected = max_protected

    @scripted
    def set_latency(self, seconds: float) -> None:
        """Let every answer of the API take so long, in real seconds."""
        self.latency_seconds = seconds

    @scripted
    def inject_fault(
        self, path_contains: str = "", *, method: str | None = None, times: int = 1, **how: Any
    ) -> None:
        """Disturb the next `times` calls whose path contains a text; `how`: the other fields of `Fault`."""
        self.faults.append(Fault(method=method, path_contains=path_contains, times=times, **how))

    @scripted
    def clear_faults(self) -> None:
        """Forget every fault that has not happened yet."""
        self.faults.clear()

    @scripted
    def advance(self, seconds: float) -> None:
        """Jump forward in the simulator's time, letting everything happen on the way."""
        self.timeline.skip(seconds)

    @scripted
    def reset_calls(self) -> None:
        """Forget the recorded calls; destroying ones are kept."""
        self.calls.clear()

    @scripted
    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, to compare or to read from another process."""
        return snapshot(self)

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _guests_of(self, node: str) -> list[Guest]:
        return [guest for guest in self.guests.values() if guest.node == node]

    def _tell_ha(self, guest: Guest, *, running: bool) -> None:
        if guest.ha is not None:
            guest.ha, guest.ha_wants_running = (HaState.STARTED if running else HaState.STOPPED), running

    def _boot(self, node: Node) -> None:
        node.booted_at = self.timeline.now
        for guest in self._guests_of(node.name):
            wanted = guest.ha_wants_running if guest.ha is not None else guest.options.get("onboot") == 1
            if wanted and guest.lock is None and not guest.template:
                self.power_on(guest)

    def _recover(self, node: str, died_at: datetime | None) -> None:
        """HA starts a dead node's services on another one, unless the node came back in between."""
        elsewhere = [name for name, other in self.nodes.items() if other.online]
        if self.nodes[node].online or self.nodes[node].died_at != died_at or not elsewhere:
            return
        for guest in self._guests_of(node):
            if guest.ha is not None and guest.ha_wants_running:
                guest.node = elsewhere[0]
                self.power_on(guest)
