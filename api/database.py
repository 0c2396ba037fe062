"""The one door to the database: its URL, opening and closing it, migrating it, and what version it has.

Owns connections and their settings. Knows no table: those belong to the `models` modules, and their constraints to
`api.migrations`. An error names the setting, the fault and a correct example, and never repeats a password.
"""

import asyncio
import fcntl
import os
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException
from tortoise.migrations.executor import MigrationExecutor
from tortoise.migrations.migration import Migration
from tortoise.migrations.operations import CreateModel, RunSQL
from tortoise.migrations.recorder import MigrationRecorder
from tortoise.migrations.schema_editor import AsyncpgSchemaEditor, SqliteSchemaEditor
from tortoise.migrations.schema_generator.state import State
from tortoise.migrations.schema_generator.state_apps import StateApps
from tortoise.transactions import in_transaction

APP = "abeyance"
SETTING = "ABEYANCE_DATABASE_URL"
EXAMPLE = "sqlite://abeyance.db or postgres://user:password@host/database"
#: One number for the whole product: whoever holds this advisory lock migrates.
UPGRADE_LOCK = 0x6162_6579
UPGRADE_PATIENCE_SECONDS = 120
BUSY_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_SECONDS = 10


class DatabaseProblem(Exception):  # noqa: N818 - what is wrong is outside the program
    """Something is wrong with the database; the message says what and how to mend it."""


class DatabaseUrlInvalid(DatabaseProblem):
    """The URL cannot be used."""


class DatabaseUnreachable(DatabaseProblem):
    """Nothing answers at the URL, or it refuses us."""


class SchemaNotMigrated(DatabaseProblem):
    """Migrations are waiting to be applied."""


class SchemaTooNew(DatabaseProblem):
    """The database has migrations that this version of the product does not know."""


@dataclass(frozen=True, kw_only=True)
class UpgradeReport:
    """What an upgrade did: the migrations applied now, in order, and the version after it."""

    applied: tuple[str, ...]
    version: str


def tortoise_config(url: str, *, foreign_keys: bool = True) -> dict[str, Any]:
    """Return the ORM's configuration for a database URL; raise `DatabaseUrlInvalid` when it is not one."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    scheme = found[1].lower() if found else ""
    if scheme == "sqlite":
        connection = _sqlite(url[len("sqlite://") :], foreign_keys=foreign_keys)
    elif scheme in ("postgres", "postgresql"):
        connection = _postgres(url)
    else:
        fault = f"the scheme {scheme!r} is not supported" if scheme else "it has no scheme"
        raise _invalid(fault)
    return {
        "connections": {"default": connection},
        "apps": {
            APP: {
                "models": [
                    "billing.models",
                    "billing.money_models",
                    "billing.attempt_models",
                    "billing.approval_models",
                    "reconciler.models",
                    "reconciler.guard_models",
                    "reconciler.outgoing_models",
                    "api.models",
                ],
                "default_connection": "default",
                "migrations": "api.migrations",
            }
        },
        "use_tz": True,
        "timezone": "UTC",
    }


def _invalid(fault: str) -> DatabaseUrlInvalid:
    return DatabaseUrlInvalid(f"{SETTING}: {fault}; write for example {EXAMPLE}")


def _sqlite(path: str, *, foreign_keys: bool) -> dict[str, Any]:
    if not path:
        raise _invalid("it names no file")
    if path.startswith(":memory:") or "?" in path:
        raise _invalid("SQLite needs the path of a file, without options")
    file = Path(path)
    if file.is_dir():
        raise _invalid(f"{file} is a folder, not a file")
    return {
        "engine": "api.sqlite_engine",
        "credentials": {
            "file_path": path,
            "busy_timeout": BUSY_TIMEOUT_MS,
            "foreign_keys": "ON" if foreign_keys else "OFF",
            # Without it, INSERT OR REPLACE would delete a row past the triggers that refuse deletion.
            "recursive_triggers": "ON",
            # With the write-ahead log this loses nothing when the process dies, only the last moments when power fails.
            "synchronous": "NORMAL",
        },
    }


_POSTGRES_OPTIONS = {"sslmode": "ssl", "minsize": "minsize", "maxsize": "maxsize", "host": "host"}


async def _nothing_to_reset(_: object) -> None:
    """Leave a connection as it is: a reset per statement is a round trip, and asyncpg ends open transactions itself."""


def _postgres(url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _invalid("the part before the database's name cannot be read") from error
    database = unquote(parts.path.lstrip("/"))
    if not database:
        raise _invalid("it names no database")
    credentials: dict[str, Any] = {
        "host": parts.hostname,
        "port": port or 5432,
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "database": database,
        "timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": APP,
        "minsize": 1,
        "maxsize": 10,
        "reset": _nothing_to_reset,
    }
    for name, value in parse_qsl(parts.query):
        if name not in _POSTGRES_OPTIONS:
            raise _invalid(f"the option {name!r} is unknown (known: {', '.join(sorted(_POSTGRES_OPTIONS))})")
        if name.endswith("size") and not value.isdecimal():
            raise _invalid(f"the option {name!r} must be a number")
        credentials[_POSTGRES_OPTIONS[name]] = int(value) if name.endswith("size") else value
    return {"engine": "api.postgres_engine", "credentials": credentials}


def place(url: str) -> str:
    """Return where the database is, fit for a message: without user and password."""
    connection = tortoise_config(url)["connections"]["default"]
    given = connection["credentials"]
    if "file_path" in given:
        return str(given["file_path"])
    return f"{given['database']} on {given['host'] or 'the local socket'}:{given['port']}"


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[TortoiseContext]:
    """Open the database for this process and close it again, whatever happens in between.

    The connection is the process's fallback, because requests, ticks and the task that opened it are different tasks.
    Raise `DatabaseUrlInvalid`, `DatabaseUnreachable`, `SchemaNotMigrated` or `SchemaTooNew`.
    """
    _refuse_missing(url)
    context = TortoiseContext()
    try:
        with context:
            await _initialise(context, url, process_wide=True)
        applied = await _applied(context.db(), url)
        _refuse_unknown(applied)
        waiting = [name for name in known_migrations() if name not in applied]
        if waiting:
            raise SchemaNotMigrated(
                f"the database {place(url)} lacks the migrations {', '.join(waiting)}: run `abeyance db upgrade`"
            )
        yield context
    finally:
        # An unclosed SQLite connection keeps its thread, and with it the process, alive for ever.
        await context.close_connections()


async def schema_version(url: str) -> str | None:
    """Return the name of the last migration applied; None when there is none yet, or not even a file."""
    if _missing_file(url) is not None:
        return None
    async with private_connection(url) as connection:
        applied = await _applied(connection, url)
    return applied[-1] if applied else None


async def upgrade(url: str) -> UpgradeReport:
    """Apply every waiting migration, each in one transaction with the row that records it.

    Safe beside other processes that do the same: one migrates, the others wait and find nothing left. Raise as
    `open_database` does, except that a database that is not migrated is what this is for.
    """
    done: list[str] = []
    async with _upgrade_lock(url), private_connection(url, foreign_keys=False) as connection:
        applied = await _applied(connection, url)
        _refuse_unknown(applied)
        if applied == known_migrations():
            return UpgradeReport(applied=(), version=applied[-1])
        executor = MigrationExecutor(connection, tortoise_config(url)["apps"])
        await MigrationRecorder(connection).ensure_schema(_editor(connection))
        state = State(models={}, apps=StateApps(default_connections={APP: "default"}))
        await executor.loader.build_graph()
        for key in sorted(executor.loader.graph.nodes):
            migration = executor.loader.graph.nodes[key]
            if not isinstance(migration, Migration):
                raise DatabaseProblem(f"the migration {key.name} is missing from api/migrations")
            if key.name in applied:
                await migration.apply(state, dry_run=True)
            else:
                await _apply(migration, state)
                done.append(key.name)
    return UpgradeReport(applied=tuple(done), version=known_migrations()[-1])


def _missing_file(url: str) -> Path | None:
    """Return SQLite's file where there is none, or an empty one: opening it would begin a database."""
    named = tortoise_config(url)["connections"]["default"]["credentials"].get("file_path")
    file = Path(named or "")
    if named is None or not file.resolve().parent.is_dir() or (file.exists() and file.stat().st_size):
        return None
    return file


def _refuse_missing(url: str) -> None:
    file = _missing_file(url)
    if file is not None:
        state = "is empty" if file.exists() else "does not exist"
        remedy = f"run `abeyance db upgrade`, which makes it, or correct {SETTING}"
        raise SchemaNotMigrated(f"the database {file} {state}: {remedy}")


def known_migrations() -> list[str]:
    """Return the names of the migrations that this version of the product has, oldest first."""
    folder = Path(__file__).parent / "migrations"
    return sorted(file.stem for file in folder.glob("[0-9]*.py"))


async def _apply(migration: Migration, state: State) -> None:
    # The ORM's own executor records a migration after its transaction: a crash between the two would leave
    # a database that can never be upgraded again.
    async with in_transaction("default") as transaction:
        editor = _editor(transaction)
        await _carry_out(migration, state, editor)
        await MigrationRecorder(transaction).record_applied(APP, migration.name)
        if transaction.capabilities.dialect == "sqlite":
            orphans = await transaction.execute_query_dict("PRAGMA foreign_key_check")
            if orphans:
                tables = ", ".join(sorted({str(row["table"]) for row in orphans}))
                raise DatabaseProblem(f"the migration {migration.name} would leave orphaned rows in {tables}")


async def _carry_out(migration: Migration, state: State, editor: Any) -> None:
    # As the ORM does, but without a copy of all models for operations that never look at what was before: those
    # copies cost two thirds of the time of a first upgrade.
    for operation in migration.operations:
        before = state if isinstance(operation, CreateModel | RunSQL) else state.clone()
        operation.state_forward(APP, state)
        await operation.database_forward(APP, before, state, editor)
    state.validate_relations_initialized()


def _editor(connection: BaseDBAsyncClient) -> Any:
    sqlite = connection.capabilities.dialect == "sqlite"
    return (SqliteSchemaEditor if sqlite else AsyncpgSchemaEditor)(connection, atomic=True)


def _refuse_unknown(applied: list[str]) -> None:
    unknown = [name for name in applied if name not in known_migrations()]
    if unknown:
        raise SchemaTooNew(
            f"the database has the migration {unknown[-1]}, which this version of Abeyance does not know: "
            "it is newer than the program; install the version that wrote it, or restore an older backup"
        )


async def _applied(connection: BaseDBAsyncClient, url: str) -> list[str]:
    """Return the names of the applied migrations, oldest first; this is the first statement on a connection."""
    exists = (
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'tortoise_migrations'"
        if connection.capabilities.dialect == "sqlite"
        else "SELECT 1 WHERE to_regclass('tortoise_migrations') IS NOT NULL"
    )
    try:
        if not await connection.execute_query_dict(exists):
            return []
        rows = await connection.execute_query_dict(
            "SELECT name FROM tortoise_migrations WHERE app = 'abeyance' ORDER BY name"
        )
    except (OSError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, BaseORMException) as error:
        raise _unreachable(url, error) from error
    return [row["name"] for row in rows]


def _unreachable(url: str, error: Exception) -> DatabaseUnreachable:
    reason = str(error) or type(error).__name__
    password = tortoise_config(url)["connections"]["default"]["credentials"].get("password")
    if password:
        reason = reason.replace(password, "***")
    return DatabaseUnreachable(
        f"{SETTING}: the database {place(url)} cannot be used: {reason}; "
        f"check that it is running and that the value is right, for example {EXAMPLE}"
    )


@asynccontextmanager
async def private_connection(url: str, *, foreign_keys: bool = True) -> AsyncIterator[BaseDBAsyncClient]:
    """Open a connection of its own, beside the process's."""
    async with TortoiseContext() as context:
        await _initialise(context, url, foreign_keys=foreign_keys)
        yield context.db()


async def _initialise(
    context: TortoiseContext, url: str, *, foreign_keys: bool = True, process_wide: bool = False
) -> None:
    config = tortoise_config(url, foreign_keys=foreign_keys)
    file = config["connections"]["default"]["credentials"].get("file_path")
    if file and not Path(file).resolve().parent.is_dir():
        raise _unreachable(url, FileNotFoundError(f"the folder {Path(file).resolve().parent} does not exist"))
    # The ORM keeps finished statements by the connection's name, so those of one kind of database would
    # be sent to the other where one process opens both in turn.
    EXECUTOR_CACHE.clear()
    await context.init(config=config, _enable_global_fallback=process_wide)


@asynccontextmanager
async def _upgrade_lock(url: str) -> AsyncIterator[None]:
    credentials = tortoise_config(url)["connections"]["default"]["credentials"]
    if "file_path" in credentials:
        async with _folder_lock(Path(credentials["file_path"]).resolve().parent, url):
            yield
        return
    wanted = {
        name: credentials.get(name) for name in ("host", "port", "user", "password", "database", "timeout")
    }
    try:
        connection = await asyncpg.connect(**wanted, ssl=credentials.get("ssl"))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _unreachable(url, error) from error
    try:
        await connection.execute(f"SET lock_timeout = '{UPGRADE_PATIENCE_SECONDS}s'")
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", UPGRADE_LOCK)
        except asyncpg.LockNotAvailableError as error:
            raise _still_upgrading(url) from error
        yield
    finally:
        await connection.close()


@asynccontextmanager
async def _folder_lock(folder: Path, url: str) -> AsyncIterator[None]:
    # The folder and not the file: closing any handle on the file would drop SQLite's own locks on it.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _unreachable(url, error) from error
    try:
        for _ in range(UPGRADE_PATIENCE_SECONDS * 20):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)
        else:
            raise _still_upgrading(url)
        yield
    finally:
        os.close(handle)


def _still_upgrading(url: str) -> DatabaseProblem:
    return DatabaseProblem(
        f"another process has been upgrading the database {place(url)} for more than "
        f"{UPGRADE_PATIENCE_SECONDS} seconds: wait for it, or end it, then try again"
    )
