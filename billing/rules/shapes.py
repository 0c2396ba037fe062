"""Facts without what no stage depends on: whose they are, how much exactly, and the date on the calendar.

Pure. Most accounts that owe are in the same situation at different times; told in one shape, what becomes of them is
found out once. The ladder and the notices know lengths of time and the order of instants, and nothing of calendars.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from billing.rules.facts import (
    AccountFacts,
    CoverageFacts,
    EpisodeFact,
    InvoiceFact,
    NoticeFact,
    OverrideFact,
)
from billing.rules.ladder import Debt, debt
from billing.rules.policy import Policy
from billing.rules.shadow import Facts

#: Where the time of every shape begins: the first instant that the subject is in trouble for.
ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)


def timeless(facts: Facts, policy: Policy, now: datetime) -> tuple[Facts, bool]:
    """Return facts that say the same of every instant from `now` on if nothing gets paid, without what is over.

    The second value tells whether all its warnings are over: delivered, and stood for long enough.
    How many seconds a pass or a mail took on the way to where an account stands makes a situation of its own out of
    each account, and decides nothing any more once its stage is reached and its warning stood for long enough.
    """
    if not isinstance(facts, AccountFacts) or facts.overrides or facts.disputes or facts.free_plan:
        return facts, False
    owed = debt(facts, now)
    if owed is None or any(one.disputed_amount for one in facts.invoices):
        return facts, False
    ordered = sorted(facts.invoices, key=_counting_order)
    names = {one.id: place for place, one in enumerate(ordered, start=1)}
    invoices = tuple(
        _renamed(one, names[one.id], owed.age_from if _counts(one, now) else None) for one in ordered
    )
    told = _told_for_good(facts, policy, owed, now)
    if told is None:
        notices = tuple(
            replace(one, invoice_ids=frozenset(names[i] for i in one.invoice_ids if i in names))
            for one in facts.notices
        )
        return replace(facts, invoices=invoices, notices=notices), False
    episode = replace(told[0], started_at=owed.age_from, admitted_at=owed.age_from, fell_silently=False)
    named = frozenset(names[one] for one in told[1].invoice_ids if one in names)
    warning = replace(told[1], invoice_ids=named)
    return replace(
        facts, invoices=invoices, episode=episode, notices=(warning,), notices_void_before=None
    ), True


def _renamed(one: InvoiceFact, name: int, counts_from: datetime | None) -> InvoiceFact:
    return InvoiceFact(
        id=name,
        currency=one.currency,
        amount_due=one.amount_due,
        amount_paid=one.amount_paid,
        overdue_at=counts_from or one.overdue_at,
        counts_from=counts_from or one.counts_from,
    )


def _counting_order(one: InvoiceFact) -> tuple[bool, datetime, datetime, int]:
    """Return the order in which the ladder looks for the anchor; it stays the order of the names."""
    overdue = one.overdue_at or datetime.max.replace(tzinfo=UTC)
    return one.counts_from is None, max(overdue, one.counts_from or overdue), overdue, one.id


def _counts(one: InvoiceFact, now: datetime) -> bool:
    return (
        one.overdue_at is not None
        and one.counts_from is not None
        and max(one.overdue_at, one.counts_from) <= now
    )


def _told_for_good(
    facts: AccountFacts, policy: Policy, owed: Debt, now: datetime
) -> tuple[EpisodeFact, NoticeFact] | None:
    """Return the episode and the one notice that stands for all, where the moments of neither matter any more.

    The stage is reached by its age for good; all that was sent has arrived and belongs to this stage or a milder one;
    the stage's own notice names the anchor, and no wait that began with its delivery outlasts the age.
    """
    episode = facts.episode
    rung = policy.at(episode.admitted) if episode else None
    if episode is None or rung is None or rung.stage is not episode.admitted or not facts.has_address:
        return None
    if now - owed.age_from < rung.after:
        return None
    if facts.notices_void_before is not None and facts.notices_void_before > episode.started_at:
        return None
    sent = [one for one in facts.notices if one.sent_at >= episode.started_at]
    if any(not _arrived(one, now) or one.stage is None or one.stage.rank > rung.stage.rank for one in sent):
        return None
    own = [one for one in sent if one.stage is rung.stage and owed.anchor_id in one.invoice_ids]
    arrived = [one.delivered_at for one in own if one.delivered_at is not None]
    following = policy.above(rung.stage)
    if not own:
        return None
    if following and max(owed.age_from, *arrived) + following.min_notice > owed.age_from + following.after:
        return None
    named = frozenset[int]().union(*(one.invoice_ids for one in own))
    return episode, NoticeFact(
        stage=rung.stage, template="", sent_at=owed.age_from, delivered_at=owed.age_from, invoice_ids=named
    )


def _arrived(one: NoticeFact, now: datetime) -> bool:
    return one.delivered_at is not None and one.delivered_at <= now and not one.failed


def shape(facts: Facts, policy: Policy) -> tuple[Facts, timedelta]:
    """Return equal facts for equal situations, and how much later than `ORIGIN` the real ones begin."""
    if isinstance(facts, CoverageFacts):
        later = facts.ended_at - ORIGIN
        return _of_coverage(facts, later), later
    begins = min((one.overdue_at for one in facts.invoices if one.overdue_at), default=ORIGIN)
    later = begins - ORIGIN
    return _of_account(facts, policy, later), later


def _of_account(facts: AccountFacts, policy: Policy, later: timedelta) -> AccountFacts:
    # The order of the ids decides between equals, so that the names keep it.
    names = {
        one.id: place for place, one in enumerate(sorted(facts.invoices, key=lambda one: one.id), start=1)
    }
    amount = _plain_amount(facts, policy)
    return replace(
        facts,
        account_id=0,
        invoices=tuple(_invoice(one, names[one.id], amount, later) for one in facts.invoices),
        overrides=_overrides(facts, later),
        episode=_episode(facts.episode, later),
        notices=tuple(
            _notice(
                notice,
                frozenset(names[one] for one in notice.invoice_ids if one in names),
                frozenset(),
                later,
            )
            for notice in facts.notices
        ),
        notices_void_before=_void_before(facts, later),
        disputes=tuple(
            replace(one, opened_at=one.opened_at - later, closed_at=_sooner(one.closed_at, later))
            for one in facts.disputes
        ),
    )


def _plain_amount(facts: AccountFacts, policy: Policy) -> int | None:
    """Return one amount that stands for each, where each exceeds the tolerance alone: the smallest that does."""
    tolerance = policy.tolerated(facts.currency)
    contested = any(one.disputed_amount for one in facts.invoices)
    alone = all(one.owed > tolerance for one in facts.invoices)
    return tolerance + 1 if alone and not contested else None


def _invoice(one: InvoiceFact, name: int, amount: int | None, later: timedelta) -> InvoiceFact:
    return InvoiceFact(
        id=name,
        currency=one.currency,
        amount_due=one.amount_due if amount is None else amount,
        amount_paid=one.amount_paid if amount is None else 0,
        disputed_amount=one.disputed_amount,
        overdue_at=_sooner(one.overdue_at, later),
        counts_from=_sooner(one.counts_from, later),
    )


def _of_coverage(facts: CoverageFacts, later: timedelta) -> CoverageFacts:
    return replace(
        facts,
        server_id=1,
        ended_at=facts.ended_at - later,
        seen_at=facts.seen_at - later,
        overrides=_overrides(facts, later),
        episode=_episode(facts.episode, later),
        notices=tuple(
            _notice(
                notice,
                frozenset(),
                frozenset({1}) if facts.server_id in notice.server_ids else frozenset(),
                later,
            )
            for notice in facts.notices
        ),
        notices_void_before=_void_before(facts, later),
    )


def _overrides(facts: Facts, later: timedelta) -> tuple[OverrideFact, ...]:
    own = facts.server_id if isinstance(facts, CoverageFacts) else None
    return tuple(
        replace(
            one,
            server_id=None if one.server_id is None else 1 if one.server_id == own else 2,
            placed_at=one.placed_at - later,
            expires_at=_sooner(one.expires_at, later),
            revoked_at=_sooner(one.revoked_at, later),
        )
        for one in facts.overrides
    )


def _void_before(facts: Facts, later: timedelta) -> datetime | None:
    """Return from when notices count, where that is within the episode; what was sent before it never counts."""
    if facts.episode is None or facts.notices_void_before is None:
        return None
    inside = facts.notices_void_before > facts.episode.started_at
    return facts.notices_void_before - later if inside else None


def _episode(episode: EpisodeFact | None, later: timedelta) -> EpisodeFact | None:
    if episode is None:
        return None
    return replace(episode, started_at=episode.started_at - later, admitted_at=episode.admitted_at - later)


def _notice(
    notice: NoticeFact, invoices: frozenset[int], servers: frozenset[int], later: timedelta
) -> NoticeFact:
    return NoticeFact(
        stage=notice.stage,
        template=notice.template,
        sent_at=notice.sent_at - later,
        delivered_at=_sooner(notice.delivered_at, later),
        failed=notice.failed,
        invoice_ids=invoices,
        server_ids=servers,
    )


def _sooner(at: datetime | None, later: timedelta) -> datetime | None:
    return None if at is None else at - later
