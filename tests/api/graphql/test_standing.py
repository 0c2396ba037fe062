"""Where an account stands, as customers and staff may know it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.models import Role
from billing.models import Account, Episode, Subscription
from billing.rules.terms import InvoiceStatus, OverrideKind, Stage
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("sqlite_database")

QUERY = """query($id: String!) { account(externalId: $id) {
  standing {
    stage since effects reasonCode reason next { stage at waitingFor }
    debt { amounts { amount currency } oldestOverdueAt anchor { id amountDue { amount } } invoices { totalCount } }
  }
  announcement { id severity code title body deadline since stillWorks }
  deploy: gate(action: DEPLOY) { allowed code }
  edit: gate(action: EDIT_ACCOUNT) { allowed code }
  policy { name windows stages { stage after minNotice effects remindEvery } }
} }"""


async def _seen(door: Any, account: Account, role: Role = Role.CUSTOMER) -> dict[str, Any]:
    customer = account.external_id if role is Role.CUSTOMER else None
    data = await door.data(role, QUERY, {"id": account.external_id}, account=customer)
    return dict(data["account"])


async def _owing(factory: Any, admitted: Stage, hours: int) -> Account:
    """An account whose invoice is overdue for so many hours, admitted to a stage, with its notice delivered."""
    account: Account = await factory.account()
    await factory.owing(account, admitted, hours=hours)
    return account


async def test_an_account_without_debts_has_nothing_to_say(door: Any, factory: Any) -> None:
    """It stands at `CURRENT` since it exists, with every gate open."""
    account = await factory.account()
    seen = await _seen(door, account)
    assert seen["standing"] == {
        "stage": "CURRENT", "since": "2026-11-20T09:00:00Z", "effects": [], "debt": None, "next": None,
        "reasonCode": "no_debt", "reason": "Nothing is overdue.",
    }  # fmt: skip
    assert seen["announcement"] is None
    assert seen["deploy"] == seen["edit"] == {"allowed": True, "code": "OK"}


async def test_it_stands_since_its_last_debt_was_paid(door: Any, factory: Any, clock: Any) -> None:
    """It is `CURRENT` since the end of its last episode, not of an earlier one."""
    account = await factory.account()
    for days in (9, 2, 5):
        ended = clock.now() - timedelta(days=days)
        await factory.episode(account, started_at=ended, ended_at=ended, admitted_at=ended)
    assert (await _seen(door, account))["standing"]["since"] == "2026-11-18T09:00:00Z"


async def test_a_debt_is_shown_with_what_follows(door: Any, factory: Any, clock: Any) -> None:
    """It names amount, anchor, stage, effects, what comes next and what goes on working."""
    account = await _owing(factory, Stage.FINAL_NOTICE, 80)
    await factory.invoice(account, total=250, amount_due=250, overdue_at=clock.now() - timedelta(hours=1))
    seen = await _seen(door, account)
    standing = seen["standing"]
    assert (standing["stage"], standing["effects"]) == ("FINAL_NOTICE", ["LOCK_BACKUPS"])
    assert standing["since"] == "2026-11-20T09:00:00Z"
    assert standing["debt"]["amounts"] == [{"amount": "7.50", "currency": "EUR"}]
    assert standing["debt"]["anchor"]["amountDue"] == {"amount": "5.00"}
    assert standing["debt"]["oldestOverdueAt"] == "2026-11-17T01:00:00Z"
    assert standing["debt"]["invoices"] == {"totalCount": 2}
    assert standing["next"] == {"stage": "SUSPENDED", "at": "2026-11-22T01:00:00Z", "waitingFor": None}
    assert (seen["announcement"]["code"], seen["announcement"]["severity"]) == ("FINAL_NOTICE", "WARNING")
    assert "€7.50" in seen["announcement"]["body"]
    assert seen["announcement"]["stillWorks"]
    assert seen["deploy"] == {"allowed": False, "code": "PAYMENT_OVERDUE"}
    assert seen["edit"] == {"allowed": True, "code": "OK"}


async def test_a_suspended_account_is_locked(door: Any, factory: Any) -> None:
    """It is told so, loudly, and its gates follow."""
    seen = await _seen(door, await _owing(factory, Stage.SUSPENDED, 130))
    assert seen["standing"]["effects"] == ["LOCK_BACKUPS", "STOP_SERVERS", "LOCK_ACCOUNT"]
    assert (seen["announcement"]["code"], seen["announcement"]["severity"]) == ("SUSPENDED", "CRITICAL")
    assert seen["deploy"]["code"] == "ACCOUNT_SUSPENDED"
    assert seen["edit"]["code"] == "ACCOUNT_LOCKED"


async def test_what_was_not_admitted_is_told_to_no_customer(door: Any, factory: Any) -> None:
    """It shows a customer the lower stage alone, with no word of the one held back; staff see that it waits."""
    account = await _owing(factory, Stage.PAST_DUE, 80)
    seen = await _seen(door, account)
    assert (seen["standing"]["stage"], seen["standing"]["reasonCode"]) == ("PAST_DUE", "past_due")
    assert seen["standing"]["next"] is None
    assert seen["announcement"]["code"] == "PAYMENT_OVERDUE"
    assert seen["announcement"]["deadline"] is None
    staff = (await _seen(door, account, Role.SUPPORT))["standing"]
    assert staff["next"] == {"stage": "FINAL_NOTICE", "at": "2026-11-20T09:00:00Z", "waitingFor": "guard"}


async def test_a_payment_counts_before_the_next_pass(door: Any, factory: Any) -> None:
    """It stands at the lower of eligible and admitted: a paid invoice opens everything at once."""
    account = await _owing(factory, Stage.SUSPENDED, 130)
    await account.invoices.all().update(status=InvoiceStatus.PAID, amount_due=0)
    seen = await _seen(door, account)
    assert seen["standing"]["stage"] == "CURRENT"
    assert seen["announcement"] is None
    assert seen["deploy"]["allowed"] is True


async def test_plan_mode_is_silent(door: Any, factory: Any, clock: Any) -> None:
    """It says nothing of stages to a customer while nothing is applied; staff see what would come."""
    account = await factory.account()
    await factory.invoice(account, overdue_at=clock.now() - timedelta(days=30))
    door.ports = replace(door.ports, mode=Mode.PLAN)
    seen = await _seen(door, account)
    standing = seen["standing"]
    assert (standing["stage"], standing["next"], standing["reason"]) == (
        "CURRENT",
        None,
        "Nothing is restricted.",
    )
    assert seen["announcement"] is None
    assert seen["deploy"]["allowed"] is True
    assert (await _seen(door, account, Role.ADMIN))["standing"]["next"]["stage"] == "PAST_DUE"


async def test_an_exempt_account_is_open(door: Any, factory: Any) -> None:
    """It stands at `CURRENT` whatever it owes."""
    account = await _owing(factory, Stage.SUSPENDED, 130)
    await factory.override(account, kind=OverrideKind.EXEMPT)
    seen = await _seen(door, account)
    assert (seen["standing"]["stage"], seen["deploy"]["allowed"]) == ("CURRENT", True)


@pytest.mark.parametrize(("on", "said"), [("account", True), ("server", False), ("over", False)])
async def test_backups_that_staff_opened_are_not_announced_as_locked(
    door: Any, factory: Any, clock: Any, on: str, said: bool
) -> None:
    """Of the whole account, as long as it lasts; one server's are not all of them."""
    account = await _owing(factory, Stage.SUSPENDED, 130)
    server = await factory.server(account)
    await factory.hold(server)
    placed = {"placed_at": clock.now() - timedelta(days=2)}
    if on == "server":
        placed["server_id"] = server.id
    if on == "over":
        placed["expires_at"] = clock.now() - timedelta(days=1)
    await factory.override(account, kind=OverrideKind.ALLOW_BACKUPS, **placed)
    seen = (await _seen(door, account))["announcement"]
    assert ("you can make and export some" in seen["body"]) is said
    assert ("Creating and exporting backups" in seen["stillWorks"]) is said


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ([], ["Changes to the account are closed"]),
        (["ran"], ["Your backups are kept and locked. Your server is stopped. Changes"]),
        (
            ["off"],
            ["locked. Your server was off already; it stays off and cannot be started", "settled. Changes"],
        ),
        (["late"], ["is overdue. Changes to the account are closed"]),
        (
            ["ran", "off", "late", "held"],
            [
                "One of your servers is stopped. One of your servers was off already;",
                "One of your servers stays restricted for another reason, which our support can tell you. Nothing",
                "Nothing is deleted, and everything else comes back by itself when you pay.",
            ],
        ),
        (
            ["ran", "ended"],
            [
                "Your servers are stopped. Changes",
                "One of your servers stays restricted until it has a subscription again. Nothing is deleted",
                "Nothing is deleted, and everything else comes back by itself when you pay.",
            ],
        ),
    ],
    ids=" and ".join,
)
async def test_a_suspended_account_is_told_what_is_so_of_its_servers(
    door: Any, factory: Any, servers: list[str], said: list[str]
) -> None:
    """It claims no stop of what nobody stopped, and no way back of what a payment does not bring back."""
    account = await _owing(factory, Stage.SUSPENDED, 130)
    for kind in servers:
        server = await factory.server(account)
        await factory.observation(server, power="STOPPED" if kind == "off" else "RUNNING")
        if kind != "late":
            await factory.hold(server)
        if kind == "held":
            await factory.hold(server, cause="ABUSE")
        if kind == "ended":
            await factory.uncovered(server)
    seen = (await _seen(door, account))["announcement"]
    for sentence in said:
        assert sentence in seen["body"]
    assert ("stopped" in seen["body"]) is bool({"ran", "ended"} & set(servers))
    assert ("backups" in seen["body"]) is bool(set(servers) - {"late"})
    assert ("everything comes back" in seen["body"]) is not bool({"held", "ended"} & set(servers))


async def test_an_unpaid_uncollectible_invoice_closes_deployments(door: Any, factory: Any) -> None:
    """It closes nothing else; once paid, it closes nothing."""
    account = await factory.account()
    invoice = await factory.invoice(account, status=InvoiceStatus.UNCOLLECTIBLE, amount_due=0)
    assert (await _seen(door, account))["deploy"]["code"] == "PAYMENT_OVERDUE"
    await type(invoice).filter(id=invoice.id).update(amount_paid=500)
    assert (await _seen(door, account))["deploy"]["allowed"] is True


async def test_a_server_stands_alone_when_its_subscription_ended(door: Any, factory: Any, clock: Any) -> None:
    """It has a standing of its own, its account is announced to, and the account's gates stay open."""
    account = await factory.account()
    server = await factory.server(account, stripe_subscription_id="sub_1")
    other = await factory.server(account)
    ended = clock.now() - timedelta(hours=10)
    await Subscription.create(
        stripe_subscription_id="sub_1",
        account=account,
        status="canceled",
        ended_at=ended,
        fetched_at=clock.now(),
    )
    await factory.episode(account, server_id=server.id, started_at=ended, admitted_at=ended)
    query = "query($id: String!) { server(externalId: $id) { coverage { stage reasonCode } } }"
    uncovered = await door.data(Role.SUPPORT, query, {"id": server.external_id})
    assert uncovered["server"]["coverage"]["stage"] == "PAST_DUE"
    assert (await door.data(Role.SUPPORT, query, {"id": other.external_id}))["server"]["coverage"] is None
    seen = await _seen(door, account)
    assert seen["standing"]["stage"] == "CURRENT"
    assert seen["announcement"]["code"] == "SUBSCRIPTION_ENDED"
    assert seen["deploy"]["allowed"] is True


@pytest.mark.parametrize("admitted", [Stage.PAST_DUE, Stage.FINAL_NOTICE])
async def test_a_debtor_is_told_what_stops_a_server_by_itself(
    door: Any, factory: Any, clock: Any, admitted: Stage
) -> None:
    """It does not go on as before; a hold for more than the account stands at is on its way out, and told no more."""
    account = await _owing(factory, admitted, 80)
    ended, easing = [await factory.server(account) for _ in range(2)]
    for server in (ended, easing):
        await factory.hold(server)
    await factory.uncovered(ended)
    seen = (await _seen(door, account))["announcement"]
    assert "One of your servers is stopped." in seen["body"]
    assert "One of your servers stays restricted until it has a subscription again." in seen["body"]
    assert "as before" not in seen["body"]
    assert "Creating, restoring and exporting backups" not in seen["stillWorks"]


async def test_a_server_that_was_off_is_not_announced_as_stopped(door: Any, factory: Any) -> None:
    """Its subscription has ended, and it cannot be started: that is all that became of it."""
    account = await factory.account()
    server = await factory.server(account)
    await factory.uncovered(server)
    await factory.hold(server)
    await factory.observation(server, power="STOPPED")
    seen = (await _seen(door, account))["announcement"]
    assert (seen["code"], seen["severity"]) == ("SUBSCRIPTION_ENDED", "CRITICAL")
    assert "Your server was off already; it stays off and cannot be started" in seen["body"]
    assert "stopped" not in seen["body"]


async def test_a_policy_is_told_as_it_was_written(door: Any, factory: Any) -> None:
    """It shows the ladder with its spans; a policy that is gone falls back to the standard."""
    account = await factory.account(policy="gone")
    policy = (await _seen(door, account))["policy"]
    assert policy["name"] == "standard"
    assert [(rung["stage"], rung["after"]) for rung in policy["stages"]] == [
        ("PAST_DUE", "PT0S"), ("FINAL_NOTICE", "PT72H"), ("SUSPENDED", "PT120H"), ("RETAINED", "P30D"),
        ("DECOMMISSION_REVIEW", "P90D"),
    ]  # fmt: skip
    assert policy["stages"][1]["minNotice"] == "PT48H"
    assert policy["stages"][0]["remindEvery"] == "P7D"
    names = (await door.data(Role.CONTROL, "{ policies { name windows } }"))["policies"]
    assert [one["name"] for one in names] == ["considerate", "standard"]
    assert names[0]["windows"]


FILTER = "query($f: AccountFilter) { accounts(filter: $f) { totalCount edges { node { externalId } } } }"


async def test_accounts_are_found(door: Any, factory: Any, clock: Any) -> None:
    """It narrows by stage, debt, policy, override and text, alone and together."""
    owing = await _owing(factory, Stage.SUSPENDED, 130)
    calm = await factory.account(name="Calm", policy="considerate")
    late = await _owing(factory, Stage.PAST_DUE, 1)
    await factory.override(late)
    await factory.override(calm, placed_at=clock.now() - timedelta(days=1), expires_at=clock.now())

    async def found(**asked: Any) -> set[str]:
        data = await door.data(Role.SUPPORT, FILTER, {"f": asked})
        assert data["accounts"]["totalCount"] == len(data["accounts"]["edges"])
        return {edge["node"]["externalId"] for edge in data["accounts"]["edges"]}

    assert await found(stage=["SUSPENDED"]) == {owing.external_id}
    assert await found(stage=["CURRENT"]) == {calm.external_id}
    assert await found(stage=["CURRENT", "PAST_DUE"]) == {calm.external_id, late.external_id}
    assert await found(stage=[]) == set()
    assert await found(overdue=True) == {owing.external_id, late.external_id}
    assert await found(overdue=False) == {calm.external_id}
    assert await found(policy="considerate") == {calm.external_id}
    assert await found(hasOverride=True) == {late.external_id}
    assert await found(hasOverride=False) == {owing.external_id, calm.external_id}
    assert await found(search="calm") == {calm.external_id}
    assert await found(search=f"{late.external_id[-1]}@example.org") == {late.external_id}
    assert await found(search="%") == set()
    assert await found(overdue=True, stage=["PAST_DUE"]) == {late.external_id}
    assert await found(overdue=True, stage=["PAST_DUE", "SUSPENDED"], hasOverride=True) == {late.external_id}
    assert await found(overdue=False, hasOverride=False) == {calm.external_id}
    assert await found(stage=["CURRENT", "PAST_DUE"], overdue=False, policy="considerate") == {
        calm.external_id
    }
    assert await found(stage=["CURRENT", "PAST_DUE"], overdue=False, policy="standard") == set()
    assert await found(stage=["SUSPENDED", "PAST_DUE"], search=late.external_id) == {late.external_id}


async def test_an_account_is_asked_for_consistently(door: Any, factory: Any) -> None:
    """It is null when id and external id name two accounts, or nothing names one."""
    first, second = await factory.account(), await factory.account()
    query = "query($id: ID, $name: String) { account(id: $id, externalId: $name) { id } }"
    one = (await door.data(Role.SUPPORT, query, {"name": first.external_id}))["account"]["id"]
    assert (await door.data(Role.SUPPORT, query, {"id": one}))["account"] == {"id": one}
    assert (await door.data(Role.SUPPORT, query, {"id": one, "name": first.external_id}))["account"] == {
        "id": one
    }
    assert (await door.data(Role.SUPPORT, query, {"id": one, "name": second.external_id}))["account"] is None
    assert (await door.data(Role.SUPPORT, query))["account"] is None


async def test_active_overrides_are_told_from_ended_ones(door: Any, factory: Any, clock: Any) -> None:
    """It lists those in force, those that ended, or all, newest first."""
    account = await factory.account()
    before = clock.now() - timedelta(days=1)
    await factory.override(account, kind=OverrideKind.FREEZE)
    await factory.override(account, kind=OverrideKind.EXEMPT, placed_at=before, expires_at=clock.now())
    await factory.override(account, kind=OverrideKind.ALLOW_BACKUPS, revoked_at=clock.now(), revoked_by="x")
    query = "query($a: Boolean) { accounts { edges { node { overrides(active: $a) { kind active } } } } }"

    async def kinds(active: bool | None) -> list[str]:
        data = await door.data(Role.SUPPORT, query, {"a": active})
        return [one["kind"] for one in data["accounts"]["edges"][0]["node"]["overrides"]]

    assert await kinds(True) == ["FREEZE"]
    assert await kinds(False) == ["ALLOW_BACKUPS", "EXEMPT"]
    assert await kinds(None) == ["ALLOW_BACKUPS", "EXEMPT", "FREEZE"]


async def test_an_episode_of_a_server_is_none_of_its_accounts(door: Any, factory: Any) -> None:
    """It neither raises the account's stage nor finds the account by it."""
    server = await factory.server()
    await Episode.create(
        account_id=server.account_id, server_id=server.id, started_at=door.clock.now(),
        admitted=Stage.SUSPENDED, admitted_at=door.clock.now(),
    )  # fmt: skip
    data = await door.data(Role.SUPPORT, FILTER, {"f": {"stage": ["SUSPENDED"]}})
    assert data["accounts"]["totalCount"] == 0
