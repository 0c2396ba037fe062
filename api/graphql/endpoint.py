"""`POST /graphql`: authenticates, bounds and executes one operation of one JSON body.

Owns the HTTP side of GraphQL. No arrays of operations, no forms, no queries by GET: nothing that a foreign page could
send with a visitor's browser, and nothing that multiplies.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import strawberry
from graphql import GraphQLError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.graphql import OperationType

from api.auth import principal_of
from api.graphql.action_requests import note_denied
from api.graphql.context import Context
from api.graphql.errors import INVALID, LIMIT_EXCEEDED, RATE_LIMITED, UNAUTHENTICATED, coded, tell
from api.graphql.texts import UNFIT, is_fit
from api.ports import Ports
from api.rates import Buckets

#: Bytes; the largest operation within the limit on tokens is far smaller.
LARGEST_BODY = 256 * 1024
_IDE = Path(__file__).with_name("ide.html")


class _BadRequestError(Exception):
    """The request is none that could be executed; the status, the error and the headers to answer with."""

    def __init__(self, status: int, error: GraphQLError, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = headers


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What was asked for."""

    query: str
    variables: dict[str, Any]
    name: str | None


@dataclass(frozen=True, kw_only=True)
class GraphQLEndpoint:
    """Answers GraphQL requests; mount its `answer`."""

    schema: strawberry.Schema
    ports: Ports
    #: Apart, so that no crowd of strangers makes us forget how often a principal has asked.
    principals: Buckets = field(default_factory=Buckets)
    strangers: Buckets = field(default_factory=Buckets)

    async def answer(self, request: Request) -> Response:
        """Answer one request: 200 once an operation was read, whatever became of it; 400, 401, 413 or 429 before."""
        try:
            context = await self._authenticated(request)
            operation = _read(request, await _body(request))
            context.operation = operation.name
            return JSONResponse(await self._execute(operation, context))
        except _BadRequestError as bad:
            return JSONResponse({"data": None, "errors": [bad.error.formatted]}, bad.status, bad.headers)
        except ClientDisconnect:
            return Response(status_code=_BAD)

    async def _authenticated(self, request: Request) -> Context:
        now = self.ports.clock.now()
        principal = await principal_of(request.headers.get("authorization"), self.ports.authenticators, now)
        allowances = self.ports.allowances
        address = request.client.host if request.client else None
        if principal is None:
            # Counted only without a live token: strangers lock out nobody who shares their address.
            _unless_limited(self.strangers.take(address, allowances.strangers, now))
            raise _BadRequestError(
                _UNAUTHORIZED,
                coded("send `Authorization: Bearer` with a live token", UNAUTHENTICATED),
                {"WWW-Authenticate": "Bearer"},
            )
        _unless_limited(self.principals.take(principal, allowances.of(principal.role), now))
        return Context(principal=principal, ports=self.ports, now=now, address=address)

    async def _execute(self, operation: Operation, context: Context) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self.ports.query_timeout.total_seconds()):
                result = await self.schema.execute(
                    operation.query,
                    variable_values=operation.variables,
                    context_value=context,
                    operation_name=operation.name,
                    allowed_operation_types=(OperationType.QUERY, OperationType.MUTATION),
                )
        except TimeoutError:
            return _failed(coded("this took too long and was given up; ask for less", LIMIT_EXCEEDED))
        except (CannotGetOperationTypeError, InvalidOperationTypeError):
            return _failed(coded("the document has no such operation", INVALID))
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            answer["errors"] = [tell(error).formatted for error in result.errors]
            await note_denied(context, operation.variables, result.errors)
        return answer


async def ide(_: Request) -> Response:
    """Answer with a page for trying queries; it loads nothing from anywhere else."""
    return HTMLResponse(
        _IDE.read_text(encoding="utf-8"),
        headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"},
    )


_BAD = 400
_UNAUTHORIZED = 401
_TOO_LARGE = 413
_TOO_MANY = 429


def _unless_limited(wait: timedelta | None) -> None:
    """Refuse a caller that has to wait; RFC 9110, 10.2.3: `Retry-After` is whole seconds."""
    if wait is not None:
        seconds = max(math.ceil(wait.total_seconds()), 1)
        error = coded(f"you ask too often; ask again in {seconds} s", RATE_LIMITED)
        raise _BadRequestError(_TOO_MANY, error, {"Retry-After": str(seconds)})


def _failed(error: GraphQLError) -> dict[str, Any]:
    return {"data": None, "errors": [error.formatted]}


async def _body(request: Request) -> bytes:
    """Read at most the largest body, whatever length was announced."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise _BadRequestError(_TOO_LARGE, coded(f"send at most {LARGEST_BODY} bytes", LIMIT_EXCEEDED))
    return bytes(body)


def _read(request: Request, body: bytes) -> Operation:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise _BadRequestError(_BAD, coded("send Content-Type: application/json", INVALID))
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise _BadRequestError(_BAD, coded("the body is no JSON", INVALID)) from None
    if not isinstance(told, dict) or not isinstance(told.get("query"), str) or not told["query"].strip():
        raise _BadRequestError(_BAD, coded('send one object with a string "query"', INVALID))
    variables, name = told.get("variables"), told.get("operationName")
    if not isinstance(variables, dict | None) or not isinstance(name, str | None):
        raise _BadRequestError(_BAD, coded('"variables" is an object and "operationName" a string', INVALID))
    if not is_fit([told["query"], variables, name]):
        raise _BadRequestError(_BAD, coded(UNFIT, INVALID))
    return Operation(query=told["query"], variables=variables or {}, name=name)
