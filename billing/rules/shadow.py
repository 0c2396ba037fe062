"""The ladder walked ahead in a shadow: what a pass would make of one subject's facts if nothing gets paid.

Pure. Owns the passing of time alone: debts begin to count, episodes open, stages fall, notices go out and are taken as
delivered. Every decision is asked of the ladder and the notices; who may climb among many is the guard's word.
"""

from dataclasses import replace
from datetime import datetime

from billing.rules import ladder
from billing.rules import notices as rules
from billing.rules.facts import AccountFacts, CoverageFacts, EpisodeFact, NoticeFact
from billing.rules.ladder import Eligibility
from billing.rules.notices import NoticeKind
from billing.rules.policy import Policy
from billing.rules.terms import Stage

Facts = AccountFacts | CoverageFacts

#: Falls and openings of one instant: down the whole ladder and out of it.
_MOST_TURNS = len(Stage) + 2


def quiet(policy: Policy) -> Policy:
    """Return the policy without the mails that open no stage: they move nobody, and walking past them costs time."""
    rungs = tuple(replace(rung, remind_every=None) for rung in policy.stages)
    return replace(policy, before_due=None, before_card_expiry=None, stages=rungs)


def eligible(facts: Facts, policy: Policy, now: datetime) -> Eligibility:
    """Return the stage that facts and time support, for an account or for an uncovered server."""
    if isinstance(facts, AccountFacts):
        return ladder.eligible(facts, policy, now)
    return ladder.eligible_uncovered(facts, policy, now)


def admitted(facts: Facts) -> Stage:
    """Return the stage that the subject was let reach."""
    return facts.episode.admitted if facts.episode else Stage.CURRENT


def delivered(facts: Facts, now: datetime) -> Facts:
    """Return the facts with every notice that is on its way delivered; a refused one stays refused."""
    notices = tuple(
        replace(notice, delivered_at=now) if notice.delivered_at is None and not notice.failed else notice
        for notice in facts.notices
    )
    return replace(facts, notices=notices)


def settled(facts: Facts, policy: Policy, now: datetime) -> tuple[Facts, Eligibility]:
    """Return the facts after everything at `now` that needs no guard, and the eligibility that they then give."""
    current = _noted(facts, now)
    found = eligible(current, policy, now)
    for _ in range(_MOST_TURNS):
        changed = _turned(current, found, now)
        if changed is None:
            break
        current = changed
        found = eligible(current, policy, now)
    told = _told(current, policy, now)
    return told, found if told is current else eligible(told, policy, now)


def climbed(facts: Facts, stage: Stage, now: datetime) -> Facts:
    """Return the facts after the guard let the subject reach `stage`; settle them to have its notice sent."""
    if facts.episode is None:
        raise ValueError("nobody climbs outside an episode; settle the facts first")
    return replace(
        facts, episode=replace(facts.episode, admitted=stage, admitted_at=now, fell_silently=False)
    )


def looks_again_at(facts: Facts, policy: Policy, found: Eligibility, now: datetime) -> datetime | None:
    """Return the next instant at which time alone may change something; null: never."""
    notice = rules.next_notice_at(facts, policy, admitted(facts), now) if facts.episode else None
    return min((at for at in (found.next_change_at, notice) if at is not None and at > now), default=None)


def begins_at(facts: Facts) -> datetime | None:
    """Return before when nothing can happen to a subject that is in no trouble yet; null: at once."""
    if facts.episode is not None:
        return None
    if isinstance(facts, CoverageFacts):
        return facts.ended_at
    return min((one.overdue_at for one in facts.invoices if one.overdue_at is not None), default=None)


def _noted(facts: Facts, now: datetime) -> Facts:
    """Let what is overdue count from the moment that somebody looks, which is at once."""
    if isinstance(facts, CoverageFacts):
        return facts
    fresh = [
        one.overdue_at is not None and one.overdue_at <= now and one.counts_from is None
        for one in facts.invoices
    ]
    if not any(fresh):
        return facts
    invoices = tuple(
        replace(invoice, counts_from=now) if is_fresh else invoice
        for invoice, is_fresh in zip(facts.invoices, fresh, strict=True)
    )
    return replace(facts, invoices=invoices)


def _turned(facts: Facts, found: Eligibility, now: datetime) -> Facts | None:
    """Return the facts after one opening, one end or one fall; null when nothing of that is due."""
    episode = facts.episode
    if episode is None:
        if not found.in_episode:
            return None
        opened = EpisodeFact(started_at=now, admitted=Stage.CURRENT, admitted_at=now)
        if isinstance(facts, CoverageFacts):
            return replace(facts, episode=opened, seen_at=now)
        return replace(facts, episode=opened)
    if not found.in_episode:
        return replace(facts, episode=None, notices=())
    if found.stage.rank < episode.admitted.rank:
        return replace(
            facts, episode=replace(episode, admitted=found.stage, admitted_at=now, fell_silently=False)
        )
    return None


def _told(facts: Facts, policy: Policy, now: datetime) -> Facts:
    """Send the notices of the present stage that are due, and take them as delivered."""
    if facts.episode is None:
        return facts
    if isinstance(facts, AccountFacts):
        due = rules.due_notices(facts, policy, admitted(facts), now)
    else:
        due = rules.due_coverage_notices(facts, policy, admitted(facts), now)
    sent = tuple(
        NoticeFact(
            stage=one.stage,
            template=one.template,
            sent_at=now,
            delivered_at=now,
            invoice_ids=frozenset(one.invoice_ids),
            server_ids=frozenset(one.server_ids),
        )
        for one in due
        if one.kind is NoticeKind.STAGE
    )
    return replace(facts, notices=(*facts.notices, *sent)) if sent else facts
