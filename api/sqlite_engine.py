"""The SQLite connection that the ORM uses here: its own, with transactions that take the write lock when they begin.

Owns that one repair. SQLite's deferred default answers "database is locked" at once, whatever the busy timeout, to a
process that reads first and writes later while another one wrote between the two.
"""

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
    """A SQLite connection whose transactions begin with the write lock."""

    def _in_transaction(self) -> TransactionContext:
        return ImmediateContext(ImmediateTransaction(self), self._lock)


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
