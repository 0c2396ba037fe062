"""What is ahead of the fleet: everybody who may change a stage, loaded in bulk and walked ahead in a shadow.

Reads only, in a fixed number of statements for each few thousand accounts. Writes nothing and tells nobody; where a
forecast is shown is the doors' business.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tortoise.expressions import Subquery

from billing.models import Episode, Invoice, Subscription
from billing.rules import policy_change, shadow
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceStatus, Stage
from reconciler import subjects
from reconciler.chunks import chunks
from reconciler.models import Admission, ReconcilerState, Server
from reconciler.rules import compare, forecast
from reconciler.rules.compare import Difference
from reconciler.rules.forecast import Ahead, Brakes, Walker
from reconciler.rules.terms import Mode
from reconciler.subjects import Subject
from reconciler.survey import DAY, Counted


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """One subject as it was read, before a policy is asked what becomes of it."""

    subject: Subject
    servers: int
    sites: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Everything that a forecast rests on, as of one instant."""

    now: datetime
    until: datetime
    policies: Mapping[str, Policy]
    #: The mode of each site of the inventory.
    site_modes: Mapping[str, Mode]
    counted: Counted
    recent: Sequence[tuple[datetime, int, str]]
    #: What holds every climb, and every climb to larger effects, until a person does something: a stable code.
    held_by: str | None
    held_larger_by: str | None
    standings: Sequence[_Standing]

    async def ahead(self) -> list[Ahead]:
        """Return every change of a stage to come if nothing gets paid; the walk leaves the loop free."""
        return await asyncio.to_thread(self._walk, self.policies, frozenset())

    async def differences(self, tried: Policy, *, instead_of: str) -> list[Difference]:
        """Return where accounts would stand otherwise if `tried` took the place of a policy now."""
        policies = {**self.policies, instead_of: replace(tried, name=instead_of)}
        afresh = policy_change.shortens(self.policies[instead_of], tried)
        today = await self.ahead()
        changed = await asyncio.to_thread(self._walk, policies, frozenset({instead_of} if afresh else ()))
        return compare.differences(today, changed, self._present(), now=self.now)

    def names(self) -> dict[tuple[int, int | None], tuple[str, str | None]]:
        """Return the external ids of everybody in it: of the account, and of the server that climbs alone."""
        return {
            (one.subject.account.id, one.subject.server.id if one.subject.server else None): (
                one.subject.account.external_id,
                one.subject.server.external_id if one.subject.server else None,
            )
            for one in self.standings
        }

    def _present(self) -> dict[tuple[int, int | None], tuple[Stage, int]]:
        return {
            (one.subject.account.id, one.subject.server.id if one.subject.server else None): (
                one.subject.admitted,
                one.servers,
            )
            for one in self.standings
        }

    def _walk(self, policies: Mapping[str, Policy], afresh: frozenset[str]) -> list[Ahead]:
        quiet = {name: shadow.quiet(policy) for name, policy in policies.items()}
        walkers = [self._walker(one, quiet, afresh) for one in self.standings]
        brakes = Brakes(
            fleet=self.counted.limits(policies["standard"], None),
            policies={
                name: self.counted.limits(policy, name)
                for name, policy in policies.items()
                if name != "standard"
            },
            windows={name: policy.windows for name, policy in policies.items() if policy.windows},
            recent=self.recent,
        )
        return forecast.forecast(walkers, brakes, now=self.now, until=self.until)

    def _walker(self, one: _Standing, policies: Mapping[str, Policy], afresh: frozenset[str]) -> Walker:
        subject, facts = one.subject, one.subject.facts
        name = subject.policy.name
        if name in afresh:  # a shortened policy counts like the end of an override: a fresh notice first
            facts = replace(facts, notices_void_before=self.now)
        return Walker(
            account_id=subject.account.id,
            server_id=subject.server.id if subject.server else None,
            policy=policies[name],
            facts=facts,
            time_zone=subject.account.time_zone,
            servers=one.servers,
            held_by=self.held_by,
            held_larger_by=self.held_larger_by or _site_hold(one.sites, self.site_modes),
        )


async def look(
    policies: Mapping[str, Policy], site_modes: Mapping[str, Mode], *, now: datetime, days: int
) -> Outlook:
    """Return the outlook of the whole fleet for so many days from `now` on.

    An account alone cannot be foreseen: the limits of the guard are shared by all.
    """
    until = now + timedelta(days=days)
    state = await ReconcilerState.get(id=1)
    held_by = "PAUSED" if state.paused_at else "SAFE_MODE" if state.safe_mode_since else None
    larger = Admission.filter(at__gt=now - DAY, larger=True).order_by("at", "id")
    return Outlook(
        now=now,
        until=until,
        policies=policies,
        site_modes=site_modes,
        counted=await Counted.read(now),
        recent=await larger.values_list("at", "account_id", "policy"),
        held_by=held_by,
        held_larger_by="BREAKER" if state.breaker_open_at else None,
        standings=await _standings(policies, now, until),
    )


async def _standings(policies: Mapping[str, Policy], now: datetime, until: datetime) -> list[_Standing]:
    # Uncovered servers are read under every policy: whether it does anything about them is asked of it later.
    climbing = {
        name: replace(policy, billing=replace(policy.billing, subscription_end_climbs=True))
        for name, policy in policies.items()
    }
    found: list[_Standing] = []
    for ids in chunks(await _candidates(now, until)):
        reach: dict[int, Counter[str]] = defaultdict(Counter)
        live = Server.filter(account_id__in=ids, retired_at=None, free=False)
        for account_id, site in await live.values_list("account_id", "site"):
            reach[account_id][site] += 1
        for subject in await subjects.load(ids, climbing, now):
            sites = Counter({subject.server.site: 1}) if subject.server else reach[subject.account.id]
            found.append(_Standing(subject=subject, servers=sites.total(), sites=frozenset(sites)))
    return found


async def _candidates(now: datetime, until: datetime) -> set[int]:
    """Return the accounts whose stage time alone may change: who owes by then, and whose episode runs."""
    owing = Invoice.filter(status=InvoiceStatus.OPEN, amount_due__gt=0, overdue_at__lte=until)
    ended = Subscription.filter(ended_at__lte=now).values("stripe_subscription_id")
    uncovered = Server.filter(stripe_subscription_id__in=Subquery(ended), free=False, retired_at=None)
    found: set[int] = set()
    for rows in (owing, Episode.filter(ended_at=None), uncovered):
        found.update(account_id for (account_id,) in await rows.distinct().values_list("account_id"))
    return found


def _site_hold(sites: frozenset[str], modes: Mapping[str, Mode]) -> str | None:
    """Return what keeps an account with servers on these sites from larger effects; the guard's own codes."""
    for name in sorted(sites):
        if name not in modes:
            return "SITE_UNKNOWN"
        if modes[name] is not Mode.APPLY:
            return "SITE_IN_PLAN"
    return None
