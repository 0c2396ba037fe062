"""Runs: what was executed on the sites, and how it ended for each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.connections import Connection, Window, page
from api.graphql.context import Context, Info
from api.graphql.nodes import Node, Outcome, Power, RunState
from api.graphql.pages import Asked
from reconciler import models

if TYPE_CHECKING:
    from api.graphql.servers import Server


@strawberry.type
class GuestState:
    """A guest as it was read from its platform."""

    power: Power
    onboot: bool | None
    protection: bool | None
    backups_locked: bool | None
    role: str | None
    site_node: str | None

    @classmethod
    def of(cls, told: Mapping[str, Any] | None) -> GuestState | None:
        """Return what a report told of a guest; null when it told nothing."""
        if not told:
            return None
        power = str(told.get("power") or "").upper()
        locked = told.get("backups_locked")
        return cls(
            power=Power(power) if power in Power.__members__ else Power.UNKNOWN,
            onboot=told.get("onboot"),
            protection=told.get("protection"),
            backups_locked=locked if isinstance(locked, bool) else None,
            role=told.get("role"),
            site_node=told.get("node"),
        )


@strawberry.type
class RunTarget:
    """How a run ended for one server."""

    server: Annotated[Server, strawberry.lazy("api.graphql.servers")]
    outcome: Outcome
    message: str
    before: GuestState | None
    after: GuestState | None
    at: datetime


@strawberry.type
class Run(Node):
    """One execution of an action on one site."""

    action: str
    site: str
    started_at: datetime
    finished_at: datetime | None
    state: RunState
    plan_digest: str
    requested_by: str
    log: str
    key: strawberry.Private[int]

    @strawberry.field
    async def targets(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        outcome: Outcome | None = None,
    ) -> Connection[RunTarget]:
        """Its targets and how it ended for each. One without a verdict yet is not part of it."""
        context = info.context

        def rows() -> QuerySet[models.Step]:
            query = models.Step.filter(server_id__isnull=False, outcome__isnull=False)
            return query.filter(outcome=outcome) if outcome is not None else query

        async def show(found: Sequence[models.Step]) -> list[RunTarget]:
            return await _show_targets(context, found)

        asked = Asked(
            listing="targets", owner=self.key, column="run_id", window=Window(first=first, after=after),
            narrowed=repr(outcome), rows=rows, show=show,
        )  # fmt: skip
        targets: Connection[RunTarget] = await context.pages.load(asked)
        return targets


async def _show_targets(context: Context, rows: Sequence[models.Step]) -> list[RunTarget]:
    from api.graphql.servers import servers_by_key

    servers = await servers_by_key(context, [row.server_id for row in rows if row.server_id is not None])
    return [
        RunTarget(
            server=servers[row.server_id or 0],
            outcome=row.outcome or Outcome.UNKNOWN,
            message=row.message,
            before=GuestState.of(row.before),
            after=GuestState.of(row.after),
            at=row.finished_at or row.dispatched_at,
        )
        for row in rows
    ]


def show_run(row: models.Run) -> Run:
    """Return a row as it goes on the wire."""
    return Run(
        id=ids.global_id("Run", row.id),
        action=row.action,
        site=row.site,
        started_at=row.started_at,
        finished_at=row.finished_at,
        state=row.state,
        plan_digest=row.plan_digest,
        requested_by=row.requested_by,
        log=row.log,
        key=row.id,
    )


async def run_by_key(context: Context, key: int | None) -> Run | None:
    """Return the run of this key if the principal may see it."""
    row = await context.scope.runs().get_or_none(id=key) if key is not None else None
    return show_run(row) if row is not None else None


@strawberry.type
class RunQueries:
    """The part of the query type that is about runs."""

    @strawberry.field
    async def run(self, info: Info, id: strawberry.ID) -> Run | None:  # noqa: A002  # the contract's name
        """One run; null when there is none that the caller may see."""
        return await run_by_key(info.context, ids.key_of("Run", id))

    @strawberry.field
    async def runs(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        action: str | None = None,
        site: str | None = None,
    ) -> Connection[Run]:
        """Runs, newest first."""
        query = info.context.scope.runs()
        if action is not None:
            query = query.filter(action=action)
        if site is not None:
            query = query.filter(site=site)

        async def show(rows: Sequence[models.Run]) -> list[Run]:
            return [show_run(row) for row in rows]

        return await page(
            query, Window(first=first, after=after), listing="runs", newest_first=True, show=show
        )
