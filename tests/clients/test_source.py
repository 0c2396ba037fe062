"""The committed clients are those of today's guide, schema and generators; what makes them old is noticed at once."""

import json
import shutil
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from clients.source import (
    CHECKOUT,
    FOLDER,
    GENERATORS,
    GUIDE,
    SCHEMA,
    WRITTEN,
    operations,
    record,
    recorded,
    touched,
)

COMMITTED = build_schema(SCHEMA.read_text(encoding="utf-8"))
GUIDED = operations(GUIDE.read_text(encoding="utf-8"))


def test_the_committed_clients_are_not_old() -> None:
    """`make clients` writes them anew, after a change of an operation, of what it touches or of a generator."""
    assert recorded() == record(), "make clients"


def test_the_files_of_operations_are_those_of_the_guide() -> None:
    """One place of truth: nobody edits them here."""
    files = {file.stem: file.read_text(encoding="utf-8") for file in (FOLDER / "operations").iterdir()}
    assert files == GUIDED


@pytest.mark.parametrize("name", GUIDED)
def test_every_operation_fits_the_schema(name: str) -> None:
    """The committed schema answers it."""
    text = (FOLDER / "operations" / f"{name}.graphql").read_text(encoding="utf-8")
    assert validate(COMMITTED, parse(text)) == []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of everything that the clients are made of."""
    for part in ("docs/portal.md", "api/graphql/schema.graphql", "clients/record.json", *GENERATORS):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKOUT / part, tmp_path / part)
    for part in WRITTEN:
        place, copy = FOLDER / part, tmp_path / "clients" / part
        if place.is_dir():
            shutil.copytree(place, copy)
        else:
            shutil.copyfile(place, copy)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "differs"),
    [
        ("docs/portal.md", "severity code title", "severity title", {"guide"}),
        ("api/graphql/schema.graphql", "  REQUIRES_ACTION\n", "  REQUIRES_SOMEBODY\n", {"schema"}),
        ("api/graphql/schema.graphql", "  clientSecret: String\n", "  clientSecret: String!\n", {"schema"}),
        ("api/graphql/schema.graphql", "type PlanSummary {\n", "type PlanSummary {\n  more: Int\n", set()),
        ("clients/typescript/generate.mjs", "immutableTypes: true", "immutableTypes: false", {"generators"}),
        ("clients/python/abeyance_client/pay.py", "client_secret", "secret", {"python/abeyance_client"}),
        ("clients/operations/Pay.graphql", "state", "", {"operations"}),
        ("clients/typescript/abeyance.ts", "readonly", "", {"typescript/abeyance.ts"}),
    ],
)
def test_what_makes_them_old_is_told(
    checkout: Path, file: str, old: str, new: str, differs: set[str]
) -> None:
    """The parts of the record that no longer agree say what was changed, and a change of something else is none."""
    text = (checkout / file).read_text(encoding="utf-8")
    assert old in text
    (checkout / file).write_text(text.replace(old, new), encoding="utf-8")
    now, then = record(checkout, checkout / "clients"), recorded(checkout / "clients")
    assert {part for part in then if now[part] != then[part]} == differs


def test_only_what_operations_touch_counts() -> None:
    """A field counts with its arguments, and an enum or an input with all that it holds."""
    schema = build_schema("""
        type Query { a(with: In, also: Int): Kind  b: Thing  c: Other }
        input In { inner: Deeper! } input Deeper { kind: Mood } enum Mood { GOOD }
        enum Kind { ONE TWO } type Thing { id: ID! name: String } enum Other { X }
    """)
    lines = touched(schema, [parse("{ a b { id } }")])
    assert lines == [
        "Query.a(also: Int, with: In): Kind", "Query.b(): Thing", "Thing.id(): ID!", "enum Kind {\n  ONE\n  TWO\n}",
        "enum Mood {\n  GOOD\n}", "input Deeper {\n  kind: Mood\n}", "input In {\n  inner: Deeper!\n}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["```graphql\n{ viewer { role } }\n```", "```graphql\nquery A { a }\n```\n" * 2]
)
def test_an_operation_without_a_name_of_its_own_is_refused(text: str) -> None:
    """Its name becomes a file, a class and a function."""
    with pytest.raises(ValueError, match="a name of its own"):
        operations(text)


def test_the_record_names_every_part() -> None:
    """Nothing that is written goes unnoticed when somebody edits it by hand."""
    assert set(json.loads((FOLDER / "record.json").read_text())) == {
        "guide",
        "schema",
        "generators",
        *WRITTEN,
    }
