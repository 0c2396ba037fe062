"""Plan, runs and health, read from where the reconciler left them."""

from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing.models import EventState, StripeMirror
from reconciler import restore_record, safety
from reconciler.guard_models import SafeModeKind
from reconciler.models import PlanSnapshot, ReconcilerState, Run, Server, SiteState, Step
from reconciler.rules.outcome import Outcome
from reconciler.rules.terms import Lane, Mode, RunState, StepState

pytestmark = pytest.mark.usefixtures("sqlite_database")

PLAN = """query($state: [StepState!], $account: ID, $site: String, $first: Int, $after: String) { plan {
  digest at mode text
  summary { advance stop start lockBackups unlockBackups heldBack drift skipped accounts
    moneyAtStake { amount currency } }
  steps(state: $state, accountId: $account, site: $site, first: $first, after: $after) { totalCount
    pageInfo { hasNextPage endCursor }
    edges { node { id kind state account { externalId } server { externalId } toStage reason invoices { id }
      heldBackBy heldBackReason heldBackUntil command } } } } }"""


def _step(server: Server, **given: Any) -> dict[str, Any]:
    values = {
        "kind": "STOP", "state": "PLANNED", "account_id": server.account_id, "server_id": server.id, "site": "demo",
        "node": "n1", "to_stage": None, "reason": "payment is overdue", "invoice_ids": [], "held_back_by": None,
        "held_back_reason": None, "command": None,
    }  # fmt: skip
    return values | given


async def _planned(door: Any, *steps: dict[str, Any]) -> PlanSnapshot:
    summary = {
        "advance": 1,
        "stop": 1,
        "held_back": 1,
        "skipped": 3,
        "accounts": 2,
        "money_at_stake": [{"minor": 500, "currency": "EUR"}],
    }
    return await PlanSnapshot.create(
        digest="abc", at=door.clock.now(), mode=Mode.APPLY, text="the plan",
        content={"summary": summary, "steps": list(steps)},
    )  # fmt: skip


async def test_before_the_first_pass_the_plan_is_empty(door: Any) -> None:
    """It says that there was no pass yet."""
    plan = (await door.data(Role.INFRA, PLAN))["plan"]
    assert (plan["digest"], plan["mode"], plan["steps"]["totalCount"]) == ("", "APPLY", 0)
    assert "No pass" in plan["text"]


async def test_it_shows_the_last_plan(door: Any, factory: Any) -> None:
    """It shows each step with its reason, its objects, and why it waits."""
    server = await factory.server()
    account = await server.account
    invoice = await factory.invoice(account)
    await _planned(door)
    await _planned(
        door,
        _step(server, kind="ADVANCE", state="HELD_BACK", server_id=None, to_stage="SUSPENDED", invoice_ids=[invoice.id],
              held_back_by="BLAST_RADIUS", held_back_reason="five a pass", held_back_until="2026-11-21T08:00:00+00:00"),
        _step(server, command="abeyance action observe x"),
    )  # fmt: skip
    plan = (await door.data(Role.INFRA, PLAN))["plan"]
    assert (plan["digest"], plan["at"], plan["text"]) == ("abc", "2026-11-20T09:00:00Z", "the plan")
    assert plan["summary"]["moneyAtStake"] == [{"amount": "5.00", "currency": "EUR"}]
    assert [plan["summary"][count] for count in ("advance", "start", "skipped")] == [1, 0, 3]
    climb, stop = (edge["node"] for edge in plan["steps"]["edges"])
    assert (climb["kind"], climb["state"], climb["toStage"]) == ("ADVANCE", "HELD_BACK", "SUSPENDED")
    assert (climb["heldBackBy"], climb["heldBackReason"]) == ("BLAST_RADIUS", "five a pass")
    assert (climb["heldBackUntil"], stop["heldBackUntil"]) == ("2026-11-21T08:00:00Z", None)
    assert climb["invoices"] == [{"id": ids.global_id("Invoice", invoice.id)}]
    assert climb["server"] is None
    assert stop["server"] == {"externalId": server.external_id}
    assert stop["account"] == {"externalId": account.external_id}
    assert stop["command"] == "abeyance action observe x"
    found = "query($id: ID!) { node(id: $id) { id ... on PlanStep { kind } } }"
    assert (await door.data(Role.INFRA, found, {"id": stop["id"]}))["node"] == {
        "id": stop["id"],
        "kind": "STOP",
    }
    for key in ("2.3", "9.1", "2.0", "2", "2.x", "-1.1"):
        missing = {"id": ids.global_id("PlanStep", key)}
        assert (await door.data(Role.INFRA, found, missing))["node"] is None


async def test_its_text_says_first_what_holds_restrictions_back_now(door: Any, factory: Any) -> None:
    """Also what was put on since the plan was made, which no plan of the same steps tells."""
    await _planned(door)
    now = door.clock.now()
    await safety.enter(SafeModeKind.CLOCK_JUMP, "the clock jumped", since=now, now=now)
    first, rest = (await door.data(Role.INFRA, PLAN))["plan"]["text"].split("\n")
    assert (first[:14], rest) == ("!! Safe mode s", "the plan")
    assert "the clock jumped: nothing is restricted for money; it ends once" in first


async def test_its_steps_are_narrowed_and_paged(door: Any, factory: Any) -> None:
    """It narrows by state, account and site, and walks page by page."""
    one, two = await factory.server(), await factory.server()
    await _planned(
        door,
        _step(one),
        _step(two),
        _step(two, state="HELD_BACK"),
        _step(one, site="zoo"),
        _step(one, state="DRIFT"),
        _step(two, state="SKIPPED", held_back_by="FREE"),
    )

    async def count(**asked: Any) -> int:
        return int((await door.data(Role.INFRA, PLAN, asked))["plan"]["steps"]["totalCount"])

    assert await count(state=["HELD_BACK", "DRIFT"]) == 2
    assert await count(state=["SKIPPED"]) == 1
    assert await count(account=ids.global_id("Account", two.account_id)) == 3
    assert await count(account="garbage") == 0
    assert await count(site="zoo") == 1
    seen, after = [], None
    while True:
        steps = (await door.data(Role.INFRA, PLAN, {"first": 2, "after": after}))["plan"]["steps"]
        seen += [edge["node"]["id"] for edge in steps["edges"]]
        after = steps["pageInfo"]["endCursor"]
        if not steps["pageInfo"]["hasNextPage"]:
            break
    assert len(seen) == len(set(seen)) == 6
    await _planned(door, _step(one))
    assert await door.code(Role.INFRA, PLAN, {"after": after}) == "BAD_CURSOR"


async def _run(door: Any, **given: Any) -> Run:
    values = {
        "tag": f"t{await Run.all().count()}", "action": "stop_guests", "site": "demo", "lane": Lane.RESTRICT,
        "plan_digest": "abc", "requested_by": "system:reconciler", "started_at": door.clock.now(), "log": "done",
    }  # fmt: skip
    return await Run.create(**(values | given))


async def test_it_shows_runs_with_their_targets(door: Any, factory: Any) -> None:
    """It tells for each server what was read before and after, and leaves out what has no verdict."""
    run = await _run(door, state=RunState.FINISHED, finished_at=door.clock.now())
    other = await _run(door, action="observe", site="zoo")
    stopped, pending = await factory.server(), await factory.server()
    await factory.step(
        stopped, run=run, state=StepState.DONE, outcome=Outcome.CHANGED, message="stopped",
        before={"power": "running", "onboot": True, "node": "n1"},
        after={"power": "stopped", "onboot": False, "backups_locked": True},
    )  # fmt: skip
    await factory.step(pending, run=run)
    query = """query($id: ID!, $outcome: Outcome) { run(id: $id) {
      action site state planDigest requestedBy log finishedAt
      targets(outcome: $outcome) { totalCount edges { node { server { externalId } outcome message at
        before { power onboot siteNode } after { power onboot backupsLocked role } } } } } }"""
    shown = (await door.data(Role.INFRA, query, {"id": ids.global_id("Run", run.id)}))["run"]
    assert (shown["state"], shown["log"], shown["requestedBy"]) == ("FINISHED", "done", "system:reconciler")
    (target,) = (edge["node"] for edge in shown["targets"]["edges"])
    assert (target["server"]["externalId"], target["outcome"]) == (stopped.external_id, "CHANGED")
    assert target["before"] == {"power": "RUNNING", "onboot": True, "siteNode": "n1"}
    assert target["after"] == {"power": "STOPPED", "onboot": False, "backupsLocked": True, "role": None}
    failed = {"id": ids.global_id("Run", run.id), "outcome": "FAILED"}
    assert (await door.data(Role.INFRA, query, failed))["run"]["targets"]["totalCount"] == 0
    assert (await door.data(Role.INFRA, query, {"id": "garbage"}))["run"] is None
    listed = "query($a: String, $s: String) { runs(action: $a, site: $s) { edges { node { id } } } }"
    everything = (await door.data(Role.INFRA, listed))["runs"]["edges"]
    assert [edge["node"]["id"] for edge in everything] == [
        ids.global_id("Run", one.id) for one in (other, run)
    ]
    for narrowed in ({"a": "observe"}, {"s": "zoo"}):
        assert len((await door.data(Role.INFRA, listed, narrowed))["runs"]["edges"]) == 1


HEALTH = """{ reconciler { mode paused breakerOpen breakerReason safeMode safeModeReason lastPassAt lastObservedAt
  factsAgeSeconds oldestPendingEventSeconds oldestWaitingRestoreSeconds deadLetters } }"""


async def test_health_of_a_fresh_installation(door: Any) -> None:
    """It knows nothing yet and says so with nulls; before `apply --first` it looks, whatever it is set to."""
    health = (await door.data(Role.SUPPORT, HEALTH))["reconciler"]
    assert health["mode"] == "PLAN"
    assert health["paused"] is health["breakerOpen"] is health["safeMode"] is False
    assert health["lastPassAt"] is health["factsAgeSeconds"] is health["oldestPendingEventSeconds"] is None
    assert health["deadLetters"] == 0


async def test_health_tells_ages_and_troubles(door: Any, factory: Any) -> None:
    """It tells the oldest of what waits, and why anything is held."""
    now = door.clock.now()
    await ReconcilerState.get_or_create(id=1)
    await ReconcilerState.filter(id=1).update(
        last_pass_at=now - timedelta(seconds=5), breaker_open_at=now, breaker_reason="many at once",
        safe_mode_since=now, safe_mode_reason="clock jumped", paused_at=now, paused_by="x", paused_reason="y",
    )  # fmt: skip
    await StripeMirror.update_or_create({"last_full_sweep_at": now - timedelta(seconds=90)}, id=1)
    for seconds in (30, 700, 60):
        await factory.stripe_event(received_at=now - timedelta(seconds=seconds))
    await factory.stripe_event(state=EventState.DEAD, processed_at=now)
    for site, minutes in (("demo", 1), ("zoo", 8)):
        await SiteState.create(site=site, complete_at=now - timedelta(minutes=minutes))
    server = await factory.server()
    await factory.step(server, lane=Lane.RESTORE, dispatched_at=now - timedelta(seconds=3))
    await factory.hold(server, lifted_at=now - timedelta(seconds=12), lifted_by="system:reconciler")
    owner = restore_record.Owner(site=server.site, server_id=server.id)
    await restore_record.take(owner, [("power", "", "RUNNING")], step_id=1, at=now)
    health = (await door.data(Role.INFRA, HEALTH))["reconciler"]
    assert health["paused"] is health["breakerOpen"] is health["safeMode"] is True
    assert (health["breakerReason"], health["safeModeReason"]) == ("many at once", "clock jumped")
    assert health["lastPassAt"] == "2026-11-20T08:59:55Z"
    assert health["lastObservedAt"] == "2026-11-20T08:52:00Z"
    assert health["factsAgeSeconds"] == 90
    assert health["oldestPendingEventSeconds"] == 700
    assert health["oldestWaitingRestoreSeconds"] == 12
    assert health["deadLetters"] == 1
    assert await Step.all().count() == 1


async def test_the_audit_trail_is_read_by_subject(door: Any, factory: Any) -> None:
    """It is narrowed to one object, newest first, with a way to that object."""
    account = await factory.account()
    other = await factory.account()
    for one in (account, other, account):
        asked = {"accountId": ids.global_id("Account", one.id), "reason": f"look at {one.id}"}
        await door.do(Role.INFRA, "reconcileRequest", asked)
    query = """query($id: ID) { audit(subjectId: $id) { totalCount edges { node {
      actor kind reason subjectId hash subject { id ... on Account { externalId } } } } } }"""
    subject = ids.global_id("Account", account.id)
    found = (await door.data(Role.SUPPORT, query, {"id": subject}))["audit"]
    assert found["totalCount"] == 2
    node = found["edges"][0]["node"]
    assert (node["actor"], node["subjectId"], node["hash"]) == ("infra:infra-anna", subject, None)
    assert node["subject"] == {"id": subject, "externalId": account.external_id}
    assert (await door.data(Role.SUPPORT, query, {"id": "garbage"}))["audit"]["totalCount"] == 0
    assert (await door.data(Role.SUPPORT, query))["audit"]["totalCount"] >= 5
