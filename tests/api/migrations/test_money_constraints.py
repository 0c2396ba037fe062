"""Every constraint on the tables of the money bites, on both databases, in raw SQL."""
# ruff: noqa: S608 - every word of it is written here

from typing import Any

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.fields import BooleanField, CharField, DatetimeField, TextField
from tortoise.models import Model

from api.catalog import expected_file
from billing import attempt_models, money_models
from billing.attempt_models import CardAttempt
from billing.models import Invoice
from billing.money_models import (
    Card,
    Charge,
    InvoiceLine,
    InvoicePart,
    LedgerAccount,
    LedgerKind,
    LedgerTransaction,
    LedgerTransfer,
    MeteredAccount,
    NumberSeries,
    PartSource,
    Price,
    Reservation,
    TransactionKind,
    UsageInterval,
    Voucher,
    VoucherGuess,
)

LONG_AGO = "'2020-01-01 00:00:00+00:00'"
LATER = "'2030-01-01 00:00:00+00:00'"
SOMEBODY = "(SELECT min(id) FROM account)"
ANY, OWN = "1 = 1", "account_id IS NOT NULL"
REMOVED = "is_default = FALSE, removed_at = added_at"
CLOSED = "ended_at = started_at, ended_because = 'retired'"

#: What breaks each CHECK: the rule's name, then SQL values for the columns that break it and nothing else.
VIOLATIONS: dict[type[Model], dict[str, dict[str, str]]] = {
    LedgerAccount: {
        "kind": {"kind": "'GIFT'"},
        "owner": {"kind": "'BANK'"},
        "currency": {"currency": "'eur'"},
        "cached": {"balance": "NULL"},
    },
    LedgerTransaction: {
        "kind": {"kind": "'GIFT'"},
        "actor_given": {"actor": "''"},
        "source_given": {"source_id": "''"},
        "of_a_voucher": {"kind": "'VOUCHER_REDEEMED'"},
        "reversal": {"reverses_id": "7"},
    },
    LedgerTransfer: {"amount": {"amount": "0"}, "two_accounts": {"credit_id": "debit_id"}},
    Voucher: {
        "code_hash": {"code_hash": "'short'"},
        "value": {"value": "0"},
        "currency": {"currency": "'EU'"},
        "author_given": {"issued_by": "''"},
        "expiry": {"expires_at": "issued_at"},
        "redeemed": {"redeemed_at": "issued_at"},
        "redeemed_in_time": {"redeemed_at": "expires_at", "redeemed_by_id": SOMEBODY},
        "one_end": {"redeemed_at": "issued_at", "redeemed_by_id": SOMEBODY, "revoked_at": "issued_at"},
    },
    VoucherGuess: {"of_somebody": {"account_id": "nullif(account_id, account_id)"}},
    Card: {
        "exp_month": {"exp_month": "13"},
        "version": {"version": "0"},
        "default_not_removed": {"removed_at": "added_at"},
        "detached_after_removal": {"detached_at": "added_at"},
    },
    CardAttempt: {"kind": {"kind": "'THEFT'"}},
    Charge: {
        "amount": {"amount": "0"},
        "currency": {"currency": "'EU1'"},
        "card_version": {"card_version": "0"},
        "occasion_given": {"occasion": "''"},
        "state": {"state": "'LOST'", "stripe_payment_intent_id": "'pi_1'"},
        "known_to_stripe": {"state": "'SUCCEEDED'"},
    },
    Price: {"sku_given": {"sku": "''"}, "currency": {"currency": "'eu1'"}, "rate": {"rate": "-1"}},
    UsageInterval: {
        "currency": {"currency": "'E1R'"},
        "rate": {"rate": "-1"},
        "end": {"ended_at": "'2026-11-10 00:00:00+00:00'", "ended_because": "'retired'"},
        "ended": {"ended_at": "started_at"},
        "ended_because": {"ended_at": "started_at", "ended_because": "'bored'"},
    },
    InvoiceLine: {"amount": {"amount": "-1"}, "seconds": {"seconds": "-1"}, "rate": {"rate": "-1"}},
    NumberSeries: {"next": {"next": "0"}},
    InvoicePart: {
        "amount": {"amount": "0"},
        "source": {"source": "'LUCK'"},
        "source_given": {"source_id": "''"},
        "of_a_card": {"card_id": "1"},
    },
    Reservation: {"amount": {"amount": "0"}, "purse": {"purse": "'BANK'"}, "state": {"state": "'LOST'"}},
}
#: Tried by a transfer, because a balance is never written by hand.
COVERED = "ledger_account_covered"


@pytest.fixture
async def _rows(database: str, factory: Any, clock: Any) -> None:
    """One valid row in every table of the money, and 5.00 EUR that came from the bank."""
    now = clock.now()
    account = await factory.account()
    invoice = await factory.invoice(account, period_start=now, number="R-1")
    bank = await LedgerAccount.create(kind=LedgerKind.BANK, currency="EUR")
    balance = await LedgerAccount.create(account=account, kind=LedgerKind.BALANCE, currency="EUR", balance=0)
    paid = await LedgerTransaction.create(
        account=account, kind=TransactionKind.PAYMENT_RECORDED, at=now, actor="x", description="x", source="bank",
        source_id="x",
    )  # fmt: skip
    await LedgerTransfer.create(transaction=paid, debit=bank, credit=balance, amount=500)
    await Voucher.create(
        code_hash="0" * 64, value=5, currency="EUR", issued_by="x", issued_at=now, expires_at=now.replace(year=2028)
    )  # fmt: skip
    await VoucherGuess.create(account_id=account.id, at=now)
    card = await Card.create(
        account=account, stripe_payment_method_id="pm_1", fingerprint="x", brand="visa", last4="4242", exp_month=1,
        exp_year=2030, is_default=True, added_at=now,
    )  # fmt: skip
    await CardAttempt.create(account_id=account.id, kind="SETUP", at=now)
    await Charge.create(
        account=account, invoice_id=invoice.id, card=card, card_version=1, amount=5, currency="EUR", on_session=True,
        occasion="x", idempotency_key="x", created_at=now, updated_at=now,
    )  # fmt: skip
    await Price.create(sku="small", currency="EUR", rate=5, valid_from=now, set_by="x")
    await UsageInterval.create(
        account=account, server_id=1, server_name="x", sku="small", currency="EUR", rate=5, started_at=now
    )
    month = {"month": now.date().replace(day=1), "invoiced_until": now.replace(day=1), "due_at": now}
    await MeteredAccount.create(account=account, **month)
    await InvoiceLine.create(invoice=invoice, description="x", seconds=5, rate=5, amount=5)
    await NumberSeries.create(name="invoice", next=2)
    await InvoicePart.create(invoice=invoice, source=PartSource.BALANCE, source_id="x", amount=5, at=now)
    await Reservation.create(
        account_id=account.id, invoice=invoice, purse=LedgerKind.BALANCE, amount=5, idempotency_key="x",
        created_at=now, updated_at=now,
    )  # fmt: skip


async def _all(model: type[Model]) -> Any:
    return await model.all().order_by(model._meta.pk_attr).values()


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("model", VIOLATIONS, ids=lambda model: model._meta.db_table)
async def test_it_refuses_a_row_that_breaks_a_check(model, execute, copy):
    """An INSERT is refused by the CHECK's name; an UPDATE by it, or because such a row never changes."""
    table = model._meta.db_table
    before = await _all(model)
    where = OWN if model is LedgerAccount else ANY
    for name, broken in VIOLATIONS[model].items():
        # A ledger account begins with nothing.
        given = {"balance": "0"} | broken if model is LedgerAccount else broken
        with pytest.raises(IntegrityError, match=f"{table}_{name}\\b"):
            await copy(model, given, where)
        changes = ", ".join(f'"{column}" = {value}' for column, value in broken.items())
        with pytest.raises(IntegrityError, match=rf"{table}_{name}\b|never changed|never goes back"):
            await execute(f'UPDATE "{table}" SET {changes} WHERE {where}')
    assert await _all(model) == before


@pytest.mark.usefixtures("_rows")
async def test_it_overdraws_no_purse(execute):
    """What leaves a purse has to be in it; to the last cent it may go."""
    back = "INSERT INTO ledger_transfer (transaction_id, debit_id, credit_id, amount) SELECT transaction_id, "
    with pytest.raises(IntegrityError, match=COVERED):
        await execute(f"{back} credit_id, debit_id, amount + 1 FROM ledger_transfer")
    assert (await LedgerAccount.get(account_id__isnull=False)).balance == 500
    await execute(f"{back} credit_id, debit_id, amount FROM ledger_transfer")
    assert (await LedgerAccount.get(account_id__isnull=False)).balance == 0


def test_it_tries_every_check_on_these_tables():
    """The list above is complete: a CHECK that nobody tries would be a guess."""
    lines = [
        line.split() for line in expected_file("postgres").read_text().splitlines() if ": CHECK (" in line
    ]
    expected = {words[1] for words in lines if words[0] == "constraint" and words[3].rstrip(":") in _tables()}
    tried = {f"{model._meta.db_table}_{name}" for model, rules in VIOLATIONS.items() for name in rules}
    assert tried | {COVERED} == expected


def _tables() -> set[str]:
    own = [
        each
        for module in (money_models, attempt_models)
        for each in vars(module).values()
        if getattr(each, "__module__", "") == module.__name__
    ]
    return {model._meta.db_table for model in own if issubclass(model, Model)}


Values = dict[str, str]
#: Each partial unique index: the row that it is about; how a second row may differ and is still refused; what ends the
#: first row; how the second one must then be to be welcome.
ONE: dict[str, tuple[type[Model], str, Values, str | None, Values]] = {
    "ledger_account_purse": (LedgerAccount, OWN, {"balance": "0"}, None, {"kind": "'VOUCHER'"}),
    "ledger_account_house": (LedgerAccount, "account_id IS NULL", {}, None, {"currency": "'USD'"}),
    "card_default": (Card, ANY, {"fingerprint": "'y'"}, "is_default = FALSE", {"is_default": "TRUE"}),
    "card_of_account": (Card, ANY, {"is_default": "FALSE"}, REMOVED, {"removed_at": "NULL"}),
    "charge_in_flight": (Charge, ANY, {"occasion": "'y'"}, "state = 'FAILED'", {"state": "'INTENDED'"}),
    "charge_occasion": (Charge, ANY, {"state": "'FAILED'"}, None, {"occasion": "'y'"}),
    "usage_open": (UsageInterval, ANY, {}, CLOSED, {"ended_at": "NULL", "ended_because": "NULL"}),
    "reservation_open": (Reservation, ANY, {}, "state = 'FREED'", {"state": "'REPORTED'"}),
    "invoice_of_month": (Invoice, ANY, {"number": "NULL"}, None, {"period_start": LATER}),
    "invoice_number": (Invoice, ANY, {"period_start": LATER}, None, {"number": "'R-2'"}),
}


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("name", ONE)
async def test_it_allows_one_row_at_a_time(name, execute, copy):
    """A second row is refused for this reason alone: once the first has ended, or with another key, it is taken."""
    model, where, differs, end, welcome = ONE[name]
    before = await model.all().count()
    with pytest.raises(IntegrityError):
        await copy(model, differs, where)
    if end is not None:
        await execute(f'UPDATE "{model._meta.db_table}" SET {end} WHERE {where}')
    await copy(model, differs | welcome, where)
    assert await model.all().count() == before + 1


def test_it_tries_every_partial_index_that_came_with_the_money():
    """The list above is complete."""
    lines = expected_file("postgres").read_text().splitlines()
    found = [line.split() for line in lines if line.startswith("index ") and " WHERE " in line]
    # index name: CREATE UNIQUE INDEX name ON table ...
    assert set(ONE) == {words[1].rstrip(":") for words in found if words[7] in _tables() | {"invoice"}}


#: Tables of which no row changes, and those of which only some columns never do.
NEVER_CHANGED = (LedgerTransaction, LedgerTransfer, InvoiceLine, InvoicePart, Price)
KEPT = {
    LedgerAccount: "id account_id kind currency",
    Voucher: "id code_hash value currency note issued_by issued_at expires_at",
    Card: "id account_id stripe_payment_method_id added_at",
    Charge: "id account_id invoice_id card_id card_version amount currency occasion idempotency_key created_at",
    UsageInterval: "id account_id server_id server_name sku currency rate started_at",
    Reservation: "id account_id invoice_id purse idempotency_key created_at",
}
NEVER_DELETED = (*NEVER_CHANGED, *KEPT, MeteredAccount, NumberSeries)


def _another(model: type[Model], column: str) -> str:
    field = model._meta.fields_map[model._meta.fields_db_projection_reverse[column]]
    match field:
        case DatetimeField():
            return LONG_AGO
        case BooleanField():
            return f'NOT "{column}"'
        case CharField() | TextField():
            return f"""'9' || substr(COALESCE("{column}", 'x'), 2)"""
    return f'COALESCE("{column}", 0) + 1'


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("model", [*NEVER_CHANGED, *KEPT], ids=lambda model: model._meta.db_table)
async def test_it_never_changes_what_was_agreed(model, execute):
    """Column by column; of what is only appended no column at all."""
    table = model._meta.db_table
    columns = KEPT.get(model) or " ".join(model._meta.db_fields)
    before = await _all(model)
    for column in columns.split():
        with pytest.raises(IntegrityError, match="never changed"):
            await execute(f'UPDATE "{table}" SET "{column}" = {_another(model, column)}')
    assert await _all(model) == before


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("model", NEVER_DELETED, ids=lambda model: model._meta.db_table)
async def test_it_never_deletes(model, database, execute):
    """Not by DELETE, not by TRUNCATE, not by SQLite's INSERT OR REPLACE."""
    table = model._meta.db_table
    before = await _all(model)
    assert before
    with pytest.raises(IntegrityError, match="never deleted"):
        await execute(f'DELETE FROM "{table}"')
    emptied = (
        f'INSERT OR REPLACE INTO "{table}" SELECT * FROM "{table}"'
        if database.startswith("sqlite")
        else f'TRUNCATE "{table}" CASCADE'
    )
    with pytest.raises(IntegrityError):
        await execute(emptied)
    assert await _all(model) == before


#: What a row may do once: its table, the statement that does it, those that would do it again or take it back.
ONCE: dict[str, tuple[type[Model], str, tuple[str, ...]]] = {
    "voucher_ended_once": (
        Voucher,
        f"redeemed_at = issued_at, redeemed_by_id = {SOMEBODY}",
        ("redeemed_at = NULL, redeemed_by_id = NULL", "redeemed_at = redeemed_at", "revoked_at = issued_at"),
    ),
    "card_removed_once": (
        Card,
        REMOVED,
        ("removed_at = NULL", f"removed_at = {LATER}"),
    ),
    "charge_succeeded_once": (
        Charge,
        "state = 'SUCCEEDED', stripe_payment_intent_id = 'pi_1'",
        ("state = 'FAILED'", "state = 'PROCESSING'"),
    ),
    "usage_interval_closed_once": (
        UsageInterval,
        CLOSED,
        ("ended_at = NULL, ended_because = NULL", f"ended_at = {LATER}", "ended_because = 'held'"),
    ),
    "reservation_ended_once": (Reservation, "state = 'BOOKED'", ("state = 'RESERVED'", "state = 'FREED'")),
    "number_series_grows": (NumberSeries, "next = 3", ("next = 2", "name = 'other'")),
    "metered_account_moves_on": (
        MeteredAccount,
        f"invoiced_until = {LATER}, month = '2029-12-01'",
        ("month = '2026-01-01'", f"invoiced_until = {LONG_AGO}", "account_id = account_id + 1"),
    ),
}


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("name", ONCE)
async def test_it_happens_once_and_for_ever(name, execute):
    """The first time it is welcome; no later statement repeats it or takes it back."""
    model, first, others = ONCE[name]
    table = model._meta.db_table
    await execute(f'UPDATE "{table}" SET {first}')
    done = await _all(model)
    for other in others:
        with pytest.raises(IntegrityError):
            await execute(f'UPDATE "{table}" SET {other}')
    assert await _all(model) == done


MOVE = "INSERT INTO ledger_transfer (transaction_id, debit_id, credit_id, amount) SELECT transaction_id, "
INTERVAL = "INSERT INTO usage_interval (account_id, server_id, server_name, sku, currency, rate, started_at) "
OPENED = "INSERT INTO ledger_account (account_id, kind, currency, balance) "
#: What each of the other guards refuses: its table, and one statement.
GUARDS = {
    "ledger_account_opened_empty": ("ledger_account", OPENED + "SELECT id, 'VOUCHER', 'EUR', 5 FROM account"),
    "ledger_account_balance_proven": (
        "ledger_account",
        f"UPDATE ledger_account SET balance = 501 WHERE {OWN}",
    ),
    "ledger_transfer_one_currency": (
        "ledger_transfer",
        MOVE + "(SELECT id FROM ledger_account WHERE currency = 'USD'), credit_id, 1 FROM ledger_transfer",
    ),
    "ledger_transfer_of_one_customer": (
        "ledger_transfer",
        MOVE + "debit_id, (SELECT max(id) FROM ledger_account), 1 FROM ledger_transfer",
    ),
    "ledger_transfer_vouchers_apart": (
        "ledger_transfer",
        MOVE
        + "(SELECT id FROM ledger_account WHERE kind = 'VOUCHERS_ISSUED'), credit_id, 1 FROM ledger_transfer",
    ),
    "account_currency_kept": ("account", f"UPDATE account SET currency = 'USD' WHERE id = {SOMEBODY}"),
    "usage_interval_begins_invoiced": (
        "usage_interval",
        INTERVAL + f"SELECT account_id, 2, 'y', sku, currency, rate, {LONG_AGO} FROM usage_interval",
    ),
    "usage_interval_ends_invoiced": ("usage_interval", f"UPDATE usage_interval SET {CLOSED}"),
}


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("name", GUARDS)
async def test_it_guards(name, database, execute, factory):
    """Refused as it stands; without this one guard the very same statement is taken."""
    await LedgerAccount.create(kind=LedgerKind.BANK, currency="USD")
    await LedgerAccount.create(kind=LedgerKind.VOUCHERS_ISSUED, currency="EUR")
    other = await factory.account()
    await LedgerAccount.create(account=other, kind=LedgerKind.BALANCE, currency="EUR", balance=0)
    if name == "usage_interval_ends_invoiced":
        await execute(f"UPDATE metered_account SET invoiced_until = {LATER}")
    table, statement = GUARDS[name]
    with pytest.raises(IntegrityError):
        await execute(statement)
    on = "" if database.startswith("sqlite") else f' ON "{table}"'
    await execute(f'DROP TRIGGER "{name}"{on}')
    await execute(statement)


def test_it_tries_every_trigger_on_these_tables():
    """The lists above are complete."""
    lines = expected_file("postgres").read_text().splitlines()
    found = {line.split()[1].rstrip(":") for line in lines if line.startswith("trigger ")}
    mine = {name for name in found if any(f"{table}_" in name for table in _tables())}
    tried = {*ONCE, *GUARDS, "ledger_transfer_posted"}
    tried |= {f"{model._meta.db_table}_never_changed" for model in NEVER_CHANGED}
    tried |= {f"{model._meta.db_table}_kept" for model in KEPT}
    tried |= {
        f"{model._meta.db_table}_never_{end}" for model in NEVER_DELETED for end in ("deleted", "emptied")
    }
    assert mine | {"account_currency_kept"} == tried
