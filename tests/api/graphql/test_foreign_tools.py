"""Tools that none of us wrote try the API over a real socket: schemathesis for faults, clairvoyance for its types."""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from graphql import build_schema

from api.graphql import ids
from api.graphql.schema import SDL_FILE
from api.models import Role
from api.rates import Allowances

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900), pytest.mark.usefixtures("sqlite_database")]

TOOLS = Path(__file__).parents[3] / ".venv-foreign" / "bin"
NOUNS = ("Account", "Server", "Invoice", "Run", "Override", "WorkItem", "Card")
#: For every operation of the schema and every role; five roles make more than two thousand.
CASES = 8
#: Where developers are told everything, clairvoyance goes on for very long; after each turn it writes what it knows.
PATIENCE_SECONDS = 200
SCHEMA = build_schema(SDL_FILE.read_text(encoding="utf-8"))
#: The names that matter: ours, and not the language's own.
TYPES = {name for name in SCHEMA.type_map if not name.startswith("__")} - {
    "String", "Int", "Float", "Boolean", "ID"
}  # fmt: skip
_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")


@pytest.fixture
def run(require: Callable[[str], NoReturn], tmp_path: Path) -> Any:
    """Runs a tool of the environment of its own to the end, or for so many seconds; gives what it said."""

    async def run(tool: str, *arguments: str, within: float = 800, **environment: str) -> str:
        if not (TOOLS / tool).exists():
            require("the tools of others are not set up: make setup-foreign")
        said = tmp_path / "said"
        with said.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                TOOLS / tool, *arguments, cwd=tmp_path, env=os.environ | environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), within)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        return said.read_text(encoding="utf-8", errors="replace")

    return run


@pytest.mark.parametrize("role", list(Role))
async def test_schemathesis_finds_no_fault(
    door: Any, factory: Any, run: Any, tmp_path: Path, role: Role
) -> None:
    """Every operation of the schema, asked as this role, is answered or refused with a code."""
    door.ports = replace(door.ports, allowances=Allowances(people=10**6, control=10**6))
    account = await (await factory.furnished()).account
    token = await door.token(role, account.external_id if role is Role.CUSTOMER else None)
    tally, report = tmp_path / "tally", tmp_path / "report.json"
    async with door.listening() as url:
        said = await run(
            "schemathesis", "run", str(SDL_FILE), "--url", url, "--header", f"Authorization: Bearer {token}",
            "--phases", "fuzzing", "--checks", "answered_or_refused", "--max-examples", str(CASES),
            "--generation-database", "none", "--seed", "7", "--no-color",
            "--report", "json", "--report-json-path", str(report),
            SCHEMATHESIS_HOOKS="schemathesis_hooks", PYTHONPATH=str(Path(__file__).parent),
            ABEYANCE_TALLY=str(tally), ABEYANCE_IDS=" ".join(ids.global_id(noun, 1) for noun in NOUNS),
        )  # fmt: skip
    told = json.loads(report.read_text(encoding="utf-8"))
    assert (told["exit_code"], told["failures"], told["errors"]) == (0, [], []), said
    outcomes = Counter(tally.read_text(encoding="utf-8").split())
    print(f"{role}: {told['test_cases']['generated']} cases, {dict(outcomes)}")
    fields = {*SCHEMA.query_type.fields, *SCHEMA.mutation_type.fields}  # type: ignore[union-attr]
    assert told["operations"]["tested"] == len(fields)
    assert told["test_cases"]["generated"] >= 400
    assert outcomes["answered"] >= 30, outcomes


@pytest.mark.parametrize(("dev", "least", "most"), [(False, 0.0, 0.05), (True, 0.1, 1.0)])
async def test_clairvoyance_recovers_hardly_a_type(
    door: Any, factory: Any, run: Any, tmp_path: Path, dev: bool, least: float, most: float
) -> None:
    """It learns at most one type name in twenty, guessing with true names of fields; developers are told many.

    Told no type of any field, it gives up; what it has said until then counts as well.
    """
    door.ports = replace(door.ports, allowances=Allowances(people=10**6))
    door.dev = dev
    token = await door.token(Role.CUSTOMER, (await factory.account()).external_id)
    words, found = tmp_path / "words", tmp_path / "schema.json"
    names = {name for noun in ("Query", "Viewer") for name in SCHEMA.type_map[noun].fields}  # type: ignore[attr-defined]
    words.write_text("\n".join(sorted(names)), encoding="utf-8")
    async with door.listening() as url:
        said = await run(
            "clairvoyance", "-o", str(found), "-w", str(words), "-c", "8",
            "-H", f"Authorization: Bearer {token}", url, within=PATIENCE_SECONDS,
        )  # fmt: skip
    assert found.exists() or "Unable to get TypeRef" in said, said
    schema = found.read_text(encoding="utf-8") if found.exists() else ""
    recovered = TYPES & set(_NAME.findall(said + schema))
    print(f"recovered {len(recovered)} of {len(TYPES)} types with dev={dev}")
    assert least * len(TYPES) <= len(recovered) <= most * len(TYPES), (sorted(recovered), said)
