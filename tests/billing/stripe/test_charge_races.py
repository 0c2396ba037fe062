"""Four processes charge the same card for the same thing at the same time, on PostgreSQL."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from api.database import open_database
from billing import ledger
from billing.clock import ManualClock
from billing.models import Account, Invoice
from billing.money_models import Card, Charge, ChargeState
from billing.rules.terms import InvoiceStatus
from simulators.stripe import Account as Simulator
from simulators.stripe import serve_in_thread

pytestmark = pytest.mark.postgres
nightly = pytest.mark.nightly

PROCESSES, ROUNDS, NAIVE_ROUNDS = 4, 200, 40
several = pytest.mark.parametrize("rounds", [5, pytest.param(ROUNDS, marks=nightly)])
Told = Callable[[int, int], None]


@contextmanager
def at_stripe(clock: ManualClock) -> Iterator[tuple[Simulator, str, str, str]]:
    """A simulator that listens, with a customer and a card; its URL and their ids."""
    simulator = Simulator(clock, Random(7), api_key="sk_test_race")
    customer = simulator.create_customer()["id"]
    card = simulator.add_card(customer)["id"]
    with serve_in_thread(simulator) as url:
        yield simulator, url, customer, card


async def prepare(factory: Any, customer: str, card: str, clock: ManualClock, invoices: int = 0) -> Account:
    """An account with that card and so many overdue invoices."""
    account = await factory.account(stripe_customer_id=customer)
    await Card.create(
        account_id=account.id, stripe_payment_method_id=card, fingerprint="f", brand="visa", last4="4242",
        exp_month=12, exp_year=2034, is_default=True, added_at=clock.now(),
    )  # fmt: skip
    for _ in range(invoices):
        await factory.invoice(account)
    return account


def race(url: str, stripe_url: str, what: str, rounds: int) -> None:
    """Let the processes begin together; all must end well."""
    program = str(Path(__file__).parent / "charge_in_process.py")
    processes = [
        subprocess.Popen(
            [sys.executable, program, url, stripe_url, what, str(rounds), str(number)],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said


def succeeded(simulator: Simulator) -> list[dict[str, Any]]:
    """What Stripe charged."""
    every = simulator.store.oldest_first("payment_intent")
    return [payment for payment in every if payment["status"] == "succeeded"]


@several
async def test_it_charges_one_wish_once(
    postgres_url: str, factory: Any, clock: ManualClock, told_rounds: Told, rounds: int
) -> None:
    """Top-ups, each asked for by four processes at once: as many payments and their money, once."""
    told_rounds(rounds, PROCESSES)
    with at_stripe(clock) as (simulator, stripe_url, customer, card):
        async with open_database(postgres_url):
            account = await prepare(factory, customer, card, clock)
        race(postgres_url, stripe_url, "top-up", rounds)
        async with open_database(postgres_url):
            assert len(succeeded(simulator)) == rounds
            assert await Charge.filter(state=ChargeState.SUCCEEDED).count() == rounds
            assert (await ledger.purses([account.id]))[account.id].balance == 2000 * rounds
            assert await ledger.proven() == []


@several
async def test_it_charges_one_invoice_once_whatever_the_reasons(
    postgres_url: str, factory: Any, clock: ManualClock, told_rounds: Told, rounds: int
) -> None:
    """Each process has a fact of its own that could help: whoever is first charges, nobody else does."""
    told_rounds(rounds, PROCESSES)
    with at_stripe(clock) as (simulator, stripe_url, customer, card):
        async with open_database(postgres_url):
            account = await prepare(factory, customer, card, clock, rounds)
        race(postgres_url, stripe_url, "invoice", rounds)
        async with open_database(postgres_url):
            assert len(succeeded(simulator)) == rounds
            assert await Invoice.filter(status=InvoiceStatus.PAID).count() == rounds
            assert (await ledger.purses([account.id]))[account.id].balance == 0
            assert await ledger.proven() == []


@nightly
async def test_it_would_charge_twice_if_it_looked_first_and_wrote_afterwards(
    postgres_url: str, factory: Any, clock: ManualClock
) -> None:
    """The race is real: the naive order of things loses it."""
    with at_stripe(clock) as (simulator, stripe_url, customer, card):
        async with open_database(postgres_url):
            await prepare(factory, customer, card, clock)
        race(postgres_url, stripe_url, "naively", NAIVE_ROUNDS)
        assert len(succeeded(simulator)) > NAIVE_ROUNDS
