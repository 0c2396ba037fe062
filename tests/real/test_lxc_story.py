"""The whole story on real containers of this machine, read back with LXC's own tools and its own files."""

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

pytestmark = [pytest.mark.lxc, pytest.mark.slow]
NEEDED = ("lxc-create", "lxc-start", "lxc-stop", "lxc-info", "lxc-ls", "lxc-destroy", "busybox")
SITE, NODE = "lab", "lab1"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A folder of containers of this machine, and one of archives."""

    path: Path
    backups: Path
    names: list[str] = field(default_factory=list)

    def create(self, *, autostart: bool, running: bool) -> str:
        """Make a container of busybox without a network, with an archive of it, and start it if asked."""
        name = f"abt-{uuid.uuid4().hex[:8]}"
        self.names.append(name)
        _lxc("create", self.path, name, "-t", "busybox")
        config = self.path / name / "config"
        kept = re.sub(r"(?m)^lxc[.]net[.0-9a-z]*\b.*\n", "", config.read_text())
        config.write_text(f"{kept}lxc.net.0.type = empty\nlxc.start.auto = {int(autostart)}\n")
        (self.backups / name).mkdir()
        (self.backups / name / "monday.tar.gz").write_text("an archive")
        if running:
            _lxc("start", self.path, name, "-d")
        return name

    def state(self, name: str) -> str:
        """Return what `lxc-info` says of a container."""
        return _lxc("info", self.path, name, "-sH").strip()

    def config(self, name: str) -> str:
        """Return the container's configuration file, word for word."""
        return (self.path / name / "config").read_text()

    def autostart(self, name: str) -> list[str]:
        """Return every value that the configuration file gives for starting with the machine."""
        return re.findall(r"(?m)^\s*lxc\.start\.auto\s*=\s*(\S+)", self.config(name))

    def protected(self, name: str) -> list[str]:
        """Return the sidecars that protect the container's archives."""
        return sorted(file.name for file in (self.backups / name).glob("*.protected"))

    def inventory(self) -> dict[str, Any]:
        """Return an inventory with this machine as the only node of its site."""
        variables = {
            "site_platform": "lxc",
            "site_mode": "apply",
            "lxc_path": str(self.path),
            "site_backup_dir": str(self.backups),
            "ansible_connection": "local",
            "shutdown_grace_seconds": 5,
        }
        return {"all": {"children": {SITE: {"vars": variables, "hosts": {NODE: {}}}}}}


def _lxc(command: str, path: Path, name: str, *more: str, check: bool = True) -> str:
    done = subprocess.run(
        [f"lxc-{command}", "-P", str(path), "-n", name, *more],
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
    )
    return done.stdout


@pytest.fixture
def machine(tmp_path: Path, require: Callable[[str], NoReturn]) -> Iterator[Machine]:
    """This machine's containers, in a folder of the test's own; all of them are gone afterwards."""
    if os.geteuid() != 0:
        require("needs root for containers")
    if absent := [program for program in NEEDED if shutil.which(program) is None]:
        require(f"needs {', '.join(absent)} (Debian: lxc busybox-static)")
    found = Machine(path=tmp_path / "lxc", backups=tmp_path / "backups")
    for folder in (found.path, found.backups):
        folder.mkdir()
    try:
        yield found
    finally:
        for name in found.names:
            _lxc("stop", found.path, name, "-k", check=False)
            _lxc("destroy", found.path, name, check=False)
        assert list(found.path.iterdir()) == []


async def test_real_containers_are_stopped_and_given_back_exactly(
    machine: Machine, theatre: Any, database_url: str
) -> None:
    """Two that run, one that its owner stopped, one that is not ours: stopped without autostart, then as before."""
    web = machine.create(autostart=True, running=True)
    database = machine.create(autostart=False, running=True)
    off = machine.create(autostart=True, running=False)
    neighbour = machine.create(autostart=True, running=True)
    ours = (web, database, off)
    servers = [
        {"externalId": name, "name": name, "site": SITE, "siteNode": NODE, "kind": "LXC", "guest": name}
        for name in ours
    ]
    before = {name: (machine.state(name), machine.autostart(name)) for name in (*ours, neighbour)}
    assert [state for state, _ in before.values()] == ["RUNNING", "RUNNING", "STOPPED", "RUNNING"]
    texts = {name: machine.config(name) for name in before}

    async with theatre.tale(inventory=machine.inventory(), database_url=database_url) as tale:
        await tale.register(servers)
        tale.owe()
        await tale.reaches("SUSPENDED")
        await tale.until("the containers are stopped", lambda: _all_stopped(machine, ours))
        await tale.until("the portal says so", tale.in_sync)
        # Of the one that was off already, the portal shows no difference while it could still start by itself.
        await tale.until(
            "none starts by itself",
            lambda: [machine.autostart(name) for name in ours] == [["0"], ["0"], ["0"]],
        )
        assert [machine.protected(name) for name in ours] == [["monday.tar.gz.protected"]] * 3
        assert (machine.state(neighbour), machine.config(neighbour)) == ("RUNNING", texts[neighbour])
        assert machine.protected(neighbour) == []

        tale.pay()
        await tale.reaches("CURRENT")
        await tale.until("what ran runs again", lambda: _as_before(machine, before))
        await tale.until("the portal says so", tale.in_sync)
        assert machine.state(off) == "STOPPED"
        assert {name: machine.config(name) for name in before} == texts
        assert [machine.protected(name) for name in ours] == [[]] * 3
        assert [(machine.backups / name / "monday.tar.gz").read_text() for name in ours] == ["an archive"] * 3
        await tale.until("the good news arrives", lambda: len(tale.letters()) == 4)
    # The product has ended; what it started has not.
    assert _as_before(machine, before)


def _all_stopped(machine: Machine, names: tuple[str, ...]) -> bool:
    return all(machine.state(name) == "STOPPED" for name in names)


def _as_before(machine: Machine, before: dict[str, tuple[str, list[str]]]) -> bool:
    return {name: (machine.state(name), machine.autostart(name)) for name in before} == before


@dataclass(frozen=True, kw_only=True)
class Containers:
    """This machine's containers as the ground of the validation: `lxc-info` and the files tell what is so."""

    machine: Machine
    running: tuple[str, ...]
    off: str

    def power(self, server: str) -> str:
        """Return what `lxc-info` says."""
        return self.machine.state(server).lower()

    def backups(self) -> Mapping[str, bool]:
        """Return the archives of the containers, and whether each has its sidecar."""
        return {
            f"{name}/{file.name}": f"{file.name}.protected" in self.machine.protected(name)
            for name in (*self.running, self.off)
            for file in (self.machine.backups / name).glob("*.tar.gz")
        }

    def picture(self) -> object:
        """Return state, configuration and sidecars of everything."""
        return {
            name: (self.machine.state(name), self.machine.config(name), self.machine.protected(name))
            for name in self.machine.names
        }


@pytest.mark.nightly
async def test_the_launch_policy_keeps_what_it_promises_on_real_containers(
    machine: Machine, situation: Any, validation: Any
) -> None:
    """The same story as on the simulated cluster, hour by hour under the shipped policy; `pytest -s` shows the log."""
    running = tuple(machine.create(autostart=autostart, running=True) for autostart in (True, False))
    off = machine.create(autostart=True, running=False)
    servers = [
        {"externalId": name, "name": name, "site": SITE, "siteNode": NODE, "kind": "LXC", "guest": name}
        for name in (*running, off)
    ]
    async with situation(inventory=machine.inventory()) as tale:
        await tale.begin(servers=servers)
        told = validation(tale, Containers(machine=machine, running=running, off=off))
        await told.tell()
        assert len(told.log) > 60
