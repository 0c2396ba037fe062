"""A database that changes its server in the middle of a payment: whoever repeats it hears the same, and pays once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from api.database import open_database
from api.graphql import ids
from api.models import Role
from api.rates import Allowances
from billing import ledger, vouchers
from billing.rules.money import Money
from billing.vouchers import Batch

pytestmark = [pytest.mark.postgres, pytest.mark.nightly]

PAY = """mutation($id: ID!, $key: String!) { answer: invoicePay(input: { invoiceId: $id, idempotencyKey: $key }) {
  state errors { code } } }"""
REDEEM = """mutation($code: String!, $key: String!) {
  answer: voucherRedeem(input: { code: $code, idempotencyKey: $key }) {
    account { voucherBalance { amount } } errors { code } } }"""


@dataclass
class Server:
    """Ends every connection of the application before or after one statement of the many that it sends."""

    url: str
    #: Before which statement, or after which; null: never.
    at: int | None = None
    after: bool = False
    sent: int = 0

    async def cut(self) -> None:
        """End them all, and give the application a moment to notice."""
        own = await asyncpg.connect(self.url)
        try:
            await own.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND $1",
                True,
            )
        finally:
            await own.close()
        await asyncio.sleep(0.02)

    def watched(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """Return what sends a statement and may lose its connection by it."""

        async def sending(connection: Any, *given: Any, **more: Any) -> Any:
            if self.at is None or "pg_terminate_backend" in str(given[0]):
                return await send(connection, *given, **more)
            self.sent += 1
            due = self.sent == self.at
            if due:
                self.at = None
            if due and not self.after:
                await self.cut()
            told = await send(connection, *given, **more)
            if due and self.after:
                await self.cut()
                raise ConnectionResetError("the answer is lost")
            return told

        return sending


@pytest_asyncio.fixture
async def server(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """The database's server, which the application has connected to."""
    async with open_database(postgres_url):
        watched = Server(postgres_url)
        monkeypatch.setattr(
            asyncpg.Connection, "_do_execute", watched.watched(asyncpg.Connection._do_execute)
        )
        monkeypatch.setattr(asyncpg.Connection, "execute", watched.watched(asyncpg.Connection.execute))
        yield watched


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mutation", [PAY, REDEEM], ids=["invoicePay", "voucherRedeem"])
async def test_a_repeated_payment_is_answered_as_if_nothing_had_happened(
    server: Server, door: Any, factory: Any, wallet: Any, mutation: str, after: bool
) -> None:
    """It is carried out once, and told twice alike, whichever statement the connections are lost at."""
    door.ports = replace(door.ports, allowances=Allowances(people=10**6))
    for at in count(1):
        account = await factory.account()
        invoice = await factory.invoice(account)
        variables: dict[str, Any] = {"key": f"key-{at}"}
        if mutation is PAY:
            await wallet.cash(account, 1_000)
            variables["id"] = ids.global_id("Invoice", invoice.id)
        else:
            variables["code"] = await _code(door)
        token = await door.token(Role.CUSTOMER, account.external_id)
        body = {"query": mutation, "variables": variables}
        server.at, server.after, server.sent = at, after, 0
        await door.post(body, token=token)
        whole, server.at = server.at is not None, None
        told = [await _answer(door, body, token) for _ in range(2)]
        held = (await ledger.purses([account.id]))[account.id]
        expected = (
            {"state": "SUCCEEDED"} if mutation is PAY else {"account": {"voucherBalance": {"amount": "5.00"}}}
        )
        assert told == [expected | {"errors": []}] * 2, at
        assert held.balance + held.voucher == 500, at
        if whole:  # it does not send so many
            break
    assert at > 20


async def _answer(door: Any, body: dict[str, Any], token: str) -> dict[str, Any]:
    """Return the answer; a request that nobody heard the beginning of is taken for dead after two minutes."""
    answer: dict[str, Any] = (await door.post(body, token=token)).json()["data"]["answer"]
    if [error["code"] for error in answer["errors"]] == ["CONFLICT"]:
        door.clock.advance(timedelta(minutes=2))
        answer = (await door.post(body, token=token)).json()["data"]["answer"]
    return answer


async def _code(door: Any) -> str:
    batch = Batch(count=1, value=Money(1_000, "EUR"))
    (issued,) = await vouchers.issue(
        batch, random_below=door.ports.random_below, actor="test", now=door.clock.now()
    )
    return str(issued.code)
