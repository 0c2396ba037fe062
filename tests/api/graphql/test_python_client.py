"""The committed Python client asks the application over a real socket, as a portal's server would."""

import importlib
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.graphql import ids
from api.models import Role
from billing.models import Invoice
from billing.rules.terms import InvoiceStatus, Stage
from simulators.stripe.cards import REQUIRES_ACTION, declines

CLIENT = Path(__file__).parents[3] / "clients" / "python"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example beside the client, which imports the client."""
    monkeypatch.syspath_prepend(str(CLIENT))
    return importlib.import_module("portal_example")


@pytest.fixture
def enums(example: Any) -> Any:
    """The enums of the client."""
    return sys.modules["abeyance_client.enums"]


async def test_it_reads_the_home_page_and_what_a_gate_refuses(
    portal: Any, factory: Any, example: Any, enums: Any
) -> None:
    """A suspended account, with its announcement, its stopped server and why it cannot be started."""
    server = await factory.server(portal.account, name="web-1")
    invoice = await factory.owing(portal.account, Stage.SUSPENDED, hours=130)
    await factory.hold(server)
    token = await portal.door.token(Role.CUSTOMER, portal.account.external_id)
    async with portal.door.listening() as url, example.client(url, token) as api:
        account = (await api.portal_home()).viewer.account
        lines = await example.page(api)
    assert account.standing.stage is enums.Stage.SUSPENDED
    assert account.invoices.edges[0].node.total.amount == invoice.total / 100
    [gate] = [one for one in account.servers.edges[0].node.gates if one.action is enums.GateAction.START]
    assert (gate.allowed, gate.code) == (False, enums.GateCode.ACCOUNT_SUSPENDED)
    assert lines[0] == portal.account.name
    assert lines[1].startswith("CRITICAL: ")
    assert lines[2:] == ["web-1 is DELINQUENT", f"  no START: {gate.message}"]


async def test_it_pays_an_invoice_with_the_banks_confirmation(
    portal: Any, factory: Any, example: Any
) -> None:
    """Refused with a code, then with a new key confirmed, and the same key tells that it is paid."""
    await portal.save()
    invoice = await factory.invoice(portal.account)
    wanted = ids.global_id("Invoice", invoice.id)
    portal.simulator.answer_next(declines("generic_decline"), REQUIRES_ACTION)
    token = await portal.door.token(Role.CUSTOMER, portal.account.external_id)
    async with portal.door.listening() as url, example.client(url, token) as api:
        assert await example.pay(api, wanted, "one") == "offer another card, with a new key"
        assert (await example.pay(api, wanted, "two")).startswith("confirm at the bank")
        portal.simulator.authenticate(portal.payments("requires_action")[0]["id"])
        assert await example.pay(api, wanted, "two") == "paid"
    assert (await Invoice.get(id=invoice.id)).status is InvoiceStatus.PAID


async def test_it_is_told_why_it_was_not_answered(portal: Any, example: Any) -> None:
    """A wrong token is an error of HTTP, a missing object none at all, and a wrong wish has its code."""
    token = await portal.door.token(Role.CUSTOMER, portal.account.external_id)
    async with portal.door.listening() as url:
        async with example.client(url, "nobody") as api:
            with pytest.raises(sys.modules["abeyance_client"].GraphQLClientHttpError) as refused:
                await api.banner()
        assert refused.value.response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        async with example.client(url, token) as api:
            assert (await api.why(ids.global_id("Server", 999))).server is None
            redeemed = (await api.redeem(code="WRONG", key="k")).voucher_redeem
    assert [error.code.value for error in redeemed.errors] == ["VOUCHER_UNKNOWN"]


async def test_it_is_sent_what_changes(portal: Any, example: Any, enums: Any) -> None:
    """The subscription of the guide speaks first of how it is now."""
    token = await portal.door.token(Role.CUSTOMER, portal.account.external_id)
    async with portal.door.listening() as url, example.client(url, token) as api:
        async for told in api.live():
            assert told.account_changed.standing.stage is enums.Stage.CURRENT
            break


async def test_a_value_that_it_does_not_know_is_another(example: Any, enums: Any) -> None:
    """A newer API makes no answer unreadable: whatever is new in an enum is `OTHER`."""
    answer = {"data": {"viewer": {"account": {"announcement": {
        "severity": "CATASTROPHE", "code": "NEW", "title": "t", "body": "b", "deadline": None,
        "since": "2026-11-20T09:00:00Z", "action": "DANCE", "actionLabel": "a", "stillWorks": [], "andMore": 1,
    }}}}}  # fmt: skip
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    async with httpx.AsyncClient(transport=transport) as http:
        client = sys.modules["abeyance_client"].AbeyanceClient("http://api.test/graphql", http_client=http)
        announcement = (await client.banner()).viewer.account.announcement
    assert announcement.severity is enums.Severity.OTHER
