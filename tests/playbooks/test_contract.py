"""Every action keeps the contract: check, apply, apply, check on the simulated cluster."""

from collections.abc import Callable
from typing import Any

import pytest

from simulators.proxmox.sample import TOKEN_ID

CONTAINER, SECOND, VM = 1031, 1032, 1033
POOL = "customer-acct-suspended"
OFF = {"power": "stopped", "onboot": False, "protection": True, "tags": "abeyance-suspended"}


def _power_targets(site: Any) -> list[dict[str, Any]]:
    return [site.target(vmid) for vmid in (CONTAINER, SECOND, VM)]


def _backup_targets(site: Any) -> list[dict[str, Any]]:
    return [
        site.target(
            vmid, expect={"unprotected_backups": [v for v, held in site.backups(vmid).items() if not held]}
        )
        for vmid in (CONTAINER, VM)
    ]


def _pool_target(site: Any) -> list[dict[str, Any]]:
    known = {
        "id": "access-1",
        "kind": "pool",
        "pool": POOL,
        "node": "pve1",
        "step": "step-9",
        "generation": 1,
    }
    return [{**known, "expect": {"role": "Customer"}}]


PAIRS = {
    "stop_guests": ("start_guests", _power_targets),
    "lock_backups": ("unlock_backups", _backup_targets),
    "close_access": ("open_access", _pool_target),
}


@pytest.mark.parametrize("restricting", sorted(PAIRS))
def test_it_predicts_acts_once_and_gives_everything_back(site: Any, restricting: str) -> None:
    """A restriction and its undoing, each checked, applied twice and checked again, end where they began."""
    undoing, targets_of = PAIRS[restricting]
    begin = site.everything()
    targets = targets_of(site)
    _check_apply_apply_check(site, restricting, targets)
    restricted = site.everything()
    assert restricted != begin
    _check_apply_apply_check(site, undoing, targets)
    assert site.everything() == begin


def _check_apply_apply_check(site: Any, action: str, targets: list[dict[str, Any]]) -> None:
    for check, outcome in ((True, "changed"), (False, "changed"), (False, "unchanged"), (True, "unchanged")):
        before = site.everything()
        site.cluster.reset_calls()
        result = site.play(action, guests=targets, check=check)
        assert result.code == 0, result.output
        assert {target: result.outcome(target) for target in result.reports} == {
            t["id"]: outcome for t in targets
        }
        assert result.report_count == len(targets)
        if check or outcome == "unchanged":
            assert site.everything() == before
            assert not site.writes()
        else:
            assert site.everything() != before


def test_it_stops_containers_and_machines_and_keeps_them_off(site: Any) -> None:
    """The cluster itself says that the guests are off, stay off at boot, are protected and marked."""
    result = site.play("stop_guests", guests=_power_targets(site))
    assert [site.guest(vmid) for vmid in (CONTAINER, SECOND, VM)] == [OFF] * 3
    with site.cluster.present():
        bound = [call for call in site.cluster.calls if call.method == "PUT" and "digest" in call.params]
    assert len(bound) == 3  # a change by somebody else in between is refused by the platform
    report = result.reports[f"s{CONTAINER}"]
    assert report["before"]["power"] == "running"
    assert report["after"] | {"power": "stopped", "onboot": False, "protection": True} == report["after"]
    assert report["after"]["tags"] == ["abeyance-suspended"]
    assert report["after"]["node"] == "pve1"


def test_it_reports_every_guest_once_and_in_chunks(make_site: Callable[..., Any]) -> None:
    """Sixty guests of two nodes come back as one report each, in chunks that arrive while the play works."""
    site = make_site()
    for number in range(60):
        site.cluster.add_guest("lxc", 2000 + number, f"pve{1 + number % 2}", shutdown_seconds=1)
    result = site.play("stop_guests", guests=[site.target(2000 + number) for number in range(60)])
    assert result.report_count == len(result.reports) == 60
    assert {report["outcome"] for report in result.reports.values()} == {"changed"}
    assert result.items == 16  # 30 guests on each node, 4 at a time: as many as are in flight
    assert all(site.guest(2000 + number)["power"] == "stopped" for number in range(60))


def test_it_observes_all_guests_by_one_call_about_them(site: Any) -> None:
    """Once for everything, once for its own rights, once for who the cluster is, whatever the number of guests."""
    site.cluster.reset_calls()
    result = site.play("observe", nodes=["pve1", "pve2"], depth="shallow")
    (seen,) = result.observations
    assert seen["complete"] is True
    assert seen["silent_nodes"] == []
    with site.cluster.present():
        assert {guest["guest"] for guest in seen["guests"]} == {str(vmid) for vmid in site.cluster.guests}
        assert sorted(call.path for call in site.cluster.calls) == [
            "/access/permissions",
            "/cluster/resources",
            "/nodes/pve1/certificates/info",
        ]
    story = {guest["guest"]: guest for guest in seen["guests"]}
    assert story["1103"] == {
        "guest": "1103", "kind": "lxc", "node": "pve2", "power": "stopped", "tags": [], "busy": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "privilege", "told"),
    [
        ("/vms", "VM.Allocate", ["VM.Allocate on /vms"]),
        ("/vms/1101", "VM.Snapshot", ["VM.Snapshot on /vms/1101"]),
        ("/storage/pbs", "Datastore.Allocate", ["Datastore.Allocate on /storage/pbs"]),
        ("/vms", "Permissions.Modify", ["Permissions.Modify on /vms"]),
    ],
)
def test_it_tells_with_what_the_token_could_destroy(
    site: Any, path: str, privilege: str, told: list[str]
) -> None:
    """Nothing as the grants are meant to be; every privilege beyond them by name and path."""
    assert site.play("observe", nodes=["pve1"], depth="shallow").observations[0]["excess"] == []
    with site.cluster.present():
        site.cluster.add_role("TooStrong", [privilege])
        for who in (TOKEN_ID.partition("!")[0], TOKEN_ID):
            site.cluster.grant(path, who, "TooStrong")
    (seen,) = site.play("observe", nodes=["pve1"], depth="shallow").observations
    assert set(told) <= set(seen["excess"])
    assert {one.partition(" ")[0] for one in seen["excess"]} == {privilege}


def test_it_reads_everything_that_a_restriction_will_need(site: Any) -> None:
    """A deep observation tells all parts of the listed guests and pools, and changes nothing."""
    site.cluster.reset_calls()
    result = site.play("observe", depth="deep", guests=[*_power_targets(site), *_pool_target(site)])
    container = result.reports[f"s{CONTAINER}"]["after"]
    (backup,) = site.backups(CONTAINER)
    assert container["power"] == "running"
    assert (container["onboot"], container["protection"]) == (True, False)
    assert container["unprotected_backups"] == [backup]
    assert container["protected_backups"] == []
    assert container["backups_locked"] is False
    assert container["role"] == "Customer"
    assert container["digest"]
    assert container["marker"].startswith("hwaddr:")
    assert container["busy"] is None
    assert result.reports[f"s{VM}"]["after"]["marker"].startswith("ctime:")
    assert result.reports["access-1"]["after"]["role"] == "Customer"
    assert not site.writes()


def test_what_was_read_deeply_is_what_a_restriction_accepts(site: Any) -> None:
    """The whole `after` of a deep observation can be handed back as `expect`."""
    seen = site.play("observe", depth="deep", guests=[site.target(VM)]).reports[f"s{VM}"]["after"]
    result = site.play("stop_guests", guests=[site.target(VM, expect=seen)])
    assert result.outcome(f"s{VM}") == "changed"


def test_the_token_is_read_from_the_runs_own_path_first(site: Any, tmp_path: Any) -> None:
    """A run may bring the token by a path; the inventory's own place is not needed then."""
    site.play.environment.clear()
    assert "token" in site.play("observe", nodes=["pve1"], depth="shallow").failures[0]
    before = site.everything()
    result = site.play("stop_guests", guests=[site.target(VM)])
    assert result.outcome(f"s{VM}") == "failed"
    assert "site_token_env" in result.reports[f"s{VM}"]["message"]
    assert site.everything() == before
    secret = tmp_path / "secret"
    secret.write_text("5a3b9c1e-demo-only-0000-abeyance00001\n")
    result = site.play("observe", nodes=["pve1"], depth="shallow", site_token_path=str(secret))
    assert result.observations[0]["complete"] is True
    assert "PLAY RECAP" in result.output
    assert "5a3b9c1e" not in result.output
