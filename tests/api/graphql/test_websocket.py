"""What a WebSocket may say: every message that makes work counts, also the one that comes to nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from api.graphql import websocket
from api.models import Role
from api.rates import Allowances

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
