"""The comparison of the real catalog with the expected one sees what the ORM's own record hides."""

import pytest

from api.catalog import check, read_catalog
from api.database import private_connection, upgrade


async def _run(url: str, statement: str) -> None:
    async with private_connection(url) as connection:
        await connection.execute_query(statement)


@pytest.mark.parametrize(
    ("statement", "difference"),
    [
        ("DROP INDEX hold_open", "missing: index hold_open: CREATE UNIQUE INDEX"),
        ("DROP INDEX step_on_server", "missing: index step_on_server: CREATE UNIQUE INDEX"),
        ("CREATE TABLE note (id BIGINT)", "unexpected: column note.id: "),
        ("ALTER TABLE account ADD COLUMN mood TEXT", "unexpected: column account.mood: "),
        ("CREATE INDEX by_hand ON account (name)", "unexpected: index by_hand: CREATE INDEX"),
    ],
)
async def test_it_reports_a_change_made_by_hand(database_url, statement, difference):
    """Each difference is one line that names the object, on both databases."""
    await _run(database_url, statement)
    found = await check(database_url)
    assert any(" ".join(line.replace('"', "").split()).startswith(difference.rstrip()) for line in found), (
        found
    )


async def test_it_reports_a_check_that_is_gone(database_url):
    """A lost CHECK is seen, whichever way the database enforces it."""
    sqlite = database_url.startswith("sqlite")
    await _run(
        database_url,
        "DROP TRIGGER invoice_checks_update"
        if sqlite
        else "ALTER TABLE invoice DROP CONSTRAINT invoice_amount_due",
    )
    [line] = await check(database_url)
    assert line.startswith("missing: ")
    assert "amount_due" in line


async def test_it_reports_a_trigger_that_lets_the_audit_trail_be_changed(database_url):
    """Dropped on SQLite, merely disabled on PostgreSQL: neither goes unseen."""
    sqlite = database_url.startswith("sqlite")
    await _run(
        database_url,
        "DROP TRIGGER audit_entry_never_deleted"
        if sqlite
        else "ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_never_deleted",
    )
    assert any("audit_entry_never_deleted" in line for line in await check(database_url))


@pytest.mark.postgres
async def test_it_reports_a_function_that_no_longer_refuses(postgres_url):
    """The trigger is there, but what it calls has been replaced."""
    await _run(
        postgres_url,
        "CREATE OR REPLACE FUNCTION abeyance_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    )
    assert len(await check(postgres_url)) == 2


async def test_it_says_that_a_database_is_not_migrated(empty_database_url):
    """One line with the command, and not a list of everything that is missing."""
    [line] = await check(empty_database_url)
    assert "abeyance db upgrade" in line


async def test_it_says_that_a_database_is_newer_than_the_program(database_url):
    """An upgrade would not help, so none is advised."""
    await _run(
        database_url,
        "INSERT INTO tortoise_migrations (app, name, applied_at) "
        "VALUES ('abeyance', '9999_later', '2026-11-20 09:00:00+00:00')",
    )
    [line] = await check(database_url)
    assert "9999_later" in line
    assert "upgrade" not in line


@pytest.mark.postgres
async def test_it_lists_the_same_tables_on_both_databases(sqlite_url, postgres_url):
    """Both databases have the same columns; only their types' names differ."""
    listings = [await read_catalog(url) for url in (sqlite_url, postgres_url)]
    columns = [
        {line.split(":")[0] for line in lines if line.startswith("column ")} for _dialect, lines in listings
    ]
    assert columns[0] == columns[1]
    assert len(columns[0]) > 150


@pytest.mark.postgres
async def test_it_asks_for_no_extension(postgres_url):
    """An index that needs one may be missing; another in its place may not."""
    await _run(postgres_url, "DROP INDEX server_sought")
    assert await check(postgres_url) == []
    await _run(postgres_url, "CREATE INDEX server_sought ON server (name)")
    [line] = await check(postgres_url)
    assert line.startswith("unexpected: index server_sought: ")


@pytest.mark.postgres
async def test_a_database_is_migrated_without_the_right_to_extensions(empty_postgres_url):
    """Whoever may only make tables gets all of them, and no index of trigrams."""
    async with private_connection(empty_postgres_url) as connection:
        await connection.execute_script(
            "DROP ROLE IF EXISTS maker; CREATE ROLE maker LOGIN; GRANT ALL ON SCHEMA public TO maker"
        )
    url = empty_postgres_url.replace("abeyance@", "maker@")
    try:
        await upgrade(url)
        assert await check(url) == []
        _, lines = await read_catalog(url)
        assert not [line for line in lines if "_sought" in line]
        assert any("hold_stopping" in line for line in lines)
    finally:
        async with private_connection(empty_postgres_url) as connection:
            await connection.execute_script("DROP OWNED BY maker; DROP ROLE maker")
