"""Cards on a moving clock: one that is added, one that is removed, one that expires."""

from datetime import timedelta
from typing import Any

from api.models import Role
from simulators.stripe import Trouble

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NONE: tuple[int, ...] = ()
CARDS = '{ account(externalId: "acct-story") { cards { id last4 isDefault } } }'


async def _saves(tale: Any, card: str) -> Any:
    """Let the customer enter a card in the browser and keep it."""
    begun = await tale.change("cardSetupBegin", {}, "setupIntentId", Role.CUSTOMER)
    tale.scene.stripe.save_card(begun["setupIntentId"], card)
    return await tale.attempt(
        "cardAdd", {"setupIntentId": begun["setupIntentId"]}, "card { id }", Role.CUSTOMER
    )


async def _cards(tale: Any) -> dict[str, tuple[str, bool]]:
    found = (await tale.ask(CARDS, Role.CUSTOMER))["account"]["cards"]
    return {card["last4"]: (card["id"], card["isDefault"]) for card in found}


async def _removes(tale: Any, card: str) -> list[str]:
    answer = await tale.scene.portal(Role.CUSTOMER).attempt(
        "cardRemove", "CardInput", {"cardId": card}, "card { id }"
    )
    await tale.turn()
    return [error["code"] for error in answer["errors"]]


async def test_a_card_that_is_added_is_tried_at_once_and_one_that_is_refused_costs_nothing(
    situation: Any,
) -> None:
    """The bank's refusal neither hurries the ladder nor uses up a try of the next card, which pays everything."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        invoice = await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        told = tale.letters()
        await _saves(tale, "pm_card_chargeCustomerFail")
        assert (await tale.stage(), tale.letters()) == ("FINAL_NOTICE", told)
        assert (await _saves(tale, "pm_card_visa"))["errors"] == []
        assert await tale.stage() == "CURRENT"
        assert tale.scene.stripe.get("invoice", invoice)["status"] == "paid"


async def test_a_good_card_is_charged_before_anybody_is_told_that_something_is_overdue(
    situation: Any,
) -> None:
    """The ladder comes to the same instant first, and waits for the card: no stage, no letter."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await _saves(tale, "pm_card_visa")
        invoice = await tale.owes(due=DAY)
        assert (await tale.stage(), tale.scene.stripe.get("invoice", invoice)["status"]) == (
            "CURRENT",
            "open",
        )
        told = tale.letters()
        tale.clock.move(35 * HOUR + HOUR / 60)  # the first minute after the due day in Zurich
        await tale.runtime.stripe.sweep()
        await tale.runtime.passes.run()
        assert await tale.held_back() == {"ADVANCE": "CARD_DUE"}
        await tale.turn()
        assert (await tale.stage(), tale.letters()) == ("CURRENT", told)
        assert tale.scene.stripe.get("invoice", invoice)["status"] == "paid"


async def test_a_card_that_is_removed_hands_over_to_the_next_and_the_last_one_stays(situation: Any) -> None:
    """No stage changes by it; the last card goes only once nothing runs that no purse covers."""
    async with situation() as tale:
        hourly = {"amount": "0.10", "currency": "EUR"}
        await tale.change("priceSet", {"sku": "small", "hourly": hourly}, "price { sku }")
        await tale.begin(guests=NONE)
        late = {
            "accountExternalId": "acct-story", "externalId": "acct-story-1101", "name": "web", "site": "demo",
            "kind": "LXC", "guest": "1101", "sku": "small", "deployment": "SUCCEEDED",
        }  # fmt: skip
        server = (await tale.change("serverRegister", late, "server { id }", Role.CONTROL))["server"]["id"]
        for card in ("pm_card_visa", "pm_card_mastercard"):
            await _saves(tale, card)
        cards = await _cards(tale)
        assert await _removes(tale, cards["4242"][0]) == []
        assert await _cards(tale) == {"4444": (cards["4444"][0], True)}
        assert await _removes(tale, cards["4444"][0]) == ["CARD_LAST_IN_USE"]
        assert (await tale.stage(), tale.letters()) == ("CURRENT", [])
        gone = {"serverId": server, "reason": "moved away"}
        await tale.change("serverRetire", gone, "server { id }", Role.CONTROL)
        assert await _removes(tale, cards["4444"][0]) == []


async def test_a_charge_of_which_nobody_knows_the_end_keeps_from_the_next_stage(situation: Any) -> None:
    """Stripe took it and never answered: it may have been paid, and once that is known it is."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        invoice = await tale.owes()
        almost = 3 * DAY - HOUR / 6
        await tale.after(almost, step=almost)
        tale.scene.stripe.outage.begin(Trouble.SERVER_ERROR, path=f"/v1/invoices/{invoice}/pay")
        await _saves(tale, "pm_card_visa")
        tale.clock.move(HOUR / 5)
        await tale.turn()
        assert (await tale.stage(), await tale.held_back()) == ("PAST_DUE", {"ADVANCE": "PAYMENT_PENDING"})
        tale.scene.stripe.outage.end()
        await tale.after(HOUR / 3)
        assert (await tale.stage(), tale.scene.stripe.get("invoice", invoice)["status"]) == (
            "CURRENT",
            "paid",
        )


async def test_a_payment_that_never_ends_and_a_card_that_always_wants_its_bank_give_three_days_at_most(
    situation: Any,
) -> None:
    """A customer who is paying is not warned meanwhile; who only ever begins to is, however many cards are tried."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        await tale.after(3 * DAY - HOUR, step=3 * DAY - HOUR)
        await _saves(tale, "pm_card_authenticationRequired")
        seen = []
        for span in (2 * HOUR, *[22 * HOUR] * 2):
            await tale.after(span, step=span)
            seen.append((await tale.stage(), await tale.held_back()))
            for ident, _ in (await _cards(tale)).values():
                await _removes(tale, ident)
            await tale.after(HOUR, step=HOUR)
            await _saves(tale, "pm_card_authenticationRequired")
        assert seen == [("PAST_DUE", {"ADVANCE": "ACTION_REQUIRED"})] * 3
        wanted = {"amount": {"amount": "29.00", "currency": "EUR"}, "idempotencyKey": "i-shall"}
        begun = await tale.attempt("balanceTopUp", wanted, "state", Role.CUSTOMER)
        assert (begun["state"], await tale.held_back()) == ("REQUIRES_ACTION", {"ADVANCE": "CUSTOMER_PAYING"})
        await tale.after(DAY + HOUR, step=DAY + HOUR)
        assert (await tale.stage(), await tale.held_back()) == ("FINAL_NOTICE", {})


async def test_a_card_about_to_expire_is_told_of_once_and_changes_no_stage(situation: Any) -> None:
    """Fifteen days before, by the word of its bank, which Stripe passes on."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await _saves(tale, "pm_card_visa")
        card = tale.scene.stripe.store.oldest_first("payment_method")[-1]["id"]
        tale.scene.stripe.renew_card(card, exp_year=2026, exp_month=12)
        told = []
        for days in (20, 10, 5):  # the 10th, the 20th and the 25th of December
            await tale.after(days * DAY, step=days * DAY)
            told.append(len(tale.letters()))
        assert (told, await tale.stage()) == ([0, 1, 1], "CURRENT")
        assert "expires" in tale.letters()[0]
