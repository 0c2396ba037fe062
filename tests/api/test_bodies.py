"""How much of a body is read, and for how long it is waited for."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api import bodies, operations
from api.bodies import LargeBodyError, SlowBodyError, read_body


async def _told(request: Request) -> Response:
    try:
        return PlainTextResponse(f"{len(await read_body(request, most=100_000))} bytes")
    except (LargeBodyError, SlowBodyError) as refused:
        return PlainTextResponse(str(refused), 400)


async def _answered(parts: list[bytes], *, length: int, apart: float = 0.0) -> str:
    """Send a body in parts and return the text of the answer."""
    app = Starlette(routes=[Route("/", _told, methods=["POST"])])
    with operations.listen("127.0.0.1:0") as listener:
        async with operations.answering(app, listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            writer.write(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
            for part in parts:
                writer.write(part)
                await asyncio.sleep(apart)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            [size] = [
                int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            ]
            body = await reader.readexactly(size)
            writer.close()
    return body.decode()


async def test_it_reads_a_body_in_parts() -> None:
    """It puts together what comes in time."""
    assert await _answered([b"x" * 60_000, b"x" * 40_000], length=100_000, apart=0.01) == "100000 bytes"


async def test_it_reads_no_more_than_it_may() -> None:
    """It answers before the rest has come."""
    told = await _answered([b"x" * 100_000, b"x"], length=10_000_000)
    assert told == "the body is larger than 100000 bytes"


@pytest.mark.parametrize("parts", [[], [b"x"], [b"x"] * 20], ids=["nothing", "a byte", "byte by byte"])
async def test_it_waits_for_no_slow_body(monkeypatch: pytest.MonkeyPatch, parts: list[bytes]) -> None:
    """It gives up on a body as a whole: a byte now and then buys no more time."""
    monkeypatch.setattr(bodies, "SECONDS", 0.3)
    assert "took longer" in await _answered(parts, length=1_000, apart=0.05)
