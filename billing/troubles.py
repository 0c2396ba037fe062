"""Troubles with money that show only when one looks: what hangs, cards that are refused for good, purses about to end.

Owns when each needs a person, and that its work item opens and closes with it. Set-based: a fixed number of statements
per few thousand accounts. Changes nothing but the work queue.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tortoise.expressions import Subquery

from billing import cards, funds, work_queue
from billing.models import Invoice
from billing.money_models import Card, Charge, ChargeState, Reservation, UsageInterval
from billing.pages import pages
from billing.reservations import OPEN
from billing.rules import funds as rules
from billing.rules.terms import InvoiceStatus
from billing.settling import Means
from billing.work_queue import Trouble

ACTOR = "system:troubles"
#: Purse money on its way to an invoice hangs when nothing of it moved for so long.
MONEY_HANGS = timedelta(hours=1)
#: A charge hangs when Stripe has not told its end for so long; what waits for the customer never does.
CHARGE_HANGS = timedelta(hours=24)
#: How long before purses are used up staff hear of it.
RUNWAY = timedelta(days=3)

RESERVATION = "settling.stuck"
CHARGE = "charge_stuck"
DECLINED = "cards_declined"
SHORT = "runway_short"


async def look(means: Means, *, now: datetime) -> None:
    """Open the work items of what is in trouble now, and close those of what is not any more.

    An item that a person closed stays closed for the same thing: a new charge, or another month, is another thing.
    """
    for kind, found in (
        (RESERVATION, await _reservations(now)),
        (CHARGE, await _charges(now)),
        (DECLINED, await _declined(now)),
        (SHORT, await _short(means, now)),
    ):
        await work_queue.follow(kind, found, at=now, by=ACTOR)


async def _reservations(now: datetime) -> list[Trouble]:
    rows = Reservation.filter(state__in=OPEN, set_aside=False, updated_at__lte=now - MONEY_HANGS)
    return [
        Trouble(
            key=str(row.id),
            title="Purse money is on its way to an invoice of Stripe and does not arrive",
            detail=f"Reservation {row.id} for invoice {row.invoice_id}: {row.detail.get('waiting', 'no answer yet')}. "
            "It is tried on; the money is neither lost nor spent twice.",
            account_id=row.account_id,
        )
        for row in await rows.order_by("id")
    ]


async def _charges(now: datetime) -> list[Trouble]:
    hanging = (ChargeState.INTENDED, ChargeState.PROCESSING)
    rows = Charge.filter(state__in=hanging, updated_at__lte=now - CHARGE_HANGS)
    return [
        Trouble(
            key=str(row.id),
            title="A payment by card has no end",
            detail=f"Charge {row.id} is {row.state.lower()} since {row.updated_at:%Y-%m-%d %H:%M} UTC; look it up "
            f"at Stripe under {row.stripe_payment_intent_id or row.idempotency_key}.",
            account_id=row.account_id,
        )
        for row in await rows.order_by("id")
    ]


@dataclass(frozen=True, kw_only=True)
class _Refusal:
    """The last refusal for good of a card as it is now, for an invoice that is still overdue."""

    charge_id: int
    code: str | None


async def _declined(now: datetime) -> list[Trouble]:
    """Accounts that owe and all of whose cards were refused for good: no schedule helps them any more."""
    owed = Invoice.filter(status=InvoiceStatus.OPEN, amount_due__gt=0, overdue_at__lte=now).values("id")
    refused: dict[tuple[int, int], _Refusal] = {}
    accounts: set[int] = set()
    for row in await Charge.filter(
        state=ChargeState.FAILED, hard_decline=True, invoice_id__in=Subquery(owed)
    ).order_by("id"):
        refused[row.card_id, row.card_version] = _Refusal(charge_id=row.id, code=row.decline_code)
        accounts.add(row.account_id)
    found = []
    for account_id, own in (await _cards(accounts)).items():
        last = [refused.get((card.id, card.version)) for card in own]
        if own and all(last):
            newest = max((one for one in last if one), key=lambda one: one.charge_id)
            found.append(
                Trouble(
                    key=f"{account_id}:{newest.charge_id}",
                    title="Every card of an account that owes is refused for good",
                    detail=f"The last answer was {newest.code or 'a refusal'}. Only another card or another way to "
                    "pay helps; the ladder goes on meanwhile.",
                    account_id=account_id,
                )
            )
    return found


async def _cards(account_ids: Iterable[int]) -> Mapping[int, list[Card]]:
    found: dict[int, list[Card]] = {}
    for ids in pages(account_ids):
        for card in await Card.filter(account_id__in=ids, removed_at=None).order_by("id"):
            found.setdefault(card.account_id, []).append(card)
    return found


async def _short(means: Means, now: datetime) -> list[Trouble]:
    """Accounts that run on their purses alone, and whose purses will be empty in a few days."""
    running = await UsageInterval.filter(ended_at=None, rate__gt=0).distinct().values_list("account_id")
    found = []
    for ids in pages(account_id for (account_id,) in running):
        without = set(ids) - await cards.with_usable(ids, now=now)
        for account_id, own in (await funds.of_accounts(without, means, now=now)).items():
            until = rules.runway(own, now)
            if until is not None and until <= now + RUNWAY:
                found.append(
                    Trouble(
                        key=f"{account_id}:{until:%Y-%m}",
                        title="The money of an account with running servers ends",
                        detail=f"It lasts until {until:%Y-%m-%d %H:%M} UTC, and no card is there.",
                        account_id=account_id,
                    )
                )
    return found
