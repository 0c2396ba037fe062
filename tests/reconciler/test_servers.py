"""Servers, as the control plane tells of them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from billing import work_queue
from billing.clock import ManualClock
from billing.models import Account, AuditEntry, WorkItem, WorkState
from billing.refusal import RefusalCode, RefusalError
from reconciler import servers
from reconciler.models import Observation, RestorePart, Server
from reconciler.rules.terms import Deployment, GuestKind, StepState
from reconciler.servers import Registration, ServerChange

pytestmark = pytest.mark.usefixtures("sqlite_database")

SITES = {"zrh": "proxmox", "zoo": "lxc", "kvm": "libvirt", "kube": "kubernetes"}
INVALID, CONFLICT, NOT_FOUND = RefusalCode.INVALID, RefusalCode.CONFLICT, RefusalCode.NOT_FOUND


def _asked(account: Account, **given: Any) -> Registration:
    values: dict[str, Any] = {
        "account_id": account.id,
        "external_id": "srv-1",
        "name": "web",
        "site": "zrh",
        "kind": GuestKind.LXC,
        "guest": "101",
        "sku": "small",
    }
    return Registration(**(values | given))


async def _register(asked: Registration, clock: ManualClock) -> Server:
    return await servers.register(asked, platforms=SITES, actor="control:panel", now=clock.now())


async def _update(server: Server, change: ServerChange, clock: ManualClock) -> Server:
    return await servers.update(
        server.id, change, platforms=SITES, reason="moved", actor="control:panel", now=clock.now()
    )


async def _problems(work: Any) -> list[tuple[RefusalCode, tuple[str, ...]]]:
    before = await Server.all().order_by("id").values()
    with pytest.raises(RefusalError) as refused:
        await work
    assert await Server.all().order_by("id").values() == before
    return [(problem.code, problem.path) for problem in refused.value.problems]


async def test_it_registers_a_server(clock: ManualClock, factory: Any) -> None:
    """It keeps what was told, tells the reconciler and leaves one audit row."""
    account = await factory.account()
    server = await _register(_asked(account, critical=True), clock)
    assert (server.guest, server.site, server.critical, server.free) == ("101", "zrh", True, False)
    assert server.deployed_at == server.created_at == server.joined_at == clock.now()
    changed = await Account.get(id=account.id)
    assert (changed.facts_version, changed.next_change_at) == (account.facts_version + 1, clock.now())
    assert (await AuditEntry.get()).kind == "server.registered"


async def test_it_deploys_nothing_that_is_still_being_set_up(clock: ManualClock, factory: Any) -> None:
    """It has no instant of deployment, nor a guest, until the platform tells of them."""
    asked = _asked(await factory.account(), deployment=Deployment.IN_PROGRESS, guest=None)
    server = await _register(asked, clock)
    assert (server.deployed_at, server.guest) == (None, None)
    clock.advance(timedelta(minutes=3))
    done = ServerChange(deployment=Deployment.SUCCEEDED, guest="102", at=clock.now() - timedelta(minutes=1))
    deployed = await _update(server, done, clock)
    assert deployed.deployed_at == clock.now() - timedelta(minutes=1)
    assert deployed.guest == "102"


async def test_it_registers_once(clock: ManualClock, factory: Any) -> None:
    """It answers a repeated request with the server that is there."""
    account = await factory.account()
    first = await _register(_asked(account), clock)
    assert (await _register(_asked(account), clock)).id == first.id
    assert await AuditEntry.all().count() == 1


@pytest.mark.parametrize(
    "given", [{"guest": "102"}, {"sku": "large"}, {"site": "kube", "kind": GuestKind.WORKLOAD}]
)
async def test_it_keeps_an_external_id_for_one_server(
    clock: ManualClock, factory: Any, given: dict[str, Any]
) -> None:
    """It refuses the same external id for something else."""
    account = await factory.account()
    await _register(_asked(account), clock)
    other = _asked(account, **({"guest": None} | given))
    assert await _problems(_register(other, clock)) == [(CONFLICT, ("externalId",))]


async def test_it_does_not_come_back_after_it_was_retired(clock: ManualClock, factory: Any) -> None:
    """It refuses the external id of a retired server."""
    account = await factory.account()
    server = await _register(_asked(account), clock)
    await servers.retire(server.id, reason="gone", actor="control:panel", now=clock.now())
    assert await _problems(_register(_asked(account), clock)) == [(CONFLICT, ("externalId",))]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"site": "mars"}, "site"),
        ({"external_id": ""}, "externalId"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"sku": " "}, "sku"),
        ({"kind": GuestKind.WORKLOAD}, "kind"),
        ({"guest": "99"}, "guest"),
        ({"guest": "0101"}, "guest"),
        ({"guest": "101; rm"}, "guest"),
        ({"guest": "../101"}, "guest"),
        ({"guest": "101\n"}, "guest"),
        ({"guest": "1234567890"}, "guest"),
        ({"site_node": "-oProxyCommand=x"}, "siteNode"),
        ({"site_node": "pve 1"}, "siteNode"),
        ({"site": "zoo", "guest": "web-1"}, "siteNode"),
        ({"site": "zoo", "guest": "{{ lookup('pipe', 'id') }}", "site_node": "n1"}, "guest"),
        ({"site": "zoo", "guest": "-x", "site_node": "n1"}, "guest"),
        ({"site": "zoo", "guest": "..", "site_node": "n1"}, "guest"),
        ({"site": "zoo", "kind": GuestKind.VM, "site_node": "n1", "guest": "web"}, "kind"),
        ({"site": "kvm", "kind": GuestKind.VM, "guest": "web"}, "siteNode"),
        ({"site": "kube", "kind": GuestKind.WORKLOAD, "guest": "ns/pod/web"}, "guest"),
        ({"stripe_subscription_id": "cus_1"}, "stripeSubscriptionId"),
    ],
)
async def test_it_refuses_what_the_platform_cannot_have(
    clock: ManualClock, factory: Any, given: dict[str, Any], path: str
) -> None:
    """It names the field, and nothing that a customer could have written reaches a playbook."""
    asked = _asked(await factory.account(), **given)
    assert await _problems(_register(asked, clock)) == [(INVALID, (path,))]


@pytest.mark.parametrize(
    "given",
    [
        {"guest": "100"},
        {"guest": "999999999", "kind": GuestKind.VM, "site_node": "pve1"},
        {"site": "zoo", "guest": "web.1_a-b", "site_node": "node-1.example"},
        {"site": "kvm", "kind": GuestKind.VM, "guest": "db", "site_node": "kvm1"},
        {"site": "kube", "kind": GuestKind.WORKLOAD, "guest": "customer-7/statefulset/db"},
    ],
)
async def test_it_takes_what_the_platform_has(
    clock: ManualClock, factory: Any, given: dict[str, Any]
) -> None:
    """It registers a guest as each platform names it."""
    assert (await _register(_asked(await factory.account(), **given), clock)).guest == given["guest"]


async def test_a_guest_is_one_server(clock: ManualClock, factory: Any) -> None:
    """It refuses the guest of another live server, until that one is retired."""
    account = await factory.account()
    first = await _register(_asked(account, site_node="pve1"), clock)
    second = _asked(account, external_id="srv-2")
    assert await _problems(_register(second, clock)) == [(CONFLICT, ("guest",))]
    await servers.retire(first.id, reason="gone", actor="control:panel", now=clock.now())
    assert (await _register(second, clock)).guest == "101"


async def test_a_container_of_another_node_is_another_guest(clock: ManualClock, factory: Any) -> None:
    """It takes the same name on another node where names repeat."""
    account = await factory.account()
    await _register(_asked(account, site="zoo", guest="web", site_node="n1"), clock)
    other = _asked(account, external_id="srv-2", site="zoo", guest="web", site_node="n2")
    assert (await _register(other, clock)).site_node == "n2"


async def test_it_wants_an_account(clock: ManualClock, factory: Any) -> None:
    """It registers nothing for an account that does not exist."""
    asked = replace(_asked(await factory.account()), account_id=99)
    assert await _problems(_register(asked, clock)) == [(NOT_FOUND, ("accountId",))]


async def test_it_changes_only_what_was_named(clock: ManualClock, factory: Any) -> None:
    """It keeps the rest, moves the account's facts once and is silent when nothing changes."""
    server = await factory.server(site="zrh", guest="101")
    version = (await Account.get(id=server.account_id)).facts_version
    changed = await _update(server, ServerChange(free=True), clock)
    assert (changed.free, changed.name, changed.guest) == (True, server.name, "101")
    await _update(server, ServerChange(free=True), clock)
    assert (await Account.get(id=server.account_id)).facts_version == version + 1
    assert await AuditEntry.filter(kind="server.changed").count() == 1


@pytest.mark.parametrize("free", [False, True])
async def test_one_that_is_free_no_more_has_to_be_warned_of(
    clock: ManualClock, factory: Any, free: bool
) -> None:
    """It joins those that can be held; whatever else is told of a server changes nothing about that."""
    server = await _register(_asked(await factory.account(), free=free), clock)
    clock.advance(timedelta(days=9))
    changed = await _update(server, ServerChange(free=False, name="shop"), clock)
    assert (changed.joined_at, changed.name) == (clock.now() if free else server.joined_at, "shop")


async def test_it_forgets_what_was_read_of_another_guest(clock: ManualClock, factory: Any) -> None:
    """It drops reading, mark and absence when the server becomes another guest."""
    server = await factory.server(site="zrh", marker="aa:bb", missing_since=clock.now())
    await factory.observation(server)
    changed = await _update(server, ServerChange(guest="7001"), clock)
    assert (changed.guest, changed.marker, changed.missing_since) == ("7001", None, None)
    assert not await Observation.exists()


@pytest.mark.parametrize("state", [StepState.DISPATCHED, StepState.UNKNOWN])
async def test_it_stays_where_it_is_while_a_step_runs(
    clock: ManualClock, factory: Any, state: StepState
) -> None:
    """It neither moves nor retires while something may still happen to its guest."""
    server = await factory.server(site="zrh")
    await factory.step(server, state=state)
    assert await _problems(_update(server, ServerChange(guest="7001"), clock)) == [(CONFLICT, ("serverId",))]
    retiring = servers.retire(server.id, reason="gone", actor="control:panel", now=clock.now())
    assert await _problems(retiring) == [(CONFLICT, ("serverId",))]


async def test_it_stays_where_it_is_while_something_is_to_be_given_back(
    clock: ManualClock, factory: Any
) -> None:
    """It refuses another guest as long as the present one was not restored."""
    server = await factory.server(site="zrh")
    await RestorePart.create(
        server_id=server.id, site="zrh", part="power", found="RUNNING", step_id=1, taken_at=clock.now()
    )
    assert await _problems(_update(server, ServerChange(guest="7001"), clock)) == [(CONFLICT, ("guest",))]
    assert (await _update(server, ServerChange(name="db"), clock)).name == "db"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (ServerChange(name=""), "name"),
        (ServerChange(sku="\n"), "sku"),
        (ServerChange(guest="x"), "guest"),
        (ServerChange(site_node="a/b"), "siteNode"),
        (ServerChange(stripe_subscription_id="x"), "stripeSubscriptionId"),
    ],
)
async def test_it_refuses_a_wrong_change(
    clock: ManualClock, factory: Any, change: ServerChange, path: str
) -> None:
    """It names the field and changes nothing."""
    server = await factory.server(site="zrh")
    assert await _problems(_update(server, change, clock)) == [(INVALID, (path,))]


async def test_it_retires_once(clock: ManualClock, factory: Any) -> None:
    """It keeps the first instant and one audit row, and no change reaches it any more."""
    server = await factory.server(start_wanted_at=clock.now())
    retired = await servers.retire(
        server.id, reason="deleted by its owner", actor="control:panel", now=clock.now()
    )
    assert (retired.retired_at, retired.start_wanted_at) == (clock.now(), None)
    clock.advance(timedelta(days=1))
    again = await servers.retire(server.id, reason="again", actor="control:panel", now=clock.now())
    assert again.retired_at == retired.retired_at
    assert await AuditEntry.filter(kind="server.retired").count() == 1
    assert await _problems(_update(server, ServerChange(name="x"), clock)) == [(CONFLICT, ("serverId",))]


async def test_nobody_waits_for_what_was_taken_from_a_retired_server(
    clock: ManualClock, factory: Any
) -> None:
    """Its restore record and its work items are closed: there is nothing left to give back to anybody."""
    server, other = await factory.server(), await factory.server()
    for one in (server, other):
        for part, volume in (
            ("power", ""),
            ("onboot", ""),
            ("protection", ""),
            ("backups", ""),
            ("backup", "a"),
        ):
            await RestorePart.create(
                server_id=one.id, site="demo", part=part, volume=volume, found="x", step_id=1, taken_at=clock.now()
            )  # fmt: skip
        key = f"server_missing:{one.id}"
        await work_queue.open_item(
            "server_missing", key, at=clock.now(), title="t", detail="d", server_id=one.id
        )
    await servers.retire(server.id, reason="gone", actor="control:panel", now=clock.now())
    rows = await RestorePart.filter(server_id=server.id)
    assert {(row.closed_at, row.closed_because) for row in rows} == {(clock.now(), "retired")}
    assert await RestorePart.filter(server_id=other.id, closed_at=None).count() == 5
    assert [item.server_id for item in await WorkItem.exclude(state=WorkState.RESOLVED)] == [other.id]


async def test_it_wants_to_know_why_it_retires(clock: ManualClock, factory: Any) -> None:
    """It refuses an empty reason."""
    server = await factory.server()
    retiring = servers.retire(server.id, reason=" ", actor="control:panel", now=clock.now())
    assert await _problems(retiring) == [(RefusalCode.REASON_REQUIRED, ("reason",))]
