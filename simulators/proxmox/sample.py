"""The sample cluster of the demo and of many tests: two nodes, seven customers, one guest of the platform's own.

Owns names and numbers that people see in the demo. The secrets in here open nothing but a simulator.
"""

import random
from datetime import timedelta

from simulators.proxmox.cluster import Cluster
from simulators.proxmox.timeline import Clock

TOKEN_ID = "reconciler@pve!abeyance"  # noqa: S105 - a name, not a secret
TOKEN_SECRET = "5a3b9c1e-demo-only-0000-abeyance00001"  # noqa: S105 - opens nothing but this simulator
STORAGE = "pbs"
CUSTOMER_ROLE = "Customer"
SUSPENDED_ROLE = "SuspendedCustomer"
BACKUP_LOCKED_ROLE = "BackupLockedCustomer"
STORY = "acct-story"
PLATFORM_GUEST = 900

_CUSTOMER = ("Pool.Audit", "VM.Audit", "VM.Backup", "VM.Console", "VM.PowerMgmt", "VM.Snapshot")
ROLES = {
    CUSTOMER_ROLE: [*_CUSTOMER],
    BACKUP_LOCKED_ROLE: [privilege for privilege in _CUSTOMER if privilege != "VM.Backup"],
    SUSPENDED_ROLE: ["Pool.Audit", "VM.Audit"],
    "BackupUser": ["Datastore.AllocateSpace", "Datastore.Audit"],
    "AbeyanceGuests": ["VM.Audit", "VM.Backup", "VM.Config.Options", "VM.PowerMgmt"],
    "AbeyancePools": ["Permissions.Modify", "Pool.Audit"],
    "AbeyanceNodes": ["Sys.Audit"],
    "AbeyanceBackups": ["Datastore.AllocateSpace", "Datastore.Audit"],
}
"""The four `Abeyance…` roles are all that the product needs; nowhere `VM.Allocate`, so it cannot destroy."""
RECONCILER_GRANTS = {
    "/vms": "AbeyanceGuests",
    "/pool": "AbeyancePools",
    "/nodes": "AbeyanceNodes",
    f"/storage/{STORAGE}": "AbeyanceBackups",
}

ACCOUNTS = {
    "acct-current": (1001, 1002, 1003),
    "acct-past-due": (1011, 1012, 1013),
    "acct-final-notice": (1021, 1022, 1023),
    "acct-suspended": (1031, 1032, 1033),
    "acct-retained": (1041, 1042, 1043),
    "acct-review": (1051, 1052, 1053),
    STORY: (1101, 1103, 1102),
}
"""Per account: a running container, a second container, a running VM. The story's second container (1103) is off
because its owner turned it off."""


def pool_of(account: str) -> str:
    """Return the pool of an account, by the pattern of the demo's inventory."""
    return f"customer-{account}"


def customer_of(account: str) -> str:
    """Return the login of an account's owner."""
    return f"{account}@pve"


def customer_token(account: str) -> tuple[str, str]:
    """Return the token with which the owner of an account calls, and its secret; it may do all that the owner may."""
    return f"{customer_of(account)}!portal", f"customer-demo-secret-{account}"


def sample_cluster(
    *, clock: Clock, rng: random.Random, time_scale: float = 1.0, broadcast_seconds: float = 10.0
) -> Cluster:
    """Return the sample cluster, every guest and backup as the demo begins."""
    cluster = Cluster(clock=clock, rng=rng, time_scale=time_scale, broadcast_seconds=broadcast_seconds)
    for node in ("pve1", "pve2"):
        cluster.add_node(node)
    cluster.add_storage(STORAGE)
    for role, privileges in ROLES.items():
        cluster.add_role(role, privileges)
    _add_reconciler(cluster)
    for account, vmids in ACCOUNTS.items():
        _add_account(cluster, account, vmids)
    cluster.add_guest("qemu", PLATFORM_GUEST, "pve1", name="platform-dns", onboot=True, startup="order=1")
    cluster.add_backup_job("backup-nightly", STORAGE, all=True)
    _add_story_backups(cluster)
    return cluster


def _add_reconciler(cluster: Cluster) -> None:
    user = TOKEN_ID.partition("!")[0]
    cluster.add_user(user)
    cluster.add_token(TOKEN_ID, secret=TOKEN_SECRET)
    for path, role in RECONCILER_GRANTS.items():
        for who in (user, TOKEN_ID):  # a privilege-separated token may do what both it and its user may
            cluster.grant(path, who, role)


def _add_account(cluster: Cluster, account: str, vmids: tuple[int, int, int]) -> None:
    pool, owner = pool_of(account), customer_of(account)
    identity, secret = customer_token(account)
    cluster.add_pool(pool, comment=f"customer {account}")
    cluster.add_user(owner)
    cluster.add_token(identity, secret=secret, privsep=False)
    cluster.grant(f"/pool/{pool}", owner, CUSTOMER_ROLE)
    cluster.grant(f"/storage/{STORAGE}", owner, "BackupUser")
    first, second, vm = vmids
    name = account.removeprefix("acct-")
    cluster.add_guest("lxc", first, "pve1", pool=pool, onboot=True, name=f"{name}-web")
    cluster.add_guest("lxc", second, "pve2", pool=pool, running=account != STORY, name=f"{name}-worker")
    cluster.add_guest("qemu", vm, "pve2", pool=pool, onboot=account != STORY, name=f"{name}-db")
    if account != STORY:
        cluster.add_backup(first, STORAGE)
        cluster.add_backup(vm, STORAGE)


def _add_story_backups(cluster: Cluster) -> None:
    """Five backups of the story's guests; the owner had protected one of them long before."""
    container, _, vm = ACCOUNTS[STORY]
    now = cluster.timeline.now
    cluster.add_backup(
        container, STORAGE, at=now - timedelta(days=20), protected=True, notes="before the upgrade"
    )
    for days in (2, 1):
        cluster.add_backup(container, STORAGE, at=now - timedelta(days=days))
        cluster.add_backup(vm, STORAGE, at=now - timedelta(days=days))
