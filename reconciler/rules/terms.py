"""The words of the reconciler as enums: guests, power, steps, lanes, modes.

Owns the vocabulary only. Values are stored and sent on the wire: never rename one.
"""

from enum import StrEnum


class Mode(StrEnum):
    """`OFF` sends nothing anywhere, `PLAN` only looks and gives back, `APPLY` acts."""

    OFF = "OFF"
    PLAN = "PLAN"
    APPLY = "APPLY"


class GuestKind(StrEnum):
    """What the platform runs for a server."""

    LXC = "LXC"
    VM = "VM"
    WORKLOAD = "WORKLOAD"


class Power(StrEnum):
    """What was read of a guest's power; `UNKNOWN` is never taken for either of the others."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def read(cls, text: object) -> "Power":
        """Return the power that a play told in any case; what is neither running nor stopped is unknown."""
        return {"RUNNING": cls.RUNNING, "STOPPED": cls.STOPPED}.get(str(text).upper(), cls.UNKNOWN)


class Deployment(StrEnum):
    """How far the platform got with setting a server up."""

    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class ServerStatus(StrEnum):
    """What a server is to its owner; follows the holds, not the observation."""

    PROVISIONING = "PROVISIONING"
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    DELINQUENT = "DELINQUENT"
    HELD = "HELD"
    MISSING = "MISSING"
    FAILED = "FAILED"
    DELETED = "DELETED"


class StepKind(StrEnum):
    """One change: an account admitted to a stage, or one server (or one access role) changed."""

    ADVANCE = "ADVANCE"
    STOP = "STOP"
    START = "START"
    LOCK_BACKUPS = "LOCK_BACKUPS"
    UNLOCK_BACKUPS = "UNLOCK_BACKUPS"
    CLOSE_ACCESS = "CLOSE_ACCESS"
    OPEN_ACCESS = "OPEN_ACCESS"

    @property
    def restricts(self) -> bool:
        """Whether the step takes something away; a step that does not is never braked."""
        return self in _RESTRICTING


_RESTRICTING = frozenset({StepKind.ADVANCE, StepKind.STOP, StepKind.LOCK_BACKUPS, StepKind.CLOSE_ACCESS})


class StepState(StrEnum):
    """Where a step is; `UNKNOWN` is observed again before anything else happens to its server."""

    PLANNED = "PLANNED"
    HELD_BACK = "HELD_BACK"
    DISPATCHED = "DISPATCHED"
    DONE = "DONE"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    VOID = "VOID"
    DRIFT = "DRIFT"
    #: Proposed for nobody: its server is passed over, and the plan says why.
    SKIPPED = "SKIPPED"


class Lane(StrEnum):
    """The three queues of work on a node; never two jobs at once on a node and lane."""

    RESTORE = "RESTORE"
    RESTRICT = "RESTRICT"
    OBSERVE = "OBSERVE"


class RunState(StrEnum):
    """`LOST`: its supervisor ended without a verdict; every target of it is unknown."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
