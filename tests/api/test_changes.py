"""The signal that something was committed: within a process, and between processes of one PostgreSQL database."""

import asyncio
import subprocess
import sys

import asyncpg
import pytest
from structlog.testing import capture_logs

from api import changes as module
from api.changes import Changes
from api.leadership import connect_postgres

_OTHER = """
import asyncio, sys
from api.changes import Changes
async def other():
    changes, heard = Changes(), asyncio.Event()
    async with changes.shared(sys.argv[1]):
        with changes.listening(heard.set):
            await heard.wait()  # its own connection stands
            heard.clear()
            print("ready", flush=True)
            await heard.wait()
            print("heard", flush=True)
            changes.ring()
            await asyncio.sleep(60)
asyncio.run(other())
"""


def test_it_is_heard_until_nobody_listens() -> None:
    """It calls whoever listens, and nobody afterwards."""
    changes, heard = Changes(), []
    with changes.listening(lambda: heard.append(1)), changes.listening(lambda: heard.append(2)):
        changes.ring()
    changes.ring()
    assert sorted(heard) == [1, 2]


async def test_sqlite_has_one_process(sqlite_url: str) -> None:
    """It shares nothing and opens nothing."""
    before = asyncio.all_tasks()
    async with Changes().shared(sqlite_url):
        assert asyncio.all_tasks() == before


def _start(url: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", _OTHER, url], stdout=subprocess.PIPE, text=True)


@pytest.mark.postgres
async def test_another_process_hears_it(postgres_url: str) -> None:
    """It is heard there, and heard back from there; whoever rings does not hear itself twice."""
    changes, heard = Changes(), asyncio.Event()
    other = _start(postgres_url)
    assert other.stdout is not None
    try:
        assert await asyncio.to_thread(other.stdout.readline) == "ready\n"
        async with changes.shared(postgres_url):
            changes.ring()
            with changes.listening(heard.set):
                assert await asyncio.to_thread(other.stdout.readline) == "heard\n"
                await asyncio.wait_for(heard.wait(), 60)
    finally:
        other.kill()
        other.wait(60)


@pytest.mark.postgres
async def test_it_is_told_once_for_many(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells the others once in a while, here an hour, however often it rings."""
    monkeypatch.setattr(module, "TELL_SECONDS", 3600.0)
    changes, told, heard = Changes(), [], asyncio.Event()
    listener = await connect_postgres(postgres_url)
    await listener.add_listener(module.CHANNEL, lambda *_: (told.append(1), heard.set()))
    async with changes.shared(postgres_url):
        changes.ring()
        await asyncio.wait_for(heard.wait(), 60)
        for _ in range(200):
            changes.ring()
            await asyncio.sleep(0.002)
    await listener.fetchval("SELECT 1")  # what was told has arrived by then
    await listener.close()
    assert told == [1]


@pytest.mark.postgres
async def test_a_lost_connection_is_made_again(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, connects again, and looks then, because something may have been missed."""
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(module, "TELL_SECONDS", 0.05)
    changes, heard = Changes(), asyncio.Event()
    administrator = await asyncpg.connect(postgres_url)
    with changes.listening(heard.set), capture_logs() as logged:
        async with changes.shared(postgres_url):
            await asyncio.wait_for(heard.wait(), 60)
            heard.clear()
            await administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
            await asyncio.wait_for(heard.wait(), 60)
    await administrator.close()
    assert [entry["event"] for entry in logged] == ["changes.not_shared"]
