"""Actions that a person asks for by hand: looking, and giving back what nothing holds any more.

Owns what may be asked for and how it is carried out; restricting is not in its vocabulary. Refusing and auditing any
other wish is the door's work, because that must leave a trace whatever was asked.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tortoise.exceptions import IntegrityError
from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from billing import audit
from billing.clock import Clock
from billing.models import Account
from billing.refusal import RefusalCode, refusal
from billing.rules.terms import HoldCause
from reconciler import cancelling, readings, restore_record, retrying, stray
from reconciler.actions import Actions
from reconciler.hold_effects import in_force
from reconciler.inventory import InventoryError
from reconciler.models import Hold, Observation, Run, Server
from reconciler.observe import note_deep
from reconciler.readings import Reading
from reconciler.rules.terms import Lane, StepKind
from reconciler.rules.world import NOTHING_TAKEN
from reconciler.runs.execution import RunHandle
from reconciler.runs.request import Depth, RunRefusedError

#: What each undoing action gives back, and the hold that forbids it while it stands.
_UNDOES = {
    "start_guests": (StepKind.START, Q(stops_server=True)),
    "unlock_backups": (StepKind.UNLOCK_BACKUPS, Q(locks_backups=True)),
    "open_access": (StepKind.OPEN_ACCESS, Q(locks_account=True)),
}
#: What ends a hold that forbids it.
_ENDED_BY = {
    HoldCause.BILLING: "paying what is overdue or renewing the subscription ends it, or the override `EXEMPT`",
    HoldCause.CUSTOMER: "switching it on by `serverPowerSet` ends it",
    HoldCause.ABUSE: "`holdLift` ends it",
    HoldCause.MAINTENANCE: "`holdLift` ends it",
    HoldCause.ADMIN: "`holdLift` ends it",
}
#: What is answered where no restore record says what to give back.
_NOTHING_TAKEN = {
    StepKind.START: "there is no record of a stop of ours; `serverPowerSet` starts a server that somebody else stopped",
    StepKind.UNLOCK_BACKUPS: "there is no record of backups that we locked; look at them on the site",
    StepKind.OPEN_ACCESS: "there is no record of access that we closed; look at it on the site",
}


@dataclass(kw_only=True)
class ByHand:
    """Carries out what was asked for by hand. `wake` asks for a pass."""

    clock: Clock
    actions: Actions
    wake: Callable[[], None]
    _watching: set["asyncio.Task[None]"] = field(default_factory=set)

    def allowed(self) -> frozenset[str]:
        """Return the actions that may be asked for: `observe` and the undoing ones of the catalogue, never another."""
        known = {action.name for action in self.actions.catalogue.actions if not action.restricts}
        return frozenset(known & ({"observe"} | set(_UNDOES)))

    async def observe(self, server_id: int, *, actor: str) -> int:
        """Read one server's guest deeply and return the id of the run, which goes on by itself.

        Raises `RefusalError` when the server has no guest that could be read now.
        """
        server = await Server.get(id=server_id)
        seen = await Observation.get_or_none(server_id=server_id)
        node = seen.node if seen and seen.node else server.site_node
        if server.guest is None or node is None:
            raise refusal(RefusalCode.CONFLICT, "it was not seen on any node yet", "serverId")
        guest = {
            "id": f"server-{server.id}",
            "kind": server.kind.lower(),
            "guest": server.guest,
            "node": node,
        }
        try:
            handle = await self.actions.start(
                "observe", server.site, nodes=(node,), guests=[guest], depth=Depth.DEEP
            )
        except (RunRefusedError, InventoryError, OSError) as problem:
            raise refusal(RefusalCode.CONFLICT, f"it cannot be read now: {problem}", "serverId") from None
        try:
            run = await Run.create(
                tag=handle.run_id,
                action="observe",
                site=server.site,
                node=node,
                lane=Lane.OBSERVE,
                plan_digest="",
                requested_by=actor,
                started_at=self.clock.now(),
            )
        except IntegrityError:
            handle.cancel()
            raise refusal(RefusalCode.CONFLICT, f"node {node} is being read already", "serverId") from None
        watching = asyncio.create_task(self._conclude(handle, run, server))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)
        return int(run.id)

    async def give_back(self, action: str, server_id: int, *, reason: str, actor: str) -> None:
        """Let the next pass try an undoing action again at once.

        Raises `RefusalError` while a hold still asks for what it would undo (lifting that is another decision), and
        where nothing would follow: the inventory does not have the site, or nothing is on record to be given back.
        """
        kind, forbidding = _UNDOES[action]
        now = self.clock.now()
        server = await Server.get(id=server_id)
        hold = await Hold.filter(in_force(now), forbidding, server_id=server_id).first()
        if hold is not None:
            told = f"a hold of cause {hold.cause} keeps it so: {_ENDED_BY[hold.cause]}"
            raise refusal(RefusalCode.CONFLICT, told, "serverId")
        await self._refuse_idle_wish(kind, server)
        async with in_transaction():
            await Account.filter(id=server.account_id).update(next_change_at=now)
            owner = (
                Q(server_id=server_id)
                if kind is not StepKind.OPEN_ACCESS
                else Q(account_id=server.account_id)
            )
            await retrying.wait_no_longer(owner, kind=kind, site=server.site)
            await audit.record(
                "action.requested",
                ("Server", server_id),
                at=now,
                actor=actor,
                reason=reason,
                account_id=server.account_id,
                after={"action": action},
            )
        self.wake()

    async def _refuse_idle_wish(self, kind: StepKind, server: Server) -> None:
        if self.actions.inventory.site(server.site) is None:
            raise refusal(
                RefusalCode.CONFLICT,
                f"the inventory has no site {server.site}, so nothing can be done there: {stray.REMEDY}",
                "serverId",
            )
        if kind is StepKind.OPEN_ACCESS:
            of_access = await restore_record.of_access([server.account_id])
            record = of_access.get((server.account_id, server.site), NOTHING_TAKEN)
        else:
            record = (await restore_record.of_servers([server.id])).get(server.id, NOTHING_TAKEN)
        if not readings.to_give_back(kind, record, start_wanted=server.start_wanted_at is not None):
            raise refusal(RefusalCode.CONFLICT, _NOTHING_TAKEN[kind], "serverId")

    async def idle(self) -> None:
        """Return when every run that was asked for has ended and was written down."""
        while self._watching:
            await asyncio.wait(list(self._watching))

    async def _conclude(self, handle: RunHandle, run: Run, server: Server) -> None:
        obeying = asyncio.create_task(cancelling.obey(handle))
        try:
            verdict = await handle.wait()
        finally:
            obeying.cancel()
        now = self.clock.now()
        await Run.filter(id=run.id).update(
            state=verdict.state,
            finished_at=now,
            verified_gone=verdict.verified_gone,
            log=verdict.log,
            problem=verdict.problem,
        )
        for report in verdict.reports:
            if report.after is not None:
                await note_deep(server.id, Reading.of(report.after), now)
        self.wake()
