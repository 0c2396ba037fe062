"""Which notices are due now, and when the next one is.

Pure. Owns the decision alone: texts, addresses, delivery and its retries live with the outbox. A notice names every
invoice that is overdue when it is sent; the ladder rests on that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from billing.rules.facts import AccountFacts, CoverageFacts, EpisodeFact, NoticeFact
from billing.rules.ladder import debt
from billing.rules.overrides import climb_held_until
from billing.rules.policy import Policy, StagePolicy
from billing.rules.terms import Stage

#: Templates that belong to no stage. A stage's own template is named by its policy, and its reminders use the same.
BEFORE_DUE = "before_due"
RESTORED = "restored"
#: What a milder stage gives back while something stays overdue, and single servers that are spared.
GIVEN_BACK = "given_back"
SERVER_GIVEN_BACK = "server_given_back"
#: What customers are told in every mode in which servers come back.
GOOD_NEWS = frozenset({RESTORED, GIVEN_BACK, SERVER_GIVEN_BACK})


class NoticeKind(StrEnum):
    """Why a notice is sent; only a `STAGE` notice opens the next stage."""

    STAGE = "STAGE"
    REMINDER = "REMINDER"
    RESTORED = "RESTORED"
    BEFORE_DUE = "BEFORE_DUE"


@dataclass(frozen=True, kw_only=True)
class NoticeDue:
    """One notice that is to be queued now."""

    kind: NoticeKind
    template: str
    #: The stage that it is the notice of; null for every kind but `STAGE`, so that nothing else opens a stage.
    stage: Stage | None = None
    invoice_ids: tuple[int, ...] = ()
    server_ids: tuple[int, ...] = ()
    #: The same for the same cause, within the episode (`BEFORE_DUE`: within the account).
    dedupe: str


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What the standing stage asks for and what of it was said."""

    rung: StagePolicy
    #: Notices of this stage from before do not count any more.
    fresh_from: datetime
    #: All notices of the episode, and among them those of this stage.
    sent: tuple[NoticeFact, ...]
    of_stage: tuple[NoticeFact, ...]
    invoice_ids: frozenset[int]
    server_ids: frozenset[int] = frozenset()


def due_notices(
    facts: AccountFacts,
    policy: Policy,
    stage: Stage,
    now: datetime,
) -> tuple[NoticeDue, ...]:
    """Return the notices that the account's standing calls for now; `stage` is the standing's.

    `facts.notices` must hold everything queued in this episode, on its way or not. A fall outside `APPLY` calls for no
    notice by itself; one is due where the stage's earlier ones do not open the climb. Nothing is due while no address
    is known.
    """
    if not facts.has_address:
        return ()
    told = _told_of_debt(facts, policy, stage, now)
    announced = _announced(facts, policy, now)
    due = [_before_due(invoice_id) for invoice_id, at in announced if at <= now]
    return (*_of_stage(told, now, policy.repeat_every), *due)


def due_coverage_notices(
    facts: CoverageFacts,
    policy: Policy,
    stage: Stage,
    now: datetime,
) -> tuple[NoticeDue, ...]:
    """Return the notices that the standing of one uncovered server calls for now, by the same rules."""
    if not facts.has_address:
        return ()
    told = _told_of_coverage(facts, policy, stage, now)
    return tuple(_of_stage(told, now, policy.repeat_every))


def next_notice_at(
    facts: AccountFacts | CoverageFacts,
    policy: Policy,
    stage: Stage,
    now: datetime,
) -> datetime | None:
    """Return the next instant after `now` at which a notice may become due without a new fact; null: never."""
    if not facts.has_address:
        return None
    if isinstance(facts, AccountFacts):
        told = _told_of_debt(facts, policy, stage, now)
        instants = [at for _, at in _announced(facts, policy, now)]
    else:
        told, instants = _told_of_coverage(facts, policy, stage, now), []
    if told and told.sent:
        if _is_missing(told):
            instants.extend(notice.sent_at + policy.repeat_every for notice in told.of_stage)
        elif told.rung.remind_every:
            instants.append(told.sent[-1].sent_at + told.rung.remind_every)
    return min((at for at in instants if at > now), default=None)


def restored_notice(facts: AccountFacts | CoverageFacts, policy: Policy) -> NoticeDue | None:
    """Return the good news to send when the open episode of these facts ends; null when it disturbed nobody.

    It is owed to everybody whose stage had effects, and to everybody who was told of a stage.
    """
    if facts.episode is None:
        return None
    told = [notice for notice in facts.notices if notice.stage and notice.sent_at >= facts.episode.started_at]
    reached = [facts.episode.admitted, *(notice.stage for notice in told if notice.stage)]
    if not any(policy.effects_at(stage) for stage in reached) and not any(
        notice.delivered_at for notice in told
    ):
        return None
    servers = (facts.server_id,) if isinstance(facts, CoverageFacts) else ()
    return NoticeDue(kind=NoticeKind.RESTORED, template=RESTORED, server_ids=servers, dedupe="restored")


def _told_of_debt(facts: AccountFacts, policy: Policy, stage: Stage, now: datetime) -> _Told | None:
    owed, rung = debt(facts, now), policy.at(stage)
    if owed is None or rung is None or facts.episode is None:
        return None
    overrides = tuple(override for override in facts.overrides if override.server_id is None)
    resets = (climb_held_until(overrides, now), facts.notices_void_before)
    return _told(facts.notices, facts.episode, rung, resets, frozenset(owed.invoice_ids))


def _told_of_coverage(facts: CoverageFacts, policy: Policy, stage: Stage, now: datetime) -> _Told | None:
    rung = policy.at(stage)
    if rung is None or facts.episode is None:
        return None
    resets = (climb_held_until(facts.overrides, now), facts.notices_void_before)
    told = _told(facts.notices, facts.episode, rung, resets, frozenset())
    return replace(told, server_ids=frozenset({facts.server_id}))


def _told(
    notices: tuple[NoticeFact, ...],
    episode: EpisodeFact,
    rung: StagePolicy,
    resets: tuple[datetime | None, datetime | None],
    invoice_ids: frozenset[int],
) -> _Told:
    # What was told of the stage before such a fall counts, as it does for the climb.
    entered = None if episode.fell_silently else episode.admitted_at
    sent = tuple(
        sorted((n for n in notices if n.sent_at >= episode.started_at), key=lambda notice: notice.sent_at)
    )
    return _Told(
        rung=rung,
        fresh_from=max(at for at in (episode.started_at, entered, *resets) if at),
        sent=sent,
        of_stage=tuple(notice for notice in sent if notice.stage is rung.stage),
        invoice_ids=invoice_ids,
    )


def _is_missing(told: _Told) -> bool:
    """Return whether the stage's notice is owed: not sent since it was entered, or not naming everything."""
    counted = [n for n in told.of_stage if n.sent_at >= told.fresh_from and not n.failed]
    invoices = frozenset[int]().union(*(notice.invoice_ids for notice in counted))
    servers = frozenset[int]().union(*(notice.server_ids for notice in counted))
    return not counted or not (told.invoice_ids <= invoices and told.server_ids <= servers)


def _of_stage(told: _Told | None, now: datetime, repeat_every: timedelta) -> Iterator[NoticeDue]:
    """Yield the stage's notice where it is owed, else a reminder where one is."""
    if told is None:
        return
    if _is_missing(told):
        if not told.of_stage or now - told.of_stage[-1].sent_at >= repeat_every:
            yield _notice(told, NoticeKind.STAGE, f"stage:{told.rung.stage}:{len(told.of_stage) + 1}")
    elif told.rung.remind_every and now - told.sent[-1].sent_at >= told.rung.remind_every:
        yield _notice(told, NoticeKind.REMINDER, f"reminder:{len(told.sent) + 1}")


def _notice(told: _Told, kind: NoticeKind, dedupe: str) -> NoticeDue:
    return NoticeDue(
        kind=kind,
        template=told.rung.notice,
        stage=told.rung.stage if kind is NoticeKind.STAGE else None,
        invoice_ids=tuple(sorted(told.invoice_ids)),
        server_ids=tuple(sorted(told.server_ids)),
        dedupe=dedupe,
    )


def _announced(facts: AccountFacts, policy: Policy, now: datetime) -> Iterator[tuple[int, datetime]]:
    """Yield the invoices that are to be announced before they are due, each with the instant to do so.

    Not those whose own mail came less than the policy's `repeat_every` before it: that named the day already.
    """
    if policy.before_due is None or facts.free_plan:
        return
    for invoice in sorted(facts.invoices, key=lambda invoice: invoice.id):
        owes = invoice.owed > 0 and invoice.currency == facts.currency
        if owes and invoice.overdue_at and invoice.overdue_at > now:
            at = invoice.overdue_at - policy.before_due
            if invoice.announced_at is None or at - invoice.announced_at >= policy.repeat_every:
                yield invoice.id, at


def _before_due(invoice_id: int) -> NoticeDue:
    return NoticeDue(
        kind=NoticeKind.BEFORE_DUE,
        template=BEFORE_DUE,
        invoice_ids=(invoice_id,),
        dedupe=f"before_due:{invoice_id}",
    )
