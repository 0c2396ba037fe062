"""The guard between plan and dispatch: fresh facts, strangers, weak tokens, blast radius, breaker, windows, pause.

Pure. It only ever holds back, and never a step that gives something back: restores pass all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from billing.rules.policy import GuardPolicy, Windows
from billing.rules.terms import Stage
from reconciler.rules.plan import Plan, Step
from reconciler.rules.terms import Mode, StepKind, StepState
from reconciler.rules.windows import in_window, opens_at
from reconciler.rules.world import Climb, ServerView, SiteView, World

#: Who climbs: an account and, for an uncovered server, the server.
_Subject = tuple[int, int | None]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many accounts of one policy (or of the fleet) may newly reach larger effects."""

    guard: GuardPolicy
    #: Accounts with live servers: what the percentages are of.
    accounts: int
    #: Accounts newly admitted to larger effects in the last 24 h.
    admitted_today: int


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """How the breaker stands, and what it counts."""

    #: Why it is open; null while it is closed.
    open: str | None = None
    #: Who may climb although it is open, and counts for nothing: two persons released it.
    released: frozenset[_Subject] = frozenset()
    #: By policy: the accounts that lately became eligible for larger effects and are not released.
    sudden: Mapping[str, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the guard is told beside the plan."""

    facts_max_age: timedelta
    #: Who paused enforcement and why; null when nobody did.
    paused: str | None = None
    safe_mode: str | None = None
    #: The fleet's own limits, and those of single policies that are tighter.
    fleet: Limits
    policies: Mapping[str, Limits] = field(default_factory=dict)
    windows: Mapping[str, Windows] = field(default_factory=dict)
    breaker: Breaker = Breaker()


def guard(plan: Plan, world: World, circumstances: Circumstances) -> Plan:
    """Return the plan with every step held back that must wait, each with a code and a sentence."""
    breaker = circumstances.breaker
    tripped = replace(breaker, open=breaker.open or overload(circumstances))
    circumstances = replace(circumstances, breaker=tripped)
    climbs = {(climb.account_id, climb.server_id): climb for climb in world.climbs}
    servers = {server.id: server for server in world.servers}
    steps = [_check(step, world, circumstances, climbs, servers) for step in plan.steps]
    return replace(plan, steps=tuple(_within_limits(steps, climbs, circumstances)))


def overload(circumstances: Circumstances) -> str | None:
    """Return why so many became eligible for larger effects at once that persons have to look first; null: so few."""
    sudden = circumstances.breaker.sudden
    of_fleet = _too_many(len(frozenset[int]().union(*sudden.values())), circumstances.fleet, "")
    of_policies = (
        _too_many(len(sudden.get(name, ())), limits, f" of policy {name}")
        for name, limits in sorted(circumstances.policies.items())
    )
    return of_fleet or next((found for found in of_policies if found), None)


def most_at_once(limits: Limits) -> int:
    """Return how many may become eligible for larger effects at once before the breaker opens."""
    return limits.guard.breaker_factor * limits.guard.max_new_per_pass.of(limits.accounts)


def _too_many(accounts: int, limits: Limits, whose: str) -> str | None:
    most = most_at_once(limits)
    if accounts <= most:
        return None
    return f"{accounts} accounts{whose} became eligible for larger effects at once; more than {most} is not believed"


def _check(
    step: Step,
    world: World,
    circumstances: Circumstances,
    climbs: Mapping[_Subject, Climb],
    servers: Mapping[int, ServerView],
) -> Step:
    if not step.kind.restricts or step.state is StepState.SKIPPED:
        return step
    step = _is_another_platform(step, world.sites.get(step.site or ""))
    if circumstances.safe_mode and (step.billing or step.kind is StepKind.ADVANCE):
        step = step.hold_back("SAFE_MODE", circumstances.safe_mode)
    if circumstances.paused:
        step = step.hold_back("PAUSED", circumstances.paused)
    if step.kind is StepKind.ADVANCE:
        return _check_climb(step, climbs[step.account_id, step.server_id], world, circumstances)
    return _check_guest_step(step, world, circumstances, servers)


def _check_climb(step: Step, climb: Climb, world: World, circumstances: Circumstances) -> Step:
    if world.mode is not Mode.APPLY:
        step = step.hold_back(f"MODE_{world.mode}", "only in mode apply is an account admitted to a stage")
    breaker = circumstances.breaker
    if breaker.open and climb.larger and (climb.account_id, climb.server_id) not in breaker.released:
        step = step.hold_back("BREAKER", breaker.open)
    if climb.stale is not None:
        step = step.hold_back(*climb.stale)
    if climb.larger:
        step = _sites_apply(step, climb, world)
        if climb.unread is not None:
            step = step.hold_back("OBSERVATION_STALE", climb.unread)
    windows = windows_of(climb, circumstances.windows)
    if windows and not in_window(windows, world.now, climb.time_zone):
        until = opens_at(windows, world.now, climb.time_zone)
        step = step.hold_back("WINDOW", "outside the times in which the policy suspends", until)
    # Last: what an unfinished payment holds back counts only where nothing else does.
    return step.hold_back(*climb.shielded) if climb.shielded is not None else step


def windows_of(climb: Climb, windows: Mapping[str, Windows]) -> Windows | None:
    """Return the times in which alone this climb may happen; null: any."""
    return windows.get(climb.policy) if climb.to_stage is Stage.SUSPENDED and not climb.forced else None


def _sites_apply(step: Step, climb: Climb, world: World) -> Step:
    for name in sorted(climb.sites):
        site = world.sites.get(name)
        if site is None:
            return step.hold_back("SITE_UNKNOWN", f"the inventory has no site {name}")
        if site.mode is not Mode.APPLY:
            return step.hold_back("SITE_IN_PLAN", f"site {name} is in plan mode")
        step = _token_is_weak(step, site)
    return step


def _is_another_platform(step: Step, site: SiteView | None) -> Step:
    """Nothing is taken, for whatever cause, from guests that merely have the numbers of ours."""
    if site is None or site.stranger is None:
        return step
    return step.hold_back("SITE_IDENTITY", site.stranger)


def _token_is_weak(step: Step, site: SiteView | None) -> Step:
    """Nothing is taken for money through a token that could destroy what it is to keep."""
    if site is None or not site.excess:
        return step
    return step.hold_back("TOKEN_TOO_STRONG", f"the token of site {site.name} holds {site.excess[0]}")


def _check_guest_step(
    step: Step, world: World, circumstances: Circumstances, servers: Mapping[int, ServerView]
) -> Step:
    stale = world.accounts[step.account_id].stale
    if step.billing and stale is not None:
        step = step.hold_back(*stale)
    if step.billing:
        step = _token_is_weak(step, world.sites.get(step.site or ""))
    server = servers.get(step.server_id) if step.server_id is not None else None
    observed = server.observed if server else None
    if step.server_id is not None and (
        observed is None or world.now - observed.observed_at > circumstances.facts_max_age
    ):
        step = step.hold_back("OBSERVATION_STALE", f"not read for more than {circumstances.facts_max_age}")
    shielded = world.accounts[step.account_id].shielded
    return step.hold_back(*shielded) if step.billing and shielded is not None else step


def _within_limits(
    steps: list[Step], climbs: Mapping[_Subject, Climb], circumstances: Circumstances
) -> list[Step]:
    """Hold back the climbs to larger effects that exceed a limit; who has been eligible longest goes first."""
    counted = [
        (climbs[step.account_id, step.server_id].eligible_since, index)
        for index, step in enumerate(steps)
        if step.kind is StepKind.ADVANCE
        and step.held_back_by is None
        and climbs[step.account_id, step.server_id].larger
    ]
    allowances = Allowances(circumstances.fleet, circumstances.policies)
    for _, index in sorted(counted):
        refusal = allowances.take(climbs[steps[index].account_id, steps[index].server_id].policy)
        if refusal:
            steps[index] = steps[index].hold_back("BLAST_RADIUS", refusal)
    return steps


class Allowances:
    """What is left of the limits in one pass: of the fleet's, and of those of single policies."""

    def __init__(self, fleet: Limits, policies: Mapping[str, Limits]) -> None:
        self._fleet = _Allowance(fleet)
        self._policies = {name: _Allowance(limits) for name, limits in policies.items()}

    def take(self, policy: str) -> str | None:
        """Take a place for one account of this policy; return why there is none, or null."""
        own = self._policies.get(policy)
        refusal = self._fleet.refusal() or (own.refusal() if own else None)
        if refusal is None:
            self._fleet.taken += 1
            if own:
                own.taken += 1
        return refusal

    def left(self, policy: str) -> int:
        """Return how many accounts of this policy could pass now, if they were all."""
        own = self._policies.get(policy)
        return min(self._fleet.left(), own.left() if own else self._fleet.left())


class _Allowance:
    """What is left of one set of limits in this pass."""

    def __init__(self, limits: Limits) -> None:
        self._per_pass = limits.guard.max_new_per_pass.of(limits.accounts)
        self._per_day = limits.guard.max_new_per_day.of(limits.accounts)
        self._today = limits.admitted_today
        self.taken = 0

    def left(self) -> int:
        return max(0, min(self._per_pass, self._per_day - self._today) - self.taken)

    def refusal(self) -> str | None:
        if self.taken >= self._per_pass:
            return f"{self._per_pass} accounts may newly reach larger effects in one pass"
        if self._today + self.taken >= self._per_day:
            return f"{self._per_day} accounts may newly reach larger effects in 24 hours"
        return None
