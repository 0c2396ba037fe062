"""Commits steps: the row, what it is about to take, the audit entry, in one transaction bound to the facts.

The only writer of new steps. A step whose facts have moved, which nothing asks for any more, or whose server
has another step open is not written at all. Starts nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from tortoise.exceptions import IntegrityError
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from billing import audit
from billing.models import Account
from reconciler import identity, outcomes, readings, recheck, restore_record
from reconciler.models import Server, Step
from reconciler.readings import Reading
from reconciler.rules import plan as planning
from reconciler.rules.outcome import Outcome, Retry, TargetReport
from reconciler.rules.terms import Lane, Power, StepState

ACTOR = "system:reconciler"


class Target(NamedTuple):
    """Where a job works: one node of one site, in one lane."""

    site: str
    node: str
    lane: Lane


class _NotWantedError(Exception):
    """Rolls a dispatch back because nothing asks for it any more."""


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """What a step is committed with. `found` is what a restriction read just before; null for undoing steps."""

    action: str
    expect: Mapping[str, object]
    found: Reading | None = None
    server: Server | None = None


async def commit(
    target: Target, step: planning.Step, digest: str, commitment: Commitment, now: datetime
) -> Step | None:
    """Write the step as dispatched and return it; null when it is not to be, or something else is under way.

    A restriction rests on the newest facts: none is written while there are some that the holds do not follow yet.
    Newer facts that were settled meanwhile and left the holds as they are keep nothing from happening.
    """
    try:
        async with in_transaction():
            # Writing first makes the account's row ours until the step is committed: no newer fact slips between.
            bound = Account.filter(id=step.account_id)
            if step.kind.restricts:
                bound = bound.filter(settled_version=F("facts_version"))
            if not await bound.update(next_change_at=now):
                return None
            row = await _create(target, step, digest, commitment, now)
            if row.id in await recheck.void([row], now):
                raise _NotWantedError
            if commitment.found is not None:
                parts = readings.found(step.kind, commitment.found)
                await restore_record.take(outcomes.owner_of(row), parts, step_id=row.id, at=now)
                await _remember_mark(commitment.server, commitment.found)
            await _audit(row, now)
    except _NotWantedError:
        return None
    return row


async def _create(
    target: Target, step: planning.Step, digest: str, commitment: Commitment, now: datetime
) -> Step:
    try:
        return await Step.create(
            kind=step.kind,
            state=StepState.DISPATCHED,
            account_id=step.account_id,
            server_id=step.server_id,
            site=target.site,
            node=target.node,
            lane=target.lane,
            action=commitment.action,
            reason=step.reason,
            requested_by=ACTOR,
            plan_digest=digest,
            facts_version=(await Account.get(id=step.account_id)).facts_version,
            expect=dict(commitment.expect),
            dispatched_at=now,
            attempt=await _attempt(step),
        )
    except IntegrityError:
        # The database allows one open step per server, and per account's access: somebody else has one.
        raise _NotWantedError from None


async def _attempt(step: planning.Step) -> int:
    """Return the number of this try in a row at the same change."""
    last = (
        await Step.filter(
            server_id=step.server_id, account_id=step.account_id, site=step.site, kind=step.kind
        )
        .order_by("-id")
        .first()
    )
    return last.attempt + 1 if last is not None and last.state is not StepState.DONE else 1


async def _remember_mark(server: Server | None, reading: Reading) -> None:
    if server is not None and server.marker is None and reading.marker is not None:
        await Server.filter(id=server.id, marker=None).update(marker=reading.marker)


async def _audit(step: Step, now: datetime) -> None:
    await audit.record(
        "step.dispatched",
        ("Server", step.server_id) if step.server_id is not None else ("Account", step.account_id),
        at=now,
        actor=ACTOR,
        reason=f"{step.kind}: {step.reason}",
        account_id=step.account_id,
        before=step.expect,
        facts_version=step.facts_version,
    )


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why a guest is not touched now; `work_item` names the kind of item that a person gets for it."""

    message: str
    retry: Retry = Retry.LATER
    work_item: str | None = None


def obstacle(
    server: Server | None,
    reading: Reading | None,
    report: TargetReport | None,
    *,
    platform: str | None = None,
) -> Obstacle | None:
    """Return why a restriction must not start from this reading; an unknown is never among its inputs.

    `platform` is who has to have answered; null where nobody told yet.
    """
    if report is None or reading is None:
        return Obstacle(message="it was not read")
    if report.outcome not in {Outcome.CHANGED, Outcome.UNCHANGED}:
        return Obstacle(
            message=f"it was not read: {report.message or report.outcome.lower()}",
            retry=report.retry or Retry.LATER,
        )
    if not identity.may_be(platform, reading.identity):
        return Obstacle(message=f"the platform answers as {reading.identity} and was {platform} before")
    if server is None:
        return None
    if server.marker is not None and reading.marker is not None and server.marker != reading.marker:
        return Obstacle(
            message=f"its creation mark is {reading.marker} and was {server.marker}",
            retry=Retry.NEVER,
            work_item="guest_replaced",
        )
    if reading.power is Power.UNKNOWN:
        return Obstacle(message="its power could not be read")
    if reading.busy is not None:
        return Obstacle(message=f"the platform is working on it ({reading.busy})")
    return None
