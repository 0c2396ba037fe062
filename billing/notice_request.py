"""What the outbox is asked to tell one customer, and what of it a template may show.

Owns the form of that question. It decides nothing and reads nothing: whoever asks brings the rows.
"""

from collections.abc import Iterable, Sequence
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


class HeldOn(StrEnum):
    """What goes on to restrict one server when what the notice is about is settled."""

    #: Somebody else does, whatever is paid.
    KEPT = "KEPT"
    #: Its own subscription has ended.
    UNCOVERED = "UNCOVERED"
    #: Its subscription is well again, but its account owes.
    OWING = "OWING"


@dataclass(frozen=True, kw_only=True)
class NamedServer:
    """One server that a notice names."""

    id: int
    name: str
    fate: Fate = Fate.ALIKE
    held_on: HeldOn | None = None
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
        servers=_names(one for one in request.servers if one.fate is Fate.ALIKE and not one.held_on),
        told=_told(request),
        ended_server=request.ended_server.name if request.ended_server else None,
        effects=request.effects,
        next_stage=request.next_stage,
        ahead=request.ahead,
        relief=request.relief,
    )


def _names(servers: Iterable[NamedServer]) -> tuple[str, ...]:
    return tuple(server.name for server in servers)


def _told(request: NoticeRequest) -> ServersTold:
    named, single = request.named, request.ended_server
    # Of what somebody else keeps a letter about many says nothing but that; the one about itself says what is so of it.
    ours = [server for server in named if server is single or server.held_on is not HeldOn.KEPT]
    late = [server for server in ours if server.fate is Fate.LATER]
    opened = [server for server in named if server.backups_open]
    ends = [server.backups_open_until for server in opened if server.backups_open_until]
    return ServersTold(
        named=_names(named),
        stopped=_names(server for server in ours if server.fate is Fate.ALIKE),
        off=_names(server for server in ours if server.fate is Fate.OFF),
        later=_names(late),
        later_at=min((server.later_at for server in late if server.later_at), default=None),
        kept=_names(server for server in named if server.held_on is HeldOn.KEPT),
        uncovered=_names(server for server in named if server.held_on is HeldOn.UNCOVERED),
        owing=_names(server for server in named if server.held_on is HeldOn.OWING),
        backups_open=_names(opened),
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
