"""Dispatch: carries out the steps that the guard let through, one job per node and lane.

The only writer of runs. Before a restriction the guests are read deeply and what was found is committed with the step;
while the play runs, a permit is renewed every second and names the steps that became void.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from tortoise.exceptions import BaseORMException

from billing import work_queue
from billing.clock import Clock
from billing.models import Account
from reconciler import outcomes, readings, recheck, restore_record
from reconciler.actions import Actions
from reconciler.backoff import Backoff
from reconciler.commit import ACTOR, Commitment, Obstacle, Target, commit, obstacle
from reconciler.models import Run, Server, Step
from reconciler.readings import Reading
from reconciler.rules import plan as planning
from reconciler.rules.outcome import Outcome, Retry, TargetReport
from reconciler.rules.terms import Lane, StepKind
from reconciler.rules.world import NOTHING_TAKEN
from reconciler.runs.execution import RunHandle, RunVerdict
from reconciler.runs.request import Depth, RunRefusedError

log = structlog.get_logger(__name__)

#: A play gets at most this many targets; the rest waits for the next job of the node.
MAX_TARGETS = 200
PERMIT_SECONDS = 1.0
#: A node and lane rest for this long after a job of which nothing came.
IDLE_JOB_SECONDS = 5.0

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
    _jobs: dict[Target, "asyncio.Task[bool]"] = field(default_factory=dict)

    def submit(self, plan: planning.Plan) -> int:
        """Start a job for every node and lane that is free and has something due; return how many were started."""
        due: dict[Target, list[planning.Step]] = defaultdict(list)
        for step in plan.steps:
            if step.held_back_by is None and step.kind is not StepKind.ADVANCE and step.site and step.node:
                due[Target(step.site, step.node, outcomes.lane_of(step.kind))].append(step)
        free = [target for target in due if target not in self._jobs]
        for target in sorted(free, key=lambda one: one.lane is not Lane.RESTORE):
            self._start(target, due[target], plan.digest)
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
        """End every run and wait until what became of it is written down."""
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
            asyncio.get_running_loop().call_later(IDLE_JOB_SECONDS, self._free, target)

    def _free(self, target: Target) -> None:
        self._jobs.pop(target, None)
        self.wake()

    async def _job(self, target: Target, steps: Sequence[planning.Step], digest: str) -> bool:
        """Work the steps off, kind by kind; return whether anything was dispatched or written off."""
        before = await Step.filter(site=target.site, node=target.node).count()
        for kind in _ORDER:
            of_kind = [step for step in steps if step.kind is kind][:MAX_TARGETS]
            if not of_kind:
                continue
            prepare = self._prepare_restriction if kind.restricts else self._prepare_undoing
            committed = await prepare(target, of_kind, digest)
            if committed:
                await self._carry_out(target, kind, committed, digest)
        return await Step.filter(site=target.site, node=target.node).count() > before

    async def _prepare_restriction(
        self, target: Target, steps: Sequence[planning.Step], digest: str
    ) -> list[Step]:
        """Read the guests deeply, then commit each step together with what was found; nothing unknown passes."""
        servers = await _servers(steps)
        asked = await self._guests(steps, target.site)
        verdict = await self._run("observe", target, asked, digest, depth=Depth.DEEP)
        found = {report.id: report for report in verdict.reports} if verdict else {}
        committed = []
        for step, guest in zip(steps, asked, strict=True):
            report = found.get(str(guest["id"]))
            server = servers.get(step.server_id) if step.server_id is not None else None
            reading = Reading.of(report.after) if report is not None and report.after is not None else None
            problem = obstacle(server, reading, report)
            if reading is None or problem is not None:
                await self._refuse(target, step, digest, problem or Obstacle(message="it was not read"))
                continue
            row = await commit(
                target,
                step,
                digest,
                Commitment(
                    action=self.actions.for_kind(step.kind, target.site),
                    expect=readings.expectation(step.kind, reading),
                    found=reading,
                    server=server,
                ),
                self.clock.now(),
            )
            if row is not None:
                committed.append(row)
        return committed

    async def _prepare_undoing(
        self, target: Target, steps: Sequence[planning.Step], digest: str
    ) -> list[Step]:
        """Commit each undoing step with the restore record as it stands."""
        servers = await _servers(steps)
        of_servers = await restore_record.of_servers(servers)
        of_access = await restore_record.of_access({step.account_id for step in steps})
        committed = []
        for step in steps:
            if step.server_id is not None:
                record = of_servers.get(step.server_id, NOTHING_TAKEN)
                wanted = servers[step.server_id].start_wanted_at is not None
            else:
                record, wanted = of_access.get((step.account_id, target.site), NOTHING_TAKEN), False
            commitment = Commitment(
                action=self.actions.for_kind(step.kind, target.site),
                expect=readings.recorded(step.kind, record, start_wanted=wanted),
            )
            row = await commit(target, step, digest, commitment, self.clock.now())
            if row is not None:
                committed.append(row)
        return committed

    async def _refuse(self, target: Target, step: planning.Step, digest: str, problem: Obstacle) -> None:
        """Write down that a step was not begun, so that it is not tried again at once."""
        nothing = Commitment(action=self.actions.for_kind(step.kind, target.site), expect={})
        row = await commit(target, step, digest, nothing, self.clock.now())
        if row is None:
            return
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

    async def _carry_out(self, target: Target, kind: StepKind, steps: Sequence[Step], digest: str) -> None:
        guests = await self._guests(steps, target.site)
        verdict = await self._run(
            self.actions.for_kind(kind, target.site), target, guests, digest, steps=steps
        )
        if verdict is None:
            never_began = TargetReport(
                id="-", outcome=Outcome.REFUSED, retry=Retry.LATER, message="the run could not be started"
            )
            for step in steps:
                await self._note(step, never_began)
            return
        for step, report in zip(steps, verdict.reports, strict=True):
            await self._note(step, report)

    async def _note(self, step: Step, report: TargetReport) -> None:
        """Write an outcome down; the database may be away for a moment, an outcome is not lost for that."""
        for wait in (0.2, 1.0, 5.0, None):
            try:
                await outcomes.record(step, report, backoff=self.backoff, at=self.clock.now())
                return
            except (BaseORMException, OSError):
                if wait is None:
                    raise
                await asyncio.sleep(wait)

    async def _run(
        self,
        action: str,
        target: Target,
        guests: Sequence[Mapping[str, object]],
        digest: str,
        *,
        steps: Sequence[Step] = (),
        depth: Depth | None = None,
    ) -> RunVerdict | None:
        """Run an action and keep its row; null when it could not be started at all."""
        try:
            handle = await self.actions.start(
                action, target.site, nodes=(target.node,), guests=guests, depth=depth
            )
        except (RunRefusedError, OSError) as problem:
            log.error("run.refused", action=action, site=target.site, node=target.node, problem=str(problem))
            return None
        row = await Run.create(
            tag=handle.run_id,
            action=action,
            site=target.site,
            node=target.node,
            lane=target.lane,
            plan_digest=digest,
            requested_by=ACTOR,
            started_at=self.clock.now(),
        )
        await Step.filter(id__in=[step.id for step in steps]).update(run_id=row.id)
        renewal = asyncio.create_task(self._renew(handle, steps))
        try:
            verdict = await handle.wait()
        finally:
            renewal.cancel()
        await Run.filter(id=row.id).update(
            state=verdict.state,
            finished_at=self.clock.now(),
            verified_gone=verdict.verified_gone,
            log=verdict.log,
            problem=verdict.problem,
        )
        return verdict

    async def _renew(self, handle: RunHandle, steps: Sequence[Step]) -> None:
        """Renew the permit while the run lasts; when the facts cannot be read it ages, and the play stops acting."""
        while True:
            try:
                gone = await recheck.void(steps, self.clock.now())
                handle.permit(void=[step_name(step_id) for step_id in gone])
            except (BaseORMException, OSError) as problem:
                log.warning("permit.not_renewed", problem=type(problem).__name__)
            await asyncio.sleep(PERMIT_SECONDS)

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
    common: dict[str, object] = {"node": step.node, "generation": step.facts_version}
    if isinstance(step, Step):
        common |= {"step": step_name(step.id), "expect": dict(step.expect)}
    if step.server_id is None:
        return {"id": f"access-{step.account_id}", "kind": "pool", "pool": pool, **common}
    server = servers[step.server_id]
    return {"id": f"server-{server.id}", "kind": server.kind.lower(), "guest": server.guest, **common}


async def _servers(steps: Sequence[planning.Step | Step]) -> dict[int, Server]:
    ids = [step.server_id for step in steps if step.server_id is not None]
    return {server.id: server for server in await Server.filter(id__in=ids)}


def step_name(step_id: int) -> str:
    """Return how a step is named to a play."""
    return f"step-{step_id}"
