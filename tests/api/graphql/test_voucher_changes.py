"""Vouchers at the door: issued with their codes once, redeemed once for ever, never guessed and never kept."""

import logging
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs
from tortoise.connection import get_connection

from api import tokens
from api.graphql import ids
from api.models import IdempotencyKey, Role
from billing import ledger, settling, vouchers
from billing.models import AuditEntry, Invoice
from billing.money_models import LedgerTransaction, Voucher, VoucherGuess
from billing.rules.terms import HoldCause, InvoiceStatus, Stage
from billing.rules.voucher_codes import new_code
from billing.vouchers import PER_ACCOUNT, PER_ADDRESS

pytestmark = pytest.mark.usefixtures("sqlite_database")

TEN = {"amount": "10.00", "currency": "EUR"}
PURSE = "account { externalId voucherBalance { amount currency } }"


def _codes(payload: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["path"]) for error in payload["errors"]]


async def _issued(door: Any, **given: Any) -> dict[str, Any]:
    asked = {"count": 1, "value": TEN, "idempotencyKey": "batch-1"} | given
    shown = "codes vouchers { id state value { amount currency } expiresAt note }"
    payload: dict[str, Any] = await door.do(Role.ADMIN, "vouchersIssue", asked, show=shown)
    return payload


async def _code(door: Any, **given: Any) -> str:
    [code] = (await _issued(door, **given))["codes"]
    return str(code)


async def _redeemed(door: Any, account: Any, code: str, **given: Any) -> dict[str, Any]:
    asked = {"code": code, "idempotencyKey": "key-1"} | given
    payload: dict[str, Any] = await door.do(
        Role.CUSTOMER, "voucherRedeem", asked, account=account.external_id, show=PURSE
    )
    return payload


def _wrong(number: int) -> str:
    return new_code(Random(number).randrange)


# -------------------------------------------------------------------------------------------------------- redeeming


async def test_a_voucher_that_clears_the_debt_lets_the_standing_fall_at_once(door: Any, factory: Any) -> None:
    """It pays what is open, answers with the account as it now stands, and wakes the reconciler to give back."""
    server = await factory.server()
    account = await server.account
    invoice = await factory.invoice(account)
    await factory.episode(account, admitted=Stage.SUSPENDED, started_at=door.clock.now() - timedelta(days=9))
    await factory.hold(server, cause=HoldCause.BILLING)
    code = await _code(door)
    shown = """account { standing { stage debt { amounts { amount } } } voucherBalance { amount }
      invoices { edges { node { status amountDue { amount } payments { source amount { amount } } } } } }"""
    payload = await door.do(
        Role.CUSTOMER,
        "voucherRedeem",
        {"code": f" {code.lower().replace('-', ' ')} ", "idempotencyKey": "key-1"},
        account=account.external_id,
        show=shown,
    )
    assert payload == {"errors": [], "account": {
        "standing": {"stage": "CURRENT", "debt": None}, "voucherBalance": {"amount": "5.00"},
        "invoices": {"edges": [{"node": {"status": "PAID", "amountDue": {"amount": "0.00"},
                                         "payments": [{"source": "VOUCHER", "amount": {"amount": "5.00"}}]}}]},
    }}  # fmt: skip
    assert door.wakes == [account.id]
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    told = await AuditEntry.get(kind="voucher.redeemed")
    assert (told.actor, told.account_id) == (f"customer:CUSTOMER {account.external_id}", account.id)


async def test_the_same_request_again_gets_the_same_answer(door: Any, factory: Any) -> None:
    """It fills the purse once, however often it is sent; anything else under the key is refused."""
    account = await factory.account()
    [first, second] = (await _issued(door, count=2))["codes"]
    answers = [await _redeemed(door, account, first) for _ in range(2)]
    answers.append(await _redeemed(door, account, first.lower().replace("-", "")))
    assert answers == [answers[0]] * 3
    assert answers[0]["account"]["voucherBalance"] == TEN
    assert _codes(await _redeemed(door, account, second)) == [
        ("IDEMPOTENCY_MISMATCH", ["input", "idempotencyKey"])
    ]
    assert _codes(await _redeemed(door, account, "nonsense")) == [
        ("IDEMPOTENCY_MISMATCH", ["input", "idempotencyKey"])
    ]
    again = await _redeemed(door, account, first, idempotencyKey="key-2")
    assert _codes(again) == [("VOUCHER_USED", ["input", "code"])]
    assert await LedgerTransaction.all().count() == 1
    assert await IdempotencyKey.filter(operation="voucherRedeem").count() == 1


async def test_a_voucher_is_refused_with_its_reason(door: Any, factory: Any) -> None:
    """It says whether there is none, or why this one is not taken; nothing is kept under the key of a refusal."""
    account = await factory.account()
    soon = door.clock.now() + timedelta(minutes=1)
    passing = await _code(door, expiresAt=soon.isoformat())
    yen = await _code(door, value={"amount": "1000", "currency": "JPY"}, idempotencyKey="batch-2")
    revoked = await _issued(door, idempotencyKey="batch-3")
    gone = {"voucherId": revoked["vouchers"][0]["id"], "reason": "lost in the mail"}
    payload = await door.do(Role.ADMIN, "voucherRevoke", gone, show="voucher { state }")
    assert payload == {"errors": [], "voucher": {"state": "REVOKED"}}
    door.clock.advance(timedelta(minutes=1))
    for code, told in (
        (_wrong(1), "VOUCHER_UNKNOWN"),
        (_wrong(1)[:-1], "VOUCHER_UNKNOWN"),
        ("", "VOUCHER_UNKNOWN"),
        (passing, "VOUCHER_EXPIRED"),
        (revoked["codes"][0], "VOUCHER_EXPIRED"),
        (yen, "CURRENCY_MISMATCH"),
    ):
        assert _codes(await _redeemed(door, account, code)) == [(told, ["input", "code"])]
    assert not await LedgerTransaction.exists()
    assert not await IdempotencyKey.filter(operation="voucherRedeem").exists()
    assert door.wakes == []


async def test_the_keys_of_two_customers_are_apart(door: Any, factory: Any) -> None:
    """It takes the same key of both, though their tokens bear the same person's name."""
    codes = (await _issued(door, count=2))["codes"]
    told = []
    for number, code in enumerate(codes):
        account = await factory.account()
        token = await tokens.create(
            f"portal {number}", Role.CUSTOMER, now=door.clock.now(), actor="test", person="kim",
            account_external_id=account.external_id,
        )  # fmt: skip
        query = f"mutation($i: VoucherRedeemInput!) {{ voucherRedeem(input: $i) {{ {PURSE} errors {{ code path }} }} }}"
        body = {"query": query, "variables": {"i": {"code": code, "idempotencyKey": "key-1"}}}
        answer = (await door.post(body, token=token)).json()["data"]["voucherRedeem"]
        told.append((answer["errors"], answer["account"]["voucherBalance"]["amount"]))
    assert told == [([], "10.00")] * 2


async def _limited(door: Any, account: Any, code: str) -> dict[str, Any]:
    query = "mutation($i: VoucherRedeemInput!) { voucherRedeem(input: $i) { errors { code } } }"
    asked = {"i": {"code": code, "idempotencyKey": "key-1"}}
    answer = await door.ask(Role.CUSTOMER, query, asked, account=account.external_id)
    [error] = answer["errors"]
    assert answer["data"] is None
    told: dict[str, Any] = error["extensions"]
    return told


async def test_guessing_closes_the_door_for_the_account(door: Any, factory: Any) -> None:
    """It answers `RATE_LIMITED` after too many wrong codes, a right one included, until the oldest is over."""
    account = await factory.account()
    code = await _code(door)
    for number in range(PER_ACCOUNT.most):
        assert _codes(await _redeemed(door, account, _wrong(number))) == [
            ("VOUCHER_UNKNOWN", ["input", "code"])
        ]
    reopens = door.clock.now() + PER_ACCOUNT.within
    assert await _limited(door, account, code) == {
        "code": "RATE_LIMITED",
        "retryAt": reopens.isoformat().replace("+00:00", "Z"),
    }
    assert (await Voucher.get()).redeemed_at is None
    door.clock.advance(PER_ACCOUNT.within)
    assert (await _redeemed(door, account, code))["errors"] == []


async def test_guessing_closes_the_door_for_the_address(door: Any, factory: Any) -> None:
    """It counts what came from one address for whatever account, and notes from where."""
    for number in range(PER_ADDRESS.most):
        if number % PER_ACCOUNT.most == 0:
            account = await factory.account()
        await _redeemed(door, account, _wrong(number))
    assert set(await VoucherGuess.all().values_list("address", flat=True)) == {"127.0.0.1"}
    other = await factory.account()
    assert (await _limited(door, other, await _code(door)))["code"] == "RATE_LIMITED"


async def test_staff_say_whose_voucher_it_is(door: Any, factory: Any) -> None:
    """It fills the purse of the account that they name, and of no other."""
    account = await factory.account()
    code = await _code(door)
    asked = {"code": code, "idempotencyKey": "key-1"}
    assert _codes(await door.do(Role.SUPPORT, "voucherRedeem", asked)) == [
        ("INVALID", ["input", "accountId"])
    ]
    named = asked | {"accountId": ids.global_id("Account", account.id)}
    payload = await door.do(Role.SUPPORT, "voucherRedeem", named, show=PURSE)
    assert payload["account"] == {"externalId": account.external_id, "voucherBalance": TEN}
    assert (await AuditEntry.get(kind="voucher.redeemed")).actor == "support:support-anna"


async def test_a_customer_fills_nobody_elses_purse(door: Any, factory: Any) -> None:
    """It answers for another customer's account as for one that does not exist, and counts no guess."""
    mine, other = await factory.account(), await factory.account()
    code = await _code(door)
    answers = [
        await _redeemed(door, mine, code, accountId=account_id)
        for account_id in (ids.global_id("Account", other.id), ids.global_id("Account", 999), "garbage")
    ]
    assert answers == [answers[0]] * 3
    assert _codes(answers[0]) == [("NOT_FOUND", ["input", "accountId"])]
    assert (await Voucher.get()).redeemed_at is None
    assert not await VoucherGuess.exists()


async def test_what_was_redeemed_is_told_although_settling_failed(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers with the purse filled and leaves the rest to the sweep."""
    account = await factory.account()
    await factory.invoice(account)
    code = await _code(door)

    async def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    with monkeypatch.context() as patched:
        patched.setattr(settling, "_spend", fails)
        payload = await _redeemed(door, account, code)
    assert (payload["errors"], payload["account"]["voucherBalance"]) == ([], TEN)
    assert door.wakes == [account.id]


async def test_a_fault_leaves_neither_money_nor_key(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a fault of ours with a number, and the same request succeeds once the fault is gone."""
    account = await factory.account()
    code = await _code(door)

    async def crashes(*_: Any, **__: Any) -> None:
        raise RuntimeError("crash")

    query = "mutation($i: VoucherRedeemInput!) { voucherRedeem(input: $i) { errors { code } } }"
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "book", crashes)
        asked = {"i": {"code": code, "idempotencyKey": "key-1"}}
        assert await door.code(Role.CUSTOMER, query, asked, account=account.external_id) == "INTERNAL"
    assert not await IdempotencyKey.filter(operation="voucherRedeem").exists()
    assert (await _redeemed(door, account, code))["account"]["voucherBalance"] == TEN


async def test_a_code_is_kept_nowhere(door: Any, factory: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is in no table and in no log: neither of an issued, nor of a redeemed, nor of a wrong one."""
    caplog.set_level(logging.DEBUG)
    account = await factory.account()
    with capture_logs() as logged:
        codes = (await _issued(door, count=2))["codes"] + [_wrong(1)]
        await _issued(door, count=2)
        await _redeemed(door, account, codes[0])
        await _redeemed(door, account, codes[2], idempotencyKey="key-2")
    connection = get_connection("default")
    tables = await connection.execute_query_dict("SELECT name FROM sqlite_master WHERE type = 'table'")
    kept = f"{caplog.text} {logged}"
    for table in tables:
        rows = f'SELECT * FROM "{table["name"]}"'  # noqa: S608  # the database told the name
        kept += str(await connection.execute_query_dict(rows))
    assert str((await Voucher.first()).code_hash) in kept  # type: ignore[union-attr]
    for code in codes:
        for written in (code, code.replace("-", ""), code.lower()):
            assert written not in kept


# ---------------------------------------------------------------------------------------------------------- issuing


async def test_vouchers_are_issued_with_their_codes(door: Any) -> None:
    """It shows each code beside its voucher, and none is like another."""
    payload = await _issued(
        door,
        count=3,
        value={"amount": "1.250", "currency": "KWD"},
        expiresAt="2027-01-01T00:00:00Z",
        note="spring",
    )
    assert payload["errors"] == []
    shown = {
        "state": "ISSUED", "value": {"amount": "1.250", "currency": "KWD"}, "note": "spring",
        "expiresAt": "2027-01-01T00:00:00Z",
    }  # fmt: skip
    assert [{**voucher, "id": None} for voucher in payload["vouchers"]] == [{**shown, "id": None}] * 3
    assert len(set(payload["codes"])) == 3
    rows = await Voucher.all().order_by("id")
    assert [ids.global_id("Voucher", row.id) for row in rows] == [one["id"] for one in payload["vouchers"]]
    assert {(row.value, row.currency, row.issued_by) for row in rows} == {(1250, "KWD", "admin:admin-anna")}


async def test_codes_are_shown_once(door: Any) -> None:
    """It answers the same key with the same vouchers, without their codes, and says why and what to do."""
    first = await _issued(door, count=2)
    again = await _issued(door, count=2)
    assert again["vouchers"] == first["vouchers"]
    assert again["codes"] == []
    assert _codes(again) == [("CONFLICT", ["input", "idempotencyKey"])]
    assert "revoke" in again["errors"][0]["message"]
    other = await _issued(door, count=3)
    assert _codes(other) == [("IDEMPOTENCY_MISMATCH", ["input", "idempotencyKey"])]
    assert (other["vouchers"], other["codes"]) == ([], [])
    assert await Voucher.all().count() == 2


async def test_a_batch_without_a_key_that_holds_is_not_issued(
    door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It issues nothing when the answer cannot be kept, so that no code is ever without its request."""

    async def crashes(*_: Any, **__: Any) -> None:
        raise RuntimeError("crash")

    query = "mutation($i: VouchersIssueInput!) { vouchersIssue(input: $i) { codes } }"
    asked = {"i": {"count": 1, "value": TEN, "idempotencyKey": "batch-1"}}
    with monkeypatch.context() as patched:
        patched.setattr(IdempotencyKey, "create", crashes)
        assert await door.code(Role.ADMIN, query, asked) == "INTERNAL"
    assert not await Voucher.exists()
    assert len((await _issued(door))["codes"]) == 1


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"count": 0}, "INVALID", "count"),
        ({"count": vouchers.MOST_AT_ONCE + 1}, "INVALID", "count"),
        ({"value": {"amount": "0.00", "currency": "EUR"}}, "INVALID", "value"),
        ({"value": {"amount": "10", "currency": "EUR"}}, "INVALID", "value.amount"),
        ({"value": {"amount": "10.00", "currency": "JPY"}}, "INVALID", "value.amount"),
        ({"value": {"amount": "10.00", "currency": "eur"}}, "INVALID", "value.currency"),
        ({"expiresAt": "2026-11-20T09:00:00Z"}, "EXPIRY_IN_PAST", "expiresAt"),
        ({"idempotencyKey": " "}, "INVALID", "idempotencyKey"),
    ],
)
async def test_a_batch_is_refused_with_the_field_that_is_wrong(
    door: Any, given: dict[str, Any], code: str, path: str
) -> None:
    """It names the field, and issues nothing."""
    assert _codes(await _issued(door, **given)) == [(code, ["input", *path.split(".")])]
    assert not await Voucher.exists()


async def test_a_voucher_is_revoked_once_and_never_after_it_was_redeemed(door: Any, factory: Any) -> None:
    """It refuses both, a voucher that does not exist, and a decision without a reason."""
    batch = await _issued(door, count=2)
    used, lost = (voucher["id"] for voucher in batch["vouchers"])
    await _redeemed(door, await factory.account(), batch["codes"][0])
    for voucher_id, reason, expected in (
        (lost, "lost", []),
        (lost, "again", [("CONFLICT", ["input", "voucherId"])]),
        (used, "too late", [("VOUCHER_USED", ["input", "voucherId"])]),
        (lost, " ", [("REASON_REQUIRED", ["input", "reason"])]),
        ("garbage", "which", [("NOT_FOUND", ["input", "voucherId"])]),
    ):
        asked = {"voucherId": voucher_id, "reason": reason}
        assert _codes(await door.do(Role.ADMIN, "voucherRevoke", asked)) == expected
    assert (await AuditEntry.get(kind="voucher.revoked")).reason == "lost"
