"""What admins decide about an account, and the time that a customer may ask for."""

from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing.models import Account, Episode, Override
from billing.rules.terms import NoticeState, OverrideKind, Stage

pytestmark = pytest.mark.usefixtures("sqlite_database")

DAY = timedelta(days=1)
REVIEW = """
query($id: ID!) { account(id: $id) { decommission {
  requestedAt finalWarningDeliveredAt approvableAt approvedAt voidedAt MORE } } }
"""


def _codes(payload: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["path"]) for error in payload["errors"]]


def _id(row: Any) -> str:
    return ids.global_id(type(row).__name__, row.id)


@pytest.fixture
async def warned(factory: Any, clock: Any) -> Account:
    """An account at the last stage whose final warning was delivered 20 days ago."""
    account: Account = await factory.account()
    began, now = clock.now() - 100 * DAY, clock.now()
    invoice = await factory.invoice(account, overdue_at=began)
    episode = await factory.episode(
        account, started_at=began, admitted=Stage.DECOMMISSION_REVIEW, admitted_at=now - 20 * DAY
    )
    await factory.notice(
        account, stage=Stage.DECOMMISSION_REVIEW, episode_id=episode.id, invoice_ids=[invoice.id],
        created_at=now - 20 * DAY, delivered_at=now - 20 * DAY, state=NoticeState.DELIVERED,
    )  # fmt: skip
    return account


async def test_a_policy_is_assigned(door: Any, factory: Any) -> None:
    """The account walks it from now on; one that is not there is refused with the field."""
    account = await factory.account()
    given = {"accountId": _id(account), "policy": "considerate", "reason": "a hospital"}

    payload = await door.do(
        Role.ADMIN, "policyAssign", given, show="account { policy { name } } approval { id }"
    )

    assert payload == {"errors": [], "account": {"policy": {"name": "considerate"}}, "approval": None}
    assert door.wakes == [account.id]
    for wrong, code in (({"policy": "nice"}, "INVALID"), ({"accountId": "x"}, "NOT_FOUND")):
        (field,) = wrong
        assert _codes(await door.do(Role.ADMIN, "policyAssign", given | wrong)) == [(code, ["input", field])]


async def test_two_admins_approve_a_decommissioning(door: Any, warned: Account) -> None:
    """It is shown from the warning to the approval; the customer is told the instants and not the persons."""
    given = {"accountId": _id(warned), "reason": "no answer", "expectedStage": "DECOMMISSION_REVIEW"}
    query = REVIEW.replace("MORE", "approval { state votes { person } }")
    shown = (await door.data(Role.SUPPORT, query, {"id": _id(warned)}))["account"]["decommission"]
    assert (shown["requestedAt"], shown["approvableAt"]) == ("2026-10-31T09:00:00Z", "2026-11-14T09:00:00Z")
    assert (shown["approval"], shown["approvedAt"]) == (None, None)

    first = await door.do(Role.ADMIN, "decommissionApprove", given, show="approval { state }")
    assert first == {"errors": [], "approval": {"state": "PENDING"}}
    assert _codes(await door.do(Role.ADMIN, "decommissionApprove", given))[0][0] == "SAME_PERSON"
    door.person = "ben"
    show = "approval { state } account { decommission { approvedAt } }"
    second = await door.do(Role.ADMIN, "decommissionApprove", given, show=show)

    assert second["approval"]["state"] == "GIVEN"
    assert second["account"]["decommission"]["approvedAt"] == "2026-11-20T09:00:00Z"
    mine = {"account": warned.external_id}
    own = await door.data(Role.CUSTOMER, REVIEW.replace("MORE", ""), {"id": _id(warned)}, **mine)
    assert own["account"]["decommission"]["approvedAt"] == "2026-11-20T09:00:00Z"
    assert await door.code(Role.CUSTOMER, query, {"id": _id(warned)}, **mine) == "FORBIDDEN"


async def test_a_decommissioning_is_refused_at_another_stage(
    door: Any, factory: Any, warned: Account
) -> None:
    """One that is not at the last stage, and one that has moved since it was looked at."""
    account = await factory.account()
    for whom, stage in ((account, None), (warned, "RETAINED")):
        given = {"accountId": _id(whom), "reason": "r"} | ({"expectedStage": stage} if stage else {})
        payload = await door.do(Role.ADMIN, "decommissionApprove", given)
        assert _codes(payload)[0][0] == "CONFLICT"
    query = REVIEW.replace("MORE", "")
    assert (await door.data(Role.ADMIN, query, {"id": _id(account)}))["account"] == {"decommission": None}


async def _ask(door: Any, account: Account, days: float = 3, **more: Any) -> dict[str, Any]:
    until = door.clock.now() + days * DAY
    given = {"until": until.isoformat().replace("+00:00", "Z")} | more
    show = "override { kind reason placedBy expiresAt } account { standing { stage } }"
    payload: dict[str, Any] = await door.do(
        Role.CUSTOMER, "graceRequest", given, account=account.external_id, show=show
    )
    return payload


async def test_a_customer_asks_for_time_where_the_policy_gives_it(door: Any, factory: Any) -> None:
    """Once in the policy's span, up to its limit; it is the customer's own word."""
    account = await factory.account(policy="considerate")
    assert _codes(await _ask(door, account, 4)) == [("EXPIRY_TOO_LATE", ["input", "until"])]
    assert _codes(await _ask(door, account, 0)) == [("EXPIRY_IN_PAST", ["input", "until"])]

    payload = await _ask(door, account, reason="salary on Monday")

    assert payload["errors"] == []
    assert payload["override"] == {
        "kind": "EXTEND_GRACE", "reason": "salary on Monday", "expiresAt": "2026-11-23T09:00:00Z",
        "placedBy": f"customer:CUSTOMER {account.external_id}",
    }  # fmt: skip
    assert (await Override.get()).by_customer
    assert door.wakes == [account.id]
    door.clock.advance(90 * DAY - timedelta(seconds=1))
    assert [code for code, _ in _codes(await _ask(door, account))] == ["CONFLICT"]
    door.clock.advance(timedelta(seconds=1))
    assert (await _ask(door, account))["errors"] == []


async def test_a_customer_gets_no_time_where_the_policy_gives_none(door: Any, factory: Any) -> None:
    """It is off by default; another customer's account is one that does not exist."""
    mine, other = await factory.account(), await factory.account(policy="considerate")
    assert [code for code, _ in _codes(await _ask(door, mine))] == ["FORBIDDEN"]
    for whom in (_id(other), ids.global_id("Account", 999)):
        assert _codes(await _ask(door, mine, accountId=whom)) == [("NOT_FOUND", ["input", "accountId"])]
    assert not await Override.exists()


async def test_a_customer_gets_no_time_while_staff_suspend(door: Any, factory: Any) -> None:
    """What two persons decided is not put off by the customer; after the episode it is forgotten."""
    account = await factory.account(policy="considerate")
    episode = await factory.episode(account)
    await factory.override(account, kind=OverrideKind.SUSPEND_NOW, expires_at=None)
    assert [code for code, _ in _codes(await _ask(door, account))] == ["CONFLICT"]

    await Episode.filter(id=episode.id).update(ended_at=door.clock.now())

    assert (await _ask(door, account))["errors"] == []
