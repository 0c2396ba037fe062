"""The doors on SQLite and on PostgreSQL alike: one walk through every query and mutation that reaches the database."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import IdempotencyKey, Role
from billing import accounts, ledger
from billing.accounts import AccountChange
from billing.ledger import Purses
from billing.models import Account, AuditEntry, Episode
from billing.money_models import Charge, InvoicePart, LedgerTransaction, TransactionKind, Voucher
from billing.refusal import RefusalCode, RefusalError
from billing.rules.terms import HoldCause, Stage
from billing.stripe.card_gateway import CardGateway
from billing.stripe.settle_gateway import SettleGateway
from reconciler import holds
from reconciler.models import Hold, Server

pytestmark = pytest.mark.usefixtures("database")

LISTS = """query($f: AccountFilter, $s: ServerFilter, $i: InvoiceFilter) {
  viewer { permissions }
  accounts(first: 1, filter: $f) { totalCount edges { cursor node { standing { stage since debt { amounts { amount } } }
    announcement { code } history { totalCount } overrides(active: true) { kind } notices { totalCount } } } }
  servers(filter: $s) { totalCount edges { node { status inSync gates { code } explanation { text } } } }
  invoices(filter: $i) { totalCount edges { node { overdue lines { description } payments { source } } } }
  vouchers(state: REDEEMED) { totalCount edges { node { redeemedBy { balance { amount } reserved { amount }
    ledger { totalCount edges { node { amount { amount } toInvoice { amount } voucher { id } } } } } } } }
  prices { monthly { amount } }
  plan { digest } policies { name } runs { totalCount } reconciler { mode factsAgeSeconds } workQueue { totalCount }
  notices { totalCount } audit { totalCount }
  forecast(days: 9) { totalCount edges { node { to account { externalId } } } } stages { stage accounts servers } }"""


async def test_the_whole_surface_works(door: Any, factory: Any, wallet: Any) -> None:
    """It creates, registers, holds, decides, lists, narrows and pages."""
    told = {"externalId": "acct-1", "name": "Änne", "currency": "EUR", "stripeCustomerId": "cus_1"}
    assert (await door.do(Role.CONTROL, "accountUpsert", told))["errors"] == []
    account = await Account.get()
    server = {"accountExternalId": "acct-1", "externalId": "s", "name": "web", "site": "demo", "kind": "VM",
              "guest": "101", "sku": "small"}  # fmt: skip
    assert (await door.do(Role.CONTROL, "serverRegister", server))["errors"] == []
    sid = ids.global_id("Server", (await Server.get()).id)
    held = {"serverId": sid, "cause": "ABUSE", "effects": ["STOP_SERVERS"], "reason": "r"}
    assert (await door.do(Role.ADMIN, "holdPlace", held))["errors"] == []
    off = {"serverId": sid, "power": "STOPPED"}
    assert (await door.do(Role.CUSTOMER, "serverPowerSet", off, account="acct-1"))["errors"] == []
    placed = {"accountId": ids.global_id("Account", account.id), "kind": "FREEZE", "reason": "r",
              "expiresAt": "2026-12-01T00:00:00Z"}  # fmt: skip
    assert (await door.do(Role.ADMIN, "overridePlace", placed))["errors"] == []
    await factory.invoice(account)
    await factory.episode(account, started_at=door.clock.now() - timedelta(days=1))
    await factory.notice(account)
    await wallet.voucher(account, 100)
    price = {"sku": "small", "hourly": {"amount": "0.01", "currency": "EUR"}}
    assert (await door.do(Role.ADMIN, "priceSet", price))["errors"] == []
    narrowed = {
        "f": {"stage": ["PAST_DUE"], "overdue": True, "hasOverride": True, "search": "ÄNNE"},
        "s": {"status": ["HELD", "ACTIVE"], "site": "demo", "search": "WEB", "inSync": False},
        "i": {"status": ["OPEN"], "overdue": True, "dueBefore": None, "origin": "USAGE"},
    }
    for variables in ({}, narrowed):
        data = await door.data(Role.ADMIN, LISTS, variables)
        counts = [data[name]["totalCount"] for name in ("servers", "invoices", "notices")]
        assert counts == [1, 1, 1]
        assert data["servers"]["edges"][0]["node"]["status"] == "HELD"
        assert data["vouchers"]["edges"][0]["node"]["redeemedBy"]["ledger"]["totalCount"] == 1
        assert data["prices"] == [{"monthly": {"amount": "7.30"}}]
    assert data["accounts"]["edges"][0]["node"]["standing"]["debt"]["amounts"] == [{"amount": "5.00"}]
    action = {"action": "observe", "serverId": sid, "reason": "r", "idempotencyKey": "k"}
    for _ in range(2):
        assert (await door.do(Role.INFRA, "actionRequest", action))["errors"] == []
    assert len(door.hands.asked) == 1
    refused = await door.do(Role.INFRA, "actionRequest", action | {"action": "delete_suspended_server"})
    assert refused["errors"][0]["code"] == "DESTRUCTIVE_REFUSED"
    assert await AuditEntry.filter(kind="action.refused").count() == 1
    assert (await door.do(Role.ADMIN, "enforcementPause", {"reason": "r"}))["errors"] == []


async def test_a_request_that_arrives_twice_at_once_acts_once(door: Any, factory: Any) -> None:
    """It asks the reconciler once, whichever of the two wins; the other is answered the same or told to wait."""
    server = await factory.server()
    action = {
        "action": "observe",
        "serverId": ids.global_id("Server", server.id),
        "reason": "r",
        "idempotencyKey": "k",
    }
    await door.token(Role.INFRA)
    answers = await asyncio.gather(*(door.do(Role.INFRA, "actionRequest", action) for _ in range(8)))
    codes = [error["code"] for answer in answers for error in answer["errors"]]
    assert set(codes) <= {"CONFLICT"}
    assert door.hands.asked == [("observe", server.id)]
    assert await IdempotencyKey.all().count() == 1


async def test_a_server_is_held_once_per_cause_however_many_ask(door: Any, factory: Any) -> None:
    """It keeps one open hold when many place it at the same moment."""
    server = await factory.server()
    asked = holds.HoldPlacement(
        server_id=server.id, cause=HoldCause.ABUSE, stops_server=True, locks_backups=False, reason="r"
    )
    placed = await asyncio.gather(
        *(holds.place(asked, actor="a", now=door.clock.now()) for _ in range(8)), return_exceptions=True
    )
    assert {type(one) for one in placed} <= {Server, RefusalError}
    assert await Hold.filter(lifted_at=None).count() == 1


async def test_an_account_is_created_once_however_many_ask(door: Any) -> None:
    """It makes one account of one external id, and refuses or answers the others."""
    change = AccountChange(external_id="acct-1", name="Anna", currency="EUR")
    done = await asyncio.gather(
        *(
            accounts.upsert(change, policies=door.ports.policies(), actor="a", now=door.clock.now())
            for _ in range(8)
        ),
        return_exceptions=True,
    )
    refused = [one for one in done if isinstance(one, BaseException)]
    assert all(
        isinstance(one, RefusalError) and one.problems[0].code is RefusalCode.CONFLICT for one in refused
    )
    assert await Account.all().count() == 1
    assert await AuditEntry.filter(kind="account.created").count() == 1


async def test_a_standing_since_is_read_alike(door: Any, factory: Any) -> None:
    """It tells the same instant for the end of the last episode on both."""
    account = await factory.account()
    ended = door.clock.now() - timedelta(hours=1)
    await Episode.create(
        account=account, started_at=ended, ended_at=ended, admitted=Stage.PAST_DUE, admitted_at=ended
    )
    query = "{ accounts { edges { node { standing { since } } } } }"
    data = await door.data(Role.SUPPORT, query)
    assert data["accounts"]["edges"][0]["node"]["standing"]["since"] == "2026-11-20T08:00:00Z"


async def test_a_payment_that_is_asked_for_many_times_at_once_is_made_once(
    door: Any, factory: Any, wallet: Any, simulator: Any, gateway: Any
) -> None:
    """It spends purse and card once, under one key and under many, and the books balance."""
    door.ports = replace(door.ports, cards=CardGateway(gateway), invoices=SettleGateway(gateway))
    customer = simulator.create_customer()["id"]
    account = await factory.account(stripe_customer_id=customer)
    method = simulator.add_card(customer)["id"]
    await factory.card(account, stripe_payment_method_id=method, is_default=True)
    invoice = await factory.invoice(account)
    await wallet.cash(account, 150)
    named = {"invoiceId": ids.global_id("Invoice", invoice.id)}
    top_up = {"amount": {"amount": "7.00", "currency": "EUR"}, "idempotencyKey": "top-up"}
    await door.token(Role.CUSTOMER, account.external_id)
    payloads = await asyncio.gather(
        *(
            door.do(Role.CUSTOMER, "invoicePay", named | {"idempotencyKey": key}, account=account.external_id)
            for key in ("same", "same", "same", "one", "two")
        ),
        *(door.do(Role.CUSTOMER, "balanceTopUp", top_up, account=account.external_id) for _ in range(3)),
    )
    assert {error["code"] for payload in payloads for error in payload["errors"]} <= {
        "CONFLICT", "INVOICE_NOT_OPEN"
    }  # fmt: skip
    paid = await InvoicePart.all().order_by("id").values_list("source", "amount")
    assert sum(amount for _, amount in paid) == 500
    received = [
        one["amount_received"]
        for one in simulator.store.oldest_first("payment_intent")
        if one["status"] == "succeeded"
    ]
    balance = (await ledger.purses([account.id]))[account.id].balance
    assert 150 + sum(received) == 500 + balance
    assert await Charge.filter(occasion="top-up").count() == 1
    assert await ledger.proven() == []


MONEY = {"amount": "5.00", "currency": "EUR"}


async def test_money_moves_once_however_often_it_is_asked_for_at_once(
    door: Any, factory: Any, wallet: Any
) -> None:
    """It books each wish once and gives everybody who sent it the first answer; the same wish under many keys, one."""
    account = await factory.account()
    named = {"accountId": ids.global_id("Account", account.id), "idempotencyKey": "k"}
    await door.token(Role.ADMIN)
    issue = {"count": 2, "value": MONEY, "idempotencyKey": "k"}
    batches = await _together(door, "vouchersIssue", [issue] * 6, "codes vouchers { id }")
    assert len({str(batch["vouchers"]) for batch in batches}) == 1
    [codes] = [batch["codes"] for batch in batches if batch["codes"]]
    assert await Voucher.all().count() == 2
    redeem = named | {"code": codes[0]}
    assert await _together(door, "voucherRedeem", [redeem] * 4) == [{"errors": []}] * 4
    others = [redeem | {"code": codes[1], "idempotencyKey": f"k{number}"} for number in range(4)]
    answers = await _together(door, "voucherRedeem", others)
    assert sorted(_told(answer) for answer in answers) == ["", *["VOUCHER_USED"] * 3]
    credit = named | {"amount": MONEY, "reason": "r"}
    assert await _together(door, "creditGrant", [credit] * 6) == [{"errors": []}] * 6
    transfer = named | {"amount": MONEY, "reference": "RF18"}
    assert await _together(door, "paymentRecord", [transfer] * 6) == [{"errors": []}] * 6
    entry = await LedgerTransaction.get(kind=TransactionKind.CREDIT_GRANTED)
    back = {"entryId": ids.global_id("LedgerEntry", entry.id), "reason": "r", "idempotencyKey": "k"}
    assert await _together(door, "ledgerReverse", [back] * 6) == [{"errors": []}] * 6
    assert await wallet.holds(account) == Purses(currency="EUR", voucher=1000, balance=500)
    assert await LedgerTransaction.all().count() == 5
    assert await ledger.proven() == []


async def test_one_key_serves_one_of_two_wishes_that_arrive_at_once(
    door: Any, factory: Any, wallet: Any
) -> None:
    """It does one of them and refuses the other, whichever was first."""
    account = await factory.account()
    named = {"accountId": ids.global_id("Account", account.id), "reason": "r", "idempotencyKey": "k"}
    await door.token(Role.ADMIN)
    wishes = [named | {"amount": {"amount": f"{number}.00", "currency": "EUR"}} for number in (1, 2, 3, 4)]
    answers = await _together(door, "creditGrant", wishes)
    assert sorted(_told(answer) for answer in answers) == ["", *["IDEMPOTENCY_MISMATCH"] * 3]
    assert await LedgerTransaction.all().count() == await IdempotencyKey.all().count() == 1


async def _together(door: Any, mutation: str, wishes: list[Any], show: str = "") -> list[dict[str, Any]]:
    return await asyncio.gather(*(door.do(Role.ADMIN, mutation, wish, show=show) for wish in wishes))


def _told(answer: dict[str, Any]) -> str:
    return " ".join(error["code"] for error in answer["errors"])
