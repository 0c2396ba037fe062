"""Rights: tokens, roles, pools, and what changing the access list does."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from simulators.proxmox import Cluster

CT = "/nodes/pve1/lxc/101"
POOL = "/pool/customer-anna"


@pytest.fixture
def anna(cluster: Cluster, caller: Callable[[str, str], Any]) -> Any:
    """The customer whose guests are in the pool; the token may do what she may."""
    cluster.add_role("Customer", ["VM.Audit", "VM.Backup", "VM.PowerMgmt", "Pool.Audit"])
    cluster.add_role("SuspendedCustomer", ["VM.Audit", "Pool.Audit"])
    cluster.add_user("anna@pve")
    cluster.add_token("anna@pve!web", secret="anna-secret", privsep=False)
    cluster.grant(POOL, "anna@pve", "Customer")
    cluster.grant("/storage/pbs", "anna@pve", "Backups")
    return caller("anna@pve!web", "anna-secret")


async def _swap(robot: Any, old: str, new: str) -> None:
    for params in ({"roles": new}, {"roles": old, "delete": 1}):
        answer = await robot("PUT", "/access/acl", path=POOL, users="anna@pve", **params)
        assert answer.status == 200, answer


async def test_a_customer_whose_role_was_swapped_can_neither_start_nor_unprotect_and_gets_it_back(
    cluster: Cluster, robot: Any, anna: Any
) -> None:
    """Closing access means something: the same calls work before, fail while suspended and work again after."""
    volid = cluster.add_backup(103, "pbs", protected=True)
    start, backup = "/nodes/pve2/lxc/103/status/start", f"/nodes/pve2/storage/pbs/content/{volid}"
    await _swap(robot, "Customer", "SuspendedCustomer")
    refused = await anna("POST", start)
    assert (refused.status, refused.reason) == (403, "Permission check failed (/vms/103, VM.PowerMgmt)")
    assert (await anna("PUT", backup, protected=0)).reason == "Permission check failed (/vms/103, VM.Backup)"
    assert await anna.run("/nodes/pve2/vzdump", vmid=103, storage="pbs", remove=0) == (
        "Permission check failed (/vms/103, VM.Backup)"
    )
    assert (await anna.data("/nodes/pve2/lxc/103/status/current"))["status"] == "stopped"
    assert cluster.backups[volid].protected
    await _swap(robot, "SuspendedCustomer", "Customer")
    assert await anna.run(start) == "OK"
    assert (await anna("PUT", backup, protected=0)).status == 200
    assert not cluster.backups[volid].protected


async def test_adding_a_role_replaces_none(cluster: Cluster, robot: Any, anna: Any) -> None:
    """Half a swap leaves the customer everything."""
    await robot("PUT", "/access/acl", path=POOL, users="anna@pve", roles="SuspendedCustomer")
    assert await anna.run("/nodes/pve2/lxc/103/status/start") == "OK"


async def test_a_weak_role_on_the_guest_takes_nothing_away_but_noaccess_does(
    cluster: Cluster, robot: Any, anna: Any
) -> None:
    """Pool roles are added to the guest's own; only NoAccess beats them, and takes the view as well."""
    cluster.grant("/vms/101", "anna@pve", "SuspendedCustomer")
    assert await anna.run(f"{CT}/status/shutdown") == "OK"
    cluster.grant("/vms/101", "anna@pve", "NoAccess")
    assert (await anna("GET", f"{CT}/status/current")).status == 403


async def test_a_nearer_path_replaces_what_is_inherited(cluster: Cluster, robot: Any) -> None:
    """On /vms/900, which is in no pool, the narrow role is all there is."""
    cluster.add_guest("lxc", 900, "pve1")
    cluster.add_role("Look", ["VM.Audit"])
    for who in ("robot@pve", "robot@pve!t"):
        cluster.grant("/vms/900", who, "Look")
    assert (await robot("GET", "/nodes/pve1/lxc/900/status/current")).status == 200
    assert (await robot("POST", "/nodes/pve1/lxc/900/status/shutdown")).status == 403


async def test_a_role_that_does_not_propagate_stays_on_its_path(cluster: Cluster, caller: Any) -> None:
    """`propagate=0` on /vms says nothing about /vms/101."""
    cluster.add_user("bob@pve")
    cluster.add_token("bob@pve!t", secret="bob-secret", privsep=False)
    cluster.grant("/vms", "bob@pve", "Guests", propagate=False)
    assert (await caller("bob@pve!t", "bob-secret")("GET", f"{CT}/config")).status == 403


async def test_groups_give_rights_unless_the_user_is_named_itself(cluster: Cluster, caller: Any) -> None:
    """A user's own line on a path hides the group's."""
    cluster.add_user("eve@pve", groups=["ops"])
    cluster.add_token("eve@pve!t", secret="eve-secret", privsep=False)
    cluster.grant("/vms", "ops", "Guests")
    eve = caller("eve@pve!t", "eve-secret")
    assert (await eve("GET", f"{CT}/config")).status == 200
    cluster.grant("/vms", "eve@pve", "Nodes")
    assert (await eve("GET", f"{CT}/config")).status == 403


async def test_a_separated_token_may_only_do_what_its_user_may_too(cluster: Cluster, robot: Any) -> None:
    """Rights are the intersection."""
    cluster.revoke("/vms", "robot@pve", "Guests")
    assert (await robot("GET", f"{CT}/config")).reason == "Permission check failed (/vms/101, VM.Audit)"


async def test_guests_without_audit_are_missing_from_every_list_without_a_word(
    cluster: Cluster, anna: Any
) -> None:
    """Absent is not deleted."""
    cluster.add_guest("lxc", 900, "pve1")
    assert {row["vmid"] for row in await anna.data("/cluster/resources", type="vm")} == {101, 102, 103, 104}
    assert {row["vmid"] for row in await anna.data("/nodes/pve1/lxc")} == {101}


@pytest.mark.parametrize(
    ("method", "path", "privilege"),
    [
        ("POST", f"{CT}/status/start", "VM.PowerMgmt"),
        ("POST", f"{CT}/status/shutdown", "VM.PowerMgmt"),
        ("POST", f"{CT}/status/stop", "VM.PowerMgmt"),
        ("GET", f"{CT}/config", "VM.Audit"),
        ("GET", f"{CT}/status/current", "VM.Audit"),
        ("PUT", f"{CT}/config", "VM.Config.Options"),
    ],
)
async def test_each_call_needs_its_privilege_and_names_it(
    cluster: Cluster, robot: Any, method: str, path: str, privilege: str
) -> None:
    """With everything else, but not this one, the answer is 403 and nothing happens."""
    rest = ["VM.Audit", "VM.Backup", "VM.Config.Options", "VM.PowerMgmt", "VM.Config.CPU"]
    cluster.add_role("Guests", [each for each in rest if each != privilege])
    refused = await robot(method, path, **({"onboot": 0} if method == "PUT" else {}))
    assert (refused.status, refused.reason) == (403, f"Permission check failed (/vms/101, {privilege})")
    assert cluster.guests[101].running
    assert cluster.guests[101].options == {"onboot": 1}


async def test_the_access_list_shows_only_what_one_may_change(
    cluster: Cluster, robot: Any, anna: Any
) -> None:
    """The product sees the pools' lines and no others; a customer sees none."""
    shown = await robot.data("/access/acl")
    assert {row["path"] for row in shown} == {"/pool", POOL}
    assert {"path": POOL, "propagate": 1, "roleid": "Customer", "type": "user", "ugid": "anna@pve"} in shown
    assert await anna.data("/access/acl") == []


@pytest.mark.parametrize("path", ["/", "/vms", "/vms/900", "/storage/pbs", "/access"])
async def test_the_product_cannot_change_access_outside_the_pools(robot: Any, path: str) -> None:
    """403 on every other path."""
    assert (
        await robot("PUT", "/access/acl", path=path, users="robot@pve", roles="Administrator")
    ).status == 403


async def test_with_pool_allocate_alone_one_hands_out_only_what_one_holds(
    cluster: Cluster, robot: Any, anna: Any
) -> None:
    """The narrower right: roles may be swapped, but none with more privileges than one's own."""
    cluster.add_role("Pools", ["Pool.Allocate", "Pool.Audit", "VM.Audit", "VM.Backup", "VM.PowerMgmt"])
    await _swap(robot, "Customer", "SuspendedCustomer")
    refused = await robot("PUT", "/access/acl", path=POOL, users="robot@pve", roles="Administrator")
    assert refused.errors == {
        "role": "Cannot add role 'Administrator' - requires 'Permissions.Modify' or superset of privileges."
    }
    assert (await robot("PUT", "/access/acl", path=POOL, users="anna@pve", roles="NoAccess")).status == 400


async def test_permissions_modify_on_a_pool_is_a_way_to_every_right_on_its_guests(
    cluster: Cluster, robot: Any
) -> None:
    """As in Proxmox VE: who may change a pool's access may give itself `VM.Allocate` there."""
    for who in ({"users": "robot@pve"}, {"tokens": "robot@pve!t"}):
        assert (await robot("PUT", "/access/acl", path=POOL, roles="Administrator", **who)).status == 200
    assert "VM.Allocate" in cluster.access.privileges("robot@pve!t", "/vms/101")


async def test_pool_allocate_passes_no_role_on_that_reaches_further_than_its_own(
    cluster: Cluster, robot: Any, anna: Any
) -> None:
    """Privileges that do not propagate cannot be handed out propagating."""
    cluster.add_role("Pools", [])
    cluster.add_role("Narrow", ["Pool.Allocate", "Pool.Audit", "VM.Audit"])
    for who in ("robot@pve", "robot@pve!t"):
        cluster.grant(POOL, who, "Narrow", propagate=False)
    swap = {"path": POOL, "users": "anna@pve", "roles": "SuspendedCustomer"}
    assert "with propagation" in (await robot("PUT", "/access/acl", **swap)).errors["role"]
    assert (await robot("PUT", "/access/acl", propagate=0, **swap)).status == 200


async def test_noaccess_on_the_pool_beats_a_role_on_the_guest(cluster: Cluster, anna: Any) -> None:
    """Whatever else was given."""
    cluster.grant("/vms/101", "anna@pve", "Guests")
    assert (await anna("GET", f"{CT}/config")).status == 200
    cluster.grant(POOL, "anna@pve", "NoAccess")
    assert (await anna("GET", f"{CT}/config")).status == 403


async def test_without_quorum_no_right_is_changed(cluster: Cluster, robot: Any, anna: Any) -> None:
    """The access list is a file of the cluster, too."""
    cluster.set_quorum(quorate=False)
    refused = await robot("PUT", "/access/acl", path=POOL, users="anna@pve", roles="SuspendedCustomer")
    assert (refused.status, refused.reason) == (
        500,
        "ACL update failed: error with cfs lock 'file-user_cfg': no quorum!",
    )
    assert "SuspendedCustomer" not in {grant.role for grant in cluster.access.grants}


async def test_unknown_names_in_the_access_list_are_errors(robot: Any, anna: Any) -> None:
    """Nothing is invented."""
    for params, reason in (
        ({"users": "anna@pve", "roles": "Nobody"}, "role 'Nobody' does not exist"),
        ({"users": "zoe@pve", "roles": "Customer"}, "user 'zoe@pve' does not exist"),
        ({"tokens": "anna@pve!x", "roles": "Customer"}, "no such token 'x' for user 'anna@pve'"),
    ):
        assert (await robot("PUT", "/access/acl", path=POOL, **params)).reason == reason
    nobody = await robot("PUT", "/access/acl", path=POOL, roles="Customer")
    assert nobody.errors.keys() == {"users", "groups", "tokens"}


async def test_a_path_that_cannot_have_rights_is_refused(root: Any) -> None:
    """Guests have numbers."""
    refused = await root("PUT", "/access/acl", path="/vms/web", users="robot@pve", roles="Guests")
    assert refused.errors == {"path": "invalid ACL path '/vms/web'"}


async def test_permissions_tell_what_the_caller_may_do_where(cluster: Cluster, robot: Any, root: Any) -> None:
    """That is how the product proves that it cannot destroy; others' rights need an auditor."""
    mine = await robot.data("/access/permissions")
    assert set(mine["/vms"]) == {"VM.Audit", "VM.Backup", "VM.Config.Options", "VM.PowerMgmt"}
    assert not any("VM.Allocate" in held for held in mine.values())
    assert await robot.data("/access/permissions", path="/nodes/pve1") == {"/nodes/pve1": {"Sys.Audit": 1}}
    assert (await robot("GET", "/access/permissions", userid="root@pam")).status == 403
    assert (await root.data("/access/permissions", userid="robot@pve!t"))["/vms"] == mine["/vms"]


async def test_roles_and_pools_can_be_read(robot: Any, anna: Any) -> None:
    """Roles by everybody, pools by those who may audit them."""
    roles = {row["roleid"]: row for row in await robot.data("/access/roles")}
    assert roles["Customer"]["privs"] == "Pool.Audit,VM.Audit,VM.Backup,VM.PowerMgmt"
    assert (roles["NoAccess"]["special"], roles["Customer"]["special"]) == (1, 0)
    assert [row["poolid"] for row in await anna.data("/pools")] == ["customer-anna"]
    assert [row["vmid"] for row in (await anna.data("/pools/customer-anna"))["members"]] == [
        101,
        102,
        103,
        104,
    ]
    assert (await anna("GET", "/pools/customer-bob")).status == 403


@pytest.mark.parametrize(
    ("identity", "secret", "reason"),
    [
        ("robot@pve!t", "wrong", "invalid token value!"),
        ("robot@pve!x", "robot-secret", "no such token 'x' for user 'robot@pve'"),
        ("nobody@pve!t", "robot-secret", "no such user ('nobody@pve')"),
    ],
)
async def test_a_wrong_token_is_refused_with_401_and_an_empty_body(
    caller: Any, identity: str, secret: str, reason: str
) -> None:
    """The reason phrase says which part was wrong."""
    answer = await caller(identity, secret)("GET", "/version")
    assert (answer.status, answer.reason, answer.data) == (401, reason, None)


async def test_a_token_expires_and_a_disabled_user_loses_its_tokens(cluster: Cluster, caller: Any) -> None:
    """The clock decides; disabling works at once."""
    cluster.add_user("bob@pve")
    cluster.add_token(
        "bob@pve!t", secret="bob-secret", expires_at=cluster.timeline.now + timedelta(minutes=1)
    )
    bob = caller("bob@pve!t", "bob-secret")
    assert (await bob("GET", "/version")).status == 200
    cluster.advance(61)
    assert (await bob("GET", "/version")).reason == "token 't' access expired"
    cluster.add_user("bob@pve", enabled=False)
    assert (await bob("GET", "/version")).reason == "user bob@pve is disabled"
