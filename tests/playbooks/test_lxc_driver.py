"""The driver for plain LXC on a node in memory: what it must not do, and what it must not believe.

The procedures are those of the shipped files; what the commands do on a real node is `test_lxc.py`'s business.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from abeyance_platforms.lxc import Answer, LxcDriver, Place
from abeyance_platforms.lxc_commands import command_line
from abeyance_platforms.permit import Permit
from abeyance_platforms.procedure import Pace, Procedure, order_for
from abeyance_platforms.reports import PlatformError, Report, State
from abeyance_platforms.targets import Target

FILES = Path(__file__).parents[2] / "playbooks/platforms/lxc"
DONE = Answer(code=0, out="", err="")
MACHINE = "0123456789abcdef0123456789abcdef"


@dataclass
class Container:
    """One container; `stops_in` are the seconds that it takes to end when asked, null: it does not listen."""

    state: str = "RUNNING"
    autostart: bool = True
    groups: list[str] = field(default_factory=list)
    birth: int = 1700000000
    stops_in: float | None = 2.0
    immortal: bool = False
    ends_at: float | None = None


@dataclass
class Node:
    """Answers the commands of the list as a node would, in a time that only sleeping moves."""

    containers: dict[str, Container] = field(default_factory=lambda: {"web": Container()})
    machine: str | None = MACHINE
    ours: bool = True
    now: float = 0.0
    ran: list[list[str]] = field(default_factory=list)
    #: Programs that end with an error.
    broken: set[str] = field(default_factory=set)

    def execute(self, line: str) -> Answer:
        """Run one command."""
        words = shlex.split(line)
        self.ran.append(words)
        if words[0] in self.broken:
            return Answer(code=1, out="", err="it is broken")
        for one in self.containers.values():
            if one.ends_at is not None and self.now >= one.ends_at:
                one.state, one.ends_at = "STOPPED", None
        return self._act(words)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def did(self, *words: str) -> bool:
        """Return whether a command with all these words ran."""
        return any(set(words) <= set(one) for one in self.ran)

    def _act(self, words: list[str]) -> Answer:
        match words:
            case ["test", *_]:
                return Answer(code=0 if self.ours else 1, out="", err="")
            case ["cat", _]:
                return Answer(code=0 if self.machine else 1, out=f"{self.machine}\n", err="")
            case ["lxc-ls", *_]:
                rows = [
                    f"{name} {one.state} {int(one.autostart)} {','.join(one.groups) or '-'}"
                    for name, one in self.containers.items()
                ]
                return Answer(code=0, out="\n".join(["NAME STATE AUTOSTART GROUPS", *rows]), err="")
            case ["stat", *_, path]:
                return Answer(code=0, out=f"{self.containers[Path(path).name].birth}\n", err="")
            case ["sha256sum", _, path]:
                one = self.containers[Path(path).parent.name]
                return Answer(code=0, out=f"{hash((one.autostart, *one.groups)) & 0xFFFF:x} {path}", err="")
            case ["lxc-stop", _, _, _, name, how]:
                return self._end(self.containers[name], kill=how == "--kill")
            case ["env", *_, "-n", name, "-d"]:
                self.containers[name].state = "RUNNING"
            case ["sed", *_, script, path]:
                self._edit(self.containers[Path(path).parent.name], script)
        return DONE

    def _end(self, one: Container, *, kill: bool) -> Answer:
        if kill and not one.immortal:
            one.state = "STOPPED"
        elif not kill and one.stops_in is not None:
            one.ends_at = self.now + one.stops_in
        return DONE

    def _edit(self, one: Container, script: str) -> None:
        if "lxc[.]start[.]auto" in script:
            one.autostart = script.endswith("1/")
        elif "lxc.group =" in script:
            one.groups.append(script.rpartition(" ")[2])
        else:
            one.groups.clear()


def driver(node: Node) -> LxcDriver:
    """Return the driver of a node."""
    place = Place(node="lab1", path="/var/lib/lxc", backups="/srv/backups")
    return LxcDriver(node.execute, place, monotonic=lambda: node.now, sleep=node.sleep)


def play(node: Node, action: str, name: str = "web", **expect: Any) -> Report:
    """Take one container through the procedure of an action's own file, with five seconds of grace."""
    (task,) = yaml.safe_load((FILES / f"{action}.yml").read_text())
    arguments: Mapping[str, Any] = {**task["abeyance_lxc"], "grace_seconds": 5}
    order = {key: value for key, value in arguments.items() if key != "guests"}
    procedure = Procedure(
        driver(node),
        order_for(order, check_mode=False),
        permit=Permit(path=None, boottime=lambda: 0.0),
        pace=Pace(1e9, monotonic=lambda: node.now, sleep=node.sleep),
        width=1,
    )
    (report,) = procedure.run([Target(id="one", kind="lxc", guest=name, node="lab1", expect=expect)])
    return report


def seen(node: Node, name: str = "web") -> dict[str, Any]:
    """Return what a deep reading would commit before a stop."""
    reading = driver(node)
    reading.prepare(())
    now = reading.read(_target(name), ("power", "onboot", "tag", "identity"), restricts=False)
    return {part: getattr(now, part) for part in ("power", "onboot", "digest", "marker", "identity")}


def _target(name: str) -> Target:
    return Target(id="one", kind="lxc", guest=name, node="lab1")


def test_a_container_that_ends_when_asked_is_never_killed() -> None:
    """It has its whole grace for that, and comes back as it was."""
    node = Node()
    before = seen(node)
    assert play(node, "stop_guests", **before).outcome == "changed"
    one = node.containers["web"]
    assert (one.state, one.autostart, one.groups) == ("STOPPED", False, ["abeyance-suspended"])
    assert not node.did("--kill")
    assert play(node, "start_guests", **before).outcome == "changed"
    assert (one.state, one.autostart, one.groups) == ("RUNNING", True, [])


def test_one_that_outlives_its_end_is_unknown() -> None:
    """Killed after the grace; what still runs then is neither stopped nor left alone."""
    node = Node({"web": Container(stops_in=None, immortal=True)})
    assert play(node, "stop_guests", **seen(node)).outcome == "unknown"
    assert node.did("--kill")


def test_it_stops_nothing_that_it_was_not_told_of() -> None:
    """A name that is not there, one on another machine, one made anew: each is left alone, with nothing done."""
    node = Node()
    before = seen(node)
    gone = play(node, "stop_guests", "nobody", **before)
    assert (gone.outcome, gone.retry) == ("refused", "never")
    node.containers["web"].birth += 1
    made_anew = play(node, "stop_guests", **before)
    assert (made_anew.outcome, made_anew.retry) == ("refused", "never")
    node.containers["web"].birth -= 1
    node.machine = MACHINE[::-1]
    elsewhere = play(node, "stop_guests", **before)
    assert (elsewhere.outcome, elsewhere.retry) == ("refused", "later")
    assert not node.did("lxc-stop")
    assert not node.did("sed")


def test_it_starts_no_other_container_under_the_old_name() -> None:
    """One that was made anew is not ours to start, whatever it is called."""
    node = Node()
    before = seen(node)
    play(node, "stop_guests", **before)
    node.containers["web"].birth += 1
    assert play(node, "start_guests", **before).outcome == "refused"
    assert node.containers["web"].state == "STOPPED"


@pytest.mark.parametrize("state", ["FROZEN", "STARTING", "STOPPING", "ABORTING"])
def test_it_leaves_alone_what_somebody_else_is_at(state: str) -> None:
    """Frozen for a copy, or on its way: later may be different."""
    node = Node({"web": Container(state=state)})
    report = play(node, "stop_guests", **{**seen(node), "power": "running"})
    assert (report.outcome, report.retry) == ("refused", "later")
    assert not node.did("lxc-stop")


def test_it_works_in_no_folder_that_is_not_there_or_not_ours() -> None:
    """Without rights containers are missing from the listing, or look stopped: nothing is concluded from that."""
    node = Node(ours=False)
    assert play(node, "stop_guests", power="stopped", onboot=False).outcome == "failed"
    with pytest.raises(PlatformError, match="not ours to work in"):
        driver(node).survey()


@pytest.mark.parametrize("program", ["lxc-ls", "sha256sum", "stat", "sed", "lxc-stop"])
def test_a_command_that_fails_is_no_success(program: str) -> None:
    """Whichever it is: the report says so."""
    node = Node()
    before = seen(node)
    node.broken.add(program)
    report = play(node, "stop_guests", **before)
    assert report.outcome == "failed"
    assert "it is broken" in report.message
    assert node.containers["web"].state == "RUNNING"


@pytest.mark.parametrize("volid", ["db/a.tar", "web/../db/a.tar", "web/notes.txt", "a.tar"])
def test_it_protects_no_file_that_is_no_archive_of_the_container(volid: str) -> None:
    """Somebody else's, one outside, or no archive at all: no command is run."""
    node = Node()
    with pytest.raises(PlatformError, match="not an archive of web"):
        driver(node).protect(_target("web"), State(), volid, protected=True)
    assert node.ran == []


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("kill", {"path": "/var/lib/lxc", "name": "web;reboot"}),
        ("kill", {"path": "/var/lib/lxc", "name": "-a"}),
        ("digest", {"config": "/var/lib/lxc/../../etc/shadow"}),
        ("digest", {"config": "relative/config"}),
        ("add_group", {"config": "/var/lib/lxc/web/config", "group": "x\nlxc.hook.start = /bin/sh"}),
        ("add_autostart", {"config": "/var/lib/lxc/web/config", "flag": "1\n"}),
    ],
)
def test_a_command_takes_only_what_fits(command: str, values: dict[str, str]) -> None:
    """Names, paths and flags match their patterns as a whole, or nothing is run."""
    with pytest.raises(PlatformError, match="not one that a command may be given"):
        command_line(command, values)


def test_a_machine_is_known_by_a_hash_of_its_id() -> None:
    """The same for the same, another for another, and never the id itself; a machine without one is not known."""
    known, other = driver(Node()).who(), driver(Node(machine=MACHINE[::-1])).who()
    assert known is not None
    assert known != other
    assert known.startswith("machine ")
    assert MACHINE not in known
    assert driver(Node()).who() == known
    for machine in (None, "", "uninitialized", "0" * 32):
        assert driver(Node(machine=machine)).survey()["identity"] is None


def test_what_is_no_container_by_its_name_is_not_listed() -> None:
    """A folder that no play could name is nobody's guest."""
    node = Node({"web": Container(), "a;b": Container()})
    assert [guest["guest"] for guest in driver(node).survey()["guests"]] == ["web"]  # type: ignore[attr-defined]
