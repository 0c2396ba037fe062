"""Ending runs, trying again, and servers that change hands, as infra and the control plane ask for them."""

from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from reconciler.models import Run, Server, Step
from reconciler.rules.terms import Lane, StepState

pytestmark = pytest.mark.usefixtures("sqlite_database")


def _codes(payload: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["path"]) for error in payload["errors"]]


def _id(row: Any) -> str:
    return ids.global_id(type(row).__name__, row.id)


async def _run(clock: Any, lane: Lane) -> Run:
    return await Run.create(
        tag=lane, action="observe", site="demo", node="node1", lane=lane, plan_digest="", requested_by="infra:ida",
        started_at=clock.now(),
    )  # fmt: skip


async def test_a_run_is_ended(door: Any) -> None:
    """The wish is kept for the process that attends to it; one that gives back is refused."""
    run, restore = await _run(door.clock, Lane.RESTRICT), await _run(door.clock, Lane.RESTORE)
    payload = await door.do(
        Role.INFRA, "runCancel", {"runId": _id(run), "reason": "node is busy"}, show="run { id state }"
    )
    assert payload == {"errors": [], "run": {"id": _id(run), "state": "RUNNING"}}
    assert (await Run.get(id=run.id)).cancel_wanted_at == door.clock.now()
    for wrong in (_id(restore), ids.global_id("Run", 99), "nonsense"):
        code = "CONFLICT" if wrong == _id(restore) else "NOT_FOUND"
        given = {"runId": wrong, "reason": "x"}
        assert _codes(await door.do(Role.ADMIN, "runCancel", given)) == [(code, ["input", "runId"])]


async def test_a_step_is_tried_again(door: Any, factory: Any) -> None:
    """And the reconciler is woken for its account."""
    server = await factory.server()
    later = door.clock.now() + timedelta(hours=6)
    await factory.step(server, state=StepState.FAILED, retry_at=later)
    given = {"serverId": _id(server), "reason": "the node is back"}
    payload = await door.do(Role.INFRA, "stepRetry", given, show="server { id }")
    assert payload == {"errors": [], "server": {"id": _id(server)}}
    assert (await Step.get()).retry_at is None
    assert door.wakes == [server.account_id]
    assert _codes(await door.do(Role.INFRA, "stepRetry", given)) == [("CONFLICT", ["input", "serverId"])]
    given["serverId"] = ids.global_id("Server", 99)
    assert _codes(await door.do(Role.INFRA, "stepRetry", given)) == [("NOT_FOUND", ["input", "serverId"])]


async def test_a_server_changes_hands(door: Any, factory: Any) -> None:
    """It is the new account's at once, and both accounts are looked at."""
    server, new = await factory.server(), await factory.account()
    given = {"serverId": _id(server), "toAccountId": _id(new), "reason": "sold"}
    payload = await door.do(Role.CONTROL, "serverTransfer", given, show="server { account { externalId } }")
    assert payload == {"errors": [], "server": {"account": {"externalId": new.external_id}}}
    assert sorted(door.wakes) == sorted([server.account_id, new.id])
    assert (await Server.get(id=server.id)).account_id == new.id
    for field, noun in (("serverId", "Server"), ("toAccountId", "Account")):
        wrong = given | {field: ids.global_id(noun, 99)}
        assert _codes(await door.do(Role.CONTROL, "serverTransfer", wrong)) == [
            ("NOT_FOUND", ["input", field])
        ]
