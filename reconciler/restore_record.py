"""The restore record: what our dispatches found before they changed it, part by part, until it was given back.

The only writer of `restore_part`. A part that is open already keeps what was found first; a new hold inherits it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.models import RestorePart
from reconciler.rules.terms import Power
from reconciler.rules.world import NOTHING_TAKEN, RecordView

POWER_PARTS = ("power", "onboot", "protection")
BACKUP_PARTS = ("backups", "backup")
ROLE_PARTS = ("role",)
OF_A_SERVER = (*POWER_PARTS, *BACKUP_PARTS)
#: How a stop of ours leaves the parts of a guest; a part that is found otherwise was changed by somebody else.
_LEFT = {"power": Power.STOPPED.value, "onboot": "false", "protection": "true"}


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Whose record: a server, or an account's access on a site (`server_id` null)."""

    site: str
    server_id: int | None = None
    account_id: int | None = None


async def of_servers(server_ids: Iterable[int]) -> Mapping[int, RecordView]:
    """Return the open records of these servers; a server without one is left out."""
    return views(await RestorePart.filter(server_id__in=list(server_ids), closed_at=None).order_by("id"))


def views(rows: Iterable[RestorePart]) -> Mapping[int, RecordView]:
    """Return the record of each server that these open parts are of."""
    parts: dict[int, list[RestorePart]] = defaultdict(list)
    for row in rows:
        parts[row.server_id or 0].append(row)
    return {server_id: _view(found) for server_id, found in parts.items()}


async def of_access(account_ids: Iterable[int]) -> Mapping[tuple[int, str], RecordView]:
    """Return the open records of access by account and site."""
    rows = await RestorePart.filter(
        account_id__in=list(account_ids), server_id=None, closed_at=None
    ).order_by("id")
    return {(row.account_id or 0, row.site): _view([row]) for row in rows}


async def take(owner: Owner, found: Sequence[tuple[str, str, str]], *, step_id: int, at: datetime) -> None:
    """Open the parts that a dispatch is about to change, `(part, volume, found)`.

    A part that is open already keeps what was found first, unless it was found changed by somebody else since: what is
    taken now is then what they had made of it.
    """
    standing = {
        (row.part, row.volume): row for row in await RestorePart.filter(**_key(owner), closed_at=None)
    }
    for part, volume, value in found:
        open_part = standing.get((part, volume))
        if open_part is not None and open_part.found != value and _LEFT.get(part, value) != value:
            await RestorePart.filter(id=open_part.id).update(closed_at=at, closed_because="changed_by_others")
            open_part = None
        if open_part is None:
            await RestorePart.create(
                **_key(owner), part=part, volume=volume, found=value, step_id=step_id, taken_at=at
            )


async def close(
    owner: Owner, parts: Iterable[str], *, because: str, at: datetime, volumes: Iterable[str] | None = None
) -> int:
    """Close open parts because they were given back, changed by somebody else or never changed; return how many."""
    rows = RestorePart.filter(**_key(owner), part__in=list(parts), closed_at=None)
    if volumes is not None:
        rows = rows.filter(volume__in=list(volumes))
    return await rows.update(closed_at=at, closed_because=because)


async def close_taken_by(step_id: int, *, because: str, at: datetime) -> int:
    """Close what this step took, because it was proven to have changed nothing; return how many parts."""
    return await RestorePart.filter(step_id=step_id, closed_at=None).update(
        closed_at=at, closed_because=because
    )


async def leave_to_others(step_id: int, *, role: str | None, at: datetime) -> None:
    """Give up what this step took and then found done by somebody else: undoing it would undo their work.

    The backups that it was to protect stay theirs. A `role` other than the one taken becomes what is given back.
    Parts that an earlier step took stay: it may have been ours that took effect late.
    """
    taken = RestorePart.filter(step_id=step_id, closed_at=None)
    await taken.filter(part="backup").update(closed_at=at, closed_because="changed_by_others")
    part = await taken.filter(part="role").first()
    if part is not None and role is not None and part.found != role:
        await RestorePart.filter(id=part.id).update(closed_at=at, closed_because="changed_by_others")
        owner = Owner(site=part.site, server_id=part.server_id, account_id=part.account_id)
        await take(owner, [("role", "", role)], step_id=step_id, at=at)


def _key(owner: Owner) -> dict[str, Any]:
    return {"server_id": owner.server_id, "account_id": owner.account_id, "site": owner.site}


def _view(rows: Iterable[RestorePart]) -> RecordView:
    parts = list(rows)
    single = {row.part: row.found for row in parts if row.part != "backup"}
    if not parts:
        return NOTHING_TAKEN
    return RecordView(
        power=Power(single["power"]) if "power" in single else None,
        onboot=_flag(single.get("onboot")),
        protection=_flag(single.get("protection")),
        backups_locked="backups" in single,
        volumes=tuple(sorted(row.volume for row in parts if row.part == "backup")),
        role=single.get("role"),
    )


def _flag(text: str | None) -> bool | None:
    return None if text is None else text == "true"
