"""Forecasts for the doors: one walk at a time, and the last one kept while nothing that it rests on has moved.

Owns keeping alone, in memory; what is ahead is `reconciler.outlook`'s word. A page that follows is thus one of the
same forecast, and asking often costs little.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tortoise.functions import Count, Max, Sum

from billing.models import Account
from billing.rules.policy import Policy
from reconciler import outlook
from reconciler.models import Admission, ReconcilerState
from reconciler.rules.compare import Difference
from reconciler.rules.forecast import Ahead
from reconciler.rules.terms import Mode

#: How long a forecast is kept at most: it is about days, and its beginning grows old.
KEPT = timedelta(minutes=1)
LONGEST_DAYS = 366


@dataclass(frozen=True, kw_only=True)
class Premises:
    """What a forecast is made from beside the database."""

    policies: Mapping[str, Policy]
    #: The mode of each site of the inventory.
    site_modes: Mapping[str, Mode]
    facts_max_age: timedelta
    now: datetime
    days: int


@dataclass(kw_only=True)
class Foresight:
    """Makes forecasts, never two at a time in a process."""

    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _kept: tuple[Premises, object, Sequence[Ahead]] | None = None

    async def ahead(self, premises: Premises) -> Sequence[Ahead]:
        """Return every change of a stage to come if nothing gets paid, in the order of time."""
        async with self._one:
            stamp = await _stamp()
            if self._kept is None or not _still_holds(self._kept[0], premises) or self._kept[1] != stamp:
                seen = await _look(premises)
                self._kept = premises, stamp, await seen.ahead()
            return self._kept[2]

    async def differences(
        self, premises: Premises, tried: Policy, *, instead_of: str
    ) -> Sequence[Difference]:
        """Return where accounts would stand otherwise if `tried` took the place of a policy now."""
        async with self._one:
            return await (await _look(premises)).differences(tried, instead_of=instead_of)


async def _look(premises: Premises) -> outlook.Outlook:
    return await outlook.look(
        premises.policies,
        premises.site_modes,
        facts_max_age=premises.facts_max_age,
        now=premises.now,
        days=premises.days,
    )


def _still_holds(kept: Premises, asked: Premises) -> bool:
    same = (kept.policies, kept.site_modes, kept.days) == (asked.policies, asked.site_modes, asked.days)
    return same and timedelta(0) <= asked.now - kept.now < KEPT


async def _stamp() -> object:
    """Return what changes with every fact, admission and decision about the whole reconciler."""
    facts = (
        await Account.all().annotate(number=Count("id"), facts=Sum("facts_version")).values("number", "facts")
    )
    admitted = await Admission.all().annotate(last=Max("id")).values_list("last", flat=True)
    state = await ReconcilerState.get(id=1)
    brakes = (state.paused_at, state.safe_mode_since, state.breaker_open_at, state.notices_void_before)
    return facts, admitted, brakes
