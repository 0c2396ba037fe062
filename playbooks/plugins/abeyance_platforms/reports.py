"""What was read of a guest, what went wrong, and the one report per guest that leaves a play.

Owns the wire form of `abeyance_reports`. Reads and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_MESSAGE_LIMIT = 500


class Outcome(StrEnum):
    """How an action ended for one target."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    UNKNOWN = "unknown"
    REFUSED = "refused"


class Retry(StrEnum):
    """Whether trying again can help."""

    LATER = "later"
    NEVER = "never"


class PlatformError(Exception):
    """The platform said no, or nothing. `retry` is None when a person has to look."""

    def __init__(self, message: str, retry: Retry | None = None) -> None:
        super().__init__(message)
        self.retry = retry


class GuestGoneError(PlatformError):
    """The node that was asked has no such guest: it moved, or it exists no more."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Retry.NEVER)


class StillRunningError(PlatformError):
    """Something that we started on the platform has not ended: its result is unknown, not failed."""


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """Nothing more may be done to this guest now; `retry` says whether later may be different."""

    def __init__(self, message: str, retry: Retry) -> None:
        super().__init__(message)
        self.retry = retry


@dataclass(frozen=True, kw_only=True)
class Backup:
    """One stored backup of a guest. `made` is seconds since 1970, and only orders them."""

    volid: str
    protected: bool
    made: float


@dataclass(frozen=True, kw_only=True)
class State:
    """What was read of one target. None means: not read, or the platform has no such thing."""

    power: str | None = None
    onboot: bool | None = None
    protection: bool | None = None
    tags: tuple[str, ...] | None = None
    node: str | None = None
    digest: str | None = None
    marker: str | None = None
    busy: str | None = None
    backups: tuple[Backup, ...] | None = None
    role: str | None = None
    #: Which platform answered: the cluster, or the node where each stands for itself.
    identity: str | None = None

    def wire(self) -> dict[str, object]:
        """Return the state as plain data, under the names of the contract."""
        kept = self.backups
        return {
            "power": self.power,
            "onboot": self.onboot,
            "protection": self.protection,
            "tags": None if self.tags is None else list(self.tags),
            "node": self.node,
            "digest": self.digest,
            "marker": self.marker,
            "busy": self.busy,
            "backups": None if kept is None else [backup.volid for backup in kept],
            "protected_backups": None if kept is None else [b.volid for b in kept if b.protected],
            "unprotected_backups": None if kept is None else [b.volid for b in kept if not b.protected],
            "backups_locked": None if kept is None else all(backup.protected for backup in kept),
            "role": self.role,
            "identity": self.identity,
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """What happened to one target; `before` and `after` were read from the platform."""

    id: str
    outcome: Outcome
    before: State | None = None
    after: State | None = None
    message: str = ""
    retry: Retry | None = None

    def wire(self) -> dict[str, object]:
        """Return the report as plain data; `retry` is left out where it does not apply."""
        line = "".join(char if char.isprintable() else " " for char in self.message)
        report: dict[str, object] = {
            "id": self.id,
            "outcome": self.outcome.value,
            "before": self.before and self.before.wire(),
            "after": self.after and self.after.wire(),
            "message": line[:_MESSAGE_LIMIT],
        }
        if self.retry is not None:
            report["retry"] = self.retry.value
        return report
