"""What an operation is taken to cost: pages, lists and sizes, however they are given."""

import json
from typing import Any

import pytest
from graphql import GraphQLObjectType, build_schema, get_named_type, get_nullable_type, is_list_type, parse
from graphql.type import is_composite_type

from api.graphql import limits
from api.graphql.limits import MOST_ITEMS, problem_of
from api.graphql.schema import sdl
from api.models import Role

SERVERS = [f"s{number}" for number in range(100)]
#: 250 fields of a server; a hundred of them exceed the limit.
WIDE = "{ explanation { " + " ".join(f"r{i}: rule" for i in range(30)) + " } }"


def test_every_list_has_a_length() -> None:
    """A new list of objects is given a length, or pages; one that is gone is not kept."""
    paged, listed = set(), set()
    for kind in build_schema(sdl()).type_map.values():
        for name, field in getattr(kind, "fields", {}).items():
            if not isinstance(kind, GraphQLObjectType) or kind.name.startswith("__"):
                continue
            if get_named_type(field.type).name.endswith("Connection"):
                paged.add(name)
            elif is_list_type(get_nullable_type(field.type)) and is_composite_type(
                get_named_type(field.type)
            ):
                listed.add(name)
    assert paged == limits._PAGED
    assert listed - paged <= set(limits._LISTED)
    assert set(limits._LISTED) - listed <= {"codes"}


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (f"{{ serversByExternalId(externalIds: {json.dumps(SERVERS)}) {WIDE} }}", {}),
        (f"query($n: [String!]!) {{ serversByExternalId(externalIds: $n) {WIDE} }}", {"n": SERVERS}),
        (
            f"query($n: [String!]! = {json.dumps(SERVERS)}) {{ serversByExternalId(externalIds: $n) {WIDE} }}",
            {},
        ),
        ("{ viewer { accounts { servers(first: 100) { edges { node { name id } } } } } }", {}),
        (("{ ...v } fragment v on Query { viewer { ...a } } fragment a on Viewer { accounts "
         "{ servers(first: 100) { edges { node { name id } } } } }"), {}),
        (("{ servers(first: 100) { edges { node { gates { action allowed code message remedy until checkedAt } "
         "explanation { rule text value since until by because { rule text } } } } } }"), {}),
        (("{ a: servers(first: -1000) { edges { node { id } } } "
         "b: accounts(first: 100) { edges { node { servers(first: 100) { edges { node { id } } } } } } }"), {}),
        ("{ servers(first: " + "9" * 100_000 + ") { totalCount } }", {}),
        ("query($n: Int) { servers(first: $n) { totalCount } }", {"n": int("9" * 4_000)}),
        (("query($n: Int = 100) { servers(first: $n) { edges { node { account { servers(first: $n) "
         "{ edges { node { id name } } } } } } } }"), {}),
    ],
    ids=[
        "list", "list of a variable", "list of a default", "accounts of a token", "the same in fragments",
        "lists in a page", "a size below nothing", "a hundred thousand digits", "a variable of digits", "a default",
    ],
)  # fmt: skip
def test_it_counts_what_would_be_read(query: str, variables: dict[str, Any]) -> None:
    """It finds too much wherever its size is given, and says so in few words."""
    told = problem_of(parse(query), variables, own=100) or ""
    assert told.startswith("the query would read up to")
    assert len(told) < 200


@pytest.mark.parametrize(
    ("query", "own"),
    [
        ("{ viewer { accounts { servers(first: 100) { edges { node { name id } } } } } }", 1),
        ("{ viewer { accounts { servers(first: 100) { edges { node { name id } } } } } }", 0),
        (("query($n: [String!]!) { serversByExternalId(externalIds: $n) { gates { action allowed code message "
         "remedy until checkedAt } } }"), 0),
        ("{ servers(first: 100) { edges { node { gates(actions: [START]) { code } } } } }", 0),
        ("query($a: [GateAction!]) { servers(first: 100) { edges { node { gates(actions: $a) { code } } } } }", 0),
    ],
)  # fmt: skip
def test_it_lets_honest_questions_through(query: str, own: int) -> None:
    """A portal's own accounts, and a hundred servers with all their gates, are no attack."""
    assert problem_of(parse(query), {"n": SERVERS}, own=own) is None


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("query($s: [ServerStatus!]) { servers(filter: {status: $s}) { totalCount } }", {"s": ["HELD"] * 10_000}),
        ("query($f: ServerFilter) { servers(filter: $f) { totalCount } }", {"f": {"status": ["HELD"] * 101}}),
        (f"{{ servers(filter: {{status: [{'HELD ' * 101}]}}) {{ totalCount }} }}", {}),
        (f"query($s: [ServerStatus!] = [{'HELD ' * 101}]) {{ servers(filter: {{status: $s}}) {{ totalCount }} }}", {}),
        (
            "query($g: [GateAction!]) { servers { edges { node { gates(actions: $g) { code } } } } }",
            {"g": ["STOP"] * 101},
        ),
        ("{ ...f } fragment f on Query { workQueue(kind: [" + '"x" ' * 101 + "]) { totalCount } }", {}),
        (
            "query($f: ServerFilter) { servers(filter: $f) { totalCount } }",
            {"f": {f"field{number}": 1 for number in range(101)}},
        ),
        ("{ servers(filter: {" + " ".join(f"field{number}: 1" for number in range(101)) + "}) { totalCount } }", {}),
    ],
    ids=["variable", "in an input", "literal", "default", "gates", "in a fragment", "object", "literal object"],
)  # fmt: skip
async def test_it_takes_no_long_list_or_object(
    door: Any, sqlite_database: str, query: str, variables: dict[str, Any]
) -> None:
    """It refuses it before anything is executed, with what would be right."""
    answer = await door.ask(Role.ADMIN, query, variables)
    assert answer["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
    assert f"give at most {MOST_ITEMS}" in answer["errors"][0]["message"]


async def test_a_list_as_long_as_it_may_be_is_answered(door: Any, sqlite_database: str, factory: Any) -> None:
    """It finds each server once, however often its status is named."""
    await factory.server()
    query = "query($s: [ServerStatus!]) { servers(filter: {status: $s}) { totalCount } }"
    every = ["ACTIVE", "HELD", "DELINQUENT", "INACTIVE"] * 25
    assert (await door.data(Role.ADMIN, query, {"s": every}))["servers"]["totalCount"] == 1


@pytest.mark.parametrize(
    "number",
    ["9" * 5_000, "-" + "9" * 5_000, "1" * 5_000 + ".5", "1e" + "9" * 5_000],
    ids=["whole", "negative", "fraction", "power"],
)
async def test_it_reads_no_endless_number(door: Any, sqlite_database: str, number: str) -> None:
    """It says so, wherever the number stands, and never that something went wrong on our side."""
    query = f"{{ forecast(days: {number}) {{ totalCount }} }}"
    answer = await door.ask(Role.ADMIN, query)
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["INVALID"]
    assert "100 digits" in answer["errors"][0]["message"]
