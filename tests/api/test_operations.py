"""What a process says while it waits for the lead."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

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
