"""What is read without resolvers is answered exactly as graphql-core would answer it, faults included."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from random import Random
from typing import Any, NewType

import pytest
import strawberry
from graphql import GraphQLError, NoUnusedVariablesRule, execute, parse, specified_rules, validate
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from api.graphql.compiled import NotAtHandError, at_hand
from api.graphql.executor import QuickExecutor, Shapes
from api.graphql.scalars import SCALARS, Money
from api.graphql.schema import build_schema

Mute = NewType("Mute", object)
WRITTEN = SCALARS | {Mute: strawberry.scalar(name="Mute", serialize=lambda _: None)}


@strawberry.enum
class Colour(StrEnum):
    """Two of them."""

    RED = "RED"
    BLUE = "BLUE"


@strawberry.interface
class Named:
    """Something with a name."""

    name: str


@strawberry.type
class Leaf(Named):
    """One that knows its own type."""

    size: int


def _quick(box: Box, context: object, times: int = 1, colours: list[Colour] | None = None) -> str:
    if box.heavy:
        raise NotAtHandError
    return f"{box.label * times} {colours}"


@strawberry.type
class Box:
    """Every kind of field that needs no resolver, and two that have one."""

    label: str
    heavy: bool
    at: datetime | None
    colour: Colour
    colours: list[Colour | None]
    price: Money
    prices: list[Money] | None
    number: int
    mute: Mute | None
    leaf: Leaf | None
    named: Named | None
    inner: Box | None

    @strawberry.field
    async def later(self) -> str:
        """Only known after a moment."""
        await asyncio.sleep(0)
        return f"later {self.label}"

    @strawberry.field
    @at_hand(_quick)
    async def perhaps(self, times: int = 1, colours: list[Colour] | None = None) -> str:
        """Known at once, unless the box is heavy."""
        await asyncio.sleep(0)
        return f"{self.label * times} {colours}"

    @strawberry.field
    def fails(self) -> str | None:
        """A fault of its own."""
        raise GraphQLError("no")


@strawberry.type
class Query:
    """What can be asked."""

    @strawberry.field
    def box(self, info: strawberry.Info) -> Box | None:
        """Whatever the test put there."""
        box: Box | None = info.context
        return box

    @strawberry.field
    async def boxes(self, info: strawberry.Info) -> list[Box]:
        """It twice."""
        return [info.context, info.context]


@strawberry.type
class Mutation:
    """What can be done."""

    @strawberry.mutation
    async def count(self, info: strawberry.Info) -> Box | None:
        """Count on."""
        box: Box = info.context
        box.number += 1
        return box


def _schema(how: type[Any], *extensions: type[SchemaExtension]) -> strawberry.Schema:
    return strawberry.Schema(
        Query, Mutation, types=[Leaf], execution_context_class=how, extensions=list(extensions),
        config=StrawberryConfig(scalar_map=WRITTEN),
    )  # fmt: skip


class Counting(QuickExecutor):
    """Counts the fields that took the long way."""

    ceremonies = 0

    def execute_field(self, *args: Any) -> Any:
        type(self).ceremonies += 1
        return super().execute_field(*args)


PLAIN, LONG = _schema(QuickExecutor), _schema(StrawberryGraphQLCoreExecutionContext)
ALL = """label mute heavy at colour colours number price { amount currency } prices { amount } leaf { name size }
    named { __typename name }"""


def _box(**other: Any) -> Box:
    money = Money.of(1250, "EUR")
    told: dict[str, Any] = {
        "label": "b", "heavy": True, "at": datetime(2026, 11, 20, 9, tzinfo=UTC), "colour": Colour.RED,
        "colours": [Colour.BLUE, None], "price": money, "prices": [money, money], "number": 7, "mute": None,
        "leaf": Leaf(name="l", size=1), "named": Leaf(name="n", size=2), "inner": None,
    }  # fmt: skip
    return Box(**(told | other))


async def _told(schema: strawberry.Schema, query: str, box: Box | None) -> tuple[str, list[dict[str, Any]]]:
    """The data as text, so that the order counts, and the errors."""
    result = await schema.execute(query, context_value=box)
    return repr(result.data), sorted((dict(one.formatted) for one in result.errors or ()), key=repr)


@pytest.mark.parametrize(
    "query",
    [
        f"{{ box {{ {ALL} inner {{ {ALL} }} }} }}",
        f"{{ boxes {{ {ALL} later inner {{ later {ALL} }} }} }}",
        "{ box { number later label fails heavy } }",
        "{ box { heavy perhaps x: perhaps(times: 2, colours: [BLUE, RED]) inner { perhaps label } } }",
        "query($t: Int! = 3, $c: Colour! = RED) { boxes { perhaps(times: $t, colours: [$c]) inner { perhaps } } }",
        "{ box { b: label label c: price { currency x: __typename amount } __typename } }",
        "{ box { ...F ... on Box { price { currency } } } } fragment F on Box { price { amount } label }",
        "{ box { label @skip(if: true) heavy @include(if: false) number price @skip(if: false) { amount } } }",
        "{ boxes { inner { prices { __typename } inner { label } } } }",
    ],
)
async def test_it_tells_the_same_as_the_long_way(query: str) -> None:
    """It answers with the same values in the same order."""
    box = _box(inner=_box(at=None, prices=None, leaf=None, named=None, heavy=False))
    plain = await _told(PLAIN, query, box)
    assert plain == await _told(LONG, query, box)
    assert "'" in plain[0]


FAULTS: list[dict[str, Any]] = [
    {"label": None},
    {"label": 3},
    {"label": ValueError("not known")},
    {"label": Colour.RED},
    {"label": {"no": "text"}},
    {"heavy": "perhaps"},
    {"at": "2026-11-20"},
    {"at": ValueError("not known")},
    {"colour": None},
    {"colour": "GREEN"},
    {"colour": "RED"},
    {"colour": []},
    {"colours": [Colour.RED, "GREEN", None]},
    {"colours": None},
    {"colours": "RED"},
    {"colours": (Colour.RED,)},
    {"number": 2**40},
    {"number": "7"},
    {"mute": "says nothing"},
    {"price": None},
    {"price": object()},
    {"price": ValueError("not known")},
    {"prices": [None]},
    {"prices": [Money.of(1, "EUR"), ValueError("lost")]},
    {"leaf": "no leaf"},
    {"named": "nothing that has one"},
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_it_tells_faults_as_the_long_way_does(fault: dict[str, Any]) -> None:
    """It leaves whatever is not as it should be to graphql-core: the same nulls, messages and paths."""
    for box in (_box(**fault), _box(inner=_box(**fault))):
        for query in (
            f"{{ boxes {{ later {ALL} inner {{ {ALL} }} }} }}",
            f"{{ box {{ inner {{ {ALL} }} {ALL} }} }}",
        ):
            assert await _told(PLAIN, query, box) == await _told(LONG, query, box)


class _Author:
    """Writes operations at random: any fields of the schema above, under any names, in fragments and directives."""

    PLAIN = ("label", "heavy", "at", "colour", "colours", "number", "mute", "later", "fails", "__typename", "perhaps",
             "perhaps(times: $t)", "perhaps(colours: [RED, $c])", "later")  # fmt: skip
    BELOW: Mapping[str, Sequence[str]] = {
        "price": ("amount", "currency", "__typename"),
        "prices": ("amount", "currency"),
        "leaf": ("name", "size"),
        "named": ("name", "__typename", "... on Leaf { size }"),
    }

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def operation(self) -> str:
        root = self._random.choice(["box", "boxes"])
        spread = self._random.choice(["", "...Part "])
        text = (
            f"query Q($t: Int! = 2, $c: Colour! = BLUE, $yes: Boolean!, $no: Boolean!) {{ {root} {{ {spread}"
        )
        part = f" fragment Part on Box {{ {self._fields(1)} }}" if spread else ""
        return f"{text}{self._fields(2)} }} }}{part}"

    def _fields(self, deep: int) -> str:
        return " ".join(self._field(deep) for _ in range(self._random.randint(1, 6)))

    def _field(self, deep: int) -> str:
        kind = self._random.random()
        steered = self._random.choice(["", "", "", " @include(if: $yes)", " @skip(if: $no)"])
        if kind < 0.5:
            return self._named(self._random.choice(self.PLAIN)) + steered
        if kind < 0.8:
            name = self._random.choice(sorted(self.BELOW))
            inside = " ".join(self._random.choices(self.BELOW[name], k=2))
            return f"{self._named(name)}{steered} {{ {inside} }}"
        if deep == 0:
            return "number"
        inside = self._fields(deep - 1)
        return f"...{steered} {{ {inside} }}" if kind < 0.9 else f"inner{steered} {{ {inside} }}"

    def _named(self, field: str) -> str:
        """Each under a name of its own, so that no two of them differ under one name."""
        name, _, arguments = field.partition("(")
        alias = f"{name}{len(arguments)}" if arguments else self._random.choice([name, f"x_{name}"])
        return field if alias == name else f"{alias.strip('_')}: {field}"


@pytest.mark.parametrize("seed", range(40))
async def test_it_tells_the_same_of_any_operation(seed: int) -> None:
    """It answers as graphql-core does, whatever is asked, however variables steer it, and asked again and again."""
    operation, random, shapes = _Author(seed).operation(), Random(seed), Shapes()
    document = parse(operation)
    rules = [rule for rule in specified_rules if rule is not NoUnusedVariablesRule]
    assert not validate(LONG._schema, document, rules), operation
    for number in range(8):
        fault = random.choice([{}, {}, random.choice(FAULTS)])
        box = _box(heavy=random.random() < 0.3, inner=_box(**({"heavy": False} | fault)))
        variables = {"yes": bool(number & 1), "no": bool(number & 2), "t": random.choice([1, 2])}
        told = []
        hows: list[dict[str, Any]] = [
            {"executor_class": QuickExecutor, "shapes": shapes},
            {"executor_class": StrawberryGraphQLCoreExecutionContext},
        ]
        for how in hows:
            result: Any = execute(LONG._schema, document, None, box, variables, **how)
            result = await result if inspect.isawaitable(result) else result
            told.append((repr(result.data), sorted(repr(one.formatted) for one in result.errors or ())))
        assert told[0] == told[1], operation


@pytest.mark.parametrize("fault", [{}, {"label": None}, {"at": ValueError("not known")}])
async def test_it_does_once_what_is_to_be_done(fault: dict[str, Any]) -> None:
    """It reads the answer of a mutation from the start when it is unusual, and never does the mutation again."""
    query = f"mutation {{ first: count {{ {ALL} }} count {{ {ALL} later }} }}"
    plain = await _told(PLAIN, query, _box(number=0, **fault))
    assert plain == await _told(LONG, query, _box(number=0, **fault))
    assert fault.get("label", "b") is None or "'number': 2" in plain[0]


async def test_it_keeps_a_few_shapes_of_a_document() -> None:
    """It forgets them all when variables steer its selections in more ways than anybody uses."""
    names = [f"v{number}" for number in range(6)]
    given = ", ".join(f"${name}: Boolean!" for name in names)
    document = parse(
        f"query({given}) {{ box {{ number {' '.join(f'{n}: label @include(if: ${n})' for n in names)} }} }}"
    )
    shapes = Shapes()
    for number in range(64):
        variables = {name: bool(number >> place & 1) for place, name in enumerate(names)}
        result: Any = execute(
            LONG._schema, document, None, _box(), variables, executor_class=QuickExecutor, shapes=shapes
        )
        assert set(result.data["box"]) == {"number", *(name for name in names if variables[name])}
        assert len(shapes) <= 16


async def test_it_waits_for_an_attribute_that_is_not_known_yet() -> None:
    """It answers with what an awaitable attribute comes to."""
    for schema in (PLAIN, LONG):
        later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        later.set_result("in the end")
        assert await _told(schema, "{ box { label number } }", _box(label=later)) == (
            "{'box': {'label': 'in the end', 'number': 7}}",
            [],
        )


async def test_it_leaves_nothing_to_graphql_core_that_is_as_it_should_be() -> None:
    """It goes the long way for nothing at all: not for resolvers, nor for an object that tells its own type."""
    Counting.ceremonies = 0
    told, errors = await _told(_schema(Counting), f"{{ boxes {{ perhaps later {ALL} }} }}", _box(heavy=False))
    assert "later b" in told
    assert not errors
    assert Counting.ceremonies == 0


async def test_it_asks_the_resolver_for_what_is_not_at_hand() -> None:
    """It asks the field's own one for what the quick one does not know, and never when it does."""
    schema = _schema(Counting)
    for heavy, ceremonies in ((False, 0), (True, 3)):
        Counting.ceremonies = 0
        await _told(schema, "{ box { label perhaps } }", _box(heavy=heavy))
        assert Counting.ceremonies == ceremonies  # none, or all of it: box, label, perhaps


async def test_it_goes_the_long_way_for_whoever_wraps_each_field() -> None:
    """It lets an extension that resolves fields see all of them."""
    seen: list[str] = []

    class Watching(SchemaExtension):
        def resolve(self, _next: Any, root: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(info.field_name)
            return _next(root, info, *args, **kwargs)

    await _told(_schema(QuickExecutor, Watching), "{ box { label price { amount } } }", _box())
    assert seen == ["box", "label", "price", "amount"]


def test_the_schema_is_executed_by_it() -> None:
    """It is what the product's schema is executed by."""
    assert build_schema().execution_context_class is QuickExecutor
