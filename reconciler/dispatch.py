"""Dispatch: carries out the steps that the guard let through, one job per node and lane.

Before a restriction the guests are read deeply and what was found is committed with the step. Whatever happens to a
job, each step that it committed gets an outcome: what was not read back is unknown.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from billing import work_queue
from billing.clock import Clock
from billing.models import Account
from reconciler import identity, marks, outcomes, readings, restore_record
from reconciler.actions import Actions
from reconciler.attended import Attendant, Errand, step_name
from reconciler.backoff import Backoff
from reconciler.commit import Commitment, Obstacle, Target, commit, obstacle
from reconciler.inventory import InventoryError
from reconciler.models import Server, Step
from reconciler.readings import Reading
from reconciler.rules import plan as planning
from reconciler.rules.outcome import Outcome, Retry, TargetReport
from reconciler.rules.terms import Lane, StepKind
from reconciler.rules.world import NOTHING_TAKEN
from reconciler.runs.execution import RunVerdict
from reconciler.runs.request import Depth, RunRefusedError

log = structlog.get_logger(__name__)

#: A play gets at most this many targets; the rest waits for the next job of the node.
MAX_TARGETS = 200
#: A shutdown takes up to the site's grace, so a job of stops is shorter: it must not hold its lane for hours.
MAX_STOPS = 50
#: A node and lane rest for this long after a job of which nothing came.
IDLE_JOB_SECONDS = 5.0
#: Tries at writing an outcome down before the step is noted as unknown instead.
OUTCOME_TRIES = 5
#: Why a run may not come about at all; nothing was started then.
_NOT_STARTED = (RunRefusedError, InventoryError, OSError)

#: Within a lane, what is done first. Giving back: backups, power, access; restricting: access, backups, power.
_ORDER = (
    StepKind.UNLOCK_BACKUPS,
    StepKind.START,
    StepKind.OPEN_ACCESS,
    StepKind.CLOSE_ACCESS,
    StepKind.LOCK_BACKUPS,
    StepKind.STOP,
)


@dataclass(kw_only=True)
class Dispatcher:
    """Runs jobs in this process. `wake` is called whenever a job ends, so that the next pass sees what it did."""

    clock: Clock
    actions: Actions
    backoff: Backoff
    wake: Callable[[], None]
    idle_job_seconds: float = IDLE_JOB_SECONDS
    attendant: Attendant | None = None
    _jobs: dict[Target, "asyncio.Task[bool]"] = field(default_factory=dict)
    _closing: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._attendant = self.attendant or Attendant(clock=self.clock, actions=self.actions)

    def submit(self, steps: Iterable[planning.Step], digest: str) -> int:
        """Start a job for every node and lane that is free and has something due; return how many were started.

        `digest` is that of the plan that the steps are of.
        """
        if self._closing:
            return 0
        due: dict[Target, list[planning.Step]] = defaultdict(list)
        for step in steps:
            if step.held_back_by is None and step.kind is not StepKind.ADVANCE and step.site and step.node:
                due[Target(step.site, step.node, outcomes.lane_of(step.kind))].append(step)
        free = [target for target in due if target not in self._jobs]
        for target in sorted(free, key=lambda one: one.lane is not Lane.RESTORE):
            self._start(target, due[target], digest)
        return len(free)

    @property
    def busy(self) -> bool:
        """Whether any job runs."""
        return any(not job.done() for job in self._jobs.values())

    async def idle(self) -> None:
        """Return when no job runs."""
        while running := [job for job in self._jobs.values() if not job.done()]:
            await asyncio.wait(running)

    async def aclose(self) -> None:
        """Begin nothing any more, end every run and wait until what became of it is written down."""
        self._closing = self._attendant.closing = True
        await self.actions.execution.aclose()
        await self.idle()

    def _start(self, target: Target, steps: Sequence[planning.Step], digest: str) -> None:
        job = asyncio.create_task(self._job(target, steps, digest), name=f"job {'/'.join(target)}")
        self._jobs[target] = job
        job.add_done_callback(lambda done: self._ended(target, done))

    def _ended(self, target: Target, job: "asyncio.Task[bool]") -> None:
        problem = None if job.cancelled() else job.exception()
        if problem is not None:
            log.error(
                "job.broke", site=target.site, node=target.node, lane=str(target.lane), exc_info=problem
            )
        if problem is None and not job.cancelled() and job.result():
            self._free(target)
        else:
            # Nothing came of it: the same job at once would find the same, and again, as fast as it can.
            asyncio.get_running_loop().call_later(self.idle_job_seconds, self._free, target)

    def _free(self, target: Target) -> None:
        self._jobs.pop(target, None)
        self.wake()

    async def _job(self, target: Target, steps: Sequence[planning.Step], digest: str) -> bool:
        """Work the steps off, kind by kind; return whether anything was dispatched or written off."""
        worked = False
        for kind in _ORDER:
            most = min(MAX_TARGETS, MAX_STOPS) if kind is StepKind.STOP else MAX_TARGETS
            of_kind = [step for step in steps if step.kind is kind][:most]
            if not of_kind or self._closing:
                continue
            if kind.restricts:
                committed, concluded = await self._prepare_restriction(target, of_kind, digest)
            else:
                committed, concluded = await self._prepare_undoing(target, of_kind, digest)
            worked = worked or bool(committed or concluded)
            if committed:
                await self._carry_out(target, kind, committed, digest)
        return worked

    async def _prepare_restriction(
        self, target: Target, steps: Sequence[planning.Step], digest: str
    ) -> tuple[list[Step], int]:
        """Read the guests deeply, then commit each step together with what was found; nothing unknown passes.

        Returns the committed steps, and how many others were written off as not begun.
        """
        servers = await _servers(steps)
        found = await self._read(target, steps, digest)
        who = await self._platform(target)
        records = await restore_record.of_servers(servers)
        committed, refused = [], 0
        for step in steps:
            report = found.get(_target_id(step))
            server = servers.get(step.server_id) if step.server_id is not None else None
            reading = Reading.of(report.after) if report is not None and report.after is not None else None
            problem = obstacle(server, reading, report, platform=who)
            record = records.get(step.server_id or 0, NOTHING_TAKEN)
            if reading is not None:
                problem = problem or marks.obstacle(step.kind, reading, record)
            if reading is None or problem is not None:
                missed = problem or Obstacle(message="it was not read")
                refused += await self._refuse(target, step, digest, missed)
                continue
            expect = readings.expectation(step.kind, reading)
            row = await self._commit(target, step, digest, expect, found=reading, server=server)
            committed += [row] if row else []
        return committed, refused

    async def _commit(
        self,
        target: Target,
        step: planning.Step,
        digest: str,
        expect: Mapping[str, object],
        *,
        found: Reading | None = None,
        server: Server | None = None,
    ) -> Step | None:
        """Commit one step; one that cannot be keeps those that were from nothing."""
        try:
            action = self.actions.for_kind(step.kind, target.site)
            commitment = Commitment(action=action, expect=expect, found=found, server=server)
            return await commit(target, step, digest, commitment, self.clock.now())
        except Exception:
            log.exception("step.not_committed", kind=str(step.kind), server=step.server_id, site=step.site)
            return None

    async def _read(
        self, target: Target, steps: Sequence[planning.Step], digest: str
    ) -> Mapping[str, TargetReport]:
        """Return what was read of each target; one that no run takes keeps no other from being read."""
        try:
            guests = await self._guests(steps, target.site)
            verdict = await self._attendant.run(
                Errand(action="observe", target=target, guests=guests, digest=digest, depth=Depth.DEEP)
            )
        except _NOT_STARTED as problem:
            if len(steps) > 1:
                half = len(steps) // 2
                first = await self._read(target, steps[:half], digest)
                return {**first, **await self._read(target, steps[half:], digest)}
            log.error("run.refused", site=target.site, node=target.node, problem=str(problem))
            return {}
        return {report.id: report for report in verdict.reports}

    async def _platform(self, target: Target) -> str | None:
        """Return who has to answer where a job works."""
        known = await identity.of_site(target.site)
        site = self.actions.inventory.site(target.site)
        return identity.expected(site, known, target.node) if site is not None else None

    async def _prepare_undoing(
        self, target: Target, steps: Sequence[planning.Step], digest: str
    ) -> tuple[list[Step], int]:
        """Commit each undoing step with the restore record as it stands.

        Returns the committed steps, and for how many others there is nothing to give back any more.
        """
        servers = await _servers(steps)
        of_servers = await restore_record.of_servers(servers)
        of_access = await restore_record.of_access({step.account_id for step in steps})
        committed, over = [], 0
        for step in steps:
            server = servers.get(step.server_id) if step.server_id is not None else None
            wanted = server is not None and server.start_wanted_at is not None
            if server is not None:
                record = of_servers.get(server.id, NOTHING_TAKEN)
            else:
                record = of_access.get((step.account_id, target.site), NOTHING_TAKEN)
            if not readings.to_give_back(step.kind, record, start_wanted=wanted):
                over += 1
                continue
            marker = server.marker if server else None
            expect = readings.recorded(step.kind, record, start_wanted=wanted, marker=marker)
            row = await self._commit(target, step, digest, expect)
            committed += [row] if row else []
        return committed, over

    async def _refuse(self, target: Target, step: planning.Step, digest: str, problem: Obstacle) -> bool:
        """Write down that a step was not begun, so that it is not tried again at once."""
        row = await self._commit(target, step, digest, {})
        if row is None:
            return False
        await self._note(
            row, TargetReport(id="-", outcome=Outcome.REFUSED, message=problem.message, retry=problem.retry)
        )
        if problem.work_item:
            await work_queue.open_item(
                problem.work_item,
                f"{problem.work_item}:{step.server_id}",
                at=self.clock.now(),
                title="another guest has this server's number",
                detail=problem.message,
                account_id=step.account_id,
                server_id=step.server_id,
            )
        return True

    async def _carry_out(self, target: Target, kind: StepKind, steps: Sequence[Step], digest: str) -> None:
        """Run the committed steps and note what became of each; whatever breaks leaves none of them open unseen.

        A target's report is written down when it comes, so that nobody waits for the slowest guest of the job; the
        verdict decides the others.
        """
        early = _Early(steps=steps, note=self._note_at_once)
        try:
            guests = await self._guests(steps, target.site)
            action = self.actions.for_kind(kind, target.site)
            verdict = await self._attendant.run(
                Errand(
                    action=action, target=target, guests=guests, digest=digest, steps=steps, told=early.told
                )
            )
        except _NOT_STARTED as problem:
            if len(steps) > 1 and not self._closing:
                # One target that no run takes must not keep the others of its node from what is theirs.
                half = len(steps) // 2
                await self._carry_out(target, kind, steps[:half], digest)
                await self._carry_out(target, kind, steps[half:], digest)
                return
            log.error("run.refused", site=target.site, node=target.node, problem=str(problem))
            reports = [_never_began(str(problem))] * len(steps)
        except Exception:
            reports = [_unknown("the job broke before the run had a verdict")] * len(steps)
            log.exception("run.broke", site=target.site, node=target.node, lane=str(target.lane))
        else:
            reports = _told_by(verdict)
        for step, report in zip(steps, reports, strict=True):
            if step.id not in early.written:
                await self._note(step, report)

    async def _note_at_once(self, step: Step, report: TargetReport) -> bool:
        """Write an outcome down while its run goes on, and wake the loop; return whether it was taken."""
        try:
            await self._attendant.written(
                lambda: outcomes.record(step, report, backoff=self.backoff, at=self.clock.now()),
                "outcome",
                tries=OUTCOME_TRIES,
            )
        except Exception:
            # The verdict's word on it comes, and is written with all patience.
            log.exception("outcome.not_written", step=step.id)
            return False
        self.wake()
        return True

    async def _note(self, step: Step, report: TargetReport) -> None:
        """Write an outcome down; one that the database does not take is noted as unknown, and so looked at again."""
        for outcome, tries in ((report, OUTCOME_TRIES), (_unknown("its outcome was not taken down"), 0)):
            try:
                await self._attendant.written(
                    lambda: outcomes.record(step, outcome, backoff=self.backoff, at=self.clock.now()),  # noqa: B023
                    "outcome",
                    tries=tries,
                )
                return
            except Exception:
                if self._closing:
                    raise
                log.exception("outcome.not_written", step=step.id)

    async def _guests(self, steps: Sequence[planning.Step | Step], site: str) -> list[dict[str, object]]:
        servers = await _servers(steps)
        owners = [step.account_id for step in steps if step.server_id is None]
        external = dict(await Account.filter(id__in=owners).values_list("id", "external_id"))
        pools = {account_id: self.actions.pool(site, str(name)) for account_id, name in external.items()}
        return [guest_of(step, servers, pools.get(step.account_id)) for step in steps]


def guest_of(
    step: planning.Step | Step, servers: Mapping[int, Server], pool: str | None
) -> dict[str, object]:
    """Return one target as plays take it: ids and what was observed, never a text that a customer wrote."""
    common: dict[str, object] = {"id": _target_id(step), "node": step.node, "generation": step.facts_version}
    if isinstance(step, Step):
        common |= {"step": step_name(step.id), "expect": dict(step.expect)}
    if step.server_id is None:
        return {**common, "kind": "pool", "pool": pool}
    server = servers[step.server_id]
    return {**common, "kind": server.kind.lower(), "guest": server.guest}


def _target_id(step: planning.Step | Step) -> str:
    return f"server-{step.server_id}" if step.server_id is not None else f"access-{step.account_id}"


@dataclass(kw_only=True)
class _Early:
    """The outcomes that were written before the verdict of their run."""

    steps: Sequence[Step]
    note: Callable[[Step, TargetReport], Awaitable[bool]]
    written: set[int] = field(default_factory=set)

    async def told(self, report: TargetReport) -> None:
        """Write a target's report down; an unknown waits, since nothing is judged before the run is over."""
        if report.outcome is Outcome.UNKNOWN:
            return
        for step in self.steps:
            if _target_id(step) == report.id and await self.note(step, report):
                self.written.add(step.id)


def _told_by(verdict: RunVerdict) -> list[TargetReport]:
    """Return what a verdict says of each target; of a run that may still be at work nothing is believed."""
    if not verdict.verified_gone:
        return [_unknown("something of the run may still be at work")] * len(verdict.reports)
    if not verdict.began:
        return [_never_began(verdict.problem or "no reason was given")] * len(verdict.reports)
    return list(verdict.reports)


def _never_began(problem: str) -> TargetReport:
    said = f"the run could not be started: {problem}"[:1000]
    return TargetReport(id="-", outcome=Outcome.REFUSED, retry=Retry.LATER, message=said)


def _unknown(message: str) -> TargetReport:
    return TargetReport(id="-", outcome=Outcome.UNKNOWN, message=message)


async def _servers(steps: Sequence[planning.Step | Step]) -> dict[int, Server]:
    ids = [step.server_id for step in steps if step.server_id is not None]
    return {server.id: server for server in await Server.filter(id__in=ids)}
