"""What is ahead, as the staff sees it."""

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing.models import Account, Invoice
from reconciler import outlook
from reconciler.models import ReconcilerState

pytestmark = pytest.mark.usefixtures("sqlite_database")

CHECKOUT = Path(__file__).parents[3]
FORECAST = """query($days: Int!, $first: Int, $after: String, $account: ID, $to: Stage) {
  forecast(days: $days, first: $first, after: $after, accountId: $account, to: $to) {
    totalCount pageInfo { hasNextPage endCursor }
    edges { node { at account { externalId } server { externalId } from to servers waitingFor } }
} }"""
PREVIEW = """query($source: String!, $days: Int!, $instead: String! = "standard") {
  policyPreview(source: $source, days: $days, insteadOf: $instead) { valid problems
    changes(first: 50) { totalCount edges { node { at until account { externalId } from to servers } } }
} }"""


async def _ahead(door: Any, role: Role = Role.INFRA, **variables: Any) -> tuple[dict[str, Any], list[Any]]:
    found = (await door.data(role, FORECAST, {"days": 30, **variables}))["forecast"]
    rows = [edge["node"] for edge in found["edges"]]
    return found, [(row["account"]["externalId"], row["from"], row["to"]) for row in rows]


async def _debtor(factory: Any, servers: int = 1) -> Any:
    account = await factory.account()
    await factory.invoice(account)
    for _ in range(servers):
        await factory.observation(await factory.server(account))
    return account


async def test_it_tells_who_reaches_which_stage_when(door: Any, factory: Any) -> None:
    """The earliest first, with the servers that a stage reaches."""
    account = await _debtor(factory, servers=2)
    answer = await door.data(Role.SUPPORT, FORECAST, {"days": 5})
    rows = [edge["node"] for edge in answer["forecast"]["edges"]]
    name = account.external_id
    assert rows == [
        {"at": f"2026-11-{day}T09:00:00Z", "account": {"externalId": name}, "server": None, "from": before,
         "to": after, "servers": 2, "waitingFor": None}
        for day, before, after in (
            (20, "CURRENT", "PAST_DUE"), (23, "PAST_DUE", "FINAL_NOTICE"), (25, "FINAL_NOTICE", "SUSPENDED"),
        )
    ]  # fmt: skip


async def test_it_narrows_to_an_account_and_a_stage(door: Any, factory: Any) -> None:
    """One account is foreseen among all, since they share the limits."""
    one, _ = await _debtor(factory), await _debtor(factory)
    key = ids.global_id("Account", one.id)
    _, rows = await _ahead(door, account=key, to="SUSPENDED")
    assert rows == [(one.external_id, "FINAL_NOTICE", "SUSPENDED")]
    assert (await _ahead(door, account="nobody"))[1] == []


async def test_its_pages_join_without_a_gap(door: Any, factory: Any) -> None:
    """Many rows of one instant are told apart, and a page goes on where the last one ended while time passes."""
    for _ in range(5):
        await _debtor(factory)
    whole, rows = await _ahead(door, first=100)
    paged: list[Any] = []
    after = None
    while True:
        answer, some = await _ahead(door, first=4, after=after)
        paged += some
        after = answer["pageInfo"]["endCursor"]
        door.clock.advance(timedelta(seconds=1))
        if not answer["pageInfo"]["hasNextPage"]:
            break
    assert paged == rows
    assert whole["totalCount"] == len(rows) == 20
    assert (
        await door.code(Role.ADMIN, FORECAST, {"days": 5, "after": ids.cursor("forecast 5", 1)})
        == "BAD_CURSOR"
    )


async def test_it_is_made_anew_when_a_fact_moves(door: Any, factory: Any) -> None:
    """What was kept for a moment counts no longer once somebody paused, paid or came to owe."""
    account = await _debtor(factory)
    assert len((await _ahead(door))[1]) == 4
    await ReconcilerState.filter(id=1).update(paused_at=door.clock.now(), paused_by="anna", paused_reason="x")
    found, _ = await _ahead(door)
    assert {edge["node"]["waitingFor"] for edge in found["edges"]} == {"PAUSED"}
    await Invoice.filter(account_id=account.id).update(amount_due=0)
    await Account.filter(id=account.id).update(facts_version=9)
    assert (await _ahead(door))[1] == []
    await _debtor(factory)
    assert len((await _ahead(door))[1]) == 4


async def test_it_is_kept_for_a_moment_while_no_fact_moves(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages of a minute are of one forecast; then it is made anew, as for other days or another policy."""
    await _debtor(factory)
    made: list[int] = []
    look = outlook.look

    async def noted(*given: Any, **more: Any) -> outlook.Outlook:
        made.append(more["days"])
        return await look(*given, **more)

    monkeypatch.setattr(outlook, "look", noted)
    for seconds in (0, 59, 1):
        door.clock.advance(timedelta(seconds=seconds))
        await _ahead(door)
    assert made == [30, 30]
    await _ahead(door, days=31)
    assert made == [30, 30, 31]


async def test_it_says_which_site_only_looks(door: Any, factory: Any) -> None:
    """An account with a server on a site in plan mode is held from larger effects until that changes."""
    account = await _debtor(factory)
    await factory.server(account, site="zoo")
    answer = await door.data(Role.INFRA, FORECAST, {"days": 5})
    waits = [edge["node"]["waitingFor"] for edge in answer["forecast"]["edges"]]
    assert waits == [None, "SITE_IN_PLAN", "SITE_IN_PLAN"]


@pytest.mark.parametrize("days", [0, -1, 367])
async def test_it_refuses_days_without_a_meaning(door: Any, days: int) -> None:
    """With its own code, naming the argument."""
    answer = await door.ask(Role.ADMIN, FORECAST, {"days": days})
    assert answer["errors"][0]["extensions"]["code"] == "INVALID"
    assert answer["errors"][0]["message"] == "days: ask for 1 to 366 days ahead"


async def test_it_is_for_the_staff_alone(door: Any, factory: Any) -> None:
    """A customer and the control plane hear nothing of what is only eligible; a trial is an admin's."""
    account = await _debtor(factory)
    assert await door.code(Role.CUSTOMER, FORECAST, {"days": 5}, account=account.external_id) == "FORBIDDEN"
    assert await door.code(Role.CONTROL, FORECAST, {"days": 5}) == "FORBIDDEN"
    for role in (Role.SUPPORT, Role.INFRA):
        assert await door.code(role, PREVIEW, {"source": "", "days": 5}) == "FORBIDDEN"


async def test_it_counts_what_stands_on_each_stage(door: Any, factory: Any) -> None:
    """Every stage is named, with debts by currency."""
    account = await _debtor(factory)
    await factory.episode(account, admitted="SUSPENDED")
    answer = await door.data(Role.SUPPORT, "{ stages { stage accounts servers debt { amount currency } } }")
    found = {row.pop("stage"): row for row in answer["stages"]}
    assert found["SUSPENDED"] == {
        "accounts": 1, "servers": 1, "debt": [{"amount": "5.00", "currency": "EUR"}]
    }  # fmt: skip
    assert found["CURRENT"] == {"accounts": 0, "servers": 0, "debt": []}
    assert len(found) == 6


def _policy(**changes: str) -> str:
    text = (CHECKOUT / "billing/policies/standard.yaml").read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def _dump(url: str) -> list[str]:
    with sqlite3.connect(url.removeprefix("sqlite://")) as connection:
        return list(connection.iterdump())


async def test_a_trial_tells_what_would_differ_and_changes_nothing(
    door: Any, factory: Any, sqlite_database: str
) -> None:
    """Each account is told from where on it would stand elsewhere; the database is the same to the byte."""
    account = await _debtor(factory)
    await factory.account(policy="considerate")
    await door.token(Role.ADMIN)
    before = _dump(sqlite_database)
    source = _policy(PT120H="PT96H")
    answer = (await door.data(Role.ADMIN, PREVIEW, {"source": source, "days": 30}))["policyPreview"]
    assert (answer["valid"], answer["problems"]) == (True, [])
    assert [edge["node"] for edge in answer["changes"]["edges"]] == [
        {"at": "2026-11-24T09:00:00Z", "until": "2026-11-25T09:00:00Z",
         "account": {"externalId": account.external_id}, "from": "FINAL_NOTICE", "to": "SUSPENDED", "servers": 1}
    ]  # fmt: skip
    assert _dump(sqlite_database) == before
    assert door.wakes == []


async def test_a_trial_of_todays_policy_differs_in_nothing(door: Any, factory: Any) -> None:
    """Nobody would stand elsewhere."""
    await _debtor(factory)
    answer = (await door.data(Role.ADMIN, PREVIEW, {"source": _policy(), "days": 90}))["policyPreview"]
    assert (answer["valid"], answer["changes"]["totalCount"]) == (True, 0)


async def test_a_shorter_trial_begins_with_a_fresh_notice(door: Any, factory: Any) -> None:
    """Whoever was warned under the old terms is warned again before the next stage."""
    account = await _debtor(factory)
    began = door.clock.now() - timedelta(hours=80)
    await Invoice.filter(account_id=account.id).update(overdue_at=began, overdue_seen_at=began)
    episode = await factory.episode(
        account, started_at=began, admitted="FINAL_NOTICE", admitted_at=door.clock.now() - timedelta(hours=30)
    )
    for stage, hours in (("PAST_DUE", 80), ("FINAL_NOTICE", 30)):
        at = door.clock.now() - timedelta(hours=hours)
        await factory.notice(
            account,
            stage=stage,
            episode_id=episode.id,
            invoice_ids=[1],
            created_at=at,
            delivered_at=at,
            state="DELIVERED",
        )
    answer = await door.data(Role.ADMIN, PREVIEW, {"source": _policy(PT120H="PT81H"), "days": 5})
    changes = [edge["node"] for edge in answer["policyPreview"]["changes"]["edges"]]
    assert [(change["at"], change["to"]) for change in changes] == [("2026-11-21T09:00:00Z", "SUSPENDED")]
    assert changes[0]["until"] > changes[0]["at"]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"source": "stages: ["}, "standard.yaml:1: is not valid YAML"),
        ({"source": "tolerance: {EUR: -1}"}, "standard.yaml:1: stages: is missing"),
        ({"source": "&a [*a]"}, "standard.yaml:1: holds no mapping"),
        ({"source": "x" * 70_000}, "source: is larger than any policy"),
        ({"source": "", "instead": "gone"}, "insteadOf: no such policy is in force"),
    ],
)
async def test_a_wrong_trial_is_told_what_is_wrong(
    door: Any, variables: dict[str, Any], problem: str
) -> None:
    """With problems instead of errors, and no changes."""
    answer = (await door.data(Role.ADMIN, PREVIEW, {"days": 5, **variables}))["policyPreview"]
    assert answer["valid"] is False
    assert any(told.startswith(problem) for told in answer["problems"]), answer["problems"]
    assert answer["changes"]["totalCount"] == 0
