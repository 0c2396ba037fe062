"""A token that was revoked by one process is refused by every other at once, and ends what it had open there."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from api import operations
from api.database import open_database
from api.graphql import feed
from api.models import Role
from billing.models import Account

CHECKOUT = Path(__file__).parents[3]
VIEWER = {"query": "{ viewer { role } }"}
CHANGED = {"query": "subscription { accountChanged { name } }"}


@asynccontextmanager
async def _another(database: str) -> AsyncIterator[str]:
    """Serve the same database from a process of its own; yields its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.serving", "product", database, "",
        cwd=CHECKOUT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = await asyncio.wait_for(process.stdout.readline(), 60)
        yield f"http://127.0.0.1:{int(port)}"
    finally:
        process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 20)
        if process.returncode is None:
            process.kill()


async def _revoke(database: str, name: str) -> None:
    """Revoke a token as an operator does, by the command line, in a process of its own."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "api.cli", "token", "revoke", "--name", name],
        cwd=CHECKOUT, env={"PATH": os.defpath, "ABEYANCE_DATABASE_URL": database}, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.postgres
@pytest.mark.nightly
@pytest.mark.timeout(240)
async def test_every_process_refuses_it_at_once(
    door: Any, factory: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request is refused by both, whichever of them had answered it before; what is open ends untold."""
    monkeypatch.setattr(feed, "APART_SECONDS", 0.02)
    async with open_database(postgres_url), _another(postgres_url) as there:
        account = await factory.account(name="before")
        token = await door.token(Role.CUSTOMER, account.external_id)
        other = await door.token(Role.ADMIN)
        with operations.listen("127.0.0.1:0") as listener:
            async with (
                operations.answering(door.app(), listener) as here,
                httpx.AsyncClient(timeout=30) as http,
            ):

                async def told(url: str, bearer: str) -> int:
                    headers = {"Authorization": f"Bearer {bearer}"}
                    return (await http.post(f"{url}/graphql", json=VIEWER, headers=headers)).status_code

                assert [await told(url, token) for url in (here, there, here, there)] == [200] * 4
                async with _watching(here, token) as mine, _watching(there, token) as theirs:
                    await _revoke(postgres_url, f"CUSTOMER {account.external_id}")
                    assert [await told(url, token) for url in (here, there)] == [401, 401]
                    assert [await told(url, other) for url in (here, there)] == [200, 200]
                    await Account.filter(id=account.id).update(name="secret", facts_version=99)
                    door.ports.changes.ring()
                    for socket in (mine, theirs):
                        code, rest = await _rest(socket)
                        assert (code, [one for one in rest if not _signs_out(one)]) == (4401, [])


@asynccontextmanager
async def _watching(url: str, token: str) -> AsyncIterator[Any]:
    """Subscribe, and hear the present."""
    spoken = [Subprotocol("graphql-transport-ws")]
    async with connect(f"{url.replace('http', 'ws')}/graphql", subprotocols=spoken) as socket:
        introduced = {"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}
        for message in (introduced, {"type": "subscribe", "id": "1", "payload": CHANGED}):
            await socket.send(json.dumps(message))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        assert json.loads(await socket.recv())["payload"]["data"]["accountChanged"]["name"] == "before"
        yield socket


async def _rest(socket: Any) -> tuple[int | None, list[Any]]:
    """Return with what the connection is closed, and everything that was said until then."""
    said = []
    with suppress(ConnectionClosed):
        while True:
            said.append(json.loads(await asyncio.wait_for(socket.recv(), 60)))
    return socket.close_code, said


def _signs_out(message: Any) -> bool:
    """Return whether a message shows nothing and ends the subscription.

    It and the connection each ask for the token by themselves, so that either may be the first to find it revoked.
    """
    if message["type"] != "next":
        return bool(message["type"] == "complete")
    told = message["payload"]
    return told["data"] is None and [one["extensions"]["code"] for one in told["errors"]] == [
        "UNAUTHENTICATED"
    ]
