"""What a notice may tell: the values that its template shows.

Owns their shapes alone. A customer's words stand here as they are; `billing.notice_text` makes them harmless and says
the rest in the language of the reader.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from billing.rules.terms import Effect, Stage


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Whom a notice speaks to, and how that reader writes amounts and instants."""

    name: str
    locale: str
    time_zone: str


@dataclass(frozen=True, kw_only=True)
class NamedInvoice:
    """One invoice that a notice names."""

    id: int = 0
    #: Null: it has none, and is called by its id.
    number: str | None
    #: What is still to pay, in minor units.
    amount: int
    currency: str
    #: The local day that it is due on, or null for one without a due date.
    due_on: date | None
    overdue_at: datetime | None = None
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class NextStage:
    """What comes next when nothing changes, and the earliest instant of it."""

    stage: Stage
    at: datetime
    effects: frozenset[Effect] = frozenset()
    #: Whether only a dispute keeps it from coming sooner: it comes when that ends, and `at` is the latest end.
    disputed: bool = False


@dataclass(frozen=True, kw_only=True)
class NamedCard:
    """One card that a notice names, and the last local day on which it can be charged."""

    brand: str
    last4: str
    last_day: date


@dataclass(frozen=True, kw_only=True)
class NamedRunway:
    """Until when money pays for servers, and what follows at the earliest where it follows at all."""

    until: datetime
    #: Whether that is past.
    ended: bool
    stopped_at: datetime | None = None
    reviewed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What a notice tells of a time to come, beside the next stage."""

    card: NamedCard | None = None
    runway: NamedRunway | None = None
    #: From when on staff may decide that servers are removed, if nothing is paid.
    reviewed_at: datetime | None = None


NOTHING_AHEAD = Ahead()


@dataclass(frozen=True, kw_only=True)
class ServersTold:
    """What is so of single servers, by their names, beside what the notice says of all that it is about."""

    #: All that the notice is about.
    named: tuple[str, ...] = ()
    #: They are stopped for money, whatever else holds them.
    stopped: tuple[str, ...] = ()
    #: They were off before anything was stopped.
    off: tuple[str, ...] = ()
    #: They came later: what the stage does reaches them not before `later_at`.
    later: tuple[str, ...] = ()
    later_at: datetime | None = None
    #: Somebody else keeps them restricted, whatever is paid.
    kept: tuple[str, ...] = ()
    #: They stay restricted because their own subscription has ended.
    uncovered: tuple[str, ...] = ()
    #: Its subscription is well again, and it stays restricted for what the account owes.
    owing: tuple[str, ...] = ()
    #: Staff lets backups of them be made and exported until then, though they are locked.
    backups_open: tuple[str, ...] = ()
    backups_open_until: datetime | None = None
    #: Whether those are all that the notice is about.
    all_backups_open: bool = False
    #: Whether there is any server at all.
    exist: bool = True


EVERY_SERVER_ALIKE = ServersTold()


class ReliefReason(StrEnum):
    """Why something is given back: the first few when it is over, the others while something stays overdue."""

    SETTLED = "SETTLED"
    #: What is left is too little to restrict anything for.
    LITTLE_LEFT = "LITTLE_LEFT"
    DISPUTED = "DISPUTED"
    #: Closed by us without a payment.
    UNCOLLECTED = "UNCOLLECTED"
    FREE = "FREE"
    #: It is not due yet, or not any more.
    NOT_DUE = "NOT_DUE"
    EXTENDED = "EXTENDED"
    EXEMPT = "EXEMPT"
    #: A milder stage for another reason, such as a part payment.
    LESS = "LESS"


@dataclass(frozen=True, kw_only=True)
class Relief:
    """What is given back, why, and until when where that ends."""

    why: ReliefReason = ReliefReason.SETTLED
    until: datetime | None = None
    returned: frozenset[Effect] = frozenset()


NO_RELIEF = Relief()


@dataclass(frozen=True, kw_only=True)
class Content:
    """Everything that a template may show."""

    reader: Reader
    invoices: tuple[NamedInvoice, ...] = ()
    #: Names of the servers that the notice is about.
    servers: tuple[str, ...] = ()
    told: ServersTold = EVERY_SERVER_ALIKE
    #: The one server whose subscription has ended, when that is the reason.
    ended_server: str | None = None
    effects: frozenset[Effect] = frozenset()
    next_stage: NextStage | None = None
    ahead: Ahead = NOTHING_AHEAD
    relief: Relief = NO_RELIEF
