"""What a stranger with a customer's token learns of the schema from errors, asking as the tools for it do."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from graphql import build_schema

from api.graphql.schema import sdl
from api.models import Role
from api.rates import Allowances

pytestmark = pytest.mark.usefixtures("sqlite_database")

SCHEMA = build_schema(sdl())
#: The names that matter: ours, and not the language's own.
TYPES = {name for name in SCHEMA.type_map if not name.startswith("__")} - {
    "String", "Int", "Float", "Boolean", "ID"
}  # fmt: skip
#: Better than any list of common words: every name that the schema itself has, and some near misses.
WORDS = sorted({name for kind in SCHEMA.type_map.values() for name in getattr(kind, "fields", ())})
AT_ONCE = 40
_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")


def _documents() -> Iterator[str]:
    """Return the questions of such a tool: guessed fields with and without selections and arguments, at every level."""
    for begin in range(0, len(WORDS), AT_ONCE):
        words = WORDS[begin : begin + AT_ONCE]
        for root in ("query", "mutation"):
            yield f"{root} {{ {' '.join(words)} }}"
            yield f"{root} {{ {' '.join(f'{word} {{ x }}' for word in words)} }}"
            yield f"{root} {{ {' '.join(f'{word}(x: 1) {{ x }}' for word in words)} }}"
    for word in WORDS:
        yield f"{{ {word} }}"
        yield f"mutation {{ {word}(input: 7) {{ x }} }}"
        yield f"subscription {{ {word} }}"
        yield f"{{ viewer {{ {word} {{ x }} }} }}"
        yield f"{{ viewer {{ account {{ {word} {{ x }} {word}s {word}(x: 1) }} }} }}"
        yield f"{{ viewer {{ account {{ servers {{ edges {{ node {{ {word} {{ x }} }} }} }} }} }} }}"
    yield "query($a: X!) { server(id: $a) { id } }"
    yield "query($a: [Int]) { servers(filter: $a) { totalCount } }"


async def _told(door: Any, token: str, *, dev: bool) -> set[str]:
    """Return the type names in all messages that are not in the question itself."""
    door.dev = dev
    found: set[str] = set()
    for document in _documents():
        answer = (await door.post({"query": document}, token=token)).json()
        for error in answer.get("errors", ()):
            found |= TYPES & set(_NAME.findall(error["message"])) - set(_NAME.findall(document))
            assert dev or "Did you mean" not in error["message"]
    return found


async def test_errors_tell_a_stranger_hardly_a_type(door: Any, factory: Any, record_property: Any) -> None:
    """It names at most one in twenty of its types to somebody who knows all fields but no type."""
    door.ports = replace(door.ports, allowances=Allowances(people=1_000_000))
    account = await factory.account()
    token = await door.token(Role.CUSTOMER, account.external_id)
    found = await _told(door, token, dev=False)
    record_property("recovered", f"{len(found)} of {len(TYPES)}")
    print(f"recovered {len(found)} of {len(TYPES)} types")
    assert len(found) <= 0.05 * len(TYPES), sorted(found)


@pytest.mark.nightly
async def test_the_same_questions_would_tell_them(door: Any, factory: Any) -> None:
    """It is the hiding that keeps them: developers are told many."""
    door.ports = replace(door.ports, allowances=Allowances(people=1_000_000))
    account = await factory.account()
    token = await door.token(Role.CUSTOMER, account.external_id)
    assert len(await _told(door, token, dev=True)) > 0.2 * len(TYPES)


@pytest.mark.parametrize(
    ("query", "variables", "message"),
    [
        ("{ viewr { role } }", {}, "Cannot query field 'viewr' on type '…'."),
        ("{ viewer }", {}, "Field 'viewer' of type '…!' must have a selection of subfields."),
        ("{ plan { id digest } }", {}, "CUSTOMER may not ask for ….plan"),
        (
            "query($f: ServerFilter) { servers(filter: $f) { totalCount } }",
            {"f": {"status": ["ACTIV"]}},
            "Value 'ACTIV' does not exist in '…' enum.",
        ),
        (
            "query($f: ServerFilter) { servers(filter: $f) { totalCount } }",
            {"f": {"serach": "x"}},
            "Expected value of type 'ServerFilter' not to include unknown field 'serach'",
        ),
    ],
)
async def test_an_error_still_says_what_is_wrong(
    door: Any, factory: Any, query: str, variables: Any, message: str
) -> None:
    """It names what the sender wrote."""
    account = (await factory.account()).external_id
    answer = await door.ask(Role.CUSTOMER, query, variables, account=account)
    assert any(message in error["message"] for error in answer["errors"]), answer


async def test_an_error_quotes_little(door: Any) -> None:
    """It does not send back all that was wrong."""
    query = "query($f: ServerFilter) { servers(filter: $f) { totalCount } }"
    answer = await door.ask(Role.ADMIN, query, {"f": {"x" * 50_000: 1}})
    assert all(len(error["message"]) <= 501 for error in answer["errors"])
