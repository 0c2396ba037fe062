"""The body of a request: read as far as it may go, and no longer than it may take.

Owns these two bounds for every door; what is made of the bytes, and how a refusal is told, is the doors'.
"""

import asyncio

from starlette.requests import Request

#: A body of the largest size takes a fraction of this on any line that somebody works on.
SECONDS = 10.0


class LargeBodyError(Exception):
    """The body is larger than it may be, whatever length was announced."""


class SlowBodyError(Exception):
    """The body did not come in time: whoever sends it byte by byte keeps a place that others need."""


async def read_body(request: Request, *, most: int) -> bytes:
    """Return the body of a request; raises `LargeBodyError` beyond `most` bytes and `SlowBodyError` after `SECONDS`."""
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise LargeBodyError(f"the body is larger than {most} bytes")
    except TimeoutError:
        raise SlowBodyError(f"the body took longer than {SECONDS:.0f} s") from None
    return bytes(body)
