"""The process around one Ansible run: `python -m reconciler.runs.supervisor`, spec on stdin, JSON lines on stdout.

The one importer of `ansible_runner`. Owns the run's folder, secrets, permit, deadline and end; writes its verdict
only when no process of the run is left. Never uses the runner's own cancelling: that kills a process group which
the workers of a play have long left.
"""

import fcntl
import json
import os
import queue
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType

from reconciler.rules.terms import RunState
from reconciler.runs import folders, processes, wire
from reconciler.runs.environment import play_command, play_environment, write_variables
from reconciler.runs.events import BoundedLog, Redactor, harvest
from reconciler.runs.request import RunRefusedError, checked
from reconciler.runs.wire import Spec

#: How long a play may take to end itself after SIGTERM.
TERM_SECONDS = 5.0
_EVENT_ID = re.compile(r"[0-9A-Za-z-]{1,64}")

Message = tuple[str, object]


class Outlet:
    """Writes lines to the parent from a thread of its own, so that a parent that does not read delays nothing."""

    def __init__(self, handle: int, inbox: "queue.SimpleQueue[Message]") -> None:
        self._handle = handle
        self._inbox = inbox
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def put(self, message: Mapping[str, object]) -> None:
        """Send one message."""
        self._lines.put(wire.line(message))

    def close(self, seconds: float) -> None:
        """Wait until all is written, at most so long."""
        self._lines.put(None)
        self._thread.join(seconds)

    def _write(self) -> None:
        try:
            while (rest := self._lines.get()) is not None:
                while rest:
                    rest = rest[os.write(self._handle, rest) :]
        except OSError:
            self._inbox.put(("stop", "the parent is gone"))


class Supervisor:
    """One run from its folder to its verdict. All but the waiting happens in the main thread."""

    def __init__(self, spec: Spec, inbox: "queue.SimpleQueue[Message]", outlet: Outlet) -> None:
        self._request = spec.request
        self._spec = spec
        self._inbox = inbox
        self._outlet = outlet
        self._redactor = Redactor(spec.request.secrets.values())
        self._log = BoundedLog(self._redactor)
        self._problems: list[str] = []
        self._nodes = frozenset(spec.request.target_nodes)
        self._state = RunState.LOST  # until the play has ended or was told to
        self._stop_wanted = False
        self._ended = False
        self._sealed: list[int] = []
        self._folder = Path()
        self._play: threading.Thread | None = None

    def run(self) -> None:
        """Run the play to its end, its deadline or the order to stop; then clean up and send the verdict."""
        gone = False
        record = None
        deadline = time.monotonic() + self._request.timeout_seconds
        try:
            record = folders.HeldRecord(self._spec.state_dir, self._record())
            self._folder = folders.make_folder(self._request.run_id, self._spec.state_dir, self._spec.memory)
            self._start()
            self._watch(until=deadline)
        except (OSError, ValueError) as problem:
            self._problems.append(f"the run could not be started: {problem}")
        finally:
            gone = self._end()
            # Where no folder can be made, there may be none to remove: the verdict is given in any case, and what
            # could not be removed keeps its record, by which the next start finds it.
            with suppress(OSError):
                folders.remove_folder(self._spec.state_dir, self._request.run_id, self._spec.memory)
                if record is not None and gone:
                    record.release()
            self._outlet.put({"verdict": self._verdict(gone)})

    def _record(self) -> folders.Record:
        parent = self._spec.parent
        return folders.Record(
            run_id=self._request.run_id, parent=parent, parent_mark=processes.start_mark(parent)
        )

    def _start(self) -> None:
        request, folder = self._request, self._folder
        for name in ("tmp", "cp", "runner"):
            (folder / name).mkdir(mode=0o700)
        self._permit(request.void, self._spec.permit_at)
        variables: dict[str, object] = {
            "target_nodes": request.target_nodes,
            "guests": request.guests,
            "permit_file": str(folder / "permit.json"),
        }
        if request.depth is not None:
            variables["depth"] = request.depth.value
        for name, secret in request.secrets.items():
            variables[f"{name}_path"] = self._seal(secret)
        write_variables(folder / "variables.json", variables)
        # The runner copies its own environment for the play; from here on there is no other.
        environment = play_environment(request.run_id, folder, request.playbooks)
        os.environ.clear()
        os.environ.update(environment)
        command = play_command(
            playbook=request.playbook,
            inventory=request.inventory,
            variables=folder / "variables.json",
            nodes=list(request.target_nodes),
            check=request.check,
        )
        self._play = threading.Thread(target=self._run_play, args=(command,), daemon=True)
        self._play.start()

    def _seal(self, secret: str) -> str:
        """Put a secret into memory that has no name on any disk; return the path under which a play reads it."""
        handle = os.memfd_create("abeyance", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._sealed.append(handle)
        os.write(handle, secret.encode())
        everything = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, everything)
        return f"/proc/{os.getpid()}/fd/{handle}"

    def _permit(self, void: frozenset[str], at: float) -> None:
        """Tell the play what may still be done; the instant is the parent's, so that a delay makes it older."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        fresh = self._folder / "permit.new"
        fresh.write_text(json.dumps({"at": min(at, now), "void": sorted(void)}))
        fresh.rename(self._folder / "permit.json")

    def _run_play(self, command: list[str]) -> None:
        """Run the play through the runner; everything it says goes to the inbox."""
        try:
            from ansible_runner import Runner, RunnerConfig

            config = RunnerConfig(
                str(self._folder / "runner"),
                playbook=str(self._request.playbook),
                inventory=str(self._request.inventory / "hosts.yml"),
                ident="run",
                quiet=True,
                suppress_output_file=True,
                fact_cache_type="memory",
            )
            config.prepare()
            # Set here because `prepare` forgets the settings it is given unless they come in a file.
            config.pexpect_timeout = 0.5
            config.suppress_output_file = True
            config.command = command
            runner = Runner(config, event_handler=self._on_event, remove_partials=False)
            runner.run()
            how = "was killed" if runner.rc is None else f"ended with {runner.rc}"
            self._inbox.put(("ended", None if runner.rc == 0 else f"ansible-playbook {how}"))
        except BaseException as problem:  # noqa: BLE001 - whatever it is, the run has ended and must be told so
            self._inbox.put(("broke", f"the runner failed: {type(problem).__name__}: {problem}"))

    def _on_event(self, event: Mapping[str, object]) -> bool:
        """Queue an event. It came from the play's callback only if that left its file, which is used up here."""
        genuine = False
        name = str(event.get("uuid"))
        if _EVENT_ID.fullmatch(name):
            with suppress(OSError):
                (self._folder / f"runner/artifacts/run/job_events/{name}-partial.json").unlink()
                genuine = True
        self._inbox.put(("event", (dict(event), genuine)))
        return False  # nothing of it is written to a file

    def _watch(self, *, until: float) -> None:
        """Handle messages until the play ended, a stop was asked for or the time is over."""
        while not self._ended and not self._stop_wanted:
            left = until - time.monotonic()
            if left <= 0:
                self._cancel(f"its deadline of {self._request.timeout_seconds:g} s passed")
                break
            with suppress(queue.Empty):
                self._handle(self._inbox.get(timeout=left))

    def _handle(self, message: Message) -> None:
        match message:
            case "event", (dict() as event, bool() as genuine):
                self._take(event, genuine)
            case "line", bytes() as text:
                self._obey(text)
            case "stop", str() as reason:
                self._cancel(reason)
            case "ended", problem:
                self._ended = True
                if not self._stop_wanted:
                    self._state = RunState.FINISHED
                    self._problems += [problem] if isinstance(problem, str) else []
            case "broke", str() as problem:
                self._ended = True
                self._problems += [] if self._stop_wanted else [problem]

    def _take(self, event: dict[str, object], genuine: bool) -> None:
        if isinstance(printed := event.get("stdout"), str) and printed:
            self._log.add(printed)
        found = harvest(event, self._nodes, genuine=genuine)
        if found is None:
            return
        self._problems += found.problems
        if found.reports:
            self._outlet.put({"reports": self._redactor.value(found.reports), "node": found.node})
        if found.observation is not None:
            self._outlet.put({"observation": self._redactor.value(found.observation), "node": found.node})

    def _obey(self, text: bytes) -> None:
        """Take a line of the parent; one that cannot be read lets the permit grow old, which stops the play's acts."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            permit = json.loads(text)["permit"]
            self._permit(frozenset(map(str, permit["void"])), float(permit["at"]))

    def _cancel(self, reason: str) -> None:
        if not self._stop_wanted and not self._ended:
            self._stop_wanted = True
            self._state = RunState.CANCELLED
            self._problems.append(reason)

    def _end(self) -> bool:
        """End the play and everything it started; return whether nothing was left."""
        play = self._play
        self._ask_to_end()
        gone = False
        for _ in range(3):
            # Also after a play that ended by itself: it may have left something running.
            gone = processes.sweep(self._request.run_id, below=os.getpid())
            if play is not None:
                play.join(1.0)
            if gone and (play is None or not play.is_alive()):
                break
        else:
            gone = False
            self._problems.append("processes of the run could not be ended")
        with suppress(queue.Empty):
            while True:
                self._handle(self._inbox.get_nowait())
        return gone

    def _ask_to_end(self) -> None:
        """Send SIGTERM to the play's main process, once, and give it `TERM_SECONDS` to end its workers."""
        until = time.monotonic() + TERM_SECONDS
        asked: set[int] = set()
        while self._play is not None and self._play.is_alive() and time.monotonic() < until:
            if not self._ended:
                living = set(processes.children(os.getpid())) - asked
                processes.send(living, signal.SIGTERM, still=lambda: processes.children(os.getpid()))
                asked |= living
            with suppress(queue.Empty):
                self._handle(self._inbox.get(timeout=0.05))

    def _verdict(self, gone: bool) -> dict[str, object]:
        problems = [self._redactor.text(problem)[:500] for problem in dict.fromkeys(self._problems)]
        return {
            "state": self._state,
            "log": self._log.text(),
            "problems": problems[:50],
            "verified_gone": gone,
            "began": self._play is not None,
        }


def _read_input(inbox: "queue.SimpleQueue[Message]") -> None:
    """Queue the lines of the parent; the end of the input is the order to stop."""
    rest = b""
    with suppress(OSError):
        while chunk := os.read(0, 1 << 20):
            *lines, rest = (rest + chunk).split(b"\n")
            for text in lines:
                inbox.put(("line", text))
            if len(rest) > wire.MAX_LINE:
                break
    inbox.put(("stop", "cancelled"))


def _take_spec(inbox: "queue.SimpleQueue[Message]") -> Spec | None:
    match inbox.get():
        case "line", bytes() as text:
            spec = wire.read_spec(text)
            checked(spec.request)
            return spec
    return None  # told to stop before there was anything to do


def main() -> int:
    """Run what the spec on stdin asks for; the exit code says only whether a verdict was given."""
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def on_signal(number: int, frame: FrameType | None) -> None:
        inbox.put(("stop", f"ended by {signal.Signals(number).name}"))

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    parent = os.getppid()
    processes.die_with_parent(parent)
    processes.adopt_orphans()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the secrets
    # What a library prints must not reach the protocol.
    protocol = os.dup(1)
    os.dup2(2, 1)
    outlet = Outlet(protocol, inbox)
    threading.Thread(target=_read_input, args=(inbox,), daemon=True).start()
    try:
        spec = _take_spec(inbox)
        if spec is None:
            return 1
        if spec.parent != os.getppid():
            inbox.put(("stop", "the parent is gone"))
        Supervisor(spec, inbox, outlet).run()
    except RunRefusedError as refusal:
        outlet.put(
            {
                "verdict": {
                    "state": RunState.LOST,
                    "log": "",
                    "problems": [str(refusal)],
                    "verified_gone": True,
                    "began": False,
                }
            }
        )
    outlet.close(30.0)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Threads may still wait for a parent that neither reads nor closes; nothing is left that they could save.
    os._exit(code)
