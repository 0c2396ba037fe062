"""Paying at the door: topping the balance up, and one invoice from purses and card, once per key whatever happens."""

import asyncio
import json
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api import tokens
from api.graphql import ids
from api.models import IdempotencyKey, Role
from billing import charges, ledger, paying
from billing.attempt_models import AttemptKind, CardAttempt
from billing.card_attempts import MOST
from billing.charges import finish_charges
from billing.models import Account, AuditEntry, Invoice, StripeEvent
from billing.money_models import Card, Charge, ChargeState, InvoicePart
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.stripe import inbox
from billing.stripe.processing import process_due
from simulators.stripe import Trouble
from simulators.stripe.cards import PROCESSING, REQUIRES_ACTION, declines

SHOWN = "state clientSecret"
EUR = {"amount": "20.00", "currency": "EUR"}


def _codes(payload: dict[str, Any]) -> list[tuple[str, list[str] | None]]:
    return [(error["code"], error["path"]) for error in payload["errors"]]


def _top_up(**given: Any) -> dict[str, Any]:
    return {"amount": EUR, "idempotencyKey": "key-1"} | given


async def _topped_up(portal: Any, **given: Any) -> dict[str, Any]:
    payload: dict[str, Any] = await portal.do("balanceTopUp", _top_up(**given), show=SHOWN)
    return payload


async def _paid(portal: Any, invoice: Invoice, **given: Any) -> dict[str, Any]:
    wish = {"invoiceId": ids.global_id("Invoice", invoice.id), "idempotencyKey": "key-1"} | given
    shown = (
        f"{SHOWN} invoice {{ status payable amountDue {{ amount }} payments {{ source card {{ last4 }} }} }}"
    )
    payload: dict[str, Any] = await portal.do("invoicePay", wish, show=shown)
    return payload


async def _purses(portal: Any) -> tuple[int, int]:
    held = (await ledger.purses([portal.account.id]))[portal.account.id]
    return held.voucher, held.balance


def _received(portal: Any) -> int:
    return sum(one["amount_received"] for one in portal.payments("succeeded"))


async def _events(portal: Any) -> None:
    """Let the provider's news arrive."""
    for event in portal.simulator.events():
        await inbox.store(event, source="webhook", now=portal.door.clock.now())
    await process_due(portal.door.ports.cards.gateway, portal.door.clock)


# ------------------------------------------------------------------------------------------------------ topping up


async def test_the_balance_is_topped_up(portal: Any) -> None:
    """It is charged once under one key, and counts when the provider says that it arrived."""
    await portal.save()
    assert await _topped_up(portal) == {"errors": [], "state": "SUCCEEDED", "clientSecret": None}
    assert await _topped_up(portal) == {"errors": [], "state": "SUCCEEDED", "clientSecret": None}
    assert (await _purses(portal), _received(portal)) == ((0, 2000), 2000)
    assert (await _topped_up(portal, idempotencyKey="key-2"))["state"] == "SUCCEEDED"
    assert (await _purses(portal), len(portal.payments())) == ((0, 4000), 2)
    assert portal.door.wakes[-1] == portal.account.id
    assert (await Charge.first()).on_session  # type: ignore[union-attr]


async def test_topping_up_settles_what_is_open(portal: Any, factory: Any) -> None:
    """What is open is paid from the new balance, the rest stays."""
    await portal.save()
    invoice = await factory.invoice(portal.account, overdue_at=portal.door.clock.now() + timedelta(days=3))
    await _topped_up(portal)
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    assert await _purses(portal) == (0, 1500)


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"amount": {"amount": "20.0", "currency": "EUR"}}, ("INVALID", "amount.amount")),
        ({"amount": {"amount": "-20.00", "currency": "EUR"}}, ("INVALID", "amount.amount")),
        ({"amount": {"amount": "20.00", "currency": "eur"}}, ("INVALID", "amount.currency")),
        ({"amount": {"amount": "0.49", "currency": "EUR"}}, ("INVALID", "amount")),
        ({"amount": {"amount": "1000000.00", "currency": "EUR"}}, ("INVALID", "amount")),
        ({"amount": {"amount": "20.00", "currency": "USD"}}, ("CURRENCY_MISMATCH", "amount")),
        ({"cardId": "garbage"}, ("NOT_FOUND", "cardId")),
        ({"accountId": "garbage"}, ("NOT_FOUND", "accountId")),
        ({"idempotencyKey": ""}, ("INVALID", "idempotencyKey")),
        ({"idempotencyKey": "x" * 201}, ("INVALID", "idempotencyKey")),
    ],
)
async def test_a_wrong_top_up_is_refused(
    portal: Any, given: dict[str, Any], refused: tuple[str, str]
) -> None:
    """It names the field, nothing is charged, and it counts as no try."""
    await portal.save()
    code, path = refused
    assert _codes(await _topped_up(portal, **given)) == [(code, ["input", *path.split(".")])]
    assert (portal.payments(), await CardAttempt.filter(kind=AttemptKind.CHARGE).count()) == ([], 0)


async def test_a_key_is_for_one_top_up(portal: Any) -> None:
    """Another amount under the same key is refused, and the first stands."""
    await portal.save()
    await _topped_up(portal)
    other = await _topped_up(portal, amount={"amount": "30.00", "currency": "EUR"})
    assert _codes(other) == [("IDEMPOTENCY_MISMATCH", ["input", "idempotencyKey"])]
    assert _received(portal) == 2000


async def test_a_top_up_that_arrives_many_times_at_once_is_one(portal: Any) -> None:
    """One payment; whoever comes too early is told that it is on its way."""
    await portal.save()
    answers = await asyncio.gather(*(_topped_up(portal) for _ in range(6)))
    assert {answer["state"] for answer in answers} <= {"SUCCEEDED", "PROCESSING"}
    assert (await _purses(portal), _received(portal)) == ((0, 2000), 2000)


async def test_a_declined_top_up_says_so_under_its_key(portal: Any) -> None:
    """It tells what may be told; a new key tries again."""
    await portal.save()
    portal.simulator.answer_next(declines("insufficient_funds"), declines("stolen_card"))
    for _ in range(2):
        declined = await _topped_up(portal)
        assert (declined["state"], _codes(declined)) == ("FAILED", [("CARD_DECLINED", ["input", "cardId"])])
        assert "not enough money" in declined["errors"][0]["message"]
    stolen = await _topped_up(portal, idempotencyKey="key-2")
    assert stolen["errors"][0]["message"] == (
        "The bank refused the card. Take another card, or ask your bank."
    )
    assert (await _topped_up(portal, idempotencyKey="key-3"))["state"] == "SUCCEEDED"


async def test_a_bank_that_wants_its_customer_gets_it(portal: Any, caplog: Any) -> None:
    """The secret is read anew for each answer and kept nowhere; after the confirmation the same key tells success."""
    caplog.set_level(logging.DEBUG)
    await portal.save()
    portal.simulator.answer_next(REQUIRES_ACTION)
    first = await _topped_up(portal)
    [payment] = portal.payments()
    assert first == {"errors": [], "state": "REQUIRES_ACTION", "clientSecret": payment["client_secret"]}
    assert await _topped_up(portal) == first
    rows = repr([await table.all().values() for table in (Account, AuditEntry, Card, Charge, IdempotencyKey)])
    assert "_secret_" not in rows + caplog.text
    portal.simulator.authenticate(payment["id"])
    assert await _topped_up(portal) == {"errors": [], "state": "SUCCEEDED", "clientSecret": None}
    await _events(portal)
    assert "_secret_" not in repr(await StripeEvent.all().values())
    assert await _purses(portal) == (0, 2000)


async def test_a_failed_confirmation_is_a_decline(portal: Any) -> None:
    """The customer did not pass; nothing is on the balance."""
    await portal.save()
    portal.simulator.answer_next(REQUIRES_ACTION)
    await _topped_up(portal)
    portal.simulator.authenticate(portal.payments()[0]["id"], succeed=False)
    failed = await _topped_up(portal)
    assert failed["state"] in {"FAILED", "REQUIRES_ACTION"}
    assert await _purses(portal) == (0, 0)


async def test_a_confirmation_that_never_came_is_given_up(portal: Any) -> None:
    """The same key says so, and asks for a new one."""
    await portal.save()
    portal.simulator.answer_next(REQUIRES_ACTION)
    await _topped_up(portal)
    portal.door.clock.advance(charges.CONFIRMABLE)
    await finish_charges(portal.door.ports.cards, portal.door.clock)
    given_up = await _topped_up(portal)
    assert (given_up["state"], _codes(given_up)) == ("FAILED", [("CONFLICT", ["input", "idempotencyKey"])])
    assert [one["status"] for one in portal.payments()] == ["canceled"]


async def test_a_top_up_on_its_way_counts_when_it_arrived(portal: Any) -> None:
    """It is processing until the bank has answered; the news puts it on the balance."""
    await portal.save()
    portal.simulator.answer_next(PROCESSING)
    assert (await _topped_up(portal))["state"] == "PROCESSING"
    assert await _purses(portal) == (0, 0)
    portal.simulator.complete_payment(portal.payments()[0]["id"])
    await _events(portal)
    assert (await _topped_up(portal))["state"] == "SUCCEEDED"
    assert await _purses(portal) == (0, 2000)


async def test_an_answer_that_was_lost_is_found_again(portal: Any) -> None:
    """Stripe charged and nobody heard of it: one payment, and the same key tells so in the end."""
    await portal.save()
    portal.simulator.outage.begin(Trouble.LOST_ANSWER, requests=1, path="/v1/payment_intents")
    assert (await _topped_up(portal))["state"] == "PROCESSING"
    portal.door.clock.advance(timedelta(minutes=6))
    assert (await _topped_up(portal))["state"] == "SUCCEEDED"
    assert (await _purses(portal), _received(portal)) == ((0, 2000), 2000)


async def test_stolen_cards_are_not_tried_by_the_hundred(portal: Any, factory: Any) -> None:
    """After so many payments that brought no money the door is closed for a while; a repeated key counts once."""
    await portal.save()
    most = MOST[AttemptKind.CHARGE]
    portal.simulator.answer_next(*[declines("generic_decline")] * most)
    for number in range(most):
        for _ in range(2):
            assert (await _topped_up(portal, idempotencyKey=f"key-{number}"))["state"] == "FAILED"
    query = "mutation($i: BalanceTopUpInput!) { balanceTopUp(input: $i) { state } }"
    account = portal.account.external_id
    refused = {"i": _top_up(idempotencyKey="another")}
    assert await portal.door.code(Role.CUSTOMER, query, refused, account=account) == "RATE_LIMITED"
    invoice = await factory.invoice(portal.account)
    query = "mutation($i: InvoicePayInput!) { invoicePay(input: $i) { state } }"
    refused = {"i": {"invoiceId": ids.global_id("Invoice", invoice.id), "idempotencyKey": "another"}}
    assert await portal.door.code(Role.CUSTOMER, query, refused, account=account) == "RATE_LIMITED"
    assert len(portal.payments()) == most
    portal.door.clock.advance(timedelta(hours=1))
    for number in range(most + 2):
        payload = await _topped_up(portal, idempotencyKey=f"good-{number}")
        assert payload["state"] == "SUCCEEDED"


async def test_whoever_confirms_is_never_shut_out(portal: Any) -> None:
    """Many payments that the bank wants confirmed count as long as nobody confirms them."""
    await portal.save()
    most = MOST[AttemptKind.CHARGE]
    portal.simulator.answer_next(*[REQUIRES_ACTION] * (2 * most))
    for number in range(most):
        assert (await _topped_up(portal, idempotencyKey=f"key-{number}"))["state"] == "REQUIRES_ACTION"
    query = "mutation($i: BalanceTopUpInput!) { balanceTopUp(input: $i) { state } }"
    account, refused = portal.account.external_id, {"i": _top_up(idempotencyKey="another")}
    assert await portal.door.code(Role.CUSTOMER, query, refused, account=account) == "RATE_LIMITED"
    for payment in portal.payments():
        portal.simulator.authenticate(payment["id"])
    await _events(portal)
    assert (await _topped_up(portal, idempotencyKey="another"))["state"] == "REQUIRES_ACTION"


# -------------------------------------------------------------------------------------------------------- invoices


async def test_an_invoice_is_paid_from_everything_in_order(portal: Any, factory: Any, wallet: Any) -> None:
    """The voucher first, then the balance, then the card for the rest."""
    await portal.save()
    await wallet.voucher(portal.account, 100)
    await wallet.cash(portal.account, 150)
    invoice = await factory.invoice(portal.account)
    payload = await _paid(portal, invoice)
    assert payload == {
        "errors": [], "state": "SUCCEEDED", "clientSecret": None,
        "invoice": {
            "status": "PAID", "payable": False, "amountDue": {"amount": "0.00"},
            "payments": [
                {"source": "VOUCHER", "card": None}, {"source": "BALANCE", "card": None},
                {"source": "CARD", "card": {"last4": "4242"}},
            ],
        },
    }  # fmt: skip
    parts = await InvoicePart.all().order_by("id").values_list("source", "amount")
    assert parts == [("VOUCHER", 100), ("BALANCE", 150), ("CARD", 250)]
    assert await _paid(portal, invoice) == payload
    assert (await _purses(portal), _received(portal)) == ((0, 0), 250)


@pytest.mark.parametrize(
    ("sources", "left", "by_card"),
    [
        (["VOUCHER"], (300, 800), 0),
        (["BALANCE"], (800, 300), 0),
        (["BALANCE", "VOUCHER"], (300, 800), 0),
        (["CARD"], (800, 800), 500),
        (["CARD", "BALANCE"], (800, 300), 0),
        (None, (300, 800), 0),
    ],
)
async def test_only_what_is_named_pays(
    portal: Any, factory: Any, wallet: Any, sources: Any, left: tuple[int, int], by_card: int
) -> None:
    """Any mix; the order is the same whatever order they are named in."""
    await portal.save()
    await wallet.voucher(portal.account, 800)
    await wallet.cash(portal.account, 800)
    invoice = await factory.invoice(portal.account)
    assert (await _paid(portal, invoice, sources=sources))["state"] == "SUCCEEDED"
    assert (await _purses(portal), _received(portal)) == (left, by_card)


async def test_the_named_card_pays(portal: Any, factory: Any) -> None:
    """Not the default; and no card is asked for an invoice that another one paid."""
    await portal.save()
    await portal.save("pm_card_mastercard")
    invoice = await factory.invoice(portal.account)
    card = ids.global_id("Card", (await Card.get(last4="4444")).id)
    payload = await _paid(portal, invoice, cardId=card)
    assert payload["invoice"]["payments"] == [{"source": "CARD", "card": {"last4": "4444"}}]


async def test_means_that_do_not_suffice_are_refused_whole(portal: Any, factory: Any, wallet: Any) -> None:
    """It says how much is missing, and nothing is spent."""
    await wallet.voucher(portal.account, 100)
    await wallet.cash(portal.account, 150)
    invoice = await factory.invoice(portal.account)
    for sources, missing in (
        (["VOUCHER"], "€4.00"),
        (["VOUCHER", "BALANCE"], "€2.50"),
        (None, "€2.50"),
    ):
        payload = await _paid(portal, invoice, sources=sources)
        assert _codes(payload) == [("INSUFFICIENT_FUNDS", ["input", "sources"])]
        assert payload["errors"][0]["message"].startswith(f"{missing} are missing")
    assert await InvoicePart.all().count() == 0
    await wallet.cash(portal.account, 250)
    assert (await _paid(portal, invoice))["state"] == "SUCCEEDED"


async def test_a_rest_that_no_card_takes_is_refused_whole(portal: Any, factory: Any, wallet: Any) -> None:
    """The purses are not spent when the card could not be charged afterwards."""
    await portal.save()
    await wallet.cash(portal.account, 470)
    invoice = await factory.invoice(portal.account)
    payload = await _paid(portal, invoice)
    assert _codes(payload) == [("INVALID", ["input", "sources"])]
    assert (
        "€0.30 would be left for the card. A card can be charged €0.50 or more."
        in payload["errors"][0]["message"]
    )
    assert await _purses(portal) == (0, 470)
    assert (await _paid(portal, invoice, sources=["CARD"]))["state"] == "SUCCEEDED"


async def test_what_no_card_can_be_charged_with_is_let_off(portal: Any, factory: Any) -> None:
    """Dinars are charged in steps of ten fils: the customer pays the invoice, and the house bears the last digit."""
    await Account.filter(id=portal.account.id).update(currency="KWD")
    await portal.save()
    given = {"currency": "KWD", "overdue_at": portal.door.clock.now() + timedelta(days=3)}
    invoice = await factory.invoice(portal.account, total=12_345, amount_due=12_345, **given)
    payload = await _paid(portal, invoice)
    assert (payload["errors"], payload["state"], payload["invoice"]["status"]) == ([], "SUCCEEDED", "PAID")
    assert [one["source"] for one in payload["invoice"]["payments"]] == ["CARD", "WRITE_OFF"]
    assert (_received(portal), await _purses(portal)) == (12_340, (0, 0))
    small = await factory.invoice(portal.account, total=9, amount_due=9, **given)
    payload = await _paid(portal, small, idempotencyKey="key-2")
    assert _codes(payload) == [("INVALID", ["input", "sources"])]
    assert "in steps of KWD0.010." in payload["errors"][0]["message"]
    assert await ledger.proven() == []


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"sources": []}, ("INVALID", "sources")),
        ({"sources": ["BALANCE"], "cardId": "x"}, ("INVALID", "cardId")),
        ({"cardId": "garbage"}, ("NOT_FOUND", "cardId")),
        ({"sources": ["CARD"]}, ("NOT_FOUND", "cardId")),
        ({"invoiceId": "garbage"}, ("NOT_FOUND", "invoiceId")),
        ({"idempotencyKey": " "}, ("INVALID", "idempotencyKey")),
    ],
)
async def test_a_wrong_wish_is_refused(
    portal: Any, factory: Any, given: dict[str, Any], refused: tuple[str, str]
) -> None:
    """It names the field, and frees the key."""
    invoice = await factory.invoice(portal.account)
    code, path = refused
    assert _codes(await _paid(portal, invoice, **given)) == [(code, ["input", path])]
    assert await IdempotencyKey.all().count() == 0


@pytest.mark.parametrize("status", [InvoiceStatus.PAID, InvoiceStatus.VOID, InvoiceStatus.UNCOLLECTIBLE])
async def test_an_invoice_that_is_not_open_takes_nothing(
    portal: Any, factory: Any, wallet: Any, status: InvoiceStatus
) -> None:
    """It says so; a draft is not there for customers at all."""
    await wallet.cash(portal.account, 800)
    invoice = await factory.invoice(portal.account, status=status, amount_due=0)
    assert _codes(await _paid(portal, invoice)) == [("INVOICE_NOT_OPEN", ["input", "invoiceId"])]
    draft = await factory.invoice(portal.account, status=InvoiceStatus.DRAFT, amount_due=0)
    assert _codes(await _paid(portal, draft)) == [("NOT_FOUND", ["input", "invoiceId"])]
    assert await _purses(portal) == (0, 800)


async def test_another_customers_money_is_answered_like_none(portal: Any, factory: Any) -> None:
    """It gives the same bytes for another customer's invoice, card and account and for missing ones."""
    other = await factory.account()
    theirs, card = await factory.invoice(other), await factory.card(other, is_default=True)
    mine = await factory.invoice(portal.account)
    await portal.save("pm_card_mastercard")
    await Invoice.filter(id=mine.id).update(status=InvoiceStatus.OPEN, amount_due=500, amount_paid=0)
    portal.wire.requests.clear()
    questions: list[tuple[str, str, dict[str, Any], list[str]]] = [
        ("invoicePay", "invoiceId", {}, [ids.global_id("Invoice", key) for key in (theirs.id, 999)]),
        ("invoicePay", "cardId", {"invoiceId": ids.global_id("Invoice", mine.id)},
         [ids.global_id("Card", key) for key in (card.id, 999)]),
        ("balanceTopUp", "cardId", {"amount": EUR}, [ids.global_id("Card", key) for key in (card.id, 999)]),
        ("balanceTopUp", "accountId", {"amount": EUR}, [ids.global_id("Account", key) for key in (other.id, 999)]),
    ]  # fmt: skip
    for mutation, field, given, named in questions:
        answers = [
            json.dumps(await portal.do(mutation, given | {field: one, "idempotencyKey": "k"}, show=SHOWN))
            for one in (*named, "garbage")
        ]
        assert len(set(answers)) == 1, (mutation, field)
        assert '"NOT_FOUND"' in answers[0]
    assert portal.wire.requests.total() == 0
    assert (await Invoice.get(id=theirs.id)).status is InvoiceStatus.OPEN


async def test_a_declined_card_leaves_what_the_purses_paid(portal: Any, factory: Any, wallet: Any) -> None:
    """The invoice is paid in part; the same key says the same, another one pays the rest."""
    await portal.save()
    invoice = await factory.invoice(portal.account)
    await wallet.cash(portal.account, 150)
    portal.simulator.answer_next(declines("generic_decline"))
    for _ in range(2):
        payload = await _paid(portal, invoice)
        assert (payload["state"], _codes(payload)) == ("FAILED", [("CARD_DECLINED", ["input", "cardId"])])
        assert payload["invoice"]["amountDue"] == {"amount": "3.50"}
    assert len(portal.payments()) == 1
    assert (await _paid(portal, invoice, idempotencyKey="key-2"))["state"] == "SUCCEEDED"
    assert (await _purses(portal), _received(portal)) == ((0, 0), 350)


async def test_a_card_that_was_refused_for_good_is_not_asked_again(portal: Any, factory: Any) -> None:
    """A new key changes nothing for that card and invoice; another card pays."""
    await portal.save()
    await portal.save("pm_card_mastercard")
    invoice = await factory.invoice(portal.account)
    portal.simulator.answer_next(declines("lost_card"))
    assert (await _paid(portal, invoice))["state"] == "FAILED"
    again = await _paid(portal, invoice, idempotencyKey="key-2")
    assert (again["state"], _codes(again)) == ("FAILED", [("CARD_DECLINED", ["input", "cardId"])])
    assert "Take another card" in again["errors"][0]["message"]
    assert len(portal.payments()) == 1
    other = ids.global_id("Card", (await Card.get(last4="4444")).id)
    assert (await _paid(portal, invoice, idempotencyKey="key-3", cardId=other))["state"] == "SUCCEEDED"


async def test_an_invoice_waits_for_the_confirmation(portal: Any, factory: Any) -> None:
    """Each answer has the secret, under the same key and under a new one; then it is paid once."""
    await portal.save()
    invoice = await factory.invoice(portal.account)
    portal.simulator.answer_next(REQUIRES_ACTION)
    first = await _paid(portal, invoice)
    [payment] = portal.payments()
    assert (first["state"], first["clientSecret"]) == ("REQUIRES_ACTION", payment["client_secret"])
    for key in ("key-1", "key-2"):
        again = await _paid(portal, invoice, idempotencyKey=key)
        assert (again["state"], again["clientSecret"]) == ("REQUIRES_ACTION", payment["client_secret"])
    assert "_secret_" not in repr(await IdempotencyKey.all().values())
    portal.simulator.authenticate(payment["id"])
    for key in ("key-1", "key-2"):
        done = await _paid(portal, invoice, idempotencyKey=key)
        assert (done["state"], done["clientSecret"]) == ("SUCCEEDED", None)
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    assert _received(portal) == 500


async def test_another_card_takes_the_place_of_one_that_waits(portal: Any, factory: Any) -> None:
    """Whoever cannot confirm pays with another card; the first payment can succeed no more."""
    await portal.save()
    await portal.save("pm_card_mastercard")
    invoice = await factory.invoice(portal.account)
    portal.simulator.answer_next(REQUIRES_ACTION)
    assert (await _paid(portal, invoice))["state"] == "REQUIRES_ACTION"
    other = ids.global_id("Card", (await Card.get(last4="4444")).id)
    assert (await _paid(portal, invoice, idempotencyKey="key-2", cardId=other))["state"] == "SUCCEEDED"
    assert [one["status"] for one in portal.payments()] == ["canceled", "succeeded"]
    first = await _paid(portal, invoice)
    assert (first["state"], _codes(first)) == ("FAILED", [("CONFLICT", ["input", "idempotencyKey"])])


async def test_a_payment_on_its_way_is_not_made_twice(portal: Any, factory: Any) -> None:
    """While the bank thinks, another key is told that it is on its way."""
    await portal.save()
    await portal.save("pm_card_mastercard")
    invoice = await factory.invoice(portal.account)
    portal.simulator.answer_next(PROCESSING)
    assert (await _paid(portal, invoice))["state"] == "PROCESSING"
    other = ids.global_id("Card", (await Card.get(last4="4444")).id)
    assert (await _paid(portal, invoice, idempotencyKey="key-2", cardId=other))["state"] == "PROCESSING"
    portal.simulator.complete_payment(portal.payments()[0]["id"])
    assert (await _paid(portal, invoice))["state"] == "SUCCEEDED"
    assert _received(portal) == 500


async def test_a_key_is_for_one_wish(portal: Any, factory: Any) -> None:
    """Another invoice, other sources or another card under the same key are refused."""
    await portal.save()
    invoice, other = await factory.invoice(portal.account), await factory.invoice(portal.account)
    assert (await _paid(portal, invoice, sources=["CARD"]))["state"] == "SUCCEEDED"
    card = ids.global_id("Card", (await Card.get()).id)
    for given in ({"sources": ["CARD", "BALANCE"]}, {"sources": ["CARD"], "cardId": card}):
        assert _codes(await _paid(portal, invoice, **given)) == [
            ("IDEMPOTENCY_MISMATCH", ["input", "idempotencyKey"])
        ]
    assert _codes(await _paid(portal, other, sources=["CARD"])) == [
        ("IDEMPOTENCY_MISMATCH", ["input", "idempotencyKey"])
    ]
    assert _received(portal) == 500


async def test_keys_of_two_customers_are_two(portal: Any, factory: Any) -> None:
    """Their tokens bore the same name one after the other, and each pays an invoice of its own under the same key."""
    other = replace(portal, account=await factory.account())
    for customer in (portal, other):
        portal.door._tokens[Role.CUSTOMER, customer.account.external_id] = await tokens.create(
            "the portal",
            Role.CUSTOMER,
            now=portal.door.clock.now(),
            actor="test",
            account_external_id=customer.account.external_id,
        )
        await customer.save("pm_card_visa" if customer is portal else "pm_card_mastercard")
        invoice = await factory.invoice(customer.account)
        assert (await _paid(customer, invoice))["state"] == "SUCCEEDED"
        assert (await _topped_up(customer))["state"] == "SUCCEEDED"
        await tokens.revoke("the portal", now=portal.door.clock.now(), actor="test")
    assert _received(portal) == 2 * (500 + 2000)


async def test_a_wish_that_arrives_many_times_at_once_is_one(portal: Any, factory: Any, wallet: Any) -> None:
    """One payment; whoever comes too early is told that the first has not ended."""
    await portal.save()
    invoice = await factory.invoice(portal.account)
    await wallet.cash(portal.account, 150)
    answers = await asyncio.gather(*(_paid(portal, invoice) for _ in range(6)))
    assert {code for answer in answers for code, _ in _codes(answer)} <= {"CONFLICT"}
    assert {answer["state"] for answer in answers} <= {"SUCCEEDED", None}
    assert (await _purses(portal), _received(portal)) == ((0, 0), 350)


async def test_many_keys_at_once_pay_once(portal: Any, factory: Any, wallet: Any) -> None:
    """A customer who presses the button again and again is charged once."""
    await portal.save()
    invoice = await factory.invoice(portal.account)
    await wallet.voucher(portal.account, 100)
    await asyncio.gather(*(_paid(portal, invoice, idempotencyKey=f"key-{number}") for number in range(6)))
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    assert (await _purses(portal), _received(portal)) == ((0, 0), 400)
    assert await ledger.proven() == []


class _KilledError(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("trouble", ["before the card", "before the answer was kept"])
async def test_a_request_that_died_is_carried_out_by_the_next(
    portal: Any, factory: Any, wallet: Any, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """The purses are spent and the card is asked once, wherever the process died."""
    await portal.save()
    invoice = await factory.invoice(portal.account)
    await wallet.cash(portal.account, 150)

    async def dies(*_: Any, **__: Any) -> Any:
        raise _KilledError

    with monkeypatch.context() as patch:
        # Who is dead frees no key either.
        patch.setattr(IdempotencyKey, "delete", dies)
        patch.setattr(IdempotencyKey, "filter", _dying(IdempotencyKey.filter))
        if trouble == "before the card":
            patch.setattr(paying, "_by_card", dies)
        with pytest.raises(_KilledError):
            await _paid(portal, invoice)
    assert [code for code, _ in _codes(await _paid(portal, invoice))] == ["CONFLICT"]
    portal.door.clock.advance(timedelta(minutes=2))
    assert (await _paid(portal, invoice))["state"] == "SUCCEEDED"
    assert (await _purses(portal), _received(portal)) == ((0, 0), 350)
    assert len(portal.payments()) == 1


def _dying(_: Any) -> Any:
    def dies(*_: Any, **__: Any) -> Any:
        raise _KilledError

    return dies


async def test_the_card_is_asked_once_although_its_answer_is_lost(portal: Any, factory: Any) -> None:
    """It is processing until somebody has looked; then the same key tells that it was paid."""
    await portal.save()
    invoice = await factory.invoice(portal.account)
    portal.simulator.outage.begin(Trouble.LOST_ANSWER, requests=1, path="/v1/payment_intents")
    assert (await _paid(portal, invoice))["state"] == "PROCESSING"
    portal.door.clock.advance(timedelta(minutes=6))
    await finish_charges(portal.door.ports.cards, portal.door.clock)
    assert (await _paid(portal, invoice))["state"] == "SUCCEEDED"
    assert len(portal.payments()) == 1


async def test_a_voucher_pays_what_settling_spends_none_on(portal: Any, factory: Any, wallet: Any) -> None:
    """Money taken back is owed in cash, unless its customer wants it otherwise."""
    await wallet.voucher(portal.account, 500)
    invoice = await factory.invoice(portal.account, origin=InvoiceOrigin.ADJUSTMENT)
    assert (await _paid(portal, invoice, sources=["VOUCHER"]))["state"] == "SUCCEEDED"
    assert await _purses(portal) == (0, 0)


# ------------------------------------------------------------------------------------------ invoices of the provider


async def _at_stripe(portal: Any, amount: int = 1000, **given: Any) -> Invoice:
    """An overdue invoice of Stripe, as the mirror has it."""
    await Account.filter(id=portal.account.id, stripe_customer_id=None).update(
        stripe_customer_id=portal.simulator.create_customer()["id"]
    )
    customer = (await Account.get(id=portal.account.id)).stripe_customer_id
    due = portal.door.clock.now() - timedelta(days=1)
    made = portal.simulator.create_invoice(customer, amount, due_date=due, **given)
    await _events(portal)
    return await Invoice.get(stripe_invoice_id=made["id"])


async def test_an_invoice_of_stripe_is_paid_in_any_mix(portal: Any, wallet: Any) -> None:
    """The purses' part is told to Stripe, the card pays the rest there, and each is shown as what it was."""
    invoice = await _at_stripe(portal)
    await portal.save("pm_card_chargeCustomerFail")
    await portal.save("pm_card_mastercard", show="card { id }")
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID
    second = await _at_stripe(portal, 1200)
    await wallet.voucher(portal.account, 200)
    await wallet.cash(portal.account, 300)
    card = ids.global_id("Card", (await Card.get(last4="4444")).id)
    payload = await _paid(portal, second, cardId=card)
    assert (payload["errors"], payload["state"]) == ([], "SUCCEEDED")
    assert {one["source"]: one["card"] for one in payload["invoice"]["payments"]} == {
        "VOUCHER": None, "BALANCE": None, "CARD": {"last4": "4444"}
    }  # fmt: skip
    at_stripe = portal.simulator.get("invoice", second.stripe_invoice_id)
    assert (at_stripe["status"], at_stripe["amount_paid"]) == ("paid", 1200)
    assert await _purses(portal) == (0, 0)


async def test_an_invoice_of_stripe_waits_for_the_confirmation_too(portal: Any) -> None:
    """The secret is that of Stripe's own payment; confirmed, the invoice is paid."""
    await portal.save()
    invoice = await _at_stripe(portal)
    portal.simulator.answer_next(REQUIRES_ACTION)
    first = await _paid(portal, invoice)
    assert first["state"] == "REQUIRES_ACTION"
    [payment] = portal.payments("requires_action", "requires_payment_method")
    assert first["clientSecret"] == payment["client_secret"]
    portal.simulator.confirm_payment(payment["id"], (await Card.get()).stripe_payment_method_id)
    done = await _paid(portal, invoice)
    assert (done["state"], done["invoice"]["status"]) == ("SUCCEEDED", "PAID")


async def test_an_invoice_of_stripe_is_on_its_way_while_stripe_is_silent(portal: Any, wallet: Any) -> None:
    """The purse's money is reserved and neither lost nor spent twice; the same key tells when it arrived."""
    invoice = await _at_stripe(portal)
    await wallet.cash(portal.account, 1000)
    portal.simulator.outage.begin(Trouble.UNAVAILABLE)
    payload = await _paid(portal, invoice)
    assert (payload["errors"], payload["state"]) == ([], "PROCESSING")
    assert await _purses(portal) == (0, 0)
    portal.simulator.outage.end()
    portal.door.clock.advance(timedelta(minutes=10))
    assert (await _paid(portal, invoice))["state"] == "SUCCEEDED"
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID


async def test_a_charge_is_made_with_its_customer_there(portal: Any, factory: Any) -> None:
    """On-session, so that the bank may ask for more; settling's own attempts are not."""
    invoice = await factory.invoice(portal.account)
    portal.simulator.answer_next(declines("generic_decline"))
    await portal.save()
    await _paid(portal, invoice)
    assert await Charge.all().order_by("id").values_list("on_session", "state") == [
        (False, ChargeState.FAILED), (True, ChargeState.SUCCEEDED)
    ]  # fmt: skip
