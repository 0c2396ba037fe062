"""What a play read of one target, as a typed value, and what follows from it for a step.

Pure. Owns the translation between the wire form of reports and the words of the reconciler: what a dispatch commits as
`expect`, what the restore record keeps, and whether a reading shows a change as made, undone or not begun.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.overview import marked
from reconciler.rules.terms import Power, StepKind
from reconciler.rules.world import RecordView

#: What a recorded role is when nobody had one: nothing to give back.
NO_ROLE = "none"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One target as it was read; null: not read, or the platform has no such thing."""

    power: Power = Power.UNKNOWN
    onboot: bool | None = None
    protection: bool | None = None
    digest: str | None = None
    marker: str | None = None
    node: str | None = None
    busy: str | None = None
    protected: tuple[str, ...] | None = None
    unprotected: tuple[str, ...] | None = None
    role: str | None = None
    #: Which platform answered.
    identity: str | None = None
    #: Whether it carries our mark of a stop.
    marked: bool | None = None

    @classmethod
    def of(cls, raw: Mapping[str, object]) -> "Reading":
        """Return the reading in a report's `before` or `after`; what is not of the expected type counts as not read."""
        return cls(
            power=Power.read(raw.get("power")),
            onboot=_flag(raw.get("onboot")),
            protection=_flag(raw.get("protection")),
            digest=_text(raw.get("digest")),
            marker=_text(raw.get("marker")),
            node=_text(raw.get("node")),
            busy=_text(raw.get("busy")),
            protected=_texts(raw.get("protected_backups")),
            unprotected=_texts(raw.get("unprotected_backups")),
            role=_text(raw.get("role")),
            identity=_text(raw.get("identity")),
            marked=marked(raw.get("tags")),
        )


def expectation(kind: StepKind, reading: Reading) -> dict[str, object]:
    """Return what a restricting step commits before it acts: the parts that it will change, as they were read where."""
    match kind:
        case StepKind.STOP:
            parts: dict[str, object] = {
                "power": reading.power.lower(),
                "onboot": reading.onboot,
                "protection": reading.protection,
                "digest": reading.digest,
                "marker": reading.marker,
            }
        case StepKind.LOCK_BACKUPS:
            parts = {"unprotected_backups": list(reading.unprotected or ()), "marker": reading.marker}
        case _:
            parts = {"role": reading.role}
    parts["identity"] = reading.identity
    return {name: value for name, value in parts.items() if value is not None}


def found(kind: StepKind, reading: Reading) -> list[tuple[str, str, str]]:
    """Return what the restore record keeps of a reading: `(part, volume, what was found)`."""
    match kind:
        case StepKind.STOP:
            flags = (("onboot", reading.onboot), ("protection", reading.protection))
            known = [(part, "", str(value).lower()) for part, value in flags if value is not None]
            return [("power", "", str(reading.power)), *known]
        case StepKind.LOCK_BACKUPS:
            return [
                ("backups", "", "open"),
                *(("backup", volume, "false") for volume in reading.unprotected or ()),
            ]
        case _:
            return [("role", "", reading.role or NO_ROLE)]


def recorded(
    kind: StepKind, record: RecordView, *, start_wanted: bool, marker: str | None = None
) -> dict[str, object]:
    """Return the restore record as an undoing action takes it; a wished start without a record is one of a stop.

    With the creation `marker` of the guest that it was taken from, the action leaves another guest of its number alone.
    """
    match kind:
        case StepKind.START:
            power = record.power
            if start_wanted:
                power = Power.RUNNING
            parts: dict[str, object | None] = {
                "power": power.lower() if power else None,
                "onboot": record.onboot,
                "protection": record.protection,
                "marker": marker,
            }
        case StepKind.UNLOCK_BACKUPS:
            parts = {"unprotected_backups": list(record.volumes), "marker": marker}
        case _:
            parts = {"role": None if record.role == NO_ROLE else record.role}
    return {name: value for name, value in parts.items() if value is not None}


def to_give_back(kind: StepKind, record: RecordView, *, start_wanted: bool) -> bool:
    """Return whether there is still something that an undoing step of this kind could give back."""
    match kind:
        case StepKind.START:
            return record.stopped_by_us or start_wanted
        case StepKind.UNLOCK_BACKUPS:
            return record.backups_locked
        case _:
            return record.role is not None


def shows_done(kind: StepKind, expect: Mapping[str, object], reading: Reading) -> bool:
    """Return whether a reading shows that a step of unknown outcome reached what it was for."""
    match kind:
        case StepKind.STOP:
            return (
                reading.power is Power.STOPPED
                and reading.onboot in {None, False}
                and reading.protection in {None, True}
            )
        case StepKind.LOCK_BACKUPS:
            return reading.protected is not None and set(
                _texts(expect.get("unprotected_backups")) or ()
            ) <= set(reading.protected)
        case StepKind.START:
            kept = Reading.of(expect)
            same = kept.onboot in {None, reading.onboot} and kept.protection in {None, reading.protection}
            return same and (kept.power is not Power.RUNNING or reading.power is Power.RUNNING)
        case StepKind.UNLOCK_BACKUPS:
            volumes = set(_texts(expect.get("unprotected_backups")) or ())
            return reading.protected is not None and not volumes & set(reading.protected)
        case StepKind.OPEN_ACCESS:
            return expect.get("role") in {None, reading.role}
        case _:
            return "role" in expect and reading.role is not None and reading.role != expect["role"]


def contradicts(kind: StepKind, expect: Mapping[str, object], reading: Reading) -> bool:
    """Return whether a reading denies what a step is reported to have done: done means read back."""
    if kind is StepKind.STOP:
        return reading.power is not Power.STOPPED
    recorded_as_running = Power.read(expect.get("power")) is Power.RUNNING
    return kind is StepKind.START and recorded_as_running and reading.power is not Power.RUNNING


def shows_untouched(kind: StepKind, expect: Mapping[str, object], reading: Reading) -> bool:
    """Return whether a reading shows a restricting step's guest exactly as it was when the step was dispatched."""
    if not kind.restricts or not expect:
        return False
    now = expectation(kind, reading)
    return all(now.get(part) == value for part, value in expect.items())


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list | tuple):
        return None
    return tuple(sorted(str(entry) for entry in value))
