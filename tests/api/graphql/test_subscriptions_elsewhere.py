"""A change that another process committed reaches the subscribers of this one."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from api import operations
from api.database import open_database
from api.models import Role

_ELSEWHERE = """
import asyncio, sys
from api.changes import Changes
from api.database import open_database
from billing.models import Account
async def change():
    changes = Changes()
    async with open_database(sys.argv[1]), changes.shared(sys.argv[1]):
        await Account.all().update(name="elsewhere", facts_version=7)
        changes.ring()
        await asyncio.sleep(60)
asyncio.run(change())
"""


@pytest.mark.postgres
async def test_it_tells_what_another_process_committed(door: Any, factory: Any, postgres_url: str) -> None:
    """It is told by PostgreSQL, long before it would look by itself."""
    async with open_database(postgres_url), door.ports.changes.shared(postgres_url):
        account = await factory.account()
        token = await door.token(Role.CUSTOMER, account.external_id)
        with operations.listen("127.0.0.1:0") as listener:
            async with operations.answering(door.app(), listener) as url:
                names = await _watched(url.replace("http", "ws"), token, postgres_url)
    assert names == [account.name, "elsewhere"]


def _start(database: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", _ELSEWHERE, database])


async def _watched(url: str, token: str, database: str) -> list[str]:
    """Subscribe, have another process change something, and return the names of both events."""
    names: list[str] = []
    async with connect(f"{url}/graphql", subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        introduced = {"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}
        wanted = {"query": "subscription { accountChanged { name } }"}
        for message in (introduced, {"type": "subscribe", "id": "1", "payload": wanted}):
            await socket.send(json.dumps(message))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        names.append(json.loads(await socket.recv())["payload"]["data"]["accountChanged"]["name"])
        other = _start(database)
        try:
            told = json.loads(await asyncio.wait_for(socket.recv(), 60))
            names.append(told["payload"]["data"]["accountChanged"]["name"])
        finally:
            other.kill()
            other.wait(60)
    return names
