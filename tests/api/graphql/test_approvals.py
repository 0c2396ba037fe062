"""What takes two persons, as they see it: asked for, joined, listed, withdrawn."""

from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing.approval_models import Approval
from billing.models import Override
from reconciler import safety
from reconciler.guard_models import SafeModeCause, SafeModeKind
from reconciler.models import PlanSnapshot, ReconcilerState
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("sqlite_database")

SHOWN = "approval { id kind state needs subject requestedBy votes { person reason } expiresAt }"
LIST = "query($s: ApprovalState) { approvals(state: $s) { id state subject } }"


def _codes(payload: dict[str, Any]) -> list[str]:
    return [error["code"] for error in payload["errors"]]


@pytest.fixture
async def suspension(factory: Any) -> dict[str, Any]:
    """What is sent to suspend an account with debt."""
    account = await factory.account()
    await factory.invoice(account)
    await factory.episode(account)
    return {"accountId": ids.global_id("Account", account.id), "kind": "SUSPEND_NOW", "reason": "fraud"}


async def test_two_admins_suspend_an_account(door: Any, suspension: dict[str, Any]) -> None:
    """The first vote is answered with what it waits for; the same person again is refused; the second one decides."""
    show = f"override {{ kind placedBy expiresAt active }} {SHOWN}"
    first = await door.do(Role.ADMIN, "overridePlace", suspension, show=show)
    assert (first["errors"], first["override"]) == ([], None)
    assert first["approval"] | {"id": ""} == {
        "id": "", "kind": "SUSPEND_NOW", "state": "PENDING", "needs": 2, "subject": suspension["accountId"],
        "requestedBy": "admin:admin-anna", "votes": [{"person": "admin-anna", "reason": "fraud"}],
        "expiresAt": "2026-12-20T09:00:00Z",
    }  # fmt: skip
    assert _codes(await door.do(Role.ADMIN, "overridePlace", suspension)) == ["SAME_PERSON"]
    assert not await Override.exists()

    door.person = "ben"
    second = await door.do(Role.ADMIN, "overridePlace", suspension, show=show)

    assert second["errors"] == []
    assert second["approval"]["state"] == "GIVEN"
    assert second["override"] == {
        "kind": "SUSPEND_NOW", "placedBy": "admin:admin-anna and admin:admin-ben", "expiresAt": None, "active": True,
    }  # fmt: skip


async def test_approvals_are_listed_by_where_they_are(door: Any, suspension: dict[str, Any]) -> None:
    """Support reads them; what nobody joined in time is shown as expired before anybody wrote that down."""
    await door.do(Role.ADMIN, "overridePlace", suspension)
    assert len((await door.data(Role.SUPPORT, LIST, {"s": "PENDING"}))["approvals"]) == 1
    assert (await door.data(Role.SUPPORT, LIST, {"s": "GIVEN"}))["approvals"] == []

    door.clock.advance(timedelta(days=30))

    assert (await door.data(Role.SUPPORT, LIST, {"s": "PENDING"}))["approvals"] == []
    (expired,) = (await door.data(Role.SUPPORT, LIST, {"s": "EXPIRED"}))["approvals"]
    assert expired["state"] == "EXPIRED"
    found = f'{{ node(id: "{expired["id"]}") {{ ... on Approval {{ state }} }} }}'
    assert (await door.data(Role.SUPPORT, found))["node"] == {"state": "EXPIRED"}


async def test_one_admin_withdraws_it(door: Any, suspension: dict[str, Any]) -> None:
    """It ends with a reason, and only once."""
    asked = await door.do(Role.ADMIN, "overridePlace", suspension, show=SHOWN)
    given = {"approvalId": asked["approval"]["id"], "reason": "paid by phone"}

    payload = await door.do(Role.ADMIN, "approvalWithdraw", given, show="approval { state }")

    assert payload == {"errors": [], "approval": {"state": "WITHDRAWN"}}
    assert _codes(await door.do(Role.ADMIN, "approvalWithdraw", given)) == ["CONFLICT"]
    assert _codes(await door.do(Role.ADMIN, "approvalWithdraw", given | {"approvalId": "x"})) == ["NOT_FOUND"]
    assert (await Approval.get()).state == "WITHDRAWN"


async def test_two_admins_release_the_breaker(door: Any, clock: Any) -> None:
    """By the digest of the plan that was held back; health and approvals tell how it stands."""
    given = {"planDigest": "a" * 64, "reason": "a month's end"}
    assert _codes(await door.do(Role.ADMIN, "breakerRelease", given)) == ["CONFLICT"]
    await ReconcilerState.filter(id=1).update(breaker_open_at=clock.now(), breaker_reason="too many")
    stale = await door.do(Role.ADMIN, "breakerRelease", given)
    assert [(error["code"], error["path"]) for error in stale["errors"]] == [
        ("STALE_PLAN", ["input", "planDigest"])
    ]
    await PlanSnapshot.create(
        digest="a" * 64, at=clock.now(), mode=Mode.APPLY, content={"steps": []}, text="Nothing to do."
    )

    show = f"{SHOWN} reconciler {{ breakerOpen breakerReason }}"
    first = await door.do(Role.ADMIN, "breakerRelease", given, show=show)
    assert first["errors"] == []
    assert (first["approval"]["subject"], first["approval"]["state"]) == ("a" * 64, "PENDING")
    assert first["reconciler"] == {"breakerOpen": True, "breakerReason": "too many"}
    door.person = "ben"
    second = await door.do(Role.ADMIN, "breakerRelease", given, show=show)

    assert second["approval"]["state"] == "GIVEN"
    assert second["reconciler"] == {"breakerOpen": False, "breakerReason": None}
    assert door.wakes == [None, None]


async def test_an_admin_releases_safe_mode(door: Any, clock: Any) -> None:
    """It goes on until the facts were read again; where nothing waits for a person, that is told."""
    refused = await door.do(Role.ADMIN, "safeModeRelease", {"reason": "r"})
    assert _codes(refused) == ["CONFLICT"]
    now = clock.now()
    await safety.enter(SafeModeKind.RESTORED_DATABASE, "restored", since=now, now=now, needs_person=True)

    show = "reconciler { safeMode safeModeReason }"
    payload = await door.do(Role.ADMIN, "safeModeRelease", {"reason": "on purpose"}, show=show)

    assert payload == {"errors": [], "reconciler": {"safeMode": True, "safeModeReason": "restored"}}
    assert (await SafeModeCause.get()).released_by == "admin:admin-anna"
