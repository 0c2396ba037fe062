"""Everything that a server's fields are answered from, loaded for a whole page at once.

Owns the join of row, holds, reading and restore record. Four statements, whatever the size of the page.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler import restore_record
from reconciler.hold_effects import effects_of
from reconciler.models import Hold, Observation, Server
from reconciler.rules.desired import Desired, desired
from reconciler.rules.status import server_status
from reconciler.rules.terms import Power, ServerStatus
from reconciler.rules.world import NOTHING_TAKEN, HoldView, RecordView


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """One server as of one instant."""

    row: Server
    #: The holds in force, oldest first.
    holds: tuple[Hold, ...]
    observation: Observation | None
    #: What we took and have not given back.
    record: RecordView

    @property
    def views(self) -> tuple[HoldView, ...]:
        """The holds as the pure rules take them."""
        return tuple(
            HoldView(
                cause=hold.cause,
                stops_server=hold.stops_server,
                locks_backups=hold.locks_backups,
                locks_account=hold.locks_account,
                stage=hold.stage,
                reason=hold.reason,
                since=hold.since,
            )
            for hold in self.holds
        )

    @property
    def desired(self) -> Desired:
        """What the holds ask for."""
        return desired(self.views)

    @property
    def status(self) -> ServerStatus:
        """What it is to its owner."""
        return server_status(
            retired=self.row.retired_at is not None,
            deployment=self.row.deployment,
            missing=self.row.missing_since is not None,
            holds={hold.cause: effects_of(hold) for hold in self.holds},
        )

    @property
    def power(self) -> Power:
        """What was last read of its power."""
        return self.observation.power if self.observation else Power.UNKNOWN

    @property
    def backups_locked(self) -> bool | None:
        """Whether none of its backups could be deleted when they were last read; null while they never were.

        A platform that shows no backups at all has none that could be.
        """
        if self.observation is None or self.observation.unprotected_backups is None:
            return self.record.backups_locked or None
        return self.record.backups_locked or not self.observation.unprotected_backups

    @property
    def restoring(self) -> bool:
        """Whether something of ours that no hold asks for any more is still to be given back."""
        if self.row.retired_at is not None:
            return False
        power_owed = self.record.stopped_by_us and not self.desired.stop
        return power_owed or (self.record.backups_locked and not self.desired.lock_backups)

    @property
    def in_sync(self) -> bool:
        """Whether what was read is what is asked for. No wish is met by anything once all of ours was given back."""
        if self.status in {ServerStatus.DELETED, ServerStatus.MISSING}:
            return True
        stopped = not self.desired.stop or self.power is Power.STOPPED
        locked = not self.desired.lock_backups or self.backups_locked is True
        return stopped and locked and not self.restoring


async def load_facts(rows: Sequence[Server], now: datetime) -> list[ServerFacts]:
    """Return the facts of these servers, in their order."""
    if not rows:
        return []
    keys = [row.id for row in rows]
    holds: dict[int, list[Hold]] = defaultdict(list)
    for hold in await Hold.filter(server_id__in=keys, lifted_at__isnull=True).order_by("since", "id"):
        if hold.expires_at is None or hold.expires_at > now:
            holds[hold.server_id].append(hold)
    observations = {row.server_id: row for row in await Observation.filter(server_id__in=keys)}
    records = await restore_record.of_servers(keys)
    return [
        ServerFacts(
            row=row,
            holds=tuple(holds[row.id]),
            observation=observations.get(row.id),
            record=records.get(row.id, NOTHING_TAKEN),
        )
        for row in rows
    ]
