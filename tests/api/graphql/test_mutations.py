"""What can be done through the API: payloads, refusals with their paths, and the reconciler that is told of it."""

from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing import work_queue
from billing.models import Account, AuditEntry, Notice, Override, WorkItem
from billing.refusal import RefusalCode, refusal
from billing.rules.terms import HoldCause, NoticeState, Stage
from reconciler.models import Hold, ReconcilerState, Server

pytestmark = pytest.mark.usefixtures("sqlite_database")

ACCOUNT_SHOWN = "account { externalId email locale policy { name } }"
ACCOUNT = {"externalId": "acct-7", "name": "Anna", "currency": "EUR"}


def _codes(payload: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["path"]) for error in payload["errors"]]


def _id(row: Any) -> str:
    return ids.global_id(type(row).__name__, row.id)


# ------------------------------------------------------------------------------------------------- control plane


async def test_an_account_is_upserted(door: Any) -> None:
    """It is created, its customer read, the reconciler woken; left-out fields stay, and null clears the address."""
    given = ACCOUNT | {"email": "anna@example.org", "stripeCustomerId": "cus_1", "locale": "de-CH"}
    payload = await door.do(
        Role.CONTROL, "accountUpsert", given, show="account { externalId email locale policy { name } }"
    )
    assert payload["errors"] == []
    assert payload["account"] == {
        "externalId": "acct-7", "email": "anna@example.org", "locale": "de-CH", "policy": {"name": "standard"}
    }  # fmt: skip
    account = await Account.get()
    assert door.adopted == [(account.id, "cus_1")]
    assert door.wakes == [account.id]
    payload = await door.do(
        Role.CONTROL,
        "accountUpsert",
        ACCOUNT | {"email": None, "locale": None},
        show="account { email locale }",
    )
    assert payload["account"] == {"email": None, "locale": "de-CH"}
    assert (await Account.get()).stripe_customer_id == "cus_1"
    assert (await AuditEntry.get(kind="account.created")).actor == "control:control-anna"


async def test_a_wrong_account_names_its_fields(door: Any) -> None:
    """It is refused with the path of each wrong field, and nobody is woken."""
    payload = await door.do(
        Role.CONTROL, "accountUpsert", ACCOUNT | {"currency": "eur", "billingEmails": ["a@example.org", "x"]}
    )
    assert _codes(payload) == [
        ("INVALID", ["input", "currency"]),
        ("INVALID", ["input", "billingEmails", "1"]),
    ]
    assert door.wakes == []
    assert not await Account.exists()


async def test_an_account_stands_although_stripe_does_not_answer(
    door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is saved, and the caller hears that the customer was not confirmed."""

    async def fails(account_id: int, customer_id: str) -> None:
        raise ConnectionError("no route")

    object.__setattr__(door.ports, "adopt_customer", fails)
    payload = await door.do(
        Role.CONTROL, "accountUpsert", ACCOUNT | {"stripeCustomerId": "cus_1"}, show="account { externalId }"
    )
    assert _codes(payload) == [("PROVIDER_UNAVAILABLE", ["input", "stripeCustomerId"])]
    assert payload["account"] == {"externalId": "acct-7"}
    assert (await Account.get()).stripe_customer_id == "cus_1"


SERVER = {"externalId": "srv-1", "name": "web", "site": "demo", "kind": "LXC", "guest": "101", "sku": "small"}


async def test_a_server_is_registered_changed_and_retired(door: Any, factory: Any) -> None:
    """It goes through its life by external ids, and the reconciler is woken each time."""
    account = await factory.account()
    named = SERVER | {"accountExternalId": account.external_id}
    show = "server { externalId status deployment free account { externalId } }"
    payload = await door.do(Role.CONTROL, "serverRegister", named, show=show)
    assert payload["errors"] == []
    assert payload["server"]["status"] == "ACTIVE"
    price = (await door.data(Role.ADMIN, '{ server(externalId: "srv-1") { price { amount currency } } }'))[
        "server"
    ]
    assert price == {"price": {"amount": "0.00000000", "currency": "EUR"}}
    by_id = await door.do(Role.CONTROL, "serverRegister", SERVER | {"accountId": _id(account)})
    assert by_id["errors"] == []
    change = {"serverExternalId": "srv-1", "free": True, "name": None, "stripeSubscriptionId": "sub_1"}
    assert (await door.do(Role.CONTROL, "serverUpdate", change))["errors"] == []
    server = await Server.get()
    assert (server.free, server.name, server.stripe_subscription_id) == (True, "web", "sub_1")
    cleared = {"serverId": _id(server), "stripeSubscriptionId": None}
    assert (await door.do(Role.CONTROL, "serverUpdate", cleared))["errors"] == []
    assert (await Server.get()).stripe_subscription_id is None
    gone = {"serverExternalId": "srv-1", "reason": "deleted by its owner"}
    payload = await door.do(
        Role.CONTROL, "serverRetire", gone, show="server { status gate(action: START) { code } }"
    )
    assert payload["server"] == {"status": "DELETED", "gate": {"code": "SERVER_GONE"}}
    assert door.wakes == [account.id] * 5


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"accountExternalId": "nobody"}, "accountExternalId"),
        ({"accountId": "garbage"}, "accountId"),
        ({}, "accountExternalId"),
    ],
)
async def test_a_server_needs_an_account(door: Any, given: dict[str, Any], path: str) -> None:
    """It is refused for an account that is not there or not named."""
    payload = await door.do(Role.CONTROL, "serverRegister", SERVER | given)
    assert _codes(payload) == [("NOT_FOUND", ["input", path])]


async def test_a_server_is_named_one_way_or_consistently(door: Any, factory: Any) -> None:
    """It is not found when id and external id disagree, or when nothing names it."""
    server, other = await factory.server(), await factory.server()
    for given in ({"serverId": _id(server), "serverExternalId": other.external_id}, {}):
        payload = await door.do(Role.CONTROL, "serverUpdate", given | {"free": True})
        assert [code for code, _ in _codes(payload)] == ["NOT_FOUND"]
    assert not await Server.filter(free=True).exists()


@pytest.mark.parametrize(
    ("role", "causes"),
    [
        (Role.ADMIN, {"ABUSE", "MAINTENANCE", "ADMIN"}),
        (Role.INFRA, {"MAINTENANCE"}),
        (Role.CONTROL, {"ABUSE", "MAINTENANCE"}),
    ],
)
async def test_each_role_holds_for_its_causes(door: Any, factory: Any, role: Role, causes: set[str]) -> None:
    """It places and lifts what the contract gives it, and is refused the others."""
    server = await factory.server()
    for cause in ("ABUSE", "MAINTENANCE", "ADMIN"):
        held = {"serverId": _id(server), "cause": cause, "effects": ["STOP_SERVERS"], "reason": "r"}
        payload = await door.do(role, "holdPlace", held, show="server { status }")
        if cause in causes:
            assert payload == {"errors": [], "server": {"status": "HELD"}}
            lifted = {"serverId": _id(server), "cause": cause, "reason": "r"}
            payload = await door.do(role, "holdLift", lifted, show="server { status }")
            assert payload == {"errors": [], "server": {"status": "ACTIVE"}}
        else:
            assert _codes(payload) == [("FORBIDDEN", ["input", "cause"])]
            lifting = await door.do(
                role, "holdLift", {"serverId": _id(server), "cause": cause, "reason": "r"}
            )
            assert _codes(lifting) == [("FORBIDDEN", ["input", "cause"])]
    assert {hold.cause.value for hold in await Hold.all()} == causes


# ------------------------------------------------------------------------------------------------- customers


async def test_an_owner_switches_its_server(door: Any, factory: Any) -> None:
    """It is off for its owner's sake, and comes back when asked for."""
    server = await factory.server()
    account = (await server.account).external_id
    off = {"serverId": _id(server), "power": "STOPPED"}
    show = "server { status power { desired } holds { cause by } gate(action: REPAIR) { code } }"
    payload = await door.do(Role.CUSTOMER, "serverPowerSet", off, account=account, show=show)
    assert payload["server"] == {
        "status": "INACTIVE",
        "power": {"desired": "STOPPED"},
        "holds": [{"cause": "CUSTOMER", "by": f"customer:CUSTOMER {account}"}],
        "gate": {"code": "SERVER_HELD"},
    }
    payload = await door.do(
        Role.CUSTOMER, "serverPowerSet", off | {"power": "RUNNING"}, account=account, show=show
    )
    assert payload["server"]["status"] == "ACTIVE"
    assert payload["server"]["holds"] == []
    assert (await Server.get()).start_wanted_at is not None


async def test_a_suspended_server_is_not_started(door: Any, factory: Any) -> None:
    """It is refused with the gate's own answer."""
    server = await factory.server()
    await factory.hold(server)
    account = (await server.account).external_id
    query = """mutation($id: ID!) { serverPowerSet(input: {serverId: $id, power: RUNNING}) {
      errors { code path gate { action allowed code remedy checkedAt } } server { id } } }"""
    data = await door.data(Role.CUSTOMER, query, {"id": _id(server)}, account=account)
    assert data["serverPowerSet"]["server"] is None
    (error,) = data["serverPowerSet"]["errors"]
    assert (error["code"], error["path"]) == ("GATE_REFUSED", ["input", "power"])
    assert error["gate"]["code"] == "ACCOUNT_SUSPENDED"
    assert error["gate"]["checkedAt"] == "2026-11-20T09:00:00Z"
    assert await Hold.filter(cause=HoldCause.CUSTOMER).count() == 0


# ------------------------------------------------------------------------------------------------- staff


async def test_an_override_is_placed_and_revoked(door: Any, factory: Any) -> None:
    """It stands with author and end, counts in the filter, and ends when it is revoked."""
    account = await factory.account()
    given = {
        "accountId": _id(account), "kind": "FREEZE", "reason": "agreed", "expiresAt": "2026-12-01T00:00:00+01:00",
        "expectedStage": "CURRENT",
    }  # fmt: skip
    show = "override { id kind active placedBy expiresAt account { externalId } } account { externalId }"
    payload = await door.do(Role.SUPPORT, "overridePlace", given, show=show)
    assert payload["errors"] == []
    override = payload["override"]
    assert (override["active"], override["placedBy"]) == (True, "support:support-anna")
    assert override["expiresAt"] == "2026-11-30T23:00:00Z"
    found = "{ accounts(filter: {hasOverride: true}) { totalCount } }"
    assert (await door.data(Role.SUPPORT, found))["accounts"]["totalCount"] == 1
    ended = {"overrideId": override["id"], "reason": "paid"}
    payload = await door.do(Role.SUPPORT, "overrideRevoke", ended, show="override { active revokedBy }")
    assert payload["override"] == {"active": False, "revokedBy": "support:support-anna"}
    assert (await door.data(Role.SUPPORT, found))["accounts"]["totalCount"] == 0
    assert door.wakes == [account.id, account.id]


@pytest.mark.parametrize(
    ("role", "given", "expected"),
    [
        (Role.SUPPORT, {"kind": "EXEMPT"}, ("FORBIDDEN", ["input", "kind"])),
        (Role.SUPPORT, {"kind": "SUSPEND_NOW", "expiresAt": None}, ("FORBIDDEN", ["input", "kind"])),
        (Role.ADMIN, {"kind": "SUSPEND_NOW"}, ("INVALID", ["input", "expiresAt"])),
        (Role.ADMIN, {"kind": "SUSPEND_NOW", "expiresAt": None}, ("CONFLICT", ["input", "accountId"])),
        (Role.ADMIN, {"reason": " "}, ("REASON_REQUIRED", ["input", "reason"])),
        (Role.ADMIN, {"expiresAt": None}, ("EXPIRY_REQUIRED", ["input", "expiresAt"])),
        (Role.ADMIN, {"expiresAt": "2026-11-20T09:00:00Z"}, ("EXPIRY_IN_PAST", ["input", "expiresAt"])),
        (Role.ADMIN, {"expiresAt": "2027-11-20T09:00:00Z"}, ("EXPIRY_TOO_LATE", ["input", "expiresAt"])),
        (Role.ADMIN, {"expectedStage": "SUSPENDED"}, ("CONFLICT", ["input", "expectedStage"])),
        (Role.ADMIN, {"accountId": "garbage"}, ("NOT_FOUND", ["input", "accountId"])),
        (Role.ADMIN, {"serverId": "garbage"}, ("NOT_FOUND", ["input", "serverId"])),
    ],
)
async def test_an_override_is_refused_with_its_field(
    door: Any, factory: Any, role: Role, given: dict[str, Any], expected: tuple[str, list[str]]
) -> None:
    """It is not placed, and nobody is woken."""
    account = await factory.account()
    asked = {"accountId": _id(account), "kind": "FREEZE", "reason": "r", "expiresAt": "2026-11-25T09:00:00Z"}
    payload = await door.do(role, "overridePlace", asked | given)
    assert _codes(payload) == [expected]
    assert not await Override.exists()
    assert door.wakes == []


async def test_an_override_is_on_a_server_of_its_account(door: Any, factory: Any) -> None:
    """It refuses another account's server, and takes the account's own."""
    mine, other = await factory.server(), await factory.server()
    account = await mine.account
    asked = {
        "accountId": _id(account), "kind": "EXEMPT", "reason": "r", "expiresAt": "2026-11-25T09:00:00Z",
        "serverId": _id(other),
    }  # fmt: skip
    assert _codes(await door.do(Role.ADMIN, "overridePlace", asked)) == [("NOT_FOUND", ["input", "serverId"])]
    payload = await door.do(
        Role.ADMIN,
        "overridePlace",
        asked | {"serverId": _id(mine)},
        show="override { server { externalId } }",
    )
    assert payload["override"]["server"]["externalId"] == mine.external_id


async def test_enforcement_is_paused_by_infra_and_resumed_by_admins(door: Any) -> None:
    """It pauses with a reason; the health tells, and everything is looked at anew."""
    show = "reconciler { paused mode }"
    payload = await door.do(Role.INFRA, "enforcementPause", {"reason": "odd plan"}, show=show)
    assert payload == {"errors": [], "reconciler": {"paused": True, "mode": "PLAN"}}
    assert (await ReconcilerState.get(id=1)).paused_by == "infra:infra-anna"
    payload = await door.do(Role.ADMIN, "enforcementResume", {"reason": "fine"}, show=show)
    assert payload["reconciler"]["paused"] is False
    assert _codes(await door.do(Role.ADMIN, "enforcementPause", {"reason": ""})) == [
        ("REASON_REQUIRED", ["input", "reason"])
    ]
    assert door.wakes == [None, None]


async def test_a_work_item_is_resolved(door: Any, factory: Any) -> None:
    """It leaves the open queue with who and why."""
    server = await factory.server()
    item = await work_queue.open_item(
        "step_failed", "k", at=door.clock.now(), title="t", detail="d",
        account_id=server.account_id, server_id=server.id,
    )  # fmt: skip
    queue = "{ workQueue(state: OPEN) { totalCount edges { node { id kind subject { id } } } } }"
    listed = (await door.data(Role.SUPPORT, queue))["workQueue"]
    assert listed["edges"][0]["node"] == {
        "id": _id(item),
        "kind": "step_failed",
        "subject": {"id": _id(server)},
    }
    given = {"workItemId": _id(item), "resolution": "DISMISS", "reason": "known"}
    payload = await door.do(Role.SUPPORT, "workItemResolve", given, show="workItem { state }")
    assert payload == {"errors": [], "workItem": {"state": "RESOLVED"}}
    assert (await WorkItem.get()).resolved_by == "support:support-anna"
    assert _codes(await door.do(Role.SUPPORT, "workItemResolve", given)) == [
        ("CONFLICT", ["input", "workItemId"])
    ]
    assert (await door.data(Role.SUPPORT, queue))["workQueue"]["totalCount"] == 0


async def test_a_customer_was_told_otherwise(door: Any, factory: Any) -> None:
    """It counts as delivered from now on, once, and never with an earlier instant."""
    notice = await factory.notice(await factory.account())
    door.clock.advance(timedelta(hours=3))
    given = {"noticeId": _id(notice), "reason": "called at noon"}
    payload = await door.do(Role.SUPPORT, "noticeMarkDelivered", given, show="notice { state deliveredAt }")
    assert payload == {"errors": [], "notice": {"state": "DELIVERED", "deliveredAt": "2026-11-20T12:00:00Z"}}
    assert _codes(await door.do(Role.SUPPORT, "noticeMarkDelivered", given)) == [
        ("CONFLICT", ["input", "noticeId"])
    ]
    assert (await Notice.get()).state is NoticeState.DELIVERED
    assert _codes(await door.do(Role.SUPPORT, "noticeMarkDelivered", given | {"noticeId": "x"})) == [
        ("NOT_FOUND", ["input", "noticeId"])
    ]


async def test_a_refusal_of_a_service_names_the_input(door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It carries the code and path of a refusal from wherever it was raised."""

    async def refuses(**_: Any) -> None:
        raise refusal(RefusalCode.STALE_PLAN, "look again", "reason")

    monkeypatch.setattr("reconciler.pause.pause", refuses)
    payload = await door.do(Role.ADMIN, "enforcementPause", {"reason": "r"})
    assert payload["errors"] == [{"code": "STALE_PLAN", "message": "look again", "path": ["input", "reason"]}]


async def test_a_stage_is_what_the_account_stands_at(door: Any, factory: Any) -> None:
    """It compares the expected stage with the standing, not with what is only eligible."""
    account = await factory.account()
    await factory.invoice(account)
    asked = {
        "accountId": _id(account), "kind": "FREEZE", "reason": "r", "expiresAt": "2026-11-25T09:00:00Z",
        "expectedStage": Stage.PAST_DUE.value,
    }  # fmt: skip
    assert _codes(await door.do(Role.ADMIN, "overridePlace", asked)) == [
        ("CONFLICT", ["input", "expectedStage"])
    ]
