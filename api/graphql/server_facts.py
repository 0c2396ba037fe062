"""Everything that a server's fields are answered from, loaded for a whole page at once.

Owns the join of row, holds, reading and restore record. One statement beside the rows, whatever the size of the page.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.graphql.worked_out import Kept
from billing.bundle import Bundle, Part, instant, instant_or_none
from reconciler import restore_record
from reconciler.hold_effects import effects_of
from reconciler.models import Hold, RestorePart, Server
from reconciler.rules.desired import Desired, desired
from reconciler.rules.status import server_status
from reconciler.rules.terms import Power, ServerStatus
from reconciler.rules.world import NOTHING_TAKEN, HoldView, RecordView

_HOLD = (
    "id", "server_id", "cause", "stops_server", "locks_backups", "locks_account", "stage", "reason", "placed_by",
    "since", "expires_at", "lifted_at", "lifted_by",
)  # fmt: skip
_PART = ("id", "server_id", "site", "part", "volume", "found")

_BUNDLE = Bundle(
    {
        "holds": Part(
            columns=", ".join(_HOLD),
            rows="FROM hold WHERE lifted_at IS NULL AND server_id IN (SELECT id FROM asked)",
        ),
        "readings": Part(
            columns="server_id, power, observed_at, deep_at, marked_at, <json>unprotected_backups</json>",
            rows="FROM observation WHERE server_id IN (SELECT id FROM asked)",
        ),
        "record": Part(
            columns=", ".join(_PART),
            rows="FROM restore_part WHERE closed_at IS NULL AND server_id IN (SELECT id FROM asked)",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was last read of a server's guest."""

    power: Power
    observed_at: datetime
    #: Null until its backups were read.
    deep_at: datetime | None
    #: Since when it carries our mark of a stop; null without.
    marked_at: datetime | None
    unprotected_backups: Sequence[str] | None


#: What no holds ask for.
_NOTHING = desired(())


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """One server as of one instant."""

    row: Server
    #: The holds in force, oldest first.
    holds: tuple[Hold, ...]
    #: What was last read of it, as it is stored; null: nothing was.
    read: Sequence[Any] | None
    #: What we took and have not given back.
    record: RecordView

    @Kept
    def observation(self) -> Reading | None:
        """What was last read of its guest."""
        return _reading(*self.read) if self.read is not None else None

    @Kept
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

    @Kept
    def desired(self) -> Desired:
        """What the holds ask for."""
        return desired(self.views) if self.holds else _NOTHING

    @Kept
    def status(self) -> ServerStatus:
        """What it is to its owner."""
        return server_status(
            retired=self.row.retired_at is not None,
            deployment=self.row.deployment,
            missing=self.row.missing_since is not None,
            holds={hold.cause: effects_of(hold) for hold in self.holds},
        )

    @property
    def is_gone(self) -> bool:
        """Whether there is no server any more, or none to be found."""
        return self.status is ServerStatus.DELETED or self.status is ServerStatus.MISSING

    @property
    def power(self) -> Power:
        """What was last read of its power."""
        return self.observation.power if self.observation else Power.UNKNOWN

    @Kept
    def backups_locked(self) -> bool | None:
        """Whether none of its backups could be deleted when they were last read; null while they never were.

        A platform that shows no backups at all has none that could be.
        """
        if self.observation is None or self.observation.unprotected_backups is None:
            return self.record.backups_locked or None
        return self.record.backups_locked or not self.observation.unprotected_backups

    @Kept
    def restoring(self) -> bool:
        """Whether something of ours that no hold asks for any more is still to be given back."""
        if self.row.retired_at is not None:
            return False
        power_owed = self.record.stopped_by_us and not self.desired.stop
        return power_owed or (self.record.backups_locked and not self.desired.lock_backups)

    @Kept
    def in_sync(self) -> bool:
        """Whether what was read is what is asked for. No wish is met by anything once all of ours was given back."""
        if self.is_gone:
            return True
        stopped = not self.desired.stop or self.power is Power.STOPPED
        locked = not self.desired.lock_backups or self.backups_locked is True
        return stopped and locked and not self.restoring


async def load_facts(rows: Sequence[Server], now: datetime) -> list[ServerFacts]:
    """Return the facts of these servers, in their order."""
    if not rows:
        return []
    found = await _BUNDLE.read(row.id for row in rows)
    holds = _holds(found["holds"], now)
    readings = {row[0]: row[1:] for row in found["readings"]}
    records = restore_record.views(
        RestorePart(**dict(zip(_PART, row, strict=True))) for row in found["record"]
    )
    return [
        ServerFacts(
            row=row,
            holds=tuple(holds[row.id]),
            read=readings.get(row.id),
            record=records.get(row.id, NOTHING_TAKEN),
        )
        for row in rows
    ]


def _holds(rows: Iterable[Sequence[Any]], now: datetime) -> dict[int, list[Hold]]:
    """Return the holds in force by server, oldest first."""
    holds = [Hold(**dict(zip(_HOLD, row, strict=True))) for row in rows]
    found: dict[int, list[Hold]] = defaultdict(list)
    for hold in sorted(holds, key=lambda hold: (hold.since, hold.id)):
        if hold.expires_at is None or hold.expires_at > now:
            found[hold.server_id].append(hold)
    return found


def _reading(
    power: str, observed_at: str, deep_at: str | None, marked_at: str | None, backups: Sequence[str] | None
) -> Reading:
    return Reading(
        power=Power(power),
        observed_at=instant(observed_at),
        deep_at=instant_or_none(deep_at),
        marked_at=instant_or_none(marked_at),
        unprotected_backups=backups,
    )
