"""Everything in the schema says what it is, and the file of words says nothing of what is not there."""

import pytest
from graphql import GraphQLSchema, build_schema, is_specified_scalar_type

from api.foresight import LONGEST_DAYS
from api.graphql import descriptions
from api.graphql.connections import DEFAULT_PAGE, LARGEST_PAGE
from api.graphql.descriptions import UnusedWordsError, describe, members
from api.graphql.schema import sdl


def _silent(schema: GraphQLSchema) -> list[str]:
    """Return what says nothing of itself: types, fields, inputs, arguments and values."""
    found = []
    for kind in schema.type_map.values():
        if kind.name.startswith("__") or is_specified_scalar_type(kind):
            continue
        named = [(kind.name, kind)]
        for name, member in members(kind):
            named.append((f"{kind.name}.{name}", member))
            arguments = getattr(member, "args", {})
            named += [(f"{kind.name}.{name}({one})", given) for one, given in arguments.items()]
        found += [name for name, thing in named if not (thing.description or "").strip()]
    return found


def test_it_says_what_everything_is() -> None:
    """Every type, field, input, argument and value has words, as a client reads the schema."""
    assert _silent(build_schema(sdl())) == []


def test_what_says_nothing_is_found() -> None:
    """One of each kind without words is missed: the test above can fail."""
    bare = build_schema("type Query { a(b: In): E } input In { c: Int } enum E { F }")
    assert _silent(bare) == ["Query", "Query.a", "Query.a(b)", "In", "In.c", "E", "E.F"]


def test_a_types_own_word_goes_before_one_that_holds_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps what the code says, then looks for the type's entry, then for the name anywhere."""
    tables = {
        "*": {"a": "anywhere", "E": "a value"},
        "()": {"first": "any argument"},
        "Query": {"b": "its own", "b(last)": "its own argument"},
    }
    monkeypatch.setattr(descriptions, "_tables", lambda: tables)
    schema = build_schema(
        'type Query { "told" id: ID a(first: Int): Kind b(last: Int): Int } enum Kind { E } type RowEdge { a: Int }'
    )
    describe(schema)
    fields = schema.query_type.fields  # type: ignore[union-attr]
    assert {name: field.description for name, field in fields.items()} == {
        "id": "told", "a": "anywhere", "b": "its own",
    }  # fmt: skip
    assert fields["a"].args["first"].description == "any argument"
    assert fields["b"].args["last"].description == "its own argument"
    assert schema.type_map["RowEdge"].description == "One row of a list, with its cursor."


@pytest.mark.parametrize(
    ("table", "entry"), [("Query", "gone"), ("Gone", "a"), ("Query", "told"), ("()", "a"), ("*", "gone")]
)
def test_words_about_nothing_are_refused(monkeypatch: pytest.MonkeyPatch, table: str, entry: str) -> None:
    """It names the entry of a field that is gone, or of one that the code tells of."""
    monkeypatch.setattr(
        descriptions, "_tables", lambda: {"Query": {"a": "x"}} | {table: {"a": "x", entry: "y"}}
    )
    schema = build_schema('type Query { a: Int "said" told: Int }')
    with pytest.raises(UnusedWordsError, match=entry):
        describe(schema)


def test_the_limits_in_the_words_are_those_of_the_code() -> None:
    """It tells the sizes of pages and the longest look ahead as they are."""
    fields = build_schema(sdl()).query_type.fields  # type: ignore[union-attr]
    told = {name: fields["accounts"].args[name].description for name in ("first", "last")}
    assert all(f"1 to {LARGEST_PAGE}" in (words or "") for words in told.values())
    assert f"{DEFAULT_PAGE} without it" in (told["first"] or "")
    assert f"1 to {LONGEST_DAYS}." in (fields["forecast"].args["days"].description or "")
