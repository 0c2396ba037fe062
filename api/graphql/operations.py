"""One operation, by whichever door it came: authenticated, bounded, executed, and told without our faults' texts.

Owns what all transports have in common. How a request is read and an answer written is theirs.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from time import perf_counter
from typing import Any, cast

import strawberry
from graphql import GraphQLError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from api.auth import Principal, principal_of
from api.graphql.action_requests import note_denied
from api.graphql.context import Context
from api.graphql.errors import (
    INVALID,
    LIMIT_EXCEEDED,
    RATE_LIMITED,
    UNAUTHENTICATED,
    coded,
    formatted,
    tell,
)
from api.graphql.feed import Feed
from api.graphql.names import HiddenNames
from api.graphql.stream import Stream
from api.graphql.texts import UNFIT, is_fit
from api.graphql.words import words_for, words_to
from api.ports import Ports
from api.rates import Buckets
from billing.rules.words import phrase
from billing.words import Words

#: Bytes; the largest policy fits in, however it is escaped. Telling what is wrong with more costs everybody's time.
LARGEST_BODY = 128 * 1024

BAD, UNAUTHORIZED, TOO_SLOW, TOO_LARGE, TOO_MANY, UNAVAILABLE = 400, 401, 408, 413, 429, 503
#: So long the caller's language is looked up for an error; the database may be why there is one.
_LANGUAGE_SECONDS = 1.0
#: What fails for a moment, such as a database that changes its server, mostly does no more after this.
_AGAIN_SECONDS = 5
_ONCE = (OperationType.QUERY, OperationType.MUTATION)


class BadRequestError(Exception):
    """The request is none that could be executed; the status, the error and the headers to answer with."""

    def __init__(self, status: int, error: GraphQLError, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.headers = headers


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, with what it said of itself, and from where."""

    principal: Principal
    authorization: str | None
    address: str | None
    #: `Accept-Language`.
    languages: str | None = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What was asked for."""

    query: str
    variables: dict[str, Any]
    name: str | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of a stream. `refused`: nothing was executed and nothing will follow."""

    told: dict[str, Any]
    refused: bool


def read(told: object) -> Operation:
    """Return the operation of a request's JSON value; raises `BadRequestError` for any other value."""
    if not isinstance(told, dict) or not isinstance(told.get("query"), str) or not told["query"].strip():
        raise BadRequestError(BAD, coded('send one object with a string "query"', INVALID))
    variables, name = told.get("variables"), told.get("operationName")
    if not isinstance(variables, dict | None) or not isinstance(name, str | None):
        raise BadRequestError(BAD, coded('"variables" is an object and "operationName" a string', INVALID))
    if not is_fit([told["query"], variables, name]):
        raise BadRequestError(BAD, coded(UNFIT, INVALID))
    return Operation(query=told["query"], variables=variables or {}, name=name)


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Carries out operations of one schema."""

    schema: strawberry.Schema
    ports: Ports
    feed: Feed
    #: Null for developers, who are told every name.
    hidden: HiddenNames | None = None
    #: Apart, so that no crowd of strangers makes us forget how often a principal has asked.
    principals: Buckets = field(default_factory=Buckets)
    strangers: Buckets = field(default_factory=Buckets)
    #: The same of the fields that principals have executed.
    fields: Buckets = field(default_factory=Buckets)

    async def admit(
        self, authorization: str | None, address: str | None, languages: str | None = None
    ) -> Caller:
        """Return who sent this header from this address, counted as one operation; raises `BadRequestError`."""
        try:
            principal = await self.known(authorization, languages)
        except BadRequestError:
            self._count_stranger(address)
            raise
        if principal is None:
            self._count_stranger(address)
            raise BadRequestError(
                UNAUTHORIZED,
                coded(
                    phrase("Sign in: `Authorization: Bearer` with a live token is needed."), UNAUTHENTICATED
                ),
                {"WWW-Authenticate": "Bearer"},
            )
        _unless_limited(self.wait_of(principal))
        return Caller(principal=principal, authorization=authorization, address=address, languages=languages)

    def _count_stranger(self, address: str | None) -> None:
        """Count somebody who is not let in, and only then: strangers lock out nobody who shares their address."""
        allowance, now = self.ports.allowances.strangers, self.ports.clock.now()
        _unless_limited(self.strangers.take(address, allowance, now))

    async def known(self, authorization: str | None, languages: str | None = None) -> Principal | None:
        """Return who sent this header, if its credential is live now; nothing is counted.

        Raises `BadRequestError` where that cannot be found out, such as while the database or the identity provider is
        away: nobody is signed out by that.
        """
        try:
            async with asyncio.timeout(self.ports.query_timeout.total_seconds()):
                return await principal_of(authorization, self.ports.authenticators, self.ports.clock.now())
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is ours
            masked = tell(GraphQLError("", original_error=fault), words_for(languages))
            raise BadRequestError(UNAVAILABLE, masked, {"Retry-After": str(_AGAIN_SECONDS)}) from None

    def wait_of(self, principal: Principal) -> timedelta | None:
        """Count one operation of a principal; return how long it has to wait when it has none left, else null."""
        allowance = self.ports.allowances.of(principal.role)
        return self.principals.take(principal, allowance, self.ports.clock.now())

    def wait_for(self, principal: Principal, fields: int) -> timedelta | None:
        """Count fields that are to be executed; return how long to wait when too few are left, else null."""
        allowance = self.ports.allowances.fields_of(principal.role)
        return self.fields.take(principal, allowance, self.ports.clock.now(), cost=fields)

    def cost_of(self, context: Context) -> Mapping[str, str]:
        """Return the headers that tell what an operation counted as, and what its principal may ask and has left.

        draft-ietf-httpapi-ratelimit-headers-10, 3 and 4.
        """
        principal = context.principal
        now, allowances = self.ports.clock.now(), self.ports.allowances
        operations, fields = allowances.of(principal.role), allowances.fields_of(principal.role)
        operations_left = self.principals.left(principal, operations, now)
        fields_left = self.fields.left(principal, fields, now)
        return {
            "Abeyance-Fields": str(context.fields),
            "RateLimit-Policy": f'"operations";q={operations};w=60, "fields";q={fields};w=60',
            "RateLimit": f'"operations";r={operations_left}, "fields";r={fields_left}',
        }

    def context_of(self, caller: Caller, operation: Operation) -> Context:
        """Return what the resolvers of this operation share."""
        return Context(
            principal=caller.principal,
            ports=self.ports,
            now=self.ports.clock.now(),
            address=caller.address,
            languages=caller.languages,
            operation=operation.name,
            document=operation.query,
            spend=lambda fields: self.wait_for(caller.principal, fields),
        )

    async def execute(self, operation: Operation, context: Context) -> dict[str, Any]:
        """Return the answer to a query or mutation."""
        began = perf_counter()
        told = await self._executed(operation, context)
        self.ports.traffic.note(told, perf_counter() - began)
        return told

    async def _executed(self, operation: Operation, context: Context) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self.ports.query_timeout.total_seconds()):
                result = await self.schema.execute(
                    operation.query,
                    variable_values=operation.variables,
                    context_value=context,
                    operation_name=operation.name,
                    allowed_operation_types=_ONCE,
                )
        except TimeoutError:
            return failed(_took_too_long(), await _words(context))
        except InvalidOperationTypeError:
            return failed(coded("subscribe over a WebSocket, or with `Accept: text/event-stream`", INVALID))
        except CannotGetOperationTypeError:
            return failed(coded("the document has no such operation", INVALID))
        return await self._told(result, operation, context)

    async def stream(self, operation: Operation, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Yield the answers of any operation: one for a query or mutation, one for each event of a subscription.

        Every event is authenticated anew, counted and given as much time as an operation.
        """
        context = self.context_of(caller, operation)
        try:
            async with asyncio.timeout(None) as deadline:
                context.stream = stream = Stream(
                    feed=self.feed,
                    authorization=caller.authorization,
                    deadline=deadline,
                    wait_of=self.wait_of,
                )
                stream.begin(self.ports.query_timeout)
                async with aclosing(self._results(operation, context)) as results:
                    async for result in results:
                        stream.rest()
                        told = await self._told(result, operation, context)
                        self.ports.traffic.note(told)
                        yield Answer(told=told, refused=isinstance(result, PreExecutionError))
        except TimeoutError:
            told = failed(_took_too_long(), await _words(context))
            self.ports.traffic.note(told)
            yield Answer(told=told, refused=False)

    async def _results(
        self, operation: Operation, context: Context
    ) -> AsyncGenerator[ExecutionResult | PreExecutionError, None]:
        results = await self.schema.stream(
            operation.query,
            variable_values=operation.variables,
            context_value=context,
            operation_name=operation.name,
            allowed_operation_types=tuple(OperationType),
        )
        async with aclosing(results):
            async for result in results:
                yield cast(
                    "ExecutionResult | PreExecutionError", result
                )  # the others come of @defer, which is off

    def refused(self, bad: BadRequestError, languages: str | None) -> dict[str, Any]:
        """Return, and count, the answer to a request that is not executed."""
        told = failed(bad.error, words_for(languages))
        self.ports.traffic.note(told)
        return told

    async def _told(
        self, result: ExecutionResult | PreExecutionError, operation: Operation, context: Context
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {"data": result.data}
        if result.errors:
            words = await _words(context)
            about = {"operation": operation.name, "role": context.principal.role.lower()}
            told = [dict(tell(error, words, **about).formatted) for error in result.errors]
            hidden = self.hidden
            answer["errors"] = [hidden.hide(error, operation.query) for error in told] if hidden else told
            await note_denied(context, operation.variables, result.errors)
        return answer


def failed(error: GraphQLError, words: Words | None = None) -> dict[str, Any]:
    """Return an answer that is an error and nothing else, in these words or in English."""
    return {"data": None, "errors": [formatted(error, words or words_for(None))]}


async def _words(context: Context) -> Words:
    """Return the words of the caller; what it asked for itself counts while its account cannot be looked up."""
    try:
        async with asyncio.timeout(_LANGUAGE_SECONDS):
            return await words_to(context)
    except Exception:  # noqa: BLE001 - a database that is away must not hide what went wrong
        return words_for(context.languages)


def _took_too_long() -> GraphQLError:
    return coded(phrase("This took too long and was given up; ask for less."), LIMIT_EXCEEDED)


def _unless_limited(wait: timedelta | None) -> None:
    """Refuse a caller that has to wait; RFC 9110, 10.2.3: `Retry-After` is whole seconds."""
    if wait is not None:
        seconds = max(math.ceil(wait.total_seconds()), 1)
        error = coded(phrase("You ask too often; ask again in %(seconds)s s.", seconds=seconds), RATE_LIMITED)
        raise BadRequestError(TOO_MANY, error, {"Retry-After": str(seconds)})
