"""What the doors are given: the clock, the wake-up, the policies, the sites and the hands of the reconciler.

Owns protocols and the bundle that `create_app` takes. Nothing here acts.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Protocol

from api.auth import Authenticator, TokenAuthenticator
from api.changes import Changes
from api.foresight import Foresight
from api.rates import Allowances
from api.traffic import Traffic
from billing.charges import charge_for_invoice
from billing.clock import Clock
from billing.rules.approvals import SecondPerson
from billing.rules.policy import Policy
from billing.rules.voucher_codes import RandomBelow
from billing.settling import Means
from billing.stripe.card_gateway import CardGateway
from billing.stripe.settle_gateway import SettleGateway
from reconciler.rules.terms import Mode

#: Tells the reconciler to look at one account, or at everything; returns at once.
Wake = Callable[[int | None], None]


class ActionRequests(Protocol):
    """The reconciler's hand for actions that people ask for: looking, and giving back."""

    def allowed(self) -> frozenset[str]:
        """Return the actions that may be asked for: `observe` and the undoing ones of the catalogue, never another."""
        ...

    async def observe(self, server_id: int, *, actor: str) -> int:
        """Read one server's guest and return the id of the run; raises `RefusalError` when that cannot be done now."""
        ...

    async def give_back(self, action: str, server_id: int, *, reason: str, actor: str) -> None:
        """Let the next pass try an undoing action at once; raises `RefusalError` while a hold still forbids it."""
        ...


#: Reads a newly named Stripe customer and its open invoices: account id, customer id.
AdoptCustomer = Callable[[int, str], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything outside that the doors need."""

    clock: Clock
    wake: Wake
    #: The policies in force by name; `standard` is always there.
    policies: Callable[[], Mapping[str, Policy]]
    #: The platform of each site of the inventory by the site's name.
    platforms: Callable[[], Mapping[str, str]]
    actions: ActionRequests
    #: The mode of each site of the inventory.
    site_modes: Callable[[], Mapping[str, Mode]] = dict
    #: Older readings restrict nobody.
    facts_max_age: timedelta = timedelta(minutes=15)
    #: What is ahead; kept for a moment.
    foresight: Foresight = field(default_factory=Foresight)
    #: Cards and payments at Stripe; null while Stripe is off.
    cards: CardGateway | None = None
    #: What is written about invoices at Stripe; null while Stripe is off.
    invoices: SettleGateway | None = None
    #: Null while Stripe is off.
    adopt_customer: AdoptCustomer | None = None
    mode: Mode = Mode.PLAN
    #: Whether what takes two persons always does, or one is enough after a while.
    second_person: SecondPerson = field(default_factory=SecondPerson)
    authenticators: tuple[Authenticator, ...] = field(default_factory=lambda: (TokenAuthenticator(),))
    #: Where the codes of vouchers come from.
    random_below: RandomBelow = secrets.randbelow
    #: Tells subscriptions that something was committed.
    changes: Changes = field(default_factory=Changes)
    #: How often one caller may ask.
    allowances: Allowances = field(default_factory=Allowances)
    #: Counts what is asked and answered.
    traffic: Traffic = field(default_factory=Traffic)
    #: How long a query may take before it is given up.
    query_timeout: timedelta = timedelta(seconds=20)

    def means(self) -> Means:
        """Return what settling works with now; without Stripe only invoices of ours are settled."""
        return Means(
            clock=self.clock,
            policies=self.policies(),
            stripe=self.invoices,
            ask_card=partial(charge_for_invoice, self.cards, self.clock) if self.cards else None,
        )
