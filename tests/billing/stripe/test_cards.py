"""Cards are saved through Stripe, told apart, made the default, removed, and follow what Stripe says of them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from billing import cards
from billing.models import Account, AuditEntry, EventState, StripeEvent
from billing.money_models import Card
from billing.refusal import RefusalCode, RefusalError
from billing.stripe import inbox
from billing.stripe.gateway import RejectedError
from simulators.stripe import Trouble
from simulators.stripe.errors import ApiError


async def yes(account_id: int) -> bool:
    """There are servers that no purse covers."""
    return True


async def no(account_id: int) -> bool:
    """There are none."""
    return False


def default_at_stripe(world: Any) -> str | None:
    """What Stripe would charge first."""
    owner = world.simulator.get("customer", world.customer)
    return owner["invoice_settings"]["default_payment_method"]


def owner_at_stripe(world: Any, card: Card) -> str | None:
    """Whose card it is at Stripe."""
    return world.simulator.get("payment_method", card.stripe_payment_method_id)["customer"]


def code_of(caught: Any) -> RefusalCode:
    """The code of a refusal."""
    return caught.value.problems[0].code


async def test_it_saves_a_card(each_world: Any, save_card: Any) -> None:
    """The first is the default, here and at Stripe; the change is audited and the facts have moved."""
    before = await each_world.facts_version()
    card = await save_card(each_world)
    assert (card.brand, card.last4, card.is_default, card.version) == ("visa", "4242", True, 1)
    assert default_at_stripe(each_world) == card.stripe_payment_method_id
    assert await each_world.facts_version() > before
    other = await save_card(each_world, "pm_card_mastercard")
    assert not other.is_default
    third = await save_card(each_world, "pm_card_amex", make_default=True)
    ordered = await cards.in_order(each_world.account.id, now=each_world.clock.now())
    assert [one.id for one in ordered] == [third.id, card.id, other.id]
    assert default_at_stripe(each_world) == third.stripe_payment_method_id
    kinds = await AuditEntry.filter(subject_type="Card").order_by("id").values_list("kind", flat=True)
    assert kinds == ["card.added", "card.default", "card.added", "card.added", "card.default"]


async def test_it_makes_the_customer_of_an_account_that_has_none(
    world: Any, card_gateway: Any, factory: Any
) -> None:
    """Two who ask at once get one customer, which names the account."""
    account = await factory.account(external_id="ada-7", name="Ada", email="ada@example.org")
    begun = await asyncio.gather(
        *(cards.begin_setup(card_gateway, world.clock, account.id, actor="ada") for _ in range(2))
    )
    account = await Account.get(id=account.id)
    assert {one.customer_id for one in begun} == {account.stripe_customer_id}
    made = world.simulator.get("customer", account.stripe_customer_id)
    assert (made["name"], made["email"]) == ("Ada", "ada@example.org")
    assert made["metadata"] == {"abeyance_account": "ada-7"}
    assert await AuditEntry.filter(account_id=account.id, kind="account.changed").count() == 1


async def test_it_refuses_a_setup_that_is_unfinished_unknown_or_somebody_elses(
    world: Any, card_gateway: Any, factory: Any
) -> None:
    """All in the same words, so that nothing is told about others."""
    stranger = world.simulator.create_customer()["id"]
    theirs = await card_gateway.begin_setup(stranger, account="stranger")
    world.simulator.save_card(theirs.id)
    unfinished = await cards.begin_setup(card_gateway, world.clock, world.account.id, actor="ada")
    said = set()
    for setup in (unfinished.id, theirs.id, "seti_unknown", "not an id/../x"):
        with pytest.raises(RefusalError) as caught:
            await cards.add(card_gateway, world.clock, world.account.id, setup_intent_id=setup, actor="ada")
        assert code_of(caught) is RefusalCode.INVALID
        said.add(str(caught.value))
    assert len(said) == 1
    assert await Card.all().count() == 0


async def test_it_keeps_a_number_once(each_world: Any, save_card: Any) -> None:
    """The second payment method of one number is refused, and let go of at Stripe."""
    first = await save_card(each_world)
    with pytest.raises(RefusalError) as caught:
        await save_card(each_world)
    assert code_of(caught) is RefusalCode.CARD_DUPLICATE
    assert await Card.all().count() == 1
    methods = each_world.simulator.store.oldest_first("payment_method")
    assert [method["customer"] for method in methods] == [each_world.customer, None]
    assert owner_at_stripe(each_world, first) == each_world.customer


async def test_it_lets_a_renewed_card_take_the_place_of_the_old_one(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """The same number that expires later; it is the default if the old one was, and the old one goes."""
    old = await save_card(world)
    setup = await cards.begin_setup(card_gateway, world.clock, world.account.id, actor="ada")
    made = world.simulator.save_card(setup.id)["payment_method"]
    world.simulator.store.get("payment_method", made)["card"]["exp_year"] = 2039
    new = await cards.add(card_gateway, world.clock, world.account.id, setup_intent_id=setup.id, actor="ada")
    assert (new.is_default, new.exp_year, new.id != old.id) == (True, 2039, True)
    assert [card.id for card in await cards.of_account(world.account.id)] == [new.id]
    assert (owner_at_stripe(world, old), default_at_stripe(world)) == (None, new.stripe_payment_method_id)


async def test_it_adds_the_same_setup_once(world: Any, save_card: Any, card_gateway: Any) -> None:
    """The portal's second request returns the card of the first; a removed one does not come back."""
    setup = await cards.begin_setup(card_gateway, world.clock, world.account.id, actor="ada")
    world.simulator.save_card(setup.id)
    given = {"setup_intent_id": setup.id, "actor": "ada"}
    first = await cards.add(card_gateway, world.clock, world.account.id, **given)
    again = await cards.add(card_gateway, world.clock, world.account.id, **given)
    assert first.id == again.id
    await cards.remove(
        card_gateway, world.clock, first.id, account_id=world.account.id, needs_card=no, actor="ada"
    )
    with pytest.raises(RefusalError):
        await cards.add(card_gateway, world.clock, world.account.id, **given)
    assert await cards.of_account(world.account.id) == []


async def test_it_saves_the_card_of_a_browser_that_never_came_back(world: Any, card_gateway: Any) -> None:
    """Stripe's event leads to it; a setup of somebody else's making is left alone; a doubled event changes nothing."""
    setup = await cards.begin_setup(card_gateway, world.clock, world.account.id, actor="ada")
    world.simulator.save_card(setup.id)
    stranger = world.simulator.cards.create_setup({"customer": world.customer})
    world.simulator.save_card(stranger["id"], "pm_card_mastercard")
    events = world.news()
    await world.deliver(events)
    [card] = await cards.of_account(world.account.id)
    assert (card.last4, card.is_default) == ("4242", True)
    for event in events:
        await inbox.store(event | {"id": event["id"] + "x"}, source="webhook", now=world.clock.now())
    await world.process()
    assert await Card.all().count() == 1
    assert await StripeEvent.filter(state__in=(EventState.PENDING, EventState.DEAD)).count() == 0


async def test_it_changes_the_default_here_and_at_stripe(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """And follows one that staff chose at Stripe; none there leaves ours."""
    first, second = await save_card(world), await save_card(world, "pm_card_mastercard")
    await world.deliver()
    given = {"account_id": world.account.id, "actor": "ada"}
    await cards.set_default(card_gateway, world.clock, second.id, **given)
    assert default_at_stripe(world) == second.stripe_payment_method_id
    settings = {"invoice_settings": {"default_payment_method": first.stripe_payment_method_id}}
    world.simulator.customers.update(world.customer, settings)
    await world.deliver()
    assert [card.id for card in await Card.filter(is_default=True)] == [first.id]
    world.simulator.customers.update(world.customer, {"invoice_settings": {"default_payment_method": ""}})
    await world.deliver()
    assert [card.id for card in await Card.filter(is_default=True)] == [first.id]
    with pytest.raises(RefusalError) as caught:
        await cards.set_default(card_gateway, world.clock, first.id, account_id=10**6, actor="eve")
    assert code_of(caught) is RefusalCode.NOT_FOUND


async def test_it_keeps_the_last_usable_card_of_servers_that_need_it(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """An expired card beside it does not help, and can go itself."""
    last = await save_card(world)
    expired = await save_card(world, "pm_card_mastercard")
    await Card.filter(id=expired.id).update(exp_year=2025)
    given = {"account_id": world.account.id, "actor": "ada"}
    with pytest.raises(RefusalError) as caught:
        await cards.remove(card_gateway, world.clock, last.id, needs_card=yes, **given)
    assert code_of(caught) is RefusalCode.CARD_LAST_IN_USE
    assert owner_at_stripe(world, last) == world.customer
    await cards.remove(card_gateway, world.clock, expired.id, needs_card=yes, **given)
    await cards.remove(card_gateway, world.clock, last.id, needs_card=no, **given)
    assert (owner_at_stripe(world, last), owner_at_stripe(world, expired)) == (None, None)
    assert await Card.filter(removed_at__isnull=True).count() == 0


async def test_it_hands_a_removed_default_over(world: Any, save_card: Any, card_gateway: Any) -> None:
    """To the next card in order, at Stripe too, so that Stripe's own invoices go on being paid."""
    first, second = await save_card(world), await save_card(world, "pm_card_mastercard")
    given = {"account_id": world.account.id, "actor": "ada"}
    await cards.remove(card_gateway, world.clock, first.id, needs_card=yes, **given)
    assert (await Card.get(id=second.id)).is_default
    assert default_at_stripe(world) == second.stripe_payment_method_id


async def test_it_removes_a_card_although_stripe_does_not_answer(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """It is charged no more at once; the sweep lets go of it at Stripe later."""
    card = await save_card(world)
    world.simulator.outage.begin(Trouble.UNAVAILABLE)
    given = {"account_id": world.account.id, "needs_card": no, "actor": "ada"}
    removed = await cards.remove(card_gateway, world.clock, card.id, **given)
    assert removed.removed_at is not None
    assert removed.detached_at is None
    assert await cards.in_order(world.account.id, now=world.clock.now()) == []
    world.simulator.outage.end()
    assert owner_at_stripe(world, card) == world.customer
    assert await cards.finish_removals(card_gateway, world.clock) == 1
    assert owner_at_stripe(world, card) is None
    assert await cards.finish_removals(card_gateway, world.clock) == 0


async def test_it_lets_only_one_of_two_last_cards_go(
    each_world: Any, save_card: Any, card_gateway: Any
) -> None:
    """Two removals at the same moment never leave servers without a card."""
    both = [await save_card(each_world), await save_card(each_world, "pm_card_mastercard")]
    given = {"account_id": each_world.account.id, "needs_card": yes, "actor": "ada"}
    removals = (cards.remove(card_gateway, each_world.clock, card.id, **given) for card in both)
    results = await asyncio.gather(*removals, return_exceptions=True)
    assert sum(isinstance(result, RefusalError) for result in results) == 1
    assert len(await cards.in_order(each_world.account.id, now=each_world.clock.now())) == 1


async def test_it_follows_what_the_network_says_of_a_card(each_world: Any, save_card: Any) -> None:
    """A renewed card is a new version of the same one; an event that tells lies changes nothing."""
    card = await save_card(each_world)
    await each_world.deliver()
    await Card.filter(id=card.id).update(to_settle=False)
    each_world.simulator.renew_card(
        card.stripe_payment_method_id, exp_year=2040, last4="1111", fingerprint="f2"
    )
    event = each_world.news()[-1]
    event["data"]["object"]["card"]["exp_year"] = 1999
    await each_world.deliver([event])
    after = await Card.get(id=card.id)
    assert (after.version, after.exp_year, after.last4, after.fingerprint) == (2, 2040, "1111", "f2")
    assert after.to_settle  # what was refused before may be asked again
    await each_world.deliver([event | {"id": "evt_again"}])
    assert (await Card.get(id=card.id)).version == 2


async def test_it_removes_what_was_detached_at_stripe(world: Any, save_card: Any) -> None:
    """By staff, or with its customer: it is charged no more."""
    card = await save_card(world)
    await world.deliver()
    world.simulator.detach_card(card.stripe_payment_method_id)
    before = await world.facts_version()
    await world.deliver()
    after = await Card.get(id=card.id)
    assert after.removed_at is not None
    assert after.detached_at is not None
    assert await world.facts_version() > before
    assert await AuditEntry.filter(kind="card.removed", actor="stripe").count() == 1


async def test_it_lets_go_of_a_card_whose_new_number_is_there_already(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """The bank replaced a number by one that its owner has added as well."""
    old, new = await save_card(world), await save_card(world, "pm_card_mastercard")
    await world.deliver()
    world.simulator.renew_card(old.stripe_payment_method_id, fingerprint=new.fingerprint)
    await world.deliver()
    assert [card.id for card in await cards.of_account(world.account.id)] == [new.id]
    await cards.finish_removals(card_gateway, world.clock)
    assert owner_at_stripe(world, old) is None


async def test_it_lets_go_of_the_others_when_stripe_refuses_one(
    world: Any, save_card: Any, card_gateway: Any, monkeypatch: Any
) -> None:
    """It is tried again with the next sweep, and keeps nobody waiting."""
    stuck, other = await save_card(world), await save_card(world, "pm_card_mastercard")
    now = world.clock.now()
    await Card.all().update(removed_at=now, is_default=False)
    detach = card_gateway.detach

    async def refuses(payment_method_id: str) -> None:
        if payment_method_id == stuck.stripe_payment_method_id:
            raise RejectedError("not now")
        await detach(payment_method_id)

    with monkeypatch.context() as refusing:
        refusing.setattr(card_gateway, "detach", refuses)
        assert await cards.finish_removals(card_gateway, world.clock) == 1
    assert owner_at_stripe(world, other) is None
    assert await cards.finish_removals(card_gateway, world.clock) == 1
    assert owner_at_stripe(world, stuck) is None


async def test_it_lists_the_cards_that_expire_before_long(world: Any, save_card: Any) -> None:
    """Once they have expired they are listed no more."""
    card = await save_card(world)
    await Card.filter(id=card.id).update(exp_year=2026, exp_month=12)
    now = world.clock.now()
    assert await cards.expiring(now=now, within=timedelta(days=30)) == []
    [found] = await cards.expiring(now=now, within=timedelta(days=45))
    assert (found.card_id, found.last4, found.version) == (card.id, "4242", 1)
    assert await cards.with_usable([world.account.id], now=found.expires_at - timedelta(seconds=1)) == {
        world.account.id
    }
    assert await cards.with_usable([world.account.id], now=found.expires_at) == set()
    assert await cards.expiring(now=found.expires_at, within=timedelta(days=45)) == []


async def test_it_refuses_more_cards_than_anybody_needs(world: Any, card_gateway: Any) -> None:
    """Many cards in one account are a sign of stolen numbers being tried."""
    for number in range(cards.MOST_CARDS):
        await Card.create(
            account_id=world.account.id, stripe_payment_method_id=f"pm_{number}", fingerprint=f"f{number}",
            brand="visa", last4="0000", exp_month=1, exp_year=2030, added_at=world.clock.now(),
        )  # fmt: skip
    with pytest.raises(RefusalError) as caught:
        await cards.begin_setup(card_gateway, world.clock, world.account.id, actor="ada")
    assert code_of(caught) is RefusalCode.CONFLICT


async def test_it_says_when_the_provider_does_not_answer(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """Nothing is written then, and trying again works."""
    setup = await cards.begin_setup(card_gateway, world.clock, world.account.id, actor="ada")
    world.simulator.save_card(setup.id)
    world.simulator.outage.begin(Trouble.UNAVAILABLE)
    given = {"setup_intent_id": setup.id, "actor": "ada"}
    with pytest.raises(RefusalError) as caught:
        await cards.add(card_gateway, world.clock, world.account.id, **given)
    assert code_of(caught) is RefusalCode.PROVIDER_UNAVAILABLE
    assert await Card.all().count() == 0
    world.simulator.outage.end()
    assert (await cards.add(card_gateway, world.clock, world.account.id, **given)).is_default


async def test_it_says_what_is_left_to_do_for_an_own_setup(world: Any, card_gateway: Any) -> None:
    """The bank wants its customer, or refused the card; somebody else's is as unknown as ever."""
    begun = [
        await cards.begin_setup(card_gateway, world.clock, world.account.id, actor="ada") for _ in range(2)
    ]
    theirs = await card_gateway.begin_setup(world.simulator.create_customer()["id"], account="stranger")
    waiting = world.simulator.cards.confirm_setup
    for setup in (begun[0], theirs):
        waiting(setup.id, {"payment_method": "pm_card_authenticationRequired"})
    with pytest.raises(ApiError):
        waiting(begun[1].id, {"payment_method": "pm_card_visa_chargeDeclined"})
    codes = []
    for setup in (*begun, theirs):
        with pytest.raises(RefusalError) as caught:
            await cards.add(
                card_gateway, world.clock, world.account.id, setup_intent_id=setup.id, actor="ada"
            )
        codes.append(code_of(caught))
    assert codes == [
        RefusalCode.AUTHENTICATION_REQUIRED, RefusalCode.CARD_DECLINED, RefusalCode.INVALID
    ]  # fmt: skip


@pytest.mark.parametrize("wish", ["", "..", "../customers/cus_1", "seti_1?expand[]=customer", "seti_\n", "é"])
async def test_it_asks_stripe_for_nothing_that_is_no_id(world: Any, card_gateway: Any, wish: str) -> None:
    """A customer's text stands in the path of a request: anything but an id is refused before."""
    world.wire.requests.clear()
    with pytest.raises(RefusalError) as caught:
        await cards.add(card_gateway, world.clock, world.account.id, setup_intent_id=wish, actor="ada")
    assert (code_of(caught), world.wire.requests.total()) == (RefusalCode.INVALID, 0)


async def test_it_begins_no_setup_for_a_customer_that_is_gone(world: Any, card_gateway: Any) -> None:
    """Deleted at Stripe while nobody here had heard of it yet."""
    await Account.filter(id=world.account.id).update(stripe_customer_id="cus_gone")
    with pytest.raises(RefusalError, match="with the payment provider was deleted") as caught:
        await cards.begin_setup(card_gateway, world.clock, world.account.id, actor="ada")
    assert code_of(caught) is RefusalCode.CONFLICT
