"""What holds restrictions back for everybody is said once, with what ends it."""

from datetime import timedelta
from typing import Any

import pytest

from billing.models import StripeMirror
from reconciler import brakes, pause, safety
from reconciler.guard_models import SafeModeKind
from reconciler.models import ReconcilerState

pytestmark = pytest.mark.usefixtures("sqlite_database")
HOUR = timedelta(hours=1)


async def lines(clock: Any, *, stripe: bool = False) -> list[str]:
    """What is said now."""
    return [one.line for one in await brakes.standing(stripe=stripe, now=clock.now())]


async def test_it_says_nothing_while_none_is_on(clock: Any) -> None:
    """Neither before the first pass nor with fresh facts, nor of a Stripe that is switched off."""
    assert await lines(clock) == []
    await StripeMirror.filter(id=1).update(last_full_sweep_at=clock.now())
    assert await lines(clock, stripe=True) == []
    assert brakes.text(()) == ""


async def test_it_says_whether_safe_mode_waits_for_a_person(clock: Any) -> None:
    """One that needs nobody ends by itself; with several, the one that needs somebody decides."""
    now = clock.now()
    await safety.enter(SafeModeKind.CLOCK_JUMP, "the clock jumped", since=now, now=now)
    [line] = await lines(clock)
    assert line == (
        f"Safe mode since {now:%Y-%m-%d %H:%M} UTC, the clock jumped: nothing is restricted for money; "
        "it ends once every site and Stripe were read again, by itself."
    )
    await safety.enter(
        SafeModeKind.RESTORED_DATABASE, "it is an older one", since=now, now=now, needs_person=True
    )
    [line] = await lines(clock)
    assert "the clock jumped; it is an older one" in line
    assert "and an admin has released it (`safeModeRelease`)." in line
    await safety.release(reason="looked", actor="admin:ada", now=now)
    [line] = await lines(clock)
    assert line.endswith("were read again, by itself.")


async def test_it_says_that_stripe_is_unread_stale_or_in_trouble(clock: Any) -> None:
    """As freshness judges it for everybody; and what reads it."""
    [unread] = await lines(clock, stripe=True)
    assert unread.startswith("Stripe has not been read as a whole yet: nobody is restricted for money")
    assert "`abeyance serve`" in unread
    read_at = clock.now()
    await StripeMirror.filter(id=1).update(last_full_sweep_at=read_at)
    clock.advance(HOUR + timedelta(seconds=1))
    [stale] = await lines(clock, stripe=True)
    assert stale.startswith(f"Stripe was last read as a whole at {read_at:%Y-%m-%d %H:%M:%S} UTC: nobody")
    await StripeMirror.filter(id=1).update(problem="the key is refused")
    [trouble] = await lines(clock, stripe=True)
    assert trouble.startswith("The key is refused: nobody")


async def test_it_tells_all_of_them_the_strongest_first(clock: Any) -> None:
    """For people a marked line each, for programs a name that stays."""
    now = clock.now()
    await ReconcilerState.filter(id=1).update(
        safe_mode_since=now, safe_mode_reason="doubt", breaker_open_at=now, breaker_reason="40 at once"
    )
    await pause.pause(reason="we move", actor="infra:ida", now=now)
    found = await brakes.standing(stripe=True, now=now)
    assert [one["name"] for one in brakes.content(found)] == ["safe_mode", "pause", "stripe", "breaker"]
    assert [one["since"] for one in brakes.content(found)] == [now.isoformat()] * 2 + [None, now.isoformat()]
    told = brakes.text(found).splitlines()
    assert [line.startswith(f"{brakes.MARK} ") for line in told] == [True] * 4
    assert "by infra:ida, we move" in told[1]
    assert told[3].endswith(
        "(`{ plan { digest text } }`); two persons let it go on by `breakerRelease` of its digest, or of the beginning "
        "that its first line shows."
    )
