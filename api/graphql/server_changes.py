"""Changing servers: registered, updated and retired by the control plane, switched by their owner, held by staff."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import UNSET

from api.graphql import ids
from api.graphql.context import Context, Info
from api.graphql.errors import UserError, refusable
from api.graphql.nodes import Deployment, GuestKind, PlaceableCause, PlaceableEffect, PowerWish
from api.graphql.optional import told, told_or_cleared
from api.graphql.own_account import account_of
from api.graphql.servers import Server, show_servers
from api.models import Role
from billing.refusal import RefusalCode, refusal
from billing.rules.terms import HoldCause
from billing.rules.words import phrase
from reconciler import holds, models, servers
from reconciler.holds import HoldPlacement
from reconciler.servers import Registration, ServerChange
from reconciler.transfer import transfer


@strawberry.input
class ServerRegisterInput:
    """A server as the control plane first tells of it."""

    account_id: strawberry.ID | None = None
    account_external_id: str | None = None
    external_id: str
    name: str
    site: str
    kind: GuestKind
    site_node: str | None = strawberry.field(
        default=None, description="Required for lxc and libvirt, where names repeat."
    )
    guest: str | None = None
    sku: str
    deployment: Deployment | None = None
    deployed_at: datetime | None = None
    free: bool | None = None
    critical: bool | None = None
    stripe_subscription_id: str | None = None


@strawberry.input(description="A change of sku takes the price of that day.")
class ServerUpdateInput:
    """What the control plane tells about a server it registered; what is left out stays as it is."""

    server_id: strawberry.ID | None = None
    server_external_id: str | None = None
    name: str | None = UNSET
    guest: str | None = UNSET
    site_node: str | None = UNSET
    sku: str | None = UNSET
    deployment: Deployment | None = UNSET
    at: datetime | None = None
    free: bool | None = UNSET
    critical: bool | None = UNSET
    stripe_subscription_id: str | None = UNSET
    reason: str | None = None


@strawberry.input
class ServerTransferInput:
    """A server that goes to another account."""

    server_id: strawberry.ID
    to_account_id: strawberry.ID
    reason: str


@strawberry.input
class ServerRetireInput:
    """A server that is gone for us."""

    server_id: strawberry.ID | None = None
    server_external_id: str | None = None
    reason: str


@strawberry.input
class ServerPowerSetInput:
    """What the owner wants of a server's power."""

    server_id: strawberry.ID
    power: PowerWish


@strawberry.input
class HoldPlaceInput:
    """A restriction by hand."""

    server_id: strawberry.ID
    cause: PlaceableCause
    effects: list[PlaceableEffect]
    reason: str
    expires_at: datetime | None = None


@strawberry.input
class HoldLiftInput:
    """The end of a restriction by hand."""

    server_id: strawberry.ID
    cause: PlaceableCause
    reason: str


@strawberry.type
class ServerPayload:
    """The server as it now is, or why nothing was done."""

    server: Server | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


#: Which causes a role may place and lift.
CAUSES = {
    Role.ADMIN: frozenset({PlaceableCause.ABUSE, PlaceableCause.ADMIN, PlaceableCause.MAINTENANCE}),
    Role.INFRA: frozenset({PlaceableCause.MAINTENANCE}),
    Role.CONTROL: frozenset({PlaceableCause.ABUSE, PlaceableCause.MAINTENANCE}),
}


@strawberry.type
class ServerMutations:
    """The part of the mutation type that changes servers."""

    @strawberry.mutation
    @refusable(ServerPayload)
    async def server_register(
        self,
        info: Info,
        input: ServerRegisterInput,  # noqa: A002  # the contract's name
    ) -> ServerPayload:
        """Record a server of an account; the same request again changes nothing."""
        context = info.context
        account_id = await _account_key(context, input.account_id, input.account_external_id)
        row = await servers.register(
            _registration(input, account_id),
            platforms=context.ports.platforms(),
            actor=context.principal.actor,
            now=context.now,
        )
        return await _answered(context, row)

    @strawberry.mutation
    @refusable(ServerPayload)
    async def server_update(
        self,
        info: Info,
        input: ServerUpdateInput,  # noqa: A002  # the contract's name
    ) -> ServerPayload:
        """Change what is named of a server."""
        context = info.context
        row = await _server(context, input.server_id, input.server_external_id)
        change = ServerChange(
            name=told(input.name),
            guest=told(input.guest),
            site_node=told_or_cleared(input.site_node),
            sku=told(input.sku),
            deployment=told(input.deployment),
            at=input.at,
            free=told(input.free),
            critical=told(input.critical),
            stripe_subscription_id=told_or_cleared(input.stripe_subscription_id),
        )
        changed = await servers.update(
            row.id,
            change,
            platforms=context.ports.platforms(),
            reason=input.reason,
            actor=context.principal.actor,
            now=context.now,
        )
        return await _answered(context, changed)

    @strawberry.mutation
    @refusable(ServerPayload)
    async def server_transfer(
        self,
        info: Info,
        input: ServerTransferInput,  # noqa: A002  # the contract's name
    ) -> ServerPayload:
        """Give a server to another account; what the former one's billing took is given back."""
        context = info.context
        row = await _server(context, input.server_id, None)
        to = await account_of(context, input.to_account_id, path="toAccountId")
        moved = await transfer(
            row.id, to.id, reason=input.reason, actor=context.principal.actor, now=context.now
        )
        context.woken(row.account_id)
        return await _answered(context, moved)

    @strawberry.mutation
    @refusable(ServerPayload)
    async def server_retire(
        self,
        info: Info,
        input: ServerRetireInput,  # noqa: A002  # the contract's name
    ) -> ServerPayload:
        """Record that a server is gone; nothing is done to its guest."""
        context = info.context
        row = await _server(context, input.server_id, input.server_external_id)
        retired = await servers.retire(
            row.id, reason=input.reason, actor=context.principal.actor, now=context.now
        )
        return await _answered(context, retired)

    @strawberry.mutation
    @refusable(ServerPayload)
    async def server_power_set(
        self,
        info: Info,
        input: ServerPowerSetInput,  # noqa: A002  # the contract's name
    ) -> ServerPayload:
        """Switch a server off, or on again."""
        context = info.context
        row = await _server(context, input.server_id, None)
        set_power = holds.switch_off if input.power is PowerWish.STOPPED else holds.switch_on
        return await _answered(
            context, await set_power(row.id, actor=context.principal.actor, now=context.now)
        )

    @strawberry.mutation
    @refusable(ServerPayload)
    async def hold_place(
        self,
        info: Info,
        input: HoldPlaceInput,  # noqa: A002  # the contract's name
    ) -> ServerPayload:
        """Restrict a server for a cause that is not money."""
        context = info.context
        _refuse_cause(context, input.cause)
        row = await _server(context, input.server_id, None)
        placement = HoldPlacement(
            server_id=row.id,
            cause=HoldCause(input.cause.value),
            stops_server=PlaceableEffect.STOP_SERVERS in input.effects,
            locks_backups=PlaceableEffect.LOCK_BACKUPS in input.effects,
            reason=input.reason,
            expires_at=input.expires_at,
        )
        return await _answered(
            context, await holds.place(placement, actor=context.principal.actor, now=context.now)
        )

    @strawberry.mutation
    @refusable(ServerPayload)
    async def hold_lift(
        self,
        info: Info,
        input: HoldLiftInput,  # noqa: A002  # the contract's name
    ) -> ServerPayload:
        """End a restriction for a cause that is not money."""
        context = info.context
        _refuse_cause(context, input.cause)
        row = await _server(context, input.server_id, None)
        lifted = await holds.lift(
            row.id,
            HoldCause(input.cause.value),
            reason=input.reason,
            actor=context.principal.actor,
            now=context.now,
        )
        return await _answered(context, lifted)


async def _answered(context: Context, row: models.Server) -> ServerPayload:
    """Wake the reconciler and show the server as it now is."""
    context.woken(row.account_id)
    return ServerPayload(server=(await show_servers(context, [row]))[0])


async def _server(context: Context, server_id: str | None, external_id: str | None) -> models.Server:
    """Return the named server if the principal may see it; otherwise it is refused like one that does not exist."""
    query = context.scope.servers()
    if server_id is not None:
        row = await query.get_or_none(id=ids.key_of("Server", server_id) or 0)
        if row is not None and external_id in (None, row.external_id):
            return row
        raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such server."), "serverId")
    row = await query.get_or_none(external_id=external_id) if external_id is not None else None
    if row is None:
        raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such server."), "serverExternalId")
    return row


async def _account_key(context: Context, account_id: str | None, external_id: str | None) -> int:
    if account_id is not None:
        named = await account_of(context, account_id)
        if external_id not in (None, named.external_id):
            raise refusal(RefusalCode.NOT_FOUND, "there is no such account", "accountId")
        return int(named.id)
    rows = context.scope.accounts()
    row = await rows.get_or_none(external_id=external_id) if external_id is not None else None
    if row is None:
        raise refusal(RefusalCode.NOT_FOUND, "there is no such account", "accountExternalId")
    return int(row.id)


def _registration(asked: ServerRegisterInput, account_id: int) -> Registration:
    return Registration(
        account_id=account_id,
        external_id=asked.external_id,
        name=asked.name,
        site=asked.site,
        kind=asked.kind,
        site_node=asked.site_node,
        guest=asked.guest,
        sku=asked.sku,
        deployment=asked.deployment or Deployment.SUCCEEDED,
        deployed_at=asked.deployed_at,
        free=bool(asked.free),
        critical=bool(asked.critical),
        stripe_subscription_id=asked.stripe_subscription_id,
    )


def _refuse_cause(context: Context, cause: PlaceableCause) -> None:
    role = context.principal.role
    if cause not in CAUSES.get(role, frozenset()):
        raise refusal(RefusalCode.FORBIDDEN, f"{role} places and lifts no {cause.value} holds", "cause")
