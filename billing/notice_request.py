"""What the outbox is asked to tell one customer, and what of it a template may show.

Owns the form of that question. It decides nothing and reads nothing: whoever asks brings the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from billing.models import Account, Invoice
from billing.notice_text import NOTHING_AHEAD, Ahead, Content, NamedInvoice, NextStage, Reader
from billing.rules.terms import Effect, Stage


@dataclass(frozen=True, kw_only=True)
class NamedServer:
    """One server that a notice names."""

    id: int
    name: str


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
    #: Servers that somebody else keeps restricted, whatever is paid.
    kept: Sequence[NamedServer] = ()
    #: The server whose subscription has ended, when the notice is about that and not about invoices.
    ended_server: NamedServer | None = None
    #: What the stage does now.
    effects: frozenset[Effect] = frozenset()
    next_stage: NextStage | None = None
    ahead: Ahead = NOTHING_AHEAD


def content_of(request: NoticeRequest) -> Content:
    """Return what the notice's template may show."""
    account = request.account
    return Content(
        reader=Reader(name=account.name, locale=account.locale, time_zone=account.time_zone),
        invoices=tuple(_named(invoice) for invoice in request.invoices),
        servers=tuple(server.name for server in request.servers),
        kept=tuple(server.name for server in request.kept),
        ended_server=request.ended_server.name if request.ended_server else None,
        effects=request.effects,
        next_stage=request.next_stage,
        ahead=request.ahead,
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
