"""The way out by HTTP for events and signs of life, to addresses that only the operator sets.

The one importer of httpx in the reconciler. Follows no redirect, reads no answer's body, waits for nobody longer than
told, and never repeats a URL: it may be a secret.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

import httpx

#: How long one call may take, all together.
PATIENCE_SECONDS = 10.0


class CallFailedError(Exception):
    """Nobody took the call; the message says why and not where."""


class Caller(Protocol):
    """A way to call an address."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a body; return when it was taken (2xx), else raise `CallFailedError`."""
        ...

    async def get(self, url: str) -> None:
        """Ask an address; return when it answered with 2xx, else raise `CallFailedError`."""
        ...


class HttpCaller:
    """Calls through one pool of connections, opened when it is first needed."""

    def __init__(self, *, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._client: httpx.AsyncClient | None = None
        for library in ("httpx", "httpcore"):  # they would log every URL
            logging.getLogger(library).setLevel(logging.WARNING)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a body: see `Caller.post`."""
        await self._call("POST", url, body, headers)

    async def get(self, url: str) -> None:
        """Ask an address: see `Caller.get`."""
        await self._call("GET", url, None, {})

    async def aclose(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _call(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> None:
        if self._client is None:
            self._client = httpx.AsyncClient(follow_redirects=False, timeout=self._patience)
        try:
            async with (
                asyncio.timeout(self._patience),
                self._client.stream(method, url, content=body, headers=headers) as answer,
            ):
                status = answer.status_code
        except TimeoutError:
            raise CallFailedError(f"no answer within {self._patience:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as problem:  # their messages may repeat the URL
            raise CallFailedError(f"it could not be reached ({type(problem).__name__})") from None
        if not 200 <= status < 300:
            raise CallFailedError(f"it answered {status}")


def host_of(url: str) -> str:
    """Return as much of a URL as may be shown."""
    return urlsplit(url).hostname or "unknown"
