"""What is ahead of the fleet: everybody who may change a stage, loaded in bulk and walked ahead in a shadow.

Reads only, in a fixed number of statements for each few thousand accounts. Writes nothing and tells nobody; where a
forecast is shown is the doors' business.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from billing.rules import policy_change, shadow
from billing.rules.policy import Policy
from billing.rules.terms import Stage
from reconciler import ahead_rows, breaker
from reconciler.ahead_rows import Debtor
from reconciler.models import Admission, ReconcilerState
from reconciler.rules import compare, forecast
from reconciler.rules.ahead_brakes import Brakes
from reconciler.rules.compare import Difference
from reconciler.rules.forecast import Ahead, Walker
from reconciler.rules.terms import Mode
from reconciler.survey import DAY, Counted


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
    #: What holds every climb until a person does something: a stable code.
    held_by: str | None
    breaker: breaker.Premises
    debtors: Sequence[Debtor]

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
        return {(one.account_id, one.server_id): (one.account, one.server) for one in self.debtors}

    def _present(self) -> dict[tuple[int, int | None], tuple[Stage, int]]:
        return {(one.account_id, one.server_id): (one.admitted, one.servers) for one in self.debtors}

    def _walk(self, policies: Mapping[str, Policy], afresh: frozenset[str]) -> list[Ahead]:
        quiet = {name: shadow.quiet(policy) for name, policy in policies.items()}
        walkers = [self._walker(one, quiet, afresh) for one in self.debtors]
        brakes = Brakes(
            fleet=self.counted.limits(policies["standard"], None),
            policies={
                name: self.counted.limits(policy, name)
                for name, policy in policies.items()
                if name != "standard"
            },
            windows={name: policy.windows for name, policy in policies.items() if policy.windows},
            recent=self.recent,
            sudden=self.breaker.sudden,
            at_once=breaker.AT_ONCE,
            breaker_open=self.breaker.open,
            released=self.breaker.released,
        )
        return forecast.forecast(walkers, brakes, now=self.now, until=self.until)

    def _walker(self, one: Debtor, policies: Mapping[str, Policy], afresh: frozenset[str]) -> Walker:
        facts = one.facts
        if (
            one.policy in afresh
        ):  # a shortened policy counts like the end of an override: a fresh notice first
            facts = replace(facts, notices_void_before=self.now)
        return Walker(
            account_id=one.account_id,
            server_id=one.server_id,
            policy=policies[one.policy],
            facts=facts,
            time_zone=one.time_zone,
            servers=one.servers,
            held_by=self.held_by,
            held_larger_by=_site_hold(one.sites, self.site_modes)
            or ("OBSERVATION_STALE" if one.unread else None),
            granted=one.granted,
            awaits=one.awaits,
        )


async def look(
    policies: Mapping[str, Policy],
    site_modes: Mapping[str, Mode],
    *,
    facts_max_age: timedelta,
    now: datetime,
    days: int,
) -> Outlook:
    """Return the outlook of the whole fleet for so many days from `now` on; older readings restrict nobody.

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
        breaker=await breaker.premises(now),
        debtors=await ahead_rows.read(policies, max_age=facts_max_age, now=now, until=until),
    )


def _site_hold(sites: frozenset[str], modes: Mapping[str, Mode]) -> str | None:
    """Return what keeps an account with servers on these sites from larger effects; the guard's own codes."""
    for name in sorted(sites):
        if name not in modes:
            return "SITE_UNKNOWN"
        if modes[name] is not Mode.APPLY:
            return "SITE_IN_PLAN"
    return None
