"""The last computed plan, read from where the pass left it; nothing is computed while somebody waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from api.graphql import ids
from api.graphql.connections import Connection, Window, page_of_list
from api.graphql.context import Context, Info
from api.graphql.invoices import Invoice, invoices_by_key
from api.graphql.nodes import Mode, Node, Stage, StepKind, StepState
from api.graphql.scalars import Money
from reconciler import brakes
from reconciler.models import PlanSnapshot

if TYPE_CHECKING:
    from api.graphql.accounts import Account
    from api.graphql.servers import Server


@strawberry.type
class PlanStep(Node):
    """One proposed change with its reason."""

    kind: StepKind
    state: StepState
    account: Annotated[Account, strawberry.lazy("api.graphql.accounts")]
    server: Annotated[Server, strawberry.lazy("api.graphql.servers")] | None
    to_stage: Stage | None
    reason: str
    invoices: list[Invoice]
    held_back_by: str | None
    held_back_reason: str | None
    held_back_until: datetime | None = strawberry.field(
        description="When what holds it back ends by itself; null when that is not known."
    )
    command: str | None


@strawberry.type
class PlanSummary:
    """What the plan comes to."""

    advance: int
    stop: int
    start: int
    lock_backups: int
    unlock_backups: int
    held_back: int
    drift: int
    skipped: int
    accounts: int
    money_at_stake: list[Money]


@strawberry.type
class Plan:
    """The last computed plan."""

    digest: str
    at: datetime
    mode: Mode
    summary: PlanSummary
    number: strawberry.Private[int]
    told: strawberry.Private[str]
    rows: strawberry.Private[list[dict[str, Any]]]

    @strawberry.field
    async def text(self, info: Info) -> str:
        """The plan as `abeyance plan` prints it, below what holds restrictions back for everybody now."""
        context = info.context
        on = await brakes.standing(stripe=context.ports.cards is not None, now=context.now)
        return brakes.text(on) + self.told

    @strawberry.field
    async def steps(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        state: list[StepState] | None = None,
        account_id: strawberry.ID | None = None,
        site: str | None = None,
    ) -> Connection[PlanStep]:
        """Its steps in their order."""
        context = info.context
        account = ids.key_of("Account", account_id) if account_id is not None else None
        wanted = [
            (place, row)
            for place, row in enumerate(self.rows, start=1)
            if (state is None or StepState(row["state"]) in state)
            and (account_id is None or row["account_id"] == account)
            and (site is None or row.get("site") == site)
        ]

        async def show(rows: Sequence[Any]) -> list[PlanStep]:
            return await _show_steps(context, self.number, rows)

        placed = [((place,), (place, row)) for place, row in wanted]
        listing = f"plan {self.number}"
        return await page_of_list(placed, Window(first=first, after=after), listing=listing, show=show)


async def _show_steps(
    context: Context, number: int, rows: Sequence[tuple[int, Mapping[str, Any]]]
) -> list[PlanStep]:
    from api.graphql.accounts import accounts_by_key
    from api.graphql.servers import servers_by_key

    accounts = await accounts_by_key(context, [row["account_id"] for _, row in rows])
    servers = await servers_by_key(context, [row["server_id"] for _, row in rows if row.get("server_id")])
    named = [key for _, row in rows for key in row.get("invoice_ids") or ()]
    invoices = await invoices_by_key(context, named)
    return [
        PlanStep(
            id=ids.global_id("PlanStep", f"{number}.{place}"),
            kind=StepKind(row["kind"]),
            state=StepState(row["state"]),
            account=accounts[row["account_id"]],
            server=servers.get(row.get("server_id") or 0),
            to_stage=Stage(row["to_stage"]) if row.get("to_stage") else None,
            reason=row["reason"],
            invoices=[invoices[key] for key in row.get("invoice_ids") or () if key in invoices],
            held_back_by=row.get("held_back_by"),
            held_back_reason=row.get("held_back_reason"),
            held_back_until=datetime.fromisoformat(until) if (until := row.get("held_back_until")) else None,
            command=row.get("command"),
        )
        for place, row in rows
        if row["account_id"] in accounts
    ]


async def step_by_key(context: Context, key: str) -> PlanStep | None:
    """Return one step of a stored plan by its global key."""
    number, _, place = key.partition(".")
    if context.scope.is_customer or not (number.isdecimal() and place.isdecimal()):
        return None
    snapshot = await PlanSnapshot.get_or_none(id=int(number))
    rows = snapshot.content["steps"] if snapshot is not None else []
    if not 1 <= int(place) <= len(rows):
        return None
    return next(iter(await _show_steps(context, int(number), [(int(place), rows[int(place) - 1])])), None)


def _summary(content: Mapping[str, Any]) -> PlanSummary:
    told = content.get("summary") or {}
    counts = (
        "advance", "stop", "start", "lock_backups", "unlock_backups", "held_back", "drift", "skipped", "accounts",
    )  # fmt: skip
    stakes = told.get("money_at_stake") or ()
    return PlanSummary(
        **{name: int(told.get(name) or 0) for name in counts},
        money_at_stake=[Money.of(stake["minor"], stake["currency"]) for stake in stakes],
    )


@strawberry.type
class PlanQueries:
    """The part of the query type that is about the plan."""

    @strawberry.field
    async def plan(self, info: Info) -> Plan:
        """The last computed plan; one without steps before the first pass."""
        snapshot = await PlanSnapshot.all().order_by("-id").first()
        if snapshot is None:
            return Plan(
                digest="",
                at=info.context.now,
                mode=info.context.ports.mode,
                summary=_summary({}),
                told="No pass has been made yet.",
                number=0,
                rows=[],
            )
        return Plan(
            digest=snapshot.digest,
            at=snapshot.at,
            mode=snapshot.mode,
            summary=_summary(snapshot.content),
            told=snapshot.text,
            number=snapshot.id,
            rows=list(snapshot.content["steps"]),
        )
