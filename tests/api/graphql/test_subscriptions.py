"""What is watched: the present first, then each change once, over a WebSocket or as events, as long as one may."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tortoise.expressions import F
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from api import operations, tokens
from api.auth import Principal
from api.graphql import connected, endpoint, feed, ids, stream, websocket
from api.models import Role
from api.rates import Allowances
from billing.audit import record
from billing.models import Account
from billing.rules.terms import HoldCause, Stage
from reconciler.models import Hold, Run, Server, Step
from reconciler.rules.outcome import Outcome
from reconciler.rules.terms import Lane, RunState, StepKind, StepState
from reconciler.transfer import transfer

pytestmark = pytest.mark.usefixtures("sqlite_database", "_hasty")

CHANGED = """subscription($id: ID) { accountChanged(accountId: $id) {
  externalId name servers { edges { node { status } } } } }"""
PROGRESS = "subscription($id: ID!) { runProgress(runId: $id) { state targets { totalCount } } }"
SPEAK = [Subprotocol(websocket.SUBPROTOCOL)]


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "APART_SECONDS", 0.02)
    monkeypatch.setattr(feed, "RUN_SECONDS", 0.05)
    monkeypatch.setattr(stream, "RECHECK_SECONDS", 0.1)
    monkeypatch.setattr(websocket, "RECHECK_SECONDS", 0.1)


@dataclass
class Client:
    """One WebSocket."""

    socket: ClientConnection

    async def say(self, **message: Any) -> None:
        """Send one message."""
        await self.socket.send(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        """Return the next message."""
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), 60))
        return message

    async def subscribe(self, query: str, name: str = "1", **variables: Any) -> None:
        """Begin an operation."""
        await self.say(type="subscribe", id=name, payload={"query": query, "variables": variables})

    async def next(self, field: str = "accountChanged") -> Any:
        """Return what the next event shows."""
        message = await self.hear()
        assert message["type"] == "next", message
        assert "errors" not in message["payload"], message
        return message["payload"]["data"][field]

    async def code(self) -> tuple[int, str]:
        """Return with what the connection was closed."""
        with suppress(ConnectionClosed):
            while True:
                await self.hear()
        return self.socket.close_code or 0, self.socket.close_reason or ""


@dataclass
class Served:
    """The application on a port of its own."""

    door: Any
    url: str

    @asynccontextmanager
    async def raw(self, **more: Any) -> AsyncIterator[Client]:
        """Connect and say nothing."""
        url = f"{self.url.replace('http', 'ws')}/graphql"
        async with connect(url, subprotocols=more.pop("subprotocols", SPEAK), **more) as socket:
            yield Client(socket)

    @asynccontextmanager
    async def client(self, token: str) -> AsyncIterator[Client]:
        """Connect and introduce oneself with a token, as a browser has to."""
        async with self.raw() as client:
            await client.say(type="connection_init", payload={"Authorization": f"Bearer {token}"})
            assert await client.hear() == {"type": "connection_ack"}
            yield client

    @asynccontextmanager
    async def events(self, query: str, token: str, **variables: Any) -> AsyncIterator[AsyncIterator[str]]:
        """Subscribe by POST."""
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        body = {"query": query, "variables": variables}
        async with (
            httpx.AsyncClient(timeout=60) as http,
            http.stream("POST", f"{self.url}/graphql", json=body, headers=headers) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield answer.aiter_lines()


@pytest_asyncio.fixture
async def served(door: Any) -> AsyncIterator[Served]:
    """The application, with its ports as the test has set them by then."""
    with operations.listen("127.0.0.1:0") as listener:
        async with operations.answering(door.app(), listener) as url:
            yield Served(door, url)


async def _rename(door: Any, account: Account, name: str) -> None:
    """Commit a fact as whoever writes them does, and ring."""
    await Account.filter(id=account.id).update(name=name, facts_version=F("facts_version") + 1)
    door.ports.changes.ring()


async def test_it_shows_the_present_and_then_each_change(served: Served, factory: Any) -> None:
    """It tells the state at once, so that none is missed in between, and again after a hold."""
    server: Server = await factory.server()
    account = await server.account
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    async with served.client(token) as client:
        await client.subscribe(CHANGED)
        first = await client.next()
        assert first["externalId"] == account.external_id
        before = first["servers"]["edges"][0]["node"]["status"]
        await factory.hold(server, cause=HoldCause.ADMIN, stops_server=True)
        served.door.ports.changes.ring()
        after = (await client.next())["servers"]["edges"][0]["node"]["status"]
        assert (before, after) == ("ACTIVE", "HELD")
        await client.say(type="complete", id="1")
        await client.say(type="ping")
        assert await client.hear() == {"type": "pong"}


async def test_the_same_comes_as_events_by_post(served: Served, factory: Any) -> None:
    """It writes one event for each, and lets the change be seen."""
    account = await factory.account(name="before")
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    seen: list[str] = []
    async with served.events(CHANGED, token) as lines:
        async for line in lines:
            if line.startswith("data: {"):
                seen.append(json.loads(line.removeprefix("data: "))["data"]["accountChanged"]["name"])
                await _rename(served.door, account, "after")
            if len(seen) == 2:
                break
    assert seen == ["before", "after"]


async def test_a_query_may_come_as_events_too(served: Served) -> None:
    """It is one answer and an end."""
    token = await served.door.token(Role.ADMIN)
    async with served.events("{ viewer { role } }", token) as lines:
        told = [line async for line in lines]
    assert told == [
        "event: next",
        'data: {"data":{"viewer":{"role":"ADMIN"}}}',
        "",
        "event: complete",
        "data:",
        "",
    ]
    async with served.client(token) as client:
        await client.subscribe("{ viewer { role } }")
        assert await client.next("viewer") == {"role": "ADMIN"}
        assert await client.hear() == {"type": "complete", "id": "1"}


async def test_many_changes_are_told_as_one(
    served: Served, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells what is so now, however often it rang meanwhile, and nothing where nothing changed."""
    monkeypatch.setattr(feed, "APART_SECONDS", 0.3)  # far longer than one change takes
    account, other = await factory.account(), await factory.account()
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    async with served.client(token) as client:
        await client.subscribe(CHANGED)
        await client.next()
        for number in range(30):
            await _rename(served.door, other, f"other {number}")
        await asyncio.sleep(0.4)
        await client.say(type="ping")
        assert await client.hear() == {"type": "pong"}
        for number in range(30):
            await _rename(served.door, account, f"name {number}")
        told = [(await client.next())["name"]]
        while told[-1] != "name 29":
            told.append((await client.next())["name"])
        assert len(told) < 30


async def test_it_sees_a_change_that_nobody_told(
    served: Served, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks by itself after a while, so that a lost signal costs only time."""
    monkeypatch.setattr(feed, "AT_LATEST_SECONDS", 0.1)
    account = await factory.account()
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    async with served.client(token) as client:
        await client.subscribe(CHANGED)
        await client.next()
        await factory.episode(account, admitted=Stage.SUSPENDED)
        assert (await client.next())["externalId"] == account.external_id


async def test_a_run_is_followed_to_its_end(served: Served, factory: Any) -> None:
    """It tells each outcome as it is written, without a signal, and completes when the run has ended."""
    server = await factory.server()
    now = served.door.clock.now()
    run = await Run.create(
        tag="t", action="stop_guests", site="demo", lane=Lane.RESTRICT, plan_digest="d", requested_by="x",
        started_at=now,
    )  # fmt: skip
    token = await served.door.token(Role.INFRA)
    async with served.client(token) as client:
        await client.subscribe(PROGRESS, id=ids.global_id("Run", run.id))
        assert await client.next("runProgress") == {"state": "RUNNING", "targets": {"totalCount": 0}}
        await Step.create(
            kind=StepKind.STOP, state=StepState.DONE, account_id=server.account_id, server_id=server.id,
            site="demo", lane=Lane.RESTRICT, action="stop_guests", reason="r", requested_by="x",
            plan_digest="d", facts_version=1, run=run, dispatched_at=now, outcome=Outcome.CHANGED,
        )  # fmt: skip
        assert await client.next("runProgress") == {"state": "RUNNING", "targets": {"totalCount": 1}}
        await Run.filter(id=run.id).update(state=RunState.FINISHED, finished_at=now)
        assert (await client.next("runProgress"))["state"] == "FINISHED"
        assert await client.hear() == {"type": "complete", "id": "1"}


@pytest.mark.parametrize(
    ("role", "query", "code"),
    [
        (Role.INFRA, CHANGED, "FORBIDDEN"),
        (Role.CUSTOMER, PROGRESS.replace("ID!", "ID! = 1"), "FORBIDDEN"),
        (Role.CONTROL, PROGRESS.replace("ID!", "ID! = 1"), "FORBIDDEN"),
        (Role.ADMIN, CHANGED, "INVALID"),
        (Role.CUSTOMER, CHANGED.replace("externalId", "nonsense"), "INVALID"),
        (Role.CUSTOMER, "subscription { accountChanged { " + "history { totalCount } " * 21 + "} }",
         "LIMIT_EXCEEDED"),
        (Role.CUSTOMER, "subscription { a: accountChanged { id } b: accountChanged { id } }", "INVALID"),
        (Role.CUSTOMER, "subscription A { accountChanged { id } } subscription B { accountChanged { id } }", "INVALID"),
        (Role.CUSTOMER, "subscription {", "INVALID"),
        (Role.CUSTOMER, "", "INVALID"),
    ],
)  # fmt: skip
async def test_the_same_checks_as_everywhere(
    served: Served, factory: Any, role: Role, query: str, code: str
) -> None:
    """It refuses what may not be asked for, or is too much, before anything is watched; by either way."""
    name = (await factory.account()).external_id if role is Role.CUSTOMER else None
    token = await served.door.token(role, name)
    async with served.client(token) as client:
        await client.subscribe(query)
        message = await client.hear()
        errors = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
        assert errors[0]["extensions"]["code"] == code, message
    if query:
        async with served.events(query, token) as lines:
            told = [json.loads(line[6:]) async for line in lines if line.startswith("data: {")]
        assert told[0]["errors"][0]["extensions"]["code"] == code


async def test_an_account_of_another_is_like_none(served: Served, factory: Any) -> None:
    """It refuses both with the same bytes, and watches neither."""
    mine, other = await factory.account(), await factory.account()
    token = await served.door.token(Role.CUSTOMER, mine.external_id)
    told = []
    async with served.client(token) as client:
        for key in (other.id, 999_999):
            await client.subscribe(CHANGED, id=ids.global_id("Account", key))
            told.append(await client.hear())
            assert await client.hear() == {"type": "complete", "id": "1"} or told[-1]["type"] == "error"
    assert told[0] == told[1]
    assert "There is no such account." in json.dumps(told[0])


async def test_staff_watch_the_account_that_they_name(served: Served, factory: Any) -> None:
    """It shows support any account."""
    account = await factory.account()
    async with served.client(await served.door.token(Role.SUPPORT)) as client:
        await client.subscribe(CHANGED, id=ids.global_id("Account", account.id))
        assert (await client.next())["externalId"] == account.external_id


async def test_it_ends_with_its_token(served: Served, factory: Any) -> None:
    """It shows nothing after the token was revoked, and closes both ways soon after, event or not."""
    account = await factory.account()
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    async with (
        served.client(token) as busy,
        served.client(token) as idle,
        served.events(CHANGED, token) as lines,
    ):
        await busy.subscribe(CHANGED)
        await busy.next()
        assert await anext(lines) == "event: next"
        await tokens.revoke(f"CUSTOMER {account.external_id}", now=served.door.clock.now(), actor="test")
        await _rename(served.door, account, "secret")
        rest = [line async for line in lines]
        assert "secret" not in json.dumps(rest)
        assert "UNAUTHENTICATED" in json.dumps(rest)
        assert await busy.code() == (4401, "the token has ended")
        assert await idle.code() == (4401, "the token has ended")


async def test_it_ends_when_its_token_expires(served: Served, factory: Any) -> None:
    """It is no longer let in by the clock that it is given."""
    account = await factory.account()
    now = served.door.clock.now()
    token = await tokens.create(
        "short", Role.CUSTOMER, now=now, actor="test", account_external_id=account.external_id,
        expires_at=now + timedelta(minutes=5),
    )  # fmt: skip
    async with served.client(token) as client:
        await client.subscribe(CHANGED)
        await client.next()
        served.door.clock.advance(timedelta(minutes=5))
        assert (await client.code())[0] == 4401


async def test_each_event_counts_as_an_operation(door: Any, factory: Any) -> None:
    """It tells no more events than one may ask operations, and goes on when the next is allowed."""
    door.ports = replace(door.ports, allowances=Allowances(people=4))
    account = await factory.account()
    token = await door.token(Role.CUSTOMER, account.external_id)
    with operations.listen("127.0.0.1:0") as listener:
        async with (
            operations.answering(door.app(), listener) as url,
            Served(door, url).client(token) as client,
        ):
            await client.subscribe(CHANGED)
            await client.next()
            await _rename(door, account, "once")
            await client.next()
            await _rename(door, account, "twice")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.socket.recv(), 0.3)


async def test_a_client_that_reads_nothing_holds_up_nobody(
    served: Served, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up on it, and serves the others meanwhile."""
    monkeypatch.setattr(websocket, "SEND_SECONDS", 0.3)
    account = await factory.account(name="x" * 300)
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    big = (
        "query { "
        + " ".join(f"a{i}: viewer {{ accounts {{ name externalId email }} }}" for i in range(20))
        + " }"
    )
    async with served.raw(max_queue=1) as deaf, served.client(token) as other:
        await deaf.say(type="connection_init", payload={"authorization": f"Bearer {token}"})
        deaf.socket.transport.pause_reading()
        for number in range(400):
            try:
                await asyncio.wait_for(deaf.subscribe(big, name=str(number)), 1)
            except (TimeoutError, ConnectionClosed):
                break
        await other.subscribe(CHANGED)
        assert (await other.next())["externalId"] == account.external_id
        deaf.socket.transport.abort()


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([{"type": "subscribe", "id": "1", "payload": {"query": "{ viewer { role } }"}}], 4401),
        ([{"type": "connection_init"}], 4403),
        ([{"type": "connection_init", "payload": {"Authorization": "Bearer abey_x"}}], 4403),
        ([{"type": "connection_init", "payload": {"Authorization": 7}}], 4403),
        ([7], 4400),
        ([{"id": 1}], 4400),
        (["init", {"type": "connection_init"}], 4429),
        (["init", {"type": "nonsense"}], 4400),
        (["init", {"type": "subscribe", "payload": {"query": "{ viewer { role } }"}}], 4400),
        (["init", {"type": "subscribe", "id": "x" * 101, "payload": {}}], 4400),
        (["init", "begin", "begin"], 4409),
    ],
)
async def test_it_keeps_to_its_protocol(served: Served, factory: Any, messages: list[Any], code: int) -> None:
    """It closes with the protocol's code on anything else."""
    account = await factory.account()
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    meant = {
        "init": {"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}},
        "begin": {"type": "subscribe", "id": "1", "payload": {"query": CHANGED}},
    }
    async with served.raw() as client:
        for message in messages:
            await client.socket.send(
                json.dumps(meant.get(message, message) if isinstance(message, str) else message)
            )
        assert (await client.code())[0] == code


async def test_it_reads_no_bytes_and_no_long_message(served: Served) -> None:
    """It closes instead."""
    async with served.raw() as client:
        await client.socket.send(b"{}")
        assert (await client.code())[0] == 4400
    async with served.raw() as client:
        await client.socket.send("x" * 200_000)
        assert (await client.code())[0] == 1009


async def test_it_waits_for_no_introduction(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes a connection that never says who it is, and speaks no older protocol."""
    monkeypatch.setattr(websocket, "INIT_SECONDS", 0.1)
    async with served.raw() as client:
        assert (await client.code())[0] == 4408
    for spoken in (["graphql-ws"], None):
        with pytest.raises(InvalidStatus):
            async with served.raw(subprotocols=spoken):
                pass


async def test_a_header_introduces_as_well(served: Served) -> None:
    """It takes the token of the request where a program can send one."""
    headers = {"Authorization": f"Bearer {await served.door.token(Role.ADMIN)}"}
    async with served.raw(additional_headers=headers) as client:
        await client.say(type="connection_init")
        assert await client.hear() == {"type": "connection_ack"}


async def test_one_principal_has_a_few_connections(
    served: Served, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses one too many of either kind, leaves others alone, and gives the place back."""
    monkeypatch.setattr(connected, "MOST_OF_ONE", 2)
    account = await factory.account()
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    other = await served.door.token(Role.ADMIN)
    async with served.client(token):
        async with served.events(CHANGED, token) as lines:
            assert await anext(lines) == "event: next"
            async with served.raw() as third:
                await third.say(type="connection_init", payload={"Authorization": f"Bearer {token}"})
                assert (await third.code())[0] == 4429
            headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
            async with httpx.AsyncClient() as http:
                refused = await http.post(f"{served.url}/graphql", json={"query": CHANGED}, headers=headers)
            assert refused.status_code == 429
            assert refused.json()["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
            async with served.client(other):
                pass
        await _eventually(lambda: _gets_in(served, token))


async def test_a_connection_has_a_few_operations(
    served: Served, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses one too many, and takes another once one is finished."""
    monkeypatch.setattr(websocket, "MOST_OPERATIONS", 2)
    account = await factory.account()
    async with served.client(await served.door.token(Role.CUSTOMER, account.external_id)) as client:
        for name in "12":
            await client.subscribe(CHANGED, name)
            await client.next()
        await client.subscribe(CHANGED, "3")
        refused = await client.hear()
        assert (refused["id"], refused["payload"][0]["extensions"]["code"]) == ("3", "LIMIT_EXCEEDED")
        await client.say(type="complete", id="1")
        await client.subscribe(CHANGED, "1")
        assert (await client.hear())["id"] == "1"


async def test_quiet_is_kept_alive(served: Served, factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends a comment while nothing happens."""
    monkeypatch.setattr(endpoint, "KEEP_ALIVE_SECONDS", 0.1)
    account = await factory.account()
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    async with served.events(CHANGED, token) as lines, asyncio.timeout(60):
        async for line in lines:
            if line == ":":
                break


async def test_nothing_goes_on_when_nobody_watches(served: Served, factory: Any) -> None:
    """It looks only while there is a subscription, and gives back its places."""
    account = await factory.account()
    token = await served.door.token(Role.CUSTOMER, account.external_id)
    async with served.client(token) as client:
        await client.subscribe(CHANGED)
        await client.next()
        assert _looking()
    async with served.events(CHANGED, token) as lines:
        await anext(lines)
        assert _looking()
    await _eventually(_at_rest)


def _looking() -> bool:
    return any(task.get_name() == "feed" for task in asyncio.all_tasks())


async def _at_rest() -> bool:
    return not _looking() and not [one for one in asyncio.all_tasks() if one.get_name() == "graphql stream"]


async def _gets_in(served: Served, token: str) -> bool:
    with suppress(ConnectionClosed):
        async with served.client(token):
            return True
    return False


async def _eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return when it holds: an end that was told to the server is seen there a moment later."""
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.02)


async def test_a_fault_of_ours_signs_nobody_out(
    served: Served, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says by an error with a number, and not by a lost session, that it cannot find out who asks."""

    async def away(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("10.0.0.7 went away")

    token, asked = await served.door.token(Role.ADMIN), "{ viewer { role } }"
    async with served.client(token) as client:
        with monkeypatch.context() as patch:
            patch.setattr(tokens, "find", away)
            answer = await served.door.post({"query": asked}, token=token)
            await client.subscribe(asked)
            told = [*answer.json()["errors"], *(await client.hear())["payload"]]
            await asyncio.sleep(0.3)  # its token is looked at several times meanwhile
        await client.subscribe(asked)
        assert (await client.hear())["payload"]["data"] == {"viewer": {"role": "ADMIN"}}
    assert answer.status_code == 503
    assert [error["extensions"]["code"] for error in told] == ["INTERNAL", "INTERNAL"]
    assert all(error["extensions"]["id"] and "10.0.0.7" not in str(error) for error in told)


async def test_by_plain_post_it_says_how_to_subscribe(door: Any) -> None:
    """It answers no subscription by a single answer."""
    error = (await door.ask(Role.ADMIN, CHANGED))["errors"][0]
    assert "text/event-stream" in error["message"]


async def test_holds_and_facts_alike_make_a_mark_differ(factory: Any) -> None:
    """It tells apart what a customer could see, in a fixed number of statements."""
    from api.graphql.marks import marks_of

    server = await factory.server()
    key = ("Account", server.account_id)
    seen = [(await marks_of([key]))[key]]
    await factory.observation(server)
    seen.append((await marks_of([key]))[key])
    hold = await factory.hold(server)
    seen.append((await marks_of([key]))[key])
    await Hold.filter(id=hold.id).update(lifted_at=server.created_at, lifted_by="x")
    await Account.filter(id=server.account_id).update(facts_version=9)
    seen.append((await marks_of([key]))[key])
    await Server.filter(id=server.id).update(missing_since=server.created_at)
    seen.append((await marks_of([key]))[key])
    assert len(set(seen)) == 5
    assert await marks_of([("Account", 999), ("Run", 999)]) == {}


THEIRS = """subscription { accountChanged { externalId name servers { totalCount edges { node { externalId name status
  holds { cause } explanation { text } history { edges { node { kind } } } } } } } }"""


async def test_a_server_that_went_to_another_account_is_seen_there_alone(
    served: Served, factory: Any
) -> None:
    """It leaves the events of its old account with the transfer, and comes to the new one without its past."""
    old, new = await factory.account(), await factory.account()
    server = await factory.server(old, name="before")
    now = served.door.clock.now()
    await record("server.named", ("Server", server.id), at=now, actor="a", reason="r", account_id=old.id)
    giver = await served.door.token(Role.CUSTOMER, old.external_id)
    taker = await served.door.token(Role.CUSTOMER, new.external_id)
    async with served.client(giver) as theirs, served.client(taker) as ours:
        for client, many in ((theirs, 1), (ours, 0)):
            await client.subscribe(THEIRS)
            assert (await client.next())["servers"]["totalCount"] == many
        await transfer(server.id, new.id, reason="sold", actor="control:x", now=now)
        await Server.filter(id=server.id).update(name="secret")
        served.door.ports.changes.ring()
        (got,) = (await ours.next())["servers"]["edges"]
        assert got["node"]["name"] == "secret"
        assert [edge["node"]["kind"] for edge in got["node"]["history"]["edges"]] == ["server.received"]
        left = await theirs.next()
        assert left["servers"] == {"totalCount": 0, "edges": []}
        await factory.hold(server, cause=HoldCause.ABUSE, stops_server=True)
        await _rename(served.door, new, "secret too")
        assert (await ours.next())["servers"]["edges"][0]["node"]["status"] == "HELD"
        await _rename(served.door, old, "mine")
        told = await theirs.next()
        assert told == {
            "externalId": old.external_id,
            "name": "mine",
            "servers": {"totalCount": 0, "edges": []},
        }


@dataclass
class Portal:
    """An identity provider that may change its mind about what a credential stands for."""

    says: Principal

    async def authenticate(self, bearer: str, now: datetime) -> Principal | None:
        """Return whom it stands for by now."""
        return self.says


@pytest.mark.parametrize("way", ["socket", "events"])
async def test_an_account_that_left_the_claim_is_seen_no_longer(door: Any, factory: Any, way: str) -> None:
    """It ends when the credential stands for fewer accounts, before anything of the one that left is told."""
    mine, other = await factory.account(), await factory.account()
    both = Principal(role=Role.CUSTOMER, name="c", accounts=frozenset({mine.external_id, other.external_id}))
    portal = Portal(both)
    door.ports = replace(door.ports, authenticators=(portal,))
    with operations.listen("127.0.0.1:0") as listener:
        async with operations.answering(door.app(), listener) as url:
            served = Served(door, url)
            if way == "socket":
                async with served.client("x") as client:
                    await client.subscribe(CHANGED)
                    assert [(await client.next())["externalId"] for _ in "12"] == [
                        mine.external_id,
                        other.external_id,
                    ]
                    portal.says = replace(both, accounts=frozenset({mine.external_id}))
                    await _rename(door, other, "secret")
                    told = []
                    with suppress(ConnectionClosed):
                        while True:
                            told.append(await client.hear())
                    assert client.socket.close_code == 4401
            else:
                async with served.events(CHANGED, "x") as lines:
                    told = []
                    async for line in lines:
                        told.append(line)
                        if len([one for one in told if one.startswith("data: {")]) == 2:
                            portal.says = replace(both, accounts=frozenset({mine.external_id}))
                            await _rename(door, other, "secret")
                    told = told[6:]  # but for the first two
                    assert "UNAUTHENTICATED" in json.dumps(told)
            assert "secret" not in json.dumps(told)
            assert other.external_id not in json.dumps(told)


async def test_a_run_is_shown_no_longer_to_who_may_not_see_runs(door: Any, factory: Any) -> None:
    """It ends with the role that may watch runs."""
    now = door.clock.now()
    run = await Run.create(
        tag="t", action="stop_guests", site="demo", lane=Lane.RESTRICT, plan_digest="d", requested_by="x",
        started_at=now,
    )  # fmt: skip
    server = await factory.server(name="secret")
    portal = Portal(Principal(role=Role.INFRA, name="i"))
    door.ports = replace(door.ports, authenticators=(portal,))
    with operations.listen("127.0.0.1:0") as listener:
        async with operations.answering(door.app(), listener) as url, Served(door, url).client("x") as client:
            await client.subscribe(PROGRESS, id=ids.global_id("Run", run.id))
            assert (await client.next("runProgress"))["state"] == "RUNNING"
            owner = (await server.account).external_id
            portal.says = Principal(role=Role.CUSTOMER, name="i", accounts=frozenset({owner}))
            await Run.filter(id=run.id).update(state=RunState.FINISHED, finished_at=now)
            told = []
            with suppress(ConnectionClosed):
                while True:
                    told.append(await client.hear())
            assert client.socket.close_code == 4401
            assert "FINISHED" not in json.dumps(told)
