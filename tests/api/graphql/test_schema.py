"""The schema keeps its contract, is checked in as it is, and has a rule for every field."""

import re
import subprocess
from functools import partial
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


def _last_release(checkout: Path) -> GraphQLSchema | None:
    """Return the schema of the newest release that the changelog names, from its tag; null before the first.

    A clone without tags fails rather than to compare with nothing.
    """
    changelog = (checkout / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## v?(\d+\.\d+\.\d+)\b", changelog, re.MULTILINE)
    if newest is None:
        return None
    place = f"v{newest[1]}:api/graphql/schema.graphql"
    shown = subprocess.run(
        ["git", "show", place], cwd=checkout, capture_output=True, text=True, timeout=30, check=False
    )
    assert shown.returncode == 0, f"{place} cannot be read: git fetch --tags"
    return build_schema(shown.stdout)


def _broken(checkout: Path, now: GraphQLSchema) -> list[str]:
    released = _last_release(checkout)
    if released is None:
        pytest.skip("nothing is released yet: CHANGELOG.md names no version")
    return [change.description for change in find_breaking_changes(released, now)]


def test_it_breaks_nothing_of_the_last_release() -> None:
    """It may grow: what a client of the last release asks for is answered still."""
    assert _broken(CHECKOUT, _schema()) == []


def test_what_a_release_had_is_missed(tmp_path: Path) -> None:
    """It is compared with the newest release and no older one; a clone without its tag is refused."""
    run = partial(subprocess.run, cwd=tmp_path, check=True, timeout=30, capture_output=True)
    run(["git", "init", "-q"])
    file = tmp_path / "api/graphql/schema.graphql"
    file.parent.mkdir(parents=True)
    releases = {"0.1.0": "type Query { a: Int b: Int c: Int }", "0.2.0": "type Query { a: Int b: Int }"}
    for version, text in releases.items():
        file.write_text(text)
        run(["git", "add", "."])
        run(["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "x"])
        run(["git", "tag", f"v{version}"])
    (tmp_path / "CHANGELOG.md").write_text("## Unreleased\n\n## 0.2.0, 2026-11-20\n\n## 0.1.0\n")
    assert _broken(tmp_path, build_schema("type Query { a: Int d: Int }")) == ["Field Query.b was removed."]
    run(["git", "tag", "-d", "v0.2.0"])
    with pytest.raises(AssertionError, match="git fetch --tags"):
        _broken(tmp_path, build_schema("type Query { a: Int }"))


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
