"""The limits of the door: selections, mistakes, how often one may ask, and which texts come in."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from api.models import Role
from api.rates import Allowances

#: How many functions a refusal may call: several times what any of these does, far below comparing all with all.
MOST_CALLS = 300_000
VIEWER = "{ viewer { role } }"

pytestmark = pytest.mark.usefixtures("sqlite_database")

_USED_OFTEN = " ".join(f"fragment f{i} on Query {{ viewer {{ role }} }}" for i in range(21))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("{" + "viewer{role}" * 480 + "}", "select it once"),
        ("{" + "... on Query { viewer { role } }" * 21 + "}", "select it once"),
        ("{" + " ".join(f"...f{i}" for i in range(21)) + "}" + _USED_OFTEN, "select it once"),
        ("{" + ("viewer {" + " role" * 11 + "}") * 2 + "}", "select it once"),
        ("{ viewer { role } } fragment unused on Query {" + "viewer{role}" * 21 + "}", "select it once"),
        (
            "{ ...f } fragment f on Query {"
            + "viewer{role}" * 21
            + "} fragment f on Query { viewer { role } }",
            "select it once",
        ),
        ("{ viewer { account {" + " ".join(f"n{i}" for i in range(501)) + "} } }", "500 selections"),
        (
            "{ viewer { account { ...f0 } } }"
            + "".join(f" fragment f{i} on Account {{ ...f{i + 1} ...f{i + 1} }}" for i in range(20))
            + " fragment f20 on Account { ...f20 }",
            "500 selections",
        ),
        (
            "{ viewer { role } }" + "".join(f" fragment f{i} on Account {{ id }}" for i in range(61)),
            "at most 60",
        ),
    ],
    ids=[
        "plain",
        "inline",
        "spread",
        "merged",
        "unused",
        "same name",
        "many",
        "spreads of spreads",
        "fragments",
    ],
)
async def test_it_refuses_many_selections_and_says_what_to_do(door: Any, query: str, told: str) -> None:
    """It never compares them with one another, which would hold up everybody."""
    error = (await door.ask(Role.ADMIN, query))["errors"][0]
    assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
    assert told in error["message"]
    work = await door.calls({"query": query}, token=await door.token(Role.ADMIN))
    assert work < MOST_CALLS


async def test_it_reads_as_many_selections_as_it_says(door: Any) -> None:
    """It answers what keeps the limit exactly, in fragments or not."""
    fragment = " fragment f on Query { viewer { role } }"
    for query in ("{" + "viewer { role } " * 20 + "}", "{" + "...f " * 20 + "}" + fragment):
        assert (await door.data(Role.ADMIN, query))["viewer"]["role"] == "ADMIN"


@pytest.mark.parametrize(
    "query",
    [
        "{ servers(filter: {" + " ".join(f"serach{i}: 1" for i in range(100)) + "}) { totalCount } }",
        "{ viewer { account {"
        + " ".join(f"...on AccuontConnection{i} {{ id }}" for i in range(20))
        + "} } }",
        "{ viewer { role } }"
        + " ".join(f"fragment f{i} on AccuontConnection{i} {{ id }}" for i in range(60)),
    ],
    ids=["inputs", "inline fragments", "fragments"],
)
async def test_it_tells_a_few_mistakes_and_suggests_nothing(door: Any, query: str) -> None:
    """It looks for no similar names, which is slow and tells them to strangers."""
    errors = (await door.ask(Role.ADMIN, query))["errors"]
    assert errors[0]["extensions"]["code"] == "INVALID"
    assert len(errors) <= 6
    assert "Did you mean" not in json.dumps(errors)


async def test_it_limits_how_often_a_principal_may_ask(door: Any) -> None:
    """It refuses one operation too many unread, tells when to come back, and answers then; others are not held up."""
    door.ports = replace(door.ports, allowances=Allowances(people=2, control=3, strangers=1))
    token, other = await door.token(Role.ADMIN), await door.token(Role.CONTROL)
    for _ in range(2):
        assert (await door.post({"query": VIEWER}, token=token)).status_code == 200
    refused = await door.post({"query": "{ not even valid"}, token=token)
    assert refused.status_code == 429
    assert refused.json()["data"] is None
    assert refused.json()["errors"][0]["extensions"] == {"code": "RATE_LIMITED"}
    assert refused.headers["retry-after"] == "30"
    for _ in range(3):
        assert (await door.post({"query": VIEWER}, token=other)).status_code == 200
    assert (await door.post({"query": VIEWER}, token=other)).status_code == 429
    door.clock.advance(timedelta(seconds=30))
    assert (await door.post({"query": VIEWER}, token=token)).status_code == 200


@pytest.mark.parametrize("known", [False, True], ids=["new documents", "a known document"])
async def test_it_limits_how_many_fields_a_principal_may_have_executed(door: Any, known: bool) -> None:
    """A few large operations use up what many small ones would, however they are written; time gives it back."""
    door.ports = replace(door.ports, allowances=Allowances(people_fields=1_000))

    def large(number: int) -> str:
        # Some 120 fields each, 30 of them by aliases.
        return (
            f"query Q{0 if known else number} {{ servers(first: 3) {{ edges {{ node {{ "
            + " ".join(f"a{i}: name" for i in range(30))
            + " id } } } }"
        )

    answers = [await door.ask(Role.ADMIN, large(number)) for number in range(12)]
    refused = [answer["errors"][0]["extensions"] for answer in answers if "errors" in answer]
    assert 2 <= len(refused) <= 6
    assert {one["code"] for one in refused} == {"RATE_LIMITED"}
    assert all("errors" not in answer for answer in answers[: -len(refused)])
    assert "errors" not in await door.ask(Role.SUPPORT, large(0))
    again = datetime.fromisoformat(refused[-1]["retryAt"])
    door.clock.advance(again - door.clock.now() + timedelta(seconds=1))
    assert "errors" not in await door.ask(Role.ADMIN, large(99))


async def test_it_limits_strangers_by_their_address_and_nobody_else_there(door: Any) -> None:
    """It refuses the next stranger; a live token from the same address is answered."""
    door.ports = replace(door.ports, allowances=Allowances(strangers=2))
    answers = [(await door.post({"query": VIEWER}, token=f"abey_{number}")) for number in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert answers[2].json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
    assert int(answers[2].headers["retry-after"]) == 30
    assert (await door.post({"query": VIEWER}, token=await door.token(Role.ADMIN))).status_code == 200


@pytest.mark.parametrize(
    ("trusted", "answers"),
    [("127.0.0.1,::1", [401, 401, 429, 401]), ("192.0.2.0/24", [401, 401, 429, 429])],
    ids=["through a proxy of ours", "through anybody else"],
)
async def test_it_tells_strangers_apart_behind_a_trusted_proxy(
    door: Any, trusted: str, answers: list[int]
) -> None:
    """It counts for the address that a proxy names last; whoever is no proxy of ours is counted itself."""
    door.ports = replace(door.ports, allowances=Allowances(strangers=2))
    origins = ["198.51.100.1", "203.0.113.9, 198.51.100.1", "198.51.100.1", "198.51.100.2"]
    async with door.listening(trusted_proxies=trusted) as url, httpx.AsyncClient(timeout=10) as client:
        told = [
            await client.post(
                url,
                json={"query": VIEWER},
                headers={"Authorization": f"Bearer abey_{number}", "X-Forwarded-For": origin},
            )
            for number, origin in enumerate(origins)
        ]
    assert [answer.status_code for answer in told] == answers


_SEARCH = "query($t: String) { servers(filter: {search: $t}) { totalCount } }"
_SITE = "query($t: String) { servers(filter: {site: $t}) { totalCount } }"


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "\udfff end"], ids=["surrogate", "nul", "low surrogate"])
@pytest.mark.parametrize("place", ["search", "key", "nested", "query", "name"])
async def test_it_refuses_a_text_that_nobody_can_store(door: Any, text: str, place: str) -> None:
    """It says so, wherever in the body the text is."""
    body: dict[str, Any] = {
        "search": {"query": _SEARCH, "variables": {"t": text}},
        "key": {"query": _SEARCH, "variables": {text: "t"}},
        "nested": {"query": _SEARCH, "variables": {"t": [{"x": text}]}},
        "query": {"query": f'{{ server(externalId: "{text}") {{ id }} }}'},
        "name": {"query": "query A { viewer { role } }", "operationName": text},
    }[place]
    headers = {"Authorization": f"Bearer {await door.token(Role.ADMIN)}", "Content-Type": "application/json"}
    response = await door.request("POST", "/graphql", content=json.dumps(body), headers=headers)
    assert response.status_code == 400
    error = response.json()["errors"][0]
    assert error["extensions"]["code"] == "INVALID"
    assert "whole Unicode characters" in error["message"]


async def test_it_refuses_a_literal_that_spells_what_nobody_can_store(door: Any) -> None:
    """It reads the escapes of a document too, and leaves whole pairs alone."""
    query = '{ server(externalId: "a\\u0000b") { id } }'
    answer = await door.ask(Role.ADMIN, query)
    assert answer["errors"][0]["extensions"]["code"] == "INVALID"
    assert "whole Unicode characters" in answer["errors"][0]["message"]
    assert await door.code(Role.ADMIN, query.replace("0000", "d800")) == "INVALID"
    assert await door.data(Role.ADMIN, query.replace("0000", "00e9"))
    assert await door.data(Role.ADMIN, _SITE, {"t": "\U0001f600"})


@pytest.mark.parametrize("noun", ["servers", "accounts"])
async def test_it_searches_for_no_longer_text_than_there_is(door: Any, noun: str) -> None:
    """It answers the longest search, and refuses a longer one."""
    query = f"query($t: String) {{ {noun}(filter: {{search: $t}}) {{ totalCount }} }}"
    assert (await door.data(Role.ADMIN, query, {"t": "x" * 200}))[noun]["totalCount"] == 0
    for longer in (201, 60_000):
        assert await door.code(Role.ADMIN, query, {"t": "x" * longer}) == "LIMIT_EXCEEDED"
