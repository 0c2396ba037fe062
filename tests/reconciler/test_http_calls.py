"""The way out by HTTP: what counts as taken, how long it waits, and that it keeps addresses to itself."""

import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler.http_calls import CallFailedError, HttpCaller, host_of


@pytest.fixture
async def caller() -> AsyncIterator[HttpCaller]:
    """A caller with the patience for any machine."""
    made = HttpCaller(patience=60)
    yield made
    await made.aclose()


async def test_it_sends_body_and_headers_as_they_are(caller: HttpCaller, receiver: Any) -> None:
    """Byte for byte, to the path and with the query it was given."""
    await caller.post(f"{receiver.url}/hook?a=1", b'{"a":1}', {"X-Mark": "7"})
    await caller.get(f"{receiver.url}/ping")
    post, get = receiver.calls
    assert (post.method, post.path, post.body, post.headers["X-Mark"]) == (
        "POST", "/hook?a=1", b'{"a":1}', "7",
    )  # fmt: skip
    assert (get.method, get.path) == ("GET", "/ping")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 410, 429, 500, 503])
async def test_it_takes_only_2xx_for_a_yes(caller: HttpCaller, receiver: Any, status: int) -> None:
    """A redirect is not followed: the signed body goes nowhere else."""
    receiver.status, receiver.headers = status, {"Location": f"{receiver.url}/elsewhere"}
    with pytest.raises(CallFailedError, match=f"it answered {status}"):
        await caller.post(f"{receiver.url}/hook", b"{}", {})
    assert [call.path for call in receiver.calls] == ["/hook"]


async def test_it_waits_for_nobody(receiver: Any) -> None:
    """A receiver that does not answer in time has not taken it."""
    receiver.delay = 2.0
    hasty = HttpCaller(patience=0.5)
    with pytest.raises(CallFailedError, match="no answer within"):
        await hasty.post(receiver.url, b"{}", {})
    await hasty.aclose()


async def test_it_never_repeats_an_address(
    caller: HttpCaller, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in a fault nor in any library's log: user, path and query may be secrets."""
    caplog.set_level(logging.NOTSET)
    for library in ("httpx", "httpcore"):
        caplog.set_level(logging.NOTSET, logger=library)
    made = HttpCaller(patience=60)
    secret = "hunter2"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    told = []
    for url in (
        f"http://u:{secret}@127.0.0.1:{port}/{secret}?{secret}",
        f"http://[{secret}",
        f"http://127.0.0.1:{receiver.port}/{secret}",
    ):
        receiver.status = 500
        with pytest.raises(CallFailedError) as failed:
            await made.post(url, b"{}", {})
        told.append(str(failed.value))
    await made.aclose()
    assert secret not in "".join(told) + caplog.text


def test_it_shows_the_host_alone() -> None:
    """That much helps, and tells no secret."""
    assert host_of("https://user:hunter2@panel.example:8443/hook/hunter2?key=hunter2") == "panel.example"
