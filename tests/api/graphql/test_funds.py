"""What a customer may do with money: deploy, last, restore; and who is told amounts."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from api.models import Role
from billing import ledger, usage
from billing.ledger import Move
from billing.models import Account
from billing.money_models import LedgerKind, Price, TransactionKind
from billing.rules.terms import InvoiceStatus, Stage
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("sqlite_database")

QUERY = """query($id: String!) { account(externalId: $id) {
  mayDeploy(sku: "small") { action allowed code message remedy missing { amount currency } }
  unknown: mayDeploy(sku: "planet") { code }
  gate(action: DEPLOY) { allowed code }
  runwayUntil
  payToRestore { amount currency }
} }"""


async def _seen(door: Any, account: Account) -> dict[str, Any]:
    query = {"id": account.external_id}
    data = await door.data(Role.CUSTOMER, QUERY, query, account=account.external_id)
    return dict(data["account"])


async def _price(clock: Any, rate: int = 1_000_000) -> None:
    """A cent an hour, 7.30 a month."""
    since = clock.now() - timedelta(days=1)
    for currency in ("EUR", "JPY"):
        await Price.create(sku="small", currency=currency, rate=rate, valid_from=since, set_by="anna")


async def _voucher(account: Account, amount: int, clock: Any) -> None:
    move = Move(debit=LedgerKind.VOUCHERS_ISSUED, credit=LedgerKind.VOUCHER, amount=amount)
    told = {"fact": ("test", f"{account.id}"), "at": clock.now(), "actor": "anna", "description": "test"}
    await ledger.book(TransactionKind.CREDIT_GRANTED, account.id, [move], **told)


async def _run(factory: Any, account: Account, clock: Any) -> None:
    server = await factory.server(account, rate=1_000_000)
    async with in_transaction():
        await usage.follow(server, at=clock.now(), now=clock.now())


async def test_an_account_without_means_may_not_deploy_and_is_told_what_is_missing(
    door: Any, factory: Any, clock: Any
) -> None:
    """Its gate is open all the same: the gate leaves funds out."""
    await _price(clock)
    seen = await _seen(door, await factory.account())
    deploy = seen["mayDeploy"]
    assert (deploy["action"], deploy["allowed"], deploy["code"]) == ("DEPLOY", False, "NO_PAYMENT_METHOD")
    assert deploy["missing"] == {"amount": "7.30", "currency": "EUR"}
    assert "€7.30" in deploy["message"]
    assert deploy["remedy"]
    assert seen["unknown"] == {"code": "UNKNOWN_SKU"}
    assert seen["gate"] == {"allowed": True, "code": "OK"}
    assert (seen["runwayUntil"], seen["payToRestore"]) == (None, None)


async def test_a_voucher_pays_for_the_servers_that_run_before_another_one(
    door: Any, factory: Any, clock: Any
) -> None:
    """It says until when it lasts, and what is missing for one more; in yen without decimals."""
    await _price(clock)
    account = await factory.account(currency="JPY")
    await _run(factory, account, clock)
    await _voucher(account, 1000, clock)
    seen = await _seen(door, account)
    assert seen["mayDeploy"]["code"] == "INSUFFICIENT_FUNDS"
    assert seen["mayDeploy"]["missing"] == {"amount": "460", "currency": "JPY"}
    # 1,000 hours, and a month boundary at which a part of a yen is rounded down.
    assert seen["runwayUntil"].startswith("2027-01-01T01:")
    await _voucher(await factory.account(), 5, clock)
    account = await factory.account()
    await _voucher(account, 730, clock)
    assert (await _seen(door, account))["mayDeploy"]["allowed"] is True


async def test_what_is_overdue_closes_deploying_before_any_money_counts(
    door: Any, factory: Any, clock: Any
) -> None:
    """`mayDeploy` and the gate agree, for an unpaid debt and for one that was given up."""
    await _price(clock)
    late = await factory.account()
    await factory.invoice(late)
    await factory.episode(late, admitted=Stage.PAST_DUE)
    given_up = await factory.account()
    await factory.invoice(given_up, status=InvoiceStatus.UNCOLLECTIBLE, amount_due=0)
    for account in (late, given_up):
        await _voucher(account, 10_000, clock)
        seen = await _seen(door, account)
        assert seen["gate"] == {"allowed": False, "code": "PAYMENT_OVERDUE"}
        assert (seen["mayDeploy"]["code"], seen["unknown"]["code"]) == ("PAYMENT_OVERDUE", "PAYMENT_OVERDUE")
        assert seen["mayDeploy"]["missing"] is None


async def test_it_names_the_smallest_payment_that_restores(door: Any, factory: Any) -> None:
    """What is overdue without the tolerance; nothing within it or on a free plan, null without any."""
    owing, tolerated = await factory.account(), await factory.account()
    free = await factory.account(free_plan=True)
    await factory.invoice(free)
    assert (await _seen(door, free))["payToRestore"] == {"amount": "0.00", "currency": "EUR"}
    await factory.invoice(owing, total=1250, amount_due=1250)
    await factory.invoice(tolerated, total=90, amount_due=90)
    assert (await _seen(door, owing))["payToRestore"] == {"amount": "11.50", "currency": "EUR"}
    assert (await _seen(door, tolerated))["payToRestore"] == {"amount": "0.00", "currency": "EUR"}


async def test_it_names_a_payment_that_a_card_can_make(door: Any, factory: Any) -> None:
    """Never less than the provider charges: the button under it must not be refused."""
    owing, gulf = await factory.account(), await factory.account(currency="KWD")
    await factory.invoice(owing, total=120, amount_due=120)
    await factory.invoice(gulf, total=12_345, amount_due=12_345, currency="KWD")
    assert (await _seen(door, owing))["payToRestore"] == {"amount": "0.50", "currency": "EUR"}
    assert (await _seen(door, gulf))["payToRestore"] == {"amount": "12.350", "currency": "KWD"}


@pytest.mark.parametrize("role", [Role.CONTROL, Role.INFRA])
async def test_those_who_see_no_money_get_the_answer_without_amounts(
    door: Any, factory: Any, clock: Any, role: Role
) -> None:
    """The control plane asks before it deploys; how much is missing is the customer's matter."""
    await _price(clock)
    account = await factory.account()
    server = await factory.server(account)
    asks = "{ code message remedy } }"
    query = (
        f'{{ server(externalId: "{server.external_id}") {{ account {{ mayDeploy(sku: "small") {asks} }} }}'
    )
    deploy = (await door.data(role, query))["server"]["account"]["mayDeploy"]
    assert deploy["code"] == "NO_PAYMENT_METHOD"
    assert "7.30" not in deploy["message"] + deploy["remedy"]
    for field in ("runwayUntil", "payToRestore { amount }", 'mayDeploy(sku: "small") { missing { amount } }'):
        asked = f'{{ server(externalId: "{server.external_id}") {{ account {{ {field} }} }} }}'
        assert await door.code(role, asked) == "FORBIDDEN"


async def test_another_customers_account_is_missing(door: Any, factory: Any) -> None:
    """Its funds are nobody's business."""
    mine, other = await factory.account(), await factory.account()
    query = {"id": other.external_id}
    data = await door.data(Role.CUSTOMER, QUERY, query, account=mine.external_id)
    assert data == {"account": None}


ANNOUNCED = """query($id: String!) { account(externalId: $id) {
  announcement { id code severity title body deadline since stillWorks }
} }"""


async def _announced(door: Any, account: Account) -> dict[str, Any] | None:
    query = {"id": account.external_id}
    data = await door.data(Role.CUSTOMER, ANNOUNCED, query, account=account.external_id)
    found: dict[str, Any] | None = data["account"]["announcement"]
    return found


async def test_servers_without_card_or_voucher_are_announced(door: Any, factory: Any, clock: Any) -> None:
    """With the date of the stop; a server that costs nothing here asks for nothing."""
    account, free = await factory.account(), await factory.account()
    await _run(factory, account, clock)
    await factory.server(free)
    found = await _announced(door, account)
    assert found is not None
    assert (found["code"], found["since"]) == ("CARD_MISSING", "2026-11-20T09:00:00Z")
    # November's invoice is due on 15 December in Berlin; 120 hours later is the stop.
    assert found["deadline"] == "2026-12-20T23:00:00Z"
    assert "21 December 2026, 00:00 CET" in found["body"]
    assert "16 March 2027, 00:00 CET" in found["body"]
    assert await _announced(door, free) is None


async def test_a_voucher_that_ends_soon_is_announced(door: Any, factory: Any, clock: Any) -> None:
    """The same announcement as long as the end stays where it is; none once the money is enough."""
    account = await factory.account()
    await _run(factory, account, clock)
    await _voucher(account, 300, clock)
    found = await _announced(door, account)
    assert found is not None
    assert found["code"] == "FUNDS_LOW"
    assert "€3.00" in found["body"]
    clock.advance(timedelta(days=2))
    again = await _announced(door, account)
    assert again is not None
    assert again["id"] == found["id"]
    await factory.override(account)
    assert await _announced(door, account) is None


@pytest.mark.parametrize("change", ["mode", "free plan", "money"])
async def test_nothing_is_announced_where_nothing_would_follow(
    door: Any, factory: Any, clock: Any, change: str
) -> None:
    """Outside `apply`, on a free plan, and with money enough."""
    account = await factory.account(free_plan=change == "free plan")
    await _run(factory, account, clock)
    await _voucher(account, 10_000 if change == "money" else 300, clock)
    if change == "mode":
        door.ports = replace(door.ports, mode=Mode.PLAN)
    assert await _announced(door, account) is None
