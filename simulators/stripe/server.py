"""Running a simulated account as an HTTP server, in this event loop or in a thread of its own.

Owns sockets and their end. It adds nothing to the application.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from simulators.stripe.account import Account
from simulators.stripe.app import create_app

_START_LIMIT = 10.0


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to whoever owns it, and tells when it listens."""

    def __init__(self, account: Account, started: Callable[[], None]) -> None:
        app = create_app(account)
        super().__init__(
            uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="on"
            )
        )
        self._tell = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # no answer waits for an acknowledgement
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


@asynccontextmanager
async def serve(account: Account, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve in this event loop and yield the base URL; port 0 takes a free one. OSError if taken."""
    listener, started = _listen(host, port), asyncio.Event()
    server = _Server(account, started.set)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.wait_for(started.wait(), _START_LIMIT)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


@contextmanager
def serve_in_thread(account: Account, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread of its own and yield the base URL; everything is stopped at the end."""
    listener, started = _listen(host, port), threading.Event()
    server = _Server(account, started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        if not started.wait(_START_LIMIT):
            raise TimeoutError("the simulator did not start")
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_START_LIMIT)
        listener.close()
