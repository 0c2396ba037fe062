"""Cards at the door: saved through the provider, one the default, settling what is open, the last one kept."""

import json
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import IdempotencyKey, Role
from billing import usage
from billing.attempt_models import AttemptKind, CardAttempt
from billing.card_attempts import MOST
from billing.models import Account, AuditEntry, Invoice, StripeEvent
from billing.money_models import Card, Charge, ChargeState
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from reconciler.card_needs import needs_card
from reconciler.models import Server
from simulators.stripe import Trouble
from simulators.stripe.cards import declines

CARDS = "{ viewer { account { cards { id last4 isDefault usable } } } }"
REMOVED = "card { last4 isDefault usable } account { cards { last4 isDefault } }"


def _codes(payload: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["path"]) for error in payload["errors"]]


async def _listed(portal: Any) -> list[tuple[str, bool]]:
    found = (await portal.data(CARDS))["viewer"]["account"]["cards"]
    return [(card["last4"], card["isDefault"]) for card in found]


async def test_a_card_is_saved(portal: Any) -> None:
    """The browser gets a secret, the card is kept without its number, and the first is the default."""
    begun = await portal.do("cardSetupBegin", {}, show="setupIntentId clientSecret")
    assert begun["clientSecret"].startswith(f"{begun['setupIntentId']}_secret_")
    portal.simulator.save_card(begun["setupIntentId"])
    given = {"setupIntentId": begun["setupIntentId"]}
    shown = "card { id brand last4 expMonth isDefault usable } account { cards { id } }"
    payload = await portal.do("cardAdd", given, show=shown)
    row = await Card.get()
    assert payload == {
        "errors": [],
        "card": {"id": ids.global_id("Card", row.id), "brand": "visa", "last4": "4242", "expMonth": row.exp_month,
                 "isDefault": True, "usable": True},
        "account": {"cards": [{"id": ids.global_id("Card", row.id)}]},
    }  # fmt: skip
    assert await portal.do("cardAdd", given, show=shown) == payload
    assert portal.door.wakes == [portal.account.id] * 2
    assert (await AuditEntry.get(kind="card.added")).actor.startswith("customer:")


async def test_cards_are_listed_with_the_default_first(portal: Any) -> None:
    """It can be chosen, also while adding; an expired card is listed and not usable."""
    await portal.save()
    await portal.save("pm_card_mastercard")
    await portal.save("pm_card_amex", makeDefault=True)
    assert await _listed(portal) == [("0005", True), ("4242", False), ("4444", False)]
    mastercard = await Card.get(last4="4444")
    chosen = {"cardId": ids.global_id("Card", mastercard.id)}
    payload = await portal.do("cardSetDefault", chosen, show="card { last4 isDefault }")
    assert payload == {"errors": [], "card": {"last4": "4444", "isDefault": True}}
    assert await _listed(portal) == [("4444", True), ("4242", False), ("0005", False)]
    await Card.filter(last4="4242").update(exp_year=2026, exp_month=10)
    usable = {
        card["last4"]: card["usable"] for card in (await portal.data(CARDS))["viewer"]["account"]["cards"]
    }
    assert usable == {"4444": True, "4242": False, "0005": True}
    expired = {"cardId": ids.global_id("Card", (await Card.get(last4="4242")).id)}
    assert _codes(await portal.do("cardSetDefault", expired)) == [("INVALID", ["input", "cardId"])]


async def test_adding_a_card_settles_what_is_overdue(portal: Any, factory: Any) -> None:
    """It pays with the card that was added, and leaves what is not due yet."""
    overdue = await factory.invoice(portal.account)
    later = await factory.invoice(portal.account, overdue_at=portal.door.clock.now() + timedelta(days=3))
    paid = "account { invoices { edges { node { id status payments { source card { last4 } } } } } }"
    payload = await portal.save(show=paid)
    told = {edge["node"]["id"]: edge["node"] for edge in payload["account"]["invoices"]["edges"]}
    assert told[ids.global_id("Invoice", overdue.id)]["payments"] == [
        {"source": "CARD", "card": {"last4": "4242"}}
    ]
    assert told[ids.global_id("Invoice", later.id)]["status"] == "OPEN"
    assert [payment["amount"] for payment in portal.payments("succeeded")] == [500]


async def test_making_a_card_the_default_settles_once(portal: Any, factory: Any) -> None:
    """It is asked for what is overdue if it was not asked on that occasion already."""
    await portal.save("pm_card_chargeCustomerFail")
    await portal.save("pm_card_mastercard")
    invoice = await factory.invoice(portal.account)
    fails = {"cardId": ids.global_id("Card", (await Card.get(last4="0341")).id)}
    for _ in range(3):
        assert (await portal.do("cardSetDefault", fails))["errors"] == []
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    assert await Charge.filter(card__last4="0341").count() == 1


async def test_a_refused_card_is_named_as_such(portal: Any) -> None:
    """A duplicate, one that the bank refuses, one that waits for its customer, and a setup that nobody knows."""
    await portal.save()
    assert _codes(await portal.save()) == [("CARD_DUPLICATE", ["input", "setupIntentId"])]
    begun = await portal.do("cardSetupBegin", {}, show="setupIntentId")
    given = {"setupIntentId": begun["setupIntentId"]}
    assert _codes(await portal.do("cardAdd", given)) == [("INVALID", ["input", "setupIntentId"])]
    card = {"payment_method": "pm_card_authenticationRequired"}
    portal.simulator.cards.confirm_setup(begun["setupIntentId"], card)
    path = ["input", "setupIntentId"]
    assert _codes(await portal.do("cardAdd", given)) == [("AUTHENTICATION_REQUIRED", path)]
    portal.simulator.cards.authenticate_setup(begun["setupIntentId"])
    assert (await portal.do("cardAdd", given))["errors"] == []


async def test_the_last_card_stays_while_servers_need_it(portal: Any, factory: Any, wallet: Any) -> None:
    """It goes when another card is there, or when a purse covers the coming month."""
    await _metered(await factory.server(portal.account, rate=1_000_000))
    await portal.save()
    given = {"cardId": ids.global_id("Card", (await Card.get()).id)}
    assert _codes(await portal.do("cardRemove", given)) == [("CARD_LAST_IN_USE", ["input", "cardId"])]
    await wallet.voucher(portal.account, 729)
    assert _codes(await portal.do("cardRemove", given)) == [("CARD_LAST_IN_USE", ["input", "cardId"])]
    await portal.save("pm_card_mastercard")
    payload = await portal.do("cardRemove", given, show=REMOVED)
    assert payload == {
        "errors": [],
        "card": {"last4": "4242", "isDefault": False, "usable": False},
        "account": {"cards": [{"last4": "4444", "isDefault": True}]},
    }
    assert _codes(await portal.do("cardRemove", given)) == [("NOT_FOUND", ["input", "cardId"])]
    await wallet.cash(portal.account, 1)
    last = {"cardId": ids.global_id("Card", (await Card.get(last4="4444")).id)}
    assert (await portal.do("cardRemove", last))["errors"] == []
    assert await _listed(portal) == []
    assert await Card.filter(detached_at=None).count() == 0


async def _metered(server: Server) -> None:
    await usage.follow(server, at=server.created_at, now=server.created_at)


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        ({"rate": 1_000_000}, True),
        ({"rate": 0}, False),
        ({"rate": 1_000_000, "free": True}, False),
        ({"stripe_subscription_id": "sub_1"}, True),
        ({"stripe_subscription_id": "sub_1", "free": True}, False),
        ({"stripe_subscription_id": "sub_by_hand"}, False),
    ],
)
async def test_a_server_needs_a_card_that_nothing_else_pays(
    portal: Any, factory: Any, given: dict[str, Any], needs: bool
) -> None:
    """One with a price, or under a subscription that Stripe charges by itself."""
    await factory.invoice(
        portal.account, origin=InvoiceOrigin.STRIPE, stripe_subscription_id="sub_by_hand",
        collection_method="send_invoice",
    )  # fmt: skip
    server = await factory.server(portal.account, **given)
    await _metered(server)
    means, now = portal.door.ports.means(), portal.door.clock.now()
    assert await needs_card(portal.account.id, means, now=now) is needs
    server.retired_at = now
    await server.save()
    await usage.follow(server, at=now, now=now)
    assert await needs_card(portal.account.id, means, now=now) is False


async def test_another_customers_card_is_answered_like_a_missing_one(portal: Any, factory: Any) -> None:
    """It gives the same bytes for both, changes nothing, and asks the provider nothing."""
    theirs = await factory.card(await factory.account(), is_default=True)
    await portal.save()
    portal.wire.requests.clear()
    for mutation in ("cardSetDefault", "cardRemove"):
        answers = [
            json.dumps(await portal.do(mutation, {"cardId": card}, show="card { id }"))
            for card in (ids.global_id("Card", theirs.id), ids.global_id("Card", 999_999), "garbage")
        ]
        assert len(set(answers)) == 1
        assert '"NOT_FOUND"' in answers[0]
    for mutation, given in (("cardSetupBegin", {}), ("cardAdd", {"setupIntentId": "seti_1"})):
        answers = [
            json.dumps(await portal.do(mutation, given | {"accountId": account}))
            for account in (
                ids.global_id("Account", theirs.account_id),
                ids.global_id("Account", 999_999),
                "x",
            )
        ]
        assert len(set(answers)) == 1
        assert '"NOT_FOUND"' in answers[0]
    assert portal.wire.requests.total() == 0
    assert await Card.filter(id=theirs.id, is_default=True, removed_at=None).exists()


async def test_another_customers_setup_is_no_way_to_their_card(portal: Any, factory: Any) -> None:
    """A finished setup of somebody else is refused, and their card stays theirs."""
    stranger = await factory.account()
    begun = await portal.do("cardSetupBegin", {}, show="setupIntentId", account=stranger.external_id)
    portal.simulator.save_card(begun["setupIntentId"])
    given = {"setupIntentId": begun["setupIntentId"]}
    assert _codes(await portal.do("cardAdd", given)) == [("INVALID", ["input", "setupIntentId"])]
    assert (await portal.do("cardAdd", given, account=stranger.external_id))["errors"] == []
    assert (await Card.get()).account_id == stranger.id


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.ADMIN, Role.INFRA, Role.CONTROL])
async def test_nobody_else_changes_a_customers_cards(portal: Any, role: Role) -> None:
    """Staff read them, and every other door is closed."""
    await portal.save()
    card = ids.global_id("Card", (await Card.get()).id)
    for mutation in ("cardSetDefault", "cardRemove"):
        query = f"mutation($input: CardInput!) {{ {mutation}(input: $input) {{ card {{ id }} }} }}"
        assert await portal.door.code(role, query, {"input": {"cardId": card}}) == "FORBIDDEN"
    query = "query($id: ID!) { node(id: $id) { ... on Card { last4 } } }"
    if role in {Role.SUPPORT, Role.ADMIN}:
        assert (await portal.door.data(role, query, {"id": card}))["node"] == {"last4": "4242"}
    else:
        assert await portal.door.code(role, query, {"id": card}) == "FORBIDDEN"


async def test_it_says_that_no_card_can_be_taken(portal: Any) -> None:
    """While Stripe is off, and while it does not answer: nothing is written, and an outage counts as no try."""
    on = portal.door.ports
    portal.door.ports = replace(on, cards=None, invoices=None)
    off = await portal.do("cardSetupBegin", {})
    assert _codes(off) == [("PROVIDER_UNAVAILABLE", None)]
    assert "voucher" in off["errors"][0]["message"]
    portal.door.ports = on
    portal.simulator.outage.begin(Trouble.UNAVAILABLE)
    for _ in range(MOST[AttemptKind.SETUP] + 1):
        assert [code for code, _ in _codes(await portal.do("cardSetupBegin", {}))] == ["PROVIDER_UNAVAILABLE"]
    portal.simulator.outage.end()
    assert (await portal.save())["errors"] == []


async def test_cards_are_not_tried_by_the_hundred(portal: Any) -> None:
    """After so many setups, or so many cards that could not be kept, the door is closed for a while."""
    for _ in range(MOST[AttemptKind.SETUP]):
        assert (await portal.do("cardSetupBegin", {}))["errors"] == []
    query = "mutation { cardSetupBegin(input: {}) { setupIntentId } }"
    answer = await portal.door.ask(Role.CUSTOMER, query, account=portal.account.external_id)
    [error] = answer["errors"]
    assert error["extensions"] == {"code": "RATE_LIMITED", "retryAt": "2026-11-20T10:00:00Z"}
    assert "20 November 2026, 11:00 CET" in error["message"]
    for _ in range(MOST[AttemptKind.ADDING]):
        assert [code for code, _ in _codes(await portal.do("cardAdd", {"setupIntentId": "seti_x"}))] == [
            "INVALID"
        ]
    guess = 'mutation { cardAdd(input: {setupIntentId: "seti_x"}) { card { id } } }'
    assert await portal.door.code(Role.CUSTOMER, guess, account=portal.account.external_id) == "RATE_LIMITED"
    portal.door.clock.advance(timedelta(hours=1))
    assert (await portal.save())["errors"] == []
    assert await CardAttempt.filter(kind=AttemptKind.ADDING, at=portal.door.clock.now()).count() == 0


async def test_a_customer_with_several_accounts_says_which(
    portal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a name it is refused, because somebody else's card could be charged by mistake."""
    monkeypatch.setattr("api.graphql.scope.Scope.accounts", lambda _: Account.all())
    assert (await portal.do("cardSetupBegin", {}))["errors"] == []
    await Account.create(external_id="second", name="x", currency="EUR", created_at=portal.door.clock.now())
    assert _codes(await portal.do("cardSetupBegin", {})) == [("INVALID", ["input", "accountId"])]
    named = {"accountId": ids.global_id("Account", portal.account.id)}
    assert (await portal.do("cardSetupBegin", named))["errors"] == []


TASKS = "tasks { kind message invoice { number } expiresAt clientSecret }"


async def test_a_task_has_its_secret_for_the_customer_alone(portal: Any, factory: Any, caplog: Any) -> None:
    """The portal confirms with it; staff are told of the task, and no row and no log line keeps the secret."""
    caplog.set_level(logging.DEBUG)
    await portal.save("pm_card_authenticationRequired")
    card, invoice = await Card.get(), await factory.invoice(portal.account, number="R-7")
    await portal.do("cardSetDefault", {"cardId": ids.global_id("Card", card.id)})
    [charge] = await Charge.all()
    [payment] = portal.payments()
    [task] = (await portal.data(f"{{ viewer {{ account {{ {TASKS} }} }} }}"))["viewer"]["account"]["tasks"]
    assert task == {
        "kind": "CONFIRM_PAYMENT", "message": "Your bank wants you to confirm a payment of €5.00.",
        "invoice": {"number": "R-7"}, "expiresAt": "2026-11-23T09:00:01Z", "clientSecret": payment["client_secret"],
    }  # fmt: skip
    portal.wire.requests.clear()
    query = f"query($id: ID!) {{ account(id: $id) {{ {TASKS} }} }}"
    seen = await portal.door.data(Role.ADMIN, query, {"id": ids.global_id("Account", portal.account.id)})
    assert seen["account"]["tasks"] == [task | {"clientSecret": None}]
    assert portal.wire.requests.total() == 0
    portal.simulator.confirm_payment(payment["id"], card.stripe_payment_method_id)
    portal.door.wakes.clear()
    await portal.data(f"{{ viewer {{ account {{ {TASKS} }} }} }}")
    assert portal.door.wakes == [portal.account.id]
    assert (await portal.data(f"{{ viewer {{ account {{ {TASKS} }} }} }}"))["viewer"]["account"][
        "tasks"
    ] == []
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    assert (await Charge.get(id=charge.id)).state is ChargeState.SUCCEEDED
    tables = (Account, Card, Charge, CardAttempt, AuditEntry, IdempotencyKey, StripeEvent)
    rows = repr([await table.all().values() for table in tables])
    assert "_secret_" not in rows + caplog.text
    assert "sk_test_canary" not in rows + caplog.text


async def test_a_declined_card_stays_and_the_next_one_is_asked(portal: Any, factory: Any) -> None:
    """The card is saved although the bank refused the charge, and nothing is paid."""
    invoice = await factory.invoice(portal.account)
    portal.simulator.answer_next(declines("insufficient_funds"))
    payload = await portal.save()
    assert (payload["errors"], payload["card"]["usable"]) == ([], True)
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.OPEN
    await portal.save("pm_card_mastercard")
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
