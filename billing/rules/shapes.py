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
from billing.rules.policy import Policy
from billing.rules.shadow import Facts

#: Where the time of every shape begins: the first instant that the subject is in trouble for.
ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)


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
    plain = replace(
        one,
        id=name,
        overdue_at=_sooner(one.overdue_at, later),
        counts_from=_sooner(one.counts_from, later),
    )
    return replace(plain, amount_due=amount, amount_paid=0) if amount is not None else plain


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
    return replace(
        notice,
        sent_at=notice.sent_at - later,
        delivered_at=_sooner(notice.delivered_at, later),
        invoice_ids=invoices,
        server_ids=servers,
    )


def _sooner(at: datetime | None, later: timedelta) -> datetime | None:
    return None if at is None else at - later
