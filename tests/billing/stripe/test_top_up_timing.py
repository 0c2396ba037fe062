"""Topping up while the card, the account or the customer's patience changes: never charged unasked, never unheard."""

from functools import partial
from typing import Any

import pytest

from billing import accounts, cards, charge_rows, charges, ledger
from billing.accounts import AccountChange
from billing.charge_rows import TopUp
from billing.money_models import Card, Charge, ChargeState
from billing.refusal import RefusalCode, RefusalError
from billing.rules.money import Money


def wish(world: Any, key: str = "key-1", **given: Any) -> TopUp:
    """Twenty euros on the balance."""
    return TopUp(
        account_id=world.account.id, amount=Money(2000, "EUR"), idempotency_key=key, actor="ada", **given
    )


async def remove(world: Any, card_gateway: Any, card: Card) -> None:
    """The customer removes a card that no server needs."""

    async def no(account_id: int) -> bool:
        return False

    await cards.remove(
        card_gateway, world.clock, card.id, account_id=world.account.id, needs_card=no, actor="ada"
    )


def paid(world: Any) -> int:
    """What Stripe took."""
    every = world.simulator.store.oldest_first("payment_intent")
    return sum(one["amount_received"] for one in every)


def just_before_the_intent(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Let something happen between the choice of the card and the commit of the intent."""
    intend = charge_rows.intend_top_up

    async def later(*given: Any, **more: Any) -> Any:
        await act()
        return await intend(*given, **more)

    monkeypatch.setattr(charge_rows, "intend_top_up", later)


@pytest.mark.parametrize("named", [True, False])
async def test_it_charges_no_card_that_was_removed_meanwhile(
    world: Any, save_card: Any, card_gateway: Any, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """The card was chosen, then its owner removed it: it is not asked, whether or not it was named."""
    card = await save_card(world)
    just_before_the_intent(monkeypatch, partial(remove, world, card_gateway, card))
    wanted = wish(world, card_id=card.id if named else None)
    with pytest.raises(RefusalError) as refused:
        await charges.top_up(card_gateway, world.clock, wanted)
    assert refused.value.problems[0].code is RefusalCode.NOT_FOUND
    assert paid(world) == 0
    assert await Charge.all().count() == 0


async def test_it_charges_nothing_in_a_currency_that_is_not_the_accounts_any_more(
    world: Any, save_card: Any, card_gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money that could not be credited is not taken."""
    await save_card(world)
    change = AccountChange(
        external_id=world.account.external_id,
        name=world.account.name,
        currency="CHF",
        email="ada@example.org",
    )
    other = partial(accounts.upsert, change, policies=["standard"], actor="control", now=world.clock.now())
    just_before_the_intent(monkeypatch, other)
    with pytest.raises(RefusalError) as refused:
        await charges.top_up(card_gateway, world.clock, wish(world))
    assert refused.value.problems[0].code is RefusalCode.CURRENCY_MISMATCH
    assert paid(world) == 0


async def test_it_tells_what_became_of_a_request_although_its_card_is_gone(
    world: Any, save_card: Any, card_gateway: Any
) -> None:
    """Whoever lost the answer, removed the card and asks again hears that the money arrived, and pays once."""
    card = await save_card(world)
    first = await charges.top_up(card_gateway, world.clock, wish(world, card_id=card.id))
    await remove(world, card_gateway, card)
    again = await charges.top_up(card_gateway, world.clock, wish(world, card_id=card.id))
    assert (again.charge, again.state) == (first.charge, ChargeState.SUCCEEDED)
    assert paid(world) == (await ledger.purses([world.account.id]))[world.account.id].balance == 2000


async def test_it_takes_a_key_of_one_account_for_a_new_one_of_another(
    world: Any, save_card: Any, card_gateway: Any, factory: Any
) -> None:
    """Two customers who happen to use the same key never see each other's payment."""
    await save_card(world)
    await charges.top_up(card_gateway, world.clock, wish(world))
    stranger = await factory.account()
    with pytest.raises(RefusalError) as refused:
        await charges.top_up(
            card_gateway,
            world.clock,
            TopUp(account_id=stranger.id, amount=Money(2000, "EUR"), idempotency_key="key-1", actor="eve"),
        )
    assert refused.value.problems[0].code is RefusalCode.NOT_FOUND
    assert await Charge.filter(account_id=stranger.id).count() == 0
