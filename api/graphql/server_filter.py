"""Narrowing a list of servers, by the same rules as their status, as conditions on rows."""

import functools
import operator
from typing import Any

import strawberry
from tortoise.expressions import Q, Subquery
from tortoise.queryset import QuerySet

from api.graphql import ids
from api.graphql.context import Context
from api.graphql.nodes import HoldCause, ServerStatus
from api.graphql.texts import searchable
from reconciler.hold_effects import in_force
from reconciler.models import Hold, Observation, RestorePart
from reconciler.restore_record import POWER_PARTS
from reconciler.rules.terms import Deployment, Power

_STAFF_HOLDS = (HoldCause.ABUSE, HoldCause.ADMIN, HoldCause.MAINTENANCE)


@strawberry.input
class ServerFilter:
    """Narrows a list of servers; what is left out narrows nothing."""

    status: list[ServerStatus] | None = None
    site: str | None = None
    site_node: str | None = None
    account_id: strawberry.ID | None = None
    in_sync: bool | None = None
    search: str | None = None


def conditions(context: Context, asked: ServerFilter) -> Q:
    """Return the condition that the rows have to meet."""
    condition = Q()
    if asked.status is not None:
        wanted = [_status(context, status) for status in dict.fromkeys(asked.status)]
        # Nothing else is put beside them: PostgreSQL begins with the holds where they alone decide.
        condition &= functools.reduce(operator.or_, wanted) if wanted else Q(id=0)
    if asked.site is not None:
        condition &= Q(site=asked.site)
    if asked.site_node is not None:
        condition &= Q(site_node=asked.site_node)
    if asked.account_id is not None:
        condition &= Q(account_id=ids.key_of("Account", asked.account_id) or 0)
    if asked.in_sync is not None:
        condition &= ~_differs(context) if asked.in_sync else _differs(context)
    if asked.search:
        condition &= _found_by(context, searchable(asked.search))
    return condition


def _status(context: Context, status: ServerStatus) -> Q:
    deployed = Q(retired_at__isnull=True, deployment=Deployment.SUCCEEDED)
    there = deployed & Q(missing_since__isnull=True)
    held = _stopped_by(context, *_STAFF_HOLDS)
    delinquent = ~held & _stopped_by(context, HoldCause.BILLING)
    inactive = ~held & ~_stopped_by(context, HoldCause.BILLING) & _stopped_by(context, HoldCause.CUSTOMER)
    return {
        ServerStatus.DELETED: Q(retired_at__isnull=False),
        ServerStatus.PROVISIONING: Q(retired_at__isnull=True, deployment=Deployment.IN_PROGRESS),
        ServerStatus.FAILED: Q(retired_at__isnull=True, deployment=Deployment.FAILED),
        ServerStatus.MISSING: deployed & Q(missing_since__isnull=False),
        ServerStatus.HELD: there & held,
        ServerStatus.DELINQUENT: there & delinquent,
        ServerStatus.INACTIVE: there & inactive,
        ServerStatus.ACTIVE: there & ~_stopped_by(context, *HoldCause),
    }[status]


def _stopped_by(context: Context, *causes: HoldCause) -> Q:
    return _holding(context, cause__in=list(causes), stops_server=True)


def _differs(context: Context) -> Q:
    """What is read is not what is asked for, or something of ours is still to be given back."""
    there = Q(retired_at__isnull=True) & ~(
        Q(deployment=Deployment.SUCCEEDED) & Q(missing_since__isnull=False)
    )
    stopped, locked = _holding(context, stops_server=True), _holding(context, locks_backups=True)
    taken, kept = _taken(*POWER_PARTS), _taken("backups")
    read_off = _ids_in(Observation.filter(power=Power.STOPPED))
    read_locked = kept | _ids_in(Observation.filter(unprotected_backups=[]))
    return there & ((stopped & ~read_off) | (locked & ~read_locked) | (taken & ~stopped) | (kept & ~locked))


def _holding(context: Context, **narrowed: Any) -> Q:
    return _ids_in(Hold.filter(in_force(context.now), **narrowed))


def _taken(*parts: str) -> Q:
    return _ids_in(RestorePart.filter(part__in=list(parts), closed_at=None, server_id__isnull=False))


def _ids_in(rows: QuerySet[Any]) -> Q:
    return Q(id__in=Subquery(rows.values("server_id")))


def _found_by(context: Context, text: str) -> Q:
    condition = Q(external_id__icontains=text) | Q(guest__icontains=text)
    return condition | Q(name__icontains=text) if context.sees_people else condition
