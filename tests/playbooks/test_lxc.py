"""The plays on real containers of this machine, read back with LXC's own tools."""

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.lxc
NEEDED = ("lxc-create", "lxc-start", "lxc-stop", "lxc-info", "lxc-ls", "busybox")
MARK = "abeyance-suspended"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A folder of containers and one of archives, and the plays that act on them."""

    play: Any
    path: Path
    backups: Path
    names: list[str]

    def create(self, *, autostart: bool, running: bool, halt: str = "SIGUSR1") -> str:
        """Make a container of busybox without a network; `halt` is what its init takes for the wish to end."""
        name = f"abt-{uuid.uuid4().hex[:8]}"
        self.names.append(name)
        _run("lxc-create", "-P", self.path, "-n", name, "-t", "busybox")
        config = self.path / name / "config"
        kept = re.sub(r"(?m)^lxc[.](net[.0-9a-z]*|signal[.]halt)\b.*\n", "", config.read_text())
        start = f"lxc.start.auto = {int(autostart)}\n" if autostart else ""
        config.write_text(f"{kept}lxc.net.0.type = empty\nlxc.signal.halt = {halt}\n{start}")
        if running:
            _run("lxc-start", "-P", self.path, "-n", name, "-d")
            assert self.state(name) == "RUNNING"
        return name

    def state(self, name: str) -> str:
        """Return what `lxc-info` says of a container."""
        return _run("lxc-info", "-P", self.path, "-n", name, "-sH").strip()

    def autostart(self, name: str) -> str:
        """Return what LXC itself reads in the configuration."""
        return (
            _run("lxc-info", "-P", self.path, "-n", name, "-c", "lxc.start.auto").rpartition("=")[2].strip()
        )

    def groups(self, name: str) -> str:
        """Return the groups that LXC itself reads in the configuration."""
        return _run("lxc-info", "-P", self.path, "-n", name, "-c", "lxc.group").rpartition("=")[2].strip()

    def target(self, name: str, **expect: Any) -> dict[str, Any]:
        """Return a container as the product lists it."""
        known = {"kind": "LXC", "guest": name, "node": "lab1", "step": f"step-{name}", "generation": 1}
        return {"id": f"id-{name}", **known, "expect": expect}


def _run(program: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def _processes_with(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += [path.parent.name] if mark.encode() in path.read_bytes() else []
        except OSError:
            continue
    return found


@pytest.fixture
def lack() -> Callable[[str], None]:
    """Skip with a reason, or fail with it where nothing may be skipped."""

    def missing(reason: str) -> None:
        if os.environ.get("ABEYANCE_TEST_REQUIRE") == "all":
            pytest.fail(f"{reason} (ABEYANCE_TEST_REQUIRE=all)")
        pytest.skip(reason)

    return missing


@pytest.fixture
def node(tmp_path: Path, lack: Callable[[str], None], player: Callable[..., Any]) -> Iterator[Node]:
    """A node of its own; all its containers are gone afterwards."""
    if os.geteuid() != 0:
        lack("needs root for containers")
    if absent := [program for program in NEEDED if shutil.which(program) is None]:
        lack(f"needs {', '.join(absent)} (Debian: lxc busybox-static)")
    path, backups, inventory = tmp_path / "lxc", tmp_path / "backups", tmp_path / "inventory"
    for folder in (path, backups, inventory):
        folder.mkdir()
    variables = {
        "site_platform": "lxc", "site_mode": "apply", "lxc_path": str(path), "site_backup_dir": str(backups),
        "ansible_connection": "local", "shutdown_grace_seconds": 2,
    }  # fmt: skip
    content = {"all": {"children": {"lab": {"vars": variables, "hosts": {"lab1": {}}}}}}
    (inventory / "hosts.yml").write_text(json.dumps(content))
    found = Node(play=player(inventory), path=path, backups=backups, names=[])
    try:
        yield found
    finally:
        for name in found.names:
            for command in (("lxc-stop", "-k"), ("lxc-destroy",)):
                arguments = [command[0], "-P", str(path), "-n", name, *command[1:]]
                subprocess.run(arguments, capture_output=True, timeout=60, check=False)


def test_it_stops_real_containers_and_gives_them_back(node: Node) -> None:
    """One that ends when asked, one that has to be killed, and one that was off: stopped, then exactly as before."""
    polite = node.create(autostart=True, running=True)
    stubborn = node.create(autostart=False, running=True, halt="SIGCHLD")
    off = node.create(autostart=True, running=False)
    names = (polite, stubborn, off)
    begin = {name: (node.state(name), node.autostart(name), node.groups(name)) for name in names}
    targets = [
        node.target(polite, power="running", onboot=True),
        node.target(stubborn, power="running", onboot=False),
        node.target(off, power="stopped", onboot=True),
    ]
    assert {r["outcome"] for r in node.play("stop_guests", guests=targets, check=True).reports.values()} == {
        "changed"
    }
    assert {name: (node.state(name), node.autostart(name), node.groups(name)) for name in names} == begin

    stopped = node.play("stop_guests", guests=targets)
    assert {report["outcome"] for report in stopped.reports.values()} == {"changed"}, stopped.output
    assert {(node.state(name), node.autostart(name), node.groups(name)) for name in names} == {
        ("STOPPED", "0", MARK)
    }
    again = node.play("stop_guests", guests=targets)
    assert {report["outcome"] for report in again.reports.values()} == {"unchanged"}

    node.play.environment["ABEYANCE_RUN_ID"] = mark = uuid.uuid4().hex
    given_back = node.play("start_guests", guests=targets)
    assert {report["outcome"] for report in given_back.reports.values()} == {"changed"}, given_back.output
    assert not _processes_with(mark)  # else whoever ends the run would end the containers too
    assert {name: (node.state(name), node.autostart(name), node.groups(name)) for name in names} == begin
    assert {r["outcome"] for r in node.play("start_guests", guests=targets).reports.values()} == {"unchanged"}


def test_it_observes_and_refuses_on_real_containers(node: Node) -> None:
    """All containers are seen; a frozen one, one that changed and one that is not there are left alone."""
    frozen = node.create(autostart=False, running=True)
    changed = node.create(autostart=True, running=False)
    _run("lxc-freeze", "-P", node.path, "-n", frozen)
    (seen,) = node.play("observe", nodes=["lab1"], depth="shallow").observations
    assert seen["complete"] is True
    power = {guest["guest"]: (guest["power"], guest["busy"]) for guest in seen["guests"]}
    assert power == {frozen: ("running", "container is frozen"), changed: ("stopped", None)}
    deep = node.play("observe", depth="deep", guests=[node.target(frozen), node.target(changed)])
    after = deep.reports[f"id-{changed}"]["after"]
    assert (after["power"], after["onboot"], after["protection"]) == ("stopped", True, None)
    assert after["marker"].startswith("born:")
    result = node.play(
        "stop_guests",
        guests=[
            node.target(frozen, power="running", onboot=False),
            node.target(changed, power="running", onboot=True),
            node.target("nobody", power="running", onboot=True),
        ],
    )
    assert [result.outcome(f"id-{name}") for name in (frozen, changed, "nobody")] == [
        "refused/later",
        "refused/later",
        "refused/never",
    ]
    assert node.state(frozen) == "FROZEN"
    assert node.autostart(changed) == "1"


def test_it_concludes_nothing_from_a_folder_that_is_not_there(node: Node) -> None:
    """A folder that is not mounted looks like a node without containers; it is reported as silence."""
    name = node.create(autostart=False, running=False)
    node.path.rename(node.path.with_name("elsewhere"))
    (seen,) = node.play("observe", nodes=["lab1"], depth="shallow").observations
    assert (seen["complete"], seen["guests"], seen["silent_nodes"]) == (False, [], ["lab1"])
    result = node.play("stop_guests", guests=[node.target(name, power="stopped", onboot=False)])
    assert result.outcome(f"id-{name}") == "failed"
    node.path.with_name("elsewhere").rename(node.path)


def test_it_protects_archives_and_removes_nothing(node: Node) -> None:
    """Sidecars come and go by renaming; what was protected before stays so, and every archive is kept."""
    name = node.create(autostart=False, running=False)
    folder = node.backups / name
    folder.mkdir()
    for file in ("a.tar.gz", "b.tar.zst", "own.tar", "own.tar.protected", "notes.txt"):
        (folder / file).write_text("x")
    protected = {"a.tar.gz.protected", "b.tar.zst.protected", "own.tar.protected"}
    archives = {"a.tar.gz", "b.tar.zst", "own.tar", "notes.txt"}
    target = node.target(name, unprotected_backups=[f"{name}/a.tar.gz", f"{name}/b.tar.zst"])
    for _ in (1, 2):  # the second round finds the renamed sidecars of the first
        assert node.play("lock_backups", guests=[target]).outcome(f"id-{name}") == "changed"
        assert {file.name for file in folder.iterdir()} == archives | protected
        assert node.play("unlock_backups", guests=[target]).outcome(f"id-{name}") == "changed"
        names = {file.name for file in folder.iterdir()}
        assert {file for file in names if file.endswith(".protected")} == {"own.tar.protected"}
        assert archives <= names
    strange = node.target(name, unprotected_backups=[f"{name}/../{name}/a.tar.gz"])
    assert "unprotected_backups" in node.play("lock_backups", guests=[strange]).failures[0]


def test_access_is_nothing_that_plain_lxc_has(node: Node) -> None:
    """The play says for which platforms it is there."""
    pool = {"id": "a", "kind": "pool", "pool": "customer-1", "node": "lab1", "expect": {"role": "Customer"}}
    result = node.play("close_access", guests=[pool])
    assert "proxmox" in result.failures[0]
    assert not result.reports
