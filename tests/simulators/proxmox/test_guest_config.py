"""Reading and changing a guest's configuration."""

from typing import Any

import pytest

from simulators.proxmox import Cluster

CT, VM = "/nodes/pve1/lxc/101/config", "/nodes/pve1/qemu/102/config"
BOTH = pytest.mark.parametrize("guest", [CT, VM])


@BOTH
async def test_an_option_that_was_never_set_is_absent_and_one_set_to_0_reads_0(
    robot: Any, guest: str
) -> None:
    """Restoring exactly means telling the two apart."""
    assert "protection" not in await robot.data(guest)
    assert (await robot("PUT", guest, protection=0)).status == 200
    assert (await robot.data(guest))["protection"] == 0
    await robot("PUT", guest, delete="protection,onboot")
    assert not {"protection", "onboot"} & (await robot.data(guest)).keys()


@BOTH
async def test_tags_come_back_sorted_lower_case_and_once(robot: Any, guest: str) -> None:
    """What was sent is not what is read."""
    await robot("PUT", guest, tags="web, Billing-Suspended;web")
    assert (await robot.data(guest))["tags"] == "billing-suspended;web"


async def test_a_description_comes_back_with_a_newline(robot: Any) -> None:
    """Comparing text with text would see a difference for ever."""
    await robot("PUT", CT, description="mail server")
    assert (await robot.data(CT))["description"] == "mail server\n"


@BOTH
async def test_a_stale_digest_changes_nothing(cluster: Cluster, robot: Any, guest: str) -> None:
    """Somebody edited the file in between; each kind says so in its own words."""
    digest = (await robot.data(guest))["digest"]
    cluster.configure(int(guest.split("/")[4]), {"tags": "by-hand"})
    refused = await robot("PUT", guest, onboot=0, digest=digest)
    assert refused.status == 500
    assert "other user?" in refused.reason
    assert (await robot.data(guest)).get("onboot") != 0
    fresh = (await robot.data(guest))["digest"]
    assert (await robot("PUT", guest, onboot=0, digest=fresh)).status == 200
    assert (await robot.data(guest))["onboot"] == 0


async def test_the_digest_is_the_files_and_not_the_powers(robot: Any) -> None:
    """Stopping a guest leaves the digest alone; a lock or an option changes it."""
    before = (await robot.data(CT))["digest"]
    await robot.run("/nodes/pve1/lxc/101/status/stop")
    assert (await robot.data(CT))["digest"] == before
    await robot("PUT", CT, onboot=0)
    assert (await robot.data(CT))["digest"] != before


@pytest.mark.parametrize(("guest", "label"), [(CT, "CT"), (VM, "VM")])
async def test_a_locked_guest_refuses_at_once(cluster: Cluster, robot: Any, guest: str, label: str) -> None:
    """Unlike a power call, which fails in its task."""
    cluster.lock(int(guest.split("/")[4]), "snapshot")
    refused = await robot("PUT", guest, onboot=0)
    assert (refused.status, refused.reason) == (500, f"{label} is locked (snapshot)")
    assert (await robot.data(guest))["lock"] == "snapshot"


async def test_with_both_a_lock_and_a_stale_digest_each_kind_names_another_one(
    cluster: Cluster, robot: Any
) -> None:
    """Containers look for the lock first, VMs for the digest."""
    for vmid in (101, 102):
        cluster.lock(vmid)
    assert (await robot("PUT", CT, onboot=0, digest="0" * 40)).reason == "CT is locked (backup)"
    assert (
        await robot("PUT", VM, onboot=0, digest="0" * 40)
    ).reason == "checksum mismatch (file change by other user?)"


@BOTH
async def test_a_change_during_a_shutdown_waits_ten_seconds_and_fails(
    cluster: Cluster, robot: Any, guest: str
) -> None:
    """Configure before the shutdown: afterwards the file is taken."""
    cluster.behave(int(guest.split("/")[4]), on_shutdown="ignore")
    await robot("POST", guest.replace("config", "status/shutdown"), timeout=60)
    before = cluster.timeline.now
    refused = await robot("PUT", guest, onboot=0)
    assert "can't lock file" in refused.reason
    assert "got timeout" in refused.reason
    assert 9.5 <= (cluster.timeline.now - before).total_seconds() <= 10.5


async def test_a_change_during_a_quick_shutdown_waits_and_succeeds(robot: Any) -> None:
    """The lock was free before the ten seconds were over."""
    await robot("POST", "/nodes/pve1/lxc/101/status/shutdown")
    assert (await robot("PUT", CT, onboot=0)).status == 200
    assert (await robot.data("/nodes/pve1/lxc/101/status/current"))["status"] == "stopped"


async def test_wrong_parameters_are_named_one_by_one(robot: Any) -> None:
    """400 carries an `errors` object."""
    refused = await robot("PUT", CT, onboot="maybe", nonsense=1)
    assert (refused.status, refused.reason) == (400, "Parameter verification failed.")
    assert refused.errors["onboot"] == "type check ('boolean') failed - got 'maybe'"
    assert "not defined in schema" in refused.errors["nonsense"]
    assert (await robot("PUT", CT, tags="no spaces!")).errors == {
        "tags": "invalid format - invalid characters in tag"
    }
    assert (await robot("PUT", CT, delete="flux")).errors == {"delete": "unknown option 'flux'"}
    assert (await robot("PUT", CT)).reason == "no options specified"


async def test_a_new_guest_under_an_old_number_has_another_creation_mark(
    cluster: Cluster, robot: Any
) -> None:
    """A container's first hardware address and a VM's creation time and generation id tell them apart."""
    container, vm = (await robot.data(CT))["net0"], await robot.data(VM)
    cluster.advance(5)
    cluster.recreate(101)
    cluster.recreate(102)
    assert (await robot.data(CT))["net0"] != container
    again = await robot.data(VM)
    assert again["meta"] != vm["meta"]
    assert again["vmgenid"] != vm["vmgenid"]


async def test_without_quorum_nothing_is_written(cluster: Cluster, robot: Any) -> None:
    """The cluster file system is read-only."""
    cluster.set_quorum(quorate=False)
    assert "Permission denied" in (await robot("PUT", CT, onboot=0)).reason
    assert (await robot.data(CT))["onboot"] == 1
