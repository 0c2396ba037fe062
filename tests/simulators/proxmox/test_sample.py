"""The sample cluster of the demo."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from billing.clock import ManualClock
from simulators.proxmox import Cluster, sample


@pytest.fixture
def cluster(clock: ManualClock) -> Cluster:
    """The sample cluster, in the place of the small one."""
    return sample.sample_cluster(clock=clock, rng=random.Random(7))


@pytest.fixture
def product(caller: Callable[[str, str], Any]) -> Any:
    """The product's token."""
    return caller(sample.TOKEN_ID, sample.TOKEN_SECRET)


async def test_every_account_has_two_containers_and_a_vm_in_its_own_pool(product: Any) -> None:
    """And the platform's own guest is in none."""
    rows = await product.data("/cluster/resources", type="vm")
    by_pool: dict[str | None, list[str]] = {}
    for row in rows:
        by_pool.setdefault(row.get("pool"), []).append(row["type"])
    assert {pool: sorted(kinds) for pool, kinds in by_pool.items()} == {
        None: ["qemu"],
        **{sample.pool_of(account): ["lxc", "lxc", "qemu"] for account in sample.ACCOUNTS},
    }


async def test_the_story_begins_as_it_is_told(cluster: Cluster, product: Any) -> None:
    """1101 runs and starts at boot, 1102 runs, 1103 was turned off by its owner; one backup was protected before."""
    state = cluster.snapshot()
    assert {vmid: state["guests"][vmid]["power"] for vmid in ("1101", "1102", "1103")} == {
        "1101": "running",
        "1102": "running",
        "1103": "stopped",
    }
    assert (await product.data("/nodes/pve1/lxc/1101/config"))["onboot"] == 1
    backups = await product.data("/nodes/pve1/storage/pbs/content", content="backup", vmid=1101)
    assert [row.get("protected") for row in backups] == [1, None, None]


async def test_the_product_may_do_its_work_and_nothing_that_destroys(product: Any) -> None:
    """Least privilege: no VM.Allocate, no Datastore.Allocate, no Sys.Modify anywhere."""
    mine = await product.data("/access/permissions")
    held = {privilege for privileges in mine.values() for privilege in privileges}
    assert held == {
        "Datastore.AllocateSpace",
        "Datastore.Audit",
        "Permissions.Modify",
        "Pool.Audit",
        "Sys.Audit",
        "VM.Audit",
        "VM.Backup",
        "VM.Config.Options",
        "VM.PowerMgmt",
    }


async def test_an_owner_may_use_the_own_guests_only(caller: Callable[[str, str], Any]) -> None:
    """And loses that with the role."""
    owner = caller(*sample.customer_token(sample.STORY))
    assert await owner.run("/nodes/pve2/lxc/1103/status/start") == "OK"
    assert (await owner("POST", "/nodes/pve1/lxc/1001/status/shutdown")).status == 403
    assert (await owner("PUT", "/nodes/pve1/lxc/1101/config", onboot=1)).status == 403


@pytest.mark.parametrize(
    ("role", "may_start", "may_unprotect"),
    [(sample.SUSPENDED_ROLE, False, False), (sample.BACKUP_LOCKED_ROLE, True, False)],
)
async def test_the_lesser_roles_take_away_what_they_should(
    product: Any, caller: Callable[[str, str], Any], role: str, *, may_start: bool, may_unprotect: bool
) -> None:
    """Both leave the view."""
    pool, owner_name = f"/pool/{sample.pool_of(sample.STORY)}", sample.customer_of(sample.STORY)
    await product("PUT", "/access/acl", path=pool, users=owner_name, roles=role)
    await product("PUT", "/access/acl", path=pool, users=owner_name, roles=sample.CUSTOMER_ROLE, delete=1)
    owner = caller(*sample.customer_token(sample.STORY))
    assert ((await owner("POST", "/nodes/pve2/lxc/1103/status/start")).status == 200) is may_start
    volid = (await product.data("/nodes/pve1/storage/pbs/content", vmid=1101))[0]["volid"]
    unprotect = await owner("PUT", f"/nodes/pve1/storage/pbs/content/{volid}", protected=0)
    assert (unprotect.status == 200) is may_unprotect
    assert (await owner("GET", "/nodes/pve1/lxc/1101/status/current")).status == 200


def test_the_same_seed_makes_the_same_cluster(clock: ManualClock, cluster: Cluster) -> None:
    """Down to the hardware addresses; another seed another one."""
    assert sample.sample_cluster(clock=clock, rng=random.Random(7)).snapshot() == cluster.snapshot()
    assert sample.sample_cluster(clock=clock, rng=random.Random(8)).snapshot() != cluster.snapshot()
