"""What Stripe says twice, late, in the wrong order or not at all."""

from datetime import timedelta
from typing import Any

import pytest

from simulators.stripe import Trouble

DAY = timedelta(days=1)
NONE: tuple[int, ...] = ()


async def test_a_failure_that_arrives_after_the_payment_changes_nothing(situation: Any) -> None:
    """An older event never moves a newer state back: the object is read again."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        stripe = tale.scene.stripe
        invoice = await tale.owes()
        finalized = stripe.events("invoice.finalized")[-1]["id"]
        await tale.pays(invoice)
        assert await tale.stage() == "CURRENT"
        stripe.deliveries.redeliver(finalized, 5)
        await tale.turn()
        assert (await tale.stage(), await tale.is_told()) == ("CURRENT", None)


async def test_a_payment_that_cannot_be_read_yet_keeps_from_the_next_stage(situation: Any) -> None:
    """Stripe says that something happened and does not say what: nobody climbs on a fact that is about to change."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        invoice = await tale.owes()
        almost = 3 * DAY - timedelta(minutes=10)
        await tale.after(almost, step=almost)
        tale.clock.move(timedelta(minutes=12))
        tale.scene.stripe.outage.begin(Trouble.RATE_LIMITED, path=f"/v1/invoices/{invoice}")
        await tale.pays(invoice)
        assert (await tale.stage(), await tale.held_back()) == ("PAST_DUE", {"ADVANCE": "EVENTS_PENDING"})
        tale.scene.stripe.outage.end()
        await tale.after(timedelta(minutes=5))
        assert await tale.stage() == "CURRENT"


async def test_every_event_again_changes_nothing(situation: Any) -> None:
    """No state, no letter, no step, no work for anybody."""
    async with situation() as tale:
        await tale.begin(guests=(1101,))
        await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        before = (await tale.stage(), tale.letters(), tale.essence(), await tale.work())
        tale.scene.stripe.deliveries.redeliver_all()
        await tale.turn()
        assert (await tale.stage(), tale.letters(), tale.essence(), await tale.work()) == before


async def test_an_invoice_whose_webhooks_were_all_lost_is_found(situation: Any) -> None:
    """The sweep costs minutes, not the debt; and the payment is found the same way."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        tale.scene.stripe.deliveries.endpoints.clear()
        await tale.owes()
        assert await tale.stage() == "PAST_DUE"
        await tale.pays()
        assert await tale.stage() == "CURRENT"


@pytest.mark.parametrize("lost", ["void_invoice", "mark_uncollectible"])
async def test_an_invoice_that_is_closed_unpaid_is_no_debt(situation: Any, lost: str) -> None:
    """Void clears it; uncollectible closes it and keeps new deployments shut."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        invoice = await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        getattr(tale.scene.stripe, lost)(invoice)
        await tale.turn()
        assert await tale.stage() == "CURRENT"
        gate = (await tale.account())["gate"]
        assert gate["code"] == ("OK" if lost == "void_invoice" else "PAYMENT_OVERDUE")


async def test_a_credit_note_over_the_whole_amount_is_as_good_as_money(situation: Any) -> None:
    """What is left of an invoice is what counts, and nothing is left."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        invoice = await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        tale.scene.stripe.credit(invoice, 1900)
        await tale.turn()
        assert await tale.stage() == "FINAL_NOTICE"
        tale.scene.stripe.credit(invoice, 1000)
        await tale.turn()
        assert await tale.stage() == "CURRENT"


async def test_a_refund_reopens_no_debt(situation: Any) -> None:
    """Goodwill: who was given money back owes nothing for it."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        tale.scene.stripe.add_card(tale.customer)
        invoice = await tale.owes()
        tale.scene.stripe.pay_invoice(invoice)
        await tale.turn()
        tale.scene.stripe.refund(invoice)
        await tale.turn()
        await tale.after(10 * DAY, step=10 * DAY)
        assert await tale.stage() == "CURRENT"


async def test_a_dispute_is_no_debt_while_it_is_open_and_a_lost_one_begins_anew(situation: Any) -> None:
    """Lost, the whole amount is owed again, with a fresh grace and a warning first."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        stripe = tale.scene.stripe
        stripe.add_card(tale.customer)
        invoice = await tale.owes()
        stripe.pay_invoice(invoice)
        await tale.turn()
        dispute = stripe.open_dispute(invoice)["id"]
        await tale.after(10 * DAY, step=10 * DAY)
        assert await tale.stage() == "CURRENT"
        told = len(tale.letters())
        stripe.close_dispute(dispute, won=False)
        await tale.turn()
        await tale.turn()
        [letter] = tale.letters()[told:]
        assert letter.startswith("A payment went back to you")
        assert await tale.stage() == "CURRENT"
        await tale.after(3 * DAY + timedelta(hours=1), step=3 * DAY + timedelta(hours=1))
        assert await tale.stage() == "PAST_DUE"
        await tale.after(2 * DAY, step=2 * DAY)
        assert await tale.stage() == "PAST_DUE"
        await tale.after(DAY, step=DAY)
        assert await tale.stage() == "FINAL_NOTICE"


async def test_a_dispute_shields_for_sixty_days_from_its_own_beginning_and_the_next_one_no_longer(
    situation: Any,
) -> None:
    """However late in the episode: other debts wait at the final notice, and dispute after dispute gains nothing."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        stripe = tale.scene.stripe
        stripe.add_card(tale.customer)
        paid = [await tale.owes() for _ in range(2)]
        for invoice in paid:
            stripe.pay_invoice(invoice)
        await tale.turn()
        await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        assert await tale.stage() == "FINAL_NOTICE"
        await tale.decides("FREEZE", 66 * DAY)
        await tale.after(65 * DAY, step=65 * DAY)
        disputes = [stripe.open_dispute(paid[0])["id"]]
        await tale.after(30 * DAY, step=5 * DAY)
        assert (await tale.stage(), await _waits_for(tale)) == ("FINAL_NOTICE", "dispute")
        disputes.append(stripe.open_dispute(paid[1])["id"])
        await tale.turn()
        stripe.close_dispute(disputes[0], won=True)
        await tale.after(29 * DAY, step=29 * DAY)
        assert (await tale.stage(), await _waits_for(tale)) == ("FINAL_NOTICE", "dispute")
        await tale.after(DAY)
        assert await tale.stage() == "SUSPENDED"


async def _waits_for(tale: Any) -> str | None:
    """Return what the account's next climb waits for beside time."""
    query = "query($id: ID!) { account(id: $id) { standing { next { waitingFor } } } }"
    following = (await tale.ask(query, id=await tale.id()))["account"]["standing"]["next"]
    return following and str(following["waitingFor"])


async def test_an_invoice_of_nothing_triggers_nothing(situation: Any) -> None:
    """Zero, a draft, or less than nothing owes nobody anything."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes(0)
        await tale.after(10 * DAY, step=10 * DAY)
        assert (await tale.stage(), tale.letters()) == ("CURRENT", [])
