"""What stands on each stage, counted in the database."""

from datetime import timedelta
from typing import Any

import pytest

from billing.models import Episode
from billing.rules.terms import Stage
from reconciler import stages

pytestmark = pytest.mark.usefixtures("database")


async def test_it_counts_accounts_servers_and_debt_by_stage(factory: Any, clock: Any) -> None:
    """An account without an episode, or within the tolerance, is `CURRENT`; its small debt is told there."""
    now = clock.now()
    debtor, other, tolerated = [await factory.account() for _ in range(3)]
    yen = await factory.account(currency="JPY")
    await factory.episode(debtor, admitted=Stage.SUSPENDED)
    await factory.episode(debtor, admitted=Stage.RETAINED, ended_at=now)
    await factory.episode(other, admitted=Stage.SUSPENDED)
    await factory.episode(yen, admitted=Stage.CURRENT)
    for owner in (debtor, debtor, other, tolerated):
        await factory.server(owner)
    await factory.server(debtor, retired_at=now)
    await Episode.create(
        account=tolerated,
        server_id=(await factory.server(tolerated)).id,
        started_at=now,
        admitted=Stage.FINAL_NOTICE,
        admitted_at=now,
    )
    await factory.invoice(debtor)
    await factory.invoice(debtor, overdue_at=now + timedelta(days=1), overdue_seen_at=None)
    await factory.invoice(debtor, currency="USD")
    await factory.invoice(other, disputed_amount=300, amount_paid=100)
    await factory.invoice(tolerated, amount_due=50)
    await factory.invoice(yen, amount_due=700)

    found = {one.stage: (one.accounts, one.servers, dict(one.debt)) for one in await stages.totals(now)}

    assert list(found) == list(Stage)
    assert found[Stage.CURRENT] == (2, 2, {"EUR": 50, "JPY": 700})
    assert found[Stage.SUSPENDED] == (2, 3, {"EUR": 500 + 300})
    assert found[Stage.FINAL_NOTICE] == found[Stage.RETAINED] == (0, 0, {})
