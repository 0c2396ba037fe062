"""Puts the notices that a standing calls for into the outbox, in the transaction that confirms the standing.

Owns the join of the pure decision with names, invoices and what comes next. Which notice is due is
`billing.rules.notices`' word, wording and sending are `billing.notices`'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from billing import notices, work_queue
from billing.models import Account, Invoice
from billing.notice_request import NamedServer, NoticeRequest
from billing.notice_text import Ahead, NextStage
from billing.rules import ladder
from billing.rules import notices as rules
from billing.rules.facts import AccountFacts, CoverageFacts, EpisodeFact
from billing.rules.ladder import Debt, Eligibility
from billing.rules.notices import NoticeDue, NoticeKind
from billing.rules.policy import Policy
from billing.rules.terms import Effect, HoldCause, Stage
from reconciler.billing_holds import exemptions_of, is_active, joined_at
from reconciler.hold_effects import in_force
from reconciler.models import Hold, Server
from reconciler.rules.terms import Mode
from reconciler.subjects import Subject


async def queue_due(
    subjects: Sequence[Subject],
    standings: Mapping[int | None, Stage],
    *,
    mode: Mode,
    now: datetime,
    moved: Sequence[Subject] = (),
) -> datetime | None:
    """Queue what is due for one account; return when the next notice may be due by time alone.

    `moved` are the subjects whose stage was changed in this transaction. Outside `APPLY` nobody is told anything but
    that servers are back.
    """
    later: list[datetime] = []
    for subject in subjects:
        stage = standings[subject.server.id if subject.server else None]
        if subject.episode is not None and not subject.eligibility.in_episode:
            await _good_news(subject, mode, now)
            continue
        if mode is not Mode.APPLY:
            continue
        if not subject.facts.has_address and stage is not Stage.CURRENT:
            await _ask_for_address(subject.account, now)
        facts = _as_of(subject, stage, now if any(subject is one for one in moved) else None)
        # What comes next is what follows the stage that this transaction leaves, not the one that it found.
        current = replace(subject, facts=facts, eligibility=_eligible(facts, subject.policy, now))
        for due in await _due(current, stage, now):
            await _queue(current, due, stage, now)
        at = rules.next_notice_at(facts, subject.policy, stage, now)
        later += [at] if at else []
    return min(later, default=None)


def _as_of(subject: Subject, stage: Stage, entered: datetime | None) -> AccountFacts | CoverageFacts:
    """Return the facts with the episode as this transaction leaves it."""
    episode = subject.facts.episode
    if episode is None:
        return subject.facts
    changed = EpisodeFact(
        started_at=episode.started_at, admitted=stage, admitted_at=entered or episode.admitted_at
    )
    return replace(subject.facts, episode=changed)


def _eligible(facts: AccountFacts | CoverageFacts, policy: Policy, now: datetime) -> Eligibility:
    if isinstance(facts, AccountFacts):
        return ladder.eligible(facts, policy, now)
    return ladder.eligible_uncovered(facts, policy, now)


async def _ask_for_address(account: Account, now: datetime) -> None:
    """Put an account that nobody can write to into the work queue, like one whose address is refused."""
    await work_queue.open_item(
        "notice_refused",
        f"notice_refused:{account.id}",
        at=now,
        title="No notice can be sent: the account has no address",
        detail="Give it an address (`accountUpsert`); until then the account climbs no further.",
        account_id=account.id,
    )


async def _due(subject: Subject, stage: Stage, now: datetime) -> Sequence[NoticeDue]:
    if isinstance(subject.facts, AccountFacts):
        due = list(rules.due_notices(subject.facts, subject.policy, stage, now))
    else:
        due = list(rules.due_coverage_notices(subject.facts, subject.policy, stage, now))
    if not any(one.kind is NoticeKind.STAGE for one in due):
        due += await _for_latecomers(subject, stage, now)
    return due


async def _for_latecomers(subject: Subject, stage: Stage, now: datetime) -> list[NoticeDue]:
    """Return the stage's notice again when a server can be held since later and none has named it since."""
    rung, debt, episode = subject.policy.at(stage), subject.eligibility.debt, subject.episode
    if rung is None or episode is None or not rung.effects or not subject.facts.has_address:
        return []
    exemptions = await exemptions_of(subject.account.id)
    late = []
    for server in await _servers(subject):
        joined = joined_at(server, exemptions.get(server.id, []))
        named = any(
            told.stage is not None and server.id in told.server_ids and told.sent_at >= joined
            for told in subject.facts.notices
        )
        if episode.started_at < joined <= now and not named and server.missing_since is None:
            late.append((server.id, joined))
    if not late:
        return []
    whom = "-".join(f"{server_id}@{joined:%Y%m%d%H%M%S}" for server_id, joined in late)
    return [
        NoticeDue(
            kind=NoticeKind.STAGE,
            template=rung.notice,
            stage=rung.stage,
            invoice_ids=debt.invoice_ids if debt else (),
            dedupe=f"latecomers:{rung.stage}:{whom}",
        )
    ]


async def _good_news(subject: Subject, mode: Mode, now: datetime) -> None:
    """Tell that it is over; outside `APPLY` only where servers come back, and nobody of a server that is gone."""
    due = rules.restored_notice(subject.facts, subject.policy)
    gone = subject.server is not None and subject.server.retired_at is not None
    silent = mode is not Mode.APPLY and not subject.effects_at(subject.admitted)
    if due is not None and mode is not Mode.OFF and not gone and not silent:
        await _queue(subject, due, Stage.CURRENT, now)


async def _queue(subject: Subject, due: NoticeDue, stage: Stage, now: datetime) -> None:
    account, policy = subject.account, subject.policy
    episode = subject.episode.id if subject.episode else "none"
    servers = [NamedServer(id=server.id, name=server.name) for server in await _reached(subject, now)]
    restored = due.kind is NoticeKind.RESTORED
    others = await _held_by_others([server.id for server in servers], now) if restored else frozenset[int]()
    kept = [server for server in servers if server.id in others]
    coming = subject.eligibility.next
    scope = f"episode:{episode}" if due.kind is not NoticeKind.BEFORE_DUE else "account"
    await notices.queue(
        NoticeRequest(
            account=account,
            template=due.template,
            dedupe_key=f"{account.id}:{scope}:{due.dedupe}",
            stage=due.stage,
            episode_id=subject.episode.id if subject.episode else None,
            invoices=await Invoice.filter(id__in=list(due.invoice_ids)).order_by("overdue_at", "id"),
            servers=[] if subject.server else [server for server in servers if server not in kept],
            kept=kept,
            ended_server=servers[0] if subject.server else None,
            # The good news tells what is given back: what the stage had taken.
            effects=_shown_effects(subject, subject.admitted if restored else stage),
            next_stage=NextStage(stage=coming.stage, at=coming.at, effects=policy.effects_at(coming.stage))
            if coming and coming.stage.rank > stage.rank
            else None,
            ahead=Ahead(reviewed_at=_review(subject, stage, now)),
        ),
        now=now,
    )


def _review(subject: Subject, stage: Stage, now: datetime) -> datetime | None:
    """Return from when on staff may decide about removing servers, at the earliest; null where nothing leads there."""
    debt, review = subject.eligibility.debt, Stage.DECOMMISSION_REVIEW
    rung = subject.policy.at(review)
    if debt is None or stage is review or rung is None or rung.stage is not review:
        return None
    found = debt.age_from + subject.policy.earliest(review, standing=stage, age=_age(debt, now))
    coming = subject.eligibility.next
    if coming is None or coming.stage.rank <= stage.rank:
        return found
    # What holds the next stage back, such as an extension, holds back all that follow.
    held = subject.policy.earliest(review, standing=coming.stage, age=_age(debt, coming.at))
    return max(found, debt.age_from + held)


def _age(debt: Debt, at: datetime) -> timedelta:
    return max(at - debt.age_from, timedelta(0))


def _shown_effects(subject: Subject, stage: Stage) -> frozenset[Effect]:
    effects = subject.effects_at(stage)
    return effects - {Effect.LOCK_ACCOUNT} if subject.server else effects


async def _reached(subject: Subject, now: datetime) -> list[Server]:
    """Return the servers that a notice may speak of: neither an exempt one nor one that cannot be found."""
    servers, exemptions = await _servers(subject), await exemptions_of(subject.account.id)
    if subject.server is not None:
        return servers
    spared = {id_ for id_, rows in exemptions.items() if any(is_active(row, now) for row in rows)}
    return [server for server in servers if server.id not in spared and server.missing_since is None]


async def _held_by_others(server_ids: Sequence[int], now: datetime) -> frozenset[int]:
    """Return those of these servers that neither billing nor their owner keeps restricted, but somebody else."""
    ours = (HoldCause.BILLING, HoldCause.CUSTOMER)
    held = Hold.filter(in_force(now), server_id__in=list(server_ids)).exclude(cause__in=ours)
    return frozenset(await held.values_list("server_id", flat=True))  # type: ignore[arg-type]  # the ORM's stub


async def _servers(subject: Subject) -> list[Server]:
    """Return the live servers that the subject's standing could reach."""
    if subject.server is not None:
        return [subject.server]
    return await Server.filter(account_id=subject.account.id, retired_at=None, free=False).order_by("id")
