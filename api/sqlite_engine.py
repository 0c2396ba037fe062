"""The SQLite connection that the ORM uses here: its own, with transactions that take the write lock when they begin.

Owns that repair, and the mode of a file that is made. SQLite's deferred default answers "database is locked" at once,
whatever the busy timeout, to a process that reads first and writes later while another one wrote between the two.
"""

import contextlib
import os
import sqlite3
from typing import Any

from tortoise.backends.base.client import NestedTransactionContext, TransactionalDBClient, TransactionContext
from tortoise.backends.sqlite.client import (
    SqliteClient,
    SqliteTransactionContext,
    SqliteTransactionWrapper,
)
from tortoise.connection import get_connections
from tortoise.exceptions import TransactionManagementError


class ImmediateClient(SqliteClient):
    """A SQLite connection whose transactions begin with the write lock, and whose new file is its owner's alone."""

    async def create_connection(self, with_db: bool) -> None:
        """Connect. A file that is there keeps the mode that its owner gave it."""
        if not self._connection:
            _make_private(self.filename)
        await super().create_connection(with_db)

    def _in_transaction(self) -> TransactionContext:
        return ImmediateContext(ImmediateTransaction(self), self._lock)


def _make_private(file: str) -> None:
    """Make the file for its owner alone where there is none: it holds names, addresses and money.

    SQLite gives its log and its shared memory the mode of the file (https://www.sqlite.org/src/file/src/os_unix.c,
    findCreateFileMode). Never opens a file that is there: closing it again would drop SQLite's locks on it.
    """
    # SQLite itself says what is wrong with a place where no file can be made.
    with contextlib.suppress(OSError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


class ImmediateContext(SqliteTransactionContext):
    """Enters a transaction, or leaves the connection as it was when the lock cannot be had."""

    async def __aenter__(self) -> TransactionalDBClient:
        # Written anew because the inherited method keeps the process-wide lock for ever when BEGIN fails,
        # which only a transaction that takes the write lock can.
        await self._trxlock.acquire()
        try:
            await self.ensure_connection()
            self.token = get_connections().set(self.connection_name, self.connection)
            try:
                await self.connection.begin()
            except BaseException:
                get_connections().reset(self.token)
                raise
        except BaseException:
            self._trxlock.release()
            raise
        return self.connection  # type: ignore[no-any-return]


class ImmediateTransaction(SqliteTransactionWrapper):
    """One transaction on the connection."""

    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(ImmediateTransaction(self))

    async def begin(self) -> None:
        """Take the write lock, waiting up to the busy timeout."""
        try:
            await self._connection.commit()
            await self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise TransactionManagementError(error) from error
        except BaseException:
            # Cancelled while waiting: the statement may still succeed in its thread, so undo it there, in order.
            await self._connection.rollback()
            raise


client_class: Any = ImmediateClient
