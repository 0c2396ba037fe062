"""Reading Stripe beside the requests: the inbox, the sweep, and single accounts that somebody asks about.

Owns when the mirror is brought up to date and who is woken by it: the money for whom it could help, the reconciler for
all of it. While Stripe is off none of this does anything.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from api.background import Worker
from api.money_turns import MoneyTurns
from billing.clock import Clock
from billing.models import Account, Invoice
from billing.rules.terms import InvoiceStatus
from billing.stripe.gateway import StripeGateway, StripeReadError
from billing.stripe.processing import WrongStripeAccountError, process_due
from billing.stripe.refresh import Agreement, adopt_customer, refetch_account
from billing.stripe.sweep import full_sweep, tell_of_silence
from reconciler import safety
from reconciler.guard_models import SafeModeKind

log = structlog.get_logger(__name__)

BATCH = 100
#: How soon events that had to wait are looked at again; their own back-off decides what is due then.
LATER_SECONDS = 15.0


@dataclass(kw_only=True)
class StripeTurns:
    """The turns that read Stripe."""

    clock: Clock
    #: Null while Stripe is off.
    gateway: StripeGateway | None
    #: The Stripe account that this installation is configured for; null: the one that is seen first.
    account: str | None
    money: MoneyTurns
    #: Asks the reconciler for a pass.
    wake: Callable[[], None]

    def __post_init__(self) -> None:
        self.inbox = Worker(name="inbox", turn=self.process_inbox)

    async def process_inbox(self) -> float | None:
        """Work the inbox off; returns when to look again."""
        if self.gateway is None:
            return None
        try:
            result = await process_due(self.gateway, self.clock, limit=BATCH)
        except WrongStripeAccountError as problem:
            log.error("stripe.wrong_account", problem=str(problem))
            await self._doubt(problem)
            return None
        if result.done:
            self.wake()
            await self.money.touched_customers(result.customers)
        if result.done + result.ignored + result.dead >= BATCH:
            return 0.0
        return LATER_SECONDS if result.later else None

    async def sweep(self) -> None:
        """Read what webhooks may have lost."""
        if self.gateway is None:
            return
        try:
            swept = await full_sweep(self.gateway, self.clock, configured_account=self.account)
        except (StripeReadError, WrongStripeAccountError) as problem:
            log.warning("stripe.not_swept", problem=str(problem))
            if isinstance(problem, WrongStripeAccountError):
                await self._doubt(problem)
        else:
            await tell_of_silence(now=self.clock.now())
            await self.money.touched_customers(swept.customers)
            if swept.invoices:
                self.money.sweeping.wake()
        self.inbox.wake()
        self.wake()

    async def _doubt(self, problem: WrongStripeAccountError) -> None:
        """Restrict nobody on what another Stripe account tells, until everything was read from the right one."""
        now = self.clock.now()
        await safety.enter(SafeModeKind.IDENTITY, str(problem), since=now, now=now)

    async def refetch(self, account: Account) -> None:
        """Ask Stripe again about an account and what it is overdue with."""
        if self.gateway is None:
            return
        owed = Invoice.filter(account_id=account.id, status=InvoiceStatus.OPEN, overdue_seen_at__isnull=False)
        ids = [row.id for row in await owed]
        refetched = await refetch_account(self.gateway, self.clock, account.id, ids)
        if refetched.agreement is Agreement.CHANGED:
            self.money.touched({account.id})

    async def adopt(self, account_id: int, customer_id: str) -> None:
        """Read a newly named customer; raises `StripeReadError`, and then the next sweep does it."""
        if self.gateway is not None:
            await adopt_customer(self.gateway, self.clock, account_id)
            self.money.touched({account_id})
