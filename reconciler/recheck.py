"""The last look before a guest is touched: is this step still wanted, on the facts as they are now?

Reads only. Asked when a step is dispatched and again every second while it runs; a step that is not wanted is void.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tortoise.expressions import F

from billing.models import Account
from billing.rules.terms import HoldCause
from billing.stripe import inbox
from reconciler import access, identity
from reconciler.hold_effects import in_force
from reconciler.models import Hold, ReconcilerState, Server, Step
from reconciler.rules.terms import StepKind


async def void(steps: Sequence[Step], now: datetime) -> frozenset[int]:
    """Return the ids of the steps that nothing asks for any more, or whose newest facts are not settled yet."""
    if not steps:
        return frozenset()
    holding = await _Holding.read([step.server_id for step in steps if step.server_id is not None], now)
    gone = {step.id for step in steps if step.server_id is not None and not holding.wants(step)}
    restricting = [step for step in steps if step.kind.restricts]
    if restricting:
        of_billing = [step for step in restricting if not holding.wanted_by_others(step)]
        gone |= await _unsettled(restricting)
        gone |= await _in_motion(of_billing, now)
        gone |= await _braked(restricting, of_billing)
    gone |= await _access_not_wanted([step for step in steps if step.server_id is None], now)
    return frozenset(gone)


async def _braked(restricting: Iterable[Step], of_billing: Iterable[Step]) -> set[int]:
    """Return what a pause or a stranger's answer stops, and of what money alone asks for, what safe mode stops."""
    rows = list(restricting)
    strange = await identity.strangers({step.site for step in rows})
    elsewhere = {step.id for step in rows if step.site in strange}
    state = await ReconcilerState.get_or_none(id=1)
    if state is None:
        return elsewhere
    paused = {step.id for step in rows} if state.paused_at is not None else set()
    unsafe = {step.id for step in of_billing} if state.safe_mode_since is not None else set()
    return elsewhere | paused | unsafe


async def _unsettled(steps: Iterable[Step]) -> set[int]:
    """Return the steps whose account has facts that its holds do not follow yet."""
    rows = list(steps)
    ids = sorted({step.account_id for step in rows})
    settled = set(
        await Account.filter(id__in=ids, settled_version=F("facts_version")).values_list("id", flat=True)
    )
    return {step.id for step in rows if step.account_id not in settled}


async def _in_motion(steps: Sequence[Step], now: datetime) -> set[int]:
    """Return the steps of accounts with Stripe events that are not settled: the money may be among them."""
    if not steps:
        return set()
    moving = await inbox.pending_for_accounts({step.account_id for step in steps}, now=now)
    if await inbox.unattributed(now=now):
        return {step.id for step in steps}
    return {step.id for step in steps if step.account_id in moving}


@dataclass(frozen=True, kw_only=True)
class _Holding:
    """Which servers are stopped and locked by an open hold right now, and which of them are still ours to touch."""

    stopped: Mapping[int, frozenset[HoldCause]]
    locked: Mapping[int, frozenset[HoldCause]]
    live: frozenset[int]

    @classmethod
    async def read(cls, server_ids: Sequence[int], now: datetime) -> "_Holding":
        stopped: dict[int, frozenset[HoldCause]] = {}
        locked: dict[int, frozenset[HoldCause]] = {}
        for hold in await Hold.filter(in_force(now), server_id__in=list(server_ids)):
            if hold.stops_server:
                stopped[hold.server_id] = stopped.get(hold.server_id, frozenset()) | {hold.cause}
            if hold.locks_backups:
                locked[hold.server_id] = locked.get(hold.server_id, frozenset()) | {hold.cause}
        live = await Server.filter(id__in=list(server_ids), retired_at=None).values_list("id", flat=True)
        return cls(stopped=stopped, locked=locked, live=frozenset(live))  # type: ignore[arg-type]

    def wants(self, step: Step) -> bool:
        """Return whether the holds still ask for what the step does, or no longer forbid it."""
        return step.server_id in self.live and bool(self._causes(step)) is step.kind.restricts

    def wanted_by_others(self, step: Step) -> bool:
        """Return whether a cause that is not money asks for what the step does."""
        return bool(self._causes(step) - {HoldCause.BILLING})

    def _causes(self, step: Step) -> frozenset[HoldCause]:
        of_power = step.kind in {StepKind.STOP, StepKind.START}
        return (self.stopped if of_power else self.locked).get(step.server_id or 0, frozenset())


async def _access_not_wanted(steps: Sequence[Step], now: datetime) -> set[int]:
    """Return the access steps that the billing holds of their account on that site do not ask for any more."""
    if not steps:
        return set()
    closed = await access.wanted_closed(now, {step.account_id for step in steps})
    return {step.id for step in steps if ((step.account_id, step.site) in closed) is not step.kind.restricts}
