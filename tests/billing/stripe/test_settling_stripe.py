"""Purse money on invoices of Stripe, against the simulated account: what Stripe is told, and what is booked here."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from billing import ledger
from billing.models import Account, Invoice, WorkItem
from billing.money_models import (
    InvoicePart,
    LedgerTransaction,
    PartSource,
    Reservation,
    ReservationState,
    TransactionKind,
)
from billing.rules.settlement import Purse
from billing.rules.terms import InvoiceStatus
from billing.settling import Means, Occasion, pay_from_purses, settle
from billing.settling_stripe import finish_reservations
from billing.settling_sweep import settle_due
from billing.stripe.settle_gateway import SettleGateway
from simulators.stripe.outage import Trouble

S = ReservationState


@pytest.fixture
def means(world: Any, policies: Any) -> Means:
    """With Stripe, without cards."""
    return Means(clock=world.clock, policies=policies, stripe=SettleGateway(world.gateway))


async def run(world: Any, means: Means) -> Any:
    """Settle because time passed."""
    return await settle(world.account.id, occasion=Occasion(), means=means)


def records(world: Any) -> list[dict[str, Any]]:
    """The payment records at Stripe."""
    return list(world.simulator.store.kinds.get("payment_record", {}).values())


async def states() -> list[ReservationState]:
    """Where the reservations are."""
    return [row.state for row in await Reservation.all().order_by("id")]


async def consistent(world: Any) -> None:
    """The books add up, no money is on its way, and Stripe was told exactly what was booked."""
    assert await ledger.proven() == []
    booked = {
        row.stripe_payment_record_id: row.amount
        for row in await Reservation.filter(state=S.BOOKED, stripe_payment_record_id__not_isnull=True)
    }
    attached = {
        payment["payment"]["payment_record"]
        for payment in world.simulator.store.kinds.get("invoice_payment", {}).values()
        if payment["payment"].get("payment_record")
    }
    assert attached == booked.keys()


async def test_it_reports_a_part_to_stripe_and_books_it(world, wallet, means):
    """Each purse by a payment record of its own; the mirror tells what is left."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.voucher(world.account, 300)
    await wallet.cash(world.account, 400)
    await run(world, means)
    invoice = await world.invoice(stripe_id)
    assert (invoice.status, invoice.amount_due, invoice.amount_paid) == (InvoiceStatus.OPEN, 300, 700)
    assert world.simulator.get("invoice", stripe_id)["amount_remaining"] == 300
    assert sorted(record["amount_guaranteed"]["value"] for record in records(world)) == [300, 400]
    assert [(part.source, part.amount) for part in await InvoicePart.all().order_by("id")] == [
        (PartSource.VOUCHER, 300),
        (PartSource.BALANCE, 400),
    ]
    assert await wallet.holds(world.account) == ledger.Purses(currency="EUR")
    await consistent(world)


async def test_it_closes_an_invoice_of_stripe(world, wallet, means):
    """Stripe says paid, and so does the mirror, before any webhook."""
    stripe_id = world.charged_invoice(1000)
    world.simulator.fail_payment(stripe_id)
    await world.deliver()
    await wallet.cash(world.account, 1500)
    await run(world, means)
    assert world.simulator.get("invoice", stripe_id)["status"] == "paid"
    assert (await world.invoice(stripe_id)).status is InvoiceStatus.PAID
    await world.deliver()
    assert (await wallet.holds(world.account)).balance == 500
    assert (await run(world, means)).steps == 0
    await consistent(world)


async def test_it_gives_the_money_back_when_stripe_has_collected_meanwhile(world, wallet, means):
    """The webhook is late: the purse keeps its money, and the mirror learns of the payment."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 1000)
    world.simulator.pay_invoice(stripe_id)
    await run(world, means)
    assert (await wallet.holds(world.account)).balance == 1000
    assert (await world.invoice(stripe_id)).status is InvoiceStatus.PAID
    assert (await states(), records(world)) == ([S.FREED], [])


async def test_it_reserves_less_when_stripe_has_less_to_collect(world, wallet, means):
    """A credit note that the mirror had not seen."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    world.simulator.credit(stripe_id, 600)
    await wallet.cash(world.account, 1000)
    await run(world, means)
    assert (await states(), (await wallet.holds(world.account)).balance) == ([S.FREED, S.BOOKED], 600)
    assert world.simulator.get("invoice", stripe_id)["status"] == "paid"
    await consistent(world)


def collects_meanwhile(world, stripe_id, amount):
    """Let Stripe collect so much itself between our last look and the attaching."""

    async def collect(path: str) -> None:
        if path.endswith("report_payment"):
            world.wire.before_answer = None
            world.simulator.report_payment(stripe_id, amount)

    world.wire.before_answer = collect


async def test_it_takes_back_from_stripe_what_was_paid_twice(world, wallet, means):
    """Stripe collects a part between the last look and the attaching: the surplus becomes balance, not its credit."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 1000)
    collects_meanwhile(world, stripe_id, 400)
    await run(world, means)
    assert world.simulator.get("invoice", stripe_id)["amount_overpaid"] == 400
    assert world.simulator.get("customer", world.customer)["balance"] == 0
    assert await wallet.holds(world.account) == ledger.Purses(currency="EUR", balance=400)
    assert (await states(), (await world.invoice(stripe_id)).status) == ([S.BOOKED], InvoiceStatus.PAID)
    assert await ledger.proven() == []


async def test_it_frees_a_reservation_of_which_the_invoice_took_nothing(world, wallet, means):
    """Stripe collects the whole in between: the entry says that the money was free again, not that it paid."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 1000)
    collects_meanwhile(world, stripe_id, 1000)
    await run(world, means)
    assert await wallet.holds(world.account) == ledger.Purses(currency="EUR", balance=1000)
    last = await LedgerTransaction.all().order_by("-id").first()
    assert last is not None
    assert last.kind is TransactionKind.RESERVATION_FREED
    assert not await InvoicePart.exists()
    assert await ledger.proven() == []


@pytest.mark.parametrize("path", ["/v1/payment_records/", "/v1/invoices/", "/v1/"])
@pytest.mark.parametrize("trouble", [Trouble.UNAVAILABLE, Trouble.LOST_ANSWER])
async def test_it_finishes_by_the_sweep_what_stripe_did_not_answer(world, wallet, means, path, trouble):
    """Whichever call fails, and whether or not Stripe had done the work: one record, and all of it booked."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 700)
    world.simulator.outage.begin(trouble, path=path)
    await run(world, means)
    assert (await wallet.holds(world.account)).balance_reserved == 700
    world.simulator.outage.end()
    world.clock.advance(timedelta(minutes=5))
    assert await settle_due(means) == 1
    assert (await states(), len(records(world))) == ([S.BOOKED], 1)
    assert (await world.invoice(stripe_id)).amount_due == 300
    await consistent(world)


async def test_it_keeps_new_money_for_an_invoice_while_other_money_is_on_its_way(world, wallet, means):
    """Neither is it added to what Stripe may know already, nor spent on a larger invoice."""
    first = world.create_invoice(1000)
    second = world.create_invoice(2000)
    await world.deliver()
    await wallet.cash(world.account, 700)
    world.simulator.outage.begin(Trouble.UNAVAILABLE)
    await run(world, means)
    await wallet.cash(world.account, 300)
    await run(world, means)
    assert await wallet.holds(world.account) == ledger.Purses(
        currency="EUR", balance=300, balance_reserved=700
    )
    world.simulator.outage.end()
    world.clock.advance(timedelta(minutes=5))
    await settle_due(means)
    assert ((await world.invoice(first)).amount_due, (await world.invoice(second)).amount_due) == (0, 2000)
    await consistent(world)


async def test_it_frees_what_stripe_did_not_answer_about_for_a_day(world, wallet, means):
    """A key is good for a day; what was never attached is the customer's again, and is reserved anew."""
    world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 700)
    world.simulator.outage.begin(Trouble.LOST_ANSWER, path="/v1/payment_records/")
    await run(world, means)
    world.simulator.outage.end()
    world.clock.advance(timedelta(hours=25))
    await settle_due(means)
    assert await states() == [S.FREED, S.BOOKED]
    await consistent(world)


async def test_it_attaches_a_known_record_however_late(world, wallet, means):
    """A committed id is enough: it pays once at most."""
    stripe_id = world.create_invoice(1000, due_date=world.clock.now() + timedelta(days=20))
    await world.deliver()
    await wallet.cash(world.account, 700)

    async def outage(path: str) -> None:
        if path.endswith("report_payment"):
            world.simulator.outage.begin(Trouble.UNAVAILABLE)

    world.wire.before_answer = outage
    await run(world, means)
    assert await states() == [S.REPORTED]
    world.wire.before_answer = None
    world.simulator.outage.end()
    world.clock.advance(timedelta(days=5))
    await settle_due(means)
    assert (await states(), (await world.invoice(stripe_id)).amount_due) == ([S.BOOKED], 300)
    await consistent(world)


async def test_it_gives_a_reported_part_back_when_the_invoice_was_closed(world, wallet, means):
    """Attaching is refused for good, so the money is the purse's again."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 700)

    async def close(path: str) -> None:
        if path.endswith("report_payment"):
            world.simulator.pay_invoice(stripe_id)

    world.wire.before_answer = close
    await run(world, means)
    assert (await states(), (await wallet.holds(world.account)).balance) == ([S.FREED], 700)
    await consistent(world)


async def test_it_pays_a_named_invoice_of_stripe_first(world, wallet, means):
    """An act of the customer goes before the order."""
    world.create_invoice(100)
    named = world.create_invoice(900)
    await world.deliver()
    await wallet.cash(world.account, 200)
    invoice = await world.invoice(named)
    await pay_from_purses(invoice.id, {Purse.BALANCE}, actor="customer", means=means)
    assert (await world.invoice(named)).amount_due == 700


async def test_it_tells_stripe_once_however_many_settle_at_once(each_world, wallet, policies):
    """Four turns and the sweep on both databases: one record per reservation, nothing paid twice."""
    world = each_world
    means = Means(clock=world.clock, policies=policies, stripe=SettleGateway(world.gateway))
    for _ in range(5):
        stripe_id = world.create_invoice(1000)
        await world.deliver()
        await wallet.voucher(world.account, 300)
        await wallet.cash(world.account, 700)
        await asyncio.gather(*(run(world, means) for _ in range(4)), settle_due(means))
        world.clock.advance(timedelta(minutes=10))
        await settle_due(means)
        at_stripe = world.simulator.get("invoice", stripe_id)
        assert (at_stripe["status"], at_stripe["amount_overpaid"]) == ("paid", 0)
        assert await wallet.holds(world.account) == ledger.Purses(currency="EUR")
    assert (await states(), len(records(world))) == ([S.BOOKED] * 10, 10)
    await consistent(world)


async def test_it_leaves_invoices_of_stripe_alone_without_stripe(world, wallet, policies):
    """What cannot be told to Stripe is not reserved."""
    world.create_invoice(100)
    await world.deliver()
    await wallet.cash(world.account, 200)
    await settle(world.account.id, occasion=Occasion(), means=Means(clock=world.clock, policies=policies))
    assert (await wallet.holds(world.account)).balance == 200


# -- accounts that cannot use payment records


@pytest.fixture
def plain(world: Any, means: Means) -> Means:
    """Stripe refuses payment records."""
    world.simulator.payments.records_enabled = False
    return means


async def test_it_pays_the_whole_out_of_band_where_stripe_takes_no_part(world, wallet, plain):
    """Until the whole is together the money is set aside, and Stripe hears nothing of it."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.voucher(world.account, 300)
    await wallet.cash(world.account, 400)
    await run(world, plain)
    assert world.simulator.get("invoice", stripe_id)["amount_remaining"] == 1000
    assert await wallet.holds(world.account) == ledger.Purses(
        currency="EUR", voucher_reserved=300, balance_reserved=400
    )
    await wallet.cash(world.account, 500)
    await run(world, plain)
    assert (await world.invoice(stripe_id)).status is InvoiceStatus.PAID
    assert await states() == [S.BOOKED, S.BOOKED]
    assert await wallet.holds(world.account) == ledger.Purses(currency="EUR", balance=200)
    assert (records(world), await ledger.proven()) == ([], [])


@pytest.mark.parametrize("trouble", [Trouble.UNAVAILABLE, Trouble.LOST_ANSWER])
async def test_it_pays_out_of_band_once_whatever_was_lost(world, wallet, plain, trouble):
    """The same key is answered with the same success."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 1000)
    await run(world, Means(clock=plain.clock, policies=plain.policies, stripe=plain.stripe))
    assert await states() == [S.BOOKED]
    other = world.create_invoice(500)
    await world.deliver()
    await wallet.cash(world.account, 500)
    world.simulator.outage.begin(trouble, path=f"/v1/invoices/{other}/pay")
    await run(world, plain)
    assert await states() == [S.BOOKED, S.REPORTED]
    world.simulator.outage.end()
    world.clock.advance(timedelta(minutes=5))
    await settle_due(plain)
    assert (await states(), (await world.invoice(other)).status) == ([S.BOOKED, S.BOOKED], InvoiceStatus.PAID)
    assert (await world.invoice(stripe_id)).status is InvoiceStatus.PAID
    assert (await wallet.holds(world.account)).balance == 0


async def test_it_gives_the_whole_back_when_it_was_paid_otherwise_at_that_moment(world, wallet, plain):
    """Between the look and the call: Stripe refuses, and the key proves that it was not us."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 1000)
    assert plain.stripe is not None
    plain.stripe.payment_records = False
    original: Callable[..., Any] = plain.stripe.pay_out_of_band

    async def late(*given: Any, **named: Any) -> Any:
        world.simulator.pay_invoice(stripe_id)
        return await original(*given, **named)

    plain.stripe.pay_out_of_band = late  # type: ignore[method-assign]
    await run(world, plain)
    assert (await states(), (await wallet.holds(world.account)).balance) == ([S.FREED], 1000)


async def test_it_asks_a_person_about_a_whole_that_was_not_answered_for_a_day(world, wallet, plain):
    """Paid outside Stripe for just this amount: booked, with a work item."""
    stripe_id = world.create_invoice(1000, due_date=world.clock.now() + timedelta(days=20))
    await world.deliver()
    await wallet.cash(world.account, 1000)
    assert plain.stripe is not None
    plain.stripe.payment_records = False
    world.simulator.outage.begin(Trouble.LOST_ANSWER, path=f"/v1/invoices/{stripe_id}/pay")
    await run(world, plain)
    world.simulator.outage.end()
    world.clock.advance(timedelta(days=3))
    await settle_due(plain)
    assert (await states(), (await wallet.holds(world.account)).balance) == ([S.BOOKED], 0)
    assert await WorkItem.exists(kind="settling.unconfirmed")


async def test_it_frees_set_aside_money_when_stripe_collects(world, wallet, plain):
    """The mirror closes the invoice, and the next settling finds the money."""
    stripe_id = world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 600)
    await run(world, plain)
    world.simulator.pay_invoice(stripe_id)
    await world.deliver()
    await settle_due(plain)
    assert (await wallet.holds(world.account)) == ledger.Purses(currency="EUR", balance=600)


async def test_it_looks_ever_more_rarely_at_what_stripe_does_not_answer(world, wallet, means):
    """The back-off is on the row, with the reason."""
    world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 700)
    world.simulator.outage.begin(Trouble.UNAVAILABLE)
    await run(world, means)
    waits = []
    for _ in range(4):
        row = await Reservation.get()
        waits.append(row.next_look_at - world.clock.now())
        world.clock.advance(row.next_look_at - world.clock.now())
        assert means.stripe is not None
        assert await finish_reservations(means.stripe, world.clock) == {world.account.id}
    assert waits == sorted(waits)
    assert "503" in (await Reservation.get()).detail["waiting"]


async def test_it_tells_the_reconciler_of_every_change(world, wallet, means):
    """Money that leaves a purse is a fact, and so is an invoice that it closes."""
    world.create_invoice(1000)
    await world.deliver()
    await wallet.cash(world.account, 1000)
    before = (await Account.get(id=world.account.id)).facts_version
    await run(world, means)
    assert (await Account.get(id=world.account.id)).facts_version > before + 1
    assert await Invoice.exists(status=InvoiceStatus.PAID)
