"""Standings made durable: episodes begin and end, falls happen at once, climbs when the guard admitted them.

The only writer of episodes and admissions. Each change is one transaction with its holds, notices and audit rows, bound
to the version of the facts that it was decided from; when they have moved, nothing happens and the account stays due.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from billing import approvals, audit
from billing.models import Account, Episode
from billing.rules.approvals import ApprovalKind
from billing.rules.terms import Effect, Stage
from reconciler import billing_holds, decommission, outgoing, stage_notices
from reconciler.models import Admission, Server
from reconciler.rules.terms import Mode
from reconciler.subjects import Subject

ACTOR = "system:reconciler"
#: Every account is derived anew at least this often, whether or not anything called for it.
AUDIT_EVERY = timedelta(hours=24)


async def settle(subjects: Sequence[Subject], *, mode: Mode, now: datetime) -> bool:
    """Apply everything about one account that needs no guard: episodes, falls, lifted holds, notices that are due.

    `subjects` are the account and its uncovered servers. Returns whether the facts were still those it was read on.
    In mode `OFF` nothing is done; in `PLAN` nobody is told anything but that servers are back.
    """
    if mode is Mode.OFF:
        return True
    account = subjects[0].account
    async with in_transaction():
        if not await _bind(account, _next_look(subjects, now)):
            return False
        if not await _as_read(subjects):
            await _look_again(account, now)
            return False
        standings: dict[int | None, Stage] = {}
        for subject in subjects:
            standing = await _settle_one(subject, silently=mode is not Mode.APPLY, now=now)
            standings[subject.server.id if subject.server else None] = standing
        held_at = await billing_holds.sync(subjects, standings, mode=mode, now=now)
        fallen = [one for one in subjects if _fell(one)]
        told_at = await stage_notices.queue_due(subjects, standings, mode=mode, now=now, moved=fallen)
        for at in (held_at, told_at):
            await _look_again(account, at)
        await Account.filter(id=account.id).update(settled_version=account.facts_version)
    return True


async def admit(
    subject: Subject, subjects: Sequence[Subject], to_stage: Stage, *, plan_digest: str, now: datetime
) -> bool:
    """Let one subject climb one stage, with its holds, notice and audit row; return whether it happened.

    Refused (False) when the facts have moved since they were read, or when another pass admitted it meanwhile.
    """
    if subject.episode is None or to_stage is not subject.eligibility.stage:
        return False
    async with in_transaction():
        if not await _bind(subject.account, now) or not await _as_read(subjects):
            return False
        larger = larger_effects(subject, to_stage)
        moved = await Episode.filter(id=subject.episode.id, admitted=subject.admitted, ended_at=None).update(
            admitted=to_stage,
            admitted_at=now,
            fell_silently=False,
            granted=_granted(subject.policy.effects_at(to_stage)),
            **({} if larger else {"awaits": None, "awaits_since": None}),
        )
        if moved == 0:
            return False
        await Admission.create(
            account_id=subject.account.id,
            episode_id=subject.episode.id,
            policy=subject.policy.name,
            from_stage=subject.admitted,
            to_stage=to_stage,
            larger=larger,
            plan_digest=plan_digest,
            at=now,
        )
        await _record("stage.admitted", subject, subject.admitted, to_stage, subject.eligibility.reason, now)
        standings = {one.server.id if one.server else None: one.standing for one in subjects}
        standings[subject.server.id if subject.server else None] = to_stage
        await billing_holds.sync(subjects, standings, mode=Mode.APPLY, now=now)
        await stage_notices.queue_due(subjects, standings, mode=Mode.APPLY, now=now, moved=[subject])
    return True


async def end_coverage(server: Server, now: datetime) -> None:
    """End the episode of an uncovered server that leaves its account; belongs inside the transaction of that."""
    if await Episode.filter(server_id=server.id, ended_at=None).update(ended_at=now):
        await audit.record(
            "episode.ended",
            ("Server", server.id),
            at=now,
            actor=ACTOR,
            reason="the server went to another account",
            account_id=server.account_id,
        )


def larger_effects(subject: Subject, to_stage: Stage) -> bool:
    """Return whether a climb would do something that the present stage does not."""
    return bool(subject.policy.effects_at(to_stage) - subject.effects_at(subject.admitted))


def eases(subject: Subject) -> bool:
    """Return whether settling it would give something back that its admitted stage takes."""
    return bool(subject.effects_at(subject.admitted) - subject.effects_at(subject.standing))


def _granted(effects: Iterable[Effect]) -> str:
    return " ".join(sorted(effects))


async def _bind(account: Account, next_change_at: datetime | None) -> bool:
    """Write first, and only if the facts are still those that were read; also sets when to look again."""
    return bool(
        await Account.filter(id=account.id, facts_version=account.facts_version).update(
            next_change_at=next_change_at
        )
    )


async def _as_read(subjects: Sequence[Subject]) -> bool:
    """Return whether the open episodes still are as they were read: another process may have passed meanwhile.

    Call it once the account's row is bound, so that nobody changes them until the end of the transaction.
    """
    open_episodes = Episode.filter(account_id=subjects[0].account.id, ended_at=None)
    standing_now = {row.server_id: (row.id, row.admitted) for row in await open_episodes}
    read = {
        one.server.id if one.server else None: (one.episode.id, one.episode.admitted)
        for one in subjects
        if one.episode is not None
    }
    return standing_now == read


async def _look_again(account: Account, at: datetime | None) -> None:
    """Let the account be looked at no later than `at`."""
    if at is not None:
        sooner = Q(next_change_at=None) | Q(next_change_at__gt=at)
        await Account.filter(sooner, id=account.id).update(next_change_at=at)


def _next_look(subjects: Sequence[Subject], now: datetime) -> datetime | None:
    """Return when to look at the account again: at once while a climb waits for the guard, at last for the audit."""
    instants = [now + AUDIT_EVERY, *(subject.eligibility.next_change_at for subject in subjects)]
    if any(_climbs(subject) or _episode_begins(subject) for subject in subjects):
        instants.append(now)
    return min((instant for instant in instants if instant is not None), default=None)


def _climbs(subject: Subject) -> bool:
    return subject.eligibility.stage.rank > subject.admitted.rank


def _fell(subject: Subject) -> bool:
    return subject.episode is not None and subject.eligibility.stage.rank < subject.admitted.rank


def _episode_begins(subject: Subject) -> bool:
    return subject.eligibility.in_episode and subject.episode is None


async def _settle_one(subject: Subject, *, silently: bool, now: datetime) -> Stage:
    """Begin, lower or end the episode of one subject; return the standing that results.

    `silently`: nobody is told of a fall, now or later.
    """
    episode, eligibility = subject.episode, subject.eligibility
    await decommission.follow(subject, by=ACTOR, now=now)
    if episode is None:
        if eligibility.in_episode:
            await _begin(subject, now)
        return Stage.CURRENT
    if not eligibility.in_episode:
        await Episode.filter(id=episode.id, ended_at=None).update(ended_at=now)
        await _record("episode.ended", subject, episode.admitted, Stage.CURRENT, eligibility.reason, now)
        if subject.server is None:
            await approvals.void(
                subject.account.id, set(ApprovalKind), reason=eligibility.reason, by=ACTOR, now=now
            )
        return Stage.CURRENT
    if _fell(subject):
        # What the higher stage did is granted no longer: a policy that grows later would find it there.
        await Episode.filter(id=episode.id, ended_at=None).update(
            admitted=eligibility.stage,
            admitted_at=now,
            fell_silently=silently,
            granted=_granted(subject.effects_at(eligibility.stage)),
        )
        await _record("stage.fell", subject, episode.admitted, eligibility.stage, eligibility.reason, now)
        return eligibility.stage
    if episode.awaits_since is not None and episode.awaits.rank > eligibility.stage.rank:
        # Held back by the ladder again: the next time it may climb is news to the breaker.
        await Episode.filter(id=episode.id).update(awaits=None, awaits_since=None)
    return episode.admitted


async def _begin(subject: Subject, now: datetime) -> None:
    await Episode.create(
        account_id=subject.account.id,
        server_id=subject.server.id if subject.server else None,
        started_at=now,
        admitted=Stage.CURRENT,
        admitted_at=now,
    )
    await _record("episode.began", subject, Stage.CURRENT, Stage.CURRENT, subject.eligibility.reason, now)


async def _record(
    kind: str, subject: Subject, before: Stage, after: Stage, reason: str, now: datetime
) -> None:
    about: Mapping[str, object] = {"server": subject.server.external_id} if subject.server else {}
    await audit.record(
        kind,
        ("Server", subject.server.id) if subject.server else ("Account", subject.account.id),
        at=now,
        actor=ACTOR,
        reason=reason,
        account_id=subject.account.id,
        before={"stage": before, **about},
        after={"stage": after, **about},
        facts_version=subject.account.facts_version,
    )
    if before is not after:
        effects = subject.effects_at(after)
        await outgoing.standing_changed(
            subject.account.external_id,
            server=subject.server.external_id if subject.server else None,
            before=before,
            after=after,
            effects=effects - {Effect.LOCK_ACCOUNT} if subject.server else effects,
            at=now,
        )
