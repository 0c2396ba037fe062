"""Cards are tried a few times an hour, and not by the hundred."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from billing.attempt_models import AttemptKind, CardAttempt
from billing.card_attempts import MOST, WITHIN, admit, forget
from billing.models import AuditEntry
from billing.refusal import TooOftenError

pytestmark = pytest.mark.usefixtures("sqlite_database")
KIND = AttemptKind.CHARGE


async def _admit(clock: Any, account_id: int = 1, kind: AttemptKind = KIND) -> CardAttempt:
    return await admit(account_id, kind, clock=clock, actor="customer:ada")


async def test_it_closes_the_door_until_the_oldest_try_is_over(clock: Any) -> None:
    """It says when, and a refused try counts for nothing."""
    first = clock.now()
    for _ in range(MOST[KIND]):
        await _admit(clock)
        clock.advance(timedelta(minutes=1))
    for _ in range(3):
        with pytest.raises(TooOftenError, match="Try again after 2026-11-20 10:00 UTC") as refused:
            await _admit(clock)
    assert refused.value.retry_at == first + WITHIN
    clock.advance(first + WITHIN - clock.now())
    await _admit(clock)
    with pytest.raises(TooOftenError):
        await _admit(clock)


async def test_it_counts_by_account_and_kind(clock: Any) -> None:
    """Others, and other doors, stay open."""
    for _ in range(MOST[KIND]):
        await _admit(clock)
    await _admit(clock, account_id=2)
    await _admit(clock, kind=AttemptKind.SETUP)


async def test_it_does_not_count_what_went_well(clock: Any) -> None:
    """However often that is."""
    for _ in range(MOST[KIND] + 5):
        await forget(await _admit(clock))


async def test_it_lets_no_more_through_at_once(clock: Any) -> None:
    """Of many at the same moment at most the limit are admitted."""
    tries = await asyncio.gather(*(_admit(clock) for _ in range(30)), return_exceptions=True)
    assert {type(one) for one in tries} <= {CardAttempt, TooOftenError}
    assert sum(isinstance(one, CardAttempt) for one in tries) <= MOST[KIND]


async def test_it_leaves_one_trace_and_no_litter(clock: Any) -> None:
    """The audit trail says when a door was closed; tries that count no more are gone."""
    for _ in range(MOST[KIND]):
        await _admit(clock)
    with pytest.raises(TooOftenError):
        await _admit(clock)
    assert (await AuditEntry.get()).kind == "card.many_attempts"
    clock.advance(2 * WITHIN)
    await _admit(clock)
    assert await CardAttempt.all().count() == 1
