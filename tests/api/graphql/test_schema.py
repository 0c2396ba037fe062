"""The schema keeps its contract, is checked in as it is, and has a rule for every field."""

from pathlib import Path

import pytest
from graphql import GraphQLInterfaceType, GraphQLObjectType, GraphQLSchema, build_schema
from graphql.utilities import find_breaking_changes

from api.graphql import permissions
from api.graphql.permissions import roles_of
from api.graphql.schema import SDL_FILE, sdl

#: The contract is kept in the checkout or in a folder beside it.
CHECKOUT = Path(__file__).parents[3]
CONTRACTS = [*CHECKOUT.glob("contract/schema.graphql"), *CHECKOUT.parent.glob("*/contract/schema.graphql")]

#: What of the contract is not built yet: types, and fields of types that are. The list only ever shrinks.
DEFERRED = Path(__file__).with_name("deferred.txt").read_text(encoding="utf-8").split()


def _differences() -> set[str]:
    if not CONTRACTS:
        pytest.skip("the contract's schema is not beside this checkout")
    changes = find_breaking_changes(build_schema(CONTRACTS[0].read_text(encoding="utf-8")), _schema())
    return {change.description for change in changes}


def _schema() -> GraphQLSchema:
    return build_schema(sdl())


def _deferred() -> set[str]:
    return {f"Field {name} was removed." if "." in name else f"{name} was removed." for name in DEFERRED}


def test_it_matches_the_contract_in_everything_that_is_not_deferred() -> None:
    """It has the names, the nullability and the values of the contract."""
    assert _differences() - _deferred() == set()


def test_it_defers_nothing_that_is_built() -> None:
    """It takes what was built off the list of what is deferred."""
    assert _deferred() - _differences() == set()


def test_it_is_checked_in_as_it_is() -> None:
    """It is the text beside the code; `abeyance schema > api/graphql/schema.graphql` writes it anew."""
    assert SDL_FILE.read_text(encoding="utf-8") == sdl()


def _fields() -> set[tuple[str, str]]:
    nouns = [
        kind
        for kind in _schema().type_map.values()
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and not kind.name.startswith("__")
    ]
    return {(noun.name, field) for noun in nouns for field in noun.fields}


def test_every_field_has_a_rule() -> None:
    """It denies by default, and no field is left to that default by oversight."""
    assert {f"{noun}.{field}" for noun, field in _fields() if not roles_of(noun, field)} == set()


def test_every_rule_has_a_field() -> None:
    """It keeps no rule for a field that is gone, which another one could inherit by its name."""
    ruled = {
        (noun, field)
        for noun, lines in permissions.RULES.items()
        for fields in lines
        for field in fields.split()
    }
    assert ruled - _fields() == set()


def test_a_field_without_a_rule_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses a field once its rule is taken away."""
    rules = {noun: dict(lines) for noun, lines in permissions.RULES.items()}
    del rules["Account"]["announcement invoices notices overrides history"]
    monkeypatch.setattr(permissions, "RULES", rules)
    permissions._by_field.cache_clear()
    try:
        assert roles_of("Account", "notices") == frozenset()
    finally:
        monkeypatch.undo()
        permissions._by_field.cache_clear()
