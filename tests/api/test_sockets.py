"""Connections on a real socket: what begins too slowly, is not read, or is too much is given up; the rest is served."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from api import operations, sockets

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
MUCH = b"x" * 30_000_000


@asynccontextmanager
async def _served(app: Any) -> AsyncIterator[tuple[str, int]]:
    with operations.listen("127.0.0.1:0") as listener:
        async with operations.answering(app, listener):
            yield listener.getsockname()[:2]


async def _plain(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("there")(scope, receive, send)


async def _ended(reader: asyncio.StreamReader) -> bool:
    """Return whether the other side gives the connection up."""
    try:
        await asyncio.wait_for(reader.read(), 30)
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    ("before", "sent"), [(0, b""), (0, HEAD[:20]), (1, HEAD[:20])], ids=["nothing", "half", "one and a half"]
)
async def test_a_request_that_does_not_begin_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, before: int, sent: bytes
) -> None:
    """It gives up who says nothing, or a part of a head, be it the first of the connection or a later one."""
    monkeypatch.setattr(sockets, "HEAD_SECONDS", 0.1)
    async with _served(_plain) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        for _ in range(before):
            writer.write(HEAD)
            await asyncio.wait_for(reader.readuntil(b"there"), 30)
        writer.write(sent)
        assert await _ended(reader)
        writer.close()


async def test_a_request_that_has_begun_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for an answer for longer than for a head, and for the next request after it."""
    monkeypatch.setattr(sockets, "HEAD_SECONDS", 0.1)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        await _plain(scope, receive, send)

    async with _served(slow) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        for _ in range(2):
            writer.write(HEAD)
            assert (await asyncio.wait_for(reader.readuntil(b"there"), 30)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_who_does_not_read_the_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It frees what an answer holds that nobody takes, and serves whoever reads slowly to the end."""
    monkeypatch.setattr(sockets, "STALL_SECONDS", 0.2)
    writing: list[asyncio.Transport] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        writing.append(receive.__self__.transport)
        await PlainTextResponse(MUCH)(scope, receive, send)

    async with _served(noting) as (host, port):
        _, silent = await asyncio.open_connection(host, port, limit=1_000)
        silent.write(HEAD)
        async with asyncio.timeout(30):
            while not writing or writing[0].get_write_buffer_size():  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
        silent.close()
        reader, slow = await asyncio.open_connection(host, port, limit=1_000_000)
        slow.write(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        read = 0
        while part := await asyncio.wait_for(reader.read(2_000_000), 30):
            read += len(part)
            await asyncio.sleep(0.05)
        slow.close()
        assert read > len(MUCH)


async def test_a_connection_too_many_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves files to the rest of the process, and takes another connection once one has ended."""
    monkeypatch.setattr(sockets, "most_connections", lambda: 1)
    async with _served(_plain) as (host, port):
        first, writer = await asyncio.open_connection(host, port)
        writer.write(HEAD)
        await asyncio.wait_for(first.readuntil(b"there"), 30)
        second, other = await asyncio.open_connection(host, port)
        assert await _ended(second)
        other.close()
        writer.close()
        await writer.wait_closed()
        third, writer = await asyncio.open_connection(host, port)
        writer.write(HEAD)
        assert await asyncio.wait_for(third.readuntil(b"there"), 30)
        writer.close()


@pytest.mark.parametrize(("files", "most"), [(1_024, 768), (20_000, 19_744), (300, 150)])
def test_files_are_kept_for_the_rest_of_the_process(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int
) -> None:
    """It takes fewer connections than the process may open files."""
    monkeypatch.setattr(sockets.resource, "getrlimit", lambda _: (files, files))
    assert sockets.most_connections() == most


async def test_pings_that_nobody_reads_the_answers_of_fill_no_memory() -> None:
    """It answers one at a time, whoever sends them, and goes on once they are read."""
    unread: list[Callable[[], int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        web = WebSocket(scope, receive, send)
        await web.accept()
        unread.append(receive.__self__.transport.get_write_buffer_size)
        with pytest.raises(WebSocketDisconnect):
            await web.receive_text()

    async with _served(app) as (host, port):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect((host, port))
        client.setblocking(False)
        async with connect(f"ws://{host}:{port}", sock=client, ping_interval=None, close_timeout=1) as web:
            web.transport.pause_reading()
            ping = Frame(Opcode.PING, b"x" * 125).serialize(mask=True)
            for _ in range(200):
                web.transport.write(ping * 1_000)
                await asyncio.sleep(0.001)
            while web.transport.get_write_buffer_size():  # noqa: ASYNC110 - a transport has no event for it
                await asyncio.sleep(0.01)
            assert unread[0]() < 1_000_000
            web.transport.abort()


async def test_a_message_in_countless_parts_is_given_up() -> None:
    """It keeps no endless list of parts that are empty."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        web = WebSocket(scope, receive, send)
        await web.accept()
        with pytest.raises(WebSocketDisconnect):
            await web.receive_text()

    async with _served(app) as (host, port), connect(f"ws://{host}:{port}", close_timeout=1) as web:
        web.transport.write(Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True))
        web.transport.write(Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * 2_000)
        await asyncio.wait_for(web.wait_closed(), 30)
        assert web.close_code == 1006
