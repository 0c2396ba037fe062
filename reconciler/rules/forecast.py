"""Who reaches which stage when, if nothing gets paid: the whole fleet walked ahead in a shadow.

Pure. Owns the order of instants alone. The ladder and the notices decide who may climb, the guard who must wait, so
that a forecast differs from the passes to come only by what nobody knows yet.
"""

import bisect
import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from billing.rules import shadow
from billing.rules.ladder import supported_since
from billing.rules.policy import Policy, Windows
from billing.rules.shapes import shape
from billing.rules.terms import Stage
from reconciler.rules import guard
from reconciler.rules.guard import Circumstances, Limits
from reconciler.rules.plan import Step, propose
from reconciler.rules.terms import Mode
from reconciler.rules.world import AccountView, Climb, World

DAY = timedelta(hours=24)
#: Stands in the agenda for a limit that lets somebody pass again.
_LIMIT = -1


@dataclass(frozen=True, kw_only=True)
class Walker:
    """An account, or one uncovered server of it, with everything that moves it."""

    account_id: int
    #: Null: the account itself.
    server_id: int | None = None
    policy: Policy
    facts: shadow.Facts
    time_zone: str = "UTC"
    #: How many live servers its stage reaches.
    servers: int = 0
    #: What keeps it from climbing, or from climbing to larger effects, for as long as nobody changes it: a stable code.
    held_by: str | None = None
    held_larger_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """One change of a stage to come."""

    at: datetime
    account_id: int
    server_id: int | None
    from_stage: Stage
    to_stage: Stage
    servers: int
    #: What has to happen beside the passing of time, or what it had to wait for: the guard's code, or one of the
    #: ladder's (`notice_delivery`, `freeze`, `override`, `dispute`); null when time alone decides.
    waiting_for: str | None


@dataclass(frozen=True, kw_only=True)
class Brakes:
    """What the guard holds climbs back by: limits, windows, and who was admitted to larger effects in the last day."""

    fleet: Limits
    policies: Mapping[str, Limits] = field(default_factory=dict)
    windows: Mapping[str, Windows] = field(default_factory=dict)
    #: Instant, account and policy, oldest first.
    recent: Sequence[tuple[datetime, int, str]] = ()


def forecast(walkers: Sequence[Walker], brakes: Brakes, *, now: datetime, until: datetime) -> list[Ahead]:
    """Return every change of a stage from `now` to `until`, in the order of time, accounts and servers.

    Notices are taken as delivered and facts as fresh. Whoever is held for as long as nobody changes it is shown at the
    earliest instant, with the code of what holds it.
    """
    return _Walk(walkers, brakes, until).run(now)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What one look at one shape of facts found, its instants told in the shape's own time."""

    facts: shadow.Facts
    stage: Stage
    #: The code of what the climb that follows waits for; null: time alone, or nothing follows.
    waiting_for: str | None
    supported_since: datetime | None
    forced: bool
    again: datetime | None


class _Shapes:
    """What becomes of each situation, found out once for all who are in it."""

    def __init__(self) -> None:
        self._known: dict[shadow.Facts, shadow.Facts] = {}
        self._looks: dict[tuple[str, int, datetime], _Look] = {}
        self._climbs: dict[tuple[int, Stage, datetime], shadow.Facts] = {}

    def one(self, facts: shadow.Facts) -> shadow.Facts:
        """Return the one value that stands for all that are equal to it."""
        return self._known.setdefault(facts, facts)

    def look(self, facts: shadow.Facts, policy: Policy, at: datetime) -> _Look:
        """Settle facts of this class's own at an instant of their time."""
        key = policy.name, id(facts), at
        if key not in self._looks:
            settled, found = shadow.settled(facts, policy, at)
            self._looks[key] = _Look(
                facts=self.one(settled),
                stage=found.stage,
                waiting_for=found.next.waiting_for if found.next else None,
                supported_since=supported_since(settled, policy, found),
                forced=found.reason_code == "suspend_now",
                again=shadow.looks_again_at(settled, policy, found, at),
            )
        return self._looks[key]

    def climbed(self, facts: shadow.Facts, stage: Stage, at: datetime) -> shadow.Facts:
        """Return the facts after a climb at an instant of their time."""
        key = id(facts), stage, at
        if key not in self._climbs:
            self._climbs[key] = self.one(shadow.climbed(facts, stage, at))
        return self._climbs[key]


class _Walk:
    """The state of one forecast: the facts of everybody as of the present instant, and who looks when."""

    def __init__(self, walkers: Sequence[Walker], brakes: Brakes, until: datetime) -> None:
        self._walkers, self._brakes, self._until = walkers, brakes, until
        self._shapes = _Shapes()
        #: Of each walker, the shape of its facts and how much later than the shape's time the real one is.
        self._facts: list[shadow.Facts] = []
        self._later: list[timedelta] = []
        self._agenda: list[tuple[datetime, int]] = []
        #: Who could climb at this instant, and who waits for a limit, longest eligible first, by policy.
        self._ready: dict[int, Climb] = {}
        self._limited: dict[str, list[tuple[datetime, int]]] = {}
        self._climbs: dict[int, Climb] = {}
        self._waits: dict[int, str] = {}
        self._today = _Today(brakes.recent)
        self._rows: list[Ahead] = []

    def run(self, now: datetime) -> list[Ahead]:
        for index, walker in enumerate(self._walkers):
            self._enter(index, walker, now)
        heapq.heapify(self._agenda)
        while self._agenda and self._agenda[0][0] <= self._until:
            at, due = self._agenda[0][0], set()
            while self._agenda and self._agenda[0][0] == at:
                due.add(heapq.heappop(self._agenda)[1])
            self._instant(due - {_LIMIT}, at)
        return sorted(
            self._rows, key=lambda row: (row.at, row.account_id, row.server_id or 0, row.to_stage.rank)
        )

    def _enter(self, index: int, walker: Walker, now: datetime) -> None:
        facts = walker.facts
        if facts.notices:
            coming = shadow.eligible(facts, walker.policy, now).next
            self._note(index, coming.waiting_for if coming else None)
            facts = shadow.delivered(facts, now)
        told, later = shape(facts, walker.policy)
        self._facts.append(self._shapes.one(told))
        self._later.append(later)
        self._agenda.append((max(now, shadow.begins_at(facts) or now), index))

    def _instant(self, due: Iterable[int], at: datetime) -> None:
        """Pass after pass, as the loop does while somebody was admitted."""
        todo: Iterable[int] = due
        while True:
            for index in sorted(todo):
                self._look(index, at)
            todo = self._pass(at)
            if not todo:
                break
        if any(self._limited.values()) and (eases := self._today.eases_at(at)):
            heapq.heappush(self._agenda, (eases, _LIMIT))

    def _look(self, index: int, at: datetime) -> None:
        """Settle one walker, and note when it has to be looked at again or that it could climb now."""
        walker, later, before = self._walkers[index], self._later[index], shadow.admitted(self._facts[index])
        self._forget(index)
        seen = self._shapes.look(self._facts[index], walker.policy, at - later)
        self._facts[index] = seen.facts
        after = shadow.admitted(seen.facts)
        if after is not before:
            self._reaches(index, at, before, after, None)
        if seen.stage.rank > after.rank:
            self._climbs[index] = self._ready[index] = self._climb(index, seen, after)
        else:
            self._note(index, seen.waiting_for)
        if seen.again is not None and seen.again + later <= self._until:
            heapq.heappush(self._agenda, (seen.again + later, index))

    def _climb(self, index: int, seen: _Look, present: Stage) -> Climb:
        walker, since = self._walkers[index], seen.supported_since
        return Climb(
            account_id=walker.account_id,
            server_id=walker.server_id,
            policy=walker.policy.name,
            to_stage=seen.stage,
            eligible_since=since + self._later[index] if since is not None else self._until,
            reason="",
            invoice_ids=(),
            time_zone=walker.time_zone,
            larger=bool(walker.policy.effects_at(seen.stage) - walker.policy.effects_at(present)),
            stale=None,
            sites=frozenset(),
            forced=seen.forced,
        )

    def _pass(self, at: datetime) -> list[int]:
        """Admit whom the guard lets; return them, since they may climb on at once."""
        ready, self._ready = self._ready, {}
        free = [index for index, climb in ready.items() if not self._asks_the_guard(climb)]
        bound = {index: climb for index, climb in ready.items() if self._asks_the_guard(climb)}
        admitted = [*free, *self._guarded(bound | self._longest_waiting(), at)]
        for index in admitted:
            self._admit(index, at)
        return admitted

    def _asks_the_guard(self, climb: Climb) -> bool:
        return climb.larger or (climb.to_stage is Stage.SUSPENDED and climb.policy in self._brakes.windows)

    def _longest_waiting(self) -> dict[int, Climb]:
        """Return those who wait for a limit and could be let pass now: in one pass nobody behind them can."""
        fleet = self._brakes.fleet
        room = fleet.guard.max_new_per_pass.of(fleet.accounts)
        heads = [index for queue in self._limited.values() for _, index in queue[:room]]
        return {index: self._climbs[index] for index in heads}

    def _guarded(self, climbs: Mapping[int, Climb], at: datetime) -> list[int]:
        """Ask the guard about these climbs; whoever must wait is put where it waits."""
        if not climbs:
            return []
        by_subject = {(climb.account_id, climb.server_id): index for index, climb in climbs.items()}
        admitted = []
        for step in self._verdict(tuple(climbs.values()), at):
            index = by_subject[step.account_id, step.server_id]
            if step.held_back_by == "BLAST_RADIUS":
                self._note(index, step.held_back_by)
                self._queue(index)
            elif step.held_back_by == "WINDOW":
                self._note(index, step.held_back_by)
                if step.held_back_until is not None:
                    heapq.heappush(self._agenda, (step.held_back_until, index))
            else:  # whatever else holds it stays until a person changes it: it is shown at the earliest instant
                self._note(index, step.held_back_by)
                admitted.append(index)
        return admitted

    def _verdict(self, climbs: tuple[Climb, ...], at: datetime) -> Sequence[Step]:
        accounts = {climb.account_id for climb in climbs}
        world = World(
            now=at,
            mode=Mode.APPLY,
            accounts={key: AccountView(id=key, external_id="", facts_version=0) for key in accounts},
            climbs=climbs,
            servers=(),
            access=(),
            sites={},
        )
        return guard.guard(propose(world), world, self._today.circumstances(self._brakes, at)).steps

    def _queue(self, index: int) -> None:
        queue, spot, place = self._place(index)
        if spot == len(queue) or queue[spot] != place:
            queue.insert(spot, place)

    def _place(self, index: int) -> tuple[list[tuple[datetime, int]], int, tuple[datetime, int]]:
        """Return where one waits for a limit, or would: the queue of its policy, and its place in it."""
        climb = self._climbs[index]
        queue, place = self._limited.setdefault(climb.policy, []), (climb.eligible_since, index)
        return queue, bisect.bisect_left(queue, place), place

    def _forget(self, index: int) -> None:
        """Take back that somebody could climb: it is looked at anew."""
        if index in self._climbs:
            queue, spot, place = self._place(index)
            if spot < len(queue) and queue[spot] == place:
                del queue[spot]
            del self._climbs[index]

    def _admit(self, index: int, at: datetime) -> None:
        walker, climb = self._walkers[index], self._climbs[index]
        before = shadow.admitted(self._facts[index])
        held = walker.held_by or (walker.held_larger_by if climb.larger else None)
        self._reaches(index, at, before, climb.to_stage, held or self._waits.pop(index, None))
        self._forget(index)
        self._facts[index] = self._shapes.climbed(self._facts[index], climb.to_stage, at - self._later[index])
        if climb.larger:
            self._today.note(at, walker.account_id, climb.policy)

    def _note(self, index: int, code: str | None) -> None:
        if code is not None:
            self._waits[index] = code

    def _reaches(self, index: int, at: datetime, before: Stage, after: Stage, waiting: str | None) -> None:
        walker = self._walkers[index]
        self._rows.append(
            Ahead(
                at=at,
                account_id=walker.account_id,
                server_id=walker.server_id,
                from_stage=before,
                to_stage=after,
                servers=walker.servers,
                waiting_for=waiting,
            )
        )


class _Today:
    """Who was admitted to larger effects in the last 24 hours, as the limits count them: each account once."""

    def __init__(self, recent: Iterable[tuple[datetime, int, str]]) -> None:
        self._entries: deque[tuple[datetime, int, str]] = deque()
        self._fleet: Counter[int] = Counter()
        self._of_policy: dict[str, Counter[int]] = {}
        for at, account_id, policy in recent:
            self.note(at, account_id, policy)

    def note(self, at: datetime, account_id: int, policy: str) -> None:
        self._entries.append((at, account_id, policy))
        self._fleet[account_id] += 1
        self._of_policy.setdefault(policy, Counter())[account_id] += 1

    def eases_at(self, now: datetime) -> datetime | None:
        """Return when the oldest of them counts no longer; always later than `now`."""
        self._let_go(now)
        return self._entries[0][0] + DAY if self._entries else None

    def circumstances(self, brakes: Brakes, now: datetime) -> Circumstances:
        """Return what the guard judges by at an instant."""
        self._let_go(now)
        own = {
            name: replace(limits, admitted_today=len(self._of_policy.get(name, ())))
            for name, limits in brakes.policies.items()
        }
        return Circumstances(
            facts_max_age=DAY,
            fleet=replace(brakes.fleet, admitted_today=len(self._fleet)),
            policies=own,
            windows=brakes.windows,
        )

    def _let_go(self, now: datetime) -> None:
        while self._entries and self._entries[0][0] <= now - DAY:
            _, account_id, policy = self._entries.popleft()
            for counter in (self._fleet, self._of_policy[policy]):
                counter[account_id] -= 1
                if not counter[account_id]:
                    del counter[account_id]
