"""Watching the sites: one shallow observation per site and cycle, and deep ones for steps of unknown outcome.

Owns when and what is observed; what a reading means is `reconciler.observe`'s and `reconciler.unknown`'s word.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from billing.clock import Clock
from billing.models import Account
from billing.rules.policy import Limit
from reconciler import identity, marks, observe, outcomes, overview, stray, unknown
from reconciler.actions import Actions
from reconciler.backoff import Backoff
from reconciler.dispatch import guest_of
from reconciler.inventory import InventoryError, Platform, Site
from reconciler.models import Observation, Run, Server, Step
from reconciler.overview import SiteSeen
from reconciler.problem_log import ProblemLog
from reconciler.readings import Reading
from reconciler.rules.terms import RunState, StepState
from reconciler.runs.request import Depth, RunRefusedError

log = structlog.get_logger(__name__)

#: Beyond a site's own grace, how long a shutdown that we started may go on before its guest is judged.
SETTLE_MARGIN = timedelta(seconds=30)


@dataclass(kw_only=True)
class Watch:
    """Observes the sites of the inventory; never the same site twice at a time."""

    clock: Clock
    actions: Actions
    backoff: Backoff
    #: Divides the time that a task of an unknown step is given to settle; the demo runs in compressed time.
    scale: float = 1.0
    #: How many guests of a site may go missing at once before a person has to look.
    believed: Callable[[], Limit] = lambda: observe.BELIEVED
    #: The sites that the inventory does not have, as they were told of last; None: nobody looked yet.
    _strayed: frozenset[str] | None = None
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _problems: ProblemLog = field(default_factory=lambda: ProblemLog(event="site.problem"))

    async def cycle(self) -> None:
        """Observe every site once, each by itself: one that does not answer keeps no other waiting."""
        await self._tell_of_strays()
        await asyncio.gather(*(self.site(site) for site in self.actions.inventory.sites))
        await marks.follow(self.clock.now())

    async def _tell_of_strays(self) -> None:
        """Tell of servers on sites that the inventory does not have, once for each state of things."""
        found = await stray.servers_by_site({site.name for site in self.actions.inventory.sites})
        names = frozenset(found)
        if self._strayed != names:
            await stray.tell(found, now=self.clock.now())
            self._strayed = names

    async def site(self, site: Site) -> None:
        """Observe one site and write down what was seen, or that nothing was."""
        if self._locks[site.name].locked():
            return
        async with self._locks[site.name]:
            began = self.clock.now()
            await observe.apply(site, await self.look(site), began, believed=self.believed())

    async def look(self, site: Site) -> SiteSeen:
        """Read one site and return what was seen; nothing is written down."""
        try:
            handle = await self.actions.start(
                "observe", site.name, nodes=site.node_names, depth=Depth.SHALLOW
            )
        except (RunRefusedError, InventoryError, OSError) as problem:
            self._problems.note(site.name, str(problem), site=site.name)
            return _nothing_seen(str(problem))
        verdict = await handle.wait()
        told = {one.node: one.facts for one in verdict.observation}
        seen = overview.merge(list(told.values()))
        seen = replace(seen, identities=overview.identities(site, told))
        self._problems.note(site.name, verdict.problem or seen.problem, run_id=handle.run_id, site=site.name)
        if verdict.state is not RunState.FINISHED or not told:
            return _nothing_seen(verdict.problem or seen.problem or "the observing play told nothing")
        if overview.names_per_node(site) and (mute := frozenset(site.node_names) - told.keys()):
            # Each node speaks for itself alone: one that told nothing is not a node without guests.
            return replace(seen, silent_nodes=seen.silent_nodes | mute, complete=False)
        return seen

    async def resolve_unknown(self) -> int:
        """Read the guests of steps of unknown outcome and judge them; return how many steps were concluded."""
        waiting = await Step.filter(state=StepState.UNKNOWN).prefetch_related("run").order_by("id")
        by_node: dict[tuple[str, str], list[Step]] = defaultdict(list)
        for step in waiting:
            await outcomes.tell_of_waiting(step, self.clock.now())
            node = await self._node_of(step)
            if node is not None and await self._is_over(step.run):
                by_node[step.site, node].append(step)
        judged = await asyncio.gather(
            *(self._judge(site, node, steps) for (site, node), steps in by_node.items())
        )
        return sum(judged)

    async def _is_over(self, run: Run | None) -> bool:
        """Whether nothing of a run is left; one that may still be alive could act after the reading."""
        if run is None or run.verified_gone:
            return True
        if run.state is RunState.RUNNING or not await self.actions.execution.clear(run.tag):
            return False
        await Run.filter(id=run.id).update(verified_gone=True)
        return True

    async def _node_of(self, step: Step) -> str | None:
        """Return where to read the target of a step: where it was sent to, else where its guest was seen since."""
        try:
            site = self.actions.site(step.site)
        except RunRefusedError:
            return None
        if step.node is not None and site.node(step.node) is not None:
            return step.node
        if step.server_id is None:
            return next(iter(site.node_names), None)
        seen = await Observation.get_or_none(server_id=step.server_id)
        return seen.node if seen is not None and seen.node in site.node_names else None

    async def _judge(self, site_name: str, node: str, steps: Sequence[Step]) -> int:
        """Read the targets of some steps on one node and judge them; one that no run takes keeps no other waiting."""
        try:
            site = self.actions.site(site_name)
            guests = [await self._target(step, node) for step in steps]
            handle = await self.actions.start(
                "observe", site_name, nodes=(node,), guests=guests, depth=Depth.DEEP
            )
        except (RunRefusedError, InventoryError, OSError) as problem:
            if len(steps) > 1:
                return sum([await self._judge(site_name, node, [step]) for step in steps])
            log.warning("unknown.not_read", site=site_name, node=node, problem=str(problem))
            return 0
        verdict = await handle.wait()
        who = identity.expected(site, await identity.of_site(site_name), node)
        read = {
            int(report.id.removeprefix("step-")): Reading.of(report.after)
            for report in verdict.reports
            if report.after is not None
        }
        found = {step: reading for step, reading in read.items() if identity.may_be(who, reading.identity)}
        grace = timedelta(seconds=site.shutdown_grace_seconds) + SETTLE_MARGIN
        settling = unknown.Settling(
            task=grace / self.scale,
            call=unknown.CALL_SETTLE / self.scale,
            shows_tasks=site.platform is Platform.PROXMOX,
        )
        return await unknown.judge(
            steps, found, backoff=self.backoff, settling=settling, now=self.clock.now()
        )

    async def _target(self, step: Step, node: str) -> dict[str, object]:
        servers, pool = {}, None
        if step.server_id is not None:
            servers = {step.server_id: await Server.get(id=step.server_id)}
        else:
            account = await Account.get(id=step.account_id)
            pool = self.actions.pool(step.site, account.external_id)
        return {**guest_of(step, servers, pool), "id": f"step-{step.id}", "node": node}


def _nothing_seen(problem: str) -> SiteSeen:
    return SiteSeen(guests=(), silent_nodes=frozenset(), complete=False, problem=problem)
