"""Opening, refusing and upgrading the database, on SQLite and on PostgreSQL."""

import asyncio
import contextvars
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tortoise.migrations import migration as orm
from tortoise.migrations import operations as ops
from tortoise.migrations.schema_generator.state import State
from tortoise.migrations.schema_generator.state_apps import StateApps

from api import database as door
from api.catalog import check
from api.migrations._sql import PerDialect
from billing.models import Account, StripeMirror
from reconciler.models import ReconcilerState


def _python(code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


UPGRADE = (
    "import asyncio, sys; from api.database import upgrade; print(asyncio.run(upgrade(sys.argv[1])).applied)"
)


async def test_it_migrates_a_fresh_database_to_the_expected_catalog(empty_database_url):
    """Nothing, then everything: and the real catalog is the one under review."""
    assert await door.schema_version(empty_database_url) is None
    report = await door.upgrade(empty_database_url)
    assert list(report.applied) == door.known_migrations()
    assert await door.schema_version(empty_database_url) == report.version == door.known_migrations()[-1]
    assert await check(empty_database_url) == []


async def test_it_keeps_every_row_in_a_second_upgrade(database, factory):
    """An upgrade with nothing to do touches nothing, the two single rows included."""
    await factory.hold(await factory.server())
    await ReconcilerState.filter(id=1).update(generation=7)
    report = await door.upgrade(database)
    assert report.applied == ()
    assert (await ReconcilerState.get(id=1)).generation == 7
    assert await StripeMirror.all().count() == 1
    assert await Account.all().count() == 1


def test_it_lets_three_processes_upgrade_at_once(empty_database_url):
    """One of them migrates, the others wait and find nothing left; none fails."""
    processes = [_python(UPGRADE, empty_database_url) for _ in range(3)]
    answers = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert sorted(answer[0].strip() == "()" for answer in answers) == [False, True, True]
    assert asyncio.run(check(empty_database_url)) == []


async def test_it_leaves_nothing_of_a_migration_that_fails_halfway(empty_database_url, monkeypatch):
    """A crash inside a migration leaves the database at the one before, ready to be upgraded again."""
    whole = PerDialect.database_forward

    async def breaks(self, app_label, old_state, new_state, state_editor=None):
        if any("generation" in statement for statement in self._by_dialect["sqlite"]):
            raise RuntimeError("the machine went down")
        await whole(self, app_label, old_state, new_state, state_editor)

    monkeypatch.setattr(PerDialect, "database_forward", breaks)
    with pytest.raises(RuntimeError, match="went down"):
        await door.upgrade(empty_database_url)
    assert await door.schema_version(empty_database_url) == door.known_migrations()[0]
    monkeypatch.undo()
    report = await door.upgrade(empty_database_url)
    assert list(report.applied) == door.known_migrations()[1:]
    assert await check(empty_database_url) == []


async def test_it_undoes_a_migration_that_would_orphan_rows(sqlite_url, factory):
    """Foreign keys are off while SQLite migrates; what they would have refused is found before the commit."""
    async with door.open_database(sqlite_url):
        await factory.invoice(await factory.account())

    class Careless(orm.Migration):
        operations = (ops.RunSQL("DELETE FROM account"),)

    state = State(models={}, apps=StateApps(default_connections={door.APP: "default"}))
    async with door.private_connection(sqlite_url, foreign_keys=False):
        with pytest.raises(door.DatabaseProblem, match="orphaned rows in invoice"):
            await door._apply(Careless("9999_careless", door.APP), state)
    async with door.open_database(sqlite_url):
        assert await Account.all().count() == 1
    assert await door.schema_version(sqlite_url) == door.known_migrations()[-1]


async def test_it_refuses_a_database_that_is_not_migrated(empty_database_url):
    """The message names the command that mends it."""
    with pytest.raises(door.SchemaNotMigrated, match="abeyance db upgrade"):
        async with door.open_database(empty_database_url):
            pass


async def test_it_refuses_a_database_that_is_newer_than_the_program(database_url):
    """Neither opening nor upgrading touches a database of a later version."""
    async with door.private_connection(database_url) as connection:
        await connection.execute_query(
            "INSERT INTO tortoise_migrations (app, name, applied_at) "
            "VALUES ('abeyance', '9999_later', '2026-11-20 09:00:00+00:00')"
        )
    with pytest.raises(door.SchemaTooNew, match="9999_later"):
        async with door.open_database(database_url):
            pass
    with pytest.raises(door.SchemaTooNew, match="newer than the program"):
        await door.upgrade(database_url)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("abeyance.db", "no scheme"),
        ("mysql://root:hunter2@host/db", "'mysql' is not supported"),
        ("sqlite://", "names no file"),
        ("sqlite://:memory:", "path of a file"),
        ("sqlite://a.db?foreign_keys=OFF", "without options"),
        ("sqlite:///tmp", "is a folder"),
        ("postgres://user:hunter2@host", "names no database"),
        ("postgres://user:hunter2@host:port/db", "cannot be read"),
        ("postgres://user:hunter2@[host/db", "cannot be read"),
        ("postgres://user:hunter2@host/db?pool=3", "'pool' is unknown"),
        ("postgres://user:hunter2@host/db?maxsize=many", "'maxsize' must be a number"),
    ],
)
async def test_it_says_what_is_wrong_with_a_url(url, fault):
    """Setting, fault and example in one line; the password in none of it."""
    with pytest.raises(door.DatabaseUrlInvalid, match=fault) as caught:
        door.tortoise_config(url)
    assert "ABEYANCE_DATABASE_URL" in str(caught.value)
    assert "sqlite://abeyance.db" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_it_reads_a_password_with_special_characters():
    """User and password are percent-decoded; the place for messages has neither."""
    url = "postgresql://us%40er:p%2Fa%5Bs@db.example:6432/bill%20ing?sslmode=require&maxsize=4"
    given = door.tortoise_config(url)["connections"]["default"]["credentials"]
    assert (given["user"], given["password"], given["database"]) == ("us@er", "p/a[s", "bill ing")
    assert (given["ssl"], given["maxsize"], given["port"]) == ("require", 4, 6432)
    assert door.place(url) == "bill ing on db.example:6432"


@pytest.mark.parametrize("command", ["open", "upgrade"])
def test_it_ends_with_a_clear_error_when_nothing_answers(command):
    """The process ends by itself, and neither the message nor the traceback has the password."""
    work = {"upgrade": "upgrade(sys.argv[1])", "open": "open_database(sys.argv[1]).__aenter__()"}[command]
    code = (
        "import asyncio, sys\nfrom api.database import *\n"
        "async def main():\n"
        "    try:\n"
        f"        await {work}\n"
        "    except DatabaseUnreachable as error:\n        print(error)\n"
        "asyncio.run(main())"
    )
    process = _python(code, "postgres://abeyance:hunter2@127.0.0.1:1/db")
    out, err = process.communicate(timeout=60)
    assert "ABEYANCE_DATABASE_URL: the database db on 127.0.0.1:1 cannot be used" in out, err
    assert "hunter2" not in out + err
    assert process.returncode == 0


@pytest.mark.postgres
async def test_it_says_that_a_postgres_database_does_not_exist(postgres_url):
    """An unknown database is an unreachable one, with PostgreSQL's own words."""
    with pytest.raises(door.DatabaseUnreachable, match="nowhere"):
        async with door.open_database(postgres_url.rsplit("/", 1)[0] + "/nowhere"):
            pass


async def test_it_says_that_a_file_is_no_database(tmp_path):
    """A file of something else is neither opened nor changed."""
    file = tmp_path / "notes.db"
    file.write_text("milk, bread, and a long enough line that it cannot be taken for an empty file\n" * 20)
    before = file.read_bytes()
    with pytest.raises(door.DatabaseUnreachable, match=r"notes\.db cannot be used"):
        await door.upgrade(f"sqlite://{file}")
    assert file.read_bytes() == before


async def test_it_says_that_the_folder_of_the_file_is_missing(tmp_path):
    """A missing folder is named, not made."""
    for work in (door.upgrade, door.schema_version):
        with pytest.raises(door.DatabaseUnreachable, match="nowhere"):
            await work(f"sqlite://{tmp_path}/nowhere/abeyance.db")
    assert not Path(tmp_path, "nowhere").exists()


async def test_it_serves_tasks_that_did_not_open_it(database, factory):
    """Requests and ticks run in tasks of their own and still find the database."""
    await factory.account()
    found: list[int] = []

    async def request() -> None:
        found.append(await Account.all().count())

    loop = asyncio.get_running_loop()
    await loop.create_task(request(), context=contextvars.Context())
    assert found == [1]


async def test_it_closes_when_the_work_fails(database_url):
    """After an error the database can be opened again in the same process."""
    with pytest.raises(ZeroDivisionError):
        async with door.open_database(database_url):
            raise ZeroDivisionError
    async with door.open_database(database_url):
        assert await Account.all().count() == 0


async def test_it_opens_sqlite_with_the_settings_that_it_needs(sqlite_database):
    """Write-ahead log, foreign keys, and no sync per transaction."""
    async with door.private_connection(sqlite_database) as connection:
        pragmas = {}
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "recursive_triggers"):
            [row] = await connection.execute_query_dict(f"PRAGMA {name}")
            pragmas[name] = next(iter(row.values()))
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 1,
        "foreign_keys": 1,
        "busy_timeout": door.BUSY_TIMEOUT_MS,
        "recursive_triggers": 1,
    }


async def test_it_accepts_a_path_with_blanks_and_signs(tmp_path):
    """The path is taken as it stands."""
    folder = tmp_path / "a b%20 'c"
    folder.mkdir()
    await door.upgrade(f"sqlite://{folder}/my data.db")
    with sqlite3.connect(folder / "my data.db") as connection:
        assert connection.execute("SELECT count(*) FROM account").fetchone() == (0,)
    connection.close()


@pytest.mark.postgres
async def test_a_transaction_that_was_left_open_ends_with_its_turn(postgres_url: str) -> None:
    """It is rolled back when its connection goes back to the pool, although nothing else is reset there."""
    async with door.open_database(f"{postgres_url}?minsize=1&maxsize=1") as context:
        connection = context.db()
        async with connection.acquire_connection() as raw:
            await raw.execute("BEGIN")
            await raw.execute("CREATE TABLE left_over (id int)")
        assert await connection.execute_query_dict("SELECT to_regclass('left_over') AS it") == [{"it": None}]
