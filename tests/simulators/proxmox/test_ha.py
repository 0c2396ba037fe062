"""Guests that the HA manager looks after."""

from typing import Any

import pytest

from simulators.proxmox import Cluster

CT, VM = "/nodes/pve1/lxc/201", "/nodes/pve1/qemu/202"


@pytest.fixture(autouse=True)
def managed(cluster: Cluster) -> None:
    """A container and a VM under HA, both running."""
    cluster.add_guest("lxc", 201, "pve1", ha=True)
    cluster.add_guest("qemu", 202, "pve1", ha=True)


async def _status(robot: Any, guest: str) -> tuple[str, str]:
    current = await robot.data(f"{guest}/status/current")
    return current["status"], current["ha"]["state"]


@pytest.mark.parametrize("guest", [CT, VM])
async def test_a_stop_is_only_queued_and_the_task_says_ok_while_the_guest_runs(
    cluster: Cluster, robot: Any, guest: str
) -> None:
    """The task's OK means 'written down'."""
    answer = await robot("POST", f"{guest}/status/shutdown", timeout=60)
    assert ":hastop:" in answer.data
    assert await robot.finish(answer.data) == "OK"
    assert await _status(robot, guest) == ("running", "request_stop")
    cluster.advance(30)
    assert await _status(robot, guest) == ("stopped", "stopped")


async def test_a_container_that_ignores_the_request_ends_in_error_and_runs_on(
    cluster: Cluster, robot: Any
) -> None:
    """forceStop is ignored under HA; the service then needs a person, and further requests do nothing."""
    cluster.behave(201, on_shutdown="ignore")
    assert await robot.run(f"{CT}/status/shutdown", timeout=30, forceStop=1) == "OK"
    cluster.advance(120)
    assert await _status(robot, CT) == ("running", "error")
    assert await robot.run(f"{CT}/status/stop") == "OK"
    cluster.advance(120)
    assert await _status(robot, CT) == ("running", "error")


async def test_a_vm_that_ignores_the_request_is_killed_after_the_grace(cluster: Cluster, robot: Any) -> None:
    """The HA agent stops VMs by force."""
    cluster.behave(202, on_shutdown="ignore")
    await robot.run(f"{VM}/status/shutdown", timeout=30)
    cluster.advance(20)
    assert (await _status(robot, VM))[0] == "running"
    cluster.advance(60)
    assert await _status(robot, VM) == ("stopped", "stopped")


async def test_a_start_is_queued_too(cluster: Cluster, robot: Any) -> None:
    """After a stop through HA the guest comes back the same slow way."""
    await robot.run(f"{CT}/status/stop")
    cluster.advance(30)
    assert await robot.run(f"{CT}/status/start") == "OK"
    assert (await _status(robot, CT))[0] == "stopped"
    cluster.advance(30)
    assert await _status(robot, CT) == ("running", "started")


async def test_a_locked_guest_is_stopped_once_the_lock_is_gone(cluster: Cluster, robot: Any) -> None:
    """HA tries again by itself."""
    cluster.lock(201)
    await robot.run(f"{CT}/status/shutdown")
    cluster.advance(60)
    assert (await _status(robot, CT))[0] == "running"
    cluster.unlock(201)
    cluster.advance(30)
    assert (await _status(robot, CT))[0] == "stopped"


async def test_a_stopped_service_stays_off_over_a_reboot_and_a_started_one_comes_back(
    cluster: Cluster, robot: Any
) -> None:
    """HA ignores onboot; what was asked of it last counts."""
    await robot.run(f"{CT}/status/stop")
    cluster.advance(30)
    cluster.reboot_node("pve1", seconds=60)
    cluster.advance(61)
    assert await _status(robot, CT) == ("stopped", "stopped")
    assert await _status(robot, VM) == ("running", "started")


async def test_a_dead_nodes_services_start_elsewhere(cluster: Cluster, robot: Any) -> None:
    """After fencing the guest runs on another node: the one it was seen on is wrong now."""
    cluster.kill_node("pve1")
    cluster.advance(181)
    assert (await _status(robot, "/nodes/pve2/qemu/202"))[0] == "running"
    assert (await robot("GET", f"{VM}/status/current")).status == 595


async def test_services_stay_where_they_are_when_the_node_is_back_in_time(
    cluster: Cluster, robot: Any
) -> None:
    """A short outage moves nothing, and neither does the memory of it after a second one."""
    cluster.reboot_node("pve1", seconds=60)
    cluster.advance(170)
    cluster.kill_node("pve1")
    cluster.advance(60)
    cluster.revive_node("pve1")
    cluster.advance(300)
    assert await _status(robot, VM) == ("running", "started")


async def test_the_state_is_shown_to_the_cluster(robot: Any, root: Any) -> None:
    """`hastate` tells managed guests apart; the HA list itself needs rights that the product does not have."""
    rows = {row["vmid"]: row for row in await robot.data("/cluster/resources", type="vm")}
    assert rows[201]["hastate"] == "started"
    assert "hastate" not in rows[101]
    assert (await robot("GET", "/cluster/ha/resources")).status == 403
    assert {row["sid"] for row in await root.data("/cluster/ha/resources")} == {"ct:201", "vm:202"}
