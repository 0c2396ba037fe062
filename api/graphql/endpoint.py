"""`POST /graphql`: one operation of one JSON body, answered at once or, where the client asks for it, as events.

Owns the HTTP side of GraphQL. No arrays of operations, no forms, no queries by GET: nothing that a foreign page could
send with a visitor's browser, and nothing that multiplies.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.bodies import LargeBodyError, SlowBodyError, read_body
from api.graphql.connected import Connected
from api.graphql.errors import INVALID, LIMIT_EXCEEDED, coded
from api.graphql.operations import (
    BAD,
    LARGEST_BODY,
    TOO_LARGE,
    TOO_SLOW,
    BadRequestError,
    Caller,
    Operation,
    Operations,
    read,
)

EVENTS = "text/event-stream"
#: Without an event a comment is sent this often, so that nothing between us and the client gives up.
KEEP_ALIVE_SECONDS = 12.0


@dataclass(frozen=True, kw_only=True)
class GraphQLEndpoint:
    """Answers GraphQL requests; mount its `answer`."""

    operations: Operations
    connected: Connected = field(default_factory=Connected)

    async def answer(self, request: Request) -> Response:
        """Answer one request: 200 once an operation was read, whatever became of it; before that a status of 4xx."""
        address = request.client.host if request.client else None
        languages = request.headers.get("accept-language")
        try:
            caller = await self.operations.admit(request.headers.get("authorization"), address, languages)
            operation = await _read(request)
            if EVENTS in request.headers.get("accept", ""):
                return self._events(operation, caller)
            context = self.operations.context_of(caller, operation)
            told = await self.operations.execute(operation, context)
            headers = self.operations.cost_of(context)
            return Response(orjson.dumps(told), headers=headers, media_type="application/json")
        except BadRequestError as bad:
            return JSONResponse(self.operations.refused(bad, languages), bad.status, bad.headers)
        except ClientDisconnect:
            return Response(status_code=BAD)

    def _events(self, operation: Operation, caller: Caller) -> Response:
        """Answer with a stream; the protocol is graphql-sse's "distinct connections mode"."""
        self.connected.enter(caller.principal)
        answers = self._answers(operation, caller)
        return _Events(answers, left=lambda: self.connected.leave(caller.principal))

    async def _answers(self, operation: Operation, caller: Caller) -> AsyncGenerator[str, None]:
        # One at a time: whoever reads slowly holds up nothing but its own subscription.
        ready: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(1)

        async def produce() -> None:
            stream = self.operations.stream(operation, caller)
            async with aclosing(stream) as answers:
                async for answer in answers:
                    await ready.put(answer.told)
            await ready.put(None)

        producing = asyncio.create_task(produce(), name="graphql stream")
        try:
            while True:
                try:
                    told = await asyncio.wait_for(ready.get(), KEEP_ALIVE_SECONDS)
                except TimeoutError:
                    if producing.done():
                        return
                    yield ":\n\n"
                    continue
                if told is None:
                    yield "event: complete\ndata:\n\n"
                    return
                yield f"event: next\ndata: {json.dumps(told, separators=(',', ':'))}\n\n"
        finally:
            producing.cancel()
            with suppress(asyncio.CancelledError):
                await producing


class _Events(StreamingResponse):
    """A stream that is closed, and whose place is given back, however it ends."""

    def __init__(self, answers: AsyncGenerator[str, None], *, left: Any) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(answers, media_type=EVENTS, headers=headers)
        self._answers = answers
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._left()
            await self._answers.aclose()


async def _body(request: Request) -> bytes:
    try:
        return await read_body(request, most=LARGEST_BODY)
    except LargeBodyError:
        raise BadRequestError(
            TOO_LARGE, coded(f"send at most {LARGEST_BODY} bytes", LIMIT_EXCEEDED)
        ) from None
    except SlowBodyError as slow:
        # The rest of it may still come, so nothing else can be read on this connection.
        raise BadRequestError(TOO_SLOW, coded(str(slow), LIMIT_EXCEEDED), {"Connection": "close"}) from None


async def _read(request: Request) -> Operation:
    body = await _body(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise BadRequestError(BAD, coded("send Content-Type: application/json", INVALID))
    if request.headers.get("content-encoding", "identity") != "identity":
        raise BadRequestError(BAD, coded("send the body as it is, without Content-Encoding", INVALID))
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequestError(BAD, coded("the body is no JSON", INVALID)) from None
    return read(told)
