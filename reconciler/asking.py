"""Asking Stripe again about accounts that would be restricted on facts that are too old.

Owns how many, how often and for how long. Whatever goes wrong leaves an account stale, which restricts nobody; no
restore ever waits for Stripe, nor does the next step of one: whoever asks for a pass ends the waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from billing.clock import Clock
from billing.models import Account
from reconciler.freshness import Freshness

log = structlog.get_logger(__name__)

#: Accounts asked about in one pass, how many of them at once, and how long a pass waits for all of them.
MAX_ASKED = 50
AT_ONCE = 5
PATIENCE_SECONDS = 10.0
#: An account that stays stale although it was asked about is not asked about again before this.
ASK_AGAIN = timedelta(seconds=60)

#: Asks Stripe about an account again and brings its mirror up to date.
Refetch = Callable[[Account], Awaitable[None]]


@dataclass(kw_only=True)
class Asking:
    """Refreshes stale accounts; `refetch` null: Stripe is off."""

    clock: Clock
    freshness: Freshness
    refetch: Refetch | None
    patience_seconds: float = PATIENCE_SECONDS
    #: Asks for the pass that acts on answers for which nobody waited.
    wake: Callable[[], None] = lambda: None
    _asked: dict[int, datetime] = field(default_factory=dict)
    _going: asyncio.Task[None] | None = None

    async def about(
        self, account_ids: Iterable[int], *, hurry: asyncio.Event | None = None
    ) -> frozenset[int]:
        """Ask about those of these accounts whose facts are too old; return whom Stripe was asked about.

        In a `hurry` only the waiting ends: the asking goes on beside the next passes, and nobody was asked yet.
        """
        if self.refetch is None or (self._going is not None and not self._going.done()):
            return frozenset()
        now = self.clock.now()
        stale = await self.freshness.stale(account_ids, now)
        self._asked = {one: at for one, at in self._asked.items() if now - at < self._interval}
        old = [one for one, (code, _) in stale.items() if code == "FACTS_STALE" and one not in self._asked]
        turn = sorted(old)[:MAX_ASKED]
        if not turn:
            return frozenset()
        self._asked |= dict.fromkeys(turn, now)
        self._going = asyncio.create_task(self._ask(await Account.filter(id__in=turn)), name="asking Stripe")
        if await _is_over(self._going, hurry or asyncio.Event()):
            return frozenset(turn)
        self._going.add_done_callback(lambda _: self.wake())
        return frozenset()

    @property
    def _interval(self) -> timedelta:
        return min(ASK_AGAIN, self.freshness.facts_max_age / 2)

    async def _ask(self, accounts: Sequence[Account]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(account: Account) -> None:
            async with gate:
                try:
                    await self.refetch(account)  # type: ignore[misc]
                except Exception:
                    log.exception("account.not_refetched", account_id=account.id)

        try:
            async with asyncio.timeout(self.patience_seconds):
                await asyncio.gather(*(one(account) for account in accounts))
        except TimeoutError:
            log.warning("stripe.slow", asked=len(accounts), seconds=self.patience_seconds)


async def _is_over(going: asyncio.Task[None], hurry: asyncio.Event) -> bool:
    """Wait for the end of the asking, or until somebody is in a hurry; return whether it ended."""
    hurried = asyncio.create_task(hurry.wait())
    try:
        await asyncio.wait((going, hurried), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        going.cancel()
        raise
    finally:
        hurried.cancel()
    return going.done()
