"""Accounts: who is billed, where they stand and what they have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import strawberry
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.account_filter import AccountFilter, each, part
from api.graphql.audit import AuditEntry, history_of
from api.graphql.cards import Card, CustomerTask, cards_of, tasks_of
from api.graphql.connections import Connection, Rows, Window, page
from api.graphql.context import Context, Info
from api.graphql.decommission import Decommission, decommission_of
from api.graphql.explanation import Reason, explain_account
from api.graphql.funds import deploy_gate, restoring_payment, runway_of
from api.graphql.gates import Gate, account_gate
from api.graphql.invoices import Invoice, InvoiceFilter, invoices_of
from api.graphql.ledger import LedgerEntry, entries_of
from api.graphql.long_lists import Parted
from api.graphql.nodes import GateAction, Node
from api.graphql.notices import Notice, notices_of
from api.graphql.overrides import Override, show_overrides
from api.graphql.policies import Policy, policy_named
from api.graphql.scalars import Money
from api.graphql.standing import Announcement, Standing, announcement_of, standing_of
from api.graphql.subjects import account_subject
from api.graphql.vouchers import Voucher, vouchers_of
from api.graphql.worked_out import WorkedOut
from billing import models

if TYPE_CHECKING:
    from api.graphql.server_filter import ServerFilter
    from api.graphql.servers import Server


@strawberry.type
class Account(WorkedOut, Node):
    """Who is billed: a person or an organisation."""

    external_id: str
    name: str
    email: str | None
    billing_emails: list[str]
    locale: str
    currency: str
    time_zone: str
    free_plan: bool
    stripe_customer_id: str | None
    row: strawberry.Private[models.Account]

    @strawberry.field
    def policy(self, info: Info) -> Policy:
        """The ladder that it walks."""
        return Policy.of(policy_named(info, self.row.policy))

    @strawberry.field
    async def standing(self, info: Info) -> Standing:
        """Where it stands."""
        return standing_of(info.context, await account_subject(info.context, self.row.id))

    @strawberry.field
    async def explanation(self, info: Info) -> list[Reason]:
        """Why it stands there, since when, what staff decided and what comes next: the rules as evaluated."""
        return await explain_account(info.context, self.row.id)

    @strawberry.field
    async def announcement(self, info: Info) -> Announcement | None:
        """What the portal shows on every page; null when there is nothing to say."""
        return await announcement_of(info.context, self.row.id)

    @strawberry.field
    async def gate(self, info: Info, action: GateAction) -> Gate:
        """May this be done now? For actions on the account; an action on a server is asked of the server."""
        return await account_gate(info.context, self.row.id, action)

    @strawberry.field
    async def may_deploy(self, info: Info, sku: str) -> Gate:
        """May a server of this SKU be deployed now? The gate `DEPLOY` with the funds."""
        return await deploy_gate(info.context, self.row, sku)

    @strawberry.field
    async def runway_until(self, info: Info) -> datetime | None:
        """Until when the purses pay for the servers as they run now; null when a card does or none runs."""
        return await runway_of(info.context, self.row.id)

    @strawberry.field
    async def pay_to_restore(self, info: Info) -> Money | None:
        """The smallest payment that brings the servers back (or keeps them up); null when nothing is overdue."""
        return await restoring_payment(info.context, self.row.id)

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
        """Its invoices, newest first."""
        window = Window(first=first, after=after, last=last, before=before)
        return await invoices_of(info.context, self.row.id, window, asked=filter)

    @strawberry.field
    async def servers(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: Annotated[ServerFilter, strawberry.lazy("api.graphql.server_filter")] | None = None,  # noqa: A002
    ) -> Connection[Annotated[Server, strawberry.lazy("api.graphql.servers")]]:
        """Its servers."""
        from api.graphql.servers import servers_of

        window = Window(first=first, after=after, last=last, before=before)
        return await servers_of(info.context, self.row.id, filter, window)

    @strawberry.field
    async def cards(self, info: Info) -> list[Card]:
        """Its saved cards, expired ones too, the default first."""
        return await cards_of(info.context, self.row)

    @strawberry.field
    async def tasks(self, info: Info) -> list[CustomerTask]:
        """What only the customer can do now, such as confirming a payment with the bank."""
        return await tasks_of(info.context, self.row)

    @strawberry.field
    async def notices(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Connection[Notice]:
        """What it was told, newest first."""
        return await notices_of(info.context, self.row.id, Window(first=first, after=after))

    @strawberry.field
    async def balance(self, info: Info) -> Money:
        """Its cash with us that is free."""
        purses = await info.context.money.purses.load(self.row.id)
        return Money.of(purses.balance, purses.currency)

    @strawberry.field
    async def voucher_balance(self, info: Info) -> Money:
        """What vouchers brought and is free."""
        purses = await info.context.money.purses.load(self.row.id)
        return Money.of(purses.voucher, purses.currency)

    @strawberry.field
    async def reserved(self, info: Info) -> Money:
        """What left both purses for an invoice that it has not paid yet: it is on its way, or set aside for it."""
        purses = await info.context.money.purses.load(self.row.id)
        return Money.of(purses.balance_reserved + purses.voucher_reserved, purses.currency)

    @strawberry.field
    async def vouchers(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Connection[Voucher]:
        """The vouchers that it redeemed, the one issued last first."""
        return await vouchers_of(info.context, self.row.id, Window(first=first, after=after))

    @strawberry.field
    async def ledger(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Connection[LedgerEntry]:
        """What was booked for it, newest first."""
        return await entries_of(info.context, self.row.id, Window(first=first, after=after))

    @strawberry.field
    async def decommission(self, info: Info) -> Decommission | None:
        """How far it is, at the last stage; null elsewhere, but for an approval that a payment made void."""
        return await decommission_of(info.context, self.row.id)

    @strawberry.field
    async def overrides(self, info: Info, active: bool | None = None) -> list[Override]:
        """Decisions of staff about it; with `active` only those in force, or only the others."""
        rows = await info.context.decided.load((self.row.id, active))
        return await show_overrides(info.context, rows[:_MOST_OVERRIDES])

    @strawberry.field
    async def history(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Connection[AuditEntry]:
        """Everything that was recorded about it, newest first."""
        window = Window(first=first, after=after)
        return await history_of(info.context, window, column="account_id", owner=self.row.id)


#: A list without pages still has an end.
_MOST_OVERRIDES = 100


async def show_accounts(context: Context, rows: Sequence[models.Account]) -> list[Account]:
    """Return rows as they go on the wire."""
    for row in rows:
        context.accounts.prime(row.id, row)  # what leads back to them asks no more
    return [Account.made_of(row=row) for row in rows]


_OF_ROW = (
    "external_id", "name", "email", "locale", "currency", "time_zone", "free_plan", "stripe_customer_id",
)  # fmt: skip
Account.works_out(
    {
        **{name: attrgetter(f"row.{name}") for name in _OF_ROW},
        "id": lambda account: ids.global_id("Account", account.row.id),
        "billing_emails": lambda account: list(account.row.billing_emails),
    }
)


async def accounts_by_key(context: Context, keys: Sequence[int]) -> dict[int, Account]:
    """Return the accounts of these keys that the principal may see, in one statement."""
    rows = await context.accounts.load_many(list(dict.fromkeys(keys)))
    return {account.row.id: account for account in await show_accounts(context, [row for row in rows if row])}


async def account_by_key(context: Context, key: int | None) -> Account | None:
    """Return the account of this key if the principal may see it."""
    return (await accounts_by_key(context, [key])).get(key) if key is not None else None


@strawberry.type
class AccountQueries:
    """The part of the query type that is about accounts."""

    @strawberry.field
    async def account(
        self,
        info: Info,
        id: strawberry.ID | None = None,  # noqa: A002  # the contract's name
        external_id: str | None = None,
    ) -> Account | None:
        """One account; null when there is none that the caller may see."""
        if external_id is not None:
            row = await info.context.scope.accounts().get_or_none(external_id=external_id)
            wanted = ids.key_of("Account", id) if id is not None else None
            if row is None or (id is not None and row.id != wanted):
                return None
            return (await show_accounts(info.context, [row]))[0]
        return await account_by_key(info.context, ids.key_of("Account", id))

    @strawberry.field
    async def accounts(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: AccountFilter | None = None,  # noqa: A002  # the contract's name
    ) -> Connection[Account]:
        """Accounts, oldest first."""
        context = info.context
        rows: QuerySet[models.Account] | Rows[models.Account] = context.scope.accounts()
        if filter is not None:
            rows = await _narrowed(context, context.scope.accounts(), filter)

        async def show(rows: Sequence[models.Account]) -> list[Account]:
            return await show_accounts(context, rows)

        window = Window(first=first, after=after, last=last, before=before)
        return await page(rows, window, listing="accounts", show=show)


async def _narrowed(
    context: Context, query: QuerySet[models.Account], asked: AccountFilter
) -> QuerySet[models.Account] | Rows[models.Account]:
    if context.scope.is_customer:
        return query.filter(each(context, asked))
    return Parted(query=query, parts=[await part(context, asked)])
