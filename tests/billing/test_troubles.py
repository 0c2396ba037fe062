"""Troubles with money that show by looking: when a person is asked, and when no more."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from billing import troubles, usage
from billing.models import Account, Invoice, WorkItem, WorkState
from billing.money_models import Card, Charge, ChargeState, LedgerKind, Reservation, ReservationState
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means

pytestmark = pytest.mark.usefixtures("database")
CENT = 1_000_000


@pytest.fixture
def look(clock: Any, policies: Mapping[str, Policy]) -> Any:
    """Looks once and returns the keys of the open items."""

    async def once() -> list[str]:
        await troubles.look(Means(clock=clock, policies=policies), now=clock.now())
        open_items = WorkItem.exclude(state=WorkState.RESOLVED)
        return sorted([key for (key,) in await open_items.values_list("dedupe_key")])

    return once


async def _card(account: Account, clock: Any, number: int = 1) -> Card:
    return await Card.create(
        account=account, stripe_payment_method_id=f"pm_{account.id}_{number}", fingerprint=f"f{number}", brand="visa",
        last4="4242", exp_month=12, exp_year=2030, added_at=clock.now(),
    )  # fmt: skip


async def _charge(card: Card, clock: Any, **given: Any) -> Charge:
    values: dict[str, Any] = {
        "account_id": card.account_id, "card": card, "card_version": card.version, "amount": 500, "currency": "EUR",
        "on_session": False, "occasion": f"o{await Charge.all().count()}", "created_at": clock.now(),
        "idempotency_key": f"k{await Charge.all().count()}", "updated_at": clock.now(),
    }  # fmt: skip
    return await Charge.create(**(values | given))


async def test_money_that_does_not_arrive(look: Any, factory: Any, clock: Any) -> None:
    """After an hour without a move, until it has arrived; what is only set aside waits for its owner."""
    account = await factory.account()
    invoice = await factory.invoice(account, origin=InvoiceOrigin.STRIPE)
    values = {
        "account_id": account.id, "invoice": invoice, "amount": 100, "created_at": clock.now(),
        "updated_at": clock.now(),
    }  # fmt: skip
    row = await Reservation.create(purse=LedgerKind.BALANCE, idempotency_key="a", **values)
    await Reservation.create(purse=LedgerKind.VOUCHER, idempotency_key="b", set_aside=True, **values)
    clock.advance(timedelta(minutes=59))
    assert await look() == []
    clock.advance(timedelta(minutes=2))
    assert await look() == [f"settling.stuck:{row.id}"]
    assert (await WorkItem.get()).account_id == account.id
    await Reservation.filter(id=row.id).update(state=ReservationState.BOOKED)
    assert await look() == []
    assert (await WorkItem.get()).resolved_by == "system:troubles"


async def test_a_charge_without_an_end(look: Any, factory: Any, clock: Any) -> None:
    """After a day; one that waits for its customer is the customer's."""
    card = await _card(await factory.account(), clock)
    for state in (ChargeState.PROCESSING, ChargeState.REQUIRES_ACTION):
        await _charge(card, clock, state=state, stripe_payment_intent_id=f"pi_{state}")
    clock.advance(timedelta(hours=23))
    assert await look() == []
    clock.advance(timedelta(hours=2))
    hanging = await Charge.get(state=ChargeState.PROCESSING)
    assert await look() == [f"charge_stuck:{hanging.id}"]


async def test_cards_that_are_refused_for_good(look: Any, factory: Any, clock: Any) -> None:
    """Only when every card of who is overdue is, as it is now; paying or changing one ends it."""
    account = await factory.account()
    invoice = await factory.invoice(account)
    first, second = await _card(account, clock), await _card(account, clock, 2)
    refused = {"state": ChargeState.FAILED, "hard_decline": True, "invoice_id": invoice.id}
    await _charge(first, clock, **refused, decline_code="stolen_card")
    assert await look() == [], "the other card was not asked yet"
    last = await _charge(second, clock, **refused, decline_code="lost_card")
    key = f"cards_declined:{account.id}:{last.id}"
    assert await look() == [key]
    assert "lost_card" in (await WorkItem.get()).detail
    await Card.filter(id=first.id).update(version=2)
    assert await look() == []
    await Card.filter(id=first.id).update(version=1)
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)
    assert await look() == []


async def test_what_a_person_closed_stays_closed_for_the_same_thing(
    look: Any, factory: Any, clock: Any
) -> None:
    """A further refusal is another thing."""
    account = await factory.account()
    invoice = await factory.invoice(account)
    card = await _card(account, clock)
    refused = {"state": ChargeState.FAILED, "hard_decline": True, "invoice_id": invoice.id}
    await _charge(card, clock, **refused)
    await look()
    await WorkItem.all().update(state=WorkState.RESOLVED, resolved_at=clock.now(), resolved_by="anna")
    assert await look() == []
    again = await _charge(card, clock, **refused)
    assert await look() == [f"cards_declined:{account.id}:{again.id}"]


async def test_money_that_ends(look: Any, factory: Any, wallet: Any, clock: Any) -> None:
    """Three days before purses that nothing backs are used up; a card, or more money, ends it."""
    account = await factory.account()
    await wallet.cash(account, 100)
    async with in_transaction():
        server = await factory.server(account, rate=CENT)  # a hundred hours
        await usage.follow(server, at=clock.now(), now=clock.now())
    assert await look() == []
    clock.advance(timedelta(hours=30))
    assert [key.rpartition(":")[0] for key in await look()] == [f"runway_short:{account.id}"]
    await _card(account, clock)
    assert await look() == []


async def test_it_looks_in_a_fixed_number_of_statements(
    look: Any, factory: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many accounts there are."""
    from tortoise.connection import get_connection

    counted: list[str] = []
    connection = get_connection("default")
    really = type(connection).execute_query

    async def counting(self: Any, query: str, *values: Any) -> Any:
        counted.append(query)
        return await really(self, query, *values)

    async def owing() -> None:
        account = await factory.account()
        invoice = await factory.invoice(account)
        card = await _card(account, clock)
        await _charge(card, clock, state=ChargeState.FAILED, hard_decline=True, invoice_id=invoice.id)

    monkeypatch.setattr(type(connection), "execute_query", counting)
    sizes = []
    for count in (1, 5):
        for _ in range(count):
            await owing()
        counted.clear()
        await look()
        sizes.append(len(counted))
    assert len(await look()) == 6
    assert sizes[0] == sizes[1] > 0
