"""What the outbox is asked to tell one customer, and what of it a template may show.

Owns the form of that question. It decides nothing and reads nothing: whoever asks brings the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from billing.models import Account, Invoice
from billing.notice_content import (
    NO_RELIEF,
    NOTHING_AHEAD,
    Ahead,
    Content,
    NamedInvoice,
    NextStage,
    Reader,
    Relief,
    ServersTold,
)
from billing.rules.terms import Effect, Stage


class Fate(StrEnum):
    """What becomes of one server that a notice names."""

    #: What the notice says of all: they are stopped, or they come back.
    ALIKE = "ALIKE"
    #: It was off before anything was stopped.
    OFF = "OFF"
    #: It came later, and what the stage does reaches it later.
    LATER = "LATER"
    #: Somebody else keeps it restricted, whatever is paid.
    KEPT = "KEPT"
    #: It stays restricted because its own subscription has ended.
    UNCOVERED = "UNCOVERED"
    #: The same, and it was off before anything was stopped.
    UNCOVERED_OFF = "UNCOVERED_OFF"
    #: Its subscription is well again, and it stays restricted for what the account owes.
    OWING = "OWING"


@dataclass(frozen=True, kw_only=True)
class NamedServer:
    """One server that a notice names."""

    id: int
    name: str
    fate: Fate = Fate.ALIKE
    #: The earliest instant at which the stage reaches it, of a `LATER` one.
    later_at: datetime | None = None
    #: Whether staff lets backups of it be made and exported though they are locked, and until when.
    backups_open: bool = False
    backups_open_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class NoticeRequest:
    """A notice to the customer of one account. The same `dedupe_key` is queued once, ever."""

    account: Account
    template: str
    dedupe_key: str
    stage: Stage | None = None
    episode_id: int | None = None
    invoices: Sequence[Invoice] = ()
    servers: Sequence[NamedServer] = ()
    #: Whether the account has any server at all, named or not.
    has_servers: bool = True
    #: The server whose subscription has ended, when the notice is about that and not about invoices.
    ended_server: NamedServer | None = None
    #: What the stage does now.
    effects: frozenset[Effect] = frozenset()
    next_stage: NextStage | None = None
    ahead: Ahead = NOTHING_AHEAD
    relief: Relief = NO_RELIEF

    @property
    def named(self) -> tuple[NamedServer, ...]:
        """All servers that it names."""
        return (*self.servers, *([self.ended_server] if self.ended_server else []))


def content_of(request: NoticeRequest) -> Content:
    """Return what the notice's template may show."""
    account = request.account
    return Content(
        reader=Reader(name=account.name, locale=account.locale, time_zone=account.time_zone),
        invoices=tuple(_named(invoice) for invoice in request.invoices),
        servers=_names(request.servers, Fate.ALIKE),
        told=_told(request),
        ended_server=request.ended_server.name if request.ended_server else None,
        effects=request.effects,
        next_stage=request.next_stage,
        ahead=request.ahead,
        relief=request.relief,
    )


def _names(servers: Sequence[NamedServer], fate: Fate) -> tuple[str, ...]:
    return tuple(server.name for server in servers if server.fate is fate)


def _told(request: NoticeRequest) -> ServersTold:
    named = request.named
    opened = [server for server in named if server.backups_open]
    ends = [server.backups_open_until for server in opened if server.backups_open_until]
    return ServersTold(
        off=_names(named, Fate.OFF),
        later=_names(named, Fate.LATER),
        later_at=min((server.later_at for server in named if server.later_at), default=None),
        kept=_names(named, Fate.KEPT),
        uncovered=_names(named, Fate.UNCOVERED),
        uncovered_off=_names(named, Fate.UNCOVERED_OFF),
        owing=_names(named, Fate.OWING),
        backups_open=tuple(server.name for server in opened),
        backups_open_until=min(ends, default=None),
        all_backups_open=bool(opened) and len(opened) == len(named),
        exist=request.has_servers,
    )


def _named(invoice: Invoice) -> NamedInvoice:
    return NamedInvoice(
        id=invoice.id,
        number=invoice.number,
        amount=invoice.amount_due,
        currency=invoice.currency,
        due_on=invoice.due_on,
        overdue_at=invoice.overdue_at,
        url=invoice.hosted_url,
    )
