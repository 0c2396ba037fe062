"""The guide for portal developers does what it says: its operations, one after the other, as a portal sends them."""

import re
from pathlib import Path
from typing import Any

from api.graphql import ids, limits, operations, selections
from api.graphql.connections import LARGEST_PAGE
from api.models import Role
from api.ports import Ports
from api.rates import Allowances
from billing.models import Invoice
from billing.money_models import Card
from billing.rules.terms import InvoiceStatus
from simulators.stripe.cards import REQUIRES_ACTION, declines

GUIDE = Path(__file__).parents[3] / "docs" / "portal.md"
BLOCKS = re.findall(r"^```graphql\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
OPERATIONS = {re.findall(r"\w+ (\w+)", block)[0]: block for block in BLOCKS}


async def _sent(portal: Any, name: str, **variables: Any) -> dict[str, Any]:
    """Return the only field of an operation of the guide."""
    account = portal.account.external_id
    [found] = (await portal.door.data(Role.CUSTOMER, OPERATIONS[name], variables, account=account)).values()
    answer: dict[str, Any] = found
    return answer


async def test_every_query_of_the_guide_answers(portal: Any, factory: Any) -> None:
    """Each one that needs no variables, for an account with something of everything."""
    server = await factory.server(portal.account)
    await factory.invoice(portal.account)
    await factory.card(portal.account)
    queries = [name for name, text in OPERATIONS.items() if text.startswith("query") and "$" not in text]
    assert {"Banner", "Servers", "Cards", "Tasks"} <= set(queries)
    for name in queries:
        data = await portal.door.data(Role.CUSTOMER, OPERATIONS[name], account=portal.account.external_id)
        assert data["viewer"]["account"] is not None, name
    assert server.id


async def test_a_card_is_saved_chosen_and_removed_as_the_guide_says(portal: Any) -> None:
    """From the secret of a setup to an empty list."""
    for card in ("pm_card_visa", "pm_card_mastercard"):
        begun = await _sent(portal, "BeginCard")
        portal.simulator.save_card(begun["setupIntentId"], card)
        kept = await _sent(portal, "KeepCard", setupIntentId=begun["setupIntentId"])
        assert (kept["errors"], kept["card"]["isDefault"]) == ([], True)
    visa = ids.global_id("Card", (await Card.get(last4="4242")).id)
    chosen = await _sent(portal, "ChooseCard", cardId=visa)
    assert chosen["account"]["cards"][0] == {"id": visa, "isDefault": True}
    removed = await _sent(portal, "RemoveCard", cardId=visa)
    assert [card["isDefault"] for card in removed["account"]["cards"]] == [True]


async def test_an_invoice_is_paid_with_the_banks_confirmation_as_the_guide_says(
    portal: Any, factory: Any
) -> None:
    """Refused, then with a new key asked for a confirmation, and the same mutation again tells that it is paid."""
    await portal.save()
    invoice = await factory.invoice(portal.account)
    named = {"invoiceId": ids.global_id("Invoice", invoice.id), "sources": ["CARD"], "cardId": None}
    portal.simulator.answer_next(declines("generic_decline"), REQUIRES_ACTION)
    refused = await _sent(portal, "Pay", **named, key="one")
    assert (refused["state"], refused["errors"][0]["code"]) == ("FAILED", "CARD_DECLINED")
    waits = await _sent(portal, "Pay", **named, key="two")
    assert waits["state"] == "REQUIRES_ACTION"
    [task] = (await _sent(portal, "Tasks"))["account"]["tasks"]
    assert task["clientSecret"] == waits["clientSecret"]
    portal.simulator.authenticate(portal.payments("requires_action")[0]["id"])
    paid = await _sent(portal, "Pay", **named, key="two")
    assert (paid["state"], paid["account"]["standing"]["stage"]) == ("SUCCEEDED", "CURRENT")
    assert (await _sent(portal, "Tasks"))["account"]["tasks"] == []
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID


async def test_the_balance_is_topped_up_as_the_guide_says(portal: Any) -> None:
    """What arrived is what the same key tells again."""
    await portal.save()
    for _ in range(2):
        told = await _sent(
            portal, "TopUp", amount={"amount": "20.00", "currency": "EUR"}, cardId=None, key="k"
        )
        assert told["state"] == "SUCCEEDED"
        assert told["account"]["balance"] == {"amount": "20.00", "currency": "EUR"}


def test_the_guide_tells_the_limits_as_they_are() -> None:
    """Each number of its chapter is the one of the code."""
    chapter = GUIDE.read_text(encoding="utf-8").split("## Limits\n")[1].split("\n## ")[0]
    told = Allowances()
    for number, of in (
        (limits.MOST_TOKENS, "tokens"),
        (limits.DEEPEST, "levels"),
        (limits.MOST_ALIASES, "aliases"),
        (selections.MOST_SELECTIONS, "selections"),
        (limits.MOST_ITEMS, "items"),
        (limits.MOST_FIELDS, "fields:"),
        (operations.LARGEST_BODY, "bytes"),
        (Ports.query_timeout.seconds, "seconds"),
        (LARGEST_PAGE, "\nrows"),
        (told.people, "operations"),
        (told.people_fields, "fields a minute"),
        (told.control, f"and {told.control_fields:,}"),
    ):
        assert f"{number:,} {of}".replace(" \n", "\n") in chapter, (number, of)
