"""A letter says of each server what is so of it, and of servers that there are none nothing."""

from datetime import timedelta

import pytest

from billing.accounts import note_fact
from billing.models import Episode, Invoice, Notice, Subscription
from billing.rules.terms import Stage
from reconciler.models import Hold, Server

pytestmark = pytest.mark.usefixtures("sqlite_database")


@pytest.fixture
def remind(settle, newest, clock):
    """Lets the weekly letter of an account's stage be written, and returns it."""

    async def go(account):
        clock.advance(timedelta(days=7))
        await note_fact(account.id, now=clock.now())
        await settle(account)
        return await newest()

    return go


@pytest.mark.parametrize("known_by", ["its owner's switch", "what we found", "what was read"])
async def test_it_names_apart_what_was_off_already(delinquent, settle, remind, known_off, known_by):
    """Its owner does not read that we stopped it, and reads that it cannot be started."""
    account, _, [ran, off] = await delinquent(2)
    await settle(account)
    await known_off(known_by, off, ran=ran)

    told = await remind(account)

    assert f"This server is stopped: {ran.name}." in told.body
    assert (
        f"This server was off already; it stays off and cannot be started until this is settled: {off.name}."
        in told.body
    )
    assert told.server_ids == [ran.id, off.id]


async def test_it_tells_the_whole_story_of_a_server_that_was_off(lite, debtor, platform, clock):
    """Switched off within, suspended, paid, restored: both letters say so, and only the other one runs again."""
    account, invoice, [ran, off] = await debtor(2)
    platform.guests[str(off.guest)].power = "stopped"
    for hours in (0, 72, 48):
        clock.advance(timedelta(hours=hours))
        await lite.settle()
    told = await Notice.get(stage=Stage.SUSPENDED)
    said = " ".join(told.body.split())
    assert f"This server is stopped: {ran.name}." in said
    assert f"cannot be started until this is settled: {off.name}." in said
    assert {guest.power for guest in platform.guests.values()} == {"stopped"}

    await Invoice.filter(id=invoice.id).update(status="PAID", amount_due=0)
    await note_fact(account.id, now=clock.now())
    await lite.settle()

    said = " ".join((await Notice.get(template="restored")).body.split())
    assert f"This is about your server {ran.name}. What was running" in said
    assert f"stays off until you start it: {off.name}." in said
    assert [platform.guests[str(server.guest)].power for server in (ran, off)] == ["running", "stopped"]


@pytest.mark.parametrize("cause", ["ABUSE", "ADMIN", "MAINTENANCE"])
async def test_it_does_not_claim_what_somebody_else_holds(delinquent, factory, settle, remind, cause):
    """A payment alone brings that one not back, and the letter says so; an expired hold is none."""
    account, _, [ours, theirs] = await delinquent(2)
    await settle(account)
    await factory.hold(theirs, cause=cause, stops_server=True)

    told = await remind(account)

    assert f"This server is stopped: {ours.name}." in told.body
    assert f"Server {theirs.name} stays restricted for another reason" in told.body
    assert told.server_ids == [ours.id, theirs.id]


async def test_it_dates_the_stop_of_a_server_that_came_later(delinquent, factory, settle, newest, clock):
    """A day after the letter, and not stopped now; once it is held, it is named with the others."""
    account, _, [first] = await delinquent()
    late = await factory.server(account, joined_at=clock.now(), name="late")
    await settle(account)
    told = await newest()
    assert f"This server is stopped: {first.name}." in told.body
    assert "This server will be stopped, not before 21 November 2026, 10:00 CET: late." in told.body
    await Notice.filter(id=told.id).update(state="DELIVERED", delivered_at=clock.now())
    clock.advance(timedelta(days=7))

    await settle(account)

    assert f"These servers are stopped: {first.name}, {late.name}." in (await newest()).body


async def test_it_dates_the_stop_of_a_latecomer_that_is_locked_for_its_subscription(
    delinquent, factory, settle, newest, uncover, clock
):
    """It runs: its own subscription's end has locked its backups so far, and the account's stop reaches it later."""
    account, _, [first] = await delinquent()
    await settle(account)
    late = await factory.server(account, name="late")
    await uncover(late)
    ended = clock.now() - timedelta(days=4)
    await Server.filter(id=late.id).update(joined_at=ended - timedelta(days=1))
    await Subscription.all().update(ended_at=ended, current_period_end=ended)
    alone = await Episode.get(server_id=late.id)
    await Episode.filter(id=alone.id).update(admitted=Stage.FINAL_NOTICE, started_at=ended)
    await Notice.filter(episode_id=alone.id).update(created_at=ended, delivered_at=ended)

    await settle(account)

    told = await Notice.filter(server_id=None).order_by("-id").first()
    body = " ".join(told.body.split())
    assert f"This server is stopped: {first.name}." in body
    assert "This server will be stopped, not before 21 November 2026, 10:00 CET: late." in body
    assert "Server late stays restricted because its subscription has ended." in body
    assert await Hold.filter(server_id=late.id, lifted_at=None, stops_server=False).count() == 1


async def test_it_says_that_staff_lets_backups_be_made(delinquent, factory, remind, clock):
    """What is open is not called locked: until when, and what stays locked."""
    account, _, _ = await delinquent()
    await factory.override(account, kind="ALLOW_BACKUPS", expires_at=clock.now() + timedelta(days=20))

    told = await remind(account)

    assert "You can make and export some until 10 December 2026, 10:00 CET;" in told.body
    assert "you cannot restore or delete any." in told.body
    assert "you cannot make" not in told.body
    assert "Creating and exporting backups" in told.body


async def test_it_says_of_which_servers_backups_can_be_made(delinquent, factory, remind, clock):
    """One server of two: the others' stay locked."""
    account, _, [_, opened] = await delinquent(2)
    await factory.override(account, kind="ALLOW_BACKUPS", server_id=opened.id)

    told = await remind(account)

    assert "you cannot make, restore, export or delete any." in told.body
    assert f"All the same you can make and export backups of this server: {opened.name}." in told.body
    assert "Creating and exporting backups" not in told.body


@pytest.mark.parametrize(("days", "stays_open"), [(90, True), (1, False)])
async def test_it_does_not_announce_locks_that_do_not_come(
    lite, debtor, factory, newest, clock, days, stays_open
):
    """Where staff lets backups be made beyond the next stage, that stage locks less."""
    account, _, _ = await debtor()
    await factory.override(account, kind="ALLOW_BACKUPS", expires_at=clock.now() + timedelta(days=days))

    await lite.settle()

    told = await newest()
    assert told.stage is Stage.PAST_DUE
    assert ("Making and exporting them stays open for now." in told.body) is stays_open
    assert ("you cannot make, restore, export or delete any." in told.body) is not stays_open


@pytest.mark.parametrize("spared", ["retired", "exempt"])
async def test_it_stops_nothing_where_there_is_nothing_to_stop(
    delinquent, factory, settle, remind, clock, spared
):
    """An account whose servers are gone, or all spared, is locked, and no server or backup is mentioned as taken."""
    account, _, [server] = await delinquent()
    await settle(account)
    if spared == "retired":
        await Server.filter(id=server.id).update(retired_at=clock.now())
    else:
        await factory.override(account, server_id=server.id, expires_at=clock.now() + timedelta(days=90))

    told = await remind(account)

    assert told.subject.startswith("Your account is suspended:")
    assert "Changes to your account" in told.body
    assert "stopped" not in told.body
    assert "you cannot make" not in told.body
    assert ("Your running servers keep running" in told.body) is (spared == "exempt")
    assert ("whether your servers are removed" in told.body) is (spared == "exempt")


async def test_it_says_that_a_payment_brings_no_server_without_a_subscription_back(
    delinquent, settle, remind, uncover
):
    """It is stopped for both reasons, and the letter about the one does not promise the other."""
    account, _, [paid_for, ended] = await delinquent(2)
    await settle(account)
    await uncover(ended)
    await remind(account)

    told = await Notice.filter(template="suspended", server_id=None).order_by("-id").first()

    body = " ".join(told.body.split())
    assert f"These servers are stopped: {paid_for.name}, {ended.name}." in body
    assert (
        f"Server {ended.name} stays restricted because its subscription has ended."
        " As soon as the payment arrives, everything else comes back by itself." in body
    )


async def test_it_calls_nothing_as_before_beside_a_server_that_is_stopped_for_itself(
    delinquent, settle, remind, uncover
):
    """The first letter about a debt knows that one of the servers does not run."""
    account, _, [_, ended] = await delinquent(2)
    await Episode.filter(server_id=None).update(admitted=Stage.PAST_DUE)
    await uncover(ended)
    await settle(account)
    await remind(account)

    told = await Notice.filter(template="payment_overdue", server_id=None).order_by("-id").first()

    body = " ".join(told.body.split())
    assert "New servers and changes of size wait until the payment has arrived." in body
    assert f"Server {ended.name} stays restricted because its subscription has ended." in body
    assert "as before" not in body


async def test_it_claims_no_stop_of_a_server_without_a_subscription_that_was_off(
    delinquent, settle, remind, uncover, known_off
):
    """It cannot be started for both reasons, and nobody stopped it."""
    account, _, [ran, ended] = await delinquent(2)
    await settle(account)
    await known_off("what we found", ended, ran=ran)
    await uncover(ended)
    await remind(account)

    told = await Notice.filter(template="suspended", server_id=None).order_by("-id").first()

    body = " ".join(told.body.split())
    assert f"This server is stopped: {ran.name}." in body
    assert f"cannot be started until this is settled: {ended.name}." in body
    assert f"Server {ended.name} stays restricted because its subscription has ended." in body
    assert told.server_ids == [ran.id, ended.id]


async def test_it_tells_of_a_server_that_was_off_what_else_holds_it(
    delinquent, settle, remind, uncover, known_off
):
    """That its account owes is no less so of it than of one that ran."""
    account, _, [ran, ended] = await delinquent(2)
    await settle(account)
    await known_off("its owner's switch", ended, ran=ran)
    await uncover(ended)
    await remind(account)

    told = await Notice.filter(template="suspended", server_id=ended.id).order_by("-id").first()

    body = " ".join(told.body.split())
    assert "The server was off already; it stays off and cannot be started until this is settled." in body
    assert f"Server {ended.name} stays restricted until what your account owes is settled." in body


async def test_it_promises_a_server_nothing_that_its_account_takes(delinquent, settle, remind, uncover):
    """The letter about an ended subscription knows that the account is suspended, too."""
    account, invoice, [server] = await delinquent()
    await settle(account)
    await uncover(server)
    await remind(account)
    told = await Notice.filter(template="suspended", server_id=server.id).order_by("-id").first()
    assert f"Server {server.name} stays restricted until what your account owes is settled." in " ".join(
        told.body.split()
    )
    assert "This does not affect your account and your other servers." in " ".join(told.body.split())
    assert "everything comes back" not in " ".join(told.body.split())

    await Invoice.filter(id=invoice.id).update(status="PAID", amount_due=0)
    await remind(account)

    told = await Notice.filter(template="suspended", server_id=server.id).order_by("-id").first()
    assert "The server is stopped." in told.body
    assert "your account owes" not in told.body
