"""Giving back: exactly what was recorded, only where it still is as we left it, and held up by nothing."""

import json
import time
from pathlib import Path
from typing import Any

RECORD = {"power": "running", "onboot": True, "protection": False}


def _stopped(site: Any, number: int, **options: Any) -> None:
    """Add a guest as `stop_guests` leaves it."""
    site.cluster.add_guest("lxc", number, "pve1", running=False, onboot=False, protection=True, **options)
    site.cluster.configure(number, {"tags": "abeyance-suspended"})


def test_it_gives_back_exactly_what_it_took(site: Any) -> None:
    """What its owner had off stays off, what was protected stays protected, and tags of others stay."""
    add = site.cluster.add_guest
    add("lxc", 3001, "pve1", onboot=True, tags="blue;gold")
    add("lxc", 3002, "pve1", running=False, onboot=True)
    add("lxc", 3003, "pve1", onboot=False, protection=True)
    add("qemu", 3004, "pve2", onboot=True)
    numbers = (3001, 3002, 3003, 3004)
    begin = {number: site.guest(number) for number in numbers}
    targets = [site.target(number) for number in numbers]
    site.play("stop_guests", guests=targets)
    assert {site.guest(number)["power"] for number in numbers} == {"stopped"}
    assert set(site.guest(3001)["tags"].split(";")) == {"abeyance-suspended", "blue", "gold"}
    result = site.play("start_guests", guests=targets)
    assert {number: site.guest(number) for number in numbers} == begin
    assert {report["outcome"] for report in result.reports.values()} == {"changed"}


def test_it_leaves_alone_what_somebody_changed_since(site: Any) -> None:
    """Each part on its own: what is not as we left it is skipped and reported, the others are given back."""
    for number in range(3001, 3005):
        _stopped(site, number)
    site.cluster.start_by_hand(3001)
    site.cluster.configure(3002, {"protection": 0, "onboot": 1})
    records = {
        3001: {**RECORD, "power": "stopped"},
        3002: {**RECORD, "onboot": False, "protection": True},
        3003: {"onboot": True},
        3004: {},
    }
    result = site.play(
        "start_guests", guests=[site.target(n, expect=record) for n, record in records.items()]
    )
    assert site.guest(3001) == {"power": "running", "onboot": True, "protection": False, "tags": ""}
    assert "power is running since" in result.reports["s3001"]["message"]
    assert site.guest(3002) == {"power": "running", "onboot": True, "protection": False, "tags": ""}
    assert "left alone" in result.reports["s3002"]["message"]
    assert site.guest(3003) == {"power": "stopped", "onboot": True, "protection": True, "tags": ""}
    assert site.guest(3004) == {"power": "stopped", "onboot": False, "protection": True, "tags": ""}


def test_it_finds_a_guest_that_moved(site: Any) -> None:
    """Giving back needs little: a guest on another node is started there."""
    _stopped(site, 3001)
    target = site.target(3001, expect=RECORD)
    site.cluster.migrate(3001, "pve2")
    result = site.play("start_guests", guests=[target])
    assert result.outcome("s3001") == "changed"
    assert result.reports["s3001"]["after"]["node"] == "pve2"
    assert site.guest(3001)["power"] == "running"


def test_it_never_starts_another_guest_under_the_old_number(site: Any) -> None:
    """A guest with another creation mark is left alone, and a person is asked; one that is gone is not recreated."""
    _stopped(site, 3001)
    seen = site.play("observe", depth="deep", guests=[site.target(3001)]).reports["s3001"]["after"]
    target = site.target(3001, expect={**RECORD, "marker": seen["marker"]})
    gone = site.target(3001, id="gone", guest="3777", expect=RECORD)
    site.cluster.recreate(3001)
    before = site.everything()
    result = site.play("start_guests", guests=[target, gone])
    assert (result.outcome("s3001"), result.outcome("gone")) == ("refused/never", "refused/never")
    assert site.everything() == before


def test_it_unlocks_only_the_backups_that_were_recorded(site: Any) -> None:
    """A backup that its owner had protected stays so; one that is gone is reported and does not stop the rest."""
    site.cluster.add_guest("lxc", 3001, "pve1")
    days = [f"2026-01-0{day}T00:00:00+00:00" for day in (1, 2, 3)]
    own, ours, lost = (site.cluster.add_backup(3001, "pbs", at=day, protected=True) for day in days)
    site.cluster.lose_backup(lost)
    result = site.play(
        "unlock_backups", guests=[site.target(3001, expect={"unprotected_backups": [ours, lost]})]
    )
    assert result.outcome("s3001") == "changed"
    assert "left alone" in result.reports["s3001"]["message"]
    assert site.backups(3001) == {own: True, ours: False}


def test_it_opens_access_that_became_mixed_since(site: Any) -> None:
    """Somebody who was given the wide role meanwhile does not keep the customer from getting it back."""
    pool = "customer-acct-current"
    known = {"id": pool, "kind": "pool", "pool": pool, "step": "step-1", "expect": {"role": "Customer"}}
    site.play("close_access", nodes=["pve1"], guests=[known])
    site.cluster.add_user("friend@pve")
    site.cluster.grant(f"/pool/{pool}", "friend@pve", "Customer")
    result = site.play("open_access", nodes=["pve1"], guests=[known])
    assert result.outcome(pool) == "changed"
    assert site.roles(pool) == {"acct-current@pve": {"Customer"}, "friend@pve": {"Customer"}}


def _permit(path: Path, *, age: float, void: list[str]) -> str:
    path.write_text(json.dumps({"at": time.clock_gettime(time.CLOCK_BOOTTIME) - age, "void": void}))
    return str(path)


def test_a_stale_permit_holds_up_restrictions_alone(site: Any, tmp_path: Path) -> None:
    """What restricts needs a permit of the last seconds; what gives back only asks whether it is void."""
    for number in (3001, 3002):
        _stopped(site, number)
    targets = [site.target(3001, expect=RECORD), site.target(3002, expect=RECORD)]
    running = [site.target(1031), site.target(1033)]
    before = site.everything()
    stale = _permit(tmp_path / "stale.json", age=60, void=[])
    assert {
        r["outcome"] for r in site.play("stop_guests", guests=running, permit_file=stale).reports.values()
    } == {"refused"}
    missing = site.play("stop_guests", guests=running, permit_file=str(tmp_path / "none.json"))
    assert missing.outcome("s1031") == "refused/later"
    assert site.everything() == before
    void = _permit(tmp_path / "void.json", age=60, void=["step-3002"])
    given_back = site.play("start_guests", guests=targets, permit_file=void)
    assert given_back.outcome("s3001") == "changed"
    assert given_back.outcome("s3002") == "refused/later"
    assert site.guest(3002)["power"] == "stopped"


def test_a_void_step_is_not_begun(site: Any, tmp_path: Path) -> None:
    """A payment that arrives during a run keeps the guests that were not reached yet from being stopped."""
    permit = _permit(tmp_path / "permit.json", age=-0.5, void=["step-1031"])
    targets = [site.target(1031), site.target(1033)]
    result = site.play("stop_guests", guests=targets, permit_file=permit)
    assert result.outcome("s1031") == "refused/later"
    assert site.guest(1031)["power"] == "running"
    assert result.outcome("s1033") in (
        "changed",
        "refused/later",
    )  # the permit may have aged while Ansible started
