"""What is ahead if nothing is paid, what a policy on trial would change, and where the fleet stands now.

Shown to the staff alone: it follows what is eligible, and nothing of that is told to a customer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import strawberry

from api.foresight import LONGEST_DAYS, Premises
from api.graphql import ids
from api.graphql.connections import Connection, Key, Window, page_of_list
from api.graphql.context import Context, Info
from api.graphql.errors import INVALID, coded
from api.graphql.nodes import Stage
from api.graphql.scalars import Money
from billing.notices import known_templates
from billing.policy_files import STANDARD
from billing.policy_reader import read_policy
from billing.policy_yaml import FileRefused
from billing.rules import policy as rules
from reconciler import stages
from reconciler.rules.compare import Difference
from reconciler.rules.forecast import Ahead

if TYPE_CHECKING:
    from api.graphql.accounts import Account
    from api.graphql.servers import Server

#: Far above any real policy; reading one costs time that others wait for.
_LARGEST_SOURCE = 64 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@strawberry.type
class Forecast:
    """One change of a stage to come if nothing is paid."""

    at: datetime
    account: Annotated[Account, strawberry.lazy("api.graphql.accounts")]
    server: Annotated[Server, strawberry.lazy("api.graphql.servers")] | None = strawberry.field(
        description="The server that climbs alone because its subscription ended; null: the account itself."
    )
    from_: Stage = strawberry.field(
        name="from", description="In a preview: where today's policy would have it at that time."
    )
    to: Stage
    servers: int = strawberry.field(description="How many live servers the stage reaches.")
    waiting_for: str | None = strawberry.field(
        description="What has to happen first, or what it had to wait for: a code of the guard, or one of the ladder "
        "(`notice_delivery`, `freeze`, `override`, `dispute`). Null when time alone decides."
    )
    until: datetime | None = strawberry.field(
        description="In a preview: when this difference ends, or another one takes its place. Null: not within the "
        "days asked about; in a forecast always."
    )


@strawberry.type
class StageSummary:
    """One stage and what stands on it now."""

    stage: Stage
    accounts: int
    servers: int
    debt: list[Money]


@strawberry.type
class PolicyPreview:
    """What a policy on trial would change, on the real data and with no effect at all."""

    valid: bool
    problems: list[str]
    tried: strawberry.Private[_Trial | None] = None

    @strawberry.field
    async def changes(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Connection[Forecast]:
        """From each instant on, and until when, where somebody would stand otherwise than under today's policy."""
        rows: Sequence[Difference] = ()
        if self.tried is not None:
            foresight = info.context.ports.foresight
            premises = _premises(info.context, self.tried.days)
            rows = await foresight.differences(premises, self.tried.policy, instead_of=self.tried.instead_of)
        return await _page(info.context, rows, Window(first=first, after=after), listing="preview")


@dataclass(frozen=True, kw_only=True)
class _Trial:
    policy: rules.Policy
    instead_of: str
    days: int


@strawberry.type
class ForecastQueries:
    """The part of the query type that is about what is ahead."""

    @strawberry.field
    async def forecast(
        self,
        info: Info,
        days: int,
        first: int | None = None,
        after: str | None = None,
        account_id: strawberry.ID | None = None,
        to: Stage | None = None,
    ) -> Connection[Forecast]:
        """Who reaches which stage when, if nothing is paid and every notice arrives; the earliest first."""
        rows = await info.context.ports.foresight.ahead(_premises(info.context, days))
        account = ids.key_of("Account", account_id) if account_id is not None else None
        wanted = [
            row
            for row in rows
            if (account_id is None or row.account_id == account) and (to is None or row.to_stage is to)
        ]
        return await _page(info.context, wanted, Window(first=first, after=after), listing=f"forecast {days}")

    @strawberry.field
    async def stages(self, info: Info) -> list[StageSummary]:
        """How many accounts and servers stand on each stage, and what they owe."""
        return [
            StageSummary(
                stage=one.stage,
                accounts=one.accounts,
                servers=one.servers,
                debt=[Money.of(minor, currency) for currency, minor in one.debt.items()],
            )
            for one in await stages.totals(info.context.now)
        ]

    @strawberry.field
    async def policy_preview(
        self, info: Info, source: str, days: int, instead_of: str = STANDARD
    ) -> PolicyPreview:
        """Try a policy's YAML text in the place of a policy in force; nothing is written and nobody is told."""
        _checked(days)
        policies = info.context.ports.policies()
        if instead_of not in policies:
            known = ", ".join(sorted(policies))
            return PolicyPreview(
                valid=False, problems=[f"insteadOf: no such policy is in force; use one of: {known}"]
            )
        if len(source.encode(errors="replace")) > _LARGEST_SOURCE:
            return PolicyPreview(
                valid=False,
                problems=[f"source: is larger than any policy; keep it below {_LARGEST_SOURCE} bytes"],
            )
        guard = None if instead_of == STANDARD else policies[STANDARD].guard
        try:
            policy = await asyncio.to_thread(
                read_policy, instead_of, source, templates=known_templates(), guard=guard
            )
        except FileRefused as refused:
            return PolicyPreview(valid=False, problems=[str(problem) for problem in refused.problems])
        return PolicyPreview(
            valid=True, problems=[], tried=_Trial(policy=policy, instead_of=instead_of, days=days)
        )


def _premises(context: Context, days: int) -> Premises:
    ports = context.ports
    return Premises(
        policies=ports.policies(),
        site_modes=ports.site_modes(),
        facts_max_age=ports.facts_max_age,
        now=context.now,
        days=_checked(days),
    )


def _checked(days: int) -> int:
    if not 1 <= days <= LONGEST_DAYS:
        raise coded(f"days: ask for 1 to {LONGEST_DAYS} days ahead", INVALID)
    return days


async def _page(
    context: Context, rows: Sequence[Ahead | Difference], window: Window, *, listing: str
) -> Connection[Forecast]:
    async def show(some: Sequence[Ahead | Difference]) -> list[Forecast]:
        return await _show(context, some)

    return await page_of_list([(_key(row), row) for row in rows], window, listing=listing, parts=4, show=show)


def _key(row: Ahead | Difference) -> Key:
    """Return what the rows are ordered by, and what no two of them share."""
    return (
        (row.at - _EPOCH) // timedelta(microseconds=1),
        row.account_id,
        row.server_id or 0,
        row.to_stage.rank,
    )


async def _show(context: Context, rows: Sequence[Ahead | Difference]) -> list[Forecast]:
    from api.graphql.accounts import accounts_by_key
    from api.graphql.servers import servers_by_key

    accounts = await accounts_by_key(context, [row.account_id for row in rows])
    servers = await servers_by_key(context, [row.server_id for row in rows if row.server_id is not None])
    return [
        Forecast(
            at=row.at,
            account=accounts[row.account_id],
            server=servers.get(row.server_id or 0),
            from_=row.from_stage,
            to=row.to_stage,
            servers=row.servers,
            waiting_for=row.waiting_for,
            until=row.until if isinstance(row, Difference) else None,
        )
        for row in rows
        if row.account_id in accounts
    ]
