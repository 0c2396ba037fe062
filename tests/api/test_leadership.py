"""One process reconciles a database; the next one takes over when it ends, and a lost lead is noticed."""

import asyncio
import subprocess
import sys

import asyncpg
import pytest

from api import leadership as module
from api.database import tortoise_config
from api.leadership import leadership

_HOLD = """
import asyncio, sys
from api.leadership import leadership
async def hold():
    async with leadership(sys.argv[1]) as lead:
        print("lead" if lead else "none", flush=True)
        await asyncio.sleep(60)
asyncio.run(hold())
"""


def _other(url: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", _HOLD, url], stdout=subprocess.PIPE, text=True)


async def test_a_second_process_does_not_lead(database_url: str) -> None:
    """It is told so, and leads as soon as the first one was killed."""
    first = _other(database_url)
    try:
        assert first.stdout is not None
        assert await asyncio.to_thread(first.stdout.readline) == "lead\n"
        async with leadership(database_url) as lead:
            assert lead is None
    finally:
        first.kill()
        first.wait(60)
    for _ in range(600):  # PostgreSQL notices a killed client when it next looks at the socket
        async with leadership(database_url) as lead:
            if lead is not None:
                return
        await asyncio.sleep(0.1)
    pytest.fail("nobody could take the lead over")


async def test_the_lead_ends_with_the_block(database_url: str) -> None:
    """Leading twice in a row needs no wait."""
    for _ in range(2):
        for _ in range(600):
            async with leadership(database_url) as lead:
                if lead is not None:
                    break
            await asyncio.sleep(0.1)
        else:
            pytest.fail("the lead was not given back")


@pytest.mark.postgres
async def test_a_lost_connection_is_a_lost_lead(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leads is told within the watch when the server ended the lock's connection."""
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.1)
    credentials = tortoise_config(postgres_url)["connections"]["default"]["credentials"]
    names = ("host", "port", "user", "password", "database")
    async with leadership(postgres_url) as lead:
        assert lead is not None
        assert lead.connection is not None
        other = await asyncpg.connect(**{name: credentials.get(name) for name in names})
        await other.execute("SELECT pg_terminate_backend($1)", lead.connection.get_server_pid())
        await other.close()
        await asyncio.wait_for(lead.lost(), 60)


async def test_the_lead_of_a_file_is_never_lost(sqlite_url: str) -> None:
    """Watching it goes on for ever."""
    async with leadership(sqlite_url) as lead:
        assert lead is not None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lead.lost(), 0.2)
