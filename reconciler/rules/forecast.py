"""Who reaches which stage when, if nothing gets paid: the whole fleet walked ahead in a shadow.

Pure. Owns the order of instants alone. The ladder and the notices decide who may climb, the guard who must wait, so
that a forecast differs from the passes to come only by what nobody knows yet.
"""

import bisect
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from billing.rules import shadow
from billing.rules.policy import Policy
from billing.rules.shapes import shape, timeless
from billing.rules.terms import Effect, Stage
from reconciler.rules.ahead_brakes import Applied, Brakes
from reconciler.rules.looks import Look, Looks
from reconciler.rules.world import Climb

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
    #: What its present stage may do of what the policy gives it; null: all of it.
    granted: frozenset[Effect] | None = None
    #: The stage with larger effects that it was seen eligible for already; null: none.
    awaits: Stage | None = None


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


def forecast(walkers: Sequence[Walker], brakes: Brakes, *, now: datetime, until: datetime) -> list[Ahead]:
    """Return every change of a stage from `now` to `until`, in the order of time, accounts and servers.

    Notices are taken as delivered and facts as fresh. Whoever is held for as long as nobody changes it is shown at the
    earliest instant, with the code of what holds it.
    """
    return _Walk(walkers, brakes, until).run(now)


class _Walk:
    """The state of one forecast: the facts of everybody as of the present instant, and who looks when."""

    def __init__(self, walkers: Sequence[Walker], brakes: Brakes, until: datetime) -> None:
        self._walkers, self._brakes, self._until = walkers, Applied(brakes), until
        self._bound = frozenset(brakes.windows)
        self._shapes = Looks()
        #: Of each walker, the shape of its facts and how much later than the shape's time the real one is.
        self._facts: list[shadow.Facts] = []
        self._later: list[timedelta] = []
        self._agenda: list[tuple[datetime, int]] = []
        #: Who could climb at this instant, and who waits for a limit, longest eligible first, by policy.
        self._ready: dict[int, Climb] = {}
        self._limited: dict[str, list[tuple[datetime, int]]] = {}
        self._climbs: dict[int, Climb] = {}
        self._waits: dict[int, str] = {}
        #: The stage with larger effects that each was seen eligible for.
        self._awaits = {index: one.awaits for index, one in enumerate(walkers) if one.awaits is not None}
        #: Who has not climbed since a policy came to do more at the present stage: what that stage may do.
        self._granted = {index: one.granted for index, one in enumerate(walkers) if one.granted is not None}
        #: By policy, two stages and what the first may do: whether the second does more.
        self._larger: dict[tuple[str, Stage, Stage, frozenset[Effect] | None], bool] = {}
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
        facts, is_told = timeless(walker.facts, walker.policy, now)
        if facts.notices and not is_told:
            coming = shadow.eligible(facts, walker.policy, now).next
            self._note(index, coming.waiting_for if coming else None)
            facts, _ = timeless(shadow.delivered(facts, now), walker.policy, now)
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
        if any(self._limited.values()) and (eases := self._brakes.eases_at(at)):
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
        awaited = self._awaits.get(index)
        if awaited is not None and awaited.rank > seen.stage.rank:
            del self._awaits[index]  # held back by the ladder again: the next time is news to the breaker
        if seen.stage.rank > after.rank:
            self._climbs[index] = self._ready[index] = self._climb(index, seen, after)
        else:
            self._note(index, seen.waiting_for)
        if seen.again is not None and seen.again + later <= self._until:
            heapq.heappush(self._agenda, (seen.again + later, index))

    def _climb(self, index: int, seen: Look, present: Stage) -> Climb:
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
            larger=self._does_more(index, present, seen.stage),
            stale=None,
            sites=frozenset(),
            forced=seen.forced,
        )

    def _does_more(self, index: int, present: Stage, stage: Stage) -> bool:
        policy, granted = self._walkers[index].policy, self._granted.get(index)
        key = policy.name, present, stage, granted
        if key not in self._larger:
            done = policy.effects_at(present)
            self._larger[key] = bool(policy.effects_at(stage) - (done if granted is None else done & granted))
        return self._larger[key]

    def _pass(self, at: datetime) -> list[int]:
        """Admit whom the guard lets; return them, since they may climb on at once."""
        ready, self._ready = self._ready, {}
        bound = {index: climb for index, climb in ready.items() if self._asks_the_guard(climb)}
        admitted = [index for index in ready if index not in bound]
        if bound or any(self._limited.values()):
            self._watch(bound, at)
            admitted += self._guarded(bound, at)
        for index in admitted:
            self._admit(index, at)
        return admitted

    def _asks_the_guard(self, climb: Climb) -> bool:
        return climb.larger or (climb.to_stage is Stage.SUSPENDED and climb.policy in self._bound)

    def _watch(self, climbs: Mapping[int, Climb], at: datetime) -> None:
        """Show the breaker who is eligible for larger effects for the first time."""
        news = [
            index
            for index, climb in climbs.items()
            if climb.larger and self._awaits.get(index) is not climb.to_stage
        ]
        for index in news:
            self._awaits[index] = climbs[index].to_stage
        if news:
            self._brakes.sees(at, [climbs[index] for index in news])

    def _guarded(self, climbs: Mapping[int, Climb], at: datetime) -> list[int]:
        """Return whom windows and limits let pass now, longest eligible first; the others are put where they wait."""
        allowances = self._brakes.allowances(at)
        open_now = {index: climb for index, climb in climbs.items() if not self._shut(index, climb, at)}
        for policy in [name for name, queue in self._limited.items() if queue]:
            open_now |= self._heads(policy, allowances.left(policy), at)
        admitted = []
        for index, climb in sorted(open_now.items(), key=_turn):
            if climb.larger and allowances.take(climb.policy):
                self._note(index, "BLAST_RADIUS")
                self._queue(index)
            else:  # whatever else holds it stays until a person changes it: it is shown at the earliest instant
                admitted.append(index)
        return admitted

    def _shut(self, index: int, climb: Climb, at: datetime) -> bool:
        """Return whether the policy's windows keep it waiting; it is looked at again when they open."""
        shut, until = self._brakes.shut_until(climb, at)
        if shut:
            self._note(index, "WINDOW")
            if until is not None:
                heapq.heappush(self._agenda, (until, index))
        return shut

    def _heads(self, policy: str, room: int, at: datetime) -> dict[int, Climb]:
        """Return who has waited longest for a limit, as many as there is room; nobody behind them can pass now."""
        queue, heads, waits = self._limited[policy], dict[int, Climb](), []
        for place in queue if room else ():
            index = place[1]
            if self._shut(index, self._climbs[index], at):
                waits.append(place)
            else:
                heads[index] = self._climbs[index]
            if len(heads) == room:
                break
        for place in waits:
            del queue[bisect.bisect_left(queue, place)]
        return heads

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
        breaker = "BREAKER" if self._brakes.holds(climb) else None
        held = walker.held_by or breaker or (walker.held_larger_by if climb.larger else None)
        waited = self._waits.pop(index, None)  # of this climb alone, whatever else holds it
        self._reaches(index, at, before, climb.to_stage, held or waited)
        self._granted.pop(index, None)
        self._forget(index)
        self._facts[index] = self._shapes.climbed(self._facts[index], climb.to_stage, at - self._later[index])
        if climb.larger:
            self._brakes.admit(at, climb)
        else:
            self._awaits.pop(index, None)

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


def _turn(waiting: tuple[int, Climb]) -> tuple[datetime, int, int]:
    """Return the order in which the guard lets climbs pass: who has been eligible longest goes first."""
    _, climb = waiting
    return climb.eligible_since, climb.account_id, climb.server_id or 0
