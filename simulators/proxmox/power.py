"""Starting and stopping guests as `status/start`, `status/shutdown` and `status/stop` do it.

Owns the differences that bite: a container's POST refuses at once what a VM's task passes over in silence,
`forceStop`, locks that only the task meets, and HA, which queues and says OK. Read in pve-container, qemu-server
and pve-ha-manager 9.x.
"""

from collections.abc import Callable
from dataclasses import dataclass

from simulators.proxmox.core import Core
from simulators.proxmox.errors import TaskFailed, failed
from simulators.proxmox.state import Guest, HaState, Kind, OnShutdown, config_path
from simulators.proxmox.tasks import Task

DEFAULT_GRACE_SECONDS = 60
KILL_SECONDS = 1.0
QEMU_TERM_SECONDS = 10.0
"""How long a VM's process is given after SIGTERM before SIGKILL."""
HA_QUEUE_SECONDS = 5.0
"""How long the HA manager takes to notice a request: one round of its cluster resource manager."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One request for a guest: where it was asked, and by whom."""

    node: str
    kind: Kind
    vmid: int
    user: str


@dataclass(frozen=True, kw_only=True)
class _Stopping:
    """How a stop will go: how long it takes, and what it fails with when the guest is still there."""

    seconds: float
    failure: str | None = None


def start(core: Core, order: Order) -> str:
    """Start a guest; returns the UPID. A running container is refused at once, a running VM by the task."""
    guest = _here(core, order)
    if guest is not None and guest.kind is Kind.LXC and guest.running:
        raise failed(f"CT {order.vmid} already running")
    core.need_quorum()
    if guest is not None and guest.ha is not None:
        return core.run(_task(core, order, "hastart"), 1, lambda: _ha_start(core, guest))
    if guest is None:
        return _lost(core, order, "start")

    def work() -> None:
        if guest.template:
            raise TaskFailed(
                f"you can't start a {'CT if it' if guest.kind is Kind.LXC else 'vm if it'}'s a template"
            )
        if guest.running:
            raise TaskFailed(f"VM {guest.vmid} already running")
        core.power_on(guest)

    return _work(core, order, guest=guest, verb="start", seconds=guest.start_seconds, work=work)


def shutdown(core: Core, order: Order, *, timeout: int | None, force: bool) -> str:
    """Ask a guest to shut down within `timeout` seconds, with `force` kill it after that; returns the UPID."""
    guest = _here(core, order)
    if order.kind is Kind.LXC and (guest is None or not guest.running):
        raise failed(f"CT {order.vmid} not running")
    if guest is None:
        return _lost(core, order, "shutdown")
    grace = _grace(guest) if timeout is None else timeout
    if guest.ha is not None:
        return core.run(_task(core, order, "hastop"), 1, lambda: _ha_stop(core, guest, grace))
    if guest.qmpstatus == "paused":
        if not force:
            raise failed("VM is paused - cannot shutdown")
        return _stop(core, order, guest=guest, verb="shutdown", how=_Stopping(seconds=KILL_SECONDS))
    return _stop(core, order, guest=guest, verb="shutdown", how=_stopping(guest, grace, force=force))


def stop(core: Core, order: Order) -> str:
    """Kill a guest at once; returns the UPID."""
    guest = _here(core, order)
    if order.kind is Kind.LXC and (guest is None or not guest.running):
        raise failed(f"CT {order.vmid} not running")
    if guest is None:
        return _lost(core, order, "stop")
    if guest.ha is not None:
        return core.run(_task(core, order, "hastop"), 1, lambda: _ha_stop(core, guest, 0))
    return _stop(core, order, guest=guest, verb="stop", how=_Stopping(seconds=KILL_SECONDS))


def _here(core: Core, order: Order) -> Guest | None:
    guest = core.guests.get(order.vmid)
    return guest if guest is not None and guest.node == order.node and guest.kind is order.kind else None


def _task(core: Core, order: Order, type_: str) -> Task:
    return core.tasks.start(node=order.node, type=type_, id=str(order.vmid), user=order.user)


def _work(
    core: Core, order: Order, *, guest: Guest, verb: str, seconds: float, work: Callable[[], None]
) -> str:
    """Run a task that holds the guest's configuration: a container's POST needs the lock first, a VM's task waits."""
    if guest.kind is Kind.LXC:
        core.need_config_lock(guest)
    if guest.lock is not None and (guest.running or verb == "start"):
        seconds, work = 0.5, _fails(f"{guest.label} is locked ({guest.lock})")
    prefix = "vz" if guest.kind is Kind.LXC else "qm"
    return core.run(_task(core, order, prefix + verb), seconds, work, guest=guest)


def _lost(core: Core, order: Order, verb: str) -> str:
    """A guest that is not on this node: the POST succeeds and the task finds no configuration."""
    prefix = "vz" if order.kind is Kind.LXC else "qm"
    missing = f"Configuration file '{config_path(order.kind, order.node, order.vmid)}' does not exist"
    if order.kind is Kind.QEMU and verb != "start":
        missing = f"unable to find configuration file for VM {order.vmid} - no such machine"
    return core.run(_task(core, order, prefix + verb), 0.2, _fails(missing))


def _fails(exitstatus: str) -> Callable[[], None]:
    def work() -> None:
        raise TaskFailed(exitstatus)

    return work


def _stop(core: Core, order: Order, *, guest: Guest, verb: str, how: _Stopping) -> str:
    if not guest.running:
        how = _Stopping(seconds=0.2)

    def work() -> None:
        if not guest.running:
            return
        if how.failure is not None:
            raise TaskFailed(how.failure)
        core.power_off(guest)

    return _work(core, order, guest=guest, verb=verb, seconds=how.seconds, work=work)


def _grace(guest: Guest) -> int:
    """The default grace; a VM may set its own by `startup`."""
    if guest.kind is Kind.QEMU:
        for part in str(guest.options.get("startup", "")).split(","):
            name, _, value = part.partition("=")
            if name == "down" and value.isdecimal():
                return int(value)
    return DEFAULT_GRACE_SECONDS


def _obeys(guest: Guest, grace: float) -> bool:
    return guest.on_shutdown is OnShutdown.OBEY and guest.shutdown_seconds <= grace


def _stopping(guest: Guest, grace: int, *, force: bool) -> _Stopping:
    if _obeys(guest, grace):
        return _Stopping(seconds=guest.shutdown_seconds)
    if guest.kind is Kind.LXC:
        if force:
            return _Stopping(seconds=grace + KILL_SECONDS)
        return _Stopping(seconds=2 * grace, failure="container did not stop")
    if force:
        return _Stopping(seconds=grace + QEMU_TERM_SECONDS)
    return _Stopping(seconds=grace, failure="VM quit/powerdown failed - got timeout")


def _ha_start(core: Core, guest: Guest) -> None:
    if guest.ha is HaState.ERROR:
        return  # the request is written down, and an erroneous service is not touched
    guest.ha_wants_running = True

    def act() -> None:
        if guest.ha_wants_running and not guest.running and guest.ha is not HaState.ERROR:
            core.power_on(guest)
            guest.ha = HaState.STARTED

    core.timeline.after(HA_QUEUE_SECONDS + guest.start_seconds, act)


def _ha_stop(core: Core, guest: Guest, grace: int) -> None:
    if guest.ha is HaState.ERROR:
        return
    guest.ha_wants_running = False
    guest.ha = HaState.REQUEST_STOP
    core.timeline.after(HA_QUEUE_SECONDS, lambda: _ha_stop_now(core, guest, grace))


def _ha_stop_now(core: Core, guest: Guest, grace: int) -> None:
    """The HA agent on the node acts: a VM is killed after the grace, a container that stays ends in `error`."""
    if guest.ha_wants_running or guest.ha is None:
        return
    if guest.lock is not None:
        core.timeline.after(HA_QUEUE_SECONDS, lambda: _ha_stop_now(core, guest, grace))
        return
    ignored = grace > 0 and not _obeys(guest, grace)
    seconds = guest.shutdown_seconds if grace > 0 else KILL_SECONDS
    if ignored:
        seconds = 2 * grace if guest.kind is Kind.LXC else grace + QEMU_TERM_SECONDS

    def end() -> None:
        if guest.ha_wants_running:
            return
        if ignored and guest.running and guest.kind is Kind.LXC:
            guest.ha = HaState.ERROR
            return
        core.power_off(guest)
        guest.ha = HaState.STOPPED

    core.timeline.after(seconds, end)
