"""The audit trail as it may be read: who did what to which object, when and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import strawberry
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.connections import Connection, Window, page
from api.graphql.context import Context, Info
from api.graphql.nodes import Node
from billing import models


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
    context: Context, query: QuerySet[models.AuditEntry], window: Window
) -> Connection[AuditEntry]:
    """Return a page of these rows, newest first."""

    async def show(rows: Sequence[models.AuditEntry]) -> list[AuditEntry]:
        return [show_audit(context, row) for row in rows]

    return await page(query, window, listing="audit", newest_first=True, show=show)


def show_audit(context: Context, row: models.AuditEntry) -> AuditEntry:
    """Return a row as it goes on the wire; customers see neither names of the staff nor the values changed."""
    mine = context.scope.is_customer
    return AuditEntry(
        id=ids.global_id("AuditEntry", row.id),
        at=row.at,
        actor=context.actor(row.actor),
        kind=row.kind,
        subject_id=ids.global_id(row.subject_type, row.subject_id),
        reason=row.reason,
        before=None if mine else row.before,
        after=None if mine else row.after,
        hash=row.hash,
        row=row,
    )


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
        if subject_id is not None:
            noun, key = ids.read_id(subject_id) or ("", "")
            query = query.filter(subject_type=noun, subject_id=key)
        return await page_of_audit(info.context, query, Window(first=first, after=after))
