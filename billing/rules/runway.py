"""How long money lasts for servers as they run now, and what follows on the ladder when it does not.

Pure. Owns what usage will have cost by an instant, month by month and rounded exactly as its invoices will be. Where
the money comes from is `billing.rules.funds`' part.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from billing.rules.due import overdue_at
from billing.rules.metering import HOURS_OF_A_MONTH, Span, amount_of, lines_of
from billing.rules.months import due_day, end_of, following
from billing.rules.policy import Policy
from billing.rules.terms import Effect, Stage

#: The coming month: as long as the month that a price per month stands for.
COMING_MONTH = timedelta(hours=HOURS_OF_A_MONTH)
#: Nobody looks further ahead than this.
HORIZON = timedelta(days=3650)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class OpenUsage:
    """The usage of one account that is not invoiced yet, which goes on as long as its spans have no end."""

    #: Everything before this instant is invoiced.
    invoiced_until: datetime
    #: The first day of the local month that is invoiced next, and the zone whose months are invoiced.
    month: date
    zone: str
    spans: tuple[Span, ...] = ()

    @property
    def running(self) -> tuple[Span, ...]:
        """The spans that go on."""
        return tuple(span for span in self.spans if span.ended_at is None)


@dataclass(frozen=True, kw_only=True)
class LastsUntil:
    """The last instant, in whole seconds of a month, until which money pays for everything."""

    at: datetime
    #: The end of the month whose invoice is the first that is not paid in full.
    month_ends_at: datetime


@dataclass(frozen=True, kw_only=True)
class Consequences:
    """What happens, at the earliest, when an invoice stays unpaid; null where the policy has no such stage."""

    overdue_at: datetime
    stopped_at: datetime | None
    #: From when on staff may look at whether the servers can be kept.
    reviewed_at: datetime | None


def cost_until(usage: OpenUsage, until: datetime) -> int:
    """Return what the usage that is not invoiced yet comes to by an instant, in minor units, if nothing changes."""
    cost = 0
    for since, end in _months(usage):
        cost += _cost(usage.spans, since, min(end, until))
        if end >= until:
            break
    return cost


def lasts_until(usage: OpenUsage, money: int, *, now: datetime) -> LastsUntil | None:
    """Return until when so much money, in minor units, pays for the servers as they run now; null when none runs.

    In the past when the money is used up already: no money lasts until the first usage that costs anything. Nothing
    beyond `HORIZON` after `now` is looked at.
    """
    running = Counter(span.rate for span in usage.running if span.rate)
    if not running:
        return None
    left = max(money, 0)
    settled_from = max(edge for span in usage.spans for edge in (span.started_at, span.ended_at) if edge)
    for since, end in _months(usage):
        if since >= settled_from:
            # Only what goes on, for the whole of it: the same lines as `lines_of` would give, counted by their rate.
            seconds = (end - since) // _SECOND
            cost = sum(count * amount_of(seconds, rate) for rate, count in running.items())
        else:
            cost = _cost(usage.spans, since, end)
        if cost > left:
            return LastsUntil(at=_last_paid(usage.spans, since, end, left), month_ends_at=end)
        left -= cost
        if end > now + HORIZON:
            return LastsUntil(at=now + HORIZON, month_ends_at=end)
    return None


def after_month(month_ends_at: datetime, policy: Policy, *, zone: str, now: datetime) -> Consequences:
    """Return what follows when the invoice of a month stays unpaid; it is issued when the month has ended."""
    due_on = due_day(max(month_ends_at, now), policy.billing.payment_term, zone)
    overdue = overdue_at(due_on=due_on, zone=zone)
    if overdue is None:
        raise ValueError("an invoice with a due day is overdue some day")
    return consequences(overdue, policy)


def consequences(overdue: datetime, policy: Policy) -> Consequences:
    """Return what follows, at the earliest, from a debt beyond the tolerance that begins at an instant."""
    stopping = next((rung.stage for rung in policy.stages if Effect.STOP_SERVERS in rung.effects), None)
    reviewing = next((rung.stage for rung in policy.stages if rung.stage is Stage.DECOMMISSION_REVIEW), None)
    return Consequences(
        overdue_at=overdue,
        stopped_at=overdue + policy.earliest(stopping) if stopping else None,
        reviewed_at=overdue + policy.earliest(reviewing) if reviewing else None,
    )


def _months(usage: OpenUsage) -> Iterator[tuple[datetime, datetime]]:
    """Yield the spans that are invoiced one by one, from the one that is next."""
    since, month = usage.invoiced_until, usage.month
    while True:
        end = end_of(month, usage.zone)
        if end > since:
            yield since, end
            since = end
        month = following(month)


def _cost(spans: tuple[Span, ...], since: datetime, until: datetime) -> int:
    return sum(line.amount for line in lines_of(spans, since, until))


def _last_paid(spans: tuple[Span, ...], since: datetime, end: datetime, money: int) -> datetime:
    """Return the last second of a month up to which money pays for it; it does not pay for all of it."""
    paid, unpaid = 0, -((since - end) // _SECOND)
    while unpaid - paid > 1:
        middle = (paid + unpaid) // 2
        if _cost(spans, since, since + middle * _SECOND) <= money:
            paid = middle
        else:
            unpaid = middle
    return since + paid * _SECOND
