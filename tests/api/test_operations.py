"""What a process says while it waits for the lead, and how it answers."""

import asyncio
import socket
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import structlog
from starlette.responses import PlainTextResponse

from api import operations
from api.settings import Settings


class _Runtime:
    @asynccontextmanager
    async def running(self) -> Any:
        yield


class _Lead:
    async def lost(self) -> None:
        return None


async def test_it_says_once_that_another_process_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It logs a change of the lead and not each time that it asks for it."""
    leads: list[_Lead | None] = [None, None, None, _Lead(), None]

    @asynccontextmanager
    async def leadership(_: str) -> Any:
        yield leads.pop(0)

    monkeypatch.setattr(operations, "leadership", leadership)
    monkeypatch.setattr(operations, "STANDBY_SECONDS", 0.001)
    url = SimpleNamespace(get_secret_value=lambda: "")
    settings: Settings = SimpleNamespace(database_url=url)  # type: ignore[assignment]
    standby = False
    with structlog.testing.capture_logs() as logs:
        while leads:
            standby = await operations._take_part(
                settings,
                _Runtime(),  # type: ignore[arg-type]
                asyncio.Event(),
                standby=standby,
            )
    assert [line["event"] for line in logs] == [
        "reconciler.elsewhere",
        "reconciler.here",
        "reconciler.lead_lost",
        "reconciler.elsewhere",
    ]


async def test_an_answer_on_a_kept_connection_waits_for_nothing() -> None:
    """Its body follows its head at once: no client acknowledges the head sooner than after 40 ms."""
    at_once = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        accepted = receive.__self__.transport.get_extra_info("socket")  # the one that uvicorn writes to
        at_once.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
        await PlainTextResponse("there")(scope, receive, send)

    with operations.listen("127.0.0.1:0") as listener:
        async with operations.answering(app, listener) as url, httpx.AsyncClient() as client:  # type: ignore[arg-type]
            assert (await client.get(url)).text == "there"
    assert at_once == [True]
