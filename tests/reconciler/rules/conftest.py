"""Builders of worlds for the tests of the pure rules."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.rules.policy import GuardPolicy, Limit
from billing.rules.terms import HoldCause, Stage
from reconciler.rules.guard import Circumstances, Limits
from reconciler.rules.terms import GuestKind, Mode, Power
from reconciler.rules.world import (
    AccessView,
    AccountView,
    Climb,
    HoldView,
    ObservedView,
    PassedOver,
    RecordView,
    ServerView,
    SiteView,
    World,
)

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


class Builder:
    """Makes small worlds: one account (1), one site (zrh1), servers as asked."""

    now = NOW

    def hold(self, cause: HoldCause = HoldCause.BILLING, **changes: Any) -> HoldView:
        base = HoldView(
            cause=cause,
            stops_server=True,
            locks_backups=True,
            locks_account=True,
            reason="payment is overdue",
        )
        return replace(base, **changes)

    def seen(self, power: Power = Power.RUNNING, **changes: Any) -> ObservedView:
        return replace(ObservedView(power=power, node="pve1", observed_at=NOW), **changes)

    def taken(self, **changes: Any) -> RecordView:
        base = RecordView(power=Power.RUNNING, onboot=True, protection=False, backups_locked=True)
        return replace(base, **changes)

    def server(self, number: int = 1, **changes: Any) -> ServerView:
        base = ServerView(
            id=number,
            external_id=f"srv-{number}",
            account_id=1,
            site="zrh1",
            node="pve1",
            kind=GuestKind.LXC,
            guest=str(100 + number),
            observed=self.seen(),
        )
        return replace(base, **changes)

    def access(self, **changes: Any) -> AccessView:
        base = AccessView(account_id=1, site="zrh1", pool="customer-1", node="pve1", wanted_closed=True)
        return replace(base, **changes)

    def passed_over(self, number: int = 9, **changes: Any) -> PassedOver:
        base = PassedOver(
            server_id=number, account_id=1, site="zrh1", node="pve1", stage=Stage.SUSPENDED, free=True
        )
        return replace(base, **changes)

    def climb(self, account_id: int = 1, **changes: Any) -> Climb:
        base = Climb(
            account_id=account_id,
            policy="standard",
            to_stage=Stage.SUSPENDED,
            eligible_since=NOW - timedelta(hours=1),
            reason="120 h overdue",
            invoice_ids=(7,),
            time_zone="UTC",
            larger=True,
            stale=None,
            sites=frozenset({"zrh1"}),
        )
        return replace(base, **changes)

    def world(
        self,
        *servers: ServerView,
        mode: Mode = Mode.APPLY,
        site_mode: Mode = Mode.APPLY,
        **changes: Any,
    ) -> World:
        climbs = changes.pop("climbs", ())
        accounts = {1} | {climb.account_id for climb in climbs} | {server.account_id for server in servers}
        stale = changes.pop("stale", None)
        base = World(
            now=NOW,
            mode=mode,
            accounts={
                number: AccountView(id=number, external_id=f"acct-{number}", facts_version=3, stale=stale)
                for number in accounts
            },
            climbs=tuple(climbs),
            servers=tuple(servers),
            access=(),
            sites={"zrh1": SiteView(name="zrh1", mode=site_mode)},
        )
        return replace(base, **changes)

    def circumstances(self, **changes: Any) -> Circumstances:
        wide = GuardPolicy(
            max_new_per_pass=Limit(count=5, percent=0), max_new_per_day=Limit(count=30, percent=0)
        )
        base = Circumstances(
            facts_max_age=timedelta(minutes=15), fleet=Limits(guard=wide, accounts=100, admitted_today=0)
        )
        return replace(base, **changes)


@pytest.fixture
def build() -> Builder:
    """Return the builder of worlds."""
    return Builder()
