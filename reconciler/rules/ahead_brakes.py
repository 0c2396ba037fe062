"""The brakes of a walk ahead: limits, windows and the breaker, as the guard would find them at each instant.

Pure. Owns counting who was admitted in the last day and who became eligible within the last hour; how many are too
many, and which times are open, is the guard's word.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from billing.rules.policy import Windows
from reconciler.rules import guard
from reconciler.rules.guard import Allowances, Limits
from reconciler.rules.windows import in_window, opens_at
from reconciler.rules.world import Climb

DAY = timedelta(hours=24)

#: Instant, account and policy.
Noted = tuple[datetime, int, str]


@dataclass(frozen=True, kw_only=True)
class Brakes:
    """What the guard holds climbs back by: limits, windows, the breaker, and what counts for them already."""

    fleet: Limits
    policies: Mapping[str, Limits] = field(default_factory=dict)
    windows: Mapping[str, Windows] = field(default_factory=dict)
    #: Who was admitted to larger effects in the last day, oldest first.
    recent: Sequence[Noted] = ()
    #: Who became eligible for larger effects within what counts as at once, oldest first.
    sudden: Sequence[Noted] = ()
    at_once: timedelta = timedelta(hours=1)
    #: Whether the breaker is open, and which accounts and uncovered servers two persons have released from it.
    breaker_open: bool = False
    released: frozenset[tuple[int, int | None]] = frozenset()


class Lately:
    """Accounts that were noted within a span, each counted once, in the fleet and by policy."""

    def __init__(self, span: timedelta, noted: Iterable[Noted]) -> None:
        self._span = span
        self._entries: deque[Noted] = deque()
        self._fleet: Counter[int] = Counter()
        self._of_policy: dict[str, Counter[int]] = {}
        for at, account_id, policy in noted:
            self.note(at, account_id, policy)

    def note(self, at: datetime, account_id: int, policy: str) -> None:
        """Count an account from now on; instants never go back."""
        self._entries.append((at, account_id, policy))
        self._fleet[account_id] += 1
        self._of_policy.setdefault(policy, Counter())[account_id] += 1

    def eases_at(self, now: datetime) -> datetime | None:
        """Return when the oldest of them counts no longer; always later than `now`."""
        self.let_go(now)
        return self._entries[0][0] + self._span if self._entries else None

    def number(self, policy: str | None = None) -> int:
        """Return how many accounts count, of the fleet (null) or of one policy."""
        return len(self._fleet) if policy is None else len(self._of_policy.get(policy, ()))

    def let_go(self, now: datetime) -> None:
        """Forget whom the span has passed."""
        while self._entries and self._entries[0][0] <= now - self._span:
            _, account_id, policy = self._entries.popleft()
            for counter in (self._fleet, self._of_policy[policy]):
                counter[account_id] -= 1
                if not counter[account_id]:
                    del counter[account_id]


class Applied:
    """The brakes during one walk."""

    def __init__(self, brakes: Brakes) -> None:
        self._brakes = brakes
        self._today = Lately(DAY, brakes.recent)
        self._sudden = Lately(brakes.at_once, brakes.sudden)
        self._open = brakes.breaker_open
        self._most_of_fleet = guard.most_at_once(brakes.fleet)
        self._most = {name: guard.most_at_once(limits) for name, limits in brakes.policies.items()}
        #: By policy and zone: since when its windows are known to be shut, and until when.
        self._shut: dict[tuple[str, str], tuple[datetime, datetime | None]] = {}

    def admit(self, at: datetime, climb: Climb) -> None:
        """Count one that was admitted to larger effects."""
        self._today.note(at, climb.account_id, climb.policy)

    def eases_at(self, now: datetime) -> datetime | None:
        """Return when a limit lets somebody pass again; always later than `now`."""
        return self._today.eases_at(now)

    def allowances(self, now: datetime) -> Allowances:
        """Return what is left of the limits for one pass."""
        self._today.let_go(now)
        own = {
            name: Limits(
                guard=limits.guard, accounts=limits.accounts, admitted_today=self._today.number(name)
            )
            for name, limits in self._brakes.policies.items()
        }
        fleet = self._brakes.fleet
        return Allowances(
            Limits(guard=fleet.guard, accounts=fleet.accounts, admitted_today=self._today.number()), own
        )

    def shut_until(self, climb: Climb, now: datetime) -> tuple[bool, datetime | None]:
        """Return whether the policy's windows keep this climb waiting, and until when if they ever open."""
        windows = guard.windows_of(climb, self._brakes.windows)
        if windows is None:
            return False, None
        key = climb.policy, windows.zone or climb.time_zone
        since, until = self._shut.get(key, (now, now))
        if not since <= now < (until or now):
            if in_window(windows, now, climb.time_zone):
                return False, None
            until = opens_at(windows, now, climb.time_zone)
            self._shut[key] = now, until
        return True, until

    def sees(self, at: datetime, climbs: Iterable[Climb]) -> None:
        """Take in who is eligible for larger effects for the first time; too many of them open the breaker."""
        for climb in climbs:
            if (climb.account_id, climb.server_id) not in self._brakes.released:
                self._sudden.note(at, climb.account_id, climb.policy)
        self._sudden.let_go(at)
        self._open = self._open or self._are_too_many()

    def holds(self, climb: Climb) -> bool:
        """Return whether the breaker holds this climb until two persons release it."""
        released = (climb.account_id, climb.server_id) in self._brakes.released
        return self._open and climb.larger and not released

    def _are_too_many(self) -> bool:
        if self._sudden.number() > self._most_of_fleet:
            return True
        return any(self._sudden.number(name) > most for name, most in self._most.items())
