"""Works out what is to be changed on one guest, from what is wanted or recorded and what was read.

Pure. Owns the rule of exact restore: a restriction touches only what still is as it was recorded, an undo only what
still is as we left it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .reports import Refusal, Retry, State

BACKUPS = "unprotected_backups"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What to change: only parts that differ. `notes` says what was left alone, and why.

    `tag` is a tag to add or to take away, `backups` maps a backup's name to the protection it gets.
    """

    power: str | None = None
    onboot: bool | None = None
    protection: bool | None = None
    add_tag: str | None = None
    take_tag: str | None = None
    backups: Mapping[str, bool] | None = None
    role: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there is something to change at all."""
        return (
            any(part is not None for part in (self.power, self.role)) or self.configures or bool(self.backups)
        )

    @property
    def configures(self) -> bool:
        """Whether the guest's configuration is to be changed."""
        return any(x is not None for x in (self.onboot, self.protection, self.add_tag, self.take_tag))

    def unmet(self, after: State) -> tuple[str, ...]:
        """Return the parts that `after` does not show as they were to become."""
        protected = {backup.volid: backup.protected for backup in after.backups or ()}
        missed = [
            part
            for part in ("power", "onboot", "protection", "role")
            if getattr(self, part) is not None and getattr(after, part) != getattr(self, part)
        ]
        tags = after.tags or ()
        if (self.add_tag and self.add_tag not in tags) or (self.take_tag and self.take_tag in tags):
            missed.append("tags")
        missed += [volid for volid, wanted in (self.backups or {}).items() if protected.get(volid) != wanted]
        return tuple(missed)


def restriction(want: Mapping[str, object], expect: Mapping[str, object], now: State) -> Changes:
    """Return the changes that take a guest to `want`; none when it is there already.

    Raises `Refusal` when any part that would change is not as `expect` recorded it, or another platform answers.
    """
    _same_platform(expect, now)
    if "backups" in want:
        return _lock_backups(expect, now)
    if "role" in want:
        return _close_role(str(want["role"]), expect, now)
    changes = _towards(want, now)
    if not changes.anything:
        return changes
    _same_guest(expect, now, strictly=True)
    for part in (name for name in want if name != "tag"):
        _as_expected(part, expect, getattr(now, part))
    if "digest" in expect:
        _as_expected("digest", expect, now.digest)
    if now.power not in ("running", "stopped"):
        raise Refusal(f"power reads {now.power}", Retry.LATER)
    return changes


def undoing(
    parts: Sequence[str], record: Mapping[str, object], now: State, *, left: Mapping[str, object]
) -> Changes:
    """Return the changes that give back the recorded `parts` which still are as we `left` them.

    `left` names the marks of our own: `tag`, and for a role the `roles` that count as ours.
    """
    _same_guest(record, now, strictly=False)
    if "backups" in parts:
        return _unlock_backups(record, now)
    if "role" in parts:
        return _open_role(record, now, left)
    changed: dict[str, object] = {}
    notes: list[str] = []
    for part, ours in (("onboot", False), ("protection", True), ("power", "stopped")):
        recorded, current = record.get(part), getattr(now, part)
        if part not in parts or recorded is None or current is None or recorded == current:
            continue
        if current != ours:
            notes.append(f"{part} is {current} since, not as we left it: left alone")
        elif recorded != "unknown":
            changed[part] = recorded
    tag = str(left.get("tag", ""))
    if "tag" in parts and tag in (now.tags or ()):
        changed["take_tag"] = tag
    return Changes(**changed, notes=tuple(notes))  # type: ignore[arg-type]


def _towards(want: Mapping[str, object], now: State) -> Changes:
    changed: dict[str, object] = {
        part: value for part, value in want.items() if part != "tag" and getattr(now, part) != value
    }
    tag = want.get("tag")
    if tag and tag not in (now.tags or ()):
        changed["add_tag"] = tag
    return Changes(**changed)  # type: ignore[arg-type]


def _as_expected(part: str, expect: Mapping[str, object], current: object) -> None:
    if part not in expect:
        raise Refusal(
            f"expect.{part} is missing: nothing is restricted that was not observed first", Retry.NEVER
        )
    if expect[part] != current:
        raise Refusal(f"{part} is {current} and was {expect[part]} when this was decided", Retry.LATER)


def _same_guest(expect: Mapping[str, object], now: State, *, strictly: bool) -> None:
    known = expect.get("marker")
    if known is not None and known != now.marker and (strictly or now.marker is not None):
        raise Refusal(
            f"another guest has this number now: its mark is {now.marker}, not {known}", Retry.NEVER
        )


def _same_platform(expect: Mapping[str, object], now: State) -> None:
    """Refuse what was decided about another platform; an undo is bound by the guest's own mark alone."""
    known = expect.get("identity")
    if known is not None and known != now.identity:
        raise Refusal(f"the platform answers as {now.identity or 'nobody'}, not as {known}", Retry.LATER)


def _lock_backups(expect: Mapping[str, object], now: State) -> Changes:
    if BACKUPS not in expect:
        raise Refusal(
            f"expect.{BACKUPS} is missing: nothing is locked that was not observed first", Retry.NEVER
        )
    found = {backup.volid: backup for backup in now.backups or ()}
    listed = [str(volid) for volid in expect[BACKUPS]]  # type: ignore[attr-defined]
    if all(volid in found and found[volid].protected for volid in listed):
        # Ours from a run before, or somebody else's: which, only the one who dispatched this can tell.
        return Changes(notes=("all listed backups are protected already",) if listed else ())
    _same_guest(expect, now, strictly=True)
    for volid in listed:
        if volid not in found:
            raise Refusal(f"backup {volid} is not there any more", Retry.LATER)
        if found[volid].protected:
            raise Refusal(f"backup {volid} was protected since", Retry.LATER)
    newest_first = sorted(listed, key=lambda volid: (-found[volid].made, volid))
    return Changes(backups=dict.fromkeys(newest_first, True))


def _unlock_backups(record: Mapping[str, object], now: State) -> Changes:
    found = {backup.volid: backup for backup in now.backups or ()}
    listed = [str(volid) for volid in record.get(BACKUPS, ())]  # type: ignore[attr-defined]
    gone = [volid for volid in listed if volid not in found]
    notes = (f"{len(gone)} recorded backups are not there any more: left alone",) if gone else ()
    ours = [volid for volid in listed if volid in found and found[volid].protected]
    return Changes(backups=dict.fromkeys(ours, False), notes=notes)


def _close_role(wanted: str, expect: Mapping[str, object], now: State) -> Changes:
    if now.role is None:
        return Changes(notes=("nobody holds a customer's role on this pool",))
    if now.role == wanted:
        return Changes(notes=(f"the role is {wanted} already",))
    _as_expected("role", expect, now.role)
    return Changes(role=wanted)


def _open_role(record: Mapping[str, object], now: State, left: Mapping[str, object]) -> Changes:
    recorded = record.get("role")
    if recorded is None or now.role == recorded:
        return Changes()
    if now.role not in left.get("roles", ()):  # type: ignore[operator]
        return Changes(notes=(f"the role is {now.role} since, not as we left it: left alone",))
    return Changes(role=str(recorded))
