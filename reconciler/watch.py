"""Watching the sites: one shallow observation per site and cycle, and deep ones for steps of unknown outcome.

Owns when and what is observed; what a reading means is `reconciler.observe`'s and `reconciler.unknown`'s word.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from billing.clock import Clock
from billing.models import Account
from reconciler import observe, unknown
from reconciler.actions import Actions
from reconciler.backoff import Backoff
from reconciler.dispatch import guest_of
from reconciler.inventory import InventoryError, Site
from reconciler.models import Server, Step
from reconciler.observe import SiteSeen
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
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def cycle(self) -> None:
        """Observe every site once, each by itself: one that does not answer keeps no other waiting."""
        await asyncio.gather(*(self.site(site) for site in self.actions.inventory.sites))

    async def site(self, site: Site) -> None:
        """Observe one site and write down what was seen, or that nothing was."""
        if self._locks[site.name].locked():
            return
        async with self._locks[site.name]:
            await observe.apply(site, await self._look(site), self.clock.now())

    async def _look(self, site: Site) -> SiteSeen:
        try:
            handle = await self.actions.start(
                "observe", site.name, nodes=site.node_names, depth=Depth.SHALLOW
            )
        except (RunRefusedError, InventoryError, OSError) as problem:
            log.warning("site.not_observed", site=site.name, problem=str(problem))
            return SiteSeen(guests=(), silent_nodes=frozenset(), complete=False, problem=str(problem))
        verdict = await handle.wait()
        seen = observe.merge([one.facts for one in verdict.observation])
        if verdict.state is not RunState.FINISHED or not verdict.observation:
            problem_text = verdict.problem or seen.problem or "the observing play told nothing"
            return SiteSeen(guests=(), silent_nodes=frozenset(), complete=False, problem=problem_text)
        return seen

    async def resolve_unknown(self) -> int:
        """Read the guests of steps of unknown outcome and judge them; return how many steps were concluded."""
        waiting = await Step.filter(state=StepState.UNKNOWN).prefetch_related("run").order_by("id")
        by_node: dict[tuple[str, str], list[Step]] = defaultdict(list)
        for step in waiting:
            # A run that may still be alive is not judged: something of it could act after the reading.
            settled = step.run is None or step.run.verified_gone or step.run.state is RunState.LOST
            if settled and step.node is not None:
                by_node[step.site, step.node].append(step)
        concluded = 0
        for (site, node), steps in by_node.items():
            concluded += await self._judge(site, node, steps)
        return concluded

    async def _judge(self, site_name: str, node: str, steps: list[Step]) -> int:
        servers = {
            row.id: row
            for row in await Server.filter(id__in=[step.server_id for step in steps if step.server_id])
        }
        accounts = {row.id: row for row in await Account.filter(id__in=[step.account_id for step in steps])}
        try:
            site = self.actions.site(site_name)
            guests = [
                {
                    **guest_of(step, servers, site.pool_for(accounts[step.account_id].external_id)),
                    "id": f"step-{step.id}",
                }
                for step in steps
            ]
            handle = await self.actions.start(
                "observe", site_name, nodes=(node,), guests=guests, depth=Depth.DEEP
            )
        except (RunRefusedError, InventoryError, OSError) as problem:
            log.warning("unknown.not_read", site=site_name, node=node, problem=str(problem))
            return 0
        verdict = await handle.wait()
        found = {
            int(report.id.removeprefix("step-")): Reading.of(report.after)
            for report in verdict.reports
            if report.after is not None
        }
        settle = (timedelta(seconds=site.shutdown_grace_seconds) + SETTLE_MARGIN) / self.scale
        return await unknown.judge(steps, found, backoff=self.backoff, settle=settle, now=self.clock.now())
