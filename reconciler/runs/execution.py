"""The parent's side of runs: starts a supervisor per run, hears its reports, and gives every run one verdict.

Owns the promise that no run is ever stuck and none leaves a process behind, even when its supervisor is killed.
Knows nothing of Ansible, of the database or of what a report means for a step.
"""

import asyncio
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from billing.clock import Clock
from reconciler.rules.outcome import TargetReport, fold
from reconciler.rules.terms import RunState
from reconciler.runs import folders, processes, wire
from reconciler.runs.environment import bare_environment
from reconciler.runs.events import Redactor, read_report
from reconciler.runs.request import RunRefusedError, RunRequest, checked

#: A supervisor that is told to stop, or whose deadline passed, has given its verdict long before; else it hangs.
VERDICT_SECONDS = 60.0
_LEFTOVER_SECONDS = 15.0


def boot_time() -> float:
    """Return the seconds since the machine started, sleep included: the clock that permits are stamped with."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, kw_only=True)
class NodeObservation:
    """What an observing play read through one node, as it said it; judged elsewhere."""

    node: str
    facts: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class RunVerdict:
    """How a run ended.

    `reports` has exactly one report per target, in the order of the request; a target that sent none, or more
    than one, is unknown, and so is every target of a `LOST` run. `verified_gone` says that no process of the run
    was left when the verdict was written: without it nothing of the run may be taken as over. `began` is false only
    where the supervisor says that it never started a play: nothing can have been done then.
    """

    state: RunState
    reports: tuple[TargetReport, ...]
    observation: tuple[NodeObservation, ...]
    log: str = field(repr=False)
    started_at: datetime
    finished_at: datetime
    verified_gone: bool
    problem: str | None
    began: bool = True


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """The dead runs that were swept, and those that could not be: their servers must not be touched yet."""

    swept: tuple[str, ...]
    alive: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Said:
    """A supervisor's own verdict; what it is without one is in the defaults."""

    state: RunState = RunState.LOST
    log: str = ""
    problems: tuple[str, ...] = ()
    verified_gone: bool
    began: bool = True


class RunHandle:
    """A run that was started. Whatever happens, `wait` returns a verdict."""

    def __init__(
        self, request: RunRequest, process: asyncio.subprocess.Process, execution: "Execution"
    ) -> None:
        self.request = request
        self._process = process
        self._execution = execution
        self._started_at = execution.clock.now()
        self._targets = tuple(str(guest["id"]) for guest in request.guests)
        self._reports: dict[str, list[TargetReport]] = defaultdict(list)
        self._observations: list[NodeObservation] = []
        self._problems: list[str] = []
        self._news: asyncio.Queue[TargetReport | None] = asyncio.Queue()
        self._said: _Said | None = None
        self._loop = asyncio.get_running_loop()
        self._watchdog = self._loop.call_later(request.timeout_seconds + VERDICT_SECONDS, self._give_up)
        self._complaints = asyncio.create_task(self._read_complaints())
        self._verdict = asyncio.create_task(self._supervise(), name=f"run {request.run_id}")

    @property
    def run_id(self) -> str:
        """The name of the run's folder and its process tag."""
        return self.request.run_id

    def permit(self, void: Iterable[str] = ()) -> None:
        """Confirm, as of now, that the facts still allow the run, except for the steps in `void`.

        A restricting play acts on a guest only under a permit of at most 5 s, so this is repeated while it runs.
        """
        self._send({"permit": {"void": sorted(void), "at": self._execution.boot_time()}})

    def cancel(self) -> None:
        """Order the run to stop; `wait` returns once nothing of it is left. Repeating it does nothing."""
        if not self._stdin.is_closing() and not self._verdict.done():
            self._stdin.close()
            self._watchdog.cancel()
            self._watchdog = self._loop.call_later(VERDICT_SECONDS, self._give_up)

    async def reports(self) -> AsyncIterator[TargetReport]:
        """Yield reports as they come, for one listener. They tell progress; what counts is the verdict's."""
        while (report := await self._news.get()) is not None:
            yield report

    async def wait(self) -> RunVerdict:
        """Return the verdict; a caller that is cancelled meanwhile does not end the run."""
        return await asyncio.shield(self._verdict)

    @property
    def _stdin(self) -> asyncio.StreamWriter:
        assert self._process.stdin is not None  # noqa: S101 - opened as a pipe by `Execution.start`
        return self._process.stdin

    def _send(self, message: Mapping[str, object]) -> None:
        if not self._stdin.is_closing():
            self._stdin.write(wire.line(message))

    async def _supervise(self) -> RunVerdict:
        try:
            await self._listen()
            await self._process.wait()
        except (OSError, ValueError, KeyError, TypeError) as problem:
            self._problems.append(f"the supervisor was not understood ({type(problem).__name__})")
        try:
            return await self._conclude()
        finally:
            self._watchdog.cancel()
            self._news.put_nowait(None)
            self._execution.ended(self)

    def _give_up(self) -> None:
        """End a supervisor that hangs; without its verdict the run is lost, and its processes are swept."""
        self._problems.append("the supervisor gave no verdict in time")
        with suppress(ProcessLookupError):
            self._process.kill()

    async def _listen(self) -> None:
        with suppress(ConnectionError):  # a supervisor that ended at once is known by its missing verdict
            await self._stdin.drain()
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe by `Execution.start`
        while text := await self._process.stdout.readline():
            self._take(json.loads(text))

    def _take(self, said: Mapping[str, object]) -> None:
        match said:
            case {"reports": list() as raw}:
                for one in raw:
                    report = read_report(one, frozenset(self._targets))
                    if isinstance(report, str):
                        self._problems.append(report)
                    else:
                        self._reports[report.id].append(report)
                        self._news.put_nowait(report)
            case {"observation": dict() as facts, "node": str() as node}:
                self._observations.append(NodeObservation(node=node, facts=facts))
            case {"verdict": dict() as verdict}:
                self._said = _Said(
                    state=RunState(str(verdict["state"])),
                    log=str(verdict["log"]),
                    problems=tuple(str(problem) for problem in verdict["problems"]),
                    verified_gone=verdict["verified_gone"] is True,
                    began=verdict.get("began") is not False,
                )

    async def _conclude(self) -> RunVerdict:
        """Turn what was heard into the verdict; without the supervisor's own, end what it left first."""
        said = self._said or _Said(verified_gone=await self._execution.clear(self.run_id))
        self._problems += said.problems
        with suppress(TimeoutError):
            complaint = await asyncio.wait_for(self._complaints, 5.0)
            if self._said is None:
                self._problems.append(f"the supervisor ended without a verdict: {complaint}")
        if said.state is RunState.LOST:
            self._reports.clear()
            self._observations.clear()
        folded = tuple(fold(target, self._reports[target]) for target in self._targets)
        odd = [f"{report.id}: {flag}" for report in folded for flag in report.flags]
        return RunVerdict(
            state=said.state,
            reports=folded,
            observation=tuple(self._observations),
            log=said.log,
            started_at=self._started_at,
            finished_at=self._execution.clock.now(),
            verified_gone=said.verified_gone,
            problem="; ".join(dict.fromkeys([*self._problems, *odd]))[:4000] or None,
            began=said.began,
        )

    async def _read_complaints(self) -> str:
        """Keep the end of what the supervisor prints outside the protocol, without secrets."""
        assert self._process.stderr is not None  # noqa: S101 - opened as a pipe by `Execution.start`
        kept = b""
        while chunk := await self._process.stderr.read(65536):
            kept = (kept + chunk)[-65536:]
        redactor = Redactor(self.request.secrets.values())
        return redactor.text(kept.decode(errors="replace")).strip()[-500:]


class Execution:
    """Starts runs and ends them all at its own end.

    `state_dir` keeps the records of runs, and their folders where `memory` has no room for them. Call
    `sweep_leftovers` with the same two before the first run.
    """

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        *,
        memory: Path = folders.MEMORY,
        boot_time: Callable[[], float] = boot_time,
    ) -> None:
        self.clock = clock
        self.boot_time = boot_time
        self._state_dir = state_dir.absolute()
        self._memory = memory
        self._running: set[RunHandle] = set()

    async def start(self, request: RunRequest) -> RunHandle:
        """Start a run and return its handle.

        Raises `RunRefusedError` for a request that no run may be started with, `OSError` when no process can be made;
        in both cases nothing was started.
        """
        checked(request)
        if folders.is_known(self._state_dir, request.run_id):
            raise RunRefusedError(f"run_id: {request.run_id} is another run's; give each run one of its own")
        for path in (request.playbook, request.playbooks / "ansible.cfg", request.inventory / "hosts.yml"):
            if not path.is_file():
                raise RunRefusedError(f"{path} is missing")
        # Made here, in the thread of the event loop, and never through a pool: the kernel's parent-death signal
        # is bound to the thread that creates the process, and a pool may end a thread at any moment.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-s",
            "-m",
            "reconciler.runs.supervisor",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=bare_environment(request.run_id),
            cwd="/",
            start_new_session=True,
            limit=wire.MAX_LINE,
        )
        spec = wire.Spec(
            request=request,
            state_dir=self._state_dir,
            memory=self._memory,
            parent=os.getpid(),
            permit_at=self.boot_time(),
        )
        if process.stdin is not None:
            process.stdin.write(wire.spec_line(spec))
        handle = RunHandle(request, process, self)
        self._running.add(handle)
        return handle

    def ended(self, handle: RunHandle) -> None:
        """Forget a run that has its verdict."""
        self._running.discard(handle)

    async def clear(self, run_id: str) -> bool:
        """End every process of a run whose supervisor gave no verdict; return whether none is left."""
        gone = await asyncio.to_thread(processes.sweep, run_id)
        if gone:
            # What cannot be removed now is swept at the next start; that nothing is left to act is true already.
            with suppress(OSError):
                await asyncio.to_thread(folders.forget, self._state_dir, run_id, self._memory)
        return gone

    async def aclose(self) -> None:
        """Cancel every run and return when each has its verdict."""
        running = list(self._running)
        for handle in running:
            handle.cancel()
        await asyncio.gather(*(handle.wait() for handle in running))


async def sweep_leftovers(state_dir: Path, *, memory: Path = folders.MEMORY) -> Leftovers:
    """End what runs of an earlier life left behind; called before the first run of this one.

    A run whose supervisor still lives is left alone while the process that asked for it lives too; otherwise it is
    ending itself, is given a moment for that, and is then ended.
    """
    swept, alive = [], []
    for record in await asyncio.to_thread(lambda: list(folders.records(state_dir))):
        orphaned = processes.start_mark(record.parent) != record.parent_mark or record.parent_mark is None
        if folders.is_held(state_dir, record.run_id) and not orphaned:
            continue
        await asyncio.to_thread(folders.wait_until_free, state_dir, record.run_id, _LEFTOVER_SECONDS)
        gone = await asyncio.to_thread(processes.sweep, record.run_id)
        if gone and not folders.is_held(state_dir, record.run_id):
            await asyncio.to_thread(folders.forget, state_dir, record.run_id, memory)
            swept.append(record.run_id)
        else:
            alive.append(record.run_id)
    return Leftovers(swept=tuple(swept), alive=tuple(alive))
