"""Errors on the wire: refusals in payloads, everything else at the top level with a code, faults masked.

Owns codes, masking and what is logged. A fault of ours is told by an id alone; its text stays in the log.
"""

import functools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import strawberry
import structlog
from graphql import GraphQLError

from api.auth import UndecidedError
from api.graphql.context import Context
from api.graphql.gates import Gate
from api.graphql.scalars import written_instant
from api.graphql.words import told_in, words_to
from billing.refusal import RefusalCode, RefusalError, TooOftenError
from billing.rules.words import Phrase, english, phrase
from billing.words import Words

log = structlog.get_logger("abeyance.api")

UNAUTHENTICATED = "UNAUTHENTICATED"
FORBIDDEN = "FORBIDDEN"
BAD_CURSOR = "BAD_CURSOR"
LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
RATE_LIMITED = "RATE_LIMITED"
INVALID = "INVALID"
INTERNAL = "INTERNAL"


@strawberry.type
class UserError:
    """One reason why the business said no."""

    code: RefusalCode
    message: str
    path: list[str] | None = None
    gate: Gate | None = strawberry.field(default=None, description="Set with GATE_REFUSED.")


async def user_errors(context: Context, refused: RefusalError) -> list[UserError]:
    """Return the problems of a refusal in the caller's language; paths begin at the mutation's input."""
    words = await words_to(context)
    return [
        UserError(
            code=problem.code,
            message=told_in(words, problem.message),
            path=["input", *problem.path] if problem.path else None,
            gate=Gate.of(problem.gate, context.now, words) if problem.gate is not None else None,
        )
        for problem in refused.problems
    ]


Payload = TypeVar("Payload")


def refusable(
    make: Callable[..., Payload],
) -> Callable[[Callable[..., Awaitable[Payload]]], Callable[..., Awaitable[Payload]]]:
    """Turn a refusal raised by a mutation into its payload's errors; one for trying too often is an error on top."""

    def decorate(mutation: Callable[..., Awaitable[Payload]]) -> Callable[..., Awaitable[Payload]]:
        @functools.wraps(mutation)
        async def answered(*args: Any, **kwargs: Any) -> Payload:
            try:
                return await mutation(*args, **kwargs)
            except TooOftenError as often:
                told = (await words_to(kwargs["info"].context)).say(often.message)
                raise coded(told, RATE_LIMITED, retryAt=written_instant(often.retry_at)) from None
            except RefusalError as refused:
                return make(errors=await user_errors(kwargs["info"].context, refused))

        return answered

    return decorate


class CodedError(GraphQLError):
    """An error that programs branch on by its code; people read it in their language where it is a phrase."""

    def __init__(self, told: str | Phrase, code: str, **more: Any) -> None:
        super().__init__(told if isinstance(told, str) else english(told), extensions={"code": code, **more})
        self.told = told


def coded(message: str | Phrase, code: str, **more: Any) -> GraphQLError:
    """Return a top-level error that a program can branch on.

    A phrase where customers may read it; what is about the form of a request is for programmers, and English.
    """
    return CodedError(message, code, **more)


def formatted(error: GraphQLError, words: Words) -> dict[str, Any]:
    """Return an error of ours as it goes on the wire, in these words."""
    answer = dict(error.formatted)
    if isinstance(error, CodedError):
        answer["message"] = told_in(words, error.told)
    return answer


def tell(error: GraphQLError, words: Words, **about: str | None) -> GraphQLError:
    """Return what may be told of an error, in these words. `about` goes into the log of a fault of ours alone."""
    fault = error.original_error
    if fault is None or isinstance(fault, GraphQLError):
        extensions = dict(error.extensions or getattr(fault, "extensions", None) or {})
        extensions.setdefault("code", _code_of(error.message))
        ours = next((one for one in (error, fault) if isinstance(one, CodedError)), None)
        message = told_in(words, ours.told) if ours is not None else error.message
        return GraphQLError(
            message, nodes=error.nodes, source=error.source, path=error.path, extensions=extensions
        )
    number = secrets.token_hex(8)
    if isinstance(fault, UndecidedError):
        # Why is told by whoever could not find out; strangers may cause any number of these.
        log.warning("request.undecided", id=number, problem=str(fault))
    else:
        log.error("request.failed", id=number, path=error.path, **about, exc_info=fault)
    return GraphQLError(
        words.say(phrase("Something went wrong on our side; its number is %(number)s.", number=number)),
        nodes=error.nodes,
        source=error.source,
        path=error.path,
        extensions={"code": INTERNAL, "id": number},
    )


def _code_of(message: str) -> str:
    """The parser's own limits carry no code; whatever else it and the validation say is a wrong document."""
    return LIMIT_EXCEEDED if message.endswith("Parsing aborted.") else INVALID
