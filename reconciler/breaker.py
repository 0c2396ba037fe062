"""The breaker: when too many become eligible at once, nobody reaches larger effects until two persons have looked.

The only writer of the breaker in `reconciler_state`, of `breaker_cover` and, with the standing, of what an episode
awaits. How many are too many is `rules.guard`'s. It holds back climbs alone: nothing here is asked about a restore.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tortoise.expressions import F, Q, Subquery
from tortoise.transactions import in_transaction

from billing import approvals, audit, notices, work_queue
from billing.approval_models import Approval
from billing.approvals import Ask, Voter
from billing.models import Episode
from billing.refusal import RefusalCode, refusal
from billing.rules.approvals import ApprovalKind, ApprovalState, SecondPerson
from billing.rules.policy import Policy
from billing.rules.terms import Stage
from reconciler.chunks import chunks
from reconciler.guard_models import BreakerCover
from reconciler.models import PlanSnapshot, ReconcilerState
from reconciler.rules import guard
from reconciler.rules.world import Climb, World

ACTOR = "system:reconciler"
#: What becomes eligible in this time counts as at once: each account does so at a moment and in a pass of its own.
AT_ONCE = timedelta(hours=1)
#: How old the plan may be that two persons release, and for how long the release covers it.
PLAN_LASTS = timedelta(hours=24)
RELEASE_LASTS = timedelta(days=7)

#: A digest, or its beginning: at least eight characters, as the head line of a plan shows twelve.
_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_ITEM = "breaker"
_STATE = 1
#: An account, an uncovered server of it or null, and its episode.
_Covered = tuple[int, int | None, int]


@dataclass(frozen=True, kw_only=True)
class Premises:
    """How the breaker stands, for somebody who looks ahead."""

    open: bool
    #: Instant, account and policy of everybody who lately became eligible and is not released, oldest first.
    sudden: Sequence[tuple[datetime, int, str]]
    #: Accounts, and uncovered servers of theirs, that a release covers in the episode that runs.
    released: frozenset[tuple[int, int | None]]


async def premises(now: datetime) -> Premises:
    """Return how the breaker stands and whom it counts already; nothing is written."""
    state = await ReconcilerState.get(id=_STATE)
    covered = await _released_episodes(now)
    known = await Episode.filter(id__in=list(covered), ended_at=None).values_list("account_id", "server_id")
    released = frozenset((account, server) for account, server in known)
    recent = Episode.filter(ended_at=None, awaits_since__gt=now - AT_ONCE).order_by("awaits_since", "id")
    rows = await recent.values_list("awaits_since", "account_id", "account__policy", "server_id")
    return Premises(
        open=state.breaker_open_at is not None,
        sudden=[
            (at, account, policy) for at, account, policy, server in rows if (account, server) not in released
        ],
        released=released,
    )


async def _released_episodes(now: datetime) -> set[int]:
    given = Approval.filter(
        kind=ApprovalKind.BREAKER_RELEASE, state=ApprovalState.GIVEN, given_at__gt=now - RELEASE_LASTS
    ).values("id")
    covers = BreakerCover.filter(approval_id__in=Subquery(given))
    return {episode for (episode,) in await covers.values_list("episode_id")}


async def note(climbs: Iterable[Climb], now: datetime) -> None:
    """Write down who is seen eligible for larger effects for the first time; set-based, in a statement per stage."""
    by_stage: dict[Stage, list[int]] = defaultdict(list)
    for climb in climbs:
        if climb.larger and climb.episode_id is not None:
            by_stage[climb.to_stage].append(climb.episode_id)
    for stage, ids in by_stage.items():
        news = Q(awaits__isnull=True) | ~Q(awaits=stage)
        for some in chunks(ids):
            await Episode.filter(news, id__in=some, ended_at=None).update(awaits=stage, awaits_since=now)


async def read(view: World, now: datetime) -> guard.Breaker:
    """Return how the breaker stands for the climbs of this view."""
    state = await ReconcilerState.get(id=_STATE)
    climbs = {(climb.account_id, climb.server_id): climb for climb in view.climbs if climb.larger}
    recent = await Episode.filter(ended_at=None, awaits_since__gt=now - AT_ONCE).values_list(
        "account_id", "server_id", "id", "account__policy"
    )
    # What this pass is the first to see counts even where nothing is written down.
    known = {episode for _, _, episode, _ in recent}
    seen = {
        climb.episode_id: climb
        for climb in climbs.values()
        if climb.episode_id is not None and climb.episode_id not in known
    }
    unknown = await _never_noted(seen)
    covers = await _covers({account for account, _ in climbs} | {row[0] for row in recent}, now)
    sudden: dict[str, set[int]] = defaultdict(set)
    for account, server, episode, policy in [*recent, *unknown]:
        climb = climbs.get((account, server))
        if not _is_covered((account, server, episode), climb, covers):
            sudden[policy].add(account)
    released = {
        key
        for key, climb in climbs.items()
        if climb.episode_id is not None and _is_covered((*key, climb.episode_id), climb, covers)
    }
    return guard.Breaker(
        open=state.breaker_reason if state.breaker_open_at is not None else None,
        released=frozenset(released),
        sudden={policy: frozenset(accounts) for policy, accounts in sudden.items()},
    )


async def _never_noted(seen: Mapping[int, Climb]) -> list[tuple[int, int | None, int, str]]:
    noted: dict[int, Stage | None] = {}
    for some in chunks(seen):
        noted |= dict(await Episode.filter(id__in=some).values_list("id", "awaits"))
    return [
        (climb.account_id, climb.server_id, episode, climb.policy)
        for episode, climb in seen.items()
        if noted.get(episode) != climb.to_stage
    ]


async def _covers(account_ids: Iterable[int], now: datetime) -> Mapping[_Covered, set[int]]:
    """Return the releases in force: by whom and which episode they cover, the invoices that were looked at."""
    given = Approval.filter(
        kind=ApprovalKind.BREAKER_RELEASE, state=ApprovalState.GIVEN, given_at__gt=now - RELEASE_LASTS
    )
    releases = [row.id for row in await given]
    found: dict[_Covered, set[int]] = defaultdict(set)
    for some in chunks(account_ids) if releases else ():
        for row in await BreakerCover.filter(approval_id__in=releases, account_id__in=some):
            found[row.account_id, row.server_id, row.episode_id] |= set(row.invoice_ids)
    return found


def _is_covered(who: _Covered, climb: Climb | None, covers: Mapping[_Covered, set[int]]) -> bool:
    """Return whether a release covers it for a reason that still stands: an invoice that is still overdue.

    An uncovered server has no invoice; its episode is the reason.
    """
    if who not in covers:
        return False
    return climb is None or who[1] is not None or bool(covers[who] & set(climb.invoice_ids))


async def trip(reason: str, now: datetime) -> None:
    """Open the breaker, tell staff and ask for persons; again: no change, the first reason stays."""
    async with in_transaction():
        opened = await ReconcilerState.filter(id=_STATE, breaker_open_at=None).update(
            breaker_open_at=now, breaker_reason=reason
        )
        if not opened:
            return
        await audit.record("breaker.opened", ("ReconcilerState", _STATE), at=now, actor=ACTOR, reason=reason)
        title = "The breaker is open: nobody is restricted further"
        detail = (
            f"{reason}. Read the plan; if it is right, two persons release it by its digest (`breakerRelease`). "
            "Notices and everything that is given back go on."
        )
        await notices.queue_staff(title, detail, dedupe_key=f"breaker:{now.isoformat()}", now=now)
        await work_queue.open_item("breaker", _ITEM, at=now, title=title, detail=detail)


async def vote(plan_digest: str, voter: Voter, *, reason: str, rule: SecondPerson, now: datetime) -> Approval:
    """Ask to release a plan of the last 24 h, or join who asked; the breaker closes once enough persons did.

    `plan_digest` may be the beginning of a digest. Refuses a plan that is older or unknown (`STALE_PLAN`), what is no
    digest or begins those of several plans (`INVALID`), and a breaker that is closed (`CONFLICT`).
    """

    async def examine() -> Ask:
        return await _examine(plan_digest, now)

    async def effect(approval: Approval) -> None:
        await take_effect(approval, {}, now)

    return await approvals.vote(examine, effect, voter, reason=reason, rule=rule, now=now)


async def take_effect(approval: Approval, _: Mapping[str, Policy], now: datetime) -> None:
    """Close the breaker and cover whom the plan held back, in the transaction of the caller.

    How old the plan may be is asked of each vote; one that counts alone after a delay is not asked again.
    """
    closed = await ReconcilerState.filter(id=_STATE, breaker_open_at__isnull=False).update(
        breaker_open_at=None, breaker_reason=None
    )
    if not closed:
        raise refusal(RefusalCode.CONFLICT, "the breaker is closed already")
    await _cover(approval, approval.about)
    # Who was let through before it opened was looked at now; whoever came after that plan was not, and counts anew.
    noted = Episode.filter(ended_at=None, awaits_since__isnull=False)
    await noted.filter(awaits=F("admitted")).update(awaits=None, awaits_since=None)
    await noted.update(awaits_since=now)
    await audit.record(
        "breaker.released",
        ("ReconcilerState", _STATE),
        at=now,
        actor=approval.requested_by,
        reason=approval.reason,
        after={"plan": approval.subject_id, "approval": approval.id},
    )
    await work_queue.resolve(_ITEM, at=now, by=approval.requested_by, resolution=approval.reason)


async def _examine(plan_digest: str, now: datetime) -> Ask:
    """Return what is voted on; the breaker's row is locked until the end of the transaction."""
    state = await ReconcilerState.filter(id=_STATE).select_for_update().first()
    if state is None or state.breaker_open_at is None:
        raise refusal(RefusalCode.CONFLICT, "the breaker is closed: nothing waits for a release")
    digest = await _whole(plan_digest)
    return Ask(
        kind=ApprovalKind.BREAKER_RELEASE,
        subject=("Plan", digest),
        what=f"release the breaker for plan {digest[:12]}",
        about=await _looked_at(digest, now),
    )


async def _whole(beginning: str) -> str:
    """Return the digest that begins so, of the plans that are kept or voted on; as it is given where none does."""
    told = beginning.strip().lower()
    if not _DIGEST.fullmatch(told):
        raise refusal(
            RefusalCode.INVALID,
            "a plan's digest is 64 characters from 0-9 and a-f: give all, or at least the first 8",
            "planDigest",
        )
    kept = await PlanSnapshot.filter(digest__startswith=told).distinct().values_list("digest")
    voted = await Approval.filter(
        kind=ApprovalKind.BREAKER_RELEASE, state=ApprovalState.PENDING, subject_id__startswith=told
    ).values_list("subject_id")
    found = {digest for (digest,) in [*kept, *voted]}
    if len(found) > 1:
        raise refusal(
            RefusalCode.INVALID,
            f"the digests of {len(found)} plans begin so: give more characters, or the whole digest",
            "planDigest",
        )
    return str(next(iter(found), told))


async def _looked_at(plan_digest: str, now: datetime) -> Mapping[str, Any]:
    """Return whom a plan held back, also when the plan itself is no longer kept but somebody voted on it."""
    oldest = now - PLAN_LASTS
    kept = await PlanSnapshot.filter(digest=plan_digest).order_by("-id").first()
    newest = await PlanSnapshot.all().order_by("-id").first()
    if kept is not None and newest is not None and (kept.id == newest.id or kept.at > oldest):
        held = [step for step in kept.content["steps"] if step["held_back_by"] == "BREAKER"]
        return {
            "at": kept.at.isoformat(),
            "held_back": [[step["account_id"], step["server_id"], step["invoice_ids"]] for step in held],
        }
    asked = await Approval.filter(
        kind=ApprovalKind.BREAKER_RELEASE,
        subject_id=plan_digest,
        state=ApprovalState.PENDING,
        requested_at__gt=oldest,
    ).first()
    if kept is not None or asked is None:
        raise refusal(
            RefusalCode.STALE_PLAN,
            "there is no such plan of the last 24 hours: read the plan again and release its digest",
            "planDigest",
        )
    return dict(asked.about)


async def _cover(approval: Approval, about: Mapping[str, Any]) -> None:
    held = {(account, server): invoices for account, server, invoices in about["held_back"]}
    until = datetime.fromisoformat(about["at"])
    for some in chunks(account for account, _ in held):
        episodes = await Episode.filter(account_id__in=some, ended_at=None, started_at__lte=until)
        rows = [
            BreakerCover(
                approval_id=approval.id,
                account_id=episode.account_id,
                server_id=episode.server_id,
                episode_id=episode.id,
                invoice_ids=held[episode.account_id, episode.server_id],
            )
            for episode in episodes
            if (episode.account_id, episode.server_id) in held
        ]
        await BreakerCover.bulk_create(rows, batch_size=1000)
