"""Asking for actions and for a look: only what looks or gives back, once per key, and a trace of everything else."""

from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing.models import Account, AuditEntry
from reconciler.models import Run
from reconciler.rules.terms import Lane

pytestmark = pytest.mark.usefixtures("sqlite_database")


def _codes(payload: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["path"]) for error in payload["errors"]]


def _id(row: Any) -> str:
    return ids.global_id(type(row).__name__, row.id)


def _action(server: Any, **given: Any) -> dict[str, Any]:
    return {"action": "observe", "serverId": _id(server), "reason": "look", "idempotencyKey": "k1"} | given


async def _run(clock: Any) -> Run:
    return await Run.create(
        tag="t", action="observe", site="demo", lane=Lane.OBSERVE, plan_digest="", requested_by="infra:ida",
        started_at=clock.now(),
    )  # fmt: skip


async def test_an_observation_is_asked_for_once(door: Any, factory: Any) -> None:
    """It begins one run, and the same request again is answered with that run."""
    server = await factory.server()
    run = await _run(door.clock)
    for _ in range(3):
        payload = await door.do(Role.INFRA, "actionRequest", _action(server), show="run { id action state }")
        assert payload == {"errors": [], "run": {"id": _id(run), "action": "observe", "state": "RUNNING"}}
    assert door.hands.asked == [("observe", server.id)]


async def test_giving_back_is_asked_for(door: Any, factory: Any) -> None:
    """It has no run of its own: the next pass does it."""
    server = await factory.server()
    payload = await door.do(
        Role.ADMIN, "actionRequest", _action(server, action="start_guests"), show="run { id }"
    )
    assert payload == {"errors": [], "run": None}
    assert door.hands.asked == [("start_guests", server.id)]


async def test_a_key_is_for_one_request(door: Any, factory: Any) -> None:
    """It refuses the same key for another server, another action or another reason."""
    server, other = await factory.server(), await factory.server()
    await door.do(Role.INFRA, "actionRequest", _action(server))
    for given in (_action(other), _action(server, action="open_access"), _action(server, reason="x")):
        payload = await door.do(Role.INFRA, "actionRequest", given)
        assert _codes(payload) == [("IDEMPOTENCY_MISMATCH", ["input", "idempotencyKey"])]
    assert door.hands.asked == [("observe", server.id)]
    assert (await door.do(Role.ADMIN, "actionRequest", _action(other)))["errors"] == []


async def test_a_refused_request_frees_its_key(door: Any, factory: Any) -> None:
    """It may be tried again with the same key once it can be done."""
    server = await factory.server()
    door.hands.refuses = True
    assert _codes(await door.do(Role.INFRA, "actionRequest", _action(server))) == [
        ("CONFLICT", ["input", "serverId"])
    ]
    door.hands.refuses = False
    assert (await door.do(Role.INFRA, "actionRequest", _action(server)))["errors"] == []


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "a\nb"])
async def test_a_key_has_a_shape(door: Any, factory: Any, key: str) -> None:
    """It refuses a key that could not be kept."""
    payload = await door.do(Role.INFRA, "actionRequest", _action(await factory.server(), idempotencyKey=key))
    assert _codes(payload) == [("INVALID", ["input", "idempotencyKey"])]


FORBIDDEN_ACTIONS = [
    "delete_suspended_server", "stop_guests", "lock_backups", "close_access", "destroy", "Observe", "observe ", "",
    "../observe", "purge" * 100,
]  # fmt: skip


@pytest.mark.parametrize("action", FORBIDDEN_ACTIONS)
async def test_what_restricts_or_destroys_is_refused_and_leaves_one_trace(
    door: Any, factory: Any, action: str
) -> None:
    """It asks nobody for anything, tells the code and writes exactly one audit row."""
    server = await factory.server()
    before = await AuditEntry.all().count()
    token = await door.token(Role.ADMIN)
    assert token
    before = await AuditEntry.all().count()
    payload = await door.do(Role.ADMIN, "actionRequest", _action(server, action=action))
    assert _codes(payload) == [("DESTRUCTIVE_REFUSED", ["input", "action"])]
    assert door.hands.asked == []
    assert await AuditEntry.all().count() == before + 1
    entry = await AuditEntry.get(kind="action.refused")
    assert (entry.actor, entry.account_id, entry.subject_id) == (
        "admin:admin-anna",
        server.account_id,
        str(server.id),
    )
    assert action[:100] in (entry.after or "")


async def test_a_repeated_forbidden_request_leaves_no_second_trace(door: Any, factory: Any) -> None:
    """It answers the same again; another request with the same key leaves its own trace, and no way around."""
    server = await factory.server()
    forbidden = _action(server, action="delete_suspended_server")
    for _ in range(2):
        payload = await door.do(Role.ADMIN, "actionRequest", forbidden)
        assert _codes(payload) == [("DESTRUCTIVE_REFUSED", ["input", "action"])]
    assert await AuditEntry.filter(kind="action.refused").count() == 1
    other = await door.do(Role.ADMIN, "actionRequest", forbidden | {"action": "destroy"})
    assert _codes(other) == [("DESTRUCTIVE_REFUSED", ["input", "action"])]
    assert await AuditEntry.filter(kind="action.refused").count() == 2


@pytest.mark.parametrize("given", [{"serverId": "garbage"}, {"idempotencyKey": ""}, {"reason": ""}])
async def test_a_forbidden_request_leaves_its_trace_however_wrong_it_is(
    door: Any, factory: Any, given: dict[str, Any]
) -> None:
    """It is refused as destructive first, whatever else is wrong with it."""
    asked = _action(await factory.server(), action="delete_suspended_server") | given
    payload = await door.do(Role.INFRA, "actionRequest", asked)
    assert _codes(payload) == [("DESTRUCTIVE_REFUSED", ["input", "action"])]
    assert await AuditEntry.filter(kind="action.refused").count() == 1


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.SUPPORT, Role.CONTROL])
async def test_others_do_not_even_ask(door: Any, factory: Any, role: Role) -> None:
    """It is refused to roles without the right before anything happens, and leaves a trace."""
    server = await factory.server()
    account = (await server.account).external_id if role is Role.CUSTOMER else None
    query = "mutation M($input: ActionRequestInput!) { actionRequest(input: $input) { errors { code } } }"
    assert await door.code(role, query, {"input": _action(server)}, account=account) == "FORBIDDEN"
    assert door.hands.asked == []
    assert await AuditEntry.filter(kind="action.refused").count() == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"serverId": "garbage"}, ("NOT_FOUND", ["input", "serverId"])),
        ({"reason": " "}, ("REASON_REQUIRED", ["input", "reason"])),
    ],
)
async def test_an_allowed_action_needs_a_server_and_a_reason(
    door: Any, factory: Any, given: dict[str, Any], expected: tuple[str, list[str]]
) -> None:
    """It is refused with its field."""
    payload = await door.do(Role.INFRA, "actionRequest", _action(await factory.server()) | given)
    assert _codes(payload) == [expected]


async def test_a_look_is_asked_for(door: Any, factory: Any) -> None:
    """It makes an account due at once, or wakes the whole, and leaves a trace."""
    account = await factory.account()
    given = {"accountId": _id(account), "reason": "paid by phone"}
    payload = await door.do(Role.INFRA, "reconcileRequest", given, show="reconciler { lastPassAt }")
    assert payload["errors"] == []
    assert (await Account.get()).next_change_at == door.clock.now()
    assert (await door.do(Role.INFRA, "reconcileRequest", {"reason": "all", "site": "demo"}))["errors"] == []
    assert door.wakes == [account.id, None]
    assert await AuditEntry.filter(kind="reconcile.requested").count() == 2
    for wrong, path in (({"site": "mars"}, "site"), ({"accountId": "x"}, "accountId")):
        refused = await door.do(Role.INFRA, "reconcileRequest", {"reason": "r"} | wrong)
        assert _codes(refused) == [("NOT_FOUND", ["input", path])]
