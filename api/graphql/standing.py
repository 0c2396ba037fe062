"""Standing: where an account, or a server whose subscription ended, stands, and what comes next.

Shows the standing and never what is only eligible: what the guard holds back is told to nobody outside the staff.
"""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql.connections import Connection, Window
from api.graphql.context import Context, Info
from api.graphql.funds import money_trouble_of
from api.graphql.invoices import Invoice, invoice_by_key, invoices_of
from api.graphql.nodes import AnnouncementAction, Effect, Severity, Stage
from api.graphql.policies import in_order
from api.graphql.scalars import Money
from api.graphql.words import words_about
from billing.rules import ladder
from billing.rules.announced_servers import NO_SERVERS
from billing.rules.announcements import AnnouncedStanding, announcement
from billing.rules.announcements import Announcement as Said
from billing.rules.money import Money as Amount
from billing.rules.overrides import strongest
from billing.rules.terms import OverrideKind
from billing.rules.words import Phrase, phrase
from billing.words import Words
from reconciler.rules.terms import Mode
from reconciler.server_groups import counts
from reconciler.subjects import Subject


@strawberry.type
class StageChange:
    """The climb that follows if nothing is paid."""

    stage: Stage
    at: datetime
    waiting_for: str | None


@strawberry.type
class Debt:
    """The overdue part of the open invoices."""

    amounts: list[Money]
    oldest_overdue_at: datetime
    of: strawberry.Private[ladder.Debt]
    account_id: strawberry.Private[int]

    @strawberry.field
    async def anchor(self, info: Info) -> Invoice:
        """The oldest overdue invoice: the one that the ladder counts from."""
        anchor = await invoice_by_key(info.context, self.of.anchor_id)
        if anchor is None:  # its account is the caller's, so it can only have gone since the facts were read
            raise LookupError("the anchor of a debt is no invoice any more")
        return anchor

    @strawberry.field
    async def invoices(
        self, info: Info, first: int | None = None, after: str | None = None
    ) -> Connection[Invoice]:
        """The overdue invoices."""
        window = Window(first=first, after=after)
        return await invoices_of(info.context, self.account_id, window, overdue=tuple(self.of.invoice_ids))


@strawberry.type
class Standing:
    """Where somebody stands on the ladder."""

    stage: Stage
    since: datetime
    effects: list[Effect]
    debt: Debt | None
    next: StageChange | None
    reason_code: str
    reason: str


@strawberry.type
class Announcement:
    """What the portal shows on every page."""

    id: strawberry.ID
    severity: Severity
    code: str
    title: str
    body: str
    action: AnnouncementAction
    action_label: str = strawberry.field(description="What a button says that leads to `action`.")
    action_url: str | None
    deadline: datetime | None
    since: datetime
    still_works: list[str]


def standing_of(context: Context, subject: Subject) -> Standing:
    """Return where a subject stands, as this principal may know it."""
    stage, eligibility = subject.standing, subject.eligibility
    as_it_is = eligibility.stage is stage
    debt = eligibility.debt
    return Standing(
        stage=stage,
        since=since_of(context, subject),
        effects=in_order(subject.effects_at(stage)),
        debt=Debt(
            amounts=[Money.of(debt.amount, debt.currency)],
            oldest_overdue_at=debt.anchor_overdue_at,
            of=debt,
            account_id=subject.account.id,
        )
        if debt is not None
        else None,
        next=next_of(context, subject),
        reason_code=eligibility.reason_code if as_it_is else stage.lower(),
        reason=words_about(context, subject.account).say(
            eligibility.because if as_it_is else _plain_reason(stage)
        ),
    )


def next_of(context: Context, subject: Subject) -> StageChange | None:
    """Return the next climb. Customers are told none that the guard, or the mode, keeps from happening."""
    eligibility, stage = subject.eligibility, subject.standing
    if eligibility.stage is not stage:
        if context.scope.is_customer:
            return None
        return StageChange(stage=eligibility.stage, at=context.now, waiting_for="guard")
    if eligibility.next is None or (context.scope.is_customer and context.ports.mode is not Mode.APPLY):
        return None
    following = eligibility.next
    return StageChange(stage=following.stage, at=following.at, waiting_for=following.waiting_for)


def _plain_reason(stage: Stage) -> Phrase:
    return phrase("Nothing is restricted.") if stage is Stage.CURRENT else phrase("A payment is overdue.")


def since_of(context: Context, subject: Subject) -> datetime:
    """Return since when a subject stands where it does."""
    if subject.episode is not None:
        return subject.episode.admitted_at if subject.standing is subject.admitted else context.now
    if subject.server is not None:
        return context.now  # its episode begins with the next pass
    return subject.last_ended or subject.account.created_at


async def announcement_of(context: Context, account_id: int) -> Announcement | None:
    """Return what the portal shows because of an account's standing, in the account's language and zone."""
    subjects = await context.subjects.load(account_id)
    subject = next(one for one in subjects if one.server is None)
    uncovered = [one for one in subjects if one.server is not None and one.standing is not Stage.CURRENT]
    worst = max(uncovered, key=lambda one: one.standing.rank, default=None)
    debt = subject.eligibility.debt
    following = next_of(context, subject)
    servers, trouble, money = NO_SERVERS, None, None
    if worst is None and subject.standing is Stage.CURRENT:
        trouble, money = await money_trouble_of(context, subject)
    else:  # only these announcements speak of single servers
        groups = await context.machinery.server_groups.load(account_id)
        servers = counts(groups, subjects, context.now)
    said = announcement(
        AnnouncedStanding(
            stage=subject.standing,
            since=since_of(context, subject),
            effects=subject.effects_at(subject.standing),
            debt=Amount(debt.amount, debt.currency) if debt is not None else None,
            next=subject.eligibility.next if following is not None else None,
            next_effects=subject.policy.effects_at(following.stage) if following is not None else frozenset(),
            servers=servers,
            uncovered=len(uncovered),
            uncovered_stage=worst.standing if worst is not None else Stage.CURRENT,
            uncovered_since=worst.episode.admitted_at if worst is not None and worst.episode else None,
            uncovered_effects=worst.effects_at(worst.standing) if worst is not None else frozenset(),
            trouble=trouble,
            backups_open=_backups_open(subject, context.now),
            money=money,
        ),
        context.now,
    )
    return _shown(said, words_about(context, subject.account)) if said is not None else None


def _backups_open(subject: Subject, now: datetime) -> bool:
    """Return whether staff lets backups of the whole account be made and exported."""
    placed = (one for one in subject.overrides if one.server_id is None)
    return strongest(placed, OverrideKind.ALLOW_BACKUPS, now) is not None


def _shown(said: Said, words: Words) -> Announcement:
    return Announcement(
        id=strawberry.ID(said.id),
        severity=said.severity,
        code=said.code,
        title=words.say(said.title),
        body=" ".join(words.say(sentence) for sentence in said.body),
        action=said.action,
        action_label=words.say(said.action_label),
        action_url=None,
        deadline=said.deadline,
        since=said.since,
        still_works=[words.say(one) for one in said.still_works],
    )
