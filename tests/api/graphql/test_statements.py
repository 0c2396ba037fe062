"""Pages load in bulk: the number of statements does not grow with the rows."""

from pathlib import Path
from typing import Any

import pytest

from api.graphql import ids
from api.models import Role
from billing import ledger
from billing.ledger import Move
from billing.models import Account, Subscription
from billing.money_models import (
    LedgerKind,
    Reservation,
    TransactionKind,
)
from billing.rules.terms import InvoiceOrigin, Stage
from reconciler.models import RestorePart

CHECKOUT = Path(__file__).parents[3]
MOST_AT_HOME = 8
PAGES = {
    "servers": """{ servers(first: 100) { edges { node { externalId status inSync restoring power { observed }
        holds { cause } gates(actions: [START, CREATE_BACKUP]) { code } coverage { stage }
        account { name standing { stage since } announcement { code } gate(action: DEPLOY) { code } } } } } }""",
    "accounts": """{ accounts(first: 100) { edges { node { externalId policy { name }
        standing { stage since effects next { stage } } announcement { code } gate(action: DEPLOY) { code }
        cards { last4 usable } tasks { message clientSecret invoice { number } }
        balance { amount } voucherBalance { amount } reserved { amount } } } } }""",
    "explained": """{ servers(first: 100) { edges { node { explanation { rule text ref { id }
        because { rule ref { id } because { rule } } } account { explanation { rule } } } } } }""",
    "invoices": """{ invoices(first: 100) { totalCount edges { node { number overdue payable account { externalId }
        lines { description server { name } unitPrice { amount } } payments { source card { last4 } } } } } }""",
    "funds": """{ accounts(first: 100) { edges { node { mayDeploy(sku: "small") { code } runwayUntil
        payToRestore { amount } } } } }""",
    "vouchers": """{ vouchers(first: 100) { totalCount edges { node { state value { amount }
        redeemedBy { name balance { amount } voucherBalance { amount } reserved { amount } } } } } }""",
    "notices": "{ notices(first: 100) { edges { node { subject account { name } } } } }",
    "forecast": "{ forecast(days: 9, first: 100) { totalCount edges { node { to account { externalId } } } } }",
    "audit": "{ audit(first: 100) { edges { node { kind subject { id } } } } }",
}

PORTAL_HOME = (CHECKOUT / "clients/operations/PortalHome.graphql").read_text()


@pytest.mark.parametrize("listing", sorted(PAGES))
async def test_a_page_of_many_takes_as_many_statements_as_a_page_of_few(
    door: Any,
    grow: Any,
    statements: Any,
    sqlite_database: str,
    listing: str,
) -> None:
    """It asks the same number of questions for two rows and for twelve."""
    await grow(2)
    await door.token(Role.SUPPORT)
    with statements() as few:
        await door.data(Role.SUPPORT, PAGES[listing])
    await grow(10)
    with statements() as many:
        data = await door.data(Role.SUPPORT, PAGES[listing])
    assert len(next(iter(data.values()))["edges"]) >= 12
    assert 0 < len(few) < 35
    assert len(many) == len(few), "\n".join(sorted(many))


async def test_a_statement_of_account_takes_as_many_statements_however_long_it_is(
    door: Any, factory: Any, wallet: Any, statements: Any, sqlite_database: str
) -> None:
    """It asks the same number of questions for two entries and for twelve, their vouchers and invoices included."""
    account = await factory.account()
    query = """query($id: ID!) { account(id: $id) { ledger(first: 100) { totalCount edges { node { kind
        amount { amount } toInvoice { amount } invoice { number account { name } } voucher { state } } } } } }"""
    variables = {"id": ids.global_id("Account", account.id)}
    await door.token(Role.SUPPORT)
    counts = []
    for rows in (1, 5):
        for _ in range(rows):
            invoice = await factory.invoice(account)
            await wallet.voucher(account, 5)
            move = Move(debit=LedgerKind.VOUCHER, credit=LedgerKind.INVOICES_PAID, amount=5)
            await ledger.book(
                TransactionKind.INVOICE_PAID, account.id, [move], fact=("test", str(invoice.id)),
                at=door.clock.now(), actor="a", description="d", invoice_id=invoice.id,
            )  # fmt: skip
        with statements() as counted:
            data = await door.data(Role.SUPPORT, query, variables)
        counts.append((data["account"]["ledger"]["totalCount"], len(counted)))
    (few, statements), (many, as_many) = counts
    assert (few, many) == (2, 12)
    assert statements == as_many < 15


async def _with_money(factory: Any, wallet: Any, account: Account) -> None:
    """Metered, with money in both purses and some on its way, an expired card, and invoices open and in dispute."""
    await factory.metered_server(account)
    await wallet.voucher(account, 5)
    await wallet.cash(account, 5)
    await factory.card(account, exp_year=2020)
    owed = await factory.invoice(account, overdue_at=None)
    await factory.invoice(
        account, status="PAID", amount_due=0, disputed_amount=9, origin=InvoiceOrigin.STRIPE
    )
    await Reservation.create(
        account_id=account.id, invoice=owed, purse="VOUCHER", amount=3, idempotency_key=f"of {account.id}",
        created_at=account.created_at, updated_at=account.created_at,
    )  # fmt: skip


async def _at(factory: Any, wallet: Any, situation: str, servers: int, invoices: int) -> Account:
    """An account in a situation, with so much to show."""
    owes = situation in {"overdue", "suspended", "everything"}
    account: Account = await factory.account()
    rows = [await factory.server(account, stripe_subscription_id="sub_1") for _ in range(servers)]
    for server in rows:
        await factory.observation(server)
        if situation in {"suspended", "everything"}:
            await factory.hold(server)
    if situation in {"metered", "uncovered"}:
        await _with_money(factory, wallet, account)
    for _ in range(invoices):
        await factory.invoice(account, **({} if owes else {"status": "PAID", "amount_due": 0}))
    if owes:
        stage = Stage.PAST_DUE if situation == "overdue" else Stage.SUSPENDED
        episode = await factory.episode(account, admitted=stage)
        await factory.notice(account, episode_id=episode.id)
    if situation in {"uncovered", "everything"}:
        now = account.created_at
        await Subscription.create(
            stripe_subscription_id="sub_1", account=account, status="canceled", ended_at=now, fetched_at=now
        )
        await factory.episode(account, server_id=rows[0].id)
    if situation == "everything":
        await factory.episode(account, ended_at=now)
        await factory.override(account, kind="ALLOW_BACKUPS")
        await factory.override(account, server_id=rows[0].id)
        await factory.invoice(account, status="UNCOLLECTIBLE", amount_due=0)
        await RestorePart.create(
            server_id=rows[0].id, site="demo", part="power", found="RUNNING", step_id=1, taken_at=now
        )
    return account


@pytest.mark.parametrize("situation", ["calm", "metered", "uncovered", "overdue", "suspended", "everything"])
async def test_the_start_page_of_a_portal_takes_eight_statements(
    door: Any,
    factory: Any,
    wallet: Any,
    statements: Any,
    sqlite_database: str,
    situation: str,
) -> None:
    """It takes no more than that, the check of the token included, however much it shows."""
    counts = []
    for servers, invoices in ((1, 1), (30, 20)):
        account = await _at(factory, wallet, situation, servers, invoices)
        await door.token(Role.CUSTOMER, account=account.external_id)
        with statements() as counted:
            data = await door.data(Role.CUSTOMER, PORTAL_HOME, account=account.external_id)
        shown = data["viewer"]["account"]
        assert (shown["announcement"] is None) is (situation == "calm")
        metered, uncollected = situation in {"metered", "uncovered"}, situation == "everything"
        assert len(shown["servers"]["edges"]) == min(servers + metered, 20)
        assert shown["servers"]["totalCount"] == servers + metered
        assert len(shown["invoices"]["edges"]) == min(invoices + 2 * metered + uncollected, 10)
        counts.append(len(counted))
        await Subscription.all().delete()
    assert counts[0] == counts[1] <= MOST_AT_HOME, "\n".join(counted)
