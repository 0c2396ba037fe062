"""The control door, for tests in another process."""

import json
from typing import Any

import httpx

from simulators.proxmox import Cluster


async def test_the_state_can_be_read_and_things_can_be_made_to_happen(
    cluster: Cluster, client: httpx.AsyncClient
) -> None:
    """By the names of the cluster's own methods."""
    done = await client.post("/_simulator/kill_node", json={"node": "pve2"})
    assert done.json() == {"data": None}
    state = (await client.get("/_simulator/state")).json()["data"]
    assert state["nodes"] == {"pve1": {"online": True}, "pve2": {"online": False}}
    assert state["guests"]["101"]["power"] == "running"
    volid = (await client.post("/_simulator/add_backup", json={"vmid": 101, "storage": "pbs"})).json()["data"]
    assert (await client.get("/_simulator/state")).json()["data"]["backups"][volid]["protected"] is False
    before = cluster.timeline.now
    await client.post("/_simulator/advance", json={"seconds": 90})
    assert (cluster.timeline.now - before).total_seconds() == 90


async def test_calls_can_be_read_and_the_door_itself_is_not_among_them(
    robot: Any, client: httpx.AsyncClient
) -> None:
    """Destroying ones have a view of their own."""
    await robot("DELETE", "/nodes/pve1/lxc/101")
    await client.get("/_simulator/state")
    calls = (await client.get("/_simulator/calls")).json()["data"]
    assert calls == (await client.get("/_simulator/destroying_calls")).json()["data"]
    assert [(call["method"], call["path"], call["user"]) for call in calls] == [
        ("DELETE", "/nodes/pve1/lxc/101", "robot@pve!t")
    ]


async def test_only_scripting_methods_are_offered(cluster: Cluster, client: httpx.AsyncClient) -> None:
    """Neither machinery nor private parts; the refusal names what there is."""
    for name in ("run", "power_off", "_boot", "__init__", "mutex"):
        refused = await client.post(f"/_simulator/{name}", json={})
        assert refused.status_code == 404
        assert "kill_node" in refused.json()["error"]
    assert (await client.get("/_simulator/secrets")).status_code == 404


async def test_wrong_arguments_are_named_and_nothing_happens(
    cluster: Cluster, client: httpx.AsyncClient
) -> None:
    """400 with the method and what was wrong."""
    before = cluster.snapshot()
    for name, arguments in (
        ("kill_node", {"nod": "pve1"}),
        ("kill_node", {"node": "pve9"}),
        ("add_guest", {"kind": "lxc", "vmid": 101, "node": "pve1"}),
        ("add_guest", {"kind": "lxc", "vmid": 300, "node": "pve1", "colour": "red"}),
        ("migrate", {"vmid": 101, "node": "pve9"}),
    ):
        refused = await client.post(f"/_simulator/{name}", json=arguments)
        assert refused.status_code == 400
        assert refused.json()["error"].startswith(f"{name}: ")
    assert (await client.post("/_simulator/advance", content=b"[1]")).status_code == 400
    assert cluster.snapshot() == before


def test_a_snapshot_survives_json(cluster: Cluster) -> None:
    """It can be stored and compared."""
    cluster.begin_backup(104, "pbs")
    taken = cluster.snapshot()
    assert json.loads(json.dumps(taken)) == taken
