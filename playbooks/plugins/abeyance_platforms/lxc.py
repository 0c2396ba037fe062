"""The driver for plain LXC: containers of one node, and backups that are a folder of archives.

Owns what each step means in commands on the node. One listing serves all guests of a chunk, so that waiting for a
hundred shutdowns costs as much as waiting for one. There is no protection against removal and no customer's login here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .compare import Changes
from .lxc_commands import ARCHIVE, SEARCH_PATH, command_line
from .reports import Backup, PlatformError, Refusal, Retry, State, StillRunningError
from .targets import CONTAINER, Target

_POLL_SECONDS = 0.25
_KILL_SECONDS = 15.0
_START_SECONDS = 30.0
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
_POWER = {"RUNNING": "running", "STOPPED": "stopped"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How a command on the node ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where containers and backups are on the node; without `backups` there are none."""

    node: str
    path: str
    backups: str | None = None


class LxcDriver:
    """Implements `procedure.Driver` for one node; used by several threads at once.

    `execute` runs one quoted command line on the node through Ansible's connection.
    """

    def __init__(
        self,
        execute: Callable[[str], Answer],
        place: Place,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._execute, self._place = execute, place
        self._monotonic, self._sleep = monotonic, sleep
        self._lock = threading.Lock()
        self._listed: dict[str, State] = {}
        self._listed_at = float("-inf")
        self._identity: tuple[str | None] | None = None

    def prepare(self, targets: Sequence[Target]) -> None:
        """Make sure that the node answers and that we may see its containers, before anything is done."""
        with self._lock:
            self._identity = None
            if self._run("may_work", good=(0, 1), path=self._place.path).code:
                raise PlatformError(
                    f"{self._place.path} is missing, or not ours to work in: see lxc_path, ansible_become"
                )

    def survey(self) -> dict[str, object]:
        """Return the shallow observation of this node."""
        self.prepare(())
        guests = [
            {
                "guest": name,
                "kind": "lxc",
                "node": self._place.node,
                "power": state.power,
                "tags": list(state.tags or ()),
                "busy": state.busy,
            }
            for name, state in sorted(self.listing(max_age=0).items())
        ]
        return {
            "guests": guests,
            "nodes": [self._place.node],
            "silent_nodes": [],
            "identity": self.who(),
            "complete": True,
        }

    def who(self) -> str | None:
        """Return which machine the node is; None where it has no machine-id. Asked once for a chunk.

        What machine-id(5) asks for: the id itself leaves the machine only as a keyed hash, which names it as well.
        """
        with self._lock:
            if self._identity is None:
                found = self._run("machine", good=(0, 1)).out.strip()
                known = _MACHINE_ID.fullmatch(found) is not None and int(found, 16) != 0
                keyed = hmac.new(found.encode(), b"abeyance", hashlib.sha256).hexdigest()[:32]
                self._identity = (f"machine {keyed}" if known else None,)
            return self._identity[0]

    def listing(self, *, max_age: float) -> dict[str, State]:
        """Return power, autostart and groups of every container, at most `max_age` seconds old."""
        with self._lock:
            if self._monotonic() - self._listed_at > max_age:
                lines = self._run("list", path=self._place.path).out.splitlines()[1:]
                self._listed = dict(filter(None, (self._listed_guest(line) for line in lines)))
                self._listed_at = self._monotonic()
            return self._listed

    def read(self, target: Target, parts: Sequence[str], *, restricts: bool) -> State:
        """Read one container; a name that is not listed is looked for once more."""
        state = self.listing(max_age=0).get(target.guest) or self.listing(max_age=0).get(target.guest)
        if state is None:
            raise Refusal(f"there is no container {target.guest} on this node", Retry.NEVER)
        identity = self.who() if "identity" in parts else None
        backups = self._backups(target.guest) if "backups" in parts else None
        folder = f"{self._place.path}/{target.guest}"
        with self._lock:
            born = self._run("birth", folder=folder).out.strip()
            marker = f"born:{born}" if born.isdecimal() and int(born) else None
            if not {"power", "onboot", "tag"} & set(parts):
                return State(node=self._place.node, marker=marker, backups=backups, identity=identity)
            digest = self._run("digest", config=f"{folder}/config").out.split(" ", 1)[0]
        return replace(state, digest=digest, marker=marker, backups=backups, identity=identity)

    def configure(self, target: Target, now: State, changes: Changes) -> None:
        """Set `lxc.start.auto` and our group in the container's configuration."""
        config = f"{self._place.path}/{target.guest}/config"
        with self._lock:
            if changes.onboot is not None:
                known = self._run("has_autostart", good=(0, 1), config=config).code == 0
                self._run(
                    "set_autostart" if known else "add_autostart",
                    config=config,
                    flag=str(int(changes.onboot)),
                )
            if changes.add_tag is not None:
                self._run("add_group", config=config, group=changes.add_tag)
            if changes.take_tag is not None:
                self._run("take_group", config=config, group=changes.take_tag)

    def shut_down(self, target: Target, now: State, grace_seconds: float) -> None:
        """Ask the container's init to end; kill it when the grace is over."""
        name = {"path": self._place.path, "name": target.guest}
        with self._lock:
            self._run("shut_down", good=(0, 2), **name)
        if self._becomes(target, "stopped", grace_seconds):
            return
        with self._lock:
            self._run("kill", good=(0, 2), **name)
        if not self._becomes(target, "stopped", _KILL_SECONDS):
            raise StillRunningError("the container was killed and has not ended yet")

    def start(self, target: Target, now: State) -> None:
        """Start the container and wait until it runs."""
        with self._lock:
            self._run("start", path=self._place.path, name=target.guest, search=SEARCH_PATH)
        if not self._becomes(target, "running", _START_SECONDS):
            raise StillRunningError("the container was started and does not run yet")

    def protect(self, target: Target, now: State, volid: str, *, protected: bool) -> None:
        """Put the sidecar `<archive>.protected` beside an archive, or rename it to `.released`."""
        archive = f"{self._place.backups}/{self._checked(target.guest, volid)}"
        with self._lock:
            if not protected:
                self._run("release", archive=archive)
            elif self._run("protect_again", good=(0, 1), archive=archive).code:
                self._run("protect", archive=archive)

    def swap_role(self, target: Target, now: State, role: str) -> None:
        """Plain LXC has no customers' logins."""
        raise PlatformError("platform lxc has no access to close or open", Retry.NEVER)

    def _becomes(self, target: Target, power: str, seconds: float) -> bool:
        limit = self._monotonic() + seconds
        while True:
            state = self.listing(max_age=_POLL_SECONDS / 2).get(target.guest)
            if state is not None and state.power == power:
                return True
            if self._monotonic() >= limit:
                return False
            self._sleep(_POLL_SECONDS)

    def _listed_guest(self, line: str) -> tuple[str, State] | None:
        name, state, autostart, *groups = [*line.split(), "", ""]
        if not name or CONTAINER.fullmatch(name) is None:
            return None
        tags = tuple(group for group in "".join(groups).split(",") if group not in ("", "-"))
        power = _POWER.get(state, "unknown" if state != "FROZEN" else "running")
        busy = None if state in _POWER else f"container is {state.lower()}"
        return name, State(power=power, onboot=autostart == "1", tags=tags, node=self._place.node, busy=busy)

    def _backups(self, guest: str) -> tuple[Backup, ...]:
        if self._place.backups is None:
            return ()
        with self._lock:
            lines = self._run("backups", backups=self._place.backups).out.splitlines()
        made = {name: float(when) for when, name in (line.split(" ", 1) for line in lines)}
        return tuple(
            Backup(volid=name, protected=f"{name}.protected" in made, made=made[name])
            for name in sorted(made)
            if name.startswith(f"{guest}/") and ARCHIVE.fullmatch(name.partition("/")[2])
        )

    def _checked(self, guest: str, volid: str) -> str:
        folder, _, archive = volid.partition("/")
        if self._place.backups is None or folder != guest or ARCHIVE.fullmatch(archive) is None:
            raise PlatformError(f"{volid} is not an archive of {guest}", Retry.NEVER)
        return volid

    def _run(self, command: str, *, good: tuple[int, ...] = (0,), **values: str) -> Answer:
        answer = self._execute(command_line(command, values))
        if answer.code not in good:
            said = " ".join(answer.err.split())[-200:]
            raise PlatformError(f"{command} ended with {answer.code}: {said}")
        return answer
