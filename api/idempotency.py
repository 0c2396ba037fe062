"""Requests that must happen once: the first answer is kept and given again.

The only writer of `idempotency_key`. The key is claimed before anything is done, so that two copies of a request which
arrive together never both act.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from tortoise.exceptions import IntegrityError

from api.models import IdempotencyKey
from billing.refusal import RefusalCode, RefusalError, refusal
from billing.rules.words import phrase

log = structlog.get_logger("abeyance.api")

_LONGEST = 200

#: Keeps the answer of a request; raises `RefusalError` when somebody else has kept one meanwhile.
Keep = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that must happen once: who asks for which operation under which key, and with what."""

    actor: str
    operation: str
    key: str
    body: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """SHA-256 over what is asked for."""
        return _mark(self.body)

    @property
    def name(self) -> str:
        """What names the request for ever, whatever it asks for: SHA-256 over who asked for what under which key."""
        return _mark([self.actor, self.operation, self.key])


def _mark(told: object) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


async def kept(request: Request) -> dict[str, Any] | None:
    """Return the answer that was given before; null for a new key.

    Refuses a key that was used with another body, and one whose first request has not ended.
    """
    row = await IdempotencyKey.get_or_none(actor=request.actor, operation=request.operation, key=request.key)
    return _answer(row, request) if row is not None else None


def _answer(row: IdempotencyKey, request: Request) -> dict[str, Any]:
    if row.request_hash != request.hash:
        raise refusal(
            RefusalCode.IDEMPOTENCY_MISMATCH,
            phrase("This key was used for another request; take a new one."),
            "idempotencyKey",
        )
    if row.result is None:
        raise _unfinished()
    return dict(row.result)


def _unfinished() -> RefusalError:
    message = phrase("The first request with this key has not ended.")
    return refusal(RefusalCode.CONFLICT, message, "idempotencyKey")


async def once(
    request: Request,
    *,
    now: datetime,
    act: Callable[[bool], Awaitable[dict[str, Any]]],
    given_up_after: timedelta | None = None,
) -> dict[str, Any]:
    """Act and keep the answer, or give the answer that was kept. A refusal frees the key again.

    A process that dies while it acts leaves a key without an answer. What may be done twice, because it knows by itself
    what was done before, is done again once the first is that old, or at once where the first was given up or failed;
    `act` is told whether an earlier request may have done it. Everything else stays refused after a death, and a fault
    frees its key.
    """
    refuse_key(request.key)
    row = await IdempotencyKey.get_or_none(actor=request.actor, operation=request.operation, key=request.key)
    if row is not None and not await _taken_over(row, request, now, given_up_after):
        return _answer(row, request)
    again = row is not None
    row = row or await _claimed(request, now)
    try:
        answer = await act(again)
        await IdempotencyKey.filter(id=row.id).update(result=answer)
    except RefusalError:
        await row.delete()
        raise
    except BaseException:
        if given_up_after is None:
            await row.delete()
        else:  # it may have been done: whoever asks again is to be told so
            await IdempotencyKey.filter(id=row.id).update(created_at=now - given_up_after)
        raise
    return answer


async def _taken_over(
    row: IdempotencyKey, request: Request, now: datetime, given_up_after: timedelta | None
) -> bool:
    """Take a key whose first request has died; of several who try, one does."""
    waits = row.result is None and row.request_hash == request.hash
    if not waits or given_up_after is None or now < row.created_at + given_up_after:
        return False
    dead = IdempotencyKey.filter(id=row.id, result__isnull=True, created_at=row.created_at)
    return await dead.update(created_at=now) == 1


async def _claimed(
    request: Request, now: datetime, answer: Mapping[str, Any] | None = None
) -> IdempotencyKey:
    try:
        return await IdempotencyKey.create(
            actor=request.actor,
            operation=request.operation,
            key=request.key,
            request_hash=request.hash,
            result=dict(answer) if answer is not None else None,
            created_at=now,
        )
    except IntegrityError:
        raise _unfinished() from None


async def once_within(
    request: Request, *, now: datetime, act: Callable[[Keep], Awaitable[None]]
) -> dict[str, Any]:
    """Act and keep the answer in one transaction, or give the answer that was kept.

    `act` hands its answer to the function that it is given, within the transaction that does the thing: both are
    committed or neither, so nothing that was done is ever without its answer, nor the other way round. Of several
    that arrive at once one acts, and the others are given its answer. What `act` still does after that transaction,
    such as settling, may fail without the answer being lost.
    """
    refuse_key(request.key)
    answer = await kept(request)
    if answer is not None:
        return answer

    async def keep(given: Mapping[str, Any]) -> None:
        await _claimed(request, now, given)

    try:
        await act(keep)
    except Exception as error:
        # The same request may have been first, or what failed came after the answer was kept.
        answer = await kept(request)
        if answer is None:
            raise
        if not isinstance(error, RefusalError):
            log.exception("request.unfinished", operation=request.operation)
        return answer
    answer = await kept(request)
    if answer is None:
        raise RuntimeError(f"{request.operation} kept no answer")
    return answer


async def claimed(request: Request, *, now: datetime, answer: Mapping[str, Any]) -> bool:
    """Keep the answer of a request that is refused; return whether this is its first time.

    A key that was used for another request, or that no one could keep, counts as a first time: a refusal that has to
    leave a trace leaves one too many rather than none.
    """
    row = await IdempotencyKey.get_or_none(actor=request.actor, operation=request.operation, key=request.key)
    if row is not None:
        return row.request_hash != request.hash
    if not _is_key(request.key):
        return True
    try:
        await IdempotencyKey.create(
            actor=request.actor,
            operation=request.operation,
            key=request.key,
            request_hash=request.hash,
            result=dict(answer),
            created_at=now,
        )
    except IntegrityError:
        return False
    return True


def refuse_key(key: str) -> None:
    """Refuse a text that no one could keep as a key."""
    if not _is_key(key):
        raise refusal(
            RefusalCode.INVALID,
            phrase("Give 1 to %(most)s printable characters, such as a UUID.", most=_LONGEST),
            "idempotencyKey",
        )


def _is_key(text: str) -> bool:
    return bool(text.strip()) and len(text) <= _LONGEST and text.isprintable()
