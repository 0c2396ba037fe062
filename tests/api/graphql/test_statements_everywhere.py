"""No way through the schema asks the database once for every row: each list, and whatever leads on from its rows."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    build_schema,
    get_named_type,
    is_leaf_type,
)

from api.graphql.schema import sdl
from api.models import Role
from api.rates import Allowances

SCHEMA = build_schema(sdl())
#: The lists that begin with a root field, with their arguments.
ROOTS = {
    "accounts": "first: 10", "servers": "first: 10", "invoices": "first: 10", "vouchers": "first: 10",
    "notices": "first: 10", "runs": "first: 10", "audit": "first: 50", "workQueue": "first: 10",
    "forecast": "days: 60, first: 10",
}  # fmt: skip
#: What a field has to be given.
GIVEN = {"gate": "action: START", "mayDeploy": 'sku: "small"'}


def _kind(field: GraphQLField) -> Any:
    kind = get_named_type(field.type)
    if kind.name.endswith("Connection"):
        edge = get_named_type(kind.fields["edges"].type)  # type: ignore[union-attr]
        return get_named_type(edge.fields["node"].type)  # type: ignore[union-attr]
    return kind


def _called(name: str, field: GraphQLField, inside: str) -> str:
    arguments = f"({GIVEN[name]})" if name in GIVEN else ""
    if get_named_type(field.type).name.endswith("Connection"):
        return f"{name}(first: 2) {{ totalCount edges {{ node {{ {inside} }} }} }}"
    return f"{name}{arguments} {{ {inside} }}"


def _leaves(kind: Any) -> str:
    fields = kind.fields.items()
    return (
        " ".join(name for name, field in fields if is_leaf_type(get_named_type(field.type))) or "__typename"
    )


def _ways() -> Iterator[tuple[str, str]]:
    """Yield every field of every row of every list, and every field that leads on from there, as queries."""
    for root, arguments in ROOTS.items():
        node = _kind(SCHEMA.query_type.fields[root])  # type: ignore[union-attr]
        for name, field in _objects(node):
            inner = _kind(field)
            leads = [_leaves(inner)]
            if isinstance(inner, GraphQLObjectType):
                leads += [_called(one, two, _leaves(_kind(two))) for one, two in _objects(inner)]
            for number, inside in enumerate(leads):
                selection = _called(name, field, inside)
                query = f"{{ {root}({arguments}) {{ edges {{ node {{ {selection} }} }} }} }}"
                yield f"{root}.{name}.{number} {inside.split('(')[0].split(' ')[0]}", query


def _objects(kind: GraphQLObjectType) -> Iterator[tuple[str, GraphQLField]]:
    for name, field in kind.fields.items():
        needs = any(isinstance(one.type, GraphQLNonNull) for one in field.args.values()) and name not in GIVEN
        if not needs and not is_leaf_type(get_named_type(field.type)):
            yield name, field


WAYS = dict(_ways())


async def _counts(door: Any, statements: Any) -> dict[str, int]:
    """Ask every way as an admin; returns how many statements each took."""
    counts = {}
    for way, query in WAYS.items():
        with statements() as counted:
            data = await door.data(Role.ADMIN, query)
        rows = next(iter(data.values()))["edges"]
        assert len(rows) >= 2, way
        counts[way] = len(counted)
    return counts


async def test_no_list_asks_once_for_every_row(
    door: Any, grow: Any, statements: Any, sqlite_database: str
) -> None:
    """Each way takes as many statements for many rows as for few, nested pages and counts included."""
    door.ports = replace(door.ports, allowances=Allowances(people=1_000_000))
    counts = []
    for accounts in (2, 4):
        await grow(accounts)
        await _counts(door, statements)  # what is kept for a moment is kept by then
        counts.append(await _counts(door, statements))
    few, many = counts
    # Other rows may lead to something more to look at, once; a statement for each row would be six more at least.
    grown = {way: (count, many[way]) for way, count in few.items() if many[way] > count + 2}
    assert grown == {}
