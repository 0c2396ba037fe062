"""Puts the notices that a standing calls for into the outbox, in the transaction that confirms the standing.

Owns the join of the pure decision with the letters that tell of it. Which notice is due is `billing.rules.notices`'
word, what is given back `reconciler.returns`' to tell; wording and sending are `billing.notices`'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from billing import notices, work_queue
from billing.models import Account, Invoice
from billing.rules import ladder
from billing.rules import notices as rules
from billing.rules.facts import AccountFacts, CoverageFacts, EpisodeFact
from billing.rules.ladder import Eligibility
from billing.rules.notices import NoticeDue, NoticeKind
from billing.rules.policy import Policy
from billing.rules.terms import Stage
from reconciler import letters, returns, told_servers
from reconciler.billing_holds import exemptions_of, joined_at
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
    account_restricts = bool(subjects[0].effects_at(standings[None]))
    if mode is not Mode.OFF and account_restricts:
        await returns.of_spared_servers(subjects, now)
    for subject in subjects:
        stage = standings[subject.server.id if subject.server else None]
        if subject.episode is not None and not subject.eligibility.in_episode:
            await returns.at_the_end(subject, mode, account_restricts=account_restricts, now=now)
            continue
        entered = now if any(subject is one for one in moved) else None
        facts = _as_of(subject, stage, entered)
        # What comes next is what follows the stage that this transaction leaves, not the one that it found.
        current = replace(subject, facts=facts, eligibility=_eligible(facts, subject.policy, now))
        told = entered is not None and await returns.of_a_fall(
            current, stage, mode, account_restricts=account_restricts, now=now
        )
        if mode is not Mode.APPLY:
            continue
        if not subject.facts.has_address and stage is not Stage.CURRENT:
            await _ask_for_address(subject.account, now)
        for due in await _due(current, stage, now):
            if not (told and due.kind is NoticeKind.STAGE):
                await _queue(current, due, stage, account_restricts=account_restricts, now=now)
        at = rules.next_notice_at(facts, subject.policy, stage, now)
        later += [at] if at else []
    return min(later, default=None)


def _as_of(subject: Subject, stage: Stage, entered: datetime | None) -> AccountFacts | CoverageFacts:
    """Return the facts with the episode as this transaction leaves it."""
    episode = subject.facts.episode
    if episode is None:
        return subject.facts
    if entered is None:
        return replace(subject.facts, episode=replace(episode, admitted=stage))
    # Outside `APPLY` no notice of the stage is looked for, so it matters in no other mode that the fall was silent.
    changed = EpisodeFact(started_at=episode.started_at, admitted=stage, admitted_at=entered)
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
    if any(one.kind is NoticeKind.STAGE for one in due):
        return due
    late = await _for_latecomers(subject, stage, now)
    # The stage's letter reminds as well: nobody gets the same one twice.
    return [*(one for one in due if not (late and one.kind is NoticeKind.REMINDER)), *late]


async def _for_latecomers(subject: Subject, stage: Stage, now: datetime) -> list[NoticeDue]:
    """Return the stage's notice again when a server can be held since later and none has named it since."""
    rung, debt, episode = subject.policy.at(stage), subject.eligibility.debt, subject.episode
    if rung is None or episode is None or not rung.effects or not subject.facts.has_address:
        return []
    exemptions = await exemptions_of(subject.account.id)
    late = []
    for server in await told_servers.live_of(subject):
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


async def _queue(
    subject: Subject, due: NoticeDue, stage: Stage, *, account_restricts: bool, now: datetime
) -> None:
    episode = f"episode:{subject.episode.id if subject.episode else 'none'}"
    scope = episode if due.kind is not NoticeKind.BEFORE_DUE else "account"
    named = await told_servers.under_stage(subject, account_restricts=account_restricts, now=now)
    letter = await letters.about(subject, named, due.template, f"{scope}:{due.dedupe}")
    letter = letters.with_stage(letter, subject, stage, now)
    invoices = await Invoice.filter(id__in=list(due.invoice_ids)).order_by("overdue_at", "id")
    await notices.queue(replace(letter, stage=due.stage, invoices=invoices), now=now)
