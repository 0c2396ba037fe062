"""Whether the facts about an account are fresh enough to restrict it, as the database tells it.

Reads only; asking Stripe again is the caller's work. A missing fact is never evidence against a customer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from billing import charge_rows
from billing.charge_rows import Unfinished
from billing.models import Account, Invoice, StripeMirror
from billing.money_models import ChargeState, Reservation
from billing.reservations import OPEN
from billing.rules.terms import InvoiceStatus
from billing.settling_sweep import attempts_due
from billing.stripe import inbox
from reconciler.chunks import chunks

#: With Stripe on, nothing is restricted without a full sweep in this time.
SWEEP_MAX_AGE = timedelta(minutes=60)
#: How long the ladder waits for a card that is to be charged by now: longer than any turn of settling takes.
CARD_DUE_FOR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """What freshness is judged by. `stripe` tells whether Stripe is switched on at all."""

    stripe: bool
    facts_max_age: timedelta

    async def stale(self, account_ids: Iterable[int], now: datetime) -> Mapping[int, tuple[str, str]]:
        """Return the accounts whose facts are too old or in motion, each with a stable code and a sentence."""
        ids = sorted(set(account_ids))
        if not self.stripe or not ids:
            return {}
        problem = await of_everybody(now)
        if problem is not None:
            return dict.fromkeys(ids, problem)
        found = {}
        for some in chunks(ids):
            moving = await inbox.pending_for_accounts(some, now=now)
            oldest = await _oldest_mirror(some)
            money = await _money_in_motion(some, now)
            for account in await Account.filter(id__in=some, stripe_customer_id__isnull=False):
                reason = self._judge(account, moving, oldest.get(account.id), now) or money.get(account.id)
                if reason is not None:
                    found[account.id] = reason
        return found

    def _judge(
        self,
        account: Account,
        moving: Mapping[int, inbox.Pending],
        oldest_invoice: datetime | None,
        now: datetime,
    ) -> tuple[str, str] | None:
        pending = moving.get(account.id)
        if pending is not None:
            return (
                "EVENTS_PENDING",
                f"{pending.waiting} Stripe events of the account wait and {pending.dead} were given up",
            )
        instants = (account.stripe_fetched_at, oldest_invoice)
        if any(instant is None or now - instant > self.facts_max_age for instant in instants):
            return "FACTS_STALE", f"not read again from Stripe within {self.facts_max_age}"
        return None


async def of_everybody(now: datetime) -> tuple[str, str] | None:
    """Return why what is known of Stripe restricts nobody at all, as a stable code and a sentence; null: nothing."""
    return await _mirror_problem(now) or await _unattributed(now)


async def _mirror_problem(now: datetime) -> tuple[str, str] | None:
    mirror = await StripeMirror.get_or_none(id=1)
    if mirror is None or mirror.last_full_sweep_at is None:
        return "SWEEP_STALE", "Stripe has not been read as a whole yet"
    if mirror.problem:
        return "STRIPE_PROBLEM", mirror.problem
    if now - mirror.last_full_sweep_at > SWEEP_MAX_AGE:
        return (
            "SWEEP_STALE",
            f"Stripe was last read as a whole at {mirror.last_full_sweep_at:%Y-%m-%d %H:%M:%S} UTC",
        )
    return None


async def _unattributed(now: datetime) -> tuple[str, str] | None:
    """A dispute names no customer until it was looked up once: until then it could be anybody's."""
    waiting = await inbox.unattributed(now=now)
    return (
        ("EVENTS_PENDING", f"{waiting} Stripe events wait to be looked up; they could be of any account")
        if waiting
        else None
    )


async def _money_in_motion(ids: Sequence[int], now: datetime) -> Mapping[int, tuple[str, str]]:
    """Return the accounts for which something of ours may still pay: a card to be charged, a charge, a purse's money.

    What a customer began is for `reconciler.payment_shield`.
    """
    due = await attempts_due(now, ids)
    found = {
        ident: ("CARD_DUE", "a saved card is about to be charged for what is overdue")
        for ident, since in due.items()
        if since > now - CARD_DUE_FOR
    }
    sent = Reservation.filter(
        account_id__in=ids, state__in=OPEN, set_aside=False, updated_at__gt=now - inbox.SHIELDING
    )
    for (ident,) in await sent.distinct().values_list("account_id"):
        found[ident] = ("PAYMENT_PENDING", "purse money is on its way to an invoice")
    for ident, rows in (await charge_rows.unfinished(ids)).items():
        if any(_in_flight(row) and row.since > now - inbox.SHIELDING for row in rows):
            found[ident] = ("PAYMENT_PENDING", "the end of a charge of a saved card is not known yet")
    return found


def _in_flight(row: Unfinished) -> bool:
    return not row.on_session and row.state is not ChargeState.REQUIRES_ACTION


async def _oldest_mirror(ids: Sequence[int]) -> Mapping[int, datetime | None]:
    """Return when the longest unread overdue Stripe invoice of each account was read; the far future without any."""
    rows = Invoice.filter(
        account_id__in=ids,
        status=InvoiceStatus.OPEN,
        stripe_invoice_id__isnull=False,
        overdue_seen_at__isnull=False,
    )
    oldest: dict[int, datetime | None] = {}
    far = datetime.max.replace(tzinfo=UTC)
    for account_id, fetched_at in await rows.values_list("account_id", "fetched_at"):
        known = oldest.get(account_id, far)
        oldest[account_id] = None if known is None or fetched_at is None else min(known, fetched_at)
    return {account_id: oldest.get(account_id, far) for account_id in ids}
