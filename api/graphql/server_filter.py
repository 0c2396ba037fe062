"""Narrowing a list of servers, by the same rules as their status, as conditions on rows.

Owns what each filter means in SQL. Of the lists of one account every row is looked at; the fleet's are parted, so that
each part is found by an index.
"""

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import strawberry
from tortoise.expressions import Q, RawSQL

from api.graphql import ids
from api.graphql.context import Context
from api.graphql.id_sets import Ids
from api.graphql.long_lists import Part
from api.graphql.nodes import HoldCause, ServerStatus
from api.graphql.sought import Sought
from api.graphql.texts import searchable
from reconciler.restore_record import POWER_PARTS


@strawberry.input
class ServerFilter:
    """Narrows a list of servers; what is left out narrows nothing."""

    status: list[ServerStatus] | None = None
    site: str | None = None
    site_node: str | None = None
    account_id: strawberry.ID | None = None
    in_sync: bool | None = None
    search: str | None = None


#: The causes whose stopping holds make a status; the first that applies is the status.
_HELD_BY = {
    ServerStatus.HELD: (HoldCause.ABUSE, HoldCause.ADMIN, HoldCause.MAINTENANCE),
    ServerStatus.DELINQUENT: (HoldCause.BILLING,),
    ServerStatus.INACTIVE: (HoldCause.CUSTOMER,),
}
# Written out, not as values: PostgreSQL has an index of just these rows.
_DEPLOYED = Q(retired_at__isnull=True, deployment=RawSQL("'SUCCEEDED'"))
_THERE = _DEPLOYED & Q(missing_since__isnull=True)
_BY_ROW = {
    ServerStatus.DELETED: Q(retired_at__isnull=False),
    ServerStatus.PROVISIONING: Q(retired_at__isnull=True, deployment=RawSQL("'IN_PROGRESS'")),
    ServerStatus.FAILED: Q(retired_at__isnull=True, deployment=RawSQL("'FAILED'")),
    ServerStatus.MISSING: _DEPLOYED & Q(missing_since__isnull=False),
}
#: Whose state is asked about at all: neither retired nor missing.
_LOOKED_AT = Q(retired_at__isnull=True) & (
    Q(missing_since__isnull=True) | ~Q(deployment=RawSQL("'SUCCEEDED'"))
)
_NONE = Q(id=0)
_ALL = Part(counted=(Part(), ()))


def each(context: Context, asked: ServerFilter) -> Q:
    """Return the condition for a list of few: whatever it rests on is looked up for each row."""
    condition = _plain(asked)
    text = _sought(context, asked)
    if text is not None:
        condition &= text.row_by_row()
    wanted = [part.row_by_row() for part in _parts(_Sets(now=context.now, each_row=True), asked)]
    return condition & (functools.reduce(operator.or_, wanted) if wanted else _NONE)


async def parts(context: Context, asked: ServerFilter) -> list[Part]:
    """Return the parts of a list of many; no server is in two of them."""
    found = _parts(_Sets(now=context.now), asked)
    if asked.site is not None or asked.site_node is not None or asked.account_id is not None:
        found = [part & Part(condition=_plain(asked)) for part in found]
    text = _sought(context, asked)
    if text is None:
        return found
    with_it = await text.part()
    return [part & with_it for part in found]


def _plain(asked: ServerFilter) -> Q:
    condition = Q()
    if asked.site is not None:
        condition &= Q(site=asked.site)
    if asked.site_node is not None:
        condition &= Q(site_node=asked.site_node)
    if asked.account_id is not None:
        condition &= Q(account_id=ids.key_of("Account", asked.account_id) or 0)
    return condition


def _sought(context: Context, asked: ServerFilter) -> Sought | None:
    """Return the text to look for: in external ids and guests for everybody, in names for who may read them."""
    if not asked.search:
        return None
    columns = ("external_id", "guest", *(("name",) if context.sees_people else ()))
    return Sought(table="server", columns=columns, text=searchable(asked.search))


def _parts(sets: "_Sets", asked: ServerFilter) -> list[Part]:
    """Return what makes up the statuses that are asked for, as far as they are in sync or not."""
    found = [_ALL] if asked.status is None else list(_of_statuses(sets, asked.status))
    if asked.in_sync is None:
        return found
    return [(_alike if asked.in_sync else _differing)(sets, part) for part in found]


def _of_statuses(sets: "_Sets", wanted: Iterable[ServerStatus]) -> Iterator[Part]:
    asked = frozenset(wanted)
    for status in ServerStatus:
        if status in asked and status in _BY_ROW:
            yield Part(condition=_BY_ROW[status])
    held = [status for status in _HELD_BY if status in asked]
    if ServerStatus.ACTIVE not in asked:
        if held:
            yield Part(condition=_THERE, inside=(sets.led_by(held),))
        return
    there, others = Part(condition=_THERE), [status for status in _HELD_BY if status not in asked]
    if not others:
        yield replace(there, counted=(there, ()))
        return
    found = sets.led_by(others)
    counted = (there, [replace(there, inside=(found,))])
    yield Part(condition=_THERE & ~Q(id__in=found), counted=counted)


def _differing(sets: "_Sets", part: Part) -> Part:
    return part & Part(condition=_LOOKED_AT, inside=(sets.differing(),))


def _alike(sets: "_Sets", part: Part) -> Part:
    found = part & Part(condition=~(_LOOKED_AT & Q(id__in=sets.differing())))
    if part.counted is None:
        return found
    every, others = part.counted
    return replace(found, counted=(every, [*others, _differing(sets, part)]))


@dataclass(frozen=True, kw_only=True)
class _Sets:
    """The servers that holds, readings and restore records are about; with `each_row` asked of every row alone."""

    now: datetime
    each_row: bool = False

    def led_by(self, statuses: Sequence[ServerStatus]) -> Ids:
        """Return the servers that have one of these statuses because of a hold, if they are there."""
        branches: dict[tuple[HoldCause, ...], list[HoldCause]] = {}
        stronger: tuple[HoldCause, ...] = ()
        for status, causes in _HELD_BY.items():
            if status in statuses:
                branches.setdefault(stronger, []).extend(causes)
            else:
                stronger += causes
        return self._ids(*(self._stopped_by(causes, but=but) for but, causes in branches.items()))

    def differing(self) -> Ids:
        """Return those that are not read as is asked for, or to which something of ours is still to be given back."""
        return self._ids(
            self._held(f"h.stops_server AND NOT {_READ_OFF}"),
            self._held(f"h.locks_backups AND NOT {_KEPT} AND NOT {_READ_LOCKED}"),
            self._owed(POWER_PARTS, unless="stops_server"),
            self._owed(("backups",), unless="locks_backups"),
        )

    def _stopped_by(self, causes: Sequence[HoldCause], *, but: Sequence[HoldCause]) -> str:
        condition = f"h.stops_server AND h.cause IN ({_listed(causes)})"
        if not but:
            return self._held(condition)
        stronger = f"s.server_id = h.server_id AND s.stops_server AND s.cause IN ({_listed(but)}) AND {_in_force('s')}"
        return self._held(f"{condition} AND NOT EXISTS (SELECT 1 FROM hold s WHERE {stronger})")  # noqa: S608 - all ours

    def _held(self, condition: str) -> str:
        return f"SELECT h.server_id FROM hold h WHERE {_in_force('h')} AND {condition}{self._only('h')}"  # noqa: S608 - all ours

    def _owed(self, parts: Sequence[str], *, unless: str) -> str:
        held = f"h.server_id = p.server_id AND h.{unless} AND {_in_force('h')}"
        return (
            f"SELECT p.server_id FROM restore_part p WHERE {_taken(*parts)} AND p.server_id IS NOT NULL"  # noqa: S608 - all ours
            f" AND NOT EXISTS (SELECT 1 FROM hold h WHERE {held}){self._only('p')}"
        )

    def _only(self, table: str) -> str:
        return f' AND {table}.server_id = "server"."id"' if self.each_row else ""

    def _ids(self, *statements: str) -> Ids:
        asked = sum(statement.count("%s") for statement in statements)
        return Ids(" UNION ALL ".join(statements), *[self.now] * asked)


def _in_force(table: str) -> str:
    """Return the same condition on a row of holds as `hold_effects.in_force`."""
    return f"{table}.lifted_at IS NULL AND ({table}.expires_at IS NULL OR {table}.expires_at > %s)"


def _taken(*parts: str) -> str:
    return f"p.closed_at IS NULL AND p.part IN ({_listed(parts)})"


def _listed(words: Iterable[str]) -> str:
    """Return words of the program, never anybody else's, as SQL."""
    return ", ".join(f"'{word}'" for word in words)


_READ_OFF = "EXISTS (SELECT 1 FROM observation o WHERE o.server_id = h.server_id AND o.power = 'STOPPED')"
_READ_LOCKED = (
    "EXISTS (SELECT 1 FROM observation o WHERE o.server_id = h.server_id AND o.unprotected_backups = '[]')"
)
_KEPT = f"EXISTS (SELECT 1 FROM restore_part p WHERE p.server_id = h.server_id AND {_taken('backups')})"  # noqa: S608 - all ours
