"""Backups: which are seen, protecting them, and what a running one does to its guest."""

from datetime import timedelta
from typing import Any

import pytest

from simulators.proxmox import Cluster

CONTENT = "/nodes/pve1/storage/{}/content"


def _add(cluster: Cluster, vmid: int, storage: str, count: int) -> list[str]:
    now = cluster.timeline.now
    return [cluster.add_backup(vmid, storage, at=now - timedelta(days=day)) for day in range(1, count + 1)]


async def _protected(robot: Any, storage: str, vmid: int) -> set[str]:
    rows = await robot.data(CONTENT.format(storage), content="backup", vmid=vmid)
    return {row["volid"] for row in rows if row.get("protected")}


@pytest.mark.parametrize("storage", ["pbs", "local"])
async def test_protection_is_set_and_lifted_on_a_name_with_or_without_slashes(
    cluster: Cluster, robot: Any, storage: str
) -> None:
    """The field is 1 or absent in the list, 1 or 0 on the backup itself."""
    first, second = _add(cluster, 101, storage, 2)
    path = f"{CONTENT.format(storage)}/{first}"
    assert (await robot("PUT", path, protected=1)).status == 200
    assert await _protected(robot, storage, 101) == {first}
    assert (await robot.data(path))["protected"] == 1
    assert (await robot.data(f"{CONTENT.format(storage)}/{second}"))["protected"] == 0
    assert (await robot("PUT", path, protected=0)).status == 200
    assert await _protected(robot, storage, 101) == set()


async def test_a_name_with_escaped_slashes_is_the_same(cluster: Cluster, robot: Any) -> None:
    """Both forms are in use."""
    (volid,) = _add(cluster, 101, "pbs", 1)
    escaped = volid.replace("/", "%2F").replace(":", "%3A")
    assert (await robot("PUT", f"{CONTENT.format('pbs')}/{escaped}", protected=1)).status == 200
    assert await _protected(robot, "pbs", 101) == {volid}


async def test_the_sixth_protected_backup_of_a_guest_is_refused(cluster: Cluster, robot: Any) -> None:
    """Five per guest and storage, whoever protected them; another guest has its own five."""
    *five, sixth = _add(cluster, 101, "pbs", 6)
    for volid in five:
        assert (await robot("PUT", f"{CONTENT.format('pbs')}/{volid}", protected=1)).status == 200
    refused = await robot("PUT", f"{CONTENT.format('pbs')}/{sixth}", protected=1)
    assert refused.status == 500
    assert refused.reason == "The number of protected backups per guest is limited to 5 on storage 'pbs'"
    assert await _protected(robot, "pbs", 101) == set(five)
    (other,) = _add(cluster, 102, "pbs", 1)
    assert (await robot("PUT", f"{CONTENT.format('pbs')}/{other}", protected=1)).status == 200


async def test_protecting_again_is_no_question_of_the_limit(cluster: Cluster, robot: Any) -> None:
    """Idempotent: what is protected may be protected again."""
    for volid in _add(cluster, 101, "pbs", 5):
        for _ in range(2):
            assert (await robot("PUT", f"{CONTENT.format('pbs')}/{volid}", protected=1)).status == 200


async def test_the_limit_falls_with_datastore_allocate_unless_it_is_configured(
    cluster: Cluster, robot: Any, root: Any
) -> None:
    """A configured limit holds for everybody."""
    volids = _add(cluster, 101, "pbs", 7)
    for volid in volids[:6]:
        assert (await root("PUT", f"{CONTENT.format('pbs')}/{volid}", protected=1)).status == 200
    cluster.set_storage("pbs", max_protected=6)
    assert "limited to 6" in (await root("PUT", f"{CONTENT.format('pbs')}/{volids[6]}", protected=1)).reason


async def test_protecting_a_file_that_is_gone_answers_200_and_changes_nothing(
    cluster: Cluster, robot: Any
) -> None:
    """Only a new list tells."""
    (volid,) = _add(cluster, 101, "local", 1)
    cluster.lose_backup(volid)
    assert (await robot("PUT", f"{CONTENT.format('local')}/{volid}", protected=1)).status == 200
    assert await robot.data(CONTENT.format("local"), vmid=101) == []


async def test_protecting_a_snapshot_that_is_gone_is_an_error(cluster: Cluster, robot: Any) -> None:
    """The Backup Server is asked, and says no."""
    (volid,) = _add(cluster, 101, "pbs", 1)
    cluster.lose_backup(volid)
    assert (await robot("PUT", f"{CONTENT.format('pbs')}/{volid}", protected=1)).status == 500


async def test_a_backup_of_a_guest_without_the_right_is_left_out_without_a_word(
    cluster: Cluster, robot: Any
) -> None:
    """An empty list is not 'no backups'."""
    _add(cluster, 101, "pbs", 1)
    cluster.add_role("NoBackup", ["VM.Audit"])
    for who in ("robot@pve", "robot@pve!t"):
        cluster.grant("/vms/101", who, "NoBackup")
        cluster.revoke("/vms", who, "Guests")
    assert await robot.data(CONTENT.format("pbs"), content="backup", vmid=101) == []


async def test_notes_show_their_first_line_in_the_list_and_all_of_them_alone(
    cluster: Cluster, robot: Any
) -> None:
    """Notes are the other attribute of a backup."""
    (volid,) = _add(cluster, 101, "pbs", 1)
    path = f"{CONTENT.format('pbs')}/{volid}"
    await robot("PUT", path, notes="first\nsecond")
    assert (await robot.data(CONTENT.format("pbs")))[0]["notes"] == "first"
    assert (await robot.data(path))["notes"] == "first\nsecond"


async def test_a_vm_that_is_off_looks_running_during_its_backup_and_stops_after(
    cluster: Cluster, robot: Any
) -> None:
    """`prelaunch` and the lock tell it from a real start; a shutdown meanwhile fails in its task."""
    guest = "/nodes/pve2/qemu/104"
    cluster.begin_backup(104, "pbs", seconds=120)
    cluster.advance(15)
    current = await robot.data(f"{guest}/status/current")
    assert (current["status"], current["qmpstatus"], current["lock"]) == ("running", "prelaunch", "backup")
    believed = {row["vmid"]: row for row in await robot.data("/cluster/resources", type="vm")}[104]
    assert (believed["status"], believed["lock"]) == ("running", "backup")
    assert await robot.run(f"{guest}/status/shutdown", forceStop=1) == "VM is locked (backup)"
    cluster.advance(120)
    current = await robot.data(f"{guest}/status/current")
    assert (current["status"], current["qmpstatus"]) == ("stopped", "stopped")
    assert "lock" not in current
    assert len(await robot.data("/nodes/pve2/storage/pbs/content", vmid=104)) == 1


async def test_a_running_guest_stays_on_during_and_after_its_backup(cluster: Cluster, robot: Any) -> None:
    """Only the lock shows."""
    cluster.begin_backup(101, "pbs", seconds=60)
    assert (await robot.data("/nodes/pve1/lxc/101/status/current"))["lock"] == "backup"
    cluster.advance(61)
    current = await robot.data("/nodes/pve1/lxc/101/status/current")
    assert current["status"] == "running"
    assert "lock" not in current


async def test_a_backup_that_died_with_its_node_leaves_the_lock_behind(cluster: Cluster, robot: Any) -> None:
    """Somebody has to unlock by hand; no time heals it."""
    cluster.begin_backup(101, "pbs", seconds=60)
    cluster.kill_node("pve1")
    cluster.revive_node("pve1")
    cluster.advance(3600)
    assert await robot.run("/nodes/pve1/lxc/101/status/start") == "CT is locked (backup)"
    assert cluster.backups == {}


async def test_vzdump_makes_a_backup_and_on_the_wrong_node_says_ok_and_does_nothing(
    cluster: Cluster, robot: Any
) -> None:
    """`OK` is no UPID."""
    wrong = await robot("POST", "/nodes/pve2/vzdump", vmid=101, storage="pbs", remove=0)
    assert (wrong.status, wrong.data) == (200, "OK")
    cluster.advance(60)
    assert cluster.backups == {}
    assert await robot.run("/nodes/pve1/vzdump", vmid=101, storage="pbs", remove=0) == "OK"
    assert [backup.vmid for backup in cluster.backups.values()] == [101]
    assert cluster.destroying_calls == []


async def test_a_storage_out_of_reach_is_an_error_and_not_an_empty_list(cluster: Cluster, robot: Any) -> None:
    """The Backup Server is down: nobody knows."""
    _add(cluster, 101, "pbs", 1)
    cluster.set_storage("pbs", reachable=False)
    assert (await robot("GET", CONTENT.format("pbs"))).status == 500
    rows = {row["storage"]: row["active"] for row in await robot.data("/nodes/pve1/storage")}
    assert rows == {"pbs": 0, "local": 1}
    assert (await robot("GET", CONTENT.format("nope"))).status == 500


async def test_a_volume_of_another_storage_than_the_paths_is_a_bad_parameter(
    cluster: Cluster, root: Any
) -> None:
    """Rights and limits of one storage do not reach into another."""
    volid = cluster.add_backup(101, "pbs")
    refused = await root("PUT", f"{CONTENT.format('local')}/{volid}", protected=1)
    assert refused.errors == {"volume": "storage ID mismatch (pbs != local)"}
    assert not cluster.backups[volid].protected
