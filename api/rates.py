"""How often one caller may ask: a token bucket per caller, in memory.

Owns counting alone. Each process counts for itself, and forgets whoever it has not seen for the longest time first.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from api.models import Role

_MINUTE = timedelta(minutes=1)
#: One operation, less what instants of whole microseconds lose.
_WHOLE = 1 - 1e-4


@dataclass(frozen=True, kw_only=True)
class Allowances:
    """Operations a minute: of one principal, and of one address that sends no live token; and fields of a principal.

    Fields count as they are executed, twice what is asked for twice: an operation of many is as many small ones.
    """

    people: int = 600
    control: int = 6_000
    strangers: int = 600
    people_fields: int = 2_000_000
    control_fields: int = 20_000_000

    def of(self, role: Role) -> int:
        """Return the allowance of a principal of this role."""
        return self.control if role is Role.CONTROL else self.people

    def fields_of(self, role: Role) -> int:
        """Return how many fields a principal of this role may have executed."""
        return self.control_fields if role is Role.CONTROL else self.people_fields


@dataclass(kw_only=True)
class Buckets:
    """Remembers what each caller has left; a minute's allowance may be used at once and comes back evenly."""

    most_callers: int = 10_000
    _left: OrderedDict[Hashable, tuple[float, datetime]] = field(default_factory=OrderedDict)

    def take(self, caller: Hashable, allowance: int, now: datetime, *, cost: int = 1) -> timedelta | None:
        """Count an operation of this cost at `now`; return how long to wait when too little is left, else null.

        A refusal costs nothing: whoever waits that long is answered. `allowance` is what may be spent in a minute.
        """
        cost = min(cost, allowance)
        left = self._present(caller, allowance, now)
        wait = None if left >= cost * _WHOLE else (cost - left) / allowance * _MINUTE
        self._left[caller] = (left - cost if wait is None else left, now)
        self._left.move_to_end(caller)
        if len(self._left) > self.most_callers:
            self._left.popitem(last=False)
        return wait

    def left(self, caller: Hashable, allowance: int, now: datetime) -> int:
        """Return how much a caller has left at `now`; nothing is counted."""
        return int(self._present(caller, allowance, now) + (1 - _WHOLE))

    def _present(self, caller: Hashable, allowance: int, now: datetime) -> float:
        left, seen = self._left.get(caller, (float(allowance), now))
        # A clock that was set back gives nothing, and takes nothing.
        return min(float(allowance), left + max(now - seen, timedelta()) / _MINUTE * allowance)
