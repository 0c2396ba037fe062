"""What a WebSocket may say: every message that makes work counts, also the one that comes to nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tortoise.expressions import F
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from api import tokens
from api.graphql import feed, stream, websocket
from api.models import Role
from api.rates import Allowances
from billing.models import Account

pytestmark = pytest.mark.usefixtures("sqlite_database")

BEGIN = {"type": "subscribe", "payload": {"query": "subscription { accountChanged { externalId } }"}}


@asynccontextmanager
async def _introduced(door: Any, account: Any, **allowed: int) -> AsyncIterator[ClientConnection]:
    """A customer's connection, with these allowances."""
    door.ports = replace(door.ports, allowances=Allowances(**allowed))
    token = await door.token(Role.CUSTOMER, account.external_id)
    async with (
        door.listening() as url,
        connect(url.replace("http", "ws"), subprotocols=[Subprotocol(websocket.SUBPROTOCOL)]) as socket,
    ):
        await _say(socket, type="connection_init", payload={"Authorization": f"Bearer {token}"})
        await _heard(socket, "connection_ack")
        yield socket


async def _say(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def _heard(socket: ClientConnection, kind: str) -> None:
    while json.loads(await asyncio.wait_for(socket.recv(), 30))["type"] != kind:
        pass


@pytest.mark.parametrize("message", [BEGIN, {"type": "complete"}], ids=["subscribe", "complete"])
async def test_messages_that_do_nothing_count(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch, message: dict[str, Any]
) -> None:
    """It closes on who goes on asking for more operations than may go on, or ending what does not."""
    monkeypatch.setattr(websocket, "MOST_OPERATIONS", 1)
    async with _introduced(door, await factory.account(), people=20) as socket:
        await _say(socket, id="only", **BEGIN)
        await _heard(socket, "next")
        for number in range(40):
            await _say(socket, id=str(number), **message)
        with suppress(ConnectionClosed):
            await _heard(socket, "never")
        assert socket.close_code == 4429


async def test_a_subscription_outlives_a_fault_of_ours(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows nothing while it cannot find out who watches, and then what is so."""
    for module, name in ((stream, "RECHECK_SECONDS"), (stream, "AGAIN_SECONDS"), (feed, "APART_SECONDS")):
        monkeypatch.setattr(module, name, 0.05)

    async def away(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("10.0.0.7 went away")

    account = await factory.account()
    async with _introduced(door, account) as socket:
        await _say(socket, id="only", **BEGIN)
        await _heard(socket, "next")
        for changed in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(tokens, "find", away)
                if changed:
                    await Account.filter(id=account.id).update(facts_version=F("facts_version") + 1)
                    door.ports.changes.ring()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(socket.recv(), 0.5)
        told = json.loads(await asyncio.wait_for(socket.recv(), 30))
        shown = {"data": {"accountChanged": {"externalId": account.external_id}}}
        assert told == {"id": "only", "type": "next", "payload": shown}


async def test_strangers_who_say_nothing_keep_nobody_out(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a few who have not said who they are, and gives up who was waited for longest, not who comes."""
    monkeypatch.setattr(websocket, "MOST_UNKNOWN", 3)
    account = await factory.account()
    async with _introduced(door, account) as known, AsyncExitStack() as stack:
        url = f"ws://{known.remote_address[0]}:{known.remote_address[1]}/graphql"
        speak = [Subprotocol(websocket.SUBPROTOCOL)]
        strangers = [await stack.enter_async_context(connect(url, subprotocols=speak)) for _ in range(5)]
        late = await stack.enter_async_context(connect(url, subprotocols=speak))
        token = await door.token(Role.CUSTOMER, account.external_id)
        await _say(late, type="connection_init", payload={"Authorization": f"Bearer {token}"})
        await _heard(late, "connection_ack")
        for stranger in strangers[:3]:
            await asyncio.wait_for(stranger.wait_closed(), 30)
        assert [stranger.close_code for stranger in strangers] == [4408, 4408, 4408, None, None]
        await _say(known, type="ping")
        await _heard(known, "pong")


async def test_operations_that_are_ended_at_once_count(door: Any, factory: Any) -> None:
    """It reads on only when there is an operation left, however many were begun and given up before their turn."""
    async with _introduced(door, await factory.account(), people=600) as socket:
        for number in range(700):
            await _say(socket, id=str(number), **BEGIN)
            await _say(socket, id=str(number), type="complete")
        await _say(socket, type="ping")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_heard(socket, "pong"), 0.5)
        door.clock.advance(timedelta(minutes=2))
        await _heard(socket, "pong")
