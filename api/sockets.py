"""Sockets that keep nobody waiting: how many there may be, how long a request's head and a slow reader may take.

Owns what uvicorn leaves to a proxy, which not everybody has, and which passes WebSockets on as they come. A process
that has run out of files answers nobody, and can start no run that gives a server back.
"""

import asyncio
import resource

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

#: From its first byte, or from the connection's beginning, the head of a request may take this long.
HEAD_SECONDS = 10.0
#: Whoever has this much less to read after `STALL_SECONDS` goes on being served; it is 1 kB a second.
STALL_SECONDS = 10.0
_LEAST_READ = 10_000
#: Files that are kept for the database, for runs and for whatever else the process does.
_KEPT_FILES = 256
#: Parts of one WebSocket message: each costs more memory than it may have bytes.
_MOST_PARTS = 1_000


def most_connections() -> int:
    """Return how many connections this process may have, after the files that it may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(files - _KEPT_FILES, files // 2)


class _Writing:
    """Gives up a connection whose other side does not read what is written to it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _stalling: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._look_again()

    def resume_writing(self) -> None:
        self._disarm()
        super().resume_writing()  # type: ignore[misc]

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)  # type: ignore[misc]

    def _look_again(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._stalling = self.loop.call_later(STALL_SECONDS, self._look, unread)

    def _look(self, unread: int) -> None:
        if self.transport.get_write_buffer_size() > unread - _LEAST_READ:
            self.transport.abort()
        else:
            self._look_again()

    def _disarm(self) -> None:
        if self._stalling is not None:
            self._stalling.cancel()
            self._stalling = None


class HttpConnection(_Writing, H11Protocol):
    """A connection whose requests begin in time."""

    _beginning: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request; one connection too many is given up at once."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            transport.abort()
        else:
            self._begin()

    def data_received(self, data: bytes) -> None:
        """Read on; as long as the head of a request is incomplete its time runs."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._begin()
        else:
            self._begun()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._begun()
        super().connection_lost(exc)

    def _begin(self) -> None:
        if self._beginning is None:
            self._beginning = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _begun(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None


class WebSocketConnection(_Writing, WebSocketsSansIOProtocol):
    """A WebSocket whose frames fill no memory."""

    def handle_ping(self) -> None:
        """Answer, unless earlier answers were not read yet: only the last ping needs one (RFC 6455, 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        """Take one more part of a message; no client of ours cuts one into so many."""
        super().handle_cont(event)
        if len(self.frames) > _MOST_PARTS:
            self.transport.abort()
