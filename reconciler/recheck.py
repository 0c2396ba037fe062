"""The last look before a guest is touched: is this step still wanted, on the facts as they are now?

Reads only. Asked when a step is dispatched and again every second while it runs; a step that is not wanted is void.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tortoise.expressions import Q

from billing.models import Account, EventState, StripeEvent
from reconciler.models import Hold, ReconcilerState, Server, Step
from reconciler.rules.terms import StepKind


async def void(steps: Sequence[Step], now: datetime) -> frozenset[int]:
    """Return the ids of the steps that nothing asks for any more, or whose facts have moved."""
    if not steps:
        return frozenset()
    holding = await _Holding.read([step.server_id for step in steps if step.server_id is not None], now)
    gone = {step.id for step in steps if step.server_id is not None and not holding.wants(step)}
    restricting = [step for step in steps if step.kind.restricts]
    if restricting:
        gone |= await _moved(restricting)
        state = await ReconcilerState.get_or_none(id=1)
        if state is not None and state.paused_at is not None:
            gone |= {step.id for step in restricting}
    gone |= await _access_not_wanted([step for step in steps if step.server_id is None], now)
    return frozenset(gone)


async def _moved(steps: Iterable[Step]) -> set[int]:
    """Return the steps whose account has newer facts, or facts that wait to be read."""
    rows = list(steps)
    ids = sorted({step.account_id for step in rows})
    accounts = {account.id: account for account in await Account.filter(id__in=ids)}
    customers: list[Any] = [
        account.stripe_customer_id for account in accounts.values() if account.stripe_customer_id
    ]
    waiting: set[Any] = set(
        await StripeEvent.filter(stripe_customer_id__in=customers, state=EventState.PENDING).values_list(
            "stripe_customer_id", flat=True
        )
    )
    gone = set()
    for step in rows:
        account = accounts.get(step.account_id)
        if (
            account is None
            or account.facts_version != step.facts_version
            or account.stripe_customer_id in waiting
        ):
            gone.add(step.id)
    return gone


class _Holding:
    """Which servers are stopped and locked by an open hold right now, and which of them are still ours to touch."""

    def __init__(self, stopped: set[int], locked: set[int], live: set[int]) -> None:
        self._stopped, self._locked, self._live = stopped, locked, live

    @classmethod
    async def read(cls, server_ids: Sequence[int], now: datetime) -> "_Holding":
        in_force = Q(lifted_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
        rows = await Hold.filter(in_force, server_id__in=list(server_ids)).values_list(
            "server_id", "stops_server", "locks_backups"
        )
        live = await Server.filter(id__in=list(server_ids), retired_at=None).values_list("id", flat=True)
        return cls(
            {server_id for server_id, stops, _ in rows if stops},
            {server_id for server_id, _, locks in rows if locks},
            set(live),  # type: ignore[arg-type]
        )

    def wants(self, step: Step) -> bool:
        """Return whether the holds still ask for what the step does, or no longer forbid it."""
        server_id = step.server_id
        if server_id not in self._live:
            return False
        match step.kind:
            case StepKind.STOP:
                return server_id in self._stopped
            case StepKind.START:
                return server_id not in self._stopped
            case StepKind.LOCK_BACKUPS:
                return server_id in self._locked
            case _:
                return server_id not in self._locked


async def _access_not_wanted(steps: Sequence[Step], now: datetime) -> set[int]:
    """Return the access steps that the billing holds of their account on that site do not ask for any more."""
    if not steps:
        return set()
    in_force = Q(lifted_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    locking = set(
        await Hold.filter(
            in_force, locks_account=True, server__account_id__in=[step.account_id for step in steps]
        ).values_list("server__account_id", "server__site")
    )
    return {
        step.id
        for step in steps
        if ((step.account_id, step.site) in locking) is not (step.kind is StepKind.CLOSE_ACCESS)
    }
