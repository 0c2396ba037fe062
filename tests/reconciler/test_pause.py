"""Pausing enforcement as a whole."""

from datetime import timedelta

import pytest

from billing.clock import ManualClock
from billing.models import AuditEntry
from billing.refusal import RefusalError
from reconciler.models import ReconcilerState
from reconciler.pause import pause, resume

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def test_it_pauses_until_it_is_resumed(clock: ManualClock) -> None:
    """It keeps who paused it first, when and why, and forgets all of it afterwards."""
    await pause(reason="a strange plan", actor="infra:ida", now=clock.now())
    begun = clock.now()
    clock.advance(timedelta(minutes=5))
    await pause(reason="another", actor="admin:anna", now=clock.now())
    state = await ReconcilerState.get(id=1)
    assert (state.paused_at, state.paused_by, state.paused_reason) == (begun, "infra:ida", "a strange plan")
    await resume(reason="looked at", actor="admin:anna", now=clock.now())
    await resume(reason="again", actor="admin:anna", now=clock.now())
    state = await ReconcilerState.get(id=1)
    assert (state.paused_at, state.paused_by, state.paused_reason) == (None, None, None)
    kinds = [entry.kind for entry in await AuditEntry.all().order_by("id")]
    assert kinds == ["enforcement.paused", "enforcement.resumed"]


async def test_it_wants_a_reason(clock: ManualClock) -> None:
    """It neither pauses nor resumes without one."""
    for change in (pause, resume):
        with pytest.raises(RefusalError):
            await change(reason=" ", actor="admin:anna", now=clock.now())
    assert not await AuditEntry.exists()
