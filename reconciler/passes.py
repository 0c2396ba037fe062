"""One pass, top to bottom: settle, ask Stripe again, plan, guard, admit, dispatch, remember.

Owns the order of the stations. Each is a module of its own; nothing here decides what an account deserves.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from tortoise.functions import Count

from billing import invoices
from billing.clock import Clock
from billing.models import Account, Invoice
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceStatus
from reconciler import standing, subjects, world
from reconciler.dispatch import Dispatcher
from reconciler.freshness import Freshness
from reconciler.inventory import Inventory
from reconciler.models import Admission, PlanSnapshot, ReconcilerState, Server
from reconciler.models import Step as StepRow
from reconciler.rules import guard, render
from reconciler.rules.plan import Plan, Step, propose
from reconciler.rules.terms import Mode, StepKind
from reconciler.rules.world import AccountView, Climb, World
from reconciler.subjects import Subject

log = structlog.get_logger(__name__)

#: Accounts looked at in one pass; the rest is still due in the next, which follows at once.
MAX_ACCOUNTS = 2000
#: Accounts asked of Stripe again in one pass.
MAX_REFETCHES = 50
SNAPSHOTS_KEPT = 200
DAY = timedelta(hours=24)

#: Asks Stripe about an account again and brings its mirror up to date; whatever goes wrong leaves it stale.
Refetch = Callable[[Account], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class PassResult:
    """What one pass did. `again` asks for another at once; `next_at` is when time alone may change something."""

    plan: Plan
    admitted: int
    again: bool
    next_at: datetime | None


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
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> PassResult:
        """Evaluate everything that is due and act on it as far as mode and guard allow."""
        async with self._one:
            return await self._run()

    async def look(self) -> tuple[Plan, render.Names]:
        """Return the plan as of now with the names to show it, changing and sending nothing."""
        due = await self._due()
        found = await subjects.load(due, self.policies(), self.clock.now())
        plan = await self._plan(found)
        return plan, await names(plan)

    async def _run(self) -> PassResult:
        mode = await self._effective_mode()
        now = self.clock.now()
        due = await self._due()
        await invoices.note_overdue(due, now=now)
        found = await self._settle(await subjects.load(due, self.policies(), now), mode, now)
        if mode is Mode.APPLY:
            found = await self._ask_again(found)
        plan = await self._plan(found, mode)
        admitted = await self._admit(plan, found) if mode is Mode.APPLY else 0
        if self.dispatcher is not None and mode is not Mode.OFF:
            self.dispatcher.submit(plan)
        await self._remember(plan, mode)
        return PassResult(
            plan=plan,
            admitted=admitted,
            again=admitted > 0 or len(due) == MAX_ACCOUNTS,
            next_at=await _next_at(now),
        )

    async def _effective_mode(self) -> Mode:
        """A database that never applied acts as `PLAN` until `apply --first` was answered."""
        state = await ReconcilerState.get(id=1)
        if self.mode is Mode.APPLY and state.first_apply_at is None:
            return Mode.PLAN
        return self.mode

    async def _due(self) -> list[int]:
        due = Account.filter(next_change_at__lte=self.clock.now()).order_by("next_change_at", "id")
        return [int(account_id) for account_id in await due.limit(MAX_ACCOUNTS).values_list("id", flat=True)]  # type: ignore[call-overload]

    async def _settle(self, found: Sequence[Subject], mode: Mode, now: datetime) -> list[Subject]:
        """Settle each account by itself: one that fails is logged, stays due and stops no other."""
        moved: list[int] = []
        for account_id, own in _by_account(found).items():
            try:
                await standing.settle(own, mode=mode, now=now)
                if any(_may_climb(subject) for subject in own):
                    moved.append(account_id)
            except Exception:
                log.exception("account.not_settled", account_id=account_id)
        return await subjects.load(moved, self.policies(), now)

    async def _ask_again(self, found: Sequence[Subject]) -> list[Subject]:
        """Ask Stripe again about those that could climb on facts that are too old; return them on the newest."""
        stale = await self._refetch_stale({subject.account.id for subject in found if _may_climb(subject)})
        if not stale:
            return list(found)
        others = [subject for subject in found if subject.account.id not in stale]
        return [*others, *await subjects.load(stale, self.policies(), self.clock.now())]

    async def _refetch_stale(self, account_ids: Iterable[int]) -> set[int]:
        if self.refetch is None:
            return set()
        stale = await self.freshness.stale(account_ids, self.clock.now())
        old = sorted(account_id for account_id, (code, _) in stale.items() if code == "FACTS_STALE")[
            :MAX_REFETCHES
        ]
        for account in await Account.filter(id__in=old):
            await self.refetch(account)
        return set(old)

    # -- planning -------------------------------------------------------------------------------------------------

    async def _plan(self, found: Sequence[Subject], mode: Mode | None = None) -> Plan:
        """Return the guarded plan; accounts whose guests would be restricted on old facts are asked about once."""
        mode = mode or await self._effective_mode()
        view = await self._world(found, mode)
        proposed = propose(view)
        if mode is Mode.APPLY:
            restricted = {step.account_id for step in proposed.steps if _restricts_guests(step)}
            if await self._refetch_stale(restricted):
                view = await self._world(found, mode)
                proposed = propose(view)
        return guard.guard(proposed, view, await self._circumstances())

    async def _world(self, found: Sequence[Subject], mode: Mode) -> World:
        now = self.clock.now()
        fleet = await world.load(self.inventory, now)
        climbing = [subject for subject in found if _may_climb(subject)]
        account_ids = {subject.account.id for subject in climbing} | fleet.account_ids
        stale = await self.freshness.stale(account_ids, now)
        return World(
            now=now,
            mode=mode,
            accounts=await _account_views(account_ids, stale),
            climbs=tuple([_climb(subject, stale, await _sites(subject)) for subject in climbing]),
            servers=fleet.servers,
            access=fleet.access,
            sites=fleet.sites,
        )

    async def _circumstances(self) -> guard.Circumstances:
        state = await ReconcilerState.get(id=1)
        policies = self.policies()
        paused = None
        if state.paused_at is not None:
            paused = f"paused by {state.paused_by}: {state.paused_reason}"
        return guard.Circumstances(
            facts_max_age=self.freshness.facts_max_age,
            paused=paused,
            safe_mode=state.safe_mode_reason if state.safe_mode_since else None,
            fleet=await self._limits(policies["standard"], None),
            policies={
                name: await self._limits(policy, name)
                for name, policy in policies.items()
                if name != "standard"
            },
            windows={name: policy.windows for name, policy in policies.items() if policy.windows},
        )

    async def _limits(self, policy: Policy, only: str | None) -> guard.Limits:
        """Return the limits of the fleet (`standard`) or of one policy's own accounts."""
        live = Account.filter(servers__retired_at=None, servers__id__isnull=False)
        admitted = Admission.filter(at__gt=self.clock.now() - DAY, larger=True)
        if only is not None:
            live, admitted = live.filter(policy=only), admitted.filter(policy=only)
        counted = await live.annotate(number=Count("id", distinct=True)).first().values("number")
        today = await admitted.distinct().values_list("account_id", flat=True)
        return guard.Limits(
            guard=policy.guard, accounts=int(counted["number"]) if counted else 0, admitted_today=len(today)
        )

    # -- acting ---------------------------------------------------------------------------------------------------

    async def _admit(self, plan: Plan, found: Sequence[Subject]) -> int:
        by_account = _by_account(found)
        admitted = 0
        for step in plan.steps:
            if step.kind is not StepKind.ADVANCE or step.held_back_by is not None or step.to_stage is None:
                continue
            own = by_account[step.account_id]
            subject = next(one for one in own if (one.server.id if one.server else None) == step.server_id)
            admitted += await standing.admit(
                subject, own, step.to_stage, plan_digest=plan.digest, now=self.clock.now()
            )
        return admitted

    async def _remember(self, plan: Plan, mode: Mode) -> None:
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
        await ReconcilerState.filter(id=1).update(last_pass_at=self.clock.now(), last_mode=mode)


async def names(plan: Plan) -> render.Names:
    """Return the external names and the dues that a plan is shown with."""
    accounts = {step.account_id for step in plan.steps}
    servers = {step.server_id for step in plan.steps if step.server_id is not None}
    owed = {invoice_id for step in plan.steps for invoice_id in step.invoice_ids}
    return render.Names(
        accounts=dict(await Account.filter(id__in=list(accounts)).values_list("id", "external_id")),
        servers=dict(await Server.filter(id__in=list(servers)).values_list("id", "external_id")),
        dues={
            invoice_id: (due, currency)
            for invoice_id, due, currency in await Invoice.filter(id__in=list(owed)).values_list(
                "id", "amount_due", "currency"
            )
        },
    )


def _by_account(found: Iterable[Subject]) -> Mapping[int, list[Subject]]:
    grouped: dict[int, list[Subject]] = defaultdict(list)
    for subject in found:
        grouped[subject.account.id].append(subject)
    return grouped


def _may_climb(subject: Subject) -> bool:
    return subject.eligibility.stage.rank > subject.admitted.rank


def _restricts_guests(step: Step) -> bool:
    return (
        step.kind.restricts
        and step.kind is not StepKind.ADVANCE
        and step.billing
        and step.held_back_by is None
    )


async def _account_views(
    account_ids: Iterable[int], stale: Mapping[int, tuple[str, str]]
) -> Mapping[int, AccountView]:
    ids = sorted(account_ids)
    overdue: dict[int, list[int]] = defaultdict(list)
    owed = Invoice.filter(account_id__in=ids, status=InvoiceStatus.OPEN, overdue_seen_at__isnull=False)
    for account_id, invoice_id in await owed.order_by("id").values_list("account_id", "id"):
        overdue[account_id].append(invoice_id)
    return {
        account.id: AccountView(
            id=account.id,
            external_id=account.external_id,
            facts_version=account.facts_version,
            invoice_ids=tuple(overdue[account.id]),
            stale=stale.get(account.id),
        )
        for account in await Account.filter(id__in=ids)
    }


def _climb(subject: Subject, stale: Mapping[int, tuple[str, str]], sites: frozenset[str]) -> Climb:
    eligibility = subject.eligibility
    debt, rung = eligibility.debt, subject.policy.at(eligibility.stage)
    since = debt.age_from + rung.after if debt and rung else subject.account.created_at
    return Climb(
        account_id=subject.account.id,
        server_id=subject.server.id if subject.server else None,
        policy=subject.policy.name,
        from_stage=subject.admitted,
        to_stage=eligibility.stage,
        eligible_since=since,
        reason=eligibility.reason,
        invoice_ids=debt.invoice_ids if debt else (),
        debt=debt.amount if debt else 0,
        currency=debt.currency if debt else subject.account.currency,
        time_zone=subject.account.time_zone,
        larger=standing.larger_effects(subject, eligibility.stage),
        stale=stale.get(subject.account.id),
        sites=sites,
    )


async def _sites(subject: Subject) -> frozenset[str]:
    if subject.server is not None:
        return frozenset({subject.server.site})
    live = Server.filter(account_id=subject.account.id, retired_at=None, free=False)
    return frozenset(str(site) for site in await live.distinct().values_list("site", flat=True))


async def _next_at(now: datetime) -> datetime | None:
    """Return when time alone may change something before the next fact or tick."""
    due = Account.filter(next_change_at__gt=now).order_by("next_change_at").limit(1)
    waiting = StepRow.filter(retry_at__gt=now).order_by("retry_at").limit(1)
    instants = [account.next_change_at for account in await due] + [step.retry_at for step in await waiting]
    return min((instant for instant in instants if instant is not None), default=None)
