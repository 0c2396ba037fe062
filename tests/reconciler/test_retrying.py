"""Trying again at once: what waits no longer, and what is left alone."""

from datetime import timedelta
from typing import Any

import pytest

from billing.models import Account, AuditEntry
from billing.refusal import RefusalCode, RefusalError
from reconciler import retrying
from reconciler.models import Server, Step
from reconciler.rules.terms import StepKind, StepState

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def _retry(server: Server, clock: Any, **given: Any) -> Server:
    told: dict[str, Any] = {"reason": "the node is back", "actor": "infra:ida", "now": clock.now()} | given
    return await retrying.retry(server.id, **told)


async def _refused(server: Server, clock: Any, **given: Any) -> RefusalCode:
    with pytest.raises(RefusalError) as refused:
        await _retry(server, clock, **given)
    return refused.value.problems[0].code


async def test_everything_that_waits_on_a_server_is_tried_again(factory: Any, clock: Any) -> None:
    """Its own steps and its account's access on its site; nobody else's, and the reconciler is woken."""
    later = clock.now() + timedelta(hours=6)
    server, other = await factory.server(), await factory.server()
    waiting = {"state": StepState.FAILED, "retry_at": later}
    mine = [
        await factory.step(server, **waiting),
        await factory.step(server, server_id=None, kind=StepKind.CLOSE_ACCESS, **waiting),
    ]
    others = [
        await factory.step(other, **waiting),
        await factory.step(server, server_id=None, kind=StepKind.CLOSE_ACCESS, site="elsewhere", **waiting),
    ]
    await Account.all().update(next_change_at=None)
    await _retry(server, clock)
    assert {row.id for row in await Step.filter(retry_at=None)} == {step.id for step in mine}
    assert {row.id for row in await Step.filter(retry_at=later)} == {step.id for step in others}
    assert (await Account.get(id=server.account_id)).next_change_at == clock.now()
    row = await AuditEntry.get()
    assert (row.kind, row.reason, row.after) == (
        "step.retried", "the node is back", '{"steps": ["CLOSE_ACCESS", "STOP"]}',
    )  # fmt: skip


async def test_it_is_refused_when_it_could_help_nobody(factory: Any, clock: Any) -> None:
    """While something is under way, when nothing waits, for a retired server and without a reason."""
    server = await factory.server()
    assert await _refused(server, clock) is RefusalCode.CONFLICT
    past = clock.now() - timedelta(seconds=1)
    await factory.step(server, state=StepState.FAILED, retry_at=past)
    assert await _refused(server, clock) is RefusalCode.CONFLICT, "its wait is over already"
    await Step.all().update(retry_at=clock.now() + timedelta(hours=1))
    assert await _refused(server, clock, reason="") is RefusalCode.REASON_REQUIRED
    under_way = await factory.step(server, state=StepState.UNKNOWN)
    assert await _refused(server, clock) is RefusalCode.CONFLICT
    await Step.filter(id=under_way.id).update(state=StepState.DONE)
    await _retry(server, clock)
    await Server.filter(id=server.id).update(retired_at=clock.now())
    assert await _refused(server, clock) is RefusalCode.CONFLICT
