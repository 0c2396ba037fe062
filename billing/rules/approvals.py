"""When the recorded votes of persons are enough.

Pure. Owns the words of approvals and the one rule of how many persons they take; whose vote may count at all is the
doors' word, and what follows from one that was given belongs to each kind.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

#: Persons that an approval takes.
NEEDS = 2
#: A vote that nobody joined in this time counts no longer.
LASTS = timedelta(days=30)


class ApprovalKind(StrEnum):
    """What takes two persons."""

    SUSPEND_NOW = "SUSPEND_NOW"
    BREAKER_RELEASE = "BREAKER_RELEASE"
    DECOMMISSION = "DECOMMISSION"


class ApprovalState(StrEnum):
    """Where an approval is. `VOID`: what it was about is no longer so."""

    PENDING = "PENDING"
    GIVEN = "GIVEN"
    WITHDRAWN = "WITHDRAWN"
    EXPIRED = "EXPIRED"
    VOID = "VOID"


@dataclass(frozen=True, kw_only=True)
class SecondPerson:
    """The rule of the installation. `wait` null: two persons, always; else one person's vote is enough after it."""

    wait: timedelta | None = None

    def alone_at(self, asked_at: datetime) -> datetime | None:
        """Return when a request that is made now would count without a second person; null: never."""
        return asked_at + self.wait if self.wait is not None else None

    def enough(self, persons: Collection[str], alone_at: datetime | None, now: datetime) -> bool:
        """Return whether these persons' votes are enough at `now`.

        `alone_at` is what the request was made under; it counts only while the installation still allows it, so that
        going back to two persons takes effect at once.
        """
        if len(set(persons)) >= NEEDS:
            return True
        return bool(persons) and self.wait is not None and alone_at is not None and alone_at <= now
