"""How often an account's customer may try cards: whoever has stolen numbers tries them by the hundred.

The only writer of `card_attempt`. Counts alone; what is tried, and whether it went well, is the caller's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tortoise.expressions import Q, Subquery

from billing.attempt_models import AttemptKind, CardAttempt
from billing.audit import record
from billing.clock import Clock
from billing.money_models import Charge, ChargeState
from billing.refusal import RefusalCode, RefusalError, TooOftenError
from billing.rules.words import phrase

WITHIN = timedelta(hours=1)
MOST = {AttemptKind.SETUP: 10, AttemptKind.ADDING: 10, AttemptKind.CHARGE: 10}
"""Tries of an account within an hour: setups begun; cards that could not be added; charges that brought no money."""

_TOLD = {
    AttemptKind.SETUP: phrase("Too many cards were begun to be saved. Try again after %(retry)s."),
    AttemptKind.ADDING: phrase("Too many cards could not be saved. Try again after %(retry)s."),
    AttemptKind.CHARGE: phrase("Too many payments by card did not work. Try again after %(retry)s."),
}


@asynccontextmanager
async def counted(
    account_id: int, kind: AttemptKind, *, clock: Clock, actor: str
) -> AsyncIterator[CardAttempt]:
    """Count what is done within as one try, or refuse it with `TooOftenError`.

    One that went well is to be forgotten by whoever tells; one that was refused before anything was tried is forgotten
    here. Saving a card tries it out, so that only the provider's silence takes that back.
    """
    attempt = await admit(account_id, kind, clock=clock, actor=actor)
    try:
        yield attempt
    except RefusalError as refused:
        silent = any(problem.code is RefusalCode.PROVIDER_UNAVAILABLE for problem in refused.problems)
        if silent or kind is not AttemptKind.ADDING:
            await forget(attempt)
        raise


async def admit(account_id: int, kind: AttemptKind, *, clock: Clock, actor: str) -> CardAttempt:
    """Count one try, or refuse it with `TooOftenError`.

    It is written first and counted afterwards: of any number of tries at once, no more than the limit get through. Not
    to be called within a transaction, which would take the count back together with what went wrong.
    """
    now = clock.now()
    mine = CardAttempt.filter(account_id=account_id, kind=kind)
    attempt = await CardAttempt.create(account_id=account_id, kind=kind, at=now)
    paid = Charge.filter(account_id=account_id, state=ChargeState.SUCCEEDED, created_at__gt=now - 2 * WITHIN)
    counting = mine.filter(
        Q(charge_id__isnull=True) | ~Q(charge_id__in=Subquery(paid.values("id"))), at__gt=now - WITHIN
    )
    others = await counting.exclude(id=attempt.id).order_by("-at").limit(MOST[kind])
    if len(others) == MOST[kind]:
        await forget(attempt)
        raise TooOftenError(_TOLD[kind], retry_at=others[-1].at + WITHIN)
    if len(others) + 1 == MOST[kind]:
        await record(
            "card.many_attempts",
            ("Account", account_id),
            at=now,
            actor=actor,
            reason=f"{MOST[kind]} tries within an hour: no other one for a while",
            account_id=account_id,
            after={"kind": kind},
        )
    await mine.filter(at__lte=now - WITHIN).delete()
    return attempt


async def note_charge(attempt: CardAttempt, charge_id: int | None) -> None:
    """Keep what a try became whose end is not known yet: a payment that its customer has to confirm."""
    await CardAttempt.filter(id=attempt.id).update(charge_id=charge_id)


async def forget(attempt: CardAttempt) -> None:
    """Take a try back that went well."""
    await CardAttempt.filter(id=attempt.id).delete()
