"""Paging: every list is walked by cursors that stand still while rows come and go."""

import base64
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.graphql import ids
from api.graphql.connections import LARGEST_PAGE
from api.models import Role
from billing.audit import record
from billing.audit_seal import seal
from billing.models import AuditEntry, Invoice

pytestmark = pytest.mark.usefixtures("sqlite_database")

SERVERS = """query($first: Int, $after: String, $last: Int, $before: String) {
  servers(first: $first, after: $after, last: $last, before: $before) { totalCount
    edges { cursor node { externalId } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""


async def _page(door: Any, **asked: Any) -> dict[str, Any]:
    return dict((await door.data(Role.INFRA, SERVERS, asked))["servers"])


def _names(page: dict[str, Any]) -> list[str]:
    return [edge["node"]["externalId"] for edge in page["edges"]]


async def _fleet(factory: Any, count: int) -> list[str]:
    account = await factory.account()
    return [(await factory.server(account)).external_id for _ in range(count)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8])
async def test_it_walks_everything_once_forwards_and_backwards(door: Any, factory: Any, size: int) -> None:
    """It shows each row once, in order, whichever way it is walked, and knows its ends."""
    fleet = await _fleet(factory, 7)
    seen: list[str] = []
    cursor = None
    while True:
        page = await _page(door, first=size, after=cursor)
        assert page["totalCount"] == 7
        assert page["pageInfo"]["hasPreviousPage"] == (cursor is not None)
        seen += _names(page)
        cursor = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == fleet
    seen, cursor = [], None
    while True:
        page = await _page(door, last=size, before=cursor)
        assert page["pageInfo"]["hasNextPage"] == (cursor is not None)
        seen = _names(page) + seen
        cursor = page["pageInfo"]["startCursor"]
        if not page["pageInfo"]["hasPreviousPage"]:
            break
    assert seen == fleet


async def test_its_cursors_stand_still(door: Any, factory: Any) -> None:
    """It neither repeats nor skips a row when others come in between."""
    account = await factory.account()
    for _ in range(5):
        await factory.invoice(account)
    query = """query($after: String) { invoices(first: 2, after: $after) {
      edges { node { id } } pageInfo { endCursor hasNextPage } } }"""
    newest = (await door.data(Role.SUPPORT, query))["invoices"]
    await factory.invoice(account)
    await Invoice.filter(id=4).delete()
    following = (await door.data(Role.SUPPORT, query, {"after": newest["pageInfo"]["endCursor"]}))["invoices"]
    keys = [ids.key_of("Invoice", edge["node"]["id"]) for edge in newest["edges"] + following["edges"]]
    assert keys == [5, 4, 3, 2]


async def test_it_has_a_usual_size_and_a_largest(door: Any, factory: Any) -> None:
    """It shows twenty rows unless told otherwise, and a hundred at most."""
    await _fleet(factory, 21)
    assert len((await _page(door))["edges"]) == 20
    assert len((await _page(door, first=LARGEST_PAGE))["edges"]) == 21
    for asked in (
        {"first": 101},
        {"first": 0},
        {"first": -1},
        {"last": 101},
        {"last": 0},
        {"first": 1, "last": 1},
    ):
        assert await door.code(Role.INFRA, SERVERS, asked) == "LIMIT_EXCEEDED"


async def test_an_empty_list_has_no_ends(door: Any) -> None:
    """It has neither rows nor cursors."""
    assert await _page(door) == {
        "totalCount": 0,
        "edges": [],
        "pageInfo": {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
    }


BAD = [
    "",
    "x",
    "====",
    "MQ",
    "a" * 3000,
    "Zm9v",
    "ÿ",
    ids.cursor("invoices", 1),
    ids.cursor("servers", -1),
]


@pytest.mark.parametrize("cursor", BAD)
async def test_a_cursor_of_something_else_is_refused(door: Any, cursor: str) -> None:
    """It says so with its own code, for `after` and `before`, never with a fault."""
    assert await door.code(Role.INFRA, SERVERS, {"first": 1, "after": cursor}) == "BAD_CURSOR"
    assert await door.code(Role.INFRA, SERVERS, {"last": 1, "before": cursor}) == "BAD_CURSOR"


@given(text=st.text(max_size=60))
def test_no_text_makes_reading_fail(text: str) -> None:
    """It reads any text as one of ours or as nothing."""
    ids.read_id(text)
    assert ids.key_of("Account", text) is None or text == ids.global_id(
        "Account", ids.key_of("Account", text) or 0
    )
    key = ids.read_cursor("servers", text)
    assert key is None or text == ids.cursor("servers", *key)


async def test_the_trail_is_counted_whole_whether_sealed_or_not(door: Any, factory: Any) -> None:
    """It counts what was sealed by its place, and what was not yet, from the first row on."""
    query = "{ audit(first: 2) { totalCount edges { node { kind } } } }"
    before = (await door.data(Role.ADMIN, query))["audit"]["totalCount"]
    assert before == await AuditEntry.all().count()
    for written in (3, 2):
        account = await factory.account()
        for number in range(written):
            await record(f"x{number}", ("Account", account.id), at=account.created_at, actor="a", reason="r")
        assert (await door.data(Role.ADMIN, query))["audit"]["totalCount"] == await AuditEntry.all().count()
        await seal(Random(1), limit=2)
        assert (await door.data(Role.ADMIN, query))["audit"]["totalCount"] == await AuditEntry.all().count()
    assert await AuditEntry.filter(position=None).exists()
    assert await AuditEntry.all().count() >= before + 5


@given(raw=st.binary(max_size=40))
def test_no_bytes_make_reading_fail(raw: bytes) -> None:
    """It reads whatever was wrapped as ours ourselves, and nothing else."""
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    ids.read_id(text)
    ids.key_of("Account", text)
    ids.read_cursor("servers", text)


@given(key=st.integers(min_value=0, max_value=2**63 - 1), noun=st.sampled_from(["Account", "PlanStep"]))
def test_ids_are_read_as_they_were_written(key: int, noun: str) -> None:
    """It returns the key of its own type alone."""
    text = ids.global_id(noun, key)
    assert ids.key_of(noun, text) == key
    assert ids.key_of("Server", text) is None
    assert ids.read_cursor("servers", text) is None


@pytest.mark.parametrize("key", ["01", "+1", " 1", "1 ", "-1", "1.0", str(2**63), "9" * 400, "٣"])
def test_a_key_is_written_one_way(key: str) -> None:
    """It takes no second spelling of a key, and none that a column could not hold."""
    assert (
        ids.key_of("Account", base64.urlsafe_b64encode(f"Account:{key}".encode()).decode().rstrip("="))
        is None
    )
