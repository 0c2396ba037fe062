"""How many lasting connections there are: in this process, and of each principal.

Owns the counting alone.
"""

from collections import Counter
from dataclasses import dataclass, field

from api.auth import Principal
from api.graphql.errors import LIMIT_EXCEEDED, coded
from api.graphql.operations import TOO_MANY, BadRequestError
from billing.rules.words import phrase

#: Of one principal: a browser's tabs, or a handful of workers.
MOST_OF_ONE = 20
MOST = 2_000


@dataclass(kw_only=True)
class Connected:
    """Counts who is connected; each `enter` that returned needs one `leave`."""

    _of: Counter[Principal] = field(default_factory=Counter)

    def enter(self, principal: Principal) -> None:
        """Count one more connection; raises `BadRequestError` when there are too many."""
        if self._of[principal] >= MOST_OF_ONE or self._of.total() >= MOST:
            told = phrase(
                "There are too many connections; keep at most %(most)s open, or come back later.",
                most=MOST_OF_ONE,
            )
            raise BadRequestError(TOO_MANY, coded(told, LIMIT_EXCEEDED), {"Retry-After": "30"})
        self._of[principal] += 1

    @property
    def total(self) -> int:
        """How many there are."""
        return self._of.total()

    def leave(self, principal: Principal) -> None:
        """Count one connection less."""
        self._of[principal] -= 1
        if not self._of[principal]:
            del self._of[principal]
