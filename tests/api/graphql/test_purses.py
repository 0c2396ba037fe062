"""What an account has with us as a client reads it: purses, vouchers, ledger and prices."""

from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing import ledger, prices
from billing.ledger import Move
from billing.money_models import LedgerKind, LedgerTransaction, TransactionKind, Voucher
from billing.prices import NewPrice

pytestmark = pytest.mark.usefixtures("sqlite_database")

PURSES = """{ viewer { account {
  balance { amount currency } voucherBalance { amount currency } reserved { amount currency } } } }"""


def _all(amounts: tuple[str, str, str], currency: str) -> dict[str, Any]:
    names = ("balance", "voucherBalance", "reserved")
    return {
        name: {"amount": amount, "currency": currency} for name, amount in zip(names, amounts, strict=True)
    }


async def _book(door: Any, account: Any, kind: TransactionKind, move: Move, **more: Any) -> LedgerTransaction:
    row = await ledger.book(
        kind, account.id, [move], fact=("test", kind.value), at=door.clock.now(), actor="system:test",
        description=f"it was {kind.value.lower()}", **more,
    )  # fmt: skip
    assert row is not None
    return row


async def test_purses_are_told_apart(door: Any, factory: Any, wallet: Any) -> None:
    """It shows what is free of each, and what left both for an invoice that is not paid yet."""
    account = await factory.account()
    seen = await door.data(Role.CUSTOMER, PURSES, account=account.external_id)
    assert seen["viewer"]["account"] == _all(("0.00", "0.00", "0.00"), "EUR")
    await wallet.cash(account, 1250)
    await wallet.voucher(account, 500)
    move = Move(debit=LedgerKind.VOUCHER, credit=LedgerKind.VOUCHER_RESERVED, amount=200)
    await _book(door, account, TransactionKind.RESERVED, move)
    seen = await door.data(Role.CUSTOMER, PURSES, account=account.external_id)
    assert seen["viewer"]["account"] == _all(("12.50", "3.00", "2.00"), "EUR")


@pytest.mark.parametrize(
    ("currency", "written"), [("JPY", ("1250", "0", "0")), ("KWD", ("1.250", "0.000", "0.000"))]
)
async def test_amounts_have_the_digits_of_their_currency(
    door: Any, factory: Any, wallet: Any, currency: str, written: tuple[str, str, str]
) -> None:
    """It writes no digits after the point for yen and three for dinars."""
    account = await factory.account(currency=currency)
    await wallet.cash(account, 1250)
    seen = await door.data(Role.CUSTOMER, PURSES, account=account.external_id)
    assert seen["viewer"]["account"] == _all(written, currency)


LEDGER = """query($first: Int, $after: String) { viewer { account { ledger(first: $first, after: $after) { totalCount
  pageInfo { hasNextPage endCursor }
  edges { node { id at kind description amount { amount currency } toInvoice { amount }
    invoice { id } voucher { id state } } } } } } }"""


async def test_the_ledger_is_a_statement_that_adds_up(door: Any, factory: Any, wallet: Any) -> None:
    """It lists every fact, newest first, and its amounts add up to what is in the purses and reserved."""
    account = await factory.account()
    invoice = await factory.invoice(account)
    await wallet.voucher(account, 500)
    reserved = Move(debit=LedgerKind.VOUCHER, credit=LedgerKind.VOUCHER_RESERVED, amount=300)
    await _book(door, account, TransactionKind.RESERVED, reserved, invoice_id=invoice.id)
    paid = Move(debit=LedgerKind.VOUCHER, credit=LedgerKind.INVOICES_PAID, amount=120)
    await _book(door, account, TransactionKind.INVOICE_PAID, paid, invoice_id=invoice.id)
    direct = Move(debit=LedgerKind.BANK, credit=LedgerKind.INVOICES_PAID, amount=80)
    await _book(door, account, TransactionKind.PAYMENT_RECORDED, direct, invoice_id=invoice.id)
    found = (await door.data(Role.CUSTOMER, LEDGER, account=account.external_id))["viewer"]["account"]
    rows = [edge["node"] for edge in found["ledger"]["edges"]]
    assert [(row["kind"], row["amount"]["amount"], row["toInvoice"]["amount"]) for row in rows] == [
        ("PAYMENT_RECORDED", "0.00", "0.80"),
        ("INVOICE_PAID", "-1.20", "1.20"),
        ("RESERVED", "0.00", "0.00"),
        ("VOUCHER_REDEEMED", "5.00", "0.00"),
    ]
    assert [row["invoice"] for row in rows] == [*[{"id": ids.global_id("Invoice", invoice.id)}] * 3, None]
    voucher = await Voucher.get()
    assert rows[3]["voucher"] == {"id": ids.global_id("Voucher", voucher.id), "state": "REDEEMED"}
    assert rows[0]["description"] == "Payment received: it was payment_recorded"
    purses = (await door.data(Role.CUSTOMER, PURSES, account=account.external_id))["viewer"]["account"]
    assert purses == _all(("0.00", "0.80", "3.00"), "EUR")


async def test_the_ledger_is_paged(door: Any, factory: Any, wallet: Any) -> None:
    """It goes on behind a cursor, and an entry is reached by its id."""
    account = await factory.account()
    for amount in (1, 2, 3):
        await wallet.cash(account, amount)
    seen, after = [], None
    for _ in range(2):
        told = await door.data(
            Role.CUSTOMER, LEDGER, {"first": 2, "after": after}, account=account.external_id
        )
        found = told["viewer"]["account"]["ledger"]
        assert found["totalCount"] == 3
        seen += [edge["node"] for edge in found["edges"]]
        after = found["pageInfo"]["endCursor"]
    assert [row["amount"]["amount"] for row in seen] == ["0.03", "0.02", "0.01"]
    assert not found["pageInfo"]["hasNextPage"]
    query = "query($id: ID!) { node(id: $id) { id ... on LedgerEntry { kind amount { amount } } } }"
    node = await door.data(Role.CUSTOMER, query, {"id": seen[0]["id"]}, account=account.external_id)
    assert node["node"] == {"id": seen[0]["id"], "kind": "PAYMENT_RECORDED", "amount": {"amount": "0.03"}}


VOUCHERS = """query($state: VoucherState) { vouchers(state: $state) { totalCount
  edges { node { state value { amount currency } note expiresAt redeemedAt redeemedBy { externalId } } } } }"""


async def test_vouchers_are_listed_by_where_they_are(door: Any, factory: Any, wallet: Any) -> None:
    """It shows staff all of them or those of one state; the account shows those that it redeemed."""
    account = await factory.account()
    await wallet.voucher(account, 500)
    now = door.clock.now()
    common = {"value": 700, "currency": "EUR", "issued_by": "admin:anna", "note": "spring",
              "issued_at": now - timedelta(days=1)}  # fmt: skip
    await Voucher.create(code_hash="a" * 64, expires_at=now + timedelta(days=1), **common)
    await Voucher.create(code_hash="b" * 64, expires_at=now, **common)
    await Voucher.create(code_hash="c" * 64, revoked_at=now, **common)
    every = (await door.data(Role.SUPPORT, VOUCHERS))["vouchers"]
    assert every["totalCount"] == 4
    assert [edge["node"]["state"] for edge in every["edges"]] == ["REVOKED", "EXPIRED", "ISSUED", "REDEEMED"]
    for state in ("ISSUED", "REDEEMED", "EXPIRED", "REVOKED"):
        found = (await door.data(Role.ADMIN, VOUCHERS, {"state": state}))["vouchers"]
        assert [edge["node"]["state"] for edge in found["edges"]] == [state]
    issued = (await door.data(Role.ADMIN, VOUCHERS, {"state": "ISSUED"}))["vouchers"]["edges"][0]["node"]
    assert issued == {
        "state": "ISSUED", "value": {"amount": "7.00", "currency": "EUR"}, "note": "spring",
        "expiresAt": "2026-11-21T09:00:00Z", "redeemedAt": None, "redeemedBy": None,
    }  # fmt: skip
    own = (await door.data(Role.CUSTOMER, VOUCHERS, account=account.external_id))["vouchers"]
    assert own["totalCount"] == 1
    assert own["edges"][0]["node"]["redeemedBy"] == {"externalId": account.external_id}


@pytest.mark.parametrize("role", list(Role))
async def test_everybody_reads_the_prices_in_force(door: Any, factory: Any, role: Role) -> None:
    """It shows the price of each SKU and currency that holds now, exact by the hour and rounded by the month."""
    now = door.clock.now()
    for sku, currency, rate, begins in (
        ("small", "EUR", 500_000, timedelta()),
        ("small", "EUR", 685_000, timedelta(hours=1)),
        ("small", "EUR", 900_000, timedelta(days=1)),
        ("small", "JPY", 1_500_000, timedelta(hours=1)),
        ("tiny", "KWD", 2_500_000, timedelta(hours=1)),
    ):
        asked = NewPrice(sku=sku, currency=currency, rate=rate, description="2 GB", valid_from=now + begins)
        await prices.set_price(asked, actor="admin:anna", now=now)
    door.clock.advance(timedelta(hours=2))
    query = "{ prices { sku description hourly { amount currency } monthly { amount currency } validFrom } }"
    account = (await factory.account()).external_id if role is Role.CUSTOMER else None
    found = (await door.data(role, query, account=account))["prices"]
    assert [(one["sku"], one["hourly"]["amount"], one["monthly"]) for one in found] == [
        ("small", "0.00685000", {"amount": "5.00", "currency": "EUR"}),
        ("small", "1.500000", {"amount": "1095", "currency": "JPY"}),
        ("tiny", "0.002500000", {"amount": "1.825", "currency": "KWD"}),
    ]
    assert (found[0]["description"], found[0]["validFrom"]) == ("2 GB", "2026-11-20T10:00:00Z")


SHOWN = "price { sku description hourly { amount } monthly { amount } validFrom }"


async def _set(door: Any, amount: str, currency: str = "EUR", **given: Any) -> dict[str, Any]:
    asked = {"sku": "small", "hourly": {"amount": amount, "currency": currency}} | given
    payload: dict[str, Any] = await door.do(Role.ADMIN, "priceSet", asked, show=SHOWN)
    return payload


async def test_a_price_is_set_and_followed(door: Any) -> None:
    """It holds from now or from a later instant on, keeps the words of the one before, and is in force by then."""
    first = await _set(door, "0.00685", description="2 GB, with an address")
    assert first == {"errors": [], "price": {
        "sku": "small", "description": "2 GB, with an address", "hourly": {"amount": "0.00685000"},
        "monthly": {"amount": "5.00"}, "validFrom": "2026-11-20T09:00:00Z",
    }}  # fmt: skip
    assert await _set(door, "0.00685") == first
    later = await _set(door, "0.01", validFrom="2026-12-01T00:00:00Z")
    assert later["price"]["description"] == "2 GB, with an address"
    query = "{ prices { hourly { amount } } }"
    assert (await door.data(Role.CONTROL, query))["prices"] == [{"hourly": {"amount": "0.00685000"}}]
    door.clock.advance(timedelta(days=11))
    assert (await door.data(Role.CONTROL, query))["prices"] == [{"hourly": {"amount": "0.01000000"}}]


@pytest.mark.parametrize(
    ("amount", "given", "code", "path"),
    [
        ("0.000000001", {}, "INVALID", "hourly.amount"),
        ("-1.00", {}, "INVALID", "hourly.amount"),
        ("9999999999.00", {}, "INVALID", "hourly.amount"),
        ("1.00", {"currency": "EURO"}, "INVALID", "hourly.currency"),
        ("1.00", {"sku": ""}, "INVALID", "sku"),
        ("1.00", {"validFrom": "2026-11-20T08:59:59Z"}, "INVALID", "validFrom"),
        ("1.00", {"validFrom": "2026-12-01T00:00:00Z"}, "CONFLICT", "validFrom"),
    ],
)
async def test_a_price_is_refused_with_the_field_that_is_wrong(
    door: Any, amount: str, given: dict[str, Any], code: str, path: str
) -> None:
    """It names the field, and neither the past nor what was announced changes."""
    await _set(door, "0.50", validFrom="2026-12-01T00:00:00Z")
    payload = await _set(door, amount, **given)
    assert [(error["code"], error["path"]) for error in payload["errors"]] == [
        (code, ["input", *path.split(".")])
    ]
    assert payload["price"] is None
    assert (
        await prices.in_force("small", "EUR", at=door.clock.now() + timedelta(days=30))
    ).rate == 50_000_000
