"""An account's servers in groups of which the same is so: what its banner counts, however many there are.

Reads holds, the restore record and the last readings, as `reconciler.told_servers` does for letters, in one statement
for many accounts. Decides nothing and writes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing.bundle import Bundle, Part, grouped, instant_or_none
from billing.rules.announced_servers import AnnouncedServers
from billing.rules.facts import OverrideFact
from billing.rules.overrides import strongest
from billing.rules.terms import Effect, OverrideKind, Stage
from reconciler.subjects import Subject

#: One row for each live server. Those with an episode or an exemption of their own are told one by one.
_SERVERS = """
SELECT s.account_id,
  CASE WHEN
    s.id IN (SELECT e.server_id FROM episode e WHERE e.ended_at IS NULL AND e.server_id IS NOT NULL
             AND e.account_id IN (SELECT id FROM asked))
    OR s.id IN (SELECT x.server_id FROM override x WHERE x.kind = 'EXEMPT' AND x.revoked_at IS NULL
                AND x.server_id IS NOT NULL AND x.account_id IN (SELECT id FROM asked))
    THEN s.id END AS own,
  CASE WHEN s.free OR s.missing_since IS NOT NULL THEN 1 ELSE 0 END AS spared,
  MAX(CASE WHEN h.cause = 'BILLING' AND h.stops_server THEN 1 ELSE 0 END) AS stopped,
  MAX(CASE WHEN h.cause = 'BILLING' AND h.locks_backups THEN 1 ELSE 0 END) AS locked,
  MAX(CASE WHEN h.cause = 'CUSTOMER' OR COALESCE(p.found, o.power) = 'STOPPED' THEN 1 ELSE 0 END) AS was_off,
  MAX(CASE WHEN h.cause NOT IN ('BILLING', 'CUSTOMER') AND h.expires_at IS NULL THEN 1 ELSE 0 END) AS kept,
  MAX(CASE WHEN h.cause NOT IN ('BILLING', 'CUSTOMER') THEN h.expires_at END) AS kept_until
FROM server s
LEFT JOIN hold h ON h.server_id = s.id AND h.lifted_at IS NULL
LEFT JOIN restore_part p ON p.server_id = s.id AND p.part = 'power' AND p.closed_at IS NULL
LEFT JOIN observation o ON o.server_id = s.id
WHERE s.retired_at IS NULL AND s.account_id IN (SELECT id FROM asked)
GROUP BY s.id
"""
_ALIKE = "account_id, own, spared, stopped, locked, was_off, kept, kept_until"
_BUNDLE = Bundle(
    {"groups": Part(columns=f"{_ALIKE}, COUNT(*)", rows=f"FROM ({_SERVERS}) t GROUP BY {_ALIKE}")}
)


@dataclass(frozen=True, kw_only=True)
class ServerGroup:
    """Live servers of one account of which the same is so."""

    #: The only one in it, where it has an episode or an exemption of its own.
    own: int | None
    number: int
    #: Whether no stage reaches them: they are free or missing.
    spared: bool
    #: What a billing hold takes of them.
    effects: frozenset[Effect]
    #: Whether they are or were off, whatever billing does: by their owner's wish, or found so.
    was_off: bool
    #: Whether somebody else holds them without end, or else until when.
    kept: bool
    kept_until: datetime | None


async def read(account_ids: Iterable[int]) -> Mapping[int, list[ServerGroup]]:
    """Return the groups of each of these accounts; of one without servers none."""
    found = await _BUNDLE.read(account_ids)
    return grouped((account_id, _group(*row)) for account_id, *row in found["groups"])


def counts(groups: Sequence[ServerGroup], subjects: Sequence[Subject], now: datetime) -> AnnouncedServers:
    """Return what a banner says of an account's servers; `subjects` are the account and its uncovered servers.

    At `CURRENT` the banner is about the uncovered servers, and so are the counts of what is reached.
    """
    account = next(one for one in subjects if one.server is None)
    alone = {one.server.id: one for one in subjects if one.server and one.standing is not Stage.CURRENT}
    placed: dict[int | None, list[OverrideFact]] = defaultdict(list)
    for override in account.overrides:
        placed[override.server_id].append(override)
    found: Counter[str] = Counter()
    for group in groups:
        single = alone.get(group.own) if group.own is not None else None
        exempt = group.own is not None and strongest(placed[group.own], OverrideKind.EXEMPT, now) is not None
        about = account.standing is not Stage.CURRENT or single is not None
        by_itself = single.effects_at(single.standing) if single is not None else frozenset[Effect]()
        # A hold for more than the standing takes is on its way out.
        taken = group.effects & (account.effects_at(account.standing) | by_itself)
        reached = about and not group.spared and not exempt
        for kind in _kinds(group, taken, reached=reached, alone=bool(by_itself), now=now):
            found[kind] += group.number
    return AnnouncedServers(**found)


def _kinds(
    group: ServerGroup, taken: frozenset[Effect], *, reached: bool, alone: bool, now: datetime
) -> Iterable[str]:
    """Yield as what a group counts: the fields of `AnnouncedServers`."""
    yield "there"
    kept = group.kept or (group.kept_until is not None and group.kept_until > now)
    if not kept and Effect.STOP_SERVERS not in group.effects:
        yield "untouched"
    if not reached:
        return
    yield "reached"
    if Effect.LOCK_BACKUPS in taken:
        yield "locked"
    if kept:
        yield "kept"
        return
    if Effect.STOP_SERVERS in taken:
        yield "off" if group.was_off else "stopped"
    if alone and taken:
        yield "uncovered"


def _group(*row: Any) -> ServerGroup:
    own, spared, stopped, locked, was_off, kept, kept_until, number = row
    return ServerGroup(
        own=own,
        number=number,
        spared=bool(spared),
        effects=frozenset(
            effect for effect, held in ((Effect.STOP_SERVERS, stopped), (Effect.LOCK_BACKUPS, locked)) if held
        ),
        was_off=bool(was_off),
        kept=bool(kept),
        kept_until=instant_or_none(kept_until),
    )
