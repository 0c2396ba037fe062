"""Unfinished payments keep their account from being restricted, and not for ever."""

from datetime import timedelta
from itertools import count

import pytest

from billing.accounts import note_fact
from billing.models import Episode
from billing.money_models import Card, Charge, ChargeState
from billing.rules.terms import Stage
from reconciler import pause, payment_shield
from reconciler.payment_shield import Shield

HOUR = timedelta(hours=1)
S = ChargeState


@pytest.fixture
def pays(clock):
    """Makes an unfinished payment of an account: by default one that its customer began and has to confirm."""
    numbers = count(1)

    async def make(account, **given):
        number, now = next(numbers), clock.now()
        card, _ = await Card.get_or_create(
            {
                "account": account, "fingerprint": "x", "brand": "visa", "last4": "4242",
                "exp_month": 12, "exp_year": 2030, "added_at": now,
            },
            stripe_payment_method_id=f"pm_{account.id}",
        )  # fmt: skip
        values = {
            "account": account, "card": card, "card_version": 1, "amount": 500, "currency": "EUR",
            "on_session": True, "occasion": f"test:{number}", "idempotency_key": f"key-{number}",
            "state": S.REQUIRES_ACTION, "created_at": now, "updated_at": now,
            "stripe_payment_intent_id": f"pi_{number}", "next_look_at": now,
        }  # fmt: skip
        row = await Charge.create(**(values | given))
        await note_fact(account.id, now=now)
        return row

    return make


@pytest.fixture
def held(lite):
    """Takes a turn and tells why what is left of the plan is held back; fulfilled steps are not in it."""

    async def look():
        result = await lite.turn()
        await lite.deliver()
        return [step.held_back_by for step in result.plan.steps if step.kind.restricts]

    return look


async def stage_of(account):
    return (await Episode.get(account_id=account.id, server_id=None)).admitted


async def warned(lite, account, clock, hours=73):
    """Let an account come to the edge of the final notice, with everything delivered on the way."""
    await lite.settle()
    clock.advance(timedelta(hours=hours))
    assert await stage_of(account) is Stage.PAST_DUE


async def test_a_payment_that_the_customer_began_holds_a_climb_back(lite, debtor, pays, held, clock):
    """Whatever it is for; when it ends, the ladder goes on at once."""
    account, _, _ = await debtor()
    await warned(lite, account, clock)
    payment = await pays(account)

    assert "CUSTOMER_PAYING" in await held()
    assert await stage_of(account) is Stage.PAST_DUE

    await Charge.filter(id=payment.id).update(state=S.FAILED)
    await note_fact(account.id, now=clock.now())
    await held()

    assert await stage_of(account) is Stage.FINAL_NOTICE


@pytest.mark.parametrize("state", [S.INTENDED, S.PROCESSING, S.REQUIRES_ACTION])
async def test_new_payments_shield_for_three_days_of_an_episode_at_most(
    lite, debtor, pays, held, clock, state
):
    """Whoever begins one after the other without ever ending one is warned like everybody else."""
    account, _, _ = await debtor()
    await warned(lite, account, clock)
    for _ in range(24):
        await pays(account, state=state)
        assert "CUSTOMER_PAYING" in await held()
        clock.advance(3 * HOUR)
    await pays(account, state=state)
    await held()

    assert await stage_of(account) is Stage.FINAL_NOTICE


async def test_the_time_counts_only_while_nothing_else_holds_back(lite, debtor, pays, held, clock):
    """A pause of ours uses up nothing of what a customer has."""
    account, _, _ = await debtor()
    await warned(lite, account, clock)
    await pause.pause(reason="a fire drill", actor="anna", now=clock.now())
    for _ in range(5):
        await pays(account)
        assert set(await held()) == {"PAUSED"}
        clock.advance(20 * HOUR)
    await pause.resume(reason="over", actor="anna", now=clock.now())
    await pays(account)

    assert "CUSTOMER_PAYING" in await held()
    clock.advance(10 * HOUR)
    await Charge.all().update(state=S.FAILED)
    await pause.pause(reason="again", actor="anna", now=clock.now())
    await held()
    row = await Episode.get(account_id=account.id)

    assert (row.shielded_for, row.shielded_since) == (10 * 3600, None)


async def test_a_payment_that_the_customer_began_holds_a_stop_back(lite, delinquent, platform, pays, held):
    """The account was suspended already, and its server runs on until the payment has ended."""
    account, _, (server,) = await delinquent()
    await pays(account)
    await held()

    assert set(await held()) == {"CUSTOMER_PAYING", "ORDER"}
    assert platform.guests[server.guest].power == "running"


async def test_it_never_holds_back_what_is_given_back(lite, delinquent, platform, pays, clock):
    """A payment under way delays no restore."""
    account, invoice, (server,) = await delinquent()
    await lite.settle()
    assert platform.guests[server.guest].power == "stopped"
    await pays(account)
    await lite.pay(invoice)
    await lite.settle()

    assert platform.guests[server.guest].power == "running"


async def test_an_action_that_a_charge_of_ours_asks_for_shields_its_invoice_alone(
    lite, debtor, factory, pays, held, clock
):
    """What else is owed goes on climbing, by its own age."""
    account, invoice, _ = await debtor()
    await lite.settle()
    clock.advance(48 * HOUR)
    young = await factory.invoice(account, overdue_at=clock.now(), overdue_seen_at=clock.now())
    await note_fact(account.id, now=clock.now())
    await lite.settle()
    clock.advance(25 * HOUR)
    await pays(account, on_session=False, invoice_id=invoice.id)

    assert "ACTION_REQUIRED" in await held()
    assert await stage_of(account) is Stage.PAST_DUE

    await Charge.all().update(state=S.FAILED)
    await pays(account, on_session=False, invoice_id=young.id)
    await held()

    assert await stage_of(account) is Stage.FINAL_NOTICE


async def test_cards_that_want_their_bank_in_turn_shield_no_longer(lite, debtor, pays, held, clock):
    """Whoever saves such a card anew every few hours is warned like everybody else; both kinds share the time."""
    account, invoice, _ = await debtor()
    await warned(lite, account, clock)
    for _ in range(12):
        await pays(account, on_session=False, invoice_id=invoice.id)
        assert "ACTION_REQUIRED" in await held()
        clock.advance(6 * HOUR)
    await pays(account, on_session=False, invoice_id=invoice.id)
    await pays(account)
    await held()

    assert await stage_of(account) is Stage.FINAL_NOTICE


async def test_another_servers_end_brings_the_account_no_time_anew(lite, debtor, pays, held, clock):
    """The account's own episode decides; one that was opened beside it for a single server does not."""
    account, _, (server,) = await debtor()
    await warned(lite, account, clock)
    await Episode.filter(account_id=account.id).update(shielded_for=72 * 3600)
    now = clock.now()
    await Episode.create(account_id=account.id, server_id=server.id, started_at=now, admitted_at=now)
    await pays(account)

    assert account.id not in await payment_shield.read([account.id], now)


async def test_an_action_of_yesterday_shields_nothing(lite, debtor, pays, held, clock):
    """The customer had a day."""
    account, invoice, _ = await debtor()
    await lite.settle()
    clock.advance(48 * HOUR)
    await pays(account, on_session=False, invoice_id=invoice.id)
    clock.advance(25 * HOUR)
    await held()

    assert await stage_of(account) is Stage.FINAL_NOTICE


async def test_it_tells_what_shields_whom(lite, debtor, pays, clock):
    """In a fixed number of statements, for those alone whom something shields."""
    mine, _, _ = await debtor()
    other, _, _ = await debtor()
    await pays(mine)
    await pays(other, on_session=False, invoice_id=7)
    nobody, _, _ = await debtor()
    found = await payment_shield.read([mine.id, other.id, nobody.id], clock.now())

    assert found == {mine.id: Shield(own=True), other.id: Shield(invoice_ids=frozenset({7}))}
    assert found[other.id].of([7]) is not None
    assert found[other.id].of([7, 8]) is None
    assert found[other.id].of([]) is None
    clock.advance(72 * HOUR)
    assert await payment_shield.read([mine.id, other.id], clock.now()) == {}
