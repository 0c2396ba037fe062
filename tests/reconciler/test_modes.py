"""Time outside `APPLY` is kept count of."""

from datetime import timedelta

import pytest

from billing.models import AuditEntry
from reconciler import modes
from reconciler.models import ReconcilerState
from reconciler.rules.terms import Mode

pytestmark = pytest.mark.usefixtures("sqlite_database")
DAY = timedelta(hours=24)


async def state():
    """Return the row of the reconciler."""
    return await ReconcilerState.get(id=1)


@pytest.mark.parametrize(
    ("configured", "answered", "mode"),
    [
        (Mode.APPLY, False, Mode.PLAN),
        (Mode.APPLY, True, Mode.APPLY),
        (Mode.PLAN, True, Mode.PLAN),
        (Mode.OFF, False, Mode.OFF),
    ],
)
async def test_only_plans_until_the_first_apply_was_answered(clock, configured, answered, mode):
    """A database that never applied acts as `PLAN`."""
    if answered:
        await ReconcilerState.filter(id=1).update(first_apply_at=clock.now())

    assert await modes.in_force(configured) is mode


@pytest.mark.parametrize("outside", [Mode.PLAN, Mode.OFF])
@pytest.mark.parametrize(("away", "void"), [(DAY, False), (DAY + timedelta(seconds=1), True)])
async def test_voids_notices_after_more_than_a_day_outside(clock, outside, away, void):
    """To the second, and for `OFF` as for `PLAN`."""
    await modes.enter(Mode.APPLY, clock.now())
    await modes.enter(outside, clock.now())
    clock.advance(away)
    await modes.enter(outside, clock.now())

    await modes.enter(Mode.APPLY, clock.now())

    row = await state()
    assert row.notices_void_before == (clock.now() if void else None)
    assert (row.left_apply_at, row.last_mode) == (None, Mode.APPLY)


async def test_counts_from_the_last_sign_of_life_in_apply(clock):
    """The product was stopped in `APPLY` and started in `PLAN` two days later: two days outside."""
    await modes.enter(Mode.APPLY, clock.now())
    await ReconcilerState.filter(id=1).update(last_pass_at=clock.now())
    clock.advance(2 * DAY)
    await modes.enter(Mode.PLAN, clock.now())

    await modes.enter(Mode.APPLY, clock.now())

    assert (await state()).notices_void_before == clock.now()


async def test_adds_up_several_modes_outside_apply(clock):
    """From `PLAN` to `OFF` and back is one time outside."""
    await modes.enter(Mode.APPLY, clock.now())
    for mode in (Mode.PLAN, Mode.OFF, Mode.PLAN):
        await modes.enter(mode, clock.now())
        clock.advance(timedelta(hours=9))

    await modes.enter(Mode.APPLY, clock.now())

    assert (await state()).notices_void_before == clock.now()


async def test_voids_nothing_on_the_first_apply(clock):
    """Who never applied has sent nothing that could be void."""
    await modes.enter(Mode.PLAN, clock.now())
    clock.advance(9 * DAY)
    await modes.enter(Mode.APPLY, clock.now())

    assert (await state()).notices_void_before is None


async def test_audits_each_change_once(clock):
    """The trail tells when the product was in which mode."""
    for mode in (Mode.PLAN, Mode.PLAN, Mode.APPLY, Mode.APPLY):
        await modes.enter(mode, clock.now())

    assert await AuditEntry.filter(kind="mode.changed").count() == 2
