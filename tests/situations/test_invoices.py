"""Invoices: when they are overdue where their owner lives, what closes one of several, and what is none at all."""

from datetime import UTC, datetime, timedelta
from typing import Any

from api.models import Role

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NONE: tuple[int, ...] = ()
DEBT = '{ account(externalId: "acct-story") { standing { debt { amounts { amount currency } } } } }'


async def test_voiding_one_of_several_invoices_leaves_the_others_owed(situation: Any) -> None:
    """The oldest goes, and the next one is the anchor with an age of its own; the last one goes, and all is well."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        first = await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        second = await tale.owes(1900)
        assert await tale.stage() == "FINAL_NOTICE"
        tale.scene.stripe.void_invoice(first)
        await tale.turn()
        assert await tale.stage() == "PAST_DUE"
        assert (await tale.ask(DEBT))["account"]["standing"]["debt"]["amounts"] == [
            {"amount": "19.00", "currency": "EUR"}
        ]
        tale.scene.stripe.void_invoice(second)
        await tale.turn()
        assert (await tale.stage(), await tale.is_told()) == ("CURRENT", None)


async def test_a_cancelled_subscription_leaves_what_is_open_owed_and_asks_for_nothing_more(
    situation: Any,
) -> None:
    """What was used is paid; afterwards nobody is invoiced, charged, warned or called delinquent for it."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        stripe = tale.scene.stripe
        made = stripe.create_subscription(
            tale.customer, 1900, collection_method="send_invoice", days_until_due=7
        )
        await tale.after(9 * DAY, step=9 * DAY)
        assert await tale.stage() == "PAST_DUE"
        stripe.end_subscription(made["id"])
        await tale.after(3 * DAY, step=3 * DAY)
        assert await tale.stage() == "FINAL_NOTICE"
        await tale.pays(made["latest_invoice"])
        told = tale.letters()
        await tale.after(60 * DAY, step=30 * DAY)
        assert (await tale.stage(), await tale.is_told(), tale.letters()) == ("CURRENT", None, told)
        assert [one["status"] for one in stripe.store.oldest_first("invoice")] == ["paid"]


async def test_a_subscription_that_stripe_calls_unpaid_suspends_nobody_who_owes_nothing(
    situation: Any,
) -> None:
    """Its old invoice was paid, the next is a draft: what counts is what is open and overdue, never a status."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        stripe = tale.scene.stripe
        made = stripe.create_subscription(
            tale.customer, 1900, collection_method="send_invoice", days_until_due=1
        )
        await tale.after(7 * DAY, step=3 * DAY)
        assert await tale.stage() == "FINAL_NOTICE"
        stripe.create_invoice(tale.customer, 1900, finalize=False)
        await tale.pays(made["latest_invoice"])
        with stripe.lock:
            stripe.subscriptions._set_status(stripe.store.get("subscription", made["id"]), "unpaid")
        await tale.after(5 * DAY, step=5 * DAY)
        assert (await tale.stage(), await tale.is_told()) == ("CURRENT", None)


async def test_an_invoice_is_overdue_after_its_local_day_also_when_the_clocks_change_on_it(
    situation: Any,
) -> None:
    """The day of the account's zone, 23 hours long here; the zone of the invoice stays, and 72 hours stay 72."""
    async with situation() as tale:
        tale.clock.move(datetime(2027, 3, 27, 12, tzinfo=UTC) - tale.clock.now())
        await tale.begin(guests=NONE)
        await tale.owes(due=20 * HOUR)  # on Sunday the 28th, which ends in Zurich at 22:00 UTC
        moved = {
            "externalId": "acct-story",
            "name": "Story",
            "currency": "EUR",
            "timeZone": "America/New_York",
        }
        await tale.change("accountUpsert", moved, "account { id }", Role.CONTROL)
        seen = []
        for span in (33.5 * HOUR, HOUR, 71 * HOUR, HOUR):
            await tale.after(span, step=span)
            seen.append(await tale.stage())
        assert seen == ["CURRENT", "PAST_DUE", "PAST_DUE", "FINAL_NOTICE"]


async def test_a_currency_without_decimals_and_a_huge_amount_are_owed_to_the_last_unit(
    situation: Any,
) -> None:
    """Nothing is rounded, and nothing is a hundred times too much."""
    async with situation() as tale:
        await tale.begin(guests=NONE, currency="JPY")
        for amount in (1000, 99_999_999):
            tale.scene.stripe.create_invoice(
                tale.customer, amount, "jpy", due_date=tale.clock.now() - 2 * DAY
            )
        await tale.turn()
        assert await tale.stage() == "PAST_DUE"
        assert (await tale.ask(DEBT))["account"]["standing"]["debt"]["amounts"] == [
            {"amount": "100000999", "currency": "JPY"}
        ]
        assert any("100,000,999" in letter.body for letter in tale.world.mailbox.letters)


async def test_a_notice_about_a_debt_that_was_paid_meanwhile_is_never_sent(situation: Any) -> None:
    """The mail server was away when the money came; what it would have said is not true any more."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        tale.world.mailbox.refusal = "421 4.3.2 shutting down"
        await tale.owes()
        assert await tale.stage() == "PAST_DUE"
        await tale.pays()
        tale.world.mailbox.refusal = None
        await tale.after(2 * DAY, step=DAY)
        assert (await tale.stage(), [one for one in tale.letters() if "overdue" in one]) == ("CURRENT", [])


async def test_whoever_was_just_restored_begins_at_the_bottom_again(situation: Any) -> None:
    """Paid, and the next invoice is late on the same day: every warning and every wait anew."""
    async with situation() as tale:
        await tale.suspended()
        await tale.pays()
        assert await tale.stage() == "CURRENT"
        await tale.owes(1900)
        seen = [await tale.stage()]
        for span in (2 * DAY, DAY, DAY, DAY):
            await tale.after(span, step=span)
            seen.append(await tale.stage())
        assert seen == ["PAST_DUE", "PAST_DUE", "FINAL_NOTICE", "FINAL_NOTICE", "SUSPENDED"]


async def test_who_has_no_invoice_is_never_restricted(situation: Any) -> None:
    """Whatever a customer or a subscription is called at Stripe, and however long: only a real open invoice counts."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        tale.scene.stripe.create_invoice(
            tale.customer, 2900, due_date=tale.clock.now() - 9 * DAY, finalize=False
        )
        await tale.owes(-500)
        await tale.after(200 * DAY, step=100 * DAY)
        assert (await tale.stage(), await tale.is_told(), tale.letters()) == ("CURRENT", None, [])


async def test_the_shorter_of_two_extensions_ends_without_a_trace(situation: Any) -> None:
    """The longest counts, for every invoice of the account; at its end a fresh warning comes first."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        await tale.owes(1900)
        await tale.decides("EXTEND_GRACE", 20 * DAY, Role.SUPPORT)
        await tale.decides("EXTEND_GRACE", 5 * DAY, Role.SUPPORT)
        await tale.after(19 * DAY, step=19 * DAY)
        assert await tale.stage() == "PAST_DUE"
        told = len(tale.letters())
        await tale.after(DAY + HOUR, step=DAY + HOUR)
        assert (await tale.stage(), len(tale.letters())) == ("PAST_DUE", told + 1)
        await tale.after(49 * HOUR, step=49 * HOUR)
        assert await tale.stage() == "FINAL_NOTICE"


async def test_money_of_the_house_lifts_a_suspension_like_any_other(situation: Any) -> None:
    """What an admin grants pays what is open, and the reason is told to whoever asks."""
    async with situation() as tale:
        await tale.suspended()
        granted = {
            "accountId": await tale.id(), "amount": {"amount": "29.00", "currency": "EUR"},
            "reason": "for the outage of May", "idempotencyKey": "may",
        }  # fmt: skip
        await tale.change("creditGrant", granted, "account { id }")
        await tale.turn()
        assert await tale.stage() == "CURRENT"
        trail = (
            '{ account(externalId: "acct-story") { history(first: 50) { edges { node { actor reason } } } } }'
        )
        rows = [edge["node"] for edge in (await tale.ask(trail))["account"]["history"]["edges"]]
        assert [row["actor"] for row in rows if row["reason"] == "for the outage of May"] != []
