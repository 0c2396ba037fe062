"""Who sees what: another customer's objects like missing ones, and each role no more than its share."""

import json
from typing import Any

import pytest
from graphql import ValidationRule

from api.graphql import ids
from api.graphql.scope import Scope
from api.models import Role
from billing import ledger
from billing.ledger import Move
from billing.models import AuditEntry, Episode
from billing.money_models import LedgerKind, TransactionKind, Voucher
from billing.rules.terms import HoldCause, InvoiceStatus, Stage
from reconciler.models import Hold, PlanSnapshot, Server
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def _furnished(factory: Any) -> Server:
    """An account with something of every kind that a customer can see."""
    server: Server = await factory.furnished()
    account = await server.account
    card = await factory.card(account)
    await factory.charge(card, state="REQUIRES_ACTION", stripe_payment_intent_id=f"pi_{card.id}")
    await AuditEntry.create(
        at=account.created_at,
        actor="admin:anna",
        kind="x",
        account_id=account.id,
        subject_type="Server",
        subject_id=str(server.id),
        reason="r",
    )
    voucher = await Voucher.create(
        code_hash=f"{account.id:064d}", value=500, currency=account.currency, issued_by="admin:anna",
        issued_at=account.created_at, redeemed_at=account.created_at, redeemed_by=account, note="a note for staff",
    )  # fmt: skip
    await ledger.book(
        TransactionKind.VOUCHER_REDEEMED, account.id,
        [Move(debit=LedgerKind.VOUCHERS_ISSUED, credit=LedgerKind.VOUCHER, amount=500)],
        fact=("voucher", str(voucher.id)), at=account.created_at, actor="customer", description="Voucher",
        voucher_id=voucher.id,
    )  # fmt: skip
    return server


EVERYTHING = """
query($id: ID!, $name: String!) {
  node(id: $id) { id __typename }
  account(id: $id) { id }
  byName: account(externalId: $name) { id }
  server(id: $id) { id }
  serverByName: server(externalId: $name) { id }
  serversByExternalId(externalIds: [$name]) { id }
  invoice(id: $id) { id }
}
"""


async def test_another_customers_object_is_answered_like_one_that_does_not_exist(
    door: Any, factory: Any
) -> None:
    """It gives the same bytes for both, by id, by external id and by name, whatever the type."""
    mine, other = await _furnished(factory), await _furnished(factory)
    customer = (await mine.account).external_id
    theirs = await other.account
    token = await door.token(Role.CUSTOMER, customer)
    for noun, key, name in [
        ("Account", theirs.id, theirs.external_id),
        ("Server", other.id, other.external_id),
        ("Invoice", 2, "x"),
        ("Card", 2, "x"),
        ("Override", 2, "x"),
        ("Notice", 2, "x"),
        ("Voucher", 2, "x"),
        ("LedgerEntry", 2, "x"),
        ("AuditEntry", 4, "x"),
        ("WorkItem", 1, "x"),
        ("Approval", 1, "x"),
        ("Run", 1, "x"),
        ("PlanStep", "1.1", "x"),
        ("Nonsense", 1, "x"),
    ]:
        there = await door.post(
            {"query": EVERYTHING, "variables": {"id": ids.global_id(noun, key), "name": name}}, token=token
        )
        missing = await door.post(
            {"query": EVERYTHING, "variables": {"id": ids.global_id(noun, 999_999), "name": "missing"}},
            token=token,
        )
        garbage = await door.post(
            {"query": EVERYTHING, "variables": {"id": "garbage", "name": "missing"}}, token=token
        )
        assert there.content == missing.content == garbage.content, noun
        assert there.json()["data"]["node"] is None


async def test_a_customer_changes_nothing_of_another(door: Any, factory: Any) -> None:
    """It refuses another customer's server with the same bytes as a missing one, and holds nothing."""
    mine, other = await _furnished(factory), await _furnished(factory)
    before = await Hold.all().count()
    customer = (await mine.account).external_id
    answers = [
        await door.do(
            Role.CUSTOMER,
            "serverPowerSet",
            {"serverId": ids.global_id("Server", key), "power": "STOPPED"},
            account=customer,
            show="server { id }",
        )
        for key in (other.id, 999_999)
    ]
    assert json.dumps(answers[0]) == json.dumps(answers[1])
    assert answers[0]["errors"][0]["code"] == "NOT_FOUND"
    assert await Hold.all().count() == before


WALK = """
{ accounts { totalCount edges { node {
    id externalId
    invoices { totalCount edges { node { id account { id } } } }
    servers { totalCount edges { node { id account { id } } } }
    notices { totalCount edges { node { id account { id } } } }
    overrides { id account { id } }
    cards { id } tasks { message invoice { id } clientSecret }
    vouchers(first: 3) { totalCount edges { node { id note redeemedBy { id } } } }
    ledger(first: 3) { totalCount edges { node { id voucher { id redeemedBy { id } } invoice { id } } } }
    history { totalCount edges { node { id actor before after subjectId subject { id } } } } } } }
  servers { totalCount edges { node { id history { totalCount edges { node { actor } } } holds { by } } } }
  invoices { totalCount edges { node { id } } }
  vouchers { totalCount edges { node { id redeemedBy { id } } } } }
"""


async def test_no_edge_leads_to_another_customer(door: Any, factory: Any) -> None:
    """It counts and lists the customer's own and nothing else, from every root."""
    mine, other = await _furnished(factory), await _furnished(factory)
    account = await mine.account
    data = await door.data(Role.CUSTOMER, WALK, account=account.external_id)
    assert (
        data["accounts"]["totalCount"] == data["servers"]["totalCount"] == data["invoices"]["totalCount"] == 1
    )
    node = data["accounts"]["edges"][0]["node"]
    assert node["externalId"] == account.external_id
    assert (len(node["cards"]), len(node["tasks"])) == (1, 1)
    lists = ("invoices", "servers", "notices", "history", "vouchers", "ledger")
    assert {name: node[name]["totalCount"] for name in lists} == dict.fromkeys(lists, 1)
    assert data["vouchers"]["totalCount"] == 1
    text = json.dumps(data)
    theirs = [("Account", (await other.account).id), ("Server", other.id)]
    for noun, key in (*theirs, *((noun, 2) for noun in ("Invoice", "Card", "Voucher", "LedgerEntry"))):
        assert ids.global_id(noun, key) not in text


@pytest.mark.parametrize("listing", ["servers", "invoices"])
async def test_a_filter_reaches_no_other_customer(door: Any, factory: Any, listing: str) -> None:
    """It finds nothing under another account's id."""
    mine, other = await _furnished(factory), await _furnished(factory)
    query = f"query($id: ID) {{ {listing}(filter: {{accountId: $id}}) {{ totalCount edges {{ cursor }} }} }}"
    found = await door.data(
        Role.CUSTOMER,
        query,
        {"id": ids.global_id("Account", (await other.account).id)},
        account=(await mine.account).external_id,
    )
    assert found[listing] == {"totalCount": 0, "edges": []}


async def test_a_customer_is_not_told_the_names_of_the_staff(door: Any, factory: Any) -> None:
    """It says that the staff did it, and keeps what was changed to itself; staff see both."""
    server = await _furnished(factory)
    await Hold.create(
        server=server, cause=HoldCause.ADMIN, reason="r", placed_by="admin:anna", since=server.created_at
    )
    account = (await server.account).external_id
    told = json.dumps(await door.data(Role.CUSTOMER, WALK, account=account))
    assert "anna" not in told
    assert "a note for staff" not in told
    assert '"actor": "staff"' in told
    seen = json.dumps(await door.data(Role.SUPPORT, WALK))
    assert "anna" in seen
    assert "a note for staff" in seen


async def test_a_customer_sees_no_drafts_and_no_messages_to_staff(door: Any, factory: Any) -> None:
    """It leaves out what is not meant for customers."""
    account = await factory.account()
    await factory.invoice(account, status=InvoiceStatus.DRAFT, amount_due=0)
    await factory.notice(account, channel="staff")
    query = "{ viewer { account { invoices { totalCount } notices { totalCount } } } }"
    seen = (await door.data(Role.CUSTOMER, query, account=account.external_id))["viewer"]["account"]
    assert seen == {"invoices": {"totalCount": 0}, "notices": {"totalCount": 0}}


async def test_it_is_the_tenant_filter_that_hides_them(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows both customers once the filter is taken out: the tests above can fail."""
    mine, _ = await _furnished(factory), await _furnished(factory)
    monkeypatch.setattr(Scope, "is_customer", False)
    data = await door.data(Role.CUSTOMER, WALK, account=(await mine.account).external_id)
    assert (
        data["accounts"]["totalCount"] == data["servers"]["totalCount"] == data["invoices"]["totalCount"] == 2
    )


async def test_a_token_of_an_account_that_is_not_there_sees_nothing(door: Any, factory: Any) -> None:
    """It is nobody's until the account exists."""
    await _furnished(factory)
    data = await door.data(Role.CUSTOMER, WALK, account="not-yet")
    assert data["accounts"]["totalCount"] == data["servers"]["totalCount"] == 0


async def test_infra_sees_servers_without_personal_data(door: Any, factory: Any) -> None:
    """It reads servers, plans and runs; names, addresses, amounts and notices are refused."""
    server = await _furnished(factory)
    query = "{ servers { edges { node { externalId guest status account { externalId } explanation { text } } } } }"
    seen = await door.data(Role.INFRA, query)
    assert seen["servers"]["edges"][0]["node"]["externalId"] == server.external_id
    for field in (
        "name",
        "email",
        "billingEmails",
        "invoices { totalCount }",
        "cards { last4 }",
        "tasks { kind }",
        "notices { totalCount }",
        "balance { amount }",
        "ledger { totalCount }",
    ):
        query = f"{{ servers {{ edges {{ node {{ account {{ {field} }} }} }} }} }}"
        assert await door.code(Role.INFRA, query) == "FORBIDDEN"


async def test_infra_finds_nobody_by_name(door: Any, factory: Any) -> None:
    """It searches no personal data either: a count would tell as much as the name."""
    await factory.account(name="Unmistakable")
    await factory.server(name="unmistakable-name")
    for role, found in ((Role.INFRA, 0), (Role.SUPPORT, 1)):
        query = '{ servers(filter: {search: "unmistakable"}) { totalCount } }'
        assert (await door.data(role, query))["servers"]["totalCount"] == found


async def test_control_sees_gates_without_money(door: Any, factory: Any) -> None:
    """It reads standing and gates; debts, invoices and prices are refused, and no text names an amount."""
    server = await _furnished(factory)
    await Episode.all().update(admitted=Stage.SUSPENDED)
    query = """query($names: [String!]!) { serversByExternalId(externalIds: $names) {
      status gates { action allowed code message remedy } explanation { text value ref { id } }
      account { name gate(action: DEPLOY) { code }
        standing { stage effects reasonCode reason next { stage at } } } } }"""
    seen = await door.data(Role.CONTROL, query, {"names": [server.external_id, "missing"]})
    assert seen["serversByExternalId"][1] is None
    assert "5.00" not in json.dumps(seen)
    assert ids.global_id("Invoice", 1) not in json.dumps(seen)
    for field in (
        "account { standing { debt { amounts { amount } } } }",
        "price { amount }",
        "account { announcement { body } }",
        "account { cards { last4 } }",
        "account { tasks { message } }",
        "account { balance { amount } }",
        "account { vouchers { totalCount } }",
    ):
        query = f"{{ servers {{ edges {{ node {{ {field} }} }} }} }}"
        assert await door.code(Role.CONTROL, query) == "FORBIDDEN"
    for field in ("invoices", "vouchers"):
        assert await door.code(Role.CONTROL, f"{{ {field} {{ totalCount }} }}") == "FORBIDDEN"


async def test_a_step_of_a_plan_is_reached_by_staff_alone(door: Any, factory: Any, clock: Any) -> None:
    """It answers a customer's question for its id as for a missing one."""
    server = await _furnished(factory)
    await PlanSnapshot.create(
        digest="d", at=clock.now(), mode=Mode.PLAN, text="",
        content={"summary": {}, "steps": [
            {"kind": "STOP", "state": "PLANNED", "account_id": server.account_id, "server_id": server.id, "reason": "r"}
        ]},
    )  # fmt: skip
    query = "query($id: ID!) { node(id: $id) { id } }"
    variables = {"id": ids.global_id("PlanStep", "1.1")}
    account = (await server.account).external_id
    assert (await door.data(Role.INFRA, query, variables))["node"] == {"id": variables["id"]}
    assert (await door.data(Role.CUSTOMER, query, variables, account=account))["node"] is None


async def test_it_is_the_table_of_rights_that_refuses(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lets infra read an address once the check is taken out: the tests above can fail."""
    await _furnished(factory)
    query = "{ servers { edges { node { account { email } } } } }"
    assert await door.code(Role.INFRA, query) == "FORBIDDEN"
    monkeypatch.setattr("api.graphql.permissions._rule", lambda role: ValidationRule)
    seen = await door.data(Role.INFRA, query)
    assert seen["servers"]["edges"][0]["node"]["account"]["email"]
