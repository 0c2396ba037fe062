"""Notices are queued with the standing that calls for them, in its transaction."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from billing.accounts import note_fact
from billing.models import Account, Episode, Invoice, Notice, WorkItem
from billing.rules.terms import NoticeState, Stage
from reconciler.models import Hold, Server
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def latest():
    """Return the newest notice."""
    return await Notice.all().order_by("-id").first()


async def test_names_an_invoice_that_became_overdue_since(delinquent, factory, settle, clock):
    """The present stage's notice is sent anew once, a day after the last one, naming everything that is overdue."""
    account, invoice, _ = await delinquent()
    newer = await factory.invoice(account, overdue_at=clock.now())
    clock.advance(timedelta(days=1))

    for _ in range(2):
        await settle(account)

    told = await latest()
    assert (told.stage, told.invoice_ids) == (Stage.SUSPENDED, [invoice.id, newer.id])
    assert await Notice.all().count() == 4


@pytest.mark.parametrize(
    ("mode", "email", "asked"),
    [(Mode.APPLY, None, 1), (Mode.PLAN, None, 0), (Mode.APPLY, "a@b.example", 0)],
)
async def test_asks_a_person_for_the_address_of_whom_nobody_can_write_to(
    delinquent, settle, clock, mode, email, asked
):
    """Once while it lasts; nothing is sent, and so nothing follows."""
    account, _, _ = await delinquent()
    await Account.filter(id=account.id).update(email=email, billing_emails=[])
    before = await Notice.all().count()
    for _ in range(2):
        await settle(account, mode)
        clock.advance(timedelta(days=9))

    items = await WorkItem.filter(kind="notice_refused").values_list("account_id", flat=True)
    assert (items, await Notice.all().count() > before) == ([account.id] * asked, email is not None)


async def test_tells_of_the_stage_that_a_fall_leads_to(delinquent, factory, settle):
    """A fall sends the notice of where the account stands now."""
    account, _, _ = await delinquent()
    await factory.override(account, kind="EXTEND_GRACE")

    await settle(account)

    assert (await latest()).stage is Stage.PAST_DUE
    assert (await latest()).state is NoticeState.PENDING


async def test_reminds_and_wakes_for_it(delinquent, settle, clock):
    """A reminder opens no stage, and comes without any fact."""
    account, _, _ = await delinquent()
    await settle(account)
    due = (await latest()).created_at + timedelta(days=7)
    assert (await Account.get(id=account.id)).next_change_at <= due
    clock.advance(timedelta(days=7))

    await settle(account)

    told = await latest()
    assert (told.stage, told.template) == (None, "suspended")


async def test_names_a_latecomer_once(delinquent, factory, settle, clock):
    """One notice for the servers that came since, however often it is looked at."""
    account, _, (first,) = await delinquent()
    late = await factory.server(account, joined_at=clock.now())
    for _ in range(3):
        await settle(account)

    assert await Notice.all().count() == 4
    assert (await latest()).server_ids == [first.id, late.id]


async def test_a_letter_that_names_a_latecomer_reminds_as_well(delinquent, factory, settle, clock):
    """Where both are due nobody gets the same letter twice."""
    account, _, [first] = await delinquent()
    clock.advance(timedelta(days=7))
    late = await factory.server(account, joined_at=clock.now())

    await settle(account)

    assert await Notice.all().count() == 4
    assert ((await latest()).stage, (await latest()).server_ids) == (Stage.SUSPENDED, [first.id, late.id])


@pytest.mark.parametrize("spared", ["free", "missing", "retired"])
async def test_tells_nobody_of_latecomers_that_cannot_be_held(delinquent, factory, settle, clock, spared):
    """A server that takes no hold needs no warning."""
    account, _, _ = await delinquent()
    flaw = (
        {"free": True}
        if spared == "free"
        else {f"{spared}_{'since' if spared == 'missing' else 'at'}": clock.now()}
    )
    late = await factory.server(account, joined_at=clock.now())
    await Server.filter(id=late.id).update(**flaw)

    await settle(account)

    assert await Notice.all().count() == 3


async def test_tells_nobody_without_an_address(delinquent, settle, factory, clock):
    """Nothing is queued that could not be sent."""
    account, _, _ = await delinquent()
    await Account.filter(id=account.id).update(email=None)
    await note_fact(account.id, now=clock.now())
    await factory.server(account)

    await settle(account)

    assert await Notice.all().count() == 3


async def test_a_reminder_brings_the_invoice_and_says_when_removal_is_reviewed(
    delinquent, factory, settle, clock
):
    """Every week through the later stages, with what is owed and the date from which on people decide."""
    account, invoice, _ = await delinquent()
    await Invoice.filter(id=invoice.id).update(number="A-77")
    sent = []
    for _ in range(3):
        before = await Notice.all().count()
        clock.advance(timedelta(days=7))
        await note_fact(account.id, now=clock.now())
        await settle(account)
        assert await Notice.all().count() == before + 1
        sent.append(await latest())
    assert all(one.stage is None and one.invoice_ids == [invoice.id] for one in sent)
    assert all("A-77" in one.body for one in sent)
    review = (await Invoice.get(id=invoice.id)).overdue_seen_at + timedelta(days=90)
    day = f"{review.day} {review:%B %Y}"
    told = f"servers are removed, not before {day}"
    assert all(told in " ".join(one.body.split()) for one in sent), sent[0].body


@pytest.mark.parametrize(("days", "foretold"), [(7, True), (35, False)])
async def test_a_reminder_names_no_step_that_the_guard_holds_back(
    delinquent, settle, clock, newest, days, foretold
):
    """What could have come ten days ago is not announced for a day that is past."""
    account, _, _ = await delinquent()
    clock.advance(timedelta(days=days))

    await settle(account)

    told = await newest()
    assert (told.stage, told.template) == (None, "suspended")
    assert ("Nothing else changes before 14 December 2026" in told.body) is foretold
    assert ("Nothing else changes" in told.body) is foretold


@pytest.mark.parametrize("locale", ["en", "de"])
async def test_a_letter_promises_no_day_that_the_end_of_a_dispute_undoes(
    delinquent, factory, settle, clock, newest, locale
):
    """What a dispute about another payment holds back comes when that is over, however soon the bank decides."""
    account, _, _ = await delinquent(locale=locale)
    await Episode.filter(account_id=account.id).update(admitted=Stage.FINAL_NOTICE)
    clock.advance(timedelta(days=40))
    await factory.dispute(await factory.invoice(account, amount_due=0, amount_paid=500, status="PAID"))
    await note_fact(account.id, now=clock.now())

    await settle(account)

    told = await newest()
    assert told.template == "final_notice"
    for said in {
        "en": (
            "this comes next, once the dispute about your payment is over or has lasted until 28 February 2027,",
            "- Your servers will be stopped.",
            "whether your servers are removed, not before 12 February 2027.",
        ),
        "de": (
            "sobald der Einspruch gegen Ihre Zahlung entschieden ist oder bis zum 28. Februar 2027,",
            "- Ihre Server werden angehalten.",
            "nicht vor dem 12. Februar 2027.",
        ),
    }[locale]:
        assert said in told.body


async def test_a_letter_dates_a_step_by_a_freeze_and_not_by_the_dispute_beside_it(
    delinquent, factory, settle, clock, newest
):
    """The dispute may be over before the freeze ends; a day's notice follows that."""
    account, _, _ = await delinquent()
    await Episode.filter(account_id=account.id).update(admitted=Stage.FINAL_NOTICE)
    clock.advance(timedelta(days=40))
    await factory.dispute(await factory.invoice(account, amount_due=0, amount_paid=500, status="PAID"))
    await factory.override(account, kind="FREEZE", expires_at=clock.now() + timedelta(days=20))
    await note_fact(account.id, now=clock.now())

    await settle(account)

    told = await newest()
    assert told.template == "final_notice"
    assert (
        "this comes next, not before 20 January 2027, 10:00 CET: - Your servers will be stopped." in told.body
    )


async def test_a_review_is_not_announced_before_the_warnings_on_the_way_to_it(
    delinquent, factory, settle, clock
):
    """A debt of two hundred days that was never restricted further: seven and fourteen days of warning remain."""
    account, invoice, _ = await delinquent()
    long_ago = clock.now() - timedelta(days=200)
    await Invoice.filter(id=invoice.id).update(overdue_at=long_ago, overdue_seen_at=long_ago)
    await Episode.filter(account_id=account.id).update(started_at=long_ago)
    clock.advance(timedelta(days=7))
    await note_fact(account.id, now=clock.now())
    await settle(account)
    review = clock.now() + timedelta(days=7 + 14)
    assert f"not before {review.day} {review:%B %Y}." in " ".join((await latest()).body.split())


async def test_names_no_server_that_is_spared(delinquent, factory, settle, clock):
    """An exempt one runs on, and of one that cannot be found nobody knows that it is stopped."""
    account, _, [held, exempt, gone] = await delinquent(3)
    await factory.override(account, server_id=exempt.id, kind="EXEMPT")
    await Server.filter(id=gone.id).update(missing_since=clock.now())
    clock.advance(timedelta(days=7))
    await note_fact(account.id, now=clock.now())

    await settle(account)

    told = await latest()
    assert (told.server_ids, told.stage) == ([held.id], None)
    assert f"This server is stopped: {held.name}." in told.body


@pytest.mark.parametrize("locale", ["en", "de"])
async def test_the_first_mail_of_a_stage_says_what_comes_next_and_when(lite, debtor, clock, locale):
    """Nobody is stopped whom the mail before did not tell of the stop and of the day before which it does not come."""
    await debtor(locale=locale, time_zone="Europe/Zurich")
    for hours in (0, 72, 48):
        clock.advance(timedelta(hours=hours))
        await lite.settle()

    first = {told.stage: told for told in await Notice.filter(channel="mail").order_by("-id")}
    warned, last = first[Stage.PAST_DUE], first[Stage.FINAL_NOTICE]
    comes, locked, stopped, the_last = {
        "en": (
            "this comes next, not before",
            "Your backups will be locked",
            "Your servers will be stopped.",
            "our last notice before your servers are stopped",
        ),
        "de": (
            "folgt als Nächstes, nicht vor dem",
            "Ihre Backups werden gesperrt",
            "Ihre Server werden angehalten.",
            "unsere letzte Erinnerung, bevor Ihre Server",
        ),
    }[locale]
    for told, effect in ((warned, locked), (last, stopped), (last, the_last)):
        body = " ".join(told.body.split())
        assert comes in body
        assert effect in body
    assert first[Stage.SUSPENDED].created_at - last.created_at == timedelta(hours=48)


async def test_dates_no_decision_about_removal_before_the_next_stage(lite, debtor, factory, clock):
    """An extension holds back the next stage and, with it, all that follow."""
    account, _, _ = await debtor(locale="en", time_zone="UTC")
    until = clock.now() + timedelta(days=200)
    await factory.override(account, kind="EXTEND_GRACE", expires_at=until)

    await lite.settle()

    body = " ".join((await latest()).body.split())
    (removed,) = re.findall(r"are removed, not before (\d+ \w+ \d{4})", body)
    assert datetime.strptime(removed, "%d %B %Y").replace(tzinfo=UTC) > until


# -- falls outside `APPLY` ---------------------------------------------------------------------------------------------


@pytest.fixture
def fall(lite, debtor, factory, clock):
    """Brings an account with a second debt, two days younger, to the final notice and pays the first one in a mode."""

    async def make(mode):
        account, first, _ = await debtor()
        second = await factory.invoice(account, overdue_at=clock.now() + timedelta(days=2))
        for _ in range(4):
            await lite.settle()
            clock.advance(timedelta(days=1))
        await lite.settle()
        lite.passes.mode = mode
        await lite.pay(first)
        await lite.settle()
        episode = await Episode.get(account_id=account.id, ended_at=None)
        assert (episode.admitted, episode.fell_silently) == (Stage.PAST_DUE, mode is not Mode.APPLY)
        return account, second

    return make


async def told_since(at):
    """Return what customers were told after an instant: the template, the stage that it opens, and the invoices."""
    rows = Notice.filter(channel="mail", created_at__gt=at).order_by("id")
    return [(row.template, row.stage, row.invoice_ids) for row in await rows]


async def test_a_fall_in_plan_is_told_nobody_after_the_switch_and_stops_no_climb(lite, fall, clock):
    """Up to a day in `PLAN`: what was told before the fall opens the way up, and each climb has its letter again."""
    account, invoice = await fall(Mode.PLAN)
    fell = clock.now()
    clock.advance(timedelta(hours=2))
    lite.passes.mode = Mode.APPLY
    await lite.settle()
    await lite.settle()
    assert await told_since(fell) == []

    clock.advance(timedelta(hours=22))
    await lite.settle()
    assert await told_since(fell) == [("final_notice", Stage.FINAL_NOTICE, [invoice.id])]
    assert not await Hold.filter(stops_server=True, lifted_at=None).exists()
    clock.advance(timedelta(days=2))
    await lite.settle()

    episode = await Episode.get(account_id=account.id, ended_at=None)
    assert (episode.admitted, episode.fell_silently) == (Stage.SUSPENDED, False)
    assert await told_since(fell) == [
        ("final_notice", Stage.FINAL_NOTICE, [invoice.id]),
        ("suspended", Stage.SUSPENDED, [invoice.id]),
    ]
    assert await Hold.filter(stops_server=True, lifted_at=None).exists()


async def test_after_more_than_a_day_in_plan_everybody_is_told_anew(lite, fall, clock):
    """The climb takes no warning from before that: whoever fell meanwhile is no exception."""
    account, invoice = await fall(Mode.PLAN)
    fell = clock.now()
    clock.advance(timedelta(hours=24, seconds=1))
    lite.passes.mode = Mode.APPLY

    await lite.settle()

    assert await told_since(fell) == [("payment_overdue", Stage.PAST_DUE, [invoice.id])]
    assert (await Episode.get(account_id=account.id, ended_at=None)).admitted is Stage.PAST_DUE


async def test_a_fall_in_apply_is_told_also_after_one_that_was_silent(lite, fall, factory, clock):
    """Silence is of one fall and ends with it."""
    account, invoice = await fall(Mode.PLAN)
    lite.passes.mode = Mode.APPLY
    clock.advance(timedelta(hours=23))
    await lite.settle()
    clock.advance(timedelta(days=2))
    await lite.settle()
    suspended = clock.now()
    await factory.override(account, kind="EXTEND_GRACE")
    await note_fact(account.id, now=clock.now())
    clock.advance(timedelta(hours=1))

    await lite.settle()

    assert await told_since(suspended) == [("given_back", Stage.PAST_DUE, [invoice.id])]
    assert not (await Episode.get(account_id=account.id, ended_at=None)).fell_silently
