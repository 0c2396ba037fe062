"""The view of one pass: the world that it plans from and the circumstances that its guard judges by.

Reads only, in a fixed number of statements. Joins accounts that could climb with the servers that are not as they
should be.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tortoise.functions import Count

from billing.models import Account, Invoice
from billing.rules import ladder
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceStatus
from reconciler import breaker, passed_over, payment_shield, reach, standing, world
from reconciler.chunks import chunks
from reconciler.freshness import Freshness
from reconciler.inventory import Inventory
from reconciler.models import Admission, ReconcilerState
from reconciler.payment_shield import NONE, Reason, Shield
from reconciler.rules import guard
from reconciler.rules.terms import Mode
from reconciler.rules.world import AccountView, Climb, World
from reconciler.subjects import Subject

DAY = timedelta(hours=24)

Stale = Mapping[int, tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Looks at everything for one pass."""

    inventory: Inventory
    freshness: Freshness

    async def world(
        self, found: Sequence[Subject], mode: Mode, now: datetime, *, policies: Mapping[str, Policy]
    ) -> World:
        """Return what a plan is made from: who could climb, and which servers and access roles have a gap."""
        fleet = await world.load(self.inventory, now)
        climbing = [subject for subject in found if may_climb(subject)]
        account_ids = {subject.account.id for subject in climbing} | fleet.account_ids
        stale = await self.freshness.stale(account_ids, now)
        shields = await payment_shield.read(account_ids, now)
        reached = await self._reach(climbing, now)
        return World(
            now=now,
            mode=mode,
            accounts=await _account_views(account_ids, stale, shields),
            climbs=tuple(
                replace(_climb(subject, stale, reached), shielded=_shielded(subject, shields, now))
                for subject in climbing
            ),
            servers=fleet.servers,
            access=fleet.access,
            sites=fleet.sites,
            passed_over=await passed_over.load(climbing, policies=policies, now=now),
        )

    async def _reach(self, climbing: Sequence[Subject], now: datetime) -> "_Reach":
        return _Reach(
            sites=await reach.sites(subject.account.id for subject in climbing if subject.server is None),
            unread=await reach.unread(
                (subject.account.id for subject in climbing), max_age=self.freshness.facts_max_age, now=now
            ),
        )

    async def circumstances(
        self, view: World, policies: Mapping[str, Policy], now: datetime
    ) -> guard.Circumstances:
        """Return what the guard is told beside the plan; the fleet is counted only when somebody climbs by it."""
        state = await ReconcilerState.get(id=1)
        paused = None
        if state.paused_at is not None:
            paused = f"paused by {state.paused_by}: {state.paused_reason}"
        larger = any(climb.larger for climb in view.climbs)
        counted = await Counted.read(now) if larger else Counted({}, {})
        return guard.Circumstances(
            facts_max_age=self.freshness.facts_max_age,
            paused=paused,
            safe_mode=state.safe_mode_reason or "safe mode" if state.safe_mode_since else None,
            fleet=counted.limits(policies["standard"], None),
            policies={
                name: counted.limits(policy, name) for name, policy in policies.items() if name != "standard"
            },
            windows={name: policy.windows for name, policy in policies.items() if policy.windows},
            breaker=await breaker.read(view, now) if larger else guard.Breaker(),
        )


@dataclass(frozen=True)
class Counted:
    """By policy: the accounts with live servers, and those newly admitted to larger effects in the last day."""

    accounts: Mapping[str, int]
    admitted: Mapping[str, set[int]]

    @classmethod
    async def read(cls, now: datetime) -> "Counted":
        live = Account.filter(servers__retired_at=None, servers__id__isnull=False)
        rows = (
            await live.annotate(number=Count("id", distinct=True))
            .group_by("policy")
            .values("policy", "number")
        )
        admitted: dict[str, set[int]] = defaultdict(set)
        today = Admission.filter(at__gt=now - DAY, larger=True)
        for policy, account_id in await today.distinct().values_list("policy", "account_id"):
            admitted[policy].add(account_id)
        return cls({row["policy"]: int(row["number"]) for row in rows}, admitted)

    def limits(self, policy: Policy, only: str | None) -> guard.Limits:
        """Return the limits of the fleet (null) or of one policy's own accounts."""
        if only is not None:
            accounts, today = self.accounts.get(only, 0), self.admitted.get(only, set())
        else:
            accounts, today = sum(self.accounts.values()), set[int]().union(*self.admitted.values())
        return guard.Limits(guard=policy.guard, accounts=accounts, admitted_today=len(today))


@dataclass(frozen=True, kw_only=True)
class _Reach:
    """What the climbs would reach, by account."""

    sites: Mapping[int, Mapping[str, int]]
    #: The servers that were not read lately, each with a sentence, the oldest reading first.
    unread: Mapping[int, Mapping[int, str]]

    def sites_of(self, subject: Subject) -> frozenset[str]:
        """Return the sites of the live servers that a subject would be restricted on."""
        if subject.server is not None:
            return frozenset({subject.server.site})
        return frozenset(self.sites.get(subject.account.id, ()))

    def unread_of(self, subject: Subject) -> str | None:
        """Return which server that a subject would be restricted on was not read lately; null: all were."""
        own = self.unread.get(subject.account.id, {})
        return own.get(subject.server.id) if subject.server else next(iter(own.values()), None)


def may_climb(subject: Subject) -> bool:
    """Return whether facts and time let a subject stand higher than it does."""
    return subject.eligibility.stage.rank > subject.admitted.rank


async def _account_views(
    account_ids: Iterable[int], stale: Stale, shields: Mapping[int, Shield]
) -> Mapping[int, AccountView]:
    views: dict[int, AccountView] = {}
    for ids in chunks(account_ids):
        overdue: dict[int, list[int]] = defaultdict(list)
        owed = Invoice.filter(account_id__in=ids, status=InvoiceStatus.OPEN, overdue_seen_at__isnull=False)
        for account_id, invoice_id in await owed.order_by("id").values_list("account_id", "id"):
            overdue[account_id].append(invoice_id)
        for account in await Account.filter(id__in=ids):
            views[account.id] = AccountView(
                id=account.id,
                external_id=account.external_id,
                facts_version=account.facts_version,
                invoice_ids=tuple(overdue[account.id]),
                stale=stale.get(account.id),
                shielded=shields.get(account.id, NONE).of(overdue[account.id]),
            )
    return views


def _shielded(subject: Subject, shields: Mapping[int, Shield], now: datetime) -> Reason | None:
    return shields.get(subject.account.id, NONE).of_climb(subject, now)


def _climb(subject: Subject, stale: Stale, reached: _Reach) -> Climb:
    eligibility = subject.eligibility
    debt = eligibility.debt
    return Climb(
        account_id=subject.account.id,
        server_id=subject.server.id if subject.server else None,
        episode_id=subject.episode.id if subject.episode else None,
        policy=subject.policy.name,
        to_stage=eligibility.stage,
        eligible_since=ladder.supported_since(subject.facts, subject.policy, eligibility)
        or subject.account.created_at,
        reason=eligibility.reason,
        invoice_ids=debt.invoice_ids if debt else (),
        time_zone=subject.account.time_zone,
        larger=standing.larger_effects(subject, eligibility.stage),
        stale=stale.get(subject.account.id),
        unread=reached.unread_of(subject),
        sites=reached.sites_of(subject),
        forced=eligibility.reason_code == "suspend_now",
    )
