"""The doors as a client sees them: an application over a real database, with a token for every role."""

import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from api import tokens
from api.app import create_app
from api.models import Role
from api.operations import answering
from api.ports import Ports
from billing import ledger
from billing.approval_models import Approval
from billing.audit import record
from billing.clock import ManualClock
from billing.ledger import Move
from billing.models import Account, Subscription, WorkItem
from billing.money_models import (
    InvoiceLine,
    InvoicePart,
    LedgerKind,
    MeteredAccount,
    PartSource,
    TransactionKind,
    UsageInterval,
    Voucher,
)
from billing.notices import known_templates
from billing.policy_files import PolicyBook
from billing.refusal import RefusalCode, refusal
from billing.rules.terms import InvoiceOrigin, Stage
from billing.stripe.card_gateway import CardGateway
from billing.stripe.gateway import StripeGateway
from billing.stripe.settle_gateway import SettleGateway
from reconciler.models import RestorePart, Run
from reconciler.rules.terms import Lane, Mode, RunState, StepState
from simulators.stripe import Account as Simulator

CARD = "card { id brand last4 expMonth expYear isDefault usable }"
CHECKOUT = Path(__file__).parents[3]


@dataclass
class Hands:
    """Stands for the reconciler's hand: remembers what it was asked, and does what it is told to."""

    asked: list[tuple[str, int]] = field(default_factory=list)
    refuses: bool = False

    def allowed(self) -> frozenset[str]:
        return frozenset({"observe", "start_guests", "unlock_backups", "open_access"})

    async def observe(self, server_id: int, *, actor: str) -> int:
        return await self._note("observe", server_id)

    async def give_back(self, action: str, server_id: int, *, reason: str, actor: str) -> None:
        await self._note(action, server_id)

    async def _note(self, action: str, server_id: int) -> int:
        if self.refuses:
            raise refusal(RefusalCode.CONFLICT, "it was not seen on any node yet", "serverId")
        self.asked.append((action, server_id))
        return len(self.asked)


@dataclass
class Door:
    """A client of the application."""

    clock: ManualClock
    hands: Hands
    wakes: list[int | None]
    adopted: list[tuple[int, str]]
    ports: Ports
    dev: bool = False
    #: Who of the staff asks.
    person: str = "anna"
    _app: tuple[tuple[Ports, bool], Starlette] | None = None
    _tokens: dict[tuple[Role, str | None], str] = field(default_factory=dict)

    async def token(self, role: Role, account: str | None = None) -> str:
        """Return a live token of this role; a customer's is bound to its account, any other's is of `person`."""
        person = None if role is Role.CUSTOMER else f"{role.lower()}-{self.person}"
        if (role, account or person) not in self._tokens:
            self._tokens[role, account or person] = await tokens.create(
                f"{role} {account or person}",
                role,
                now=self.clock.now(),
                actor="test",
                person=person,
                account_external_id=account,
            )
        return self._tokens[role, account or person]

    async def ask(
        self,
        role: Role,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        account: str | None = None,
    ) -> dict[str, Any]:
        """Return the whole answer to one operation."""
        token = await self.token(role, account)
        response = await self.post({"query": query, "variables": variables or {}}, token=token)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def data(
        self,
        role: Role,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        account: str | None = None,
    ) -> dict[str, Any]:
        """Return the data of one operation that must not fail."""
        answer = await self.ask(role, query, variables, account=account)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    async def code(
        self,
        role: Role,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        account: str | None = None,
    ) -> str:
        """Return the code of the first top-level error of one operation that must fail."""
        answer = await self.ask(role, query, variables, account=account)
        return str(answer["errors"][0]["extensions"]["code"])

    async def do(self, role: Role, mutation: str, given: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Return the payload of a mutation with its errors and what the selection in `show` names."""
        kind = mutation[0].upper() + mutation[1:] + "Input"
        if mutation.startswith("enforcement") or mutation == "safeModeRelease":
            kind = "ReasonInput"
        if mutation in {"cardSetDefault", "cardRemove"}:
            kind = "CardInput"
        show = more.pop("show", "")
        selection = f"errors {{ code message path }} {show}"
        query = f"mutation M($input: {kind}!) {{ {mutation}(input: $input) {{ {selection} }} }}"
        payload: dict[str, Any] = (await self.data(role, query, {"input": dict(given)}, **more))[mutation]
        return payload

    async def post(self, body: Any, *, token: str | None = None, **more: Any) -> httpx.Response:
        """Send a body to `/graphql`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await self.request(
            "POST", "/graphql", json=body, headers=headers | more.pop("headers", {}), **more
        )

    def app(self) -> Starlette:
        """Return the application itself."""
        if self._app is None or self._app[0] != (self.ports, self.dev):
            self._app = (self.ports, self.dev), create_app(self.ports, dev=self.dev)
        return self._app[1]

    @asynccontextmanager
    async def listening(self, **more: Any) -> AsyncIterator[str]:
        """Answer on a real socket until the end of the block, as `abeyance serve` does; yields the URL of GraphQL."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with answering(self.app(), listener, **more) as base:
                yield f"{base}/graphql"

    async def calls(self, body: Any, *, token: str) -> int:
        """Return how many functions are called for one request: its work, told alike by every machine."""
        many = 0

        def called(_frame: Any, event: str, _argument: Any) -> None:
            nonlocal many
            many += event in {"call", "c_call"}

        sys.setprofile(called)
        try:
            await self.post(body, token=token)
        finally:
            sys.setprofile(None)
        return many

    async def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send any request to the application."""
        transport = httpx.ASGITransport(app=self.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://abeyance.test") as client:
            return await client.request(method, path, **more)


@dataclass
class Portal:
    """What a customer does with cards and money: at our door, and in a browser at the payment provider."""

    door: Door
    simulator: Simulator
    wire: Any
    account: Account

    async def do(self, mutation: str, given: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Return the payload of one of the customer's mutations."""
        more.setdefault("account", self.account.external_id)
        return await self.door.do(Role.CUSTOMER, mutation, given, **more)

    async def data(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of one of the customer's queries."""
        return await self.door.data(Role.CUSTOMER, query, variables, account=self.account.external_id)

    async def save(self, card: str = "pm_card_visa", *, show: str = CARD, **given: Any) -> dict[str, Any]:
        """Save a test card as the portal does, and return the payload of `cardAdd`."""
        begun = await self.do("cardSetupBegin", {}, show="setupIntentId clientSecret")
        assert begun["errors"] == []
        self.simulator.save_card(begun["setupIntentId"], card)
        self.door.clock.advance(timedelta(seconds=1))
        return await self.do("cardAdd", {"setupIntentId": begun["setupIntentId"]} | given, show=show)

    def payments(self, *states: str) -> list[dict[str, Any]]:
        """The payments at the provider, oldest first, of these states or all."""
        every = self.simulator.store.oldest_first("payment_intent")
        return [one for one in every if not states or one["status"] in states]


@pytest_asyncio.fixture
async def portal(
    sqlite_database: str, door: Door, simulator: Simulator, wire: Any, gateway: StripeGateway, factory: Any
) -> Portal:
    """A customer without a card, with the application on SQLite connected to a simulated Stripe."""
    door.ports = replace(door.ports, cards=CardGateway(gateway), invoices=SettleGateway(gateway))
    return Portal(door=door, simulator=simulator, wire=wire, account=await factory.account())


@pytest.fixture(scope="session")
def policy_book() -> PolicyBook:
    """The shipped policies."""
    return PolicyBook.of_folder(CHECKOUT / "billing" / "policies", templates=known_templates())


@pytest.fixture
def door(clock: ManualClock, policy_book: PolicyBook) -> Door:
    """The application with stand-ins for the reconciler and Stripe; needs an open database."""
    wakes: list[int | None] = []
    adopted: list[tuple[int, str]] = []
    hands = Hands()

    async def adopt(account_id: int, customer_id: str) -> None:
        adopted.append((account_id, customer_id))

    ports = Ports(
        clock=clock,
        wake=wakes.append,
        policies=lambda: {name: policy_book.get(name) for name in policy_book.names},
        platforms=lambda: {"demo": "proxmox", "zoo": "lxc"},
        actions=hands,
        site_modes=lambda: {"demo": Mode.APPLY, "zoo": Mode.PLAN},
        adopt_customer=adopt,
        mode=Mode.APPLY,
    )
    return Door(clock=clock, hands=hands, wakes=wakes, adopted=adopted, ports=ports)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Notes the statements that reach the database within `with statements() as noted:`."""

    @contextmanager
    def noting() -> Iterator[list[str]]:
        noted: list[str] = []
        original = aiosqlite.Connection.execute_fetchall

        def execute(connection: Any, sql: str, parameters: Any = None) -> Any:
            noted.append(sql)
            return original(connection, sql, parameters)

        with monkeypatch.context() as patch:
            patch.setattr(aiosqlite.Connection, "execute_fetchall", execute)
            yield noted

    return noting


@pytest.fixture
def grow(factory: Any, wallet: Any) -> Any:
    """Adds so many accounts with something of everything, and as many in good standing."""
    return partial(_grow, factory, wallet)


async def _grow(factory: Any, wallet: Any, rows: int) -> None:
    for number in range(rows):
        account: Account = await factory.account()
        server = await factory.server(account, stripe_subscription_id=f"sub_{account.id}")
        await factory.observation(server)
        await factory.hold(server)
        await _paid_in_part(factory, account, server)
        await factory.episode(account, admitted=Stage.SUSPENDED if number % 2 else Stage.PAST_DUE)
        await factory.notice(account)
        await factory.override(account)
        await wallet.voucher(account, 5)
        now = account.created_at
        for noun, key in await _recorded(factory, account, server):
            await record("x", (noun, key), at=now, actor="a", reason="r", account_id=account.id)
        await RestorePart.create(
            server_id=server.id, site="demo", part="power", found="RUNNING", step_id=1, taken_at=now
        )
        await MeteredAccount.create(account=account, month=now.date(), invoiced_until=now, due_at=now)
        await UsageInterval.create(
            account=account, server_id=server.id, server_name="web", sku="small", currency="EUR", rate=1,
            started_at=now,
        )  # fmt: skip
        calm: Account = await factory.account()  # it owes nothing: its money is announced
        await MeteredAccount.create(account=calm, month=now.date(), invoiced_until=now, due_at=now)
        await UsageInterval.create(
            account=calm, server_id=-calm.id, server_name="web", sku="small", currency="EUR", rate=1,
            started_at=now,
        )  # fmt: skip
        await Subscription.create(
            stripe_subscription_id=f"sub_{account.id}",
            account=account,
            status="canceled",
            ended_at=now,
            fetched_at=now,
        )


async def _paid_in_part(factory: Any, account: Account, server: Any) -> None:
    """Two open invoices with something that a card paid, of ours with a line, and a payment to confirm."""
    card = await factory.card(account)
    ours, theirs = await factory.invoice(account), await factory.invoice(account, origin=InvoiceOrigin.STRIPE)
    await InvoiceLine.create(
        invoice=ours, server_id=server.id, sku="small", description="web", seconds=3600, rate=1, amount=1
    )
    part = {"source_id": "pi_1", "amount": 1, "at": ours.issued_at}
    await InvoicePart.create(invoice=ours, source=PartSource.CARD, card_id=card.id, **part)
    await factory.charge(card, invoice_id=theirs.id, state="SUCCEEDED", stripe_payment_intent_id="pi_2")
    await factory.charge(card, invoice_id=ours.id, state="REQUIRES_ACTION", stripe_payment_intent_id="pi_3")


async def _recorded(factory: Any, account: Account, server: Any) -> list[tuple[str, int]]:
    """A run with an outcome, a work item, a hold, money and one of each kind of object that the trail is about."""
    now = account.created_at
    run = await Run.create(
        tag=f"run-{server.id}", action="stop_guests", site=server.site, lane=Lane.RESTRICT, state=RunState.FINISHED,
        plan_digest="0" * 64, requested_by="abeyance", started_at=now, finished_at=now,
    )  # fmt: skip
    await factory.step(
        server, state=StepState.DONE, run_id=run.id, outcome="CHANGED", after={"power": "stopped"}
    )
    item = await WorkItem.create(
        kind="step_failed", account_id=account.id, server_id=server.id, title="t", detail="d", since=now,
        dedupe_key=f"item-{server.id}",
    )  # fmt: skip
    invoice = await factory.invoice(account)
    move = Move(debit=LedgerKind.VOUCHER, credit=LedgerKind.INVOICES_PAID, amount=1)
    entry = await ledger.book(
        TransactionKind.INVOICE_PAID, account.id, [move], fact=("test", str(invoice.id)), at=now, actor="a",
        description="d", invoice_id=invoice.id,
    )  # fmt: skip
    approval = await Approval.create(
        kind="DECOMMISSION", subject_type="Account", subject_id=str(account.id), account_id=account.id,
        requested_by="a", requested_at=now, expires_at=now + timedelta(days=30), reason="r", digest="0" * 64,
    )  # fmt: skip
    return [
        ("Account", account.id), ("Server", server.id), ("Run", run.id), ("WorkItem", item.id),
        ("Invoice", invoice.id), ("LedgerEntry", entry.id), ("Approval", approval.id),
        ("Override", (await factory.override(account)).id), ("Notice", (await factory.notice(account)).id),
        ("Card", (await factory.card(account)).id), ("Voucher", (await Voucher.first()).id),
    ]  # fmt: skip
