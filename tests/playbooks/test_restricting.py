"""What a restriction refuses, and what it says when the platform does something else than it was asked."""

from collections.abc import Callable
from typing import Any

import httpx


def _containers(site: Any, numbers: range, **how: Any) -> None:
    for number in numbers:
        site.cluster.add_guest("lxc", number, "pve1", onboot=True, shutdown_seconds=1, **how)


def _ask(site: Any, path: str, **parameters: str) -> None:
    secret = site.play.environment["ABEYANCE_DEMO_TOKEN"]
    headers = {"Authorization": f"PVEAPIToken=reconciler@pve!abeyance={secret}"}
    httpx.post(f"{site.url}/api2/json{path}", data=parameters, headers=headers).raise_for_status()


def test_it_leaves_every_guest_alone_that_is_not_as_recorded(site: Any) -> None:
    """Any difference in a part that would change means: nothing is done, and later may be different."""
    _containers(site, range(3001, 3010))
    before = {number: site.guest(number) for number in range(3001, 3010)}
    changed = {
        3001: {"power": "stopped"},
        3002: {"onboot": False},
        3003: {"protection": True},
        3004: {"digest": "0" * 40},
    }
    targets = [site.target(n, expect={**site.expect(n), **parts}) for n, parts in changed.items()]
    missing = {"power": "running", "onboot": True}
    targets += [
        site.target(3005, expect={**site.expect(3005), "marker": "hwaddr:00:00:00:00:00:00"}),
        site.target(3006, expect=missing),
        site.target(3007, kind="VM"),
        site.target(3009, guest="3999"),
    ]
    result = site.play("stop_guests", guests=[*targets, site.target(3008)])
    assert {number: result.outcome(f"s{number}") for number in changed} == dict.fromkeys(
        changed, "refused/later"
    )
    assert {n: result.outcome(f"s{n}") for n in (3005, 3006, 3007, 3009)} == {
        3005: "refused/never",  # another guest took the number
        3006: "refused/never",  # expect.protection is missing
        3007: "refused/never",  # a container is no machine
        3009: "refused/never",  # no such guest
    }
    assert result.outcome("s3008") == "changed"
    assert {n: site.guest(n) for n in before if n != 3008} == {n: s for n, s in before.items() if n != 3008}
    assert {path.split("/")[4] for _, path in site.writes()} == {"3008"}


def test_it_leaves_a_busy_guest_alone(site: Any) -> None:
    """A lock, a task, or a machine that only runs for its backup: later."""
    _containers(site, range(3001, 3003))
    site.cluster.lock(3001, "snapshot")
    site.cluster.add_guest("qemu", 3003, "pve1", running=False)
    site.cluster.begin_backup(3003, "pbs", seconds=3000)
    expected = {"power": "running", "onboot": False, "protection": False}
    site.cluster.behave(3002, shutdown_seconds=3000)
    _ask(site, "/nodes/pve1/lxc/3002/status/shutdown", timeout="3600")  # by us, in a run that was ended
    targets = [site.target(3001), site.target(3002), site.target(3003, expect=expected)]
    result = site.play("stop_guests", guests=targets)
    assert result.outcome("s3001") == "refused/later"
    assert result.outcome("s3002") == "refused/later"
    assert "vzshutdown" in result.reports["s3002"]["message"]
    assert "locked: snapshot" in result.reports["s3001"]["message"]
    assert result.outcome("s3003") == "refused/later"
    assert site.guest(3001)["power"] == "running"
    with site.cluster.present():
        assert site.cluster.guests[3003].lock == "backup"


def test_it_does_not_touch_a_guest_that_moved(site: Any) -> None:
    """A guest that is on another node by now is planned again with its new node."""
    _containers(site, range(3001, 3002))
    target = site.target(3001)
    site.cluster.migrate(3001, "pve2")
    result = site.play("stop_guests", guests=[target])
    assert result.outcome("s3001") == "refused/later"
    assert "pve2" in result.reports["s3001"]["message"]
    assert not site.writes()


def test_it_waits_for_a_node_that_does_not_answer(site: Any) -> None:
    """Guests of a dead node are refused for now; the other nodes' guests are stopped."""
    targets = [site.target(1032), site.target(1031)]
    site.cluster.kill_node("pve2")
    result = site.play("stop_guests", guests=targets)
    assert result.outcome("s1032") == "refused/later"
    assert result.outcome("s1031") == "changed"
    seen = site.play("observe", nodes=["pve1"], depth="shallow").observations[0]
    assert seen["silent_nodes"] == ["pve2"]
    assert seen["complete"] is False
    power = {guest["guest"]: guest["power"] for guest in seen["guests"] if guest["node"] == "pve2"}
    assert set(power.values()) == {"unknown"}  # although the cluster still says that they run


def test_it_tells_errors_that_pass_from_those_that_stay(site: Any) -> None:
    """No route, no quorum and a lock pass; a missing privilege stays; each guest has its own answer."""
    _containers(site, range(3001, 3006))
    fault = site.cluster.inject_fault
    fault("/lxc/3001/config", method="GET", status=595, reason="No route to host")
    fault("/lxc/3002/config", method="PUT", status=500, reason="can't lock file '/run/lock/x' - got timeout")
    fault(
        "/lxc/3003/config",
        method="PUT",
        status=403,
        reason="Permission check failed (/vms/3003, VM.Config.Options)",
    )
    fault("/lxc/3004/config", method="PUT", status=500, reason="something nobody has seen before")
    site.cluster.fail_next_task(3005, "CT is locked (backup)")
    result = site.play("stop_guests", guests=[site.target(number) for number in range(3001, 3006)])
    assert {number: result.outcome(f"s{number}") for number in range(3001, 3006)} == {
        3001: "failed/later",
        3002: "failed/later",
        3003: "failed/never",
        3004: "failed",
        3005: "failed/later",
    }
    assert {site.guest(number)["power"] for number in range(3001, 3006)} == {"running"}
    assert result.code != 0


def test_it_believes_what_it_reads_back_and_no_exit_status(site: Any) -> None:
    """A task that says OK and did nothing has failed; one that says it failed and worked has changed the guest."""
    _containers(site, range(3001, 3005))
    site.cluster.fail_next_task(3001, "OK")
    site.cluster.fail_next_task(3002, "some error at the end", acts=True)
    site.cluster.inject_fault("/lxc/3003/status/shutdown", status=596, reason="broken pipe", acts=True)
    site.cluster.behave(3003, shutdown_seconds=3000)
    site.cluster.behave(3004, on_shutdown="ignore")
    result = site.play("stop_guests", guests=[site.target(number) for number in range(3001, 3005)])
    assert result.outcome("s3001") == "failed"
    assert result.reports["s3001"]["after"]["power"] == "running"
    assert result.outcome("s3002") == "changed"
    assert result.outcome("s3003") == "unknown"  # asked, no answer, and it may be under way
    assert result.outcome("s3004") == "changed"  # it ignored the request and was stopped after the grace
    assert site.guest(3004)["power"] == "stopped"


def test_it_waits_for_what_high_availability_has_only_queued(site: Any) -> None:
    """Under HA the task ends at once; what counts is that the guest ends, and an error there is for a person."""
    site.cluster.add_guest("qemu", 3001, "pve1", ha=True, shutdown_seconds=2)
    site.cluster.add_guest("lxc", 3002, "pve1", ha=True, on_shutdown="ignore")
    targets = [site.target(3001), site.target(3002)]
    result = site.play("stop_guests", guests=targets)
    assert result.outcome("s3001") == "changed"
    assert result.outcome("s3002") == "failed"
    assert "state error" in result.reports["s3002"]["message"]
    again = site.play("stop_guests", guests=[site.target(3002)])
    assert again.outcome("s3002") == "failed"
    assert sum(call.path.endswith("/3002/status/shutdown") for call in site.cluster.calls) == 1
    given_back = site.play("start_guests", guests=[targets[0]])
    assert given_back.outcome("s3001") == "changed"
    assert site.guest(3001)["power"] == "running"


def test_it_protects_the_newest_backups_when_there_is_a_limit(site: Any) -> None:
    """A storage's limit leaves the oldest unprotected, says so, and asks for a person."""
    site.cluster.add_guest("lxc", 3001, "pve1")
    volids = [
        site.cluster.add_backup(3001, "pbs", at=f"2026-01-0{day}T00:00:00+00:00") for day in range(1, 8)
    ]
    result = site.play("lock_backups", guests=[site.target(3001, expect={"unprotected_backups": volids})])
    assert result.outcome("s3001") == "failed"
    assert "limited to 5" in result.reports["s3001"]["message"]
    assert site.backups(3001) == {volid: number >= 2 for number, volid in enumerate(volids)}


def test_it_locks_only_the_backups_that_were_recorded(site: Any) -> None:
    """A newer backup stays as it is; one that is gone or was protected since means: look again first."""
    for number in (3001, 3002, 3003):
        site.cluster.add_guest("lxc", number, "pve1")
        for day in (1, 2):
            site.cluster.add_backup(number, "pbs", at=f"2026-01-0{day}T00:00:00+00:00")
    targets = [
        site.target(n, expect={"unprotected_backups": list(site.backups(n))}) for n in (3001, 3002, 3003)
    ]
    newer = site.cluster.add_backup(3001, "pbs", at="2026-01-03T00:00:00+00:00")
    site.cluster.lose_backup(targets[1]["expect"]["unprotected_backups"][0])
    site.cluster.set_protected(targets[2]["expect"]["unprotected_backups"][0], protected=True)
    result = site.play("lock_backups", guests=targets)
    assert [result.outcome(f"s{n}") for n in (3001, 3002, 3003)] == [
        "changed",
        "refused/later",
        "refused/later",
    ]
    assert [volid for volid, held in site.backups(3001).items() if not held] == [newer]
    assert list(site.backups(3002).values()) == [False]


def _pool(name: str, recorded: str | None = "Customer", **more: Any) -> dict[str, Any]:
    expect = {"role": recorded} if recorded else {}
    return {
        "id": name,
        "kind": "pool",
        "pool": name,
        "node": "pve1",
        "step": f"step-{name}",
        "expect": expect,
        **more,
    }


def test_it_swaps_only_the_customers_role_and_only_when_that_is_clear(make_site: Callable[..., Any]) -> None:
    """Roles of other names stay; holders with different roles, and pools that we may not see, are refused."""
    site = make_site(site_backup_locked_role="BackupLockedCustomer")
    cluster = site.cluster
    cluster.add_user("friend@pve")
    clear, mixed, empty, narrow = (
        f"customer-acct-{n}" for n in ("current", "past-due", "empty", "suspended")
    )
    cluster.add_pool(empty)
    cluster.grant(f"/pool/{clear}", "friend@pve", "PVEAuditor")
    cluster.grant(f"/pool/{mixed}", "friend@pve", "SuspendedCustomer")
    before = site.roles(mixed)
    targets = [_pool(clear), _pool(mixed), _pool(empty, None), _pool(narrow, role="BackupLockedCustomer")]
    result = site.play("close_access", guests=targets)
    assert site.roles(clear) == {"acct-current@pve": {"SuspendedCustomer"}, "friend@pve": {"PVEAuditor"}}
    assert result.outcome(clear) == "changed"
    assert result.outcome(mixed) == "refused/never"
    assert site.roles(mixed) == before
    assert result.outcome(empty) == "unchanged"
    assert site.roles(narrow) == {"acct-suspended@pve": {"BackupLockedCustomer"}}
    site.play("open_access", guests=[_pool(clear), _pool(narrow)])
    assert site.roles(clear) == {"acct-current@pve": {"Customer"}, "friend@pve": {"PVEAuditor"}}
    assert site.roles(narrow) == {"acct-suspended@pve": {"Customer"}}


def test_it_takes_nobody_for_locked_out_whom_it_may_not_see(site: Any) -> None:
    """Without the right to see a pool's access list an empty one proves nothing."""
    for who in ("reconciler@pve", "reconciler@pve!abeyance"):
        site.cluster.revoke("/pool", who, "AbeyancePools")
    result = site.play("close_access", guests=[_pool("customer-acct-current")])
    assert result.outcome("customer-acct-current") == "failed/never"


def test_it_concludes_nothing_from_what_it_may_not_see(site: Any) -> None:
    """Without VM.Audit on /vms guests are missing without a word: the observation is not complete."""
    for who in ("reconciler@pve", "reconciler@pve!abeyance"):
        site.cluster.revoke("/vms", who, "AbeyanceGuests")
        site.cluster.grant("/pool/customer-acct-current", who, "AbeyanceGuests")
    seen = site.play("observe", nodes=["pve1", "pve2"], depth="shallow").observations[0]
    assert {guest["guest"] for guest in seen["guests"]} == {"1001", "1002", "1003"}
    assert seen["complete"] is False
    assert "VM.Audit" in seen["problem"]


def test_it_says_never_to_a_token_that_is_refused(site: Any) -> None:
    """A wrong token stays wrong; nothing was done, and nothing is concluded."""
    site.play.environment["ABEYANCE_DEMO_TOKEN"] = "not-the-secret-at-all"
    before = site.everything()
    result = site.play("stop_guests", guests=[site.target(1031)])
    assert result.outcome("s1031") == "failed/never"
    seen = site.play("observe", nodes=["pve1"], depth="shallow").observations[0]
    assert (seen["guests"], seen["complete"], seen["silent_nodes"]) == ([], False, ["pve1", "pve2"])
    assert site.everything() == before


def test_it_verifies_certificates(tls_site: Callable[..., Any], tmp_path: Any) -> None:
    """A certificate that nobody vouches for ends the conversation; the named authority opens it."""
    stranger = tls_site()
    assert stranger.play("stop_guests", guests=[stranger.target(1031)]).outcome("s1031") == "failed"
    nowhere = tls_site(site_ca_file=str(tmp_path / "nowhere.pem"))
    assert "site_ca_file" in nowhere.play("observe", nodes=["pve1"], depth="shallow").failures[0]
    assert not stranger.cluster.calls
    known = tls_site(site_ca_file=str(tmp_path / "cert.pem"))
    assert known.play("stop_guests", guests=[known.target(1031)]).outcome("s1031") == "changed"
