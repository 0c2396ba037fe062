"""The work queue: everything that waits for a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import strawberry

from api.graphql import ids
from api.graphql.connections import Connection, Window, page
from api.graphql.context import Context, Info
from api.graphql.nodes import Node, WorkState
from billing import models


@strawberry.type
class WorkItem(Node):
    """Something that waits for a person."""

    kind: str
    title: str
    detail: str
    since: datetime
    state: WorkState
    row: strawberry.Private[models.WorkItem]

    @strawberry.field
    async def subject(self, info: Info) -> Node | None:
        """The server or the account that it is about."""
        from api.graphql.accounts import account_by_key
        from api.graphql.servers import server_by_key

        if self.row.server_id is not None:
            return await server_by_key(info.context, self.row.server_id)
        return await account_by_key(info.context, self.row.account_id)


def show_item(row: models.WorkItem) -> WorkItem:
    """Return a row as it goes on the wire."""
    return WorkItem(
        id=ids.global_id("WorkItem", row.id),
        kind=row.kind,
        title=row.title,
        detail=row.detail,
        since=row.since,
        state=row.state,
        row=row,
    )


async def item_by_key(context: Context, key: int | None) -> WorkItem | None:
    """Return the item of this key if the principal may see it."""
    row = await context.scope.work_items().get_or_none(id=key) if key is not None else None
    return show_item(row) if row is not None else None


@strawberry.type
class WorkQueueQueries:
    """The part of the query type that is about the work queue."""

    @strawberry.field
    async def work_queue(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        kind: list[str] | None = None,
        state: WorkState | None = None,
    ) -> Connection[WorkItem]:
        """What waits, oldest first."""
        query = info.context.scope.work_items()
        if kind is not None:
            query = query.filter(kind__in=kind)
        if state is not None:
            query = query.filter(state=state)

        async def show(rows: Sequence[models.WorkItem]) -> list[WorkItem]:
            return [show_item(row) for row in rows]

        return await page(query, Window(first=first, after=after), listing="work", show=show)
