"""What the rules say of a situation, found out once for all who are in it and for as long as it stays so.

Pure. Owns remembering alone: every answer is the ladder's and the notices', through `billing.rules.shadow`.
"""

import bisect
from dataclasses import dataclass, field
from datetime import UTC, datetime

from billing.rules import shadow
from billing.rules.ladder import supported_since
from billing.rules.policy import Policy
from billing.rules.terms import Stage

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look at one shape of facts found, its instants told in the shape's own time."""

    facts: shadow.Facts
    stage: Stage
    #: The code of what the climb that follows waits for; null: time alone, or nothing follows.
    waiting_for: str | None
    supported_since: datetime | None
    forced: bool
    again: datetime | None


@dataclass
class _Spans:
    """Looks that changed nothing, each from the first instant that it is known for to the one of the next look."""

    ends: list[datetime] = field(default_factory=list)
    begins: list[datetime] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def find(self, at: datetime) -> Look | None:
        place = bisect.bisect_right(self.ends, at)
        return self.looks[place] if place < len(self.ends) and self.begins[place] <= at else None

    def keep(self, at: datetime, look: Look) -> None:
        end = look.again or _NEVER
        place = bisect.bisect_left(self.ends, end)
        if place < len(self.ends) and self.ends[place] == end:
            self.begins[place] = min(at, self.begins[place])
            return
        self.ends.insert(place, end)
        self.begins.insert(place, at)
        self.looks.insert(place, look)


class Looks:
    """What becomes of each situation, found out once for all who are in it."""

    def __init__(self) -> None:
        self._known: dict[shadow.Facts, shadow.Facts] = {}
        self._spans: dict[tuple[str, int], _Spans] = {}
        self._looks: dict[tuple[str, int, datetime], Look] = {}
        self._climbs: dict[tuple[int, Stage, datetime], shadow.Facts] = {}

    def one(self, facts: shadow.Facts) -> shadow.Facts:
        """Return the one value that stands for all that are equal to it."""
        return self._known.setdefault(facts, facts)

    def look(self, facts: shadow.Facts, policy: Policy, at: datetime) -> Look:
        """Settle facts of this class's own at an instant of their time."""
        key = policy.name, id(facts)
        spans = self._spans.get(key)
        found = (spans.find(at) if spans else None) or self._looks.get((*key, at))
        if found is not None:
            return found
        look = self._found(facts, policy, at)
        if look.facts is facts:  # as it was: it stays so until the ladder or a notice asks for another look
            self._spans.setdefault(key, _Spans()).keep(at, look)
        else:
            self._looks[*key, at] = look
        return look

    def _found(self, facts: shadow.Facts, policy: Policy, at: datetime) -> Look:
        settled, found = shadow.settled(facts, policy, at)
        return Look(
            facts=self.one(settled),
            stage=found.stage,
            waiting_for=found.next.waiting_for if found.next else None,
            supported_since=supported_since(settled, policy, found),
            forced=found.reason_code == "suspend_now",
            again=shadow.looks_again_at(settled, policy, found, at),
        )

    def climbed(self, facts: shadow.Facts, stage: Stage, at: datetime) -> shadow.Facts:
        """Return the facts after a climb at an instant of their time."""
        key = id(facts), stage, at
        if key not in self._climbs:
            self._climbs[key] = self.one(shadow.climbed(facts, stage, at))
        return self._climbs[key]
