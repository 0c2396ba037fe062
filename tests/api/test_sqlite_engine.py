"""A SQLite transaction takes the write lock when it begins, waits for it, and fails without harm."""

import asyncio
import contextlib
import os
import sqlite3
import sys

import pytest
from tortoise.exceptions import TransactionManagementError
from tortoise.transactions import in_transaction

from api import database as door
from billing.models import Account

#: Reads, then writes, as a command does beside a running server.
READ_THEN_WRITE = """
import asyncio, sys
from tortoise.transactions import in_transaction
from api.database import open_database
from billing.models import Account
async def main():
    async with open_database(sys.argv[1]):
        for _ in range(25):
            async with in_transaction():
                account = await Account.get()
                await asyncio.sleep(0.002)
                await Account.filter(id=account.id).update(facts_version=account.facts_version + 1)
asyncio.run(main())
"""


async def test_it_loses_no_write_between_processes(sqlite_url, factory):
    """Two processes that read and then write at the same time both succeed every time."""
    async with door.open_database(sqlite_url):
        await factory.account()
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", READ_THEN_WRITE, sqlite_url, stderr=asyncio.subprocess.PIPE
            )
            for _ in range(2)
        ]
        errors = [(await process.communicate())[1].decode() for process in processes]
        assert [process.returncode for process in processes] == [0, 0], errors
        assert (await Account.get()).facts_version == 51


async def test_it_leaves_the_connection_usable_when_the_lock_cannot_be_had(sqlite_url, factory, monkeypatch):
    """A transaction that never began blocks nothing that comes after it."""
    monkeypatch.setattr(door, "BUSY_TIMEOUT_MS", 50)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite://"), isolation_level=None)
    async with door.open_database(sqlite_url):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransactionManagementError, match="locked"):
            async with in_transaction():
                pytest.fail("the transaction began without the lock")
        assert await Account.all().count() == 0
        other.execute("ROLLBACK")
        other.close()
        async with in_transaction():
            await factory.account()
        assert await Account.all().count() == 1


async def test_it_leaves_no_open_transaction_when_a_task_is_cancelled_while_it_waits(sqlite_url, factory):
    """What a cancelled task began in the database's thread is undone there."""
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite://"), isolation_level=None)

    async def waits() -> None:
        async with in_transaction():
            pytest.fail("the transaction began after its task was cancelled")

    async with door.open_database(sqlite_url):
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(waits())
        await asyncio.sleep(0.1)
        task.cancel()
        other.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await task
        other.execute("BEGIN IMMEDIATE")  # refused at once if a transaction of ours were still open
        other.execute("ROLLBACK")
        other.close()
        await factory.account()
        assert await Account.all().count() == 1


async def test_it_rolls_back_what_fails_inside_and_keeps_what_surrounds_it(sqlite_database, factory):
    """A nested transaction is a savepoint: its failure leaves the outer one whole."""
    async with in_transaction():
        await factory.account()
        with contextlib.suppress(ZeroDivisionError):
            async with in_transaction():
                await factory.account()
                raise ZeroDivisionError
        await factory.account()
    assert await Account.all().count() == 2


@pytest.mark.parametrize("mask", [0o022, 0o000])
async def test_a_file_that_it_makes_is_its_owners_alone(tmp_path, mask):
    """No other user of the machine reads names and money in it, nor in its log, whatever the process's mask is."""
    before = os.umask(mask)
    try:
        await door.upgrade(f"sqlite://{tmp_path / 'new.db'}")
        async with door.open_database(f"sqlite://{tmp_path / 'new.db'}"):
            modes = {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("new.db", "new.db-wal", "new.db-shm"), "0o600")


async def test_it_leaves_the_mode_of_a_file_that_is_there(tmp_path):
    """Who may read it is its owner's decision."""
    file = tmp_path / "mine.db"
    file.touch()
    file.chmod(0o640)
    await door.upgrade(f"sqlite://{file}")
    assert file.stat().st_mode & 0o777 == 0o640
