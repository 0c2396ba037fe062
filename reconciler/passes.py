"""One pass, top to bottom: settle, give back, ask Stripe again, plan, guard, admit, dispatch, remember.

Owns the order of the stations. Each is a module of its own; nothing here decides what an account deserves.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from billing import invoices
from billing.clock import Clock
from billing.models import Account, Invoice
from billing.rules.approvals import SecondPerson
from billing.rules.policy import Policy
from reconciler import approved, breaker, holds, modes, payment_shield, policy_changes, standing, subjects
from reconciler.asking import Asking, Refetch
from reconciler.chunks import chunks
from reconciler.dispatch import Dispatcher
from reconciler.freshness import Freshness
from reconciler.inventory import Inventory
from reconciler.models import Hold, PlanSnapshot, ReconcilerState, Server
from reconciler.models import Step as StepRow
from reconciler.rules import guard, render
from reconciler.rules.plan import Plan, Step, propose
from reconciler.rules.terms import Mode, StepKind
from reconciler.rules.world import World
from reconciler.safety import Safety
from reconciler.subjects import Subject
from reconciler.survey import Survey, may_climb

log = structlog.get_logger(__name__)

#: Accounts looked at in one pass; the rest is still due in the next, which follows at once.
MAX_ACCOUNTS = 2000
SNAPSHOTS_KEPT = 200


@dataclass(frozen=True, kw_only=True)
class PassResult:
    """What one pass did. `again` asks for another at once; `next_at` is when time alone may change something."""

    plan: Plan
    admitted: int
    again: bool
    next_at: datetime | None
    #: Invoices that were seen overdue for the first time: what could pay them is due.
    newly_overdue: int = 0


@dataclass(frozen=True, kw_only=True)
class Glance:
    """The plan as of now with the names to show it, and who gets something back before it, by a pass still to come."""

    plan: Plan
    names: render.Names
    #: External ids of accounts and uncovered servers whose facts support a milder stage already.
    eased: tuple[str, ...]


@dataclass(kw_only=True)
class Passes:
    """Runs passes; never two at a time in a process."""

    clock: Clock
    mode: Mode
    policies: Callable[[], Mapping[str, Policy]]
    inventory: Inventory
    dispatcher: Dispatcher | None
    freshness: Freshness
    refetch: Refetch | None
    second_person: SecondPerson = field(default_factory=SecondPerson)
    #: Null: nobody doubts the database or the clock.
    safety: Safety | None = None
    #: Asks for the next pass.
    wake: Callable[[], None] = lambda: None
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._survey = Survey(inventory=self.inventory, freshness=self.freshness)
        self._asking = Asking(
            clock=self.clock,
            freshness=self.freshness,
            refetch=self.refetch,
            wake=self.wake,
        )

    async def run(self, *, hurry: asyncio.Event | None = None) -> PassResult:
        """Evaluate everything that is due and act on it as far as mode and guard allow.

        `hurry` is set where another pass is asked for meanwhile: then this one waits for Stripe no longer.
        """
        async with self._one:
            return await self._run(self.policies(), hurry)

    async def look(self) -> Glance:
        """Return the plan as of now, changing and sending nothing."""
        now, policies, mode = self.clock.now(), self.policies(), await modes.in_force(self.mode)
        found = await subjects.load(await self._due(now), policies, now)
        view = await self._survey.world(found, mode, now, policies=policies)
        plan = await self._guarded(propose(view), view, policies)
        eased = () if mode is Mode.OFF else tuple(one.name for one in found if standing.eases(one))
        return Glance(plan=plan, names=await names(plan), eased=eased)

    async def _run(self, policies: Mapping[str, Policy], hurry: asyncio.Event | None) -> PassResult:
        """One pass under the policies of one moment: files that change meanwhile are for the next."""
        mode, now = await modes.in_force(self.mode), self.clock.now()
        await modes.enter(mode, now)
        # Before anybody is judged by it: a ladder that became shorter voids the warnings that were given on the old.
        changed = await policy_changes.follow(policies, now)
        await approved.follow(self.second_person, policies, now)
        await holds.close_expired(now)
        due = await self._due(now)
        newly_overdue = await invoices.note_overdue(due, now=now)
        found = await self._settle(await subjects.load(due, policies, now), mode, policies, now)
        view = await self._survey.world(found, mode, now, policies=policies)
        proposed = propose(view)
        self._submit(proposed, mode, restricting=False)
        doubtful = _to_be_restricted(proposed, view) if mode is Mode.APPLY else ()
        if asked := await self._asking.about(doubtful, hurry=hurry):
            found = await self._again(found, asked, policies)
            view = await self._survey.world(found, mode, self.clock.now(), policies=policies)
            proposed = propose(view)
            self._submit(proposed, mode, restricting=False)
        if self.safety is not None:
            await self.safety.check()
        if mode is Mode.APPLY:
            await breaker.note(view.climbs, self.clock.now())
        plan = await self._guarded(proposed, view, policies, watching=mode is Mode.APPLY)
        await payment_shield.note(plan, self.clock.now())
        admitted = await self._admit(plan, found) if mode is Mode.APPLY else 0
        self._submit(plan, mode, restricting=True)
        await self._remember(plan)
        return PassResult(
            plan=plan,
            admitted=admitted,
            again=admitted > 0 or changed or len(due) == MAX_ACCOUNTS,
            next_at=await _next_at(now),
            newly_overdue=newly_overdue,
        )

    async def _due(self, now: datetime) -> list[int]:
        due = Account.filter(next_change_at__lte=now).order_by("next_change_at", "id")
        return [int(account_id) for account_id in await due.limit(MAX_ACCOUNTS).values_list("id", flat=True)]  # type: ignore[call-overload]

    async def _settle(
        self, found: Sequence[Subject], mode: Mode, policies: Mapping[str, Policy], now: datetime
    ) -> list[Subject]:
        """Settle each account by itself: one that fails is logged, stays due and stops no other."""
        climbing: list[int] = []
        for account_id, own in _by_account(found).items():
            try:
                settled = await standing.settle(own, mode=mode, now=now)
                if settled and any(may_climb(subject) for subject in own):
                    climbing.append(account_id)
            except Exception:
                log.exception("account.not_settled", account_id=account_id)
        return await subjects.load(climbing, policies, now)

    def _submit(self, plan: Plan, mode: Mode, *, restricting: bool) -> None:
        """Dispatch one half of a plan: what is given back goes before anything that could take its time."""
        if self.dispatcher is not None and mode is not Mode.OFF:
            half = tuple(step for step in plan.steps if step.kind.restricts is restricting)
            self.dispatcher.submit(half, plan.digest)

    async def _again(
        self, found: Sequence[Subject], asked: frozenset[int], policies: Mapping[str, Policy]
    ) -> list[Subject]:
        """Return the climbing accounts on the newest facts."""
        climbing = {subject.account.id for subject in found}
        others = [subject for subject in found if subject.account.id not in asked]
        return [*others, *await subjects.load(asked & climbing, policies, self.clock.now())]

    async def _guarded(
        self, proposed: Plan, view: World, policies: Mapping[str, Policy], *, watching: bool = False
    ) -> Plan:
        circumstances = await self._survey.circumstances(view, policies, view.now)
        tripped = guard.overload(circumstances)
        if watching and tripped and circumstances.breaker.open is None:
            await breaker.trip(tripped, self.clock.now())
        return guard.guard(proposed, view, circumstances)

    # -- acting ---------------------------------------------------------------------------------------------------

    async def _admit(self, plan: Plan, found: Sequence[Subject]) -> int:
        """Let climb who may, each by itself; of an account one subject a pass, since the others were read before it."""
        by_account = _by_account(found)
        admitted: set[int] = set()
        for step in plan.steps:
            if step.kind is not StepKind.ADVANCE or step.held_back_by is not None or step.to_stage is None:
                continue
            if step.account_id in admitted:
                continue
            own = by_account[step.account_id]
            subject = next(one for one in own if (one.server.id if one.server else None) == step.server_id)
            try:
                if await standing.admit(
                    subject, own, step.to_stage, plan_digest=plan.digest, now=self.clock.now()
                ):
                    admitted.add(step.account_id)
            except Exception:
                log.exception("account.not_admitted", account_id=step.account_id)
        return len(admitted)

    async def _remember(self, plan: Plan) -> None:
        """Keep the plan for the API, and the sign of life of the pass."""
        latest = await PlanSnapshot.all().order_by("-id").first()
        if latest is None or latest.digest != plan.digest:
            shown = await names(plan)
            row = await PlanSnapshot.create(
                digest=plan.digest,
                at=plan.at,
                mode=plan.mode,
                content=render.content(plan, shown),
                text=render.text(plan, shown),
            )
            await PlanSnapshot.filter(id__lte=row.id - SNAPSHOTS_KEPT).delete()
        await ReconcilerState.filter(id=1).update(last_pass_at=self.clock.now())


async def names(plan: Plan) -> render.Names:
    """Return the external names and the dues that a plan is shown with."""
    accounts: dict[int, str] = {}
    servers: dict[int, str] = {}
    dues: dict[int, tuple[int, str]] = {}
    for ids in chunks(step.account_id for step in plan.steps):
        accounts |= dict(await Account.filter(id__in=ids).values_list("id", "external_id"))
    for ids in chunks(step.server_id for step in plan.steps if step.server_id is not None):
        servers |= dict(await Server.filter(id__in=ids).values_list("id", "external_id"))
    for ids in chunks(invoice_id for step in plan.steps for invoice_id in step.invoice_ids):
        owed = await Invoice.filter(id__in=ids).values_list("id", "amount_due", "currency")
        dues |= {invoice_id: (due, currency) for invoice_id, due, currency in owed}
    return render.Names(accounts=accounts, servers=servers, dues=dues)


def _by_account(found: Iterable[Subject]) -> Mapping[int, list[Subject]]:
    grouped: dict[int, list[Subject]] = defaultdict(list)
    for subject in found:
        grouped[subject.account.id].append(subject)
    return grouped


def _to_be_restricted(proposed: Plan, view: World) -> set[int]:
    """Return the accounts that would climb, or whose guests would be touched for money, on the facts as they are."""
    climbing = {climb.account_id for climb in view.climbs}
    return climbing | {step.account_id for step in proposed.steps if _restricts_for_money(step)}


def _restricts_for_money(step: Step) -> bool:
    return (
        step.kind.restricts
        and step.kind is not StepKind.ADVANCE
        and step.billing
        and step.held_back_by is None
    )


async def _next_at(now: datetime) -> datetime | None:
    """Return when time alone may change something before the next fact or tick."""
    account = await Account.filter(next_change_at__gt=now).order_by("next_change_at").first()
    step = await StepRow.filter(retry_at__gt=now).order_by("retry_at").first()
    hold = await Hold.filter(lifted_at=None, expires_at__gt=now).order_by("expires_at").first()
    instants = [
        account.next_change_at if account else None,
        step.retry_at if step else None,
        hold.expires_at if hold else None,
    ]
    return min((instant for instant in instants if instant is not None), default=None)
