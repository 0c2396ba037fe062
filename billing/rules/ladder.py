"""Where an account may stand: the stage that facts and time support, and why.

Pure. Owns eligibility, the debt and its anchor; admitting is the guard's work and telling anybody is the notices'.
A lower stage is written at once, so `admitted` falls with it: evaluate again after every admission and every fall.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from billing.rules.cards import chargeable
from billing.rules.climb import Climber, NextStage, course, next_climb
from billing.rules.disputes import shielded_until
from billing.rules.facts import AccountFacts, CoverageFacts, EpisodeFact, InvoiceFact, NoticeFact
from billing.rules.overrides import ends_at, strongest
from billing.rules.policy import Policy
from billing.rules.terms import OverrideKind, Stage
from billing.rules.words import Phrase, english, phrase

__all__ = [
    "REASONS",
    "Debt",
    "Eligibility",
    "NextStage",
    "debt",
    "eligible",
    "eligible_uncovered",
    "supported_since",
]


@dataclass(frozen=True, kw_only=True)
class Debt:
    """The overdue part of the open invoices."""

    amount: int
    currency: str
    #: The oldest overdue invoice by the moment it counts from.
    anchor_id: int
    anchor_overdue_at: datetime
    #: The moment that the anchor's age counts from within the episode.
    age_from: datetime
    invoice_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Eligibility:
    """The stage that facts and time support now."""

    stage: Stage
    reason_code: str
    because: Phrase
    debt: Debt | None
    #: Its `at` is past while the guard holds the climb back; that is never shown to a customer.
    next: NextStage | None
    #: The next instant at which any of this may be different without a new fact; null: never.
    next_change_at: datetime | None
    #: Whether the debt exceeds the tolerance, so that an episode runs.
    in_episode: bool

    @property
    def reason(self) -> str:
        """Why, in English."""
        return english(self.because)


#: Every `reason_code` with its words. Stable: programs branch on the code, people read the text.
REASONS = {
    "no_debt": phrase("Nothing is overdue."),
    "free_plan": phrase("The account is on a free plan."),
    "within_tolerance": phrase("What is overdue is within the tolerance of the policy."),
    "not_yet": phrase("Overdue since %(since)s; the policy waits before its first stage."),
    "overdue": phrase("Overdue since %(since)s."),
    "not_named": phrase("Overdue since %(since)s; no notice that names it has arrived yet."),
    "exempt": phrase("Staff exempted it until %(until)s."),
    "extended_grace": phrase("Overdue since %(since)s; more time to pay was given until %(until)s."),
    "frozen": phrase("Overdue since %(since)s; staff holds further steps back until %(until)s."),
    "suspend_now": phrase("Overdue since %(since)s; staff decided to suspend without waiting."),
    "covered": phrase("The server is covered."),
    "free_server": phrase("The server is free of charge."),
    "ends_ignored": phrase("The policy does nothing about ended subscriptions."),
}
#: The words where an override has no end.
_WITHOUT_END = {
    "exempt": phrase("Staff exempted it until further notice."),
    "extended_grace": phrase("Overdue since %(since)s; more time to pay was given until further notice."),
    "frozen": phrase("Overdue since %(since)s; staff holds further steps back until further notice."),
}

_OVERRIDE_OF_REASON = {
    "exempt": OverrideKind.EXEMPT,
    "extended_grace": OverrideKind.EXTEND_GRACE,
    "frozen": OverrideKind.FREEZE,
}


def debt(facts: AccountFacts, now: datetime) -> Debt | None:
    """Return the overdue part of the open invoices in the account's currency; null when nothing is overdue.

    What is disputed is left out, and so is an invoice of another currency: a contradiction restricts nobody. An invoice
    that nobody has recorded as overdue yet counts from now.
    """
    overdue = [invoice for invoice in _owed(facts) if _starts(invoice, now) <= now]
    if not overdue:
        return None
    # One that nobody recorded yet counts from now, so it comes after all that count already.
    anchor = min(
        overdue, key=lambda one: (one.counts_from is None, _starts(one, now), one.overdue_at, one.id)
    )
    counted_from = _starts(anchor, now)
    return Debt(
        amount=sum(invoice.owed for invoice in overdue),
        currency=facts.currency,
        anchor_id=anchor.id,
        anchor_overdue_at=anchor.overdue_at or counted_from,
        age_from=max(counted_from, _episode_start(facts.episode, now)),
        invoice_ids=tuple(sorted(invoice.id for invoice in overdue)),
    )


def eligible(facts: AccountFacts, policy: Policy, now: datetime) -> Eligibility:
    """Return the stage that facts and time support for the account at `now` (aware UTC), with its reason.

    Between `now` and `next_change_at` the stage, the debt and the reason stay as they are unless a fact is added. Mercy
    rests on one promise of the notices: each names every invoice that was overdue when it was sent.
    """
    at = _no_earlier(facts.episode, now)
    owed = debt(facts, at)
    starts = tuple(instant for invoice in _owed(facts) if (instant := _starts(invoice, at)) > at)
    wakes = min(starts, default=None)
    tolerance = policy.tolerated(facts.currency)
    if facts.free_plan:
        return _at_rest("free_plan", owed, wakes=wakes)
    if owed is None or owed.amount <= tolerance:
        code = "within_tolerance" if owed else "no_debt"
        return _at_rest(code, owed, following=_first_climb(facts, policy, now), wakes=wakes)
    way = course(_account_climber(facts, owed, tolerance, now), policy, now)
    return Eligibility(
        stage=way.stage,
        reason_code=way.reason_code,
        because=_words(way.reason_code, owed.anchor_overdue_at, facts, now),
        debt=owed,
        next=way.next,
        next_change_at=min((at for at in (wakes, way.next_change_at) if at), default=None),
        in_episode=True,
    )


def eligible_uncovered(facts: CoverageFacts, policy: Policy, now: datetime) -> Eligibility:
    """Return the stage that facts and time support for one server whose subscription ended; at most `RETAINED`.

    The end of the paid period is its `overdueAt`. Overrides of the server and of its account count; `SUSPEND_NOW` does
    not, since it is about the account's debt.
    """
    if facts.free:
        return _at_rest("free_server", None)
    if not policy.billing.subscription_end_climbs:
        return _at_rest("ends_ignored", None)
    if _no_earlier(facts.episode, now) < facts.ended_at:
        return _at_rest("covered", None, wakes=facts.ended_at)
    start = _episode_start(facts.episode, now)
    climber = Climber(
        age_from=max(facts.ended_at, facts.seen_at, start),
        episode_start=start,
        admitted=facts.episode.admitted if facts.episode else Stage.CURRENT,
        admitted_at=facts.episode.admitted_at if facts.episode else None,
        notices=_of_episode(
            facts.notices, facts.episode, lambda notice: facts.server_id in notice.server_ids
        ),
        notices_void_before=facts.notices_void_before,
        overrides=tuple(
            override
            for override in facts.overrides
            if override.server_id in (None, facts.server_id) and override.kind is not OverrideKind.SUSPEND_NOW
        ),
        has_address=facts.has_address,
        top=Stage.RETAINED,
    )
    way = course(climber, policy, now)
    return Eligibility(
        stage=way.stage,
        reason_code=way.reason_code,
        because=_words(way.reason_code, facts.ended_at, facts, now),
        debt=None,
        next=way.next,
        next_change_at=way.next_change_at,
        in_episode=True,
    )


def supported_since(
    facts: AccountFacts | CoverageFacts, policy: Policy, found: Eligibility
) -> datetime | None:
    """Return from when the age alone supports the eligible stage: who has waited longest goes first; null: no debt."""
    rung = policy.at(found.stage)
    if isinstance(facts, CoverageFacts):
        begins = max(facts.ended_at, facts.seen_at, _episode_start(facts.episode, facts.seen_at))
    elif found.debt is not None:
        begins = found.debt.age_from
    else:
        return None
    return begins + rung.after if rung else begins


def _at_rest(
    code: str, owed: Debt | None, *, following: NextStage | None = None, wakes: datetime | None = None
) -> Eligibility:
    """Return `CURRENT` outside any episode."""
    return Eligibility(
        stage=Stage.CURRENT,
        reason_code=code,
        because=REASONS[code],
        debt=owed,
        next=following,
        next_change_at=wakes,
        in_episode=False,
    )


def _owed(facts: AccountFacts) -> list[InvoiceFact]:
    """Return the invoices that are debt now or at a known instant.

    A rest that no card can be charged is none: else a payment that leaves it would end worse than no payment at all,
    after which the card pays the whole.
    """
    return [
        invoice
        for invoice in facts.invoices
        if invoice.overdue_at
        and invoice.currency == facts.currency
        and chargeable(invoice.owed, invoice.currency)
    ]


def _starts(invoice: InvoiceFact, now: datetime) -> datetime:
    """Return from when an invoice counts as debt; one that nobody recorded as overdue yet counts from now at best."""
    return max(invoice.overdue_at or now, invoice.counts_from or now)


def _episode_start(episode: EpisodeFact | None, now: datetime) -> datetime:
    return episode.started_at if episode else now


def _no_earlier(episode: EpisodeFact | None, now: datetime) -> datetime:
    """Return the instant as of which debts are taken: what was overdue when the stage was reached still is.

    Only facts change that; a clock that was set back is none.
    """
    return max(now, episode.admitted_at) if episode else now


def _account_climber(facts: AccountFacts, owed: Debt, tolerance: int, now: datetime) -> Climber:
    start = _episode_start(facts.episode, now)
    return Climber(
        age_from=owed.age_from,
        episode_start=start,
        admitted=facts.episode.admitted if facts.episode else Stage.CURRENT,
        admitted_at=facts.episode.admitted_at if facts.episode else None,
        notices=_of_episode(
            facts.notices, facts.episode, lambda notice: owed.anchor_id in notice.invoice_ids
        ),
        notices_void_before=facts.notices_void_before,
        overrides=tuple(
            override
            for override in facts.overrides
            # One that suspends without waiting belongs to an episode: where none has begun, it is of an earlier one.
            if override.server_id is None and (facts.episode or override.kind is not OverrideKind.SUSPEND_NOW)
        ),
        has_address=facts.has_address,
        shielded_until=shielded_until(facts.disputes, tolerance=tolerance, since=start, now=now),
    )


def _of_episode(
    notices: tuple[NoticeFact, ...], episode: EpisodeFact | None, names: Callable[[NoticeFact], bool]
) -> tuple[NoticeFact, ...]:
    if episode is None:
        return ()
    return tuple(notice for notice in notices if notice.sent_at >= episode.started_at and names(notice))


def _first_climb(facts: AccountFacts, policy: Policy, now: datetime) -> NextStage | None:
    """Return the climb to the first stage if nothing gets paid; null when nothing open can exceed the tolerance."""
    total = 0
    for invoice in sorted(_owed(facts), key=lambda invoice: _starts(invoice, now)):
        total += invoice.owed
        if total > policy.tolerated(facts.currency):
            exceeds = _starts(invoice, now)
            climber = Climber(
                age_from=exceeds,
                episode_start=exceeds,
                admitted=Stage.CURRENT,
                notices=(),
                notices_void_before=None,
                overrides=tuple(override for override in facts.overrides if override.server_id is None),
                has_address=facts.has_address,
            )
            return next_climb(climber, policy, Stage.CURRENT, exceeds)
    return None


def _words(code: str, since: datetime, facts: AccountFacts | CoverageFacts, now: datetime) -> Phrase:
    kind = _OVERRIDE_OF_REASON.get(code)
    override = strongest(facts.overrides, kind, now) if kind else None
    end = ends_at(override) if override else None
    if end is not None:
        return replace(REASONS[code], values={"since": since, "until": end})
    return replace(_WITHOUT_END.get(code, REASONS[code]), values={"since": since})
