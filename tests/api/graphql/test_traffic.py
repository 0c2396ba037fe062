"""What is counted of the API's traffic, and what a caller is told of what it has left."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from api import tokens
from api.models import Role
from api.rates import Allowances
from api.traffic import Traffic

pytestmark = pytest.mark.usefixtures("sqlite_database")


def _counted(door: Any, outcome: str) -> float | None:
    value: float | None = door.ports.traffic.registry.get_sample_value(
        "abeyance_api_operations_total", {"outcome": outcome}
    )
    return value


async def test_each_answer_is_counted_by_what_became_of_it(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts answers, errors by their code, who is not let in, and measures only what was executed."""
    door.ports = replace(door.ports, traffic=Traffic())
    await factory.account()
    await door.data(Role.ADMIN, "{ viewer { role } }")
    await door.do(Role.ADMIN, "voucherRevoke", {"voucherId": "none", "reason": "x"})
    await door.code(Role.ADMIN, '{ accounts(after: "x") { totalCount } }')
    await door.post({"query": "{ viewer { role } }"}, token="nobody's")

    async def breaks(*_: Any, **__: Any) -> None:
        raise KeyError("broken")

    with monkeypatch.context() as patch:
        patch.setattr("api.graphql.accounts.page", breaks)
        await door.code(Role.ADMIN, "{ accounts { totalCount } }")
    counted = {code: _counted(door, code) for code in ("OK", "BAD_CURSOR", "UNAUTHENTICATED", "INTERNAL")}
    assert counted == {"OK": 2, "BAD_CURSOR": 1, "UNAUTHENTICATED": 1, "INTERNAL": 1}
    assert door.ports.traffic.registry.get_sample_value("abeyance_api_seconds_count") == 4


async def test_the_figures_tell_it(door: Any) -> None:
    """It shows at `/metrics` what was answered, each outcome that matters from the start, and who is connected."""
    door.ports = replace(door.ports, traffic=Traffic())
    await door.data(Role.ADMIN, "{ viewer { role } }")
    lines = (await door.request("GET", "/metrics")).text.splitlines()
    assert 'abeyance_api_operations_total{outcome="OK"} 1.0' in lines
    assert 'abeyance_api_operations_total{outcome="INTERNAL"} 0.0' in lines
    assert "abeyance_api_connections 0.0" in lines
    assert "abeyance_servers 0.0" in lines


async def test_a_fault_is_logged_with_what_was_asked_for(
    door: Any, factory: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the operation and the role beside the number that the client was told."""
    door.ports = replace(door.ports, traffic=Traffic())

    async def breaks(*_: Any, **__: Any) -> None:
        raise KeyError("broken")

    monkeypatch.setattr("api.graphql.accounts.page", breaks)
    told = await door.ask(Role.ADMIN, "query Overview { accounts { totalCount } }")
    named = await door.post(
        {"query": "query Overview { accounts { totalCount } }", "operationName": "Overview"},
        token=await door.token(Role.ADMIN),
    )
    logged = capsys.readouterr().out
    for answer in (told, named.json()):
        assert answer["errors"][0]["extensions"]["id"] in logged
    assert "operation=Overview" in logged
    assert "role=admin" in logged


async def test_an_answer_tells_what_is_left(door: Any) -> None:
    """It names the operations and fields of a minute, what is left of them, and what this operation counted as."""
    door.ports = replace(door.ports, allowances=Allowances(people=10, people_fields=1_000))
    token = await door.token(Role.ADMIN)
    first = await door.post({"query": "{ viewer { role name } }"}, token=token)
    assert first.headers["ratelimit-policy"] == '"operations";q=10;w=60, "fields";q=1000;w=60'
    assert first.headers["ratelimit"] == '"operations";r=9, "fields";r=997'
    assert first.headers["abeyance-fields"] == "3"
    for _ in range(9):
        last = await door.post({"query": "{ viewer { role } }"}, token=token)
    assert last.headers["abeyance-fields"] == "2"
    assert last.headers["ratelimit"] == '"operations";r=0, "fields";r=979'
    door.clock.advance(timedelta(seconds=30))
    again = await door.post({"query": "{ viewer { role } }"}, token=token)
    assert again.headers["ratelimit"] == '"operations";r=4, "fields";r=998'


async def test_who_is_not_let_in_is_counted_over_a_websocket_too(
    door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts the refusal, and closes so that the client tries again later where the fault is ours."""
    door.ports = replace(door.ports, traffic=Traffic())
    codes = []

    async def away(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("10.0.0.7 went away")

    async with door.listening() as url:
        for patched in (False, True):
            with monkeypatch.context() as patch:
                if patched:
                    patch.setattr(tokens, "find", away)
                speak = [Subprotocol("graphql-transport-ws")]
                async with connect(url.replace("http", "ws"), subprotocols=speak) as socket:
                    await socket.send('{"type": "connection_init", "payload": {"Authorization": "Bearer x"}}')
                    await socket.wait_closed()
                    codes.append(socket.close_code)
    assert codes == [4403, 1013]
    assert [_counted(door, code) for code in ("UNAUTHENTICATED", "INTERNAL")] == [1, 1]
