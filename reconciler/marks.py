"""Guests that carry our mark of a stop although no record says what we found: an older database was restored, mostly.

Owns finding them, the work items that say so, and that no stop is recorded over it. Gives nothing back: what was
found there is not known, so a person decides.
"""

from datetime import datetime, timedelta

from tortoise.expressions import Subquery

from billing import work_queue
from billing.work_queue import Trouble
from reconciler.chunks import chunks
from reconciler.commit import Obstacle
from reconciler.models import Observation, RestorePart, Server, Step
from reconciler.overview import MARK
from reconciler.readings import Reading
from reconciler.restore_record import POWER_PARTS
from reconciler.rules.terms import Power, StepKind
from reconciler.rules.world import RecordView

ACTOR = "system:reconciler"
KIND = "mark_without_record"
#: A step that ended this short before a reading may have been under way while that was made.
LAG = timedelta(seconds=15)
REMEDY = (
    "If it should run, `serverPowerSet` starts it and takes the mark away; then look at its start at boot and its "
    f"protection, which a stop of ours changes. If it should stay off, take `{MARK}` away on the platform."
)


async def follow(now: datetime) -> None:
    """Let the work items be the guests that carry our mark without a record, one for each; the others close."""
    found = [
        Trouble(
            key=f"{server.id}:{marked_at:%Y%m%dT%H%M%S}",
            title=f"A guest on site {server.site} carries our mark, and nothing on record explains it",
            detail=f"guest {server.guest} of server {server.external_id}: an older database was restored, probably, "
            f"and what was found before the stop is not known. {REMEDY}",
            account_id=server.account_id,
            server_id=server.id,
        )
        for server, marked_at in await _unexplained()
    ]
    await work_queue.follow(KIND, found, at=now, by=ACTOR)


def obstacle(kind: StepKind, reading: Reading, record: RecordView) -> Obstacle | None:
    """Return why a stop must wait that would take what an unknown stop of ours left for what was found there."""
    unexplained = reading.marked and reading.power is Power.STOPPED and not record.stopped_by_us
    if kind is not StepKind.STOP or not unexplained:
        return None
    return Obstacle(
        message="it is off, carries our mark, and no record says what was found: a person has to look"
    )


async def _unexplained() -> list[tuple[Server, datetime]]:
    """Return the live servers whose guest carries the mark, without a record or a step of ours that explains it."""
    recorded = RestorePart.filter(closed_at=None, server_id__isnull=False, part__in=list(POWER_PARTS))
    marked = Observation.filter(
        marked_at__isnull=False, server__retired_at=None, server__missing_since=None
    ).exclude(server_id__in=Subquery(recorded.values("server_id")))
    rows = {row.server_id: row for row in await marked.order_by("server_id")}
    found: list[tuple[Server, datetime]] = []
    for ids in chunks(rows):
        steps = Step.filter(server_id__in=ids, kind__in=[StepKind.STOP, StepKind.START])
        ended = dict(await steps.order_by("id").values_list("server_id", "finished_at"))
        for server in await Server.filter(id__in=ids).order_by("id"):
            row = rows[server.id]
            if server.id not in ended or _is_over(ended[server.id], row.observed_at):
                found.append((server, row.marked_at))  # type: ignore[arg-type]  # asked for above
    return found


def _is_over(ended: datetime | None, observed_at: datetime) -> bool:
    """Return whether the last step was over (null: it is under way) long enough before a guest was read."""
    return ended is not None and observed_at - ended > LAG
