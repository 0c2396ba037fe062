"""`abeyance audit`: verifying and erasing, as an operator meets them."""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from tortoise.connection import get_connection
from typer.testing import CliRunner, Result

from api.cli.commands import app
from api.database import open_database
from billing import audit, audit_seal
from billing.models import Account


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sqlite_url: str) -> Iterator[Any]:
    """Run a command on a database with three sealed rows of one customer; its result."""
    for name in [name for name in os.environ if name.startswith("ABEYANCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABEYANCE_DATABASE_URL", sqlite_url)

    def runs(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["audit", *arguments], catch_exceptions=False)

    yield runs
    structlog.reset_defaults()


@pytest.fixture
def _rows(sqlite_url: str, clock: Any) -> None:
    async def write() -> None:
        async with open_database(sqlite_url):
            account = await Account.create(
                external_id="kim", name="Kim", currency="EUR", created_at=clock.now()
            )
            for number in range(3):
                await audit.record(
                    "x", ("Server", number), at=clock.now(), actor="customer:kim", reason="x", account_id=account.id
                )  # fmt: skip
            await audit_seal.seal_all(random.Random(1))
            await audit.record(
                "x", ("Server", 9), at=clock.now(), actor="x", reason="x", account_id=account.id
            )

    asyncio.run(write())


@pytest.mark.usefixtures("_rows")
def test_it_prints_the_head_and_compares_those_that_were_noted(run: Any, tmp_path: Path) -> None:
    """The head alone is on standard output, so that it can be kept and given back."""
    verified = run("verify")
    assert verified.exit_code == 0
    assert verified.stdout.split()[0] == "3"
    assert "3 rows are as they were sealed, 0 of them erased" in verified.stderr
    assert "1 rows are not sealed yet" in verified.stderr
    noted = tmp_path / "heads"
    noted.write_text(verified.stdout)
    assert run("verify", "--head", str(noted)).exit_code == 0
    noted.write_text(f"9 {'a' * 64}\n")
    refused = run("verify", "--head", str(noted))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "ends at position 3" in refused.stderr


@pytest.mark.usefixtures("_rows")
def test_a_broken_trail_ends_with_1(run: Any, sqlite_url: str) -> None:
    """It names the place."""

    async def tamper() -> None:
        async with open_database(sqlite_url):
            connection = get_connection("default")
            await connection.execute_query("DROP TRIGGER audit_entry_only_sealed")
            await connection.execute_query("UPDATE audit_entry SET reason = 'y' WHERE position = 2")

    asyncio.run(tamper())
    broken = run("verify")
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert broken.stderr.startswith("abeyance: the audit trail is broken: row 2 at position 2")


@pytest.mark.usefixtures("_rows")
def test_a_file_that_holds_no_heads_is_told(run: Any, tmp_path: Path) -> None:
    """Missing, of another kind or no text at all."""
    file = tmp_path / "heads"
    assert "cannot be read" in run("verify", "--head", str(file)).stderr
    file.write_bytes(b"\xff\xfe")
    assert "it is not text" in run("verify", "--head", str(file)).stderr
    file.write_text("hello")
    assert "line 1 is not `POSITION HASH`" in run("verify", "--head", str(file)).stderr


@pytest.mark.usefixtures("_rows")
def test_it_erases_when_told_twice(run: Any) -> None:
    """Nobody there to answer is a no; afterwards the chain is whole."""
    asked = run("erase", "kim", "--reason", "asked by letter")
    assert asked.exit_code == 1
    assert "nothing was erased" in asked.stderr
    erased = run("erase", "kim", "--reason", "asked by letter", "--yes")
    told = "erased: 3 rows of the audit trail, 0 letters, 0 events, 0 work items\n"
    assert (erased.exit_code, erased.stdout) == (0, told)
    assert "1 rows of this account are too new" in erased.stderr
    assert "3 of them erased" in run("verify").stderr
    assert run("erase", "nobody", "--reason", "x", "--yes").exit_code == 1
