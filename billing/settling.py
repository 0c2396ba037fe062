"""Settling: the purses, then the cards, are spread over an account's open invoices, whenever a fact could help.

Owns the turn: every share of a purse is one transaction that reads again what it spends, so any number of processes
may settle the same account, and a crash leaves nothing half done. The decision is `billing.rules.settlement`'s; Stripe
is told by `billing.settling_stripe`.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Protocol

from tortoise.transactions import in_transaction

from billing import cards, invoice_parts, ledger, reservations
from billing.charge_rows import InvoiceCharge
from billing.charges import Outcome
from billing.clock import Clock
from billing.invoice_parts import ChangedMeanwhileError, Part
from billing.ledger import InsufficientFundsError, Move
from billing.models import Account, Invoice
from billing.money_models import (
    ChargeState,
    InvoicePart,
    LedgerKind,
    PartSource,
    Reservation,
    ReservationState,
    TransactionKind,
)
from billing.rules.cards import NotAsked, chargeable, scheduled
from billing.rules.policy import Policy
from billing.rules.settlement import Payable, Purse, Purses, Share, Use, in_order, settlement
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling_stripe import finish_invoice
from billing.stripe.settle_gateway import SettleGateway

ACTOR = "system:settling"

AskCard = Callable[[InvoiceCharge], Awaitable[Outcome]]
"""Asks one card for one invoice, once per occasion; never raises for Stripe's sake."""

_TRIES = 5
_MOST_STEPS = 1_000


@dataclass(frozen=True, kw_only=True)
class Means:
    """What settling works with beside the database; without Stripe only invoices of ours are settled."""

    clock: Clock
    policies: Mapping[str, Policy]
    stripe: SettleGateway | None = None
    ask_card: AskCard | None = None


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """Why an account is settled."""

    #: Names the fact that could help, such as `card:7:1`: each card is asked once for it. Null: time has passed, and
    #: the schedule of each invoice says whether cards are asked.
    fact: str | None = None
    #: Whether cards are asked at all.
    cards: bool = True
    actor: str = ACTOR


@dataclass(kw_only=True)
class Settled:
    """What a turn did."""

    #: How many shares of purses and whole invoices were booked or reserved.
    steps: int = 0
    #: What became of the cards that were asked, in order.
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What an act of the customer limits a turn to: one invoice, and these purses."""

    invoice_id: int
    purses: frozenset[Purse]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What one reading of the account calls for."""

    #: Set aside for an invoice that takes nothing any more.
    freed: tuple[Reservation, ...] = ()
    shares: tuple[Share, ...] = ()
    #: Rows whose money pays their invoice now, by invoice.
    ready: tuple[tuple[Reservation, ...], ...] = ()
    invoices: Mapping[int, Invoice]
    uncovered: Mapping[int, int]

    @property
    def empty(self) -> bool:
        return not (self.freed or self.shares or self.ready)


async def settle(account_id: int, *, occasion: Occasion, means: Means) -> Settled:
    """Settle what is open of an account: the purses pay in the published order, cards what is overdue after that.

    May be called at any time, by any number of processes, and again after a crash; never inside a transaction. Never
    raises for Stripe's sake: what it has not confirmed is finished by the sweep.
    """
    done = Settled()
    done.steps += await _spend(account_id, means, occasion.actor)
    if occasion.cards and means.ask_card is not None:
        done.outcomes = await _ask_cards(account_id, occasion, means, means.ask_card)
        if any(outcome.state is ChargeState.SUCCEEDED for outcome in done.outcomes):
            # What a card brought beyond the invoice is balance now, and set-aside money may be free.
            done.steps += await _spend(account_id, means, occasion.actor)
    return done


async def pay_from_purses(invoice_id: int, purses: Collection[Purse], *, actor: str, means: Means) -> int:
    """Spend these purses on one invoice before all others, because its customer asks; return how many steps it took.

    The customer may spend vouchers on what settling would not. Nothing happens for an invoice that is not open.
    """
    invoice = await Invoice.get(id=invoice_id)
    wish = Wish(invoice_id=invoice_id, purses=frozenset(purses))
    return await _spend(invoice.account_id, means, actor, wish)


async def _spend(account_id: int, means: Means, actor: str, wish: Wish | None = None) -> int:
    """Step by step until nothing is left to do; then tell Stripe, and look again at what it gave back."""
    steps = 0
    for _ in range(_TRIES):
        while steps < _MOST_STEPS and await _step(account_id, means, actor, wish):
            steps += 1
        if means.stripe is None or not await _tell_stripe(account_id, means, means.stripe):
            break
    return steps


async def _step(account_id: int, means: Means, actor: str, wish: Wish | None) -> bool:
    """Do the next thing that the facts call for, in one transaction; false when there is none."""
    if (await _plan(account_id, means, wish)).empty:
        return False
    for attempt in range(_TRIES):
        try:
            async with in_transaction():
                await invoice_parts.hold(account_id)
                plan = await _plan(account_id, means, wish)
                await _carry_out(plan, actor=actor, now=means.clock.now())
                return not plan.empty
        except (ChangedMeanwhileError, InsufficientFundsError):
            if attempt == _TRIES - 1:
                raise
    return False


async def _carry_out(plan: _Plan, *, actor: str, now: datetime) -> None:
    if plan.freed:
        why = "the invoice takes nothing any more"
        await reservations.free(plan.freed[0], actor=actor, now=now, why=why)
    elif plan.shares:
        share = plan.shares[0]
        invoice = plan.invoices[share.invoice_id]
        if share.use is Use.SET_ASIDE or invoice.origin is InvoiceOrigin.STRIPE:
            await reservations.reserve(invoice, share, actor=actor, now=now)
        else:
            await _pay_part(invoice, share, actor=actor, now=now)
    elif plan.ready:
        await _pay_whole(plan.ready[0], plan.invoices, actor=actor, now=now)


async def _pay_part(invoice: Invoice, share: Share, *, actor: str, now: datetime) -> None:
    """One purse, one part, of an invoice of ours. The part before it is in its name: it cannot be paid twice."""
    name = f"{invoice.id}:{share.purse.value}:{await InvoicePart.filter(invoice_id=invoice.id).count()}"
    booked = await ledger.book(
        TransactionKind.INVOICE_PAID,
        invoice.account_id,
        [Move(debit=LedgerKind(share.purse.value), credit=LedgerKind.INVOICES_PAID, amount=share.amount)],
        fact=("invoice_part", name),
        at=now,
        actor=actor,
        description=f"invoice {invoice.number or invoice.id}",
        invoice_id=invoice.id,
    )
    if booked is None:
        raise ChangedMeanwhileError(f"part {name} was paid meanwhile")
    part = Part(
        source=PartSource(share.purse.value), source_id=name, amount=share.amount, transaction_id=booked.id
    )
    await invoice_parts.pay(invoice, part, actor=actor, now=now)


async def _pay_whole(
    rows: Sequence[Reservation], invoices: Mapping[int, Invoice], *, actor: str, now: datetime
) -> None:
    """Spend what was set aside for an invoice; for one of Stripe it is sent on its way."""
    invoice = invoices[rows[0].invoice_id]
    for row in rows:
        if invoice.origin is InvoiceOrigin.STRIPE:
            await reservations.send(row, actor=actor, now=now)
            continue
        used = min(row.amount, invoice.amount_due)
        if not await reservations.pay(row, invoice, used, actor=actor, now=now):
            raise ChangedMeanwhileError(f"reservation {row.id} was ended meanwhile")
        invoice = await Invoice.get(id=invoice.id)


async def _plan(account_id: int, means: Means, wish: Wish | None) -> _Plan:
    account = await Account.get(id=account_id)
    rows = await reservations.open_of(account_id)
    invoices = await _payable_invoices(account, means)
    payables = [payable(invoice, rows, account.policy, means) for invoice in invoices.values()]
    held = (await ledger.purses([account_id]))[account_id]
    purses = Purses(voucher=held.voucher, balance=held.balance)
    if wish is not None:
        payables = [replace(one, takes_vouchers=True) for one in payables if one.id == wish.invoice_id]
        purses = Purses(
            voucher=purses.voucher if Purse.VOUCHER in wish.purses else 0,
            balance=purses.balance if Purse.BALANCE in wish.purses else 0,
        )
    found = settlement(payables, purses)
    aside = [row for row in rows if row.set_aside]
    return _Plan(
        freed=tuple(row for row in aside if row.invoice_id not in invoices),
        shares=tuple(share for share in found.shares if not reservations.blocked(share, rows)),
        ready=tuple(
            of_invoice
            for ident in found.ready
            if (of_invoice := tuple(row for row in aside if row.invoice_id == ident))
        ),
        invoices=invoices,
        uncovered=found.uncovered,
    )


async def _payable_invoices(account: Account, means: Means) -> dict[int, Invoice]:
    rows = Invoice.filter(
        account_id=account.id, status=InvoiceStatus.OPEN, amount_due__gt=0, currency=account.currency
    )
    if means.stripe is None:
        rows = rows.exclude(origin=InvoiceOrigin.STRIPE)
    return {invoice.id: invoice for invoice in await rows.order_by("id")}


class Owed(Protocol):
    """An open invoice, however it was read."""

    @property
    def id(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def due_on(self) -> date | None: ...
    @property
    def amount_due(self) -> int: ...
    @property
    def origin(self) -> InvoiceOrigin: ...


class Put(Protocol):
    """An open reservation, however it was read."""

    @property
    def invoice_id(self) -> int: ...
    @property
    def amount(self) -> int: ...
    @property
    def set_aside(self) -> bool: ...


def payable(invoice: Owed, rows: Sequence[Put], policy_name: str, means: Means) -> Payable:
    """Return an open invoice as settling sees it; `rows` and the policy are those of its account."""
    mine = [row for row in rows if row.invoice_id == invoice.id]
    policy = means.policies.get(policy_name) or means.policies["standard"]
    by_records = means.stripe is not None and means.stripe.payment_records
    return Payable(
        id=invoice.id,
        total=invoice.total,
        due_on=invoice.due_on,
        amount_due=invoice.amount_due,
        reserved=sum(row.amount for row in mine if not row.set_aside),
        set_aside=sum(row.amount for row in mine if row.set_aside),
        takes_parts=policy.billing.partial_from_purses
        and (by_records or invoice.origin is not InvoiceOrigin.STRIPE),
        takes_vouchers=invoice.origin is not InvoiceOrigin.ADJUSTMENT,
    )


async def _tell_stripe(account_id: int, means: Means, stripe: SettleGateway) -> bool:
    """Bring what is reserved to Stripe; return whether money came back that could go elsewhere."""
    waiting = Reservation.filter(account_id=account_id, state=ReservationState.RESERVED, set_aside=False)
    came_back = False
    for (invoice_id,) in await waiting.order_by("invoice_id").distinct().values_list("invoice_id"):
        came_back |= await finish_invoice(invoice_id, stripe, means.clock)
    return came_back


async def _ask_cards(account_id: int, occasion: Occasion, means: Means, ask: AskCard) -> tuple[Outcome, ...]:
    """Ask for each overdue invoice one card after the other, until one pays or may still pay."""
    now = means.clock.now()
    account = await Account.get(id=account_id)
    saved = await cards.in_order(account_id, now=now)
    if not saved:
        return ()
    invoices = await _payable_invoices(account, means)
    rows = await reservations.open_of(account_id)
    outcomes: list[Outcome] = []
    for one in in_order(payable(invoice, rows, account.policy, means) for invoice in invoices.values()):
        overdue_at = invoices[one.id].overdue_at
        if overdue_at is None or overdue_at > now or one.reserved:
            continue
        name = occasion.fact or scheduled(overdue_at, now)
        if name is None:
            continue
        for card in saved:
            wanted = InvoiceCharge(
                invoice_id=one.id,
                card_id=card.id,
                amount=_amount(invoices[one.id]),
                occasion=name,
                actor=occasion.actor,
            )
            outcome = await ask(wanted)
            outcomes.append(outcome)
            if not _next_card(outcome):
                break
    return tuple(outcomes)


def _amount(invoice: Invoice) -> int:
    """Return what a card is asked for: all that Stripe takes at once; of Stripe's own invoice always all of it."""
    due: int = invoice.amount_due
    return due if invoice.origin is InvoiceOrigin.STRIPE else chargeable(due, invoice.currency) or due


def _next_card(outcome: Outcome) -> bool:
    """Whether another card may be asked: this one was refused, or may not be asked now."""
    if outcome.not_asked is not None:
        return outcome.not_asked not in {NotAsked.IN_FLIGHT, NotAsked.NOT_OPEN, NotAsked.STRIPE_COLLECTS}
    return outcome.state in {ChargeState.FAILED, ChargeState.ABANDONED}
