"""The sweep of settling: finds the accounts that something may be done for, whoever failed to settle them in time.

Owns which accounts those are, in a fixed number of statements, and that one of them keeps no other waiting; what is
done for each is `billing.settling`'s.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import structlog
from tortoise.functions import Max
from tortoise.models import Model
from tortoise.queryset import QuerySet

from billing.adjustments import issue_drafts
from billing.models import Invoice
from billing.money_models import Card, Charge, ChargeState, LedgerAccount, LedgerKind, Reservation
from billing.reservations import OPEN
from billing.rules.cards import due_attempt
from billing.rules.terms import InvoiceStatus
from billing.settling import Means, Occasion, Settled, settle
from billing.settling_stripe import finish_reservations

log = structlog.get_logger(__name__)

AT_ONCE = 5
"""Accounts settled side by side: most of the time of each is waiting for Stripe."""

_OUTAGE = 3
"""After so many accounts in a row whose card Stripe said nothing about, no card is asked in this turn."""

_CHUNK = 5_000

Row = TypeVar("Row", bound=Model)


async def settle_due(means: Means, *, account_ids: Collection[int] | None = None) -> int:
    """Finish what was left half way and settle whoever has money for what is open; return how many accounts.

    `account_ids` limits it to those that a fact was about; what was left half way is finished for everybody. Cards are
    asked by the schedule of each invoice, and once for each card that is new or has changed. An account that cannot be
    settled is logged and keeps no other waiting. Any number of processes may do this at once; never inside a
    transaction.
    """
    found = await issue_drafts(means.clock, means.policies)
    if means.stripe is not None:
        found |= await finish_reservations(means.stripe, means.clock)
    changed: Sequence[Card] = ()
    for some in _chunks(account_ids):
        found |= await _with_money(some) | await _with_money_aside(some)
        if means.ask_card is not None:
            found |= (await attempts_due(means.clock.now(), some)).keys()
            changed = [*changed, *await _changed_cards(some)]
    return await _Turn(means).settle(dict.fromkeys(found, ()) | _by_account(changed))


async def attempts_due(now: datetime, account_ids: Collection[int] | None = None) -> dict[int, datetime]:
    """Return since when each account with a card waits for the attempt that the schedule of an invoice has come to.

    Of several invoices the one that has waited for the shortest time counts. Invoices that Stripe is going to charge by
    itself are left out.
    """
    rows = await _of(
        Invoice.filter(
            status=InvoiceStatus.OPEN,
            amount_due__gt=0,
            overdue_at__lte=now,
            next_attempt_at__isnull=True,
            account__cards__removed_at__isnull=True,
            account__cards__id__isnull=False,
        ),
        account_ids,
    ).distinct().values_list("id", "account_id", "overdue_at")  # fmt: skip
    last = await _last_attempts([ident for ident, _, _ in rows], now)
    found: dict[int, datetime] = {}
    for ident, account_id, overdue_at in rows:
        since = due_attempt(overdue_at, last=last.get(ident), now=now)
        if since is not None:
            found[account_id] = max(since, found.get(account_id, since))
    return found


async def _last_attempts(invoice_ids: Collection[int], now: datetime) -> dict[int, datetime]:
    last: dict[int, datetime] = {}
    for some in _chunks(invoice_ids):
        asked = Charge.filter(invoice_id__in=some or (), created_at__lte=now).annotate(last=Max("created_at"))
        last |= dict(await asked.group_by("invoice_id").values_list("invoice_id", "last"))
    return last


@dataclass
class _Turn:
    """One turn over many accounts."""

    means: Means
    unanswered: int = 0

    async def settle(self, work: dict[int, tuple[Card, ...]]) -> int:
        """Settle each account: for each of its changed cards, or because time has passed."""
        turns = iter(sorted(work.items(), key=lambda item: item[0]))
        await asyncio.gather(*(self._take(turns) for _ in range(min(AT_ONCE, len(work)))))
        return len(work)

    async def _take(self, turns: Iterator[tuple[int, tuple[Card, ...]]]) -> None:
        for account_id, changed in turns:
            try:
                await self._settle_one(account_id, changed)
            except Exception:
                log.exception("account.money_not_settled", account_id=account_id)

    async def _settle_one(self, account_id: int, changed: Sequence[Card]) -> None:
        if not changed:
            self._heard(await settle(account_id, occasion=Occasion(), means=self._means()))
        for card in changed:
            means = self._means()
            fact = f"card:{card.id}:{card.version}"
            self._heard(await settle(account_id, occasion=Occasion(fact=fact), means=means))
            if means.ask_card is not None:
                await Card.filter(id=card.id, version=card.version).update(to_settle=False)

    def _means(self) -> Means:
        return replace(self.means, ask_card=None) if self.unanswered >= _OUTAGE else self.means

    def _heard(self, settled: Settled) -> None:
        if any(outcome.state is ChargeState.INTENDED for outcome in settled.outcomes):
            self.unanswered += 1
        elif any(outcome.charge is not None for outcome in settled.outcomes):
            self.unanswered = 0


async def _with_money(account_ids: Collection[int] | None) -> set[int]:
    """Accounts with something in a purse and something to pay."""
    rows = LedgerAccount.filter(
        kind__in=(LedgerKind.BALANCE, LedgerKind.VOUCHER),
        balance__gt=0,
        account__invoices__status=InvoiceStatus.OPEN,
        account__invoices__amount_due__gt=0,
    )
    return await _accounts(_of(rows, account_ids))


async def _with_money_aside(account_ids: Collection[int] | None) -> set[int]:
    """Accounts with money set aside: it may be all together, or free, or their invoice takes parts by now."""
    return await _accounts(_of(Reservation.filter(state__in=OPEN, set_aside=True), account_ids))


async def _changed_cards(account_ids: Collection[int] | None) -> Sequence[Card]:
    """Cards that are new or have changed since open invoices were last settled because of them."""
    rows = Card.filter(to_settle=True, removed_at__isnull=True)
    return await _of(rows, account_ids).order_by("id")


def _by_account(changed: Iterable[Card]) -> dict[int, tuple[Card, ...]]:
    found: dict[int, tuple[Card, ...]] = {}
    for card in changed:
        found[card.account_id] = (*found.get(card.account_id, ()), card)
    return found


def _of(rows: QuerySet[Row], account_ids: Collection[int] | None) -> QuerySet[Row]:
    return rows if account_ids is None else rows.filter(account_id__in=list(account_ids))


async def _accounts(rows: QuerySet[Row]) -> set[int]:
    return {int(account_id) for (account_id,) in await rows.distinct().values_list("account_id")}


def _chunks(ids: Collection[int] | None) -> Iterator[Collection[int] | None]:
    """All at once, or so many at a time as a statement can name."""
    if ids is None:
        yield None
        return
    every = sorted(set(ids))
    for start in range(0, len(every), _CHUNK):
        yield every[start : start + _CHUNK]
