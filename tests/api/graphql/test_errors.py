"""What is refused is told in the caller's language: the account's, or the one that a stranger asks for."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids, viewer
from api.graphql.words import words_for
from api.models import Role
from api.rates import Allowances
from billing.models import Account
from billing.rules.terms import InvoiceStatus
from reconciler.rules.terms import Deployment

pytestmark = pytest.mark.usefixtures("sqlite_database")

EUROS, KEY = {"amount": "20.00", "currency": "EUR"}, "7d3c"
TOP_UP: Mapping[str, Any] = {"amount": EUROS, "idempotencyKey": KEY}


def _paid(**given: Any) -> tuple[str, dict[str, Any]]:
    return "invoicePay", {"invoiceId": "OPEN", "idempotencyKey": KEY} | given


#: What a customer asks for wrongly, and the code that it is told; ids in capitals stand for its own things.
WRONG: list[tuple[str, str, Mapping[str, Any]]] = [
    ("NOT_FOUND", "serverPowerSet", {"serverId": "x", "power": "STOPPED"}),
    ("GATE_REFUSED", "serverPowerSet", {"serverId": "RETIRED", "power": "STOPPED"}),
    ("CONFLICT", "serverPowerSet", {"serverId": "NEW", "power": "STOPPED"}),
    ("NOT_FOUND", "cardSetupBegin", {"accountId": "x"}),
    ("INVALID", "cardAdd", {"setupIntentId": "nonsense"}),
    ("INVALID", "cardAdd", {"setupIntentId": "seti_unknown"}),
    ("NOT_FOUND", "cardSetDefault", {"cardId": "x"}),
    ("NOT_FOUND", "cardRemove", {"cardId": "x"}),
    ("NOT_FOUND", "balanceTopUp", TOP_UP),
    ("NOT_FOUND", "balanceTopUp", TOP_UP | {"accountId": "x"}),
    ("NOT_FOUND", "balanceTopUp", TOP_UP | {"cardId": "x"}),
    ("INVALID", "balanceTopUp", TOP_UP | {"idempotencyKey": ""}),
    ("INVALID", "balanceTopUp", TOP_UP | {"amount": {"amount": "20", "currency": "EUR"}}),
    ("INVALID", "balanceTopUp", TOP_UP | {"amount": {"amount": "20.00", "currency": "JPY"}}),
    ("INVALID", "balanceTopUp", TOP_UP | {"amount": {"amount": "-20.00", "currency": "EUR"}}),
    ("INVALID", "balanceTopUp", TOP_UP | {"amount": {"amount": "9" * 40, "currency": "EUR"}}),
    ("INVALID", "balanceTopUp", TOP_UP | {"amount": {"amount": "9" * 20 + ".00", "currency": "EUR"}}),
    ("INVALID", "balanceTopUp", TOP_UP | {"amount": {"amount": "20.00", "currency": "xxx"}}),
    ("INVALID", "balanceTopUp", TOP_UP | {"amount": {"amount": "0.01", "currency": "EUR"}}),
    ("INVALID", "balanceTopUp", TOP_UP | {"amount": {"amount": "9999999.00", "currency": "EUR"}}),
    ("CURRENCY_MISMATCH", "balanceTopUp", TOP_UP | {"amount": {"amount": "20.00", "currency": "USD"}}),
    ("NOT_FOUND", *_paid(invoiceId="x")),
    ("INVALID", *_paid(sources=[])),
    ("INVALID", *_paid(sources=["BALANCE"], cardId="x")),
    ("INVALID", *_paid(idempotencyKey="")),
    ("INVOICE_NOT_OPEN", *_paid(invoiceId="PAID")),
    ("INSUFFICIENT_FUNDS", *_paid(sources=["BALANCE", "VOUCHER"])),
    ("NOT_FOUND", *_paid(sources=["CARD"])),
    ("VOUCHER_UNKNOWN", "voucherRedeem", {"code": "WRONG", "idempotencyKey": KEY}),
    ("INVALID", "voucherRedeem", {"code": "WRONG", "idempotencyKey": ""}),
    ("NOT_FOUND", "voucherRedeem", {"code": "WRONG", "idempotencyKey": KEY, "accountId": "x"}),
    ("FORBIDDEN", "graceRequest", {"until": "2026-11-22T00:00:00Z"}),
    ("NOT_FOUND", "graceRequest", {"until": "2026-11-22T00:00:00Z", "accountId": "x"}),
    ("EXPIRY_IN_PAST", "graceRequest", {"until": "2026-11-01T00:00:00Z"}),
    ("EXPIRY_TOO_LATE", "graceRequest", {"until": "2027-11-01T00:00:00Z"}),
]  # fmt: skip


class Wrongdoer:
    """A customer who asks wrongly."""

    def __init__(self, portal: Any, factory: Any) -> None:
        self.portal, self.factory, self.door = portal, factory, portal.door
        self.names: dict[str, str] = {}

    async def comes(self, locale: str, *, policy: str = "standard") -> None:
        """Be another account, in this language, with a server and invoices in every state that matters."""
        account: Account = await self.factory.account(locale=locale, policy=policy)
        new = await self.factory.server(account, deployment=Deployment.IN_PROGRESS, guest=None)
        gone = await self.factory.server(account, retired_at=self.door.clock.now())
        later = self.door.clock.now() + timedelta(days=9)
        open_ = await self.factory.invoice(account, overdue_at=later, overdue_seen_at=None)
        paid = await self.factory.invoice(
            account, status=InvoiceStatus.PAID, amount_due=0, amount_paid=500, overdue_seen_at=None,
            paid_at=self.door.clock.now(),
        )  # fmt: skip
        self.portal.account = account
        self.names = {
            "NEW": ids.global_id("Server", new.id), "RETIRED": ids.global_id("Server", gone.id),
            "OPEN": ids.global_id("Invoice", open_.id), "PAID": ids.global_id("Invoice", paid.id),
        }  # fmt: skip

    async def asks(self, mutation: str, given: Mapping[str, Any]) -> tuple[str, str]:
        """Return code and words of the one refusal of a mutation."""
        named = {
            name: self.names.get(value, value) if isinstance(value, str) else value
            for name, value in given.items()
        }
        [error] = (await self.portal.do(mutation, named))["errors"]
        return error["code"], error["message"]


@pytest.fixture
def wrongdoer(portal: Any, factory: Any) -> Wrongdoer:
    """Asks wrongly, as whomever it comes."""
    portal.door.ports = replace(portal.door.ports, allowances=Allowances(people=10**6, control=10**6))
    return Wrongdoer(portal, factory)


async def test_every_refusal_of_a_customer_is_in_its_language(wrongdoer: Wrongdoer) -> None:
    """Each of its mutations, wrongly asked in every way: the same codes, other words."""
    told: dict[str, list[tuple[str, str]]] = {}
    for locale in ("de", "en"):
        told[locale] = []
        for _, mutation, given in WRONG:
            policy = "considerate" if mutation == "graceRequest" and "accountId" not in given else "standard"
            policy = "standard" if given.get("until") == "2026-11-22T00:00:00Z" else policy
            await wrongdoer.comes(locale, policy=policy)
            told[locale].append(await wrongdoer.asks(mutation, given))
    assert [code for code, _ in told["de"]] == [code for code, _, _ in WRONG]
    assert [code for code, _ in told["en"]] == [code for code, _ in told["de"]]
    same = [
        words for (_, words), (_, english) in zip(told["de"], told["en"], strict=True) if words == english
    ]
    assert same == []
    assert "Ein Betrag in EUR hat genau 2 Stellen nach dem Punkt, etwa 12.50." in [
        one for _, one in told["de"]
    ]


async def test_a_key_that_was_used_is_refused_in_the_customers_language(wrongdoer: Wrongdoer) -> None:
    """For another top-up, for another invoice's payment, and while the first request goes on."""
    await wrongdoer.comes("de")
    await wrongdoer.portal.save()
    assert (await wrongdoer.portal.do("balanceTopUp", TOP_UP))["errors"] == []
    other = TOP_UP | {"amount": {"amount": "30.00", "currency": "EUR"}}
    code, words = await wrongdoer.asks("balanceTopUp", other)
    assert code == "IDEMPOTENCY_MISMATCH"
    assert words == "Dieser Schlüssel wurde schon für eine andere Anfrage verwendet; nehmen Sie einen neuen."


async def _error(door: Any, query: str, account: str, **headers: str) -> dict[str, Any]:
    token = await door.token(Role.CUSTOMER, account)
    answer = (await door.post({"query": query}, token=token, headers=headers)).json()
    error: dict[str, Any] = answer["errors"][0]
    return error


async def test_errors_on_top_are_in_the_language_of_the_account(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is too large, a list that cannot go on, too long a search, and a fault of ours; codes stay codes."""
    account = await factory.account(locale="de-AT")
    own = account.external_id
    for query, code, words in (
        ("{ servers(first: 999) { totalCount } }", "LIMIT_EXCEEDED", "Fragen Sie nach 1 bis 100 Zeilen."),
        ('{ servers(after: "x") { totalCount } }', "BAD_CURSOR", "Die Liste lässt sich von hier aus nicht"),
        (
            f'{{ servers(filter: {{search: "{"x" * 300}"}}) {{ totalCount }} }}',
            "LIMIT_EXCEEDED",
            "Suchen Sie",
        ),
    ):
        error = await _error(door, query, own, **{"Accept-Language": "en"})
        assert error["extensions"]["code"] == code
        assert error["message"].startswith(words)

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(viewer, "permitted", broken)
    error = await _error(door, "{ viewer { permissions } }", own)
    assert (
        error["message"]
        == f"Bei uns ist etwas schiefgegangen; die Nummer dazu ist {error['extensions']['id']}."
    )


async def test_staff_reads_errors_in_english(door: Any) -> None:
    """Whatever its browser asks for."""
    answer = await door.post(
        {"query": '{ servers(after: "x") { totalCount } }'}, token=await door.token(Role.SUPPORT),
        headers={"Accept-Language": "de"},
    )  # fmt: skip
    assert answer.json()["errors"][0]["message"] == "The list cannot be continued from here; begin again."


async def test_a_stranger_is_answered_in_the_language_that_it_asks_for(door: Any) -> None:
    """Of whom no account is known: who is signed out, who asks too often, and whose account does not exist yet."""
    german = {"Accept-Language": "fr-CH, de;q=0.9, en;q=0.8"}
    answer = await door.post({"query": "{ viewer { role } }"}, headers=german)
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    assert answer.json()["errors"][0]["message"].startswith("Melden Sie sich an")
    plain = await door.post({"query": "{ viewer { role } }"})
    assert plain.json()["errors"][0]["message"].startswith("Sign in")
    top_up = "mutation($i: BalanceTopUpInput!) { balanceTopUp(input: $i) { errors { code message } } }"
    token = await door.token(Role.CUSTOMER, "not-yet")
    told = (
        await door.post({"query": top_up, "variables": {"i": TOP_UP}}, token=token, headers=german)
    ).json()
    assert told["data"]["balanceTopUp"]["errors"] == [
        {"code": "INVALID", "message": "Geben Sie an, welches Konto gemeint ist."}
    ]
    door.ports = replace(door.ports, allowances=Allowances(people=1, control=1, strangers=1))
    answers = [await door.post({"query": "{ viewer { role } }"}, headers=german) for _ in range(30)]
    limited = next(one for one in answers if one.status_code == 429)
    assert limited.json()["errors"][0]["message"].startswith("Sie fragen zu oft; fragen Sie in ")


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "en"), ("", "en"), ("de", "de"), ("DE-at", "de"), ("fr, de;q=0.1", "de"), ("en, de", "en"),
        ("en;q=0.5, de;q=0.6", "de"), ("de;q=0, en", "en"), ("de;q=0", "en"), ("de;q=nonsense", "en"),
        ("*", "en"), ("de;q=1.000", "de"), (",;=" * 99 + "de", "en"), ("../../de", "en"),
    ],
)  # fmt: skip
def test_it_takes_the_best_language_that_there_is(accepted: str | None, language: str) -> None:
    """By weight, the first of several; what cannot be read is passed over."""
    assert words_for(accepted).language == language
