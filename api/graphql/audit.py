"""The audit trail as it may be read: who did what to which object, when and why.

Owns what of a row each reader gets: why, in the words of who wrote it, is for the staff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import strawberry
from tortoise.connection import get_connection
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.connections import Connection, OfQuery, Rows, Window, page
from api.graphql.context import Context, Info
from api.graphql.nodes import Node
from api.graphql.pages import Asked
from api.graphql.words import words_about
from billing import models
from billing.overrides import PROMISE
from billing.rules.plain_words import PROMISED, recorded


@strawberry.type
class AuditEntry(Node):
    """One row of the audit trail."""

    at: datetime
    actor: str
    kind: str
    subject_id: strawberry.ID
    reason: str
    before: str | None
    after: str | None
    hash: str | None = strawberry.field(description="Null until sealed.")
    row: strawberry.Private[models.AuditEntry]

    @strawberry.field
    async def subject(self, info: Info) -> Node | None:
        """What it is about; null for what is no object of this interface, or is gone."""
        from api.graphql.lookup import node_of

        return await node_of(info.context, self.row.subject_type, self.row.subject_id)


async def page_of_audit(
    context: Context, query: QuerySet[models.AuditEntry] | Rows[models.AuditEntry], window: Window
) -> Connection[AuditEntry]:
    """Return a page of these rows, newest first."""

    async def show(rows: Sequence[models.AuditEntry]) -> list[AuditEntry]:
        return await show_audit(context, rows)

    return await page(query, window, listing="audit", newest_first=True, show=show)


async def history_of(
    context: Context, window: Window, *, column: str, owner: int | str, noun: str | None = None
) -> Connection[AuditEntry]:
    """Return a page of what was recorded about an account, or with `noun` about one object, newest first."""

    def rows() -> QuerySet[models.AuditEntry]:
        query = context.scope.audit()
        return query.filter(subject_type=noun) if noun is not None else query

    async def show(found: Sequence[models.AuditEntry]) -> list[AuditEntry]:
        return await show_audit(context, found)

    asked = Asked(
        listing="audit", owner=owner, column=column, window=window, newest_first=True, narrowed=noun or "",
        rows=rows, show=show,
    )  # fmt: skip
    history: Connection[AuditEntry] = await context.pages.load(asked)
    return history


async def show_audit(context: Context, rows: Sequence[models.AuditEntry]) -> list[AuditEntry]:
    """Return rows as they go on the wire.

    Customers see neither names and words of the staff nor the values changed.
    """
    if not context.scope.is_customer:
        return [_shown(context, row, row.reason) for row in rows]
    accounts = await context.accounts.load_many([row.account_id or 0 for row in rows])
    return [
        _shown(context, row, _plain(context, row, account))
        for row, account in zip(rows, accounts, strict=True)
        if account is not None
    ]


def _plain(context: Context, row: models.AuditEntry, account: models.Account) -> str:
    """Return what the customer reads: its own words, or what is always said of this kind."""
    own = row.kind == "override.placed" and row.actor.startswith("customer:")
    if own and row.reason and row.reason != PROMISE:
        return row.reason
    return words_about(context, account).say(PROMISED if own else recorded(row.kind))


def _shown(context: Context, row: models.AuditEntry, reason: str) -> AuditEntry:
    mine = context.scope.is_customer
    return AuditEntry(
        id=ids.global_id("AuditEntry", row.id),
        at=row.at,
        actor=context.actor(row.actor),
        kind=row.kind,
        subject_id=ids.global_id(row.subject_type, row.subject_id),
        reason=reason,
        before=None if mine else row.before,
        after=None if mine else row.after,
        hash=row.hash,
        row=row,
    )


@dataclass(frozen=True, kw_only=True)
class _WholeTrail(OfQuery[models.AuditEntry]):
    """All rows, which nobody removes: sealed ones are numbered from 1 without a gap, and few are not sealed yet."""

    async def count(self) -> int:
        """Return how many there are without counting them."""
        statement = """SELECT COALESCE(MAX("position"), 0) + (SELECT COUNT(*) FROM audit_entry WHERE "position" IS NULL)
            FROM audit_entry"""
        _, rows = await get_connection("default").execute_query(statement)
        return int(rows[0][0])


@strawberry.type
class AuditQueries:
    """The part of the query type that is about the audit trail."""

    @strawberry.field
    async def audit(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        subject_id: strawberry.ID | None = None,
    ) -> Connection[AuditEntry]:
        """The audit trail, newest first."""
        query = info.context.scope.audit()
        window = Window(first=first, after=after)
        if subject_id is None:
            return await page_of_audit(info.context, _WholeTrail(query=query), window)
        noun, key = ids.read_id(subject_id) or ("", "")
        return await page_of_audit(info.context, query.filter(subject_type=noun, subject_id=key), window)
