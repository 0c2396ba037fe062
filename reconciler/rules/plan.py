"""The plan: every change that would close the gap between desired and observed, with its reason.

Pure. Owns what is proposed and in which order; what may happen now is the guard's word, doing it the dispatcher's.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from billing.rules.terms import HoldCause, Stage
from reconciler.rules import desired as wish
from reconciler.rules.terms import Mode, Power, StepKind, StepState
from reconciler.rules.world import AccessView, Climb, OpenStep, PassedOver, ServerView, SiteView, World


@dataclass(frozen=True, kw_only=True)
class Step:
    """One proposed change: an account admitted to a stage, one server changed, or one access role."""

    kind: StepKind
    state: StepState = StepState.PLANNED
    account_id: int
    server_id: int | None = None
    site: str | None = None
    node: str | None = None
    to_stage: Stage | None = None
    reason: str
    invoice_ids: tuple[int, ...] = ()
    #: A stable code of who holds it back, or why its server is skipped, and the sentence for people.
    held_back_by: str | None = None
    held_back_reason: str | None = None
    #: When what holds it back ends by itself; null when that is not known.
    held_back_until: datetime | None = None
    #: The facts of the account that it rests on; dispatch refuses it once they have moved.
    facts_version: int = 0
    #: Whether only money asks for it: the guard's billing rules apply to these alone.
    billing: bool = True
    #: Whether the restriction was in force once and came undone without us.
    drift: bool = False

    def hold_back(self, by: str, reason: str, until: datetime | None = None) -> "Step":
        """Return the step held back, keeping the first reason where there is one already."""
        if self.held_back_by is not None:
            return self
        return replace(
            self,
            state=StepState.HELD_BACK,
            held_back_by=by,
            held_back_reason=reason,
            held_back_until=until,
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All proposed changes of one pass in a stable order, bound to the facts by its digest."""

    at: datetime
    mode: Mode
    steps: tuple[Step, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the mode and all steps with the versions of their facts: the same facts, the same digest."""
        rows = [[str(value) for value in vars(step).values()] for step in self.steps]
        return hashlib.sha256(json.dumps([str(self.mode), rows]).encode()).hexdigest()


#: What comes back first, and what is taken in which order: access, backups, power; giving back: backups, power, access.
_ORDER = {
    kind: place
    for place, kind in enumerate(
        (
            StepKind.UNLOCK_BACKUPS,
            StepKind.START,
            StepKind.OPEN_ACCESS,
            StepKind.ADVANCE,
            StepKind.CLOSE_ACCESS,
            StepKind.LOCK_BACKUPS,
            StepKind.STOP,
        )
    )
}


def propose(world: World) -> Plan:
    """Return every change that facts, holds and readings ask for, before any guard has looked at it."""
    steps = [_advance(climb, world) for climb in world.climbs]
    access = [step for view in world.access if (step := _access_step(view, world))]
    closing = {(step.account_id, step.site) for step in access if _about_to_close(step)}
    closing |= {
        (view.account_id, view.site) for view in world.access if view.open_step and view.wanted_closed
    }
    steps += access
    for server in world.servers:
        for step in _server_steps(server, world):
            if step.kind.restricts and (server.account_id, server.site) in closing and step.billing:
                step = step.hold_back("ORDER", "access is closed first")  # noqa: PLW2901 - the same step, held back
            steps.append(step)
    steps += map(_skipped, world.passed_over)
    return Plan(at=world.now, mode=world.mode, steps=tuple(sorted(steps, key=_order(world.servers))))


def _order(servers: Iterable[ServerView]) -> "_Key":
    critical = {server.id for server in servers if server.critical}
    return _Key(critical)


@dataclass(frozen=True)
class _Key:
    """Sort key of steps: giving back first; critical servers come back first and are stopped last."""

    critical: set[int]

    def __call__(self, step: Step) -> tuple[int, int, int, str, int]:
        is_critical = step.server_id in self.critical
        precedence = int(is_critical) if step.kind.restricts else int(not is_critical)
        return _ORDER[step.kind], precedence, step.account_id, step.site or "", step.server_id or 0


def _about_to_close(step: Step) -> bool:
    """Whether an account's servers wait for this step; one that has to wait itself keeps nobody else waiting."""
    return step.kind is StepKind.CLOSE_ACCESS and step.held_back_by is None


def _advance(climb: Climb, world: World) -> Step:
    account = world.accounts[climb.account_id]
    return Step(
        kind=StepKind.ADVANCE,
        account_id=climb.account_id,
        server_id=climb.server_id,
        to_stage=climb.to_stage,
        reason=climb.reason,
        invoice_ids=climb.invoice_ids,
        facts_version=account.facts_version,
    )


def _skipped(server: PassedOver) -> Step:
    """Return the stop that is not proposed: it is listed so that nobody takes it for forgotten."""
    return Step(
        kind=StepKind.STOP,
        state=StepState.SKIPPED,
        account_id=server.account_id,
        server_id=server.server_id,
        site=server.site,
        node=server.node,
        reason=f"{server.stage} stops the servers of its account",
        held_back_by="FREE" if server.free else "EXEMPT",
        held_back_reason="it is free of charge and takes no billing hold"
        if server.free
        else "staff exempted it from billing holds",
        held_back_until=None if server.free else server.until,
    )


def _access_step(view: AccessView, world: World) -> Step | None:
    kind = StepKind.CLOSE_ACCESS if view.wanted_closed else StepKind.OPEN_ACCESS
    if view.wanted_closed == (view.record.role is not None) or not _is_listed(kind, view.open_step):
        return None
    account = world.accounts[view.account_id]
    step = Step(
        kind=kind,
        account_id=view.account_id,
        site=view.site,
        node=view.node,
        reason="the account is locked" if view.wanted_closed else "nothing closes the access any more",
        invoice_ids=account.invoice_ids if view.wanted_closed else (),
        facts_version=account.facts_version,
    )
    step = _retry_later(step, view.retry_at, world.now)
    if view.node is None:
        return step.hold_back("NODE_SILENT", f"no node of site {view.site} answers")
    return _mode_allows(_waits_for(view.open_step, step), world)


def _server_steps(server: ServerView, world: World) -> list[Step]:
    """Return the step that is next for a server, giving back before taking, and all that is owed to it and waits."""
    candidates = [*_give_back(server), *_restrict(server)]
    prepared = [
        _place(kind, reason, server, world)
        for kind, reason in candidates
        if _is_listed(kind, server.open_step)
    ]
    ready = [step for step in prepared if step.held_back_by is None]
    owed = [step for step in prepared if step.held_back_by is not None and not step.kind.restricts]
    return [*ready[:1], *owed] or prepared[:1]


def _is_listed(kind: StepKind, beside: OpenStep | None) -> bool:
    """Return whether a step is listed beside one that is open: what is owed is, unless giving back is under way."""
    return beside is None or (not kind.restricts and (beside.unknown or beside.kind.restricts))


def _waits_for(beside: OpenStep | None, step: Step) -> Step:
    """Return the step behind the one that is open: never two at once."""
    if beside is None:
        return step
    began = f"{beside.since:%Y-%m-%d %H:%M} UTC"
    if beside.unknown:
        told = f"how {beside.kind} of {began} ended is not known: that is read first"
        return step.hold_back("STEP_UNKNOWN", told)
    return step.hold_back("STEP_UNDER_WAY", f"{beside.kind} is under way since {began} and runs to its end")


def _give_back(server: ServerView) -> list[tuple[StepKind, str]]:
    wanted = wish.desired(server.holds)
    steps = []
    if server.record.backups_locked and not wanted.lock_backups:
        steps.append((StepKind.UNLOCK_BACKUPS, "nothing locks its backups any more"))
    if not wanted.stop and (server.record.stopped_by_us or server.start_wanted):
        asked = server.start_wanted and not server.record.stopped_by_us
        steps.append((StepKind.START, "its owner asked for it" if asked else "no hold stops it any more"))
    return steps


def _restrict(server: ServerView) -> list[tuple[StepKind, str]]:
    wanted = wish.desired(server.holds)
    if server.missing:
        return []
    steps = []
    if wanted.lock_backups and not server.record.backups_locked:
        steps.append((StepKind.LOCK_BACKUPS, wanted.lock_backups[0].reason))
    if wanted.stop and _stop_is_due(server):
        steps.append((StepKind.STOP, wanted.stop[0].reason))
    return steps


def _stop_is_due(server: ServerView) -> bool:
    """A stop is due until it was recorded, and again whenever the guest is read running; unknown is not running."""
    if server.observed is None or server.observed.power is Power.UNKNOWN:
        return not server.record.stopped_by_us
    return server.observed.power is Power.RUNNING or not server.record.stopped_by_us


def _place(kind: StepKind, reason: str, server: ServerView, world: World) -> Step:
    account = world.accounts[server.account_id]
    wanted = wish.desired(server.holds)
    step = Step(
        kind=kind,
        account_id=server.account_id,
        server_id=server.id,
        site=server.site,
        node=(server.observed.node if server.observed and server.observed.node else server.node),
        reason=reason,
        invoice_ids=account.invoice_ids if kind.restricts else (),
        facts_version=account.facts_version,
        billing=_billing_alone(kind, wanted),
        drift=kind is StepKind.STOP and server.stop_done and server.record.stopped_by_us,
    )
    step = _retry_later(step, server.retry_at, world.now)
    step = _waits_for(server.open_step, _guest_allows(step, server, world.sites.get(server.site)))
    return _mode_allows(step, world)


def _billing_alone(kind: StepKind, wanted: wish.Desired) -> bool:
    asking = wanted.stop if kind is StepKind.STOP else wanted.lock_backups
    return all(hold.cause is HoldCause.BILLING for hold in asking)


def _retry_later(step: Step, retry_at: Mapping[StepKind, datetime], now: datetime) -> Step:
    again = retry_at.get(step.kind)
    if again is None or again <= now:
        return step
    return step.hold_back("RETRY", f"tried again at {again:%Y-%m-%d %H:%M:%S} UTC", again)


def _guest_allows(step: Step, server: ServerView, site: SiteView | None) -> Step:
    """Unknown is not running, not stopped and not absent: what was not read is not restricted."""
    if site is None:
        return step.hold_back("SITE_UNKNOWN", f"the inventory has no site {server.site}")
    if step.node is None:
        return step.hold_back("NOT_OBSERVED", "it has not been seen on any node yet")
    if step.node in site.silent_nodes:
        return step.hold_back("NODE_SILENT", f"node {step.node} does not answer")
    if server.missing:
        return step.hold_back("MISSING", "the platform has no such guest: a person looks at it")
    if not step.kind.restricts:
        return step
    if server.observed is None or server.observed.power is Power.UNKNOWN:
        return step.hold_back("UNKNOWN", "what the guest is doing is not known")
    if server.observed.busy is not None:
        return step.hold_back("BUSY", f"the platform is working on it ({server.observed.busy})")
    return step


def _mode_allows(step: Step, world: World) -> Step:
    if not step.kind.restricts:
        allowed = wish.may_give_back(world.mode)
        return step if allowed else step.hold_back("MODE_OFF", "the product is switched off")
    site = world.sites.get(step.site or "")
    if site is not None and world.mode is Mode.APPLY and site.mode is not Mode.APPLY:
        return step.hold_back("SITE_IN_PLAN", f"site {site.name} is in plan mode")
    if site is None or not wish.may_restrict(world.mode, site.mode):
        return step.hold_back("MODE_PLAN", "the product is in plan mode and only looks")
    return step
