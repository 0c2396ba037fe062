"""Four processes at one voucher, one purse, one fact: no double effect; and the naive way of each is caught."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from tortoise.connection import get_connection

from billing import ledger, vouchers
from billing.models import Account
from billing.money_models import LedgerTransaction
from billing.rules.money import Money
from billing.vouchers import Batch

ROUNDS = 200
NAIVE_ROUNDS = 40
VALUE = 600
_RANDOM = random.Random(4)
NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)

nightly = pytest.mark.nightly


async def _codes(count: int) -> list[str]:
    batch = Batch(count=count, value=Money(VALUE, "EUR"))
    issued = await vouchers.issue(batch, random_below=_RANDOM.randrange, actor="anna", now=NOW)
    return [each.code for each in issued]


async def _without(*guards: tuple[str, str, str]) -> None:
    """Take guards of the database away: (table, CHECK or trigger, name)."""
    connection = get_connection("default")
    for table, sort, name in guards:
        if connection.capabilities.dialect == "sqlite":
            names = [name] if sort == "trigger" else [f"{table}_checks_insert", f"{table}_checks_update"]
            for each in names:
                await connection.execute_query(f'DROP TRIGGER "{each}"')
        elif sort == "trigger":
            await connection.execute_query(f'DROP TRIGGER "{name}" ON "{table}"')
        else:
            await connection.execute_query(f'ALTER TABLE "{table}" DROP CONSTRAINT "{name}"')


async def _voucher_race(racers: Any, accounts: list[Account], codes: list[str], way: str) -> int:
    """Each round four customers redeem one code; return how often more or fewer than one had success."""
    wrong = 0
    for code in codes:
        answers = racers.round([{"way": way, "code": code, "account": account.id} for account in accounts])
        assert set(answers) <= {"yes", "no"}, answers
        wrong += answers.count("yes") != 1
    return wrong


async def _purse_race(racers: Any, account: Account, codes: list[str], way: str) -> int:
    """Each round two payments want all that a purse has while two vouchers fill it.

    Return 1 at the first round in which not exactly one of the two was paid or the purse ended inexact, else 0.
    """
    for number, (beforehand, first, second) in enumerate(zip(*[iter(codes)] * 3, strict=True)):
        await vouchers.redeem(beforehand, account_id=account.id, address=None, actor="anna", now=NOW)
        has = await _voucher_purse(account)
        fill = {"way": "redeem", "account": account.id}
        drain = {"way": way, "account": account.id, "amount": has}
        answers = racers.round(
            [
                drain | {"fact": f"{number}a"},
                fill | {"code": first},
                drain | {"fact": f"{number}b"},
                fill | {"code": second},
            ]
        )
        assert answers[1] == answers[3] == "yes", answers
        paid = [answers[0], answers[2]]
        assert set(paid) <= {"yes", "no"}, answers
        if paid.count("yes") != 1 or await _voucher_purse(account) != 2 * VALUE:
            return 1
    return 0


async def _voucher_purse(account: Account) -> int:
    return (await ledger.purses([account.id]))[account.id].voucher


async def _fact_race(racers: Any, account: Account, rounds: int, way: str) -> int:
    """Each round all four book one fact; return how often more or fewer than one did."""
    wrong = 0
    for number in range(rounds):
        order = {"way": way, "account": account.id, "amount": 5, "fact": f"transfer {number}"}
        answers = racers.round([order] * 4)
        assert set(answers) <= {"yes", "no"}, answers
        wrong += answers.count("yes") != 1
    return wrong


@pytest.mark.parametrize("rounds", [20, pytest.param(ROUNDS, marks=nightly)])
async def test_it_redeems_a_voucher_once(racers, factory, rounds):
    """Of four customers with one code exactly one gets the money, in every round."""
    accounts = [await factory.account() for _ in range(4)]
    codes = await _codes(rounds)
    assert await _voucher_race(racers, accounts, codes, "redeem") == 0
    purses = await ledger.purses([account.id for account in accounts])
    assert sum(purse.voucher for purse in purses.values()) == rounds * VALUE
    assert await ledger.proven() == []


@nightly
async def test_it_catches_naive_redeeming(racers, factory):
    """Read, check, write: the same race finds doubles when the database's own guard is gone too."""
    accounts = [await factory.account() for _ in range(4)]
    for account in accounts:
        await _open_purse(account)
    await _without(("voucher", "trigger", "voucher_ended_once"))
    codes = await _codes(NAIVE_ROUNDS)
    assert await _voucher_race(racers, accounts, codes, "redeem_naively") > 0


@pytest.mark.parametrize("rounds", [10, pytest.param(ROUNDS, marks=nightly)])
async def test_it_never_spends_more_than_a_purse_has(racers, factory, rounds):
    """Of two payments that each want everything exactly one is made, and every voucher counts in full."""
    account = await factory.account()
    await _open_purse(account)
    assert await _purse_race(racers, account, await _codes(3 * rounds), "spend") == 0
    assert await LedgerTransaction.filter(kind="INVOICE_PAID").count() == rounds
    assert await ledger.proven() == []


@nightly
async def test_it_catches_naive_spending(racers, factory):
    """Read, check, write: the same race finds a purse below zero when the database's own guard is gone too."""
    account = await factory.account()
    await _open_purse(account)
    await _without(("ledger_account", "check", "ledger_account_covered"))
    assert await _purse_race(racers, account, await _codes(3 * NAIVE_ROUNDS), "spend_naively") > 0


@pytest.mark.parametrize("rounds", [10, pytest.param(ROUNDS, marks=nightly)])
async def test_it_books_a_fact_once(racers, factory, rounds):
    """Webhook, sweep and two admins at once: one booking per round."""
    account = await factory.account()
    assert await _fact_race(racers, account, rounds, "book_once") == 0
    assert (await ledger.purses([account.id]))[account.id].balance == 5 * rounds
    assert await ledger.proven() == []


@nightly
async def test_it_catches_naive_booking(racers, factory):
    """Look whether it is booked, then book it: the same race finds doubles."""
    account = await factory.account()
    await _open_purse(account)
    assert await _fact_race(racers, account, NAIVE_ROUNDS, "book_once_naively") > 0


async def _open_purse(account: Account) -> None:
    """Give the account two first vouchers."""
    for code in await _codes(2):
        await vouchers.redeem(code, account_id=account.id, address=None, actor="anna", now=NOW)
