"""Nodes that die, come back and reboot, and what the cluster believes meanwhile."""

import random
from typing import Any

import pytest

from billing.clock import ManualClock
from simulators.proxmox import Cluster, sample

CT, OFF_CT, OFF_VM = "/nodes/pve1/lxc/101", "/nodes/pve2/lxc/103", "/nodes/pve2/qemu/104"


async def _believed(robot: Any, vmid: int) -> dict[str, Any]:
    rows = await robot.data("/cluster/resources")
    return next(row for row in rows if row.get("vmid") == vmid)


async def _power(robot: Any, guest: str) -> str:
    return str((await robot.data(f"{guest}/status/current"))["status"])


async def test_a_dead_nodes_guests_read_running_for_five_minutes_and_unknown_without_name_after(
    cluster: Cluster, robot: Any
) -> None:
    """The cluster's map is old news; only the node's own state says offline at once."""
    cluster.kill_node("pve1")
    cluster.advance(280)
    assert (await _believed(robot, 101))["status"] == "running"
    nodes = {row["node"]: row["status"] for row in await robot.data("/nodes")}
    assert nodes == {"pve1": "offline", "pve2": "online"}
    cluster.advance(30)
    row = await _believed(robot, 101)
    assert row["status"] == "unknown"
    assert "name" not in row
    assert (await _believed(robot, 103))["status"] == "stopped"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", f"{CT}/status/current"), ("GET", f"{CT}/config"), ("POST", f"{CT}/status/shutdown"),
     ("GET", "/nodes/pve1/lxc"), ("GET", "/nodes/pve1/storage/pbs/content"), ("GET", "/nodes/pve1/tasks")],
)  # fmt: skip
async def test_a_dead_node_answers_595_with_an_empty_body(
    cluster: Cluster, robot: Any, method: str, path: str
) -> None:
    """Every call that is passed on to it ends the same way; rights are looked at before."""
    cluster.kill_node("pve1")
    answer = await robot(method, path)
    assert (answer.status, answer.reason, answer.data) == (595, "No route to host", None)


async def test_an_unknown_node_is_an_error(robot: Any) -> None:
    """A node that does not exist is no dead node."""
    assert (await robot("GET", "/nodes/pve9/lxc")).reason == "no such cluster node 'pve9'"


async def test_a_node_that_lost_power_starts_only_onboot_guests_when_it_is_back(
    cluster: Cluster, robot: Any
) -> None:
    """What ran without onboot stays off; what was off with onboot runs: 104 was off and has onboot=1."""
    cluster.kill_node("pve1")
    cluster.kill_node("pve2")
    cluster.revive_node("pve1")
    cluster.revive_node("pve2")
    assert await _power(robot, CT) == "running"
    assert await _power(robot, "/nodes/pve1/qemu/102") == "stopped"
    assert await _power(robot, OFF_CT) == "stopped"
    assert await _power(robot, OFF_VM) == "running"


async def test_guests_behind_a_broken_network_never_stopped(cluster: Cluster, robot: Any) -> None:
    """A silent node is not a dead one: when it is heard again, nothing was started or stopped."""
    for node in ("pve1", "pve2"):
        cluster.kill_node(node, power_lost=False)
    cluster.advance(600)
    for node in ("pve1", "pve2"):
        cluster.revive_node(node)
    assert await _power(robot, "/nodes/pve1/qemu/102") == "running"
    assert await _power(robot, OFF_VM) == "stopped"


async def test_a_reboot_takes_its_time_and_a_guest_set_to_onboot_0_stays_off(
    cluster: Cluster, robot: Any
) -> None:
    """That is why a suspension clears onboot."""
    await robot("PUT", f"{CT}/config", onboot=0)
    cluster.reboot_node("pve1", seconds=90)
    assert (await robot("GET", f"{CT}/status/current")).status == 595
    cluster.advance(91)
    assert await _power(robot, CT) == "stopped"


async def test_a_task_on_a_node_that_died_never_says_ok(cluster: Cluster, robot: Any) -> None:
    """Its worker is gone; afterwards the log ends without a word and the guest is as the crash left it."""
    answer = await robot("POST", f"{CT}/status/shutdown")
    cluster.kill_node("pve1")
    cluster.revive_node("pve1")
    assert await robot.finish(answer.data) == "unexpected status"
    assert await _power(robot, CT) == "running"
    assert await robot.run(f"{CT}/status/shutdown") == "OK"


async def test_the_clusters_map_lags_behind_the_node_by_one_broadcast(cluster: Cluster, robot: Any) -> None:
    """Right after a stop the map still says running; the node itself knows better."""
    await robot.run(f"{CT}/status/stop")
    assert await _power(robot, CT) == "stopped"
    assert (await _believed(robot, 101))["status"] == "running"
    cluster.advance(10)
    assert (await _believed(robot, 101))["status"] == "stopped"


def test_a_cluster_without_broadcasts_knows_everything_at_once(clock: ManualClock) -> None:
    """For tests that are about something else."""
    cluster = sample.sample_cluster(clock=clock, rng=random.Random(1), broadcast_seconds=0)
    cluster.stop_by_hand(1101)
    with cluster.present():
        told = cluster.known(cluster.guests[1101])
    assert told is not None
    assert told.power == "stopped"


async def test_lock_tags_node_and_pool_are_never_old(cluster: Cluster, robot: Any) -> None:
    """They come from the configuration files, which every node shares."""
    cluster.lock(101, "migrate")
    await robot("PUT", "/nodes/pve1/qemu/102/config", tags="b, A")
    cluster.migrate(103, "pve1")
    assert (await _believed(robot, 101))["lock"] == "migrate"
    assert (await _believed(robot, 102))["tags"] == "a;b"
    moved = await _believed(robot, 103)
    assert (moved["node"], moved["pool"]) == ("pve1", "customer-anna")


async def test_the_resources_of_one_type_can_be_asked_for(robot: Any) -> None:
    """Without a type everything comes: guests, nodes, storages, pools."""
    kinds = {row["type"] for row in await robot.data("/cluster/resources")}
    assert kinds == {"lxc", "qemu", "node", "storage", "pool"}
    assert {row["type"] for row in await robot.data("/cluster/resources", type="node")} == {"node"}
    wrong = await robot("GET", "/cluster/resources", type="guest")
    assert wrong.errors == {
        "type": "value 'guest' does not have a value in the enumeration 'vm, storage, node, sdn'"
    }


async def test_a_live_migration_locks_the_guest_until_it_has_arrived(cluster: Cluster, robot: Any) -> None:
    """On the way it is on the old node, locked."""
    cluster.migrate(101, "pve2", seconds=20)
    assert await robot.run(f"{CT}/status/shutdown") == "CT is locked (migrate)"
    cluster.advance(20)
    assert await robot.run("/nodes/pve2/lxc/101/status/shutdown") == "OK"


async def test_its_authority_outlives_new_nodes_and_new_certificates(cluster: Cluster, robot: Any) -> None:
    """Only another cluster has another one; each node's own certificate is its own, and renewed."""

    async def told(node: str) -> dict[str, str]:
        rows = await robot.data(f"/nodes/{node}/certificates/info")
        return {row["filename"]: row["fingerprint"] for row in rows}

    before = await told("pve1")
    cluster.add_node("pve3")
    cluster.renew_certificates()
    after, joined = await told("pve1"), await told("pve3")
    assert before["pve-root-ca.pem"] == after["pve-root-ca.pem"] == joined["pve-root-ca.pem"]
    assert len({before["pve-ssl.pem"], after["pve-ssl.pem"], joined["pve-ssl.pem"]}) == 3

    cluster.answer_as("another")
    assert (await told("pve1"))["pve-root-ca.pem"] != before["pve-root-ca.pem"]
