"""Serving the simulator over real sockets, http or https, alone or beside a test.

Owns the one thing that ASGI cannot carry: reason phrases such as `500 CT 101 not running`.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from simulators.proxmox.app import REASON_HEADER, create_app
from simulators.proxmox.cluster import Cluster

_START_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The files of a certificate and its key, PEM."""

    certificate: Path
    key: Path


async def serve(
    cluster: Cluster,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: Tls | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until cancelled. `ready` is told the base URL once it answers; port 0 takes a free one.

    OSError when the port is taken.
    """
    with _listen(host, port) as listener:
        server = _Server(_config(cluster, tls))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            if ready is not None and not running.done():
                ready(_url(listener, tls))
            await asyncio.shield(running)
        except asyncio.CancelledError:
            server.should_exit = True
            await running
            raise


@contextlib.contextmanager
def running(
    cluster: Cluster, *, host: str = "127.0.0.1", port: int = 0, tls: Tls | None = None
) -> Iterator[str]:
    """Serve in a thread of its own while the context lasts; yields the base URL, such as `http://127.0.0.1:40123`."""
    with _listen(host, port) as listener:
        server = _Server(_config(cluster, tls))
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="proxmox-simulator", daemon=True
        )
        thread.start()
        waiting = threading.Event()
        for _ in range(int(_START_SECONDS / 0.01)):
            if server.started or not thread.is_alive():
                break
            waiting.wait(0.01)
        if not server.started:
            raise RuntimeError("the Proxmox simulator did not start: see its log above")
        try:
            yield _url(listener, tls)
        finally:
            server.should_exit = True
            thread.join(_START_SECONDS)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # no answer waits for an acknowledgement
    return listener


def _config(cluster: Cluster, tls: Tls | None) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(cluster),
        access_log=False,
        http=_ReasonedProtocol,
        lifespan="off",
        log_level="warning",
        server_header=False,
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
        timeout_graceful_shutdown=1,
        ws="none",
    )


def _url(listener: socket.socket, tls: Tls | None) -> str:
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{host}:{port}"


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to whoever runs it."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()


class _ReasonedConnection(h11.Connection):
    """Takes the reason phrase out of its header and puts it where it belongs."""

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        if isinstance(event, h11.Response):
            name = REASON_HEADER.encode()
            reason = next((value for key, value in event.headers if key == name), None)
            if reason is not None:
                headers = [(key, value) for key, value in event.headers if key != name]
                event = h11.Response(status_code=event.status_code, headers=headers, reason=reason)
        return super().send(event)


class _ReasonedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol on such a connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _ReasonedConnection(h11.SERVER)
