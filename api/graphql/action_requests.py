"""Asking for an action by hand, and for a look at everything.

Only `observe` and undoing actions pass; whatever would restrict, destroy or is unknown is refused and leaves a trace.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import strawberry
from graphql import GraphQLError

from api.graphql import ids
from api.graphql.context import Context, Info
from api.graphql.enforcement import ReconcilerPayload
from api.graphql.errors import FORBIDDEN, UserError, refusable
from api.graphql.own_account import account_of
from api.graphql.reconciler import health_of
from api.graphql.runs import Run, run_by_key
from api.idempotency import Request, claimed, once
from billing.audit import record
from billing.models import Account
from billing.refusal import RefusalCode, RefusalError, refusal, required_reason

#: Of an action's name that nobody knows, no more than this is kept.
_LONGEST_ACTION = 100


@strawberry.input
class ActionRequestInput:
    """One action on one server."""

    action: str
    server_id: strawberry.ID
    reason: str
    idempotency_key: str


@strawberry.input
class ReconcileRequestInput:
    """What to look at; nothing named: everything."""

    site: str | None = None
    account_id: strawberry.ID | None = None
    reason: str


@strawberry.type
class RunPayload:
    """The run, where one began at once, or why nothing was done."""

    run: Run | None = None
    errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class ActionMutations:
    """The part of the mutation type that asks the reconciler for something."""

    @strawberry.mutation
    @refusable(RunPayload)
    async def action_request(
        self,
        info: Info,
        input: ActionRequestInput,  # noqa: A002  # the contract's name
    ) -> RunPayload:
        """Look at a server, or give back what nothing holds any more."""
        context = info.context
        request = Request(
            actor=context.principal.actor,
            operation="actionRequest",
            key=input.idempotency_key,
            body={"action": input.action, "server": input.server_id, "reason": input.reason},
        )
        if input.action not in context.ports.actions.allowed():
            raise await _refused(context, input, request)
        required_reason(input.reason)

        async def act(_: bool) -> dict[str, int | None]:
            return {"run": await _begin(context, input)}

        answer = await once(request, now=context.now, act=act)
        return RunPayload(run=await run_by_key(context, answer["run"]))

    @strawberry.mutation
    @refusable(ReconcilerPayload)
    async def reconcile_request(
        self,
        info: Info,
        input: ReconcileRequestInput,  # noqa: A002  # the contract's name
    ) -> ReconcilerPayload:
        """Have an account, or everything, looked at now. Sites are observed within the next cycle anyway."""
        context = info.context
        reason = required_reason(input.reason)
        account_id = None
        if input.account_id is not None:
            account_id = (await account_of(context, input.account_id)).id
        if input.site is not None and input.site not in context.ports.platforms():
            raise refusal(RefusalCode.NOT_FOUND, "there is no such site", "site")
        if account_id is not None:
            await Account.filter(id=account_id).update(next_change_at=context.now)
        await record(
            "reconcile.requested",
            ("Account", account_id) if account_id is not None else ("Site", input.site or "all"),
            at=context.now,
            actor=context.principal.actor,
            reason=reason,
            account_id=account_id,
        )
        context.woken(account_id)
        return ReconcilerPayload(reconciler=await health_of(context))


async def _begin(context: Context, asked: ActionRequestInput) -> int | None:
    row = await context.scope.servers().get_or_none(
        id=ids.key_of("Server", asked.server_id) or 0, retired_at__isnull=True
    )
    if row is None:
        raise refusal(RefusalCode.NOT_FOUND, "there is no such server", "serverId")
    actor = context.principal.actor
    if asked.action == "observe":
        return await context.ports.actions.observe(row.id, actor=actor)
    await context.ports.actions.give_back(asked.action, row.id, reason=asked.reason, actor=actor)
    return None


async def _refused(context: Context, asked: ActionRequestInput, request: Request) -> RefusalError:
    """Return the refusal of an action that nobody may ask for, with its trace; a repetition leaves no second one."""
    if await claimed(request, now=context.now, answer={"refused": _kept(asked.action)}):
        key = ids.key_of("Server", asked.server_id)
        await record(
            "action.refused",
            ("Server", key if key is not None else "unknown"),
            at=context.now,
            actor=context.principal.actor,
            reason=_storable(asked.reason),
            account_id=await _owner(context, key),
            after={"action": _kept(asked.action)},
        )
    allowed = ", ".join(sorted(context.ports.actions.allowed()))
    return refusal(
        RefusalCode.DESTRUCTIVE_REFUSED,
        f"only these actions can be asked for: {allowed}; nothing that restricts or destroys ever can",
        "action",
    )


async def note_denied(
    context: Context, variables: Mapping[str, object], errors: Sequence[GraphQLError]
) -> None:
    """Leave a trace of a role that may not even ask for an action and did; one row a day for the same wish."""
    if not any(
        error.message.endswith("Mutation.actionRequest") and (error.extensions or {}).get("code") == FORBIDDEN
        for error in errors
    ):
        return
    inputs = [value for value in variables.values() if isinstance(value, Mapping)]
    asked = next((value for value in inputs if "action" in value), {})
    action, server = _kept(str(asked.get("action", "not told"))), str(asked.get("serverId", ""))
    wish = {"action": action, "server": server}
    mark = hashlib.sha256(json.dumps(wish).encode()).hexdigest()
    principal = context.principal
    request = Request(
        actor=principal.actor, operation="actionRequest", key=f"denied {context.now:%F} {mark}", body=wish
    )
    if not await claimed(request, now=context.now, answer={"refused": action}):
        return
    key = ids.key_of("Server", server)
    await record(
        "action.refused",
        ("Server", key if key is not None else "unknown"),
        at=context.now,
        actor=principal.actor,
        reason=f"{principal.role} may not ask for actions",
        account_id=await _owner(context, key),
        after={"action": action},
    )


def _kept(action: str) -> str:
    """Return what is kept of an action's name that nobody knows."""
    return _storable(action)[:_LONGEST_ACTION]


def _storable(text: str) -> str:
    """Return a text as any database can keep it: half a surrogate pair is no character, NUL not for PostgreSQL."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


async def _owner(context: Context, server_id: int | None) -> int | None:
    row = await context.scope.servers().get_or_none(id=server_id) if server_id is not None else None
    return row.account_id if row is not None else None
