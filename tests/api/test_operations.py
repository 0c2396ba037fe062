"""What a process says while it waits for the lead, and how it answers."""

import asyncio
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

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
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("there"))])
    with operations.listen("127.0.0.1:0") as listener:
        async with operations.answering(app, listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            waits = []
            for _ in range(12):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                begun = time.perf_counter()
                body = await reader.readexactly(5)
                waits.append(time.perf_counter() - begun)
            writer.close()
    assert (head[:12], body) == (b"HTTP/1.1 200", b"there")
    # The first few come at once in any case: a new connection is acknowledged without delay.
    assert sorted(waits[-6:])[2] < 0.03
