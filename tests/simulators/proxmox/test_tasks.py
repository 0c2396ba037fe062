"""Tasks: identifiers, lists, logs and who may read them."""

import re
from typing import Any

from simulators.proxmox import Cluster

CT = "/nodes/pve1/lxc/101"


async def test_an_identifier_names_node_start_type_guest_and_user(cluster: Cluster, robot: Any) -> None:
    """The node is the second field: that is where the task must be asked for."""
    upid = (await robot("POST", f"{CT}/status/shutdown")).data
    started = int(cluster.timeline.now.timestamp())
    assert re.fullmatch(
        rf"UPID:pve1:[0-9A-F]{{8}}:[0-9A-F]{{8}}:{started:08X}:vzshutdown:101:robot@pve!t:", upid
    )
    task = await robot.data(f"/nodes/pve1/tasks/{upid}/status")
    assert (task["status"], task["upid"], task["id"]) == ("running", upid, "101")
    assert "exitstatus" not in task
    wrong = await robot("GET", f"/nodes/pve2/tasks/{upid}/status")
    assert wrong.errors == {"upid": "no such task"}


async def test_somebody_elses_task_needs_audit_on_the_node(cluster: Cluster, robot: Any, root: Any) -> None:
    """A token sees its own, its user those of all its tokens, an auditor everybody's."""
    mine = (await robot("POST", f"{CT}/status/shutdown")).data
    others = cluster.begin_backup(102, "pbs")
    assert (await robot("GET", f"/nodes/pve1/tasks/{others}/status")).status == 200
    cluster.add_role("Nodes", [])
    assert (await robot("GET", f"/nodes/pve1/tasks/{mine}/status")).status == 200
    refused = await robot("GET", f"/nodes/pve1/tasks/{others}/status")
    assert refused.reason == "Permission check failed (/nodes/pve1, Sys.Audit)"
    assert (await robot("GET", f"/nodes/pve1/tasks/{others}/log")).status == 403
    listed = await robot.data("/nodes/pve1/tasks", source="all")
    assert [row["upid"] for row in listed] == [mine]
    assert len(await root.data("/nodes/pve1/tasks", source="all")) == 2


async def test_a_user_sees_the_tasks_of_its_tokens_but_no_token_its_siblings(
    cluster: Cluster, robot: Any, caller: Any
) -> None:
    """The separation of tokens goes one way."""
    cluster.add_role("Nodes", [])
    cluster.add_token("robot@pve!other", secret="other-secret")
    upid = (await robot("POST", f"{CT}/status/shutdown")).data
    path = f"/nodes/pve1/tasks/{upid}/status"
    assert (await caller("robot@pve!other", "other-secret")("GET", path)).status == 403
    assert cluster.tasks.by_upid[upid].belongs_to("robot@pve")


async def test_the_list_shows_finished_tasks_unless_asked_for_active_ones(
    cluster: Cluster, robot: Any
) -> None:
    """A running backup is found with `source=active`."""
    done = (await robot("POST", f"{CT}/status/shutdown")).data
    await robot.finish(done)
    backup = cluster.begin_backup(102, "pbs", seconds=600)
    finished = await robot.data("/nodes/pve1/tasks")
    assert [(row["upid"], row["status"]) for row in finished] == [(done, "OK")]
    active = await robot.data("/nodes/pve1/tasks", source="active", typefilter="vzdump", vmid=102)
    assert [row["upid"] for row in active] == [backup]
    assert "endtime" not in active[0]
    assert await robot.data("/nodes/pve1/tasks", source="all", limit=1, start=1) == finished


async def test_the_log_ends_with_how_the_task_ended(cluster: Cluster, robot: Any) -> None:
    """A warning is no error."""
    for exitstatus, line in (("boom", "TASK ERROR: boom"), ("WARNINGS: 1", "TASK WARNINGS: 1")):
        cluster.fail_next_task(102, exitstatus)
        upid = (await robot("POST", "/nodes/pve1/qemu/102/status/shutdown")).data
        log = f"/nodes/pve1/tasks/{upid}/log"
        assert await robot.data(log) == [{"n": 1, "t": "no content"}]
        assert await robot.finish(upid) == exitstatus
        assert (await robot.data(log))[-1]["t"] == line


async def test_text_that_is_no_identifier_is_a_bad_parameter(robot: Any) -> None:
    """`OK`, as vzdump may answer, is no task."""
    assert (await robot("GET", "/nodes/pve1/tasks/OK/status")).errors == {
        "upid": "unable to parse worker upid 'OK'"
    }
