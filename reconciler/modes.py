"""The mode in force, and what follows from having been outside `APPLY`.

The only writer of the modes in `reconciler_state`. Warnings that grew old while the product only looked open no stage.
"""

from datetime import datetime, timedelta

from tortoise.transactions import in_transaction

from billing import audit
from reconciler.models import ReconcilerState
from reconciler.rules.terms import Mode

ACTOR = "system:reconciler"
#: Longer than this outside `APPLY`, and every present stage's notice counts, for climbing, as not sent.
LONGEST_AWAY = timedelta(hours=24)


async def in_force(configured: Mode) -> Mode:
    """Return the mode to act in: a database that never applied acts as `PLAN` until `apply --first` was answered."""
    state = await ReconcilerState.get(id=1)
    if configured is Mode.APPLY and state.first_apply_at is None:
        return Mode.PLAN
    return configured


async def enter(mode: Mode, now: datetime) -> None:
    """Note the mode of a pass that begins; a return to `APPLY` after too long voids the notices sent before."""
    state = await ReconcilerState.get(id=1)
    if state.last_mode is mode:
        return
    changes: dict[str, object] = {"last_mode": mode}
    if mode is Mode.APPLY:
        away = state.left_apply_at is not None and now - state.left_apply_at > LONGEST_AWAY
        changes |= {"left_apply_at": None} | ({"notices_void_before": now} if away else {})
    elif state.last_mode is Mode.APPLY:
        # The last sign of life in `APPLY`: nobody can tell how long after it the mode was changed.
        changes["left_apply_at"] = state.last_pass_at or now
    async with in_transaction():
        moved = await ReconcilerState.filter(id=1, last_mode=state.last_mode).update(**changes)
        if moved:
            await audit.record(
                "mode.changed",
                ("ReconcilerState", 1),
                at=now,
                actor=ACTOR,
                reason="the product was started in another mode",
                before={"mode": state.last_mode},
                after={"mode": mode},
            )
