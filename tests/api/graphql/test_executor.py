"""What is read without resolvers is answered exactly as graphql-core would answer it, faults included."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NewType

import pytest
import strawberry
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from api.graphql.executor import NotAtHandError, PlainReading, at_hand
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


def _schema(how: type[Any], *extensions: type[SchemaExtension]) -> strawberry.Schema:
    return strawberry.Schema(
        Query, types=[Leaf], execution_context_class=how, extensions=list(extensions),
        config=StrawberryConfig(scalar_map=WRITTEN),
    )  # fmt: skip


class Counting(PlainReading):
    """Counts the fields that took the long way."""

    ceremonies = 0

    def execute_field(self, *args: Any) -> Any:
        type(self).ceremonies += 1
        return super().execute_field(*args)


PLAIN, LONG = _schema(PlainReading), _schema(StrawberryGraphQLCoreExecutionContext)
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


@pytest.mark.parametrize(
    "fault",
    [
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
    ],
)
async def test_it_tells_faults_as_the_long_way_does(fault: dict[str, Any]) -> None:
    """It leaves whatever is not as it should be to graphql-core: the same nulls, messages and paths."""
    for box in (_box(**fault), _box(inner=_box(**fault))):
        for query in (
            f"{{ boxes {{ later {ALL} inner {{ {ALL} }} }} }}",
            f"{{ box {{ inner {{ {ALL} }} {ALL} }} }}",
        ):
            assert await _told(PLAIN, query, box) == await _told(LONG, query, box)


async def test_it_waits_for_an_attribute_that_is_not_known_yet() -> None:
    """It answers with what an awaitable attribute comes to."""
    for schema in (PLAIN, LONG):
        later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        later.set_result("in the end")
        assert await _told(schema, "{ box { label number } }", _box(label=later)) == (
            "{'box': {'label': 'in the end', 'number': 7}}",
            [],
        )


async def test_it_leaves_nothing_but_resolvers_to_graphql_core() -> None:
    """It goes the long way for what only a resolver knows, and for the object that tells its own type."""
    Counting.ceremonies = 0
    await _told(_schema(Counting), f"{{ boxes {{ perhaps later {ALL} }} }}", _box(heavy=False))
    # boxes, and of each box: later, named
    assert Counting.ceremonies == 1 + 2 * 2


async def test_it_asks_the_resolver_for_what_is_not_at_hand() -> None:
    """It asks the field's own one for what the quick one does not know, and never when it does."""
    schema = _schema(Counting)
    for heavy, ceremonies in ((False, 1), (True, 3)):
        Counting.ceremonies = 0
        await _told(schema, "{ box { label perhaps } }", _box(heavy=heavy))
        assert Counting.ceremonies == ceremonies  # box, and where something is not at hand all of it


async def test_it_goes_the_long_way_for_whoever_wraps_each_field() -> None:
    """It lets an extension that resolves fields see all of them."""
    seen: list[str] = []

    class Watching(SchemaExtension):
        def resolve(self, _next: Any, root: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(info.field_name)
            return _next(root, info, *args, **kwargs)

    await _told(_schema(PlainReading, Watching), "{ box { label price { amount } } }", _box())
    assert seen == ["box", "label", "price", "amount"]


def test_the_schema_is_executed_by_it() -> None:
    """It is what the product's schema is executed by."""
    assert build_schema().execution_context_class is PlainReading
