"""Starting and stopping guests."""

from typing import Any

import pytest

from simulators.proxmox import Cluster

CT, VM = "/nodes/pve1/lxc/101", "/nodes/pve1/qemu/102"
OFF_CT, OFF_VM = "/nodes/pve2/lxc/103", "/nodes/pve2/qemu/104"


async def _status(robot: Any, guest: str) -> str:
    return str((await robot.data(f"{guest}/status/current"))["status"])


@pytest.mark.parametrize("guest", [CT, VM])
async def test_a_shutdown_only_starts_a_task_and_the_guest_runs_until_it_ends(robot: Any, guest: str) -> None:
    """A UPID is a promise: the guest is still running when the POST has been answered."""
    answer = await robot("POST", f"{guest}/status/shutdown", timeout=60)
    assert answer.data.startswith("UPID:pve1:")
    assert await _status(robot, guest) == "running"
    assert await robot.finish(answer.data) == "OK"
    assert await _status(robot, guest) == "stopped"


@pytest.mark.parametrize("guest", [OFF_CT, OFF_VM])
async def test_a_start_ends_with_a_running_guest(robot: Any, guest: str) -> None:
    """Both kinds start through a task."""
    assert await robot.run(f"{guest}/status/start") == "OK"
    assert await _status(robot, guest) == "running"


async def test_a_container_that_is_off_refuses_a_shutdown_at_once(robot: Any) -> None:
    """The container's POST itself fails, with the text that playbooks have to read."""
    answer = await robot("POST", f"{OFF_CT}/status/shutdown")
    assert (answer.status, answer.reason) == (500, "CT 103 not running")
    assert (await robot("POST", f"{OFF_CT}/status/stop")).reason == "CT 103 not running"


async def test_a_vm_that_is_off_takes_a_shutdown_in_silence(robot: Any) -> None:
    """The VM's task says OK and has done nothing."""
    assert await robot.run(f"{OFF_VM}/status/shutdown") == "OK"
    assert await _status(robot, OFF_VM) == "stopped"


async def test_a_running_container_refuses_a_start_at_once_and_a_vm_in_its_task(robot: Any) -> None:
    """The two kinds fail at different places."""
    assert (await robot("POST", f"{CT}/status/start")).reason == "CT 101 already running"
    assert await robot.run(f"{VM}/status/start") == "VM 102 already running"


async def test_a_container_asked_for_on_the_wrong_node_says_not_running_while_it_runs(
    cluster: Cluster, robot: Any
) -> None:
    """The trap behind 'not running': the container moved and runs elsewhere."""
    cluster.migrate(101, "pve2")
    assert (await robot("POST", f"{CT}/status/shutdown")).reason == "CT 101 not running"
    assert await _status(robot, "/nodes/pve2/lxc/101") == "running"
    wrong = await robot("GET", f"{CT}/status/current")
    assert (wrong.status, wrong.reason) == (
        500,
        "Configuration file 'nodes/pve1/lxc/101.conf' does not exist",
    )


async def test_a_vm_asked_for_on_the_wrong_node_fails_in_the_task(cluster: Cluster, robot: Any) -> None:
    """A VM's POST succeeds on any node; only its task finds nothing."""
    cluster.migrate(102, "pve2")
    assert "no such machine" in await robot.run(f"{VM}/status/shutdown")
    assert "nodes/pve1/qemu-server/102.conf' does not exist" in await robot.run(f"{VM}/status/start")
    assert await _status(robot, "/nodes/pve2/qemu/102") == "running"


async def test_a_container_that_ignores_the_request_keeps_running_without_force(
    cluster: Cluster, robot: Any
) -> None:
    """Without forceStop the task fails after twice the grace and the container still runs."""
    cluster.behave(101, on_shutdown="ignore")
    answer = await robot("POST", f"{CT}/status/shutdown", timeout=30)
    cluster.advance(59)
    assert (await robot.data(f"/nodes/pve1/tasks/{answer.data}/status"))["status"] == "running"
    assert await robot.finish(answer.data) == "container did not stop"
    assert await _status(robot, CT) == "running"


async def test_a_vm_that_ignores_the_request_keeps_running_without_force(
    cluster: Cluster, robot: Any
) -> None:
    """A VM's task fails after the grace."""
    cluster.behave(102, on_shutdown="ignore")
    assert await robot.run(f"{VM}/status/shutdown", timeout=30) == "VM quit/powerdown failed - got timeout"
    assert await _status(robot, VM) == "running"


@pytest.mark.parametrize("guest", [CT, VM])
async def test_force_kills_a_guest_that_ignores_the_request_but_only_after_the_grace(
    cluster: Cluster, robot: Any, guest: str
) -> None:
    """forceStop is patient: the guest has its whole grace."""
    cluster.behave(int(guest[-3:]), on_shutdown="ignore")
    answer = await robot("POST", f"{guest}/status/shutdown", timeout=30, forceStop=1)
    cluster.advance(29)
    assert await _status(robot, guest) == "running"
    assert await robot.finish(answer.data) == "OK"
    assert await _status(robot, guest) == "stopped"


async def test_a_slow_guest_counts_as_ignoring_when_the_grace_is_shorter(
    cluster: Cluster, robot: Any
) -> None:
    """What counts is whether the guest is off in time."""
    cluster.behave(101, shutdown_seconds=45)
    assert await robot.run(f"{CT}/status/shutdown", timeout=10) == "container did not stop"


async def test_a_vm_takes_its_own_grace_from_its_configuration(cluster: Cluster, robot: Any) -> None:
    """`startup down=5` replaces the default of a minute."""
    cluster.configure(102, {"startup": "order=2,down=5"})
    cluster.behave(102, on_shutdown="ignore")
    answer = await robot("POST", f"{VM}/status/shutdown")
    cluster.advance(5)
    assert (await robot.data(f"/nodes/pve1/tasks/{answer.data}/status"))["status"] == "stopped"


async def test_a_paused_vm_is_only_shut_down_by_force(cluster: Cluster, robot: Any) -> None:
    """A paused VM cannot obey."""
    cluster.pause(102)
    assert (await robot("POST", f"{VM}/status/shutdown")).reason == "VM is paused - cannot shutdown"
    assert await robot.run(f"{VM}/status/shutdown", forceStop=1) == "OK"
    assert await _status(robot, VM) == "stopped"


@pytest.mark.parametrize(("guest", "label"), [(CT, "CT"), (VM, "VM")])
async def test_a_locked_guest_answers_200_and_fails_in_the_task(
    cluster: Cluster, robot: Any, guest: str, label: str
) -> None:
    """The lock is met by the task alone; the guest keeps running."""
    cluster.lock(int(guest[-3:]), "backup")
    assert await robot.run(f"{guest}/status/shutdown", forceStop=1) == f"{label} is locked (backup)"
    assert await _status(robot, guest) == "running"


@pytest.mark.parametrize("acts", [False, True])
async def test_a_task_can_be_made_to_lie(cluster: Cluster, robot: Any, *, acts: bool) -> None:
    """OK without an effect, or a failure with one: only the state read afterwards tells."""
    cluster.fail_next_task(101, "got signal 15" if acts else "OK", acts=acts)
    assert await robot.run(f"{CT}/status/shutdown") == ("got signal 15" if acts else "OK")
    assert await _status(robot, CT) == ("stopped" if acts else "running")
    if not acts:
        assert await robot.run(f"{CT}/status/shutdown") == "OK"
        assert await _status(robot, CT) == "stopped"


async def test_a_second_shutdown_of_a_container_waits_for_the_first_and_gives_up(
    cluster: Cluster, robot: Any
) -> None:
    """The first task holds the configuration file; the second POST waits ten seconds for it."""
    cluster.behave(101, on_shutdown="ignore")
    await robot("POST", f"{CT}/status/shutdown", timeout=60)
    second = await robot("POST", f"{CT}/status/shutdown", timeout=60)
    assert second.reason == "can't lock file '/run/lock/lxc/pve-config-101.lock' - got timeout"


async def test_a_second_shutdown_of_a_vm_gives_up_in_its_task(cluster: Cluster, robot: Any) -> None:
    """The VM's POST succeeds; its task waits ten seconds for the lock."""
    cluster.behave(102, on_shutdown="ignore")
    await robot("POST", f"{VM}/status/shutdown", timeout=60)
    exitstatus = await robot.run(f"{VM}/status/shutdown", timeout=60)
    assert exitstatus == "can't lock file '/var/lock/qemu-server/lock-102.conf' - got timeout"


async def test_without_quorum_nothing_starts(cluster: Cluster, robot: Any) -> None:
    """A start is refused at once; a stop is not."""
    cluster.set_quorum(quorate=False)
    assert (await robot("POST", f"{OFF_CT}/status/start")).reason == "cluster not ready - no quorum?"
    assert await robot.run(f"{CT}/status/shutdown") == "OK"


@pytest.mark.parametrize(("kind", "what"), [("lxc", "a CT if it's"), ("qemu", "a vm if it's")])
async def test_a_template_never_starts(cluster: Cluster, robot: Any, kind: str, what: str) -> None:
    """It is there to be copied."""
    cluster.add_guest(kind, 300, "pve1", running=False, template=True)
    assert await robot.run(f"/nodes/pve1/{kind}/300/status/start") == f"you can't start {what} a template"


async def test_root_only_switches_are_not_taken(cluster: Cluster, robot: Any) -> None:
    """A lock is never skipped."""
    cluster.lock(101)
    assert (await robot("POST", f"{CT}/status/stop", skiplock=1)).errors.keys() == {"skiplock"}
    assert await _status(robot, CT) == "running"
