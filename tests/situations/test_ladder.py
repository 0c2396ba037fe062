"""Climbing and falling: what is fair, what waits, and what is never skipped."""

from datetime import timedelta
from typing import Any

import pytest

from api.models import Role
from simulators.stripe import Trouble

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NONE: tuple[int, ...] = ()


async def test_a_debt_climbs_through_every_stage_with_its_warning_and_none_is_skipped(situation: Any) -> None:
    """To the end of the ladder, where only people decide."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        seen = [await tale.stage()]
        for days in (3, 2, 25, 60):
            await tale.after(days * DAY, step=days * DAY)
            seen.append(await tale.stage())
        assert seen == ["PAST_DUE", "FINAL_NOTICE", "SUSPENDED", "RETAINED", "DECOMMISSION_REVIEW"]
        subjects = [letter.partition(":")[0] for letter in tale.letters()]
        assert list(dict.fromkeys(subjects)) == [
            "Payment overdue", "Final notice", "Your account is suspended", "Your account is still suspended",
            "Final warning",
        ]  # fmt: skip


async def test_an_old_debt_found_late_climbs_one_stage_at_a_time(situation: Any) -> None:
    """After an outage of a month nobody jumps: every stage has its own warning and its own wait."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes(due=-timedelta(days=40))
        assert await tale.stage() == "PAST_DUE"
        await tale.after(timedelta(days=30), step=timedelta(days=30))
        assert await tale.stage() == "FINAL_NOTICE"
        await tale.after(2 * DAY, step=2 * DAY)
        assert await tale.stage() == "SUSPENDED"
        assert [one.partition(":")[0] for one in tale.letters()][-1] == "Your account is suspended"


@pytest.mark.parametrize("email", ["no-such-user@story.example", None])
async def test_nobody_climbs_whom_no_mail_can_reach(situation: Any, email: str | None) -> None:
    """An account without a working address, or without any, stays where it is and waits for a person."""
    async with situation() as tale:
        await tale.begin(guests=NONE, email=email)
        tale.world.mailbox.refusal = "550 5.1.1 no such user"
        await tale.owes()
        await tale.after(20 * DAY, step=10 * DAY)
        assert await tale.stage() == "PAST_DUE"
        assert "notice_refused" in await tale.work()


async def test_what_is_not_overdue_yet_triggers_nothing(situation: Any) -> None:
    """Due today is not overdue before the day has ended where the account lives; it is announced, and no more."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes(due=HOUR)  # 13:00 UTC on a winter's day: ten hours are left in Zurich
        await tale.after(9 * HOUR, step=9 * HOUR)
        assert (await tale.stage(), [one.partition(":")[0] for one in tale.letters()]) == (
            "CURRENT",
            ["Soon due"],
        )
        await tale.after(2 * HOUR, step=2 * HOUR)
        assert await tale.stage() == "PAST_DUE"


async def test_cents_that_are_missing_are_nobodys_fault(situation: Any) -> None:
    """A remainder within the tolerance never climbs."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes(100)
        await tale.after(10 * DAY, step=10 * DAY)
        assert (await tale.stage(), await tale.is_told()) == ("CURRENT", None)
        await tale.owes(60)
        assert await tale.stage() == "PAST_DUE"


async def test_paying_the_oldest_invoice_hands_over_to_the_next(situation: Any) -> None:
    """A newer debt does not inherit the age of the one that was paid, and no stage is skipped on its way."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        first = await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        await tale.owes(1900)
        assert await tale.stage() == "FINAL_NOTICE"
        await tale.pays(first)
        assert await tale.stage() == "PAST_DUE"
        await tale.after(timedelta(hours=71), step=timedelta(hours=71))
        assert await tale.stage() == "PAST_DUE"
        await tale.after(timedelta(hours=2), step=timedelta(hours=2))
        assert await tale.stage() == "FINAL_NOTICE"


async def test_paying_part_of_an_invoice_neither_lifts_nor_hurries(situation: Any) -> None:
    """The stage stays; the debt that is told is what remains."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        invoice = await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        tale.scene.stripe.report_payment(invoice, 1000)
        await tale.turn()
        assert await tale.stage() == "FINAL_NOTICE"
        debt = await tale.ask(
            '{ account(externalId: "acct-story") { standing { debt { amounts { amount } } } } }'
        )
        assert debt["account"]["standing"]["debt"]["amounts"] == [{"amount": "19.00"}]


async def test_an_extension_brings_servers_back_and_ends_with_a_fresh_warning(
    situation: Any, stops: Any
) -> None:
    """Not straight back to suspension: the present stage is told anew, and its wait begins.

    The letter of the suspension had to wait for the mail server: of one that is over nobody reads any more.
    """
    async with situation(ladders=stops) as tale:
        await tale.begin(guests=(1101,))
        before = tale.essence()
        await tale.owes()
        tale.world.mailbox.refusal = "421 4.3.2 shutting down"
        await tale.after(5 * DAY, step=5 * DAY)
        assert (await tale.stage(), tale.power(1101)) == ("SUSPENDED", "stopped")
        await tale.decides("EXTEND_GRACE", 10 * DAY, Role.SUPPORT)
        assert (await tale.stage(), tale.essence()) == ("PAST_DUE", before)
        tale.world.mailbox.refusal = None
        await tale.after(10 * DAY + HOUR, step=10 * DAY + HOUR, looks=False)
        assert (await tale.stage(), tale.power(1101)) == ("PAST_DUE", "running")
        assert {one.partition(":")[0] for one in tale.letters()} == {"Payment overdue"}
        await tale.after(23 * HOUR, step=23 * HOUR)
        assert (await tale.stage(), tale.power(1101)) == ("PAST_DUE", "running")
        await tale.after(2 * HOUR, step=2 * HOUR)
        assert (await tale.stage(), tale.power(1101)) == ("SUSPENDED", "stopped")


async def test_an_extension_into_the_past_is_refused(situation: Any) -> None:
    """It names the field; nothing is placed."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        past = (tale.clock.now() - DAY).isoformat()
        wanted = {"accountId": await tale.id(), "kind": "EXTEND_GRACE", "reason": "late", "expiresAt": past}
        answer = await tale.scene.portal(Role.ADMIN).attempt(
            "overridePlace", "OverridePlaceInput", wanted, "override { id }"
        )
        assert [(one["code"], one["path"]) for one in answer["errors"]] == [
            ("EXPIRY_IN_PAST", ["input", "expiresAt"])
        ]


async def test_nobody_is_suspended_while_stripe_does_not_answer(situation: Any) -> None:
    """Old facts restrict nobody; once they are fresh, the ladder goes on."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        await tale.after(3 * DAY, step=3 * DAY)
        tale.scene.stripe.outage.begin(Trouble.RATE_LIMITED)
        await tale.after(5 * DAY, step=5 * DAY)
        assert (await tale.stage(), await tale.held_back()) == ("FINAL_NOTICE", {"ADVANCE": "SWEEP_STALE"})
        tale.scene.stripe.outage.end()
        await tale.turn()
        assert await tale.stage() == "SUSPENDED"
