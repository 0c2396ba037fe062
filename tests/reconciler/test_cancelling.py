"""Ending a run before its time: the wish, who may not have it, and that it is obeyed."""

import asyncio
from typing import Any

import pytest

from billing.models import AuditEntry
from billing.refusal import RefusalCode, RefusalError
from reconciler import cancelling
from reconciler.models import Run
from reconciler.rules.terms import Lane, RunState

pytestmark = pytest.mark.usefixtures("sqlite_database")


class _Handle:
    run_id = "t"

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    def cancel(self) -> None:
        self.cancelled.set()


async def _run(clock: Any, **given: Any) -> Run:
    values: dict[str, Any] = {
        "tag": "t", "action": "stop_guests", "site": "demo", "node": "node1", "lane": Lane.RESTRICT,
        "plan_digest": "", "requested_by": "system:reconciler", "started_at": clock.now(),
    }  # fmt: skip
    return await Run.create(**(values | given))


async def _want(run: Run, clock: Any, reason: str = "the node is busy") -> Run:
    return await cancelling.want(run.id, reason=reason, actor="infra:ida", now=clock.now())


async def _refused(run: Run, clock: Any, **given: Any) -> RefusalCode:
    with pytest.raises(RefusalError) as refused:
        await _want(run, clock, **given)
    assert (await Run.get_or_none(id=run.id) or run).cancel_wanted_at is None
    return refused.value.problems[0].code


@pytest.mark.parametrize("lane", [Lane.OBSERVE, Lane.RESTRICT])
async def test_a_run_that_looks_or_restricts_is_ended(clock: Any, lane: Lane) -> None:
    """The wish is recorded once, with who and why, and whoever attends to the run obeys it."""
    run = await _run(clock, lane=lane)
    handle = _Handle()
    obeying = asyncio.create_task(cancelling.obey(handle, seconds=0.01))
    await asyncio.sleep(0.05)
    assert not handle.cancelled.is_set()
    for _ in range(2):
        assert (await _want(run, clock)).cancel_wanted_at == clock.now()
    await asyncio.wait_for(handle.cancelled.wait(), 60)
    await asyncio.wait_for(obeying, 60)
    row = await AuditEntry.get()
    assert (row.kind, row.actor, row.reason) == ("run.cancel_wanted", "infra:ida", "the node is busy")


async def test_a_restore_is_never_cancelled(clock: Any) -> None:
    """Nothing keeps from a customer what is theirs."""
    assert await _refused(await _run(clock, lane=Lane.RESTORE), clock) is RefusalCode.CONFLICT


async def test_what_is_over_cannot_be_ended(clock: Any) -> None:
    """Nor a run that there is not; and a reason is asked for."""
    run = await _run(clock, state=RunState.FINISHED, finished_at=clock.now())
    assert await _refused(run, clock) is RefusalCode.CONFLICT
    assert await _refused(Run(id=99), clock) is RefusalCode.NOT_FOUND
    assert await _refused(await _run(clock, tag="u"), clock, reason="") is RefusalCode.REASON_REQUIRED


async def test_a_database_that_is_away_ends_no_obeying(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks again, and obeys when it can read."""
    run = await _run(clock)
    handle, really, failures = _Handle(), Run.exists, [OSError("gone"), OSError("gone")]

    def exists(*args: Any, **given: Any) -> Any:
        if failures:
            raise failures.pop()
        return really(*args, **given)

    monkeypatch.setattr(Run, "exists", exists)
    obeying = asyncio.create_task(cancelling.obey(handle, seconds=0.01))
    await _want(run, clock)
    await asyncio.wait_for(obeying, 60)
    assert handle.cancelled.is_set()
    assert failures == []
