"""Servers: what an account pays for, what its holds ask for and what was observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import strawberry
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.audit import AuditEntry, history_of
from api.graphql.compiled import NotAtHandError, at_hand
from api.graphql.connections import Connection, Rows, Window, page
from api.graphql.context import Context, Info
from api.graphql.errors import LIMIT_EXCEEDED, coded
from api.graphql.explanation import Reason, explain
from api.graphql.gates import Gate, gates_of, server_gates
from api.graphql.long_lists import Parted
from api.graphql.nodes import (
    BackupAccess,
    Deployment,
    Effect,
    GateAction,
    GuestKind,
    HoldCause,
    Node,
    Power,
    ServerStatus,
)
from api.graphql.own_rows import own_servers
from api.graphql.pages import Asked
from api.graphql.policies import in_order
from api.graphql.scalars import Rate
from api.graphql.server_facts import ServerFacts, load_facts
from api.graphql.server_filter import ServerFilter, each, parts
from api.graphql.server_rows import servers_with_accounts
from api.graphql.standing import Standing, standing_of
from api.graphql.subjects import coverage_subject
from api.graphql.words import words_about
from api.graphql.worked_out import WorkedOut
from billing.rules.plain_words import HOLDS
from reconciler import models
from reconciler.hold_effects import effects_of

if TYPE_CHECKING:
    from api.graphql.accounts import Account

_MOST_AT_ONCE = 100
_EVERY_ACTION = tuple(GateAction)


@strawberry.type
class PowerState:
    """What its holds ask of its power, and what was last read of it."""

    desired: Power | None = strawberry.field(description="Null: no wish; the owner's business.")
    observed: Power
    observed_at: datetime | None


@strawberry.type
class BackupState:
    """What its holds ask of its backups, and what was last read of them."""

    desired: BackupAccess
    observed: BackupAccess
    observed_at: datetime | None


@strawberry.type
class Hold:
    """One reason, owned by one cause, why the server is restricted."""

    cause: HoldCause
    effects: list[Effect]
    since: datetime
    reason: str
    by: str
    expires_at: datetime | None


def _gate_at_hand(server: Server, context: Context, action: GateAction) -> Gate:
    return _gates_at_hand(server, context, [action])[0]


def _gates_at_hand(
    server: Server, context: Context, actions: Sequence[GateAction] | None = None
) -> list[Gate]:
    subjects = context.known_subjects.get(server.facts.row.account_id)
    if subjects is None:
        raise NotAtHandError
    return gates_of(context, server.facts, subjects, _EVERY_ACTION if actions is None else actions)


@strawberry.type
class Server(WorkedOut, Node):
    """What an account pays for."""

    external_id: str
    account: Annotated[Account, strawberry.lazy("api.graphql.accounts")]
    name: str
    site: str
    site_node: str | None
    kind: GuestKind
    guest: str | None
    sku: str
    price: Rate
    free: bool
    critical: bool
    stripe_subscription_id: str | None
    deployment: Deployment
    status: ServerStatus
    restoring: bool = strawberry.field(description="Paid for, on its way back.")
    power: PowerState
    backups: BackupState
    holds: list[Hold]
    in_sync: bool
    facts: strawberry.Private[ServerFacts]
    context: strawberry.Private[Context]

    @classmethod
    def of(cls, context: Context, facts: ServerFacts, account: Account) -> Server:
        """Return a server as it goes on the wire."""
        return cls.made_of(context=context, facts=facts, account=account)

    @strawberry.field
    async def coverage(self, info: Info) -> Standing | None:
        """The stage of this server alone when its subscription has ended; null while it is covered."""
        row = self.facts.row
        subject = await coverage_subject(info.context, row.account_id, row.id)
        return standing_of(info.context, subject) if subject is not None else None

    @strawberry.field
    @at_hand(_gate_at_hand)
    async def gate(self, info: Info, action: GateAction) -> Gate:
        """May this be done with it now?"""
        return (await server_gates(info.context, self.facts, [action]))[0]

    @strawberry.field
    @at_hand(_gates_at_hand)
    async def gates(self, info: Info, actions: list[GateAction] | None = None) -> list[Gate]:
        """The gates of these actions, or of all."""
        return await server_gates(info.context, self.facts, _EVERY_ACTION if actions is None else actions)

    @strawberry.field
    async def explanation(self, info: Info) -> list[Reason]:
        """Why it is in this state, since when, because of whom, and what would change it."""
        return await explain(info.context, self.facts)

    @strawberry.field
    async def history(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Connection[AuditEntry]:
        """Everything that was recorded about it, newest first."""
        return await history_of(
            info.context,
            Window(first=first, after=after),
            column="subject_id",
            owner=str(self.facts.row.id),
            noun="Server",
        )


async def show_servers(context: Context, rows: Sequence[models.Server]) -> list[Server]:
    """Return rows as they go on the wire, with accounts, holds, readings and restore records in bulk."""
    from api.graphql.accounts import accounts_by_key

    return await _show_of(context, rows, await accounts_by_key(context, [row.account_id for row in rows]))


async def _show_of(
    context: Context, rows: Sequence[models.Server], accounts: Mapping[int, Account]
) -> list[Server]:
    """Return the same of those whose accounts are among these."""
    facts = await load_facts([row for row in rows if row.account_id in accounts], context.now)
    if context.may_ask_for("gate"):
        # So that they are at hand: a task for every row would cost more than its gates.
        await context.know_subjects(account.row for account in accounts.values())
    return [Server.of(context, one, accounts[one.row.account_id]) for one in facts]


async def servers_by_key(context: Context, keys: Sequence[int]) -> dict[int, Server]:
    """Return the servers of these keys that the principal may see."""
    rows = await context.servers.load_many(list(dict.fromkeys(keys)))
    return {
        server.facts.row.id: server for server in await show_servers(context, [row for row in rows if row])
    }


async def server_by_key(context: Context, key: int | None) -> Server | None:
    """Return the server of this key if the principal may see it."""
    found: Server | None = await context.shown_servers.load(key) if key is not None else None
    return found


async def page_of_servers(
    context: Context, query: QuerySet[models.Server], asked: ServerFilter | None, window: Window
) -> Connection[Server]:
    """Return a page of these servers, oldest first."""

    async def show(rows: Sequence[models.Server]) -> list[Server]:
        return await show_servers(context, rows)

    rows: QuerySet[models.Server] | Rows[models.Server] = query
    if asked and (context.scope.is_customer or asked.account_id is not None):
        rows = query.filter(each(context, asked))
    elif asked:
        rows = Parted(query=query, parts=await parts(context, asked))
    return await page(rows, window, listing="servers", show=show)


async def servers_of(
    context: Context, account_id: int, asked: ServerFilter | None, window: Window
) -> Connection[Server]:
    """Return a page of an account's servers, oldest first."""

    def rows() -> QuerySet[models.Server]:
        query = context.scope.servers()
        return query.filter(each(context, asked)) if asked else query

    async def show(found: Sequence[models.Server]) -> list[Server]:
        return await show_servers(context, found)

    own = own_servers(context.scope, account_id) if asked is None else None
    page_asked = Asked(
        listing="servers", owner=account_id, column="account_id", window=window, narrowed=repr(asked), rows=rows,
        own=own, show=show,
    )  # fmt: skip
    servers: Connection[Server] = await context.pages.load(page_asked)
    return servers


def _power(server: Server) -> PowerState:
    facts = server.facts
    return PowerState(
        desired=Power.STOPPED if facts.desired.stop else None,
        observed=facts.power,
        observed_at=facts.observation.observed_at if facts.observation else None,
    )


def _backups(server: Server) -> BackupState:
    facts = server.facts
    return BackupState(
        desired=BackupAccess.LOCKED if facts.desired.lock_backups else BackupAccess.OPEN,
        observed=BackupAccess.UNKNOWN if facts.backups_locked is None else _access(facts.backups_locked),
        observed_at=facts.observation.deep_at if facts.observation else None,
    )


def _access(locked: bool) -> BackupAccess:
    return BackupAccess.LOCKED if locked else BackupAccess.OPEN


def _hold(server: Server, hold: models.Hold) -> Hold:
    context = server.context
    words = words_about(context, server.account.row)
    return Hold(
        cause=hold.cause,
        effects=in_order(effects_of(hold)),
        since=hold.since,
        reason=hold.reason if context.reads_about_servers else words.say(HOLDS[hold.cause]),
        by=context.actor(hold.placed_by),
        expires_at=hold.expires_at,
    )


_OF_ROW = (
    "external_id", "name", "site", "site_node", "kind", "guest", "sku", "free", "critical", "stripe_subscription_id",
    "deployment",
)  # fmt: skip
Server.works_out(
    {
        **{name: attrgetter(f"facts.row.{name}") for name in _OF_ROW},
        **{name: attrgetter(f"facts.{name}") for name in ("status", "restoring", "in_sync")},
        "id": lambda server: ids.global_id("Server", server.facts.row.id),
        "price": lambda server: Rate.of(server.facts.row.rate, server.account.currency),
        "power": _power,
        "backups": _backups,
        "holds": lambda server: [_hold(server, hold) for hold in server.facts.holds],
    }
)


@strawberry.type
class ServerQueries:
    """The part of the query type that is about servers."""

    @strawberry.field
    async def server(
        self,
        info: Info,
        id: strawberry.ID | None = None,  # noqa: A002  # the contract's name
        external_id: str | None = None,
    ) -> Server | None:
        """One server; null when there is none that the caller may see."""
        if external_id is None:
            return await server_by_key(info.context, ids.key_of("Server", id))
        row = await info.context.scope.servers().get_or_none(external_id=external_id)
        if row is None or (id is not None and row.id != ids.key_of("Server", id)):
            return None
        return (await show_servers(info.context, [row]))[0]

    @strawberry.field
    async def servers(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: ServerFilter | None = None,  # noqa: A002  # the contract's name
    ) -> Connection[Server]:
        """Servers, oldest first."""
        window = Window(first=first, after=after, last=last, before=before)
        return await page_of_servers(info.context, info.context.scope.servers(), filter, window)

    @strawberry.field
    async def servers_by_external_id(self, info: Info, external_ids: list[str]) -> list[Server | None]:
        """At most 100, in the order of the question; null where there is none. The control plane's gate question."""
        if len(external_ids) > _MOST_AT_ONCE:
            raise coded(f"ask for at most {_MOST_AT_ONCE} servers at once", LIMIT_EXCEEDED)
        from api.graphql.accounts import Account

        rows = await servers_with_accounts(info.context.scope, external_ids)
        accounts = {row.id: Account.made_of(row=row) for _, row in rows}
        found = {
            server.facts.row.external_id: server
            for server in await _show_of(info.context, [row for row, _ in rows], accounts)
        }
        return [found.get(external_id) for external_id in external_ids]
