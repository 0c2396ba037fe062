"""In which language an answer is: the customer's for customers and the control plane, English for staff."""

from datetime import timedelta
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing.models import Account
from billing.money_models import ChargeState
from billing.rules.terms import HoldCause, NoticeState, Stage
from reconciler.models import Server
from reconciler.rules.terms import Power

pytestmark = pytest.mark.usefixtures("sqlite_database")

QUERY = """query($id: String!) { account(externalId: $id) {
  standing { reasonCode reason }
  announcement { code title body action actionLabel stillWorks }
  deploy: gate(action: DEPLOY) { code message remedy }
  tasks { kind message }
  servers(first: 1) { edges { node { gate(action: START) { code message remedy } } } }
} }"""
GATES = """query($id: String!) { account(externalId: $id) {
  deploy: gate(action: DEPLOY) { code message remedy }
} }"""


@pytest.fixture
async def suspended(factory: Any, clock: Any) -> Account:
    """A suspended account in Vienna with a payment to confirm.

    Of its servers, its owner's abuse holds the first, one is stopped for the debt, and two were off already.
    """
    account: Account = await factory.account(locale="de-AT", time_zone="Europe/Vienna")
    since = clock.now() - timedelta(hours=130)
    invoice = await factory.invoice(account, overdue_at=since, total=1234560, amount_due=1234560)
    episode = await factory.episode(
        account, started_at=since, admitted=Stage.SUSPENDED, admitted_at=clock.now()
    )
    await factory.notice(
        account, episode_id=episode.id, stage=Stage.SUSPENDED, invoice_ids=[invoice.id],
        state=NoticeState.DELIVERED, created_at=since, delivered_at=since + timedelta(minutes=1),
    )  # fmt: skip
    server = await factory.server(account)
    await factory.hold(server, cause=HoldCause.ABUSE, reason="a report")
    for power in (Power.RUNNING, Power.STOPPED, Power.STOPPED):
        delinquent = await factory.server(account)
        await factory.hold(delinquent)
        await factory.observation(delinquent, power=power)
    card = await factory.card(account)
    await factory.charge(card, state=ChargeState.REQUIRES_ACTION, amount=500, stripe_payment_intent_id="pi_1")
    return account


async def _seen(door: Any, account: Account, role: Role, query: str = QUERY) -> dict[str, Any]:
    own = account.external_id if role is Role.CUSTOMER else None
    return dict((await door.data(role, query, {"id": account.external_id}, account=own))["account"])


async def test_a_customer_reads_the_language_of_the_account(door: Any, suspended: Account) -> None:
    """Announcement, gates, tasks and reasons, with its amounts and in its zone; codes are the same for everybody."""
    seen = await _seen(door, suspended, Role.CUSTOMER)
    assert seen["standing"] == {
        "reasonCode": "overdue", "reason": "Überfällig seit dem 15. November 2026, 00:00 Uhr MEZ.",
    }  # fmt: skip
    assert seen["announcement"] == {
        "code": "SUSPENDED",
        "title": "Ihr Konto ist gesperrt",
        "body": "Es sind € 12.345,60 überfällig. Die Backups von 3 Ihrer Server bleiben erhalten und sind gesperrt. "
        "Einer Ihrer Server ist angehalten. 2 Ihrer Server waren schon aus; sie bleiben aus und können nicht "
        "gestartet werden, bis die Sache erledigt ist. "
        "Änderungen am Konto sind gesperrt; zahlen können Sie jederzeit. Einer Ihrer Server bleibt "
        "aus einem anderen Grund eingeschränkt, den Ihnen unser Support nennen kann. "
        "Nichts wird gelöscht, und mit Ihrer Zahlung kommt alles andere von selbst zurück.",
        "action": "PAY",
        "actionLabel": "Jetzt zahlen",
        "stillWorks": [
            "Zahlen, Karten, Gutscheine und Aufladen",
            "Ihre Dateien lesen und herunterladen",
            "Ihre Backups bleiben erhalten",
        ],
    }
    assert seen["deploy"] == {
        "code": "ACCOUNT_SUSPENDED",
        "message": "Das Konto ist gesperrt, weil eine Zahlung überfällig ist.",
        "remedy": "Zahlen Sie, was überfällig ist; dann öffnet sich alles von selbst wieder.",
    }
    assert seen["tasks"] == [
        {
            "kind": "CONFIRM_PAYMENT",
            "message": "Ihre Bank möchte, dass Sie eine Zahlung über € 5,00 bestätigen.",
        }
    ]
    [edge] = seen["servers"]["edges"]
    assert edge["node"]["gate"] == {
        "code": "SERVER_HELD",
        "message": "Dieser Server ist wegen einer Missbrauchsmeldung gesperrt.",
        "remedy": "Antworten Sie auf die Meldung oder wenden Sie sich an den Support.",
    }


async def test_staff_reads_english(door: Any, suspended: Account) -> None:
    """Whoever helps customers of many languages reads one; the codes are the same."""
    ours, theirs = await _seen(door, suspended, Role.SUPPORT), await _seen(door, suspended, Role.CUSTOMER)
    assert ours["announcement"]["title"] == "Your account is suspended"
    assert "€12,345.60 is overdue." in ours["announcement"]["body"]
    assert ours["deploy"]["message"] == "The account is suspended because a payment is overdue."
    assert ours["tasks"][0]["message"] == "Your bank wants you to confirm a payment of €5.00."
    assert [ours[part]["code"] for part in ("announcement", "deploy")] == [
        theirs[part]["code"] for part in ("announcement", "deploy")
    ]


async def test_the_control_plane_reads_what_its_customer_is_to_read(door: Any, suspended: Account) -> None:
    """It shows the answers of the gates to the account's customer."""
    seen = await _seen(door, suspended, Role.CONTROL, GATES)
    assert seen["deploy"]["message"] == "Das Konto ist gesperrt, weil eine Zahlung überfällig ist."


async def test_an_explanation_is_in_the_language_of_the_account(door: Any, suspended: Account) -> None:
    """Each rule in the customer's words, the stages by their names; the names of the rules stay as they are."""
    query = """query($id: String!) { account(externalId: $id) {
      explanation { rule text because { rule text } }
      servers(first: 1) { edges { node { explanation { rule text } } } } } }"""
    seen = await _seen(door, suspended, Role.CUSTOMER, query)
    [standing] = seen["explanation"]
    assert (standing["rule"], standing["text"]) == ("standing", "Das Konto steht auf „gesperrt“.")
    assert {one["rule"]: one["text"] for one in standing["because"]} == {
        "ladder.overdue": "Überfällig seit dem 15. November 2026, 00:00 Uhr MEZ.",
        "ladder.debt": "Eine Rechnung ist überfällig; die älteste entscheidet.",
        "ladder.age": "Gezählt wird ab dem 15. November 2026, 00:00 Uhr MEZ; "
        "„gesperrt“ kommt frühestens nach 120 Stunden.",
        "ladder.notice": "Eine Nachricht darüber wurde zugestellt.",
        "ladder.next": "„Aufbewahrung“ folgt am 15. Dezember 2026, 00:00 Uhr MEZ, wenn die Sache offen bleibt.",
    }
    [edge] = seen["servers"]["edges"]
    told = {one["rule"]: one["text"] for one in edge["node"]["explanation"]}
    assert told["hold.abuse"] == (
        "Dieser Server ist wegen einer Missbrauchsmeldung gesperrt. "
        "Unsere Mitarbeiter heben das auf, wenn die Sache geklärt ist; eine Zahlung tut es nicht."
    )
    staff = await _seen(door, suspended, Role.SUPPORT, query)
    assert staff["explanation"][0]["text"] == "The account stands at “suspended”."
    assert "15 December 2026, 00:00 CET" in staff["explanation"][0]["because"][-1]["text"]


async def test_a_refusal_is_in_the_callers_language(door: Any, suspended: Account) -> None:
    """A wrong code, and a gate that is closed, with its own words; the codes are the same for everybody."""
    own = suspended.external_id
    redeem = """mutation($code: String!) { voucherRedeem(input: {code: $code, idempotencyKey: $code}) {
      errors { code message path } } }"""
    data = await door.data(Role.CUSTOMER, redeem, {"code": "WRONG"}, account=own)
    assert data["voucherRedeem"]["errors"] == [
        {
            "code": "VOUCHER_UNKNOWN",
            "message": "Das ist kein Code eines Gutscheins; prüfen Sie jedes Zeichen.",
            "path": ["input", "code"],
        }
    ]
    server = await Server.filter(account_id=suspended.id).order_by("id").first()
    assert server is not None
    power = """mutation($id: ID!) { serverPowerSet(input: {serverId: $id, power: RUNNING}) {
      errors { code message gate { code message } } } }"""
    data = await door.data(Role.CUSTOMER, power, {"id": ids.global_id("Server", server.id)}, account=own)
    held = "Dieser Server ist wegen einer Missbrauchsmeldung gesperrt."
    assert data["serverPowerSet"]["errors"] == [
        {"code": "GATE_REFUSED", "message": held, "gate": {"code": "SERVER_HELD", "message": held}}
    ]
    redeem = redeem.replace(
        "voucherRedeem(input: {", f'voucherRedeem(input: {{accountId: "{_id(suspended)}", '
    )
    data = await door.data(Role.SUPPORT, redeem, {"code": "WRONG"})
    assert (
        data["voucherRedeem"]["errors"][0]["message"] == "This is no code of a voucher; check each character."
    )


async def test_a_refusal_for_trying_too_often_is_in_the_callers_language(
    door: Any, suspended: Account
) -> None:
    """With the time in the customer's zone, and as data for programs."""
    redeem = """mutation($code: String!) { voucherRedeem(input: {code: $code, idempotencyKey: $code}) {
      errors { code } } }"""
    for number in range(20):
        answer = await door.ask(
            Role.CUSTOMER, redeem, {"code": f"WRONG-{number}"}, account=suspended.external_id
        )
        if answer.get("errors"):
            break
    [error] = answer["errors"]
    assert error["extensions"]["code"] == "RATE_LIMITED"
    assert error["message"].startswith(
        "Es wurden zu viele falsche Codes eingegeben. Versuchen Sie es nach dem 20. November"
    )
    assert error["message"].endswith(" Uhr MEZ noch einmal.")


def _id(account: Account) -> str:
    return ids.global_id("Account", account.id)


@pytest.mark.parametrize("locale", ["fo-FO", "xx", "en-GB"])
async def test_whose_language_we_do_not_speak_reads_english(door: Any, factory: Any, locale: str) -> None:
    """The locale itself stays as it was given."""
    account = await factory.account(locale=locale)
    seen = await _seen(door, account, Role.CUSTOMER, GATES)
    assert seen["deploy"]["message"] == "This is possible."
