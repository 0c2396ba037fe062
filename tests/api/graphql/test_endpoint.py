"""The endpoint: who asks, what a request may look like, and how much it may ask for."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import bodies, tokens
from api.auth import TokenAuthenticator
from api.graphql import endpoint
from api.jwks import BETWEEN, KeySet, from_url
from api.jwt import JwtAuthenticator
from api.models import ApiToken, Role
from api.rates import Allowances
from billing.models import Account

#: How many functions a refusal may call: several times what any of these does, far below comparing all with all.
MOST_CALLS = 300_000
VIEWER = (
    "{ viewer { role name person permissions serverTime accounts { externalId } account { externalId } } }"
)

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def test_it_tells_who_asks(door: Any, factory: Any) -> None:
    """It tells a customer its role, its account and what it may ask for."""
    account = await factory.account()
    await factory.account()
    viewer = (await door.data(Role.CUSTOMER, VIEWER, account=account.external_id))["viewer"]
    assert viewer["role"] == "CUSTOMER"
    assert viewer["account"] == {"externalId": account.external_id}
    assert viewer["accounts"] == [{"externalId": account.external_id}]
    assert "serverPowerSet" in viewer["permissions"]
    assert "overridePlace" not in viewer["permissions"]
    assert viewer["serverTime"] == "2026-11-20T09:00:00Z"


async def test_it_has_no_accounts_for_staff(door: Any, factory: Any) -> None:
    """It shows accounts of its own to customers alone."""
    await factory.account()
    viewer = (await door.data(Role.ADMIN, VIEWER))["viewer"]
    assert viewer["accounts"] == []
    assert viewer["account"] is None
    assert viewer["person"] == "admin-anna"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer abey_unknown", "Basic YTpi", "Bearer " + "abey_" + "A" * 43],
)
async def test_it_answers_nobody_it_does_not_know(door: Any, header: str | None) -> None:
    """It tells a stranger the same, whatever it sends, and parses nothing of it."""
    headers = {"Authorization": header} if header is not None else {}
    response = await door.post({"query": "{ not even valid"}, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_it_forgets_a_token_the_moment_it_is_revoked(door: Any) -> None:
    """It answers once, and not after the revocation."""
    token = await door.token(Role.ADMIN)
    assert (await door.post({"query": VIEWER}, token=token)).status_code == 200
    assert await tokens.revoke("ADMIN admin-anna", now=door.clock.now(), actor="test") == 1
    assert (await door.post({"query": VIEWER}, token=token)).status_code == 401


async def test_it_lets_in_the_customers_of_the_portal(door: Any, factory: Any, issuer: Any) -> None:
    """It shows each the accounts that its token names and nobody else's, until the token ends."""
    names = [(await factory.account()).external_id for _ in range(3)]
    keys = KeySet(from_url(issuer.url))
    portal = JwtAuthenticator(keys, issuer=issuer.issuer, audience=issuer.audience, account_claim="accounts")
    door.ports = replace(door.ports, authenticators=(TokenAuthenticator(), portal))
    token = issuer.token(sub="anna", accounts=[*names[:2], "not-yet"])
    query = {"query": "{ viewer { role person accounts { externalId } } accounts { totalCount } }"}
    told = (await door.post(query, token=token)).json()["data"]
    assert told["viewer"] == {
        "role": "CUSTOMER",
        "person": "anna",
        "accounts": [{"externalId": name} for name in names[:2]],
    }
    assert told["accounts"]["totalCount"] == 2
    assert (await door.post({"query": "{ plan { digest } }"}, token=token)).json()["errors"][0][
        "extensions"
    ] == {"code": "FORBIDDEN"}
    assert await door.data(Role.ADMIN, VIEWER)
    door.clock.advance(timedelta(minutes=6))
    assert (await door.post(query, token=token)).status_code == 401


async def test_it_signs_nobody_out_while_the_provider_is_away(door: Any, factory: Any, issuer: Any) -> None:
    """It says that it cannot find out who asks, by a number that is in the log, as long as the keys cannot be read."""
    account = await factory.account()
    portal = JwtAuthenticator(KeySet(from_url(issuer.url)), issuer=issuer.issuer, audience=issuer.audience)
    door.ports = replace(door.ports, authenticators=(TokenAuthenticator(), portal))
    issuer.status = 500
    query = {"query": "{ viewer { role } }"}
    with capture_logs() as logs:
        away = await door.post(query, token=issuer.token(sub=account.external_id))
    (error,) = away.json()["errors"]
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    assert error["extensions"] == {"code": "INTERNAL", "id": error["extensions"]["id"]}
    (line,) = [line for line in logs if line["event"] == "request.undecided"]
    assert line["id"] == error["extensions"]["id"]
    assert "exc_info" not in line
    assert (await door.post(query, token="no token of anybody")).status_code == 401
    assert await door.data(Role.ADMIN, VIEWER)
    door.ports = replace(door.ports, allowances=Allowances(strangers=2))
    asked = [await door.post(query, token=issuer.token(sub=account.external_id)) for _ in range(3)]
    assert [answer.status_code for answer in asked] == [503, 503, 429]
    issuer.status = 200
    door.clock.advance(BETWEEN)
    again = await door.post(query, token=issuer.token(sub=account.external_id))
    assert again.json() == {"data": {"viewer": {"role": "CUSTOMER"}}}
    assert (await door.post(query, token=issuer.token(kid="ec"))).status_code == 401


async def test_it_forgets_a_token_that_has_expired(door: Any) -> None:
    """It answers until the instant of expiry, and not at it."""
    await door.token(Role.ADMIN)
    await ApiToken.all().update(expires_at=door.clock.now() + timedelta(seconds=1))
    token = await door.token(Role.ADMIN)
    assert (await door.post({"query": VIEWER}, token=token)).status_code == 200
    door.clock.advance(timedelta(seconds=1))
    assert (await door.post({"query": VIEWER}, token=token)).status_code == 401


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (json.dumps([{"query": VIEWER}]).encode(), "application/json"),
        (b"{}", "application/json"),
        (b'{"query": 1}', "application/json"),
        (b'{"query": " "}', "application/json"),
        (b'{"query": "{ viewer { role } }", "variables": []}', "application/json"),
        (b'{"query": "{ viewer { role } }", "operationName": 1}', "application/json"),
        (json.dumps({"query": VIEWER}).encode(), "text/plain"),
        (b"query=%7Bviewer%7Brole%7D%7D", "application/x-www-form-urlencoded"),
        (b"[" * 60_000, "application/json"),
        (b"\xff", "application/json"),
    ],
)
async def test_it_reads_one_json_object_and_nothing_else(door: Any, content: bytes, kind: str) -> None:
    """It refuses arrays of operations, forms and plain text, which a foreign page could send."""
    headers = {"Authorization": f"Bearer {await door.token(Role.ADMIN)}", "Content-Type": kind}
    response = await door.request("POST", "/graphql", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["code"] == "INVALID"


async def test_it_inflates_nothing(door: Any) -> None:
    """It says so: a few compressed bytes may become any number."""
    headers = {"Authorization": f"Bearer {await door.token(Role.ADMIN)}", "Content-Type": "application/json"}
    body = gzip.compress(json.dumps({"query": "{ viewer { role } }"}).encode())
    refused = await door.request(
        "POST", "/graphql", content=body, headers=headers | {"Content-Encoding": "gzip"}
    )
    assert refused.status_code == 400
    assert "Content-Encoding" in refused.json()["errors"][0]["message"]


async def test_it_reads_no_more_than_its_largest_body(door: Any) -> None:
    """It stops reading a body that is too large."""
    body = {"query": VIEWER, "variables": {"padding": "x" * endpoint.LARGEST_BODY}}
    response = await door.post(body, token=await door.token(Role.ADMIN))
    assert response.status_code == 413
    assert response.json()["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"


async def test_it_waits_for_no_slow_body(door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so with a code, and gives the connection up."""
    monkeypatch.setattr(bodies, "SECONDS", 0.2)
    headers = {"Authorization": f"Bearer {await door.token(Role.ADMIN)}", "Content-Type": "application/json"}

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    answer = await door.request("POST", "/graphql", content=slowly(), headers=headers)
    assert answer.status_code == 408
    assert answer.headers["Connection"] == "close"
    assert answer.json()["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"


async def test_it_answers_no_get_and_redirects_nobody(door: Any) -> None:
    """It is at its exact path, for POST alone."""
    headers = {"Authorization": f"Bearer {await door.token(Role.ADMIN)}"}
    query = {"query": "{viewer{role}}"}
    assert (await door.request("GET", "/graphql", params=query, headers=headers)).status_code == 405
    assert (await door.post({"query": VIEWER}, token=await door.token(Role.ADMIN))).status_code == 200


def _deep(levels: int) -> str:
    return (
        "{ viewer { account "
        + "{ servers { edges { node { account " * levels
        + "{ id }"
        + " } } } }" * levels
        + " } }"
    )


def _fragments(count: int) -> str:
    spreads = " ".join(f"fragment f{i} on Account {{ ...f{i + 1} ...f{i + 1} }}" for i in range(count))
    return "{ viewer { account { ...f0 } } } " + spreads + f" fragment f{count} on Account {{ id name }}"


@pytest.mark.parametrize(
    "query",
    [
        _deep(4),
        _deep(60),
        "{ viewer " * 400,
        "{" + " ".join(f"a{i}: viewer {{ role }}" for i in range(31)) + "}",
        "{" + " viewer { role }" * 1000 + "}",
        _fragments(60),
        "{ accounts(first: 100) { edges { node { servers(first: 100) { edges { node { name } } } } } } }",
        "query Q($n: Int) { accounts(first: $n) { edges { node { servers(first: $n) { edges { node { id } } } } } } }",
        "{ viewer { role" + " @include(if: true)" * 1000 + " } }",
    ],
    ids=[
        "depth",
        "far too deep",
        "nested",
        "aliases",
        "tokens",
        "fragments",
        "pages",
        "variable",
        "directives",
    ],
)
async def test_it_refuses_what_asks_for_too_much_before_it_does_anything(door: Any, query: str) -> None:
    """It says so with little work, and the next question is answered as ever."""
    assert await door.code(Role.ADMIN, query) == "LIMIT_EXCEEDED"
    work = await door.calls({"query": query}, token=await door.token(Role.ADMIN))
    assert work < MOST_CALLS
    assert (await door.data(Role.ADMIN, VIEWER))["viewer"]["role"] == "ADMIN"


async def test_it_refuses_a_fragment_within_itself(door: Any) -> None:
    """It ends, and says that the document is wrong."""
    query = "{ viewer { account { ...f } } } fragment f on Account { ...g } fragment g on Account { ...f }"
    assert await door.code(Role.ADMIN, query) == "INVALID"


async def test_it_gives_up_on_a_question_that_takes_too_long(
    door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers with a code once its time is over."""
    door.ports = replace(door.ports, query_timeout=timedelta(milliseconds=50))

    async def hangs(*_: Any, **__: Any) -> list[Account]:
        await asyncio.sleep(30)
        return []

    monkeypatch.setattr("api.graphql.viewer.accounts_of", hangs)
    answer = await door.ask(Role.CUSTOMER, VIEWER, account="customer-1")
    assert answer["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"


SECRET = "postgres://abeyance:hunter2@db"


@pytest.mark.parametrize("fault", [ValueError, KeyError, RuntimeError, OSError, LookupError, AssertionError])
async def test_it_tells_nothing_of_a_fault_of_its_own_but_a_number(
    door: Any, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    """It hides the text of whatever went wrong; the number finds it in the log."""

    async def breaks(*_: Any, **__: Any) -> Any:
        raise fault(SECRET)

    monkeypatch.setattr("api.graphql.viewer.accounts_of", breaks)
    answer = await door.ask(Role.CUSTOMER, VIEWER, account="customer-1")
    told = answer["errors"][0]
    assert told["extensions"]["code"] == "INTERNAL"
    assert told["extensions"]["id"] in told["message"]
    assert "hunter2" not in json.dumps(answer)


async def test_it_offers_no_introspection_and_no_suggestions(door: Any) -> None:
    """It gives a stranger to the schema nothing to rebuild it from."""
    for query in ("{ __schema { types { name } } }", '{ __type(name: "Account") { name } }'):
        assert await door.code(Role.ADMIN, query) == "INVALID"
    answer = await door.ask(Role.ADMIN, "{ viewer { rolle } }")
    assert "role" not in answer["errors"][0]["message"].replace("rolle", "")


async def test_it_offers_developers_introspection_and_a_page(door: Any) -> None:
    """It answers both with `dev`, and the page loads nothing from elsewhere."""
    door.dev = True
    assert (await door.data(Role.ADMIN, "{ __schema { queryType { name } } }"))["__schema"]["queryType"]
    page = await door.request("GET", "/graphql")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")


async def test_it_knows_its_operations_by_name(door: Any) -> None:
    """It executes the one that is named, and refuses a name that the document does not have."""
    token = await door.token(Role.ADMIN)
    query = "query A { viewer { role } } query B { viewer { name } }"
    chosen = await door.post({"query": query, "operationName": "B"}, token=token)
    assert chosen.json()["data"]["viewer"] == {"name": "ADMIN admin-anna"}
    for body in ({"query": query, "operationName": "C"}, {"query": query}):
        answer = (await door.post(body, token=token)).json()
        assert answer["errors"][0]["extensions"]["code"] == "INVALID"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DateTime", "2026-11-20T10:00:00"),
        ("DateTime", "soon"),
        ("DateTime", 7),
        ("Date", "2026-13-01"),
        ("Date", "x"),
    ],
)
async def test_it_refuses_a_wrong_scalar(door: Any, variable: str, value: Any) -> None:
    """It takes no instant without an offset and no day that is none."""
    query = {
        "DateTime": 'mutation M($v: DateTime) { overridePlace(input: {accountId: "x", kind: FREEZE, reason: "r", '
        "expiresAt: $v}) { errors { code } } }",
        "Date": "query Q($v: Date) { invoices(filter: {dueBefore: $v}) { totalCount } }",
    }[variable]
    assert await door.code(Role.ADMIN, query, {"v": value}) == "INVALID"
