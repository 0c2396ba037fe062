"""What every letter about a standing has in common: whom it is about, what the stage does to them, what comes next.

Owns that form. Which letter is due, and what it says beside, is the caller's.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from billing.notice_content import Ahead, NextStage
from billing.notice_request import NamedServer, NoticeRequest
from billing.rules.announced_servers import OF_SERVERS
from billing.rules.climb import DISPUTE
from billing.rules.ladder import Debt
from billing.rules.terms import Effect, Stage
from reconciler.models import Server
from reconciler.subjects import Subject


async def about(subject: Subject, named: Sequence[NamedServer], template: str, key: str) -> NoticeRequest:
    """Return a letter to the account, about these servers; about one alone when the subject is that server."""
    return NoticeRequest(
        account=subject.account,
        template=template,
        dedupe_key=f"{subject.account.id}:{key}",
        episode_id=subject.episode.id if subject.episode else None,
        servers=[] if subject.server else named,
        has_servers=bool(named) or await Server.exists(account_id=subject.account.id, retired_at=None),
        ended_server=named[0] if subject.server and named else None,
    )


def with_stage(letter: NoticeRequest, subject: Subject, stage: Stage, now: datetime) -> NoticeRequest:
    """Return the letter with what the stage does to those whom it names, and what follows."""
    coming = subject.eligibility.next
    # A stage that is due already is held back by the guard, and nobody hears of that.
    follows = coming if coming and coming.stage.rank > stage.rank and coming.at > now else None
    return replace(
        letter,
        effects=shown(subject.effects_at(stage), letter),
        next_stage=NextStage(
            stage=follows.stage,
            at=follows.at,
            effects=shown(subject.policy.effects_at(follows.stage), letter),
            disputed=follows.waiting_for == DISPUTE,
        )
        if follows
        else None,
        ahead=Ahead(reviewed_at=_review(subject, stage, now)),
    )


def shown(effects: frozenset[Effect], letter: NoticeRequest) -> frozenset[Effect]:
    """Return what of these effects touches those whom the letter is about: no server, nothing that is stopped."""
    if letter.ended_server is not None:
        return effects - {Effect.LOCK_ACCOUNT}
    return effects if letter.servers else effects - OF_SERVERS


def _review(subject: Subject, stage: Stage, now: datetime) -> datetime | None:
    """Return from when on staff may decide about removing servers, at the earliest; null where nothing leads there."""
    debt, review = subject.eligibility.debt, Stage.DECOMMISSION_REVIEW
    rung = subject.policy.at(review)
    if debt is None or stage is review or rung is None or rung.stage is not review:
        return None
    found = debt.age_from + subject.policy.earliest(review, standing=stage, age=_age(debt, now))
    coming = subject.eligibility.next
    if coming is None or coming.stage.rank <= stage.rank or coming.waiting_for == DISPUTE:
        return found  # a dispute may end at any time, and then nothing holds the rest back
    # What holds the next stage back, such as an extension, holds back all that follow.
    held = subject.policy.earliest(review, standing=coming.stage, age=_age(debt, coming.at))
    return max(found, debt.age_from + held)


def _age(debt: Debt, at: datetime) -> timedelta:
    return max(at - debt.age_from, timedelta(0))
