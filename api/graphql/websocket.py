"""WebSocket on `/graphql`: the `graphql-transport-ws` protocol, and no other.

Owns the protocol (https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md): messages, their order, and the
codes that a connection is closed with. Operations go the same way as by POST; each is authenticated anew.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from api.graphql.connected import Connected
from api.graphql.errors import LIMIT_EXCEEDED, UNAUTHENTICATED, coded
from api.graphql.operations import (
    LARGEST_BODY,
    TOO_MANY,
    UNAVAILABLE,
    BadRequestError,
    Caller,
    Operations,
    read,
)
from api.graphql.stream import RECHECK_SECONDS

SUBPROTOCOL = "graphql-transport-ws"
#: How long a client may take to say who it is, and to take one message.
INIT_SECONDS = 10.0
SEND_SECONDS = 10.0
#: Operations that go on at once on one connection.
MOST_OPERATIONS = 20
#: Connections that are waited for to say who they are.
MOST_UNKNOWN = 100
_LONGEST_ID = 100

_INVALID, _UNAUTHORIZED, _FORBIDDEN, _NO_SUBPROTOCOL = 4400, 4401, 4403, 4406
_INIT_TIMEOUT, _TAKEN, _TOO_MANY = 4408, 4409, 4429
#: "Try again later" of the registry of RFC 6455: on 4500 the usual client library gives up for good.
_TROUBLE = 1013


class _ClosedError(Exception):
    """The connection has to be closed, with this code and these words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class WebSocketDoor:
    """Answers GraphQL over WebSockets; mount its `answer`."""

    operations: Operations
    connected: Connected = field(default_factory=Connected)
    #: Who is waited for to say who it is, the longest first.
    _awaited: dict[asyncio.Timeout, None] = field(default_factory=dict)

    async def answer(self, socket: WebSocket) -> None:
        """Serve one connection until either side ends it."""
        if SUBPROTOCOL not in socket.scope.get("subprotocols", ()):
            await socket.close(_NO_SUBPROTOCOL, f"speak {SUBPROTOCOL}")
            return
        await socket.accept(SUBPROTOCOL)
        try:
            await self._serve(socket)
        except _ClosedError as closed:
            await _close(socket, closed)
        except BadRequestError as bad:
            self.operations.refused(bad, None)
            code = {TOO_MANY: _TOO_MANY, UNAVAILABLE: _TROUBLE}.get(bad.status, _FORBIDDEN)
            await _close(socket, _ClosedError(code, bad.error.message))
        except (WebSocketDisconnect, TimeoutError):
            await _close(socket, _ClosedError(_INVALID, "gone, or too slow"))

    async def _serve(self, socket: WebSocket) -> None:
        caller = await self._introduced(socket)
        self.connected.enter(caller.principal)
        try:
            await _send(socket, {"type": "connection_ack"})
            await _Conversation(socket=socket, operations=self.operations, caller=caller).go_on()
        finally:
            self.connected.leave(caller.principal)

    async def _introduced(self, socket: WebSocket) -> Caller:
        """Wait for the first message; browsers can send no header, so it may carry the token."""
        try:
            async with asyncio.timeout(INIT_SECONDS) as patience:
                with self._waiting(patience):
                    first = await _receive(socket)
        except TimeoutError:
            raise _ClosedError(_INIT_TIMEOUT, "say connection_init sooner") from None
        if first["type"] != "connection_init":
            raise _ClosedError(_UNAUTHORIZED, "say connection_init first")
        payload = first.get("payload")
        given = payload if isinstance(payload, Mapping) else {}
        told = given.get("Authorization", given.get("authorization", socket.headers.get("authorization")))
        address = socket.client.host if socket.client else None
        languages = socket.headers.get("accept-language")
        return await self.operations.admit(told if isinstance(told, str) else None, address, languages)

    @contextmanager
    def _waiting(self, patience: asyncio.Timeout) -> Iterator[None]:
        """Count one more who is waited for; of too many the one that was waited for longest is given up.

        Whoever means to say who it is says so at once: strangers who say nothing keep nobody out.
        """
        if len(self._awaited) >= MOST_UNKNOWN:
            longest = next(iter(self._awaited))
            del self._awaited[longest]
            if not longest.expired():
                longest.reschedule(asyncio.get_running_loop().time())
        self._awaited[patience] = None
        try:
            yield
        finally:
            self._awaited.pop(patience, None)


@dataclass(kw_only=True, eq=False)
class _Conversation:
    """One connection after its introduction."""

    socket: WebSocket
    operations: Operations
    caller: Caller
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def go_on(self) -> None:
        """Read messages until the connection ends; then end what it had begun. A token that has ended ends it."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                try:
                    await self._read(group)
                finally:
                    watching.cancel()
                    for task in self._running.values():
                        task.cancel()
        except ExceptionGroup as several:
            raise several.exceptions[0] from several

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while True:
            message = await _receive(self.socket)
            match message["type"]:
                case "subscribe":
                    await self._subscribe(message, group)
                case "complete":
                    await self._complete(message)
                case "ping":
                    self._count()
                    await _send(self.socket, {"type": "pong"})
                case "pong":
                    self._count()
                case "connection_init":
                    raise _ClosedError(_TOO_MANY, "say connection_init once")
                case _:
                    raise _ClosedError(_INVALID, "no such type of message")

    def _count(self) -> None:
        """Count a message that is no operation, so that nobody keeps us busy with them."""
        if self.operations.wait_of(self.caller.principal) is not None:
            raise _ClosedError(_TOO_MANY, "you say too much")

    async def _complete(self, message: Mapping[str, Any]) -> None:
        task = self._running.pop(str(message.get("id")), None)
        if task is None:
            self._count()
            return
        task.cancel()
        # It may have been cancelled before it was counted. Nothing more is read until it can be.
        while (wait := self.operations.wait_of(self.caller.principal)) is not None:  # noqa: ASYNC110
            await asyncio.sleep(wait.total_seconds())

    async def _subscribe(self, message: Mapping[str, Any], group: asyncio.TaskGroup) -> None:
        name = message.get("id")
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID:
            raise _ClosedError(_INVALID, "give the operation an id")
        if name in self._running:
            raise _ClosedError(_TAKEN, "this id is taken")
        if len(self._running) >= MOST_OPERATIONS:
            self._count()
            told = f"finish one first; {MOST_OPERATIONS} operations may go on at once"
            # Here and not beside the reading: whoever does not read its refusals is not read either.
            await self._refuse(name, BadRequestError(TOO_MANY, coded(told, LIMIT_EXCEEDED)))
            return
        task = group.create_task(self._operate(name, message.get("payload")))
        self._running[name] = task
        task.add_done_callback(lambda ended: self._ended(name, ended))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if self._running.get(name) is task:  # the id may be another operation's by now
            del self._running[name]

    async def _operate(self, name: str, payload: object) -> None:
        try:
            caller = await self.operations.admit(
                self.caller.authorization, self.caller.address, self.caller.languages
            )
            operation = read(payload)
        except BadRequestError as bad:
            await self._refuse(name, bad)
            if (bad.error.extensions or {})["code"] == UNAUTHENTICATED:
                raise _ClosedError(_UNAUTHORIZED, "the token has ended") from None
            return
        stream = self.operations.stream(operation, caller)
        async with aclosing(stream) as answers:
            async for answer in answers:
                if answer.refused:
                    errors = answer.told["errors"]
                    await _send(self.socket, {"id": name, "type": "error", "payload": errors})
                    return
                await _send(self.socket, {"id": name, "type": "next", "payload": answer.told})
        await _send(self.socket, {"id": name, "type": "complete"})

    async def _refuse(self, name: str, bad: BadRequestError) -> None:
        errors = self.operations.refused(bad, self.caller.languages)["errors"]
        await _send(self.socket, {"id": name, "type": "error", "payload": errors})

    async def _watch(self) -> None:
        """End the connection soon after its token has ended, whether or not anything goes on."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                principal = await self.operations.known(self.caller.authorization)
            except BadRequestError:
                continue  # a fault of ours; whatever is answered meanwhile asks for itself
            if principal != self.caller.principal:
                raise _ClosedError(_UNAUTHORIZED, "the token has ended")


async def _receive(socket: WebSocket) -> dict[str, Any]:
    received = await socket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received.get("code", 1005))
    text = received.get("text") or ""
    if len(text) > LARGEST_BODY:
        raise _ClosedError(_INVALID, f"send at most {LARGEST_BODY} bytes")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise _ClosedError(_INVALID, "this is no JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise _ClosedError(_INVALID, 'send objects with a "type"')
    return message


async def _send(socket: WebSocket, message: Mapping[str, Any]) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await socket.send_text(json.dumps(message, separators=(",", ":")))


async def _close(socket: WebSocket, closed: _ClosedError) -> None:
    states = (socket.client_state, socket.application_state)
    if states == (WebSocketState.CONNECTED, WebSocketState.CONNECTED):
        await socket.close(closed.code, closed.reason[:100])
