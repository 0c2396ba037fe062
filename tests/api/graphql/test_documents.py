"""Documents are remembered once they were found right, for the role that they were right for."""

import gc
from typing import Any

import pytest
from graphql import Token, parse

from api.graphql import limits
from api.graphql.documents import Documents, Known
from api.models import Role

QUERY = "query($n: Int) { servers(first: $n) { totalCount edges { node { id } } } }"


def test_it_remembers_the_last_ones() -> None:
    """It forgets what was not used for the longest, and takes in no long text."""
    documents, document = Documents(most=2), parse("{ viewer { role } }")
    for query in ("a", "b"):
        documents.keep(Role.ADMIN, query, document, own=0)
    known = documents.find(Role.ADMIN, "a")
    assert known is not None
    assert known.document is document
    documents.keep(Role.ADMIN, "c", document, own=0)
    found = [query for query in "abc" if documents.find(Role.ADMIN, query)]
    assert found == ["a", "c"]
    documents.keep(Role.ADMIN, "x" * 20_000, document, own=0)
    assert documents.find(Role.ADMIN, "x" * 20_000) is None


def test_it_keeps_only_so_much_text() -> None:
    """It forgets old ones for a long one, however few there are, and counts no text twice."""
    documents, document = Documents(most_characters=30), parse("{ viewer { role } }")
    for query in ("a" * 10, "b" * 10, "b" * 10, "c" * 10):
        documents.keep(Role.ADMIN, query, document, own=0)
    assert documents.find(Role.ADMIN, "a" * 10)
    documents.keep(Role.ADMIN, "d" * 20, document, own=0)
    found = [letter for letter in "abc" if documents.find(Role.ADMIN, letter * 10)]
    assert found == ["a"]
    assert documents.find(Role.ADMIN, "d" * 20)


@pytest.mark.parametrize(("name", "is_query"), [("A", True), ("B", False), ("C", False), (None, False)])
def test_it_knows_which_operation_is_a_query(name: str | None, is_query: bool) -> None:
    """It takes no mutation for one, nor a name that there is not, nor any of several."""
    known = Known(document=parse("query A { viewer { role } } mutation B { x { y } }"), varies=False, own=0)
    assert known.has_query(name) is is_query
    assert Known(document=parse("{ viewer { role } }"), varies=False, own=0).has_query(None)


@pytest.mark.usefixtures("sqlite_database")
async def test_a_document_is_validated_once(door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It validates a right one once, a wrong one each time, and measures the cost each time."""
    validated = []
    original = limits.validate
    monkeypatch.setattr(
        limits, "validate", lambda *args, **more: validated.append(1) or original(*args, **more)
    )
    for _ in range(3):
        assert (await door.data(Role.ADMIN, QUERY, {"n": 5}))["servers"]["totalCount"] == 0
    assert len(validated) == 1
    for _ in range(2):
        assert await door.code(Role.ADMIN, "{ servers { nonsense } }") == "INVALID"
    assert len(validated) == 3
    servers = "servers(first: $n) { edges { node { id } } }"
    nested = f"query($n: Int) {{ accounts(first: $n) {{ edges {{ node {{ {servers} }} }} }} }}"
    assert await door.data(Role.ADMIN, nested, {"n": 5})
    monkeypatch.setattr(limits, "MOST_FIELDS", 1_000)
    assert await door.code(Role.ADMIN, nested, {"n": 100}) == "LIMIT_EXCEEDED"


def test_it_measures_again_what_may_have_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps to the limits with other variables, and for a caller of more accounts than it was measured for."""
    fixed, steered = parse("{ viewer { accounts { id name } } }"), parse(QUERY)
    once = Known(document=fixed, varies=False, own=3)
    assert limits.measured(once, {}, own=3)
    monkeypatch.setattr(limits, "MOST_FIELDS", 10)
    assert limits.measured(once, {}, own=2)  # not measured at all: it was smaller than what was right
    assert not limits.measured(once, {}, own=30)
    assert limits.measured(Known(document=steered, varies=True, own=0), {"n": 1}, own=0)
    assert not limits.measured(Known(document=steered, varies=True, own=0), {"n": 9}, own=0)
    assert not limits.measured(once, {"unused": ["x"] * 9_999}, own=3)


@pytest.mark.usefixtures("sqlite_database")
async def test_what_is_right_for_one_role_is_not_for_another(door: Any, factory: Any) -> None:
    """It refuses a customer what it has just answered an admin."""
    account = (await factory.account()).external_id
    query = "{ plan { digest } }"
    assert "plan" in await door.data(Role.ADMIN, query)
    assert await door.code(Role.CUSTOMER, query, account=account) == "FORBIDDEN"


@pytest.mark.usefixtures("sqlite_database")
async def test_the_tokens_of_a_document_are_taken_apart(door: Any) -> None:
    """No more of them outlives the reading than its nodes hold, each alone: they make no garbage that has to wait."""
    wide = "{ servers { edges { node { " + "name " * 15 + "} } } }" + " , " * 20_000
    gc.collect()
    before = [one for one in gc.get_objects() if isinstance(one, Token)]  # of documents that others read
    known = set(map(id, before))
    gc.disable()
    try:
        await door.data(Role.ADMIN, wide)
        alive = [one for one in gc.get_objects() if isinstance(one, Token) and id(one) not in known]
    finally:
        gc.enable()
    assert alive
    assert not [one for one in alive if one.next is not None or one.prev is not None]
