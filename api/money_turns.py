"""The money's turns beside the requests: invoices issued, open ones settled, payments finished, customers told ahead.

Owns when each is done and what wakes it; what is done is `billing`'s. Each turn finds its work in the database, so a
lost wake-up costs nothing but the delay. In mode `OFF` nothing is issued, settled or asked of anybody.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import structlog

from api.background import Worker
from billing import books, cards, charges, troubles, vouchers
from billing.advance_notices import queue_ahead
from billing.clock import Clock
from billing.issuing import issue_due
from billing.models import Account
from billing.settling import Means
from billing.settling_sweep import settle_due
from billing.stripe.card_gateway import CardGateway
from billing.stripe.gateway import StripeReadError
from reconciler.rules.terms import Mode
from reconciler.schedule import Tick

log = structlog.get_logger(__name__)

HOUR = 3_600.0
DAY = 86_400.0
TROUBLES = 600.0
#: Months and charges looked at in one go; the rest follows at once.
BATCH = 200


@dataclass(kw_only=True)
class MoneyTurns:
    """The workers of the money, for the process that leads."""

    clock: Clock
    #: What settling works with now.
    means: Callable[[], Means]
    #: Null while Stripe is off.
    cards: CardGateway | None
    #: The mode in force.
    mode: Callable[[], Awaitable[Mode]]
    #: Asks the reconciler for a pass, which follows what was paid and sends what was queued.
    wake: Callable[[], None]
    _touched: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.issuing = Worker(name="issuing", turn=self.issue)
        self.settling = Worker(name="settling", turn=self.settle_touched)
        self.sweeping = Worker(name="money", turn=self.sweep)
        self.ahead = Worker(name="ahead", turn=self.tell_ahead)
        self.books = Worker(name="books", turn=self.look_at_books)
        self.troubles = Worker(name="troubles", turn=self.look_for_troubles)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """All of them, to be run."""
        return (self.issuing, self.settling, self.sweeping, self.ahead, self.books, self.troubles)

    def ticks(self, *, sweep: float) -> Mapping[str, tuple[float, Tick]]:
        """Return the ticks, which only wake; `sweep` is the span in seconds between two looks at everybody."""
        spans = (
            (self.issuing, HOUR),
            (self.sweeping, sweep),
            (self.ahead, HOUR),
            (self.books, DAY),
            (self.troubles, TROUBLES),
        )
        return {worker.name: (seconds, _waking(worker)) for worker, seconds in spans}

    def wake_all(self) -> None:
        """Ask for every turn: when this process begins to lead."""
        for worker in self.workers:
            worker.wake()

    def touched(self, account_ids: Collection[int]) -> None:
        """Settle these accounts soon: a fact that could help has come. Returns at once."""
        self._touched |= set(account_ids)
        self.settling.wake()

    async def touched_customers(self, customers: Collection[str]) -> None:
        """The same, of customers at Stripe, of whom some need not be ours."""
        rows = Account.filter(stripe_customer_id__in=list(customers))
        self.touched({int(ident) for (ident,) in await rows.values_list("id")})

    # -- the turns --------------------------------------------------------------------------------------------------

    async def issue(self) -> float | None:
        """Issue the invoices of ended months; returns when to look again."""
        if await self.mode() is Mode.OFF:
            return None
        issued = await issue_due(self.clock, self.means().policies, limit=BATCH)
        if issued.invoice_ids:
            log.info("invoices.issued", invoices=len(issued.invoice_ids))
            self.touched(issued.account_ids)
            self.wake()
        return 0.0 if issued.looked_at >= BATCH else None

    async def settle_touched(self) -> float | None:
        """Settle the accounts that facts were about."""
        if await self.mode() is Mode.OFF:
            return None
        touched, self._touched = self._touched, set()
        try:
            settled = await settle_due(await self._means(), account_ids=touched)
        except Exception:
            self._touched |= touched  # tried again by whoever called
            raise
        if settled:
            self.wake()
        return None

    async def sweep(self) -> float | None:
        """End what was left half way, then settle everybody for whom something can be done."""
        if await self.mode() is Mode.OFF:
            return None
        looked = await self._finish(self.cards) if self.cards is not None else 0
        if looked + await settle_due(await self._means()):
            self.wake()
        return None

    async def tell_ahead(self) -> float | None:
        """Tell customers of cards that expire and money that ends; in `APPLY` alone, where something would follow."""
        if await self.mode() is Mode.APPLY and await queue_ahead(self.means()):
            self.wake()
        return None

    async def look_at_books(self) -> float | None:
        """Prove the ledger, and forget guesses at vouchers that count no more."""
        await vouchers.prune_guesses(now=self.clock.now())
        await books.check(self.clock)
        return None

    async def look_for_troubles(self) -> None:
        """Let the work queue follow what hangs, what is refused for good and whose money ends."""
        if await self.mode() is not Mode.OFF:
            await troubles.look(self.means(), now=self.clock.now())

    async def once(self) -> None:
        """Do all that is due now, for a command that waits for the end of it."""
        while await self.issue() is not None:
            pass
        await self.sweep()
        await self.tell_ahead()

    async def _finish(self, gateway: CardGateway) -> int:
        """End charges and removals that were left half way; return how many were looked at."""
        looked = 0
        try:
            while (some := await charges.finish_charges(gateway, self.clock, limit=BATCH)) > 0:
                looked += some
                if some < BATCH:
                    break
            looked += await cards.finish_removals(gateway, self.clock)
        except StripeReadError as problem:
            log.warning("stripe.not_finished", problem=str(problem))
        return looked

    async def _means(self) -> Means:
        """Return what settling works with; only in `APPLY` is a card asked because time has passed."""
        means = self.means()
        return means if await self.mode() is Mode.APPLY else replace(means, ask_card=None)


def _waking(worker: Worker) -> Tick:
    async def tick() -> None:
        worker.wake()

    return tick
