"""What holds the ladder back as a whole, and what it never holds back: giving back, and telling."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from api.models import Role
from simulators.proxmox.sample import ROLES

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NONE: tuple[int, ...] = ()
HEALTH = "{ reconciler { breakerOpen breakerReason safeMode safeModeReason } plan { digest } }"
CROWD = 16  # more than three times five, the fewest that the shipped policy lets through in one pass


async def test_when_every_payment_fails_at_once_nobody_is_restricted_before_two_people_have_looked(
    situation: Any, receiver: Any
) -> None:
    """A broken provider looks like a fleet of debtors: notices go on, a payment still frees, the rest waits.

    Staff's chat gets a word and no flood, whatever became of their other channel.
    """
    chat = SecretStr(f"json://127.0.0.1:1/nobody json://127.0.0.1:{receiver.port}/staff")
    async with situation(more={"staff_notify": chat}) as tale:
        await tale.begin(guests=NONE)
        stripe, names = tale.scene.stripe, [f"acct-crowd-{number}" for number in range(CROWD)]
        invoices = []
        for name in names:
            customer, _ = await tale.joins(name)
            stripe.add_card(customer, "pm_card_chargeCustomerFail")
            made = stripe.create_invoice(customer, 2900, collection_method="charge_automatically")
            invoices.append(made["id"])
        await tale.turn()
        assert {await tale.stands(name) for name in names} == {"PAST_DUE"}
        await tale.after(3 * DAY, step=3 * DAY)
        health = (await tale.ask(HEALTH))["reconciler"]
        assert (health["breakerOpen"], "breaker" in await tale.work()) == (True, True)
        assert f"{CROWD} accounts" in health["breakerReason"]
        assert await tale.held_back() == {"ADVANCE": "BREAKER"}
        told = [call.body.decode() for call in receiver.calls]
        assert (any("The breaker is open" in one for one in told), len(told) < 5) == (True, True)
        assert {await tale.stands(name) for name in names} == {"PAST_DUE"}
        stripe.pay_invoice(invoices[0])
        await tale.turn()
        assert await tale.stands(names[0]) == "CURRENT"

        digest = (await tale.ask(HEALTH))["plan"]["digest"]
        release = {"planDigest": digest, "reason": "the bank says so"}
        for person, stage in (("anna", "PAST_DUE"), ("ben", "FINAL_NOTICE")):
            door = await tale.admin(person)
            await door.change("breakerRelease", "BreakerReleaseInput", release, "reconciler { breakerOpen }")
            await tale.turn()
            assert {await tale.stands(name) for name in names[1:]} == {stage}


async def test_more_than_the_limit_of_a_day_wait_and_who_has_waited_longest_goes_first(
    situation: Any,
) -> None:
    """Two a day may lose something anew here; the third is told so by nobody and comes a day later."""
    ladder = """
stages:
  past_due: {after: PT0S, notice: payment_overdue}
  final_notice: {after: PT72H, min_notice: PT48H, effects: [lock_backups], notice: final_notice}
  suspended: {after: PT120H, min_notice: PT24H, effects: [lock_backups, stop_servers], notice: suspended}
guard: {max_new_per_pass: {count: 2, percent: 0}, max_new_per_day: {count: 2, percent: 0}}
"""
    async with situation(ladders={"standard": ladder}) as tale:
        await tale.begin(guests=NONE)
        names = ["acct-last", "acct-first", "acct-second"]
        customers = {name: (await tale.joins(name))[0] for name in names}
        for name in sorted(names):
            due = tale.clock.now() - 2 * DAY
            tale.scene.stripe.create_invoice(customers[name], 2900, "eur", due_date=due)
            await tale.after(HOUR, step=HOUR)
        seen = []
        for span in (3 * DAY, DAY - HOUR, HOUR):
            await tale.after(span, step=span)
            held = await tale.held_back()
            seen.append((sorted([one for one in names if await tale.stands(one) == "FINAL_NOTICE"]), held))
        waiting = (["acct-first", "acct-last"], {"ADVANCE": "BLAST_RADIUS"})
        assert seen == [waiting, waiting, (sorted(names), {})]


@pytest.mark.parametrize(
    ("site", "more", "code"),
    [({"site_mode": "plan"}, (), "SITE_IN_PLAN"), ({}, ("VM.Allocate",), "TOKEN_TOO_STRONG")],
)
async def test_a_site_that_only_looks_or_could_destroy_keeps_its_customers_at_a_stage_without_effects(
    situation: Any, site: dict[str, str], more: tuple[str, ...], code: str
) -> None:
    """Nothing would be carried out there, so nobody is told that it was; the plan says what it waits for."""
    async with situation(site=site) as tale:
        rights = [*ROLES["AbeyanceGuests"], *more]
        tale.world.cluster.add_role("AbeyanceGuests", rights)
        await tale.begin(guests=(1101,))
        await tale.owes()
        await tale.after(9 * DAY, step=9 * DAY)
        assert (await tale.stage(), await tale.held_back()) == ("PAST_DUE", {"ADVANCE": code})


async def test_webhooks_that_stay_away_are_an_alarm_and_cost_nobody_a_fact(situation: Any) -> None:
    """The sweep finds what they would have told; people hear of it, and no more once they are back."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        away = dict(tale.scene.stripe.deliveries.endpoints)
        tale.scene.stripe.deliveries.endpoints.clear()
        tale.clock.move(HOUR / 60)  # Stripe's events are of whole seconds
        await tale.owes()
        assert (await tale.stage(), "webhooks_silent" in await tale.work()) == ("PAST_DUE", False)
        await tale.after(HOUR, step=HOUR)
        assert "webhooks_silent" in await tale.work()
        tale.scene.stripe.deliveries.endpoints.update(away)
        await tale.pays()
        await tale.turn()
        assert (await tale.stage(), "webhooks_silent" in await tale.work()) == ("CURRENT", False)


async def test_a_clock_that_leaps_ahead_makes_nobody_older_than_the_facts(situation: Any) -> None:
    """Forty days in a moment: nobody climbs before all was read again, and then by one stage and its warning."""
    async with situation() as tale:
        tale.runtime.passes.safety.uptime = time.monotonic  # which the leap does not move
        await tale.begin(guests=NONE)
        await tale.owes()
        tale.clock.move(40 * DAY)
        await tale.turn()
        health = (await tale.ask(HEALTH))["reconciler"]
        assert (health["safeMode"], await tale.stage()) == (True, "PAST_DUE")
        assert await tale.held_back() == {"ADVANCE": "SAFE_MODE"}
        assert "the clock jumped" in health["safeModeReason"]
        seen = []
        for _ in range(3):
            await tale.runtime.watch.cycle()
            await tale.turn()
            seen.append(await tale.stage())
        assert seen[-1] == "FINAL_NOTICE"
        assert not (await tale.ask(HEALTH))["reconciler"]["safeMode"]


async def test_a_clock_that_goes_back_takes_nothing_and_tells_nothing_twice(situation: Any) -> None:
    """Nothing is undone, however far it goes back, and nobody climbs before the facts were read again."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        await tale.after(4 * DAY, step=3 * DAY)
        before = (await tale.stage(), tale.letters())
        assert before[0] == "FINAL_NOTICE"
        tale.clock.move(-6 * HOUR)
        await tale.turn()
        assert (await tale.stage(), tale.letters()) == before
        assert (await tale.ask(HEALTH))["reconciler"]["safeMode"]
        tale.clock.move(6 * HOUR)
        await tale.runtime.watch.cycle()
        await tale.turn()
        assert (await tale.stage(), tale.letters()) == before
        assert not (await tale.ask(HEALTH))["reconciler"]["safeMode"]
        tale.clock.move(-40 * DAY)  # further back than the debt and everything that was told of it
        await tale.turn()
        assert (await tale.stage(), tale.letters()) == before
        await tale.pays()
        assert await tale.stage() == "CURRENT"


async def test_two_reconcilers_never_work_on_one_database(situation: Any) -> None:
    """A second one is told who does it already, and changes nothing, however it asks."""
    async with situation() as tale:
        await tale.begin(guests=NONE)
        await tale.owes()
        before = (await tale.stage(), tale.letters())
        code, said = await tale.abeyance("apply", "--yes")
        assert (code, "another process reconciles this database" in said) == (1, True), said
        assert (await tale.stage(), tale.letters()) == before


async def test_a_suspension_waits_for_office_hours_and_a_slot_that_was_missed_is_not_made_up_at_night(
    situation: Any,
) -> None:
    """Due on a Friday, the product away for a week: the next office hours; the customer may put it off once."""
    async with situation() as tale:
        await tale.begin(guests=NONE, policy="considerate")
        await tale.owes()
        await tale.after(10 * DAY, step=10 * DAY)
        assert await tale.stage() == "FINAL_NOTICE"
        asks = {"until": (tale.clock.now() + 2 * DAY).isoformat(), "reason": "salary on Wednesday"}
        first = await tale.attempt("graceRequest", asks, "override { kind }", Role.CUSTOMER)
        again = await tale.attempt("graceRequest", asks, "override { kind }", Role.CUSTOMER)
        assert (first["errors"], [error["code"] for error in again["errors"]]) == ([], ["CONFLICT"])
        assert await tale.stage() == "PAST_DUE"
        for days in (2, 6):  # to its end and the fresh notice, and the five days after that
            await tale.after(days * DAY + HOUR, step=days * DAY + HOUR)
        assert await tale.stage() == "FINAL_NOTICE"
        tale.clock.move(datetime(2026, 12, 18, 20, tzinfo=UTC) - tale.clock.now())  # a Friday night
        await tale.turn()
        assert (await tale.stage(), await tale.held_back()) == ("FINAL_NOTICE", {"ADVANCE": "WINDOW"})
        await tale.after(DAY, step=DAY)
        assert await tale.stage() == "FINAL_NOTICE"
        tale.clock.move(
            datetime(2026, 12, 21, 8, 1, tzinfo=UTC) - tale.clock.now()
        )  # Monday, 09:01 in Zurich
        await tale.turn()
        assert await tale.stage() == "SUSPENDED"
