"""Invoices: what is owed, as mirrored and issued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import strawberry
from tortoise.expressions import Q, RawSQL
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.connections import Connection, Rows, Window, page
from api.graphql.context import Context, Info
from api.graphql.invoice_lines import InvoiceLine, lines_of
from api.graphql.invoice_payments import InvoicePayment, payments_of
from api.graphql.long_lists import Part, Parted
from api.graphql.nodes import InvoiceOrigin, InvoiceStatus, Node
from api.graphql.own_rows import own_invoices
from api.graphql.pages import Asked
from api.graphql.scalars import Money
from api.graphql.worked_out import WorkedOut
from billing import models

if TYPE_CHECKING:
    from api.graphql.accounts import Account


@strawberry.type
class Invoice(WorkedOut, Node):
    """What is owed once."""

    number: str | None
    account: Annotated[Account, strawberry.lazy("api.graphql.accounts")]
    origin: InvoiceOrigin
    status: InvoiceStatus
    total: Money
    amount_paid: Money
    amount_due: Money
    issued_at: datetime
    due_on: date | None
    overdue_at: datetime | None
    overdue: bool
    disputed: bool
    period_start: datetime | None
    period_end: datetime | None
    paid_at: datetime | None
    stripe_invoice_id: str | None
    hosted_url: str | None
    pdf_url: str | None
    row: strawberry.Private[models.Invoice]
    now: strawberry.Private[datetime]

    @strawberry.field
    async def lines(self, info: Info) -> list[InvoiceLine]:
        """What it is for."""
        return await lines_of(info.context, self.row)

    @strawberry.field
    async def payments(self, info: Info) -> list[InvoicePayment]:
        """What was paid or taken off, oldest first."""
        return await payments_of(info.context, self.row, self.account.row.time_zone)

    @strawberry.field
    def payable(self, info: Info) -> bool:
        """May the customer pay it here now?"""
        at_stripe = self.row.origin is InvoiceOrigin.STRIPE
        reachable = not at_stripe or info.context.ports.invoices is not None
        return is_payable(self.row, self.account.row.currency) and reachable


@strawberry.input
class InvoiceFilter:
    """Narrows a list of invoices; what is left out narrows nothing."""

    status: list[InvoiceStatus] | None = None
    overdue: bool | None = None
    origin: InvoiceOrigin | None = None
    account_id: strawberry.ID | None = None
    due_before: date | None = None


async def show_invoices(context: Context, rows: Sequence[models.Invoice]) -> list[Invoice]:
    """Return rows as they go on the wire, with their accounts, in one statement."""
    from api.graphql.accounts import accounts_by_key

    accounts = await accounts_by_key(context, [row.account_id for row in rows])
    return [
        Invoice.made_of(row=row, account=accounts[row.account_id], now=context.now)
        for row in rows
        if row.account_id in accounts
    ]


def is_overdue(row: models.Invoice, now: datetime) -> bool:
    """Return whether something of an open invoice is overdue at `now`."""
    unpaid = row.status is InvoiceStatus.OPEN and row.amount_due > 0
    return unpaid and row.overdue_at is not None and row.overdue_at <= now


def is_payable(row: models.Invoice, currency: str) -> bool:
    """Return whether an invoice takes money of an account of this currency."""
    return row.status is InvoiceStatus.OPEN and row.amount_due > 0 and row.currency == currency


def overdue_at(now: datetime) -> Q:
    """Return the same question as a condition on rows."""
    # Written out, not as values: PostgreSQL has an index of just the open ones with something due.
    return Q(status=RawSQL("'OPEN'"), amount_due__gt=RawSQL("0"), overdue_at__lte=now)


async def page_of_invoices(
    context: Context, query: QuerySet[models.Invoice], asked: InvoiceFilter | None, window: Window
) -> Connection[Invoice]:
    """Return a page of these invoices, newest first."""

    async def show(rows: Sequence[models.Invoice]) -> list[Invoice]:
        return await show_invoices(context, rows)

    rows: QuerySet[models.Invoice] | Rows[models.Invoice] = query
    if asked:
        rows = Parted(query=query, parts=[_part(asked, context.now)])
    return await page(rows, window, listing="invoices", newest_first=True, show=show)


async def invoices_of(
    context: Context,
    account_id: int,
    window: Window,
    *,
    asked: InvoiceFilter | None = None,
    overdue: tuple[int, ...] | None = None,
) -> Connection[Invoice]:
    """Return a page of an account's invoices, newest first; with `overdue` only those that its debt counts."""

    def rows() -> QuerySet[models.Invoice]:
        query = context.scope.invoices()
        return query.filter(_conditions(asked, context.now)) if asked else query

    async def show(found: Sequence[models.Invoice]) -> list[Invoice]:
        return await show_invoices(context, found)

    narrowed = repr(asked) if overdue is None else "debt"
    own = own_invoices(context.scope, account_id) if asked is None and overdue is None else None
    page_asked = Asked(
        listing="invoices", owner=account_id, column="account_id", window=window, newest_first=True,
        narrowed=narrowed, among=overdue, rows=rows, own=own, show=show,
    )  # fmt: skip
    invoices: Connection[Invoice] = await context.pages.load(page_asked)
    return invoices


def _part(asked: InvoiceFilter, now: datetime) -> Part:
    condition = _conditions(asked, now)
    if asked.overdue is not False:
        return Part(condition=condition)
    every = _conditions(replace(asked, overdue=None), now)
    others = Part(condition=every & overdue_at(now))
    return Part(condition=condition, counted=(Part(condition=every), (others,)))


def _conditions(asked: InvoiceFilter, now: datetime) -> Q:
    condition = Q()
    if asked.status is not None:
        condition &= Q(status__in=list(asked.status))
    if asked.overdue is not None:
        condition &= overdue_at(now) if asked.overdue else ~overdue_at(now) | Q(overdue_at__isnull=True)
    if asked.origin is not None:
        condition &= Q(origin=asked.origin)
    if asked.account_id is not None:
        condition &= Q(account_id=ids.key_of("Account", asked.account_id) or 0)
    if asked.due_before is not None:
        condition &= Q(due_on__lt=asked.due_before)
    return condition


def _money(name: str) -> Callable[[Invoice], Money]:
    amount = attrgetter(name)
    return lambda invoice: Money.of(amount(invoice.row), invoice.row.currency)


_OF_ROW = (
    "number", "origin", "status", "issued_at", "due_on", "overdue_at", "period_start", "period_end", "paid_at",
    "stripe_invoice_id", "hosted_url", "pdf_url",
)  # fmt: skip
Invoice.works_out(
    {
        **{name: attrgetter(f"row.{name}") for name in _OF_ROW},
        **{name: _money(name) for name in ("total", "amount_paid", "amount_due")},
        "id": lambda invoice: ids.global_id("Invoice", invoice.row.id),
        "overdue": lambda invoice: is_overdue(invoice.row, invoice.now),
        "disputed": lambda invoice: invoice.row.disputed_amount > 0,
    }
)


@strawberry.type
class InvoiceQueries:
    """The part of the query type that is about invoices."""

    @strawberry.field
    async def invoice(self, info: Info, id: strawberry.ID) -> Invoice | None:  # noqa: A002  # the contract's name
        """One invoice; null when there is none that the caller may see."""
        return await invoice_by_key(info.context, ids.key_of("Invoice", id))

    @strawberry.field
    async def invoices(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: InvoiceFilter | None = None,  # noqa: A002  # the contract's name
    ) -> Connection[Invoice]:
        """Invoices, newest first."""
        window = Window(first=first, after=after, last=last, before=before)
        return await page_of_invoices(info.context, info.context.scope.invoices(), filter, window)


async def invoice_by_key(context: Context, key: int | None) -> Invoice | None:
    """Return the invoice of this key if the principal may see it."""
    return (await invoices_by_key(context, [key])).get(key) if key is not None else None


async def invoices_by_key(context: Context, keys: Sequence[int]) -> dict[int, Invoice]:
    """Return the invoices of these keys that the principal may see."""
    rows = await context.invoices.load_many(list(dict.fromkeys(keys)))
    return {invoice.row.id: invoice for invoice in await show_invoices(context, [row for row in rows if row])}
