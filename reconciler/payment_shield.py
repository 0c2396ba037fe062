"""How unfinished payments keep their account from being restricted, and for how long at most.

A payment that its customer began shields the whole account; an action that a charge of ours asks the customer for
shields the invoice of that charge alone, for a day. Both together do for 72 hours of an episode during which nothing
else held it back. The only writer of the shielded time of episodes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from billing import charge_rows
from billing.charge_rows import Unfinished
from billing.models import Episode
from billing.money_models import ChargeState
from billing.rules import ladder
from billing.rules.facts import AccountFacts
from billing.stripe.inbox import SHIELDING
from reconciler.chunks import chunks
from reconciler.rules.plan import Plan
from reconciler.subjects import Subject

LONGEST = timedelta(hours=72)
"""For how long of one episode unfinished payments may, alone, hold back what is due: cards that want their bank, saved
and removed in turn, would else do it for ever."""

OWN = "CUSTOMER_PAYING"
ASKED = "ACTION_REQUIRED"

Reason = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Shield:
    """What unfinished payments keep from one account."""

    #: Whether a payment that the customer began shields it as a whole.
    own: bool = False
    #: Invoices that a charge of ours waits for the customer's word about.
    invoice_ids: frozenset[int] = frozenset()

    def of(self, overdue: Iterable[int]) -> Reason | None:
        """Return why nothing more is taken from an account that owes these invoices; null when nothing shields it."""
        owed = frozenset(overdue)
        if self.own:
            return OWN, "the customer has begun a payment that has not ended yet"
        return _asked() if owed and owed <= self.invoice_ids else None

    def of_climb(self, subject: Subject, now: datetime) -> Reason | None:
        """Return why a subject does not climb: without what is shielded, its debt supports no such stage."""
        facts, stage = subject.facts, subject.eligibility.stage
        if self.own or not self.invoice_ids or not isinstance(facts, AccountFacts):
            return self.of(())
        rest = replace(facts, invoices=tuple(one for one in facts.invoices if one.id not in self.invoice_ids))
        without = ladder.eligible(rest, subject.policy, now).stage
        return _asked() if without.rank < stage.rank else None


NONE = Shield()


async def read(account_ids: Iterable[int], now: datetime) -> Mapping[int, Shield]:
    """Return what shields these accounts now; one that nothing shields is left out."""
    found: dict[int, Shield] = {}
    for ids in chunks(account_ids):
        unfinished = await charge_rows.unfinished(ids)
        begun = {
            ident: Shield(own=any(_is_own(row, now) for row in rows), invoice_ids=_asked_about(rows, now))
            for ident, rows in unfinished.items()
        }
        shielded = [ident for ident, shield in begun.items() if shield != NONE]
        found |= {ident: begun[ident] for ident in await _with_time_left(shielded, now)}
    return found


async def note(plan: Plan, now: datetime) -> None:
    """Count, after the guard, the time in which unfinished payments alone hold something back."""
    held = {step.account_id for step in plan.steps if step.held_back_by in {OWN, ASKED}}
    for row in await Episode.filter(shielded_since__isnull=False):
        if row.account_id not in held or row.ended_at is not None:
            used = row.shielded_for + _seconds(row, now)
            still = Episode.filter(id=row.id, shielded_since=row.shielded_since)
            await still.update(shielded_for=used, shielded_since=None)
    for ids in chunks(held):
        begins = Episode.filter(account_id__in=ids, ended_at=None, shielded_since=None)
        await begins.update(shielded_since=now)


async def _with_time_left(account_ids: Sequence[int], now: datetime) -> set[int]:
    """Those who have not used up their hours in the account's own episode; without one, in those of single servers."""
    used: dict[int, int] = {}
    own: dict[int, int] = {}
    for row in await Episode.filter(account_id__in=account_ids, ended_at=None):
        seconds = row.shielded_for + _seconds(row, now)
        used[row.account_id] = min(seconds, used.get(row.account_id, seconds))
        if row.server_id is None:
            own[row.account_id] = seconds
    used |= own
    return {ident for ident in account_ids if used.get(ident, 0) < LONGEST.total_seconds()}


def _seconds(row: Episode, now: datetime) -> int:
    return int((now - row.shielded_since).total_seconds()) if row.shielded_since else 0


def _is_own(row: Unfinished, now: datetime) -> bool:
    return row.on_session and row.since > now - LONGEST


def _asked_about(rows: Iterable[Unfinished], now: datetime) -> frozenset[int]:
    return frozenset(
        row.invoice_id
        for row in rows
        if row.invoice_id is not None
        and not row.on_session
        and row.state is ChargeState.REQUIRES_ACTION
        and row.since > now - SHIELDING
    )


def _asked() -> Reason:
    return ASKED, "the customer's bank wants a word on a charge of ours for what is overdue"
