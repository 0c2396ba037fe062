"""Narrowing a list of servers, by the same rules as their status, as conditions on rows."""

import strawberry
from tortoise.expressions import Q, Subquery

from api.graphql import ids
from api.graphql.context import Context
from api.graphql.nodes import HoldCause, ServerStatus
from api.graphql.texts import searchable
from reconciler.models import Hold
from reconciler.rules.terms import Deployment

_HOLDING = (HoldCause.ABUSE, HoldCause.ADMIN, HoldCause.MAINTENANCE)


@strawberry.input
class ServerFilter:
    """Narrows a list of servers; what is left out narrows nothing."""

    status: list[ServerStatus] | None = None
    site: str | None = None
    site_node: str | None = None
    account_id: strawberry.ID | None = None
    search: str | None = None


def conditions(context: Context, asked: ServerFilter) -> Q:
    """Return the condition that the rows have to meet."""
    condition = Q()
    if asked.status is not None:
        any_of = Q(id=0)
        for status in asked.status:
            any_of |= _status(context, status)
        condition &= any_of
    if asked.site is not None:
        condition &= Q(site=asked.site)
    if asked.site_node is not None:
        condition &= Q(site_node=asked.site_node)
    if asked.account_id is not None:
        condition &= Q(account_id=ids.key_of("Account", asked.account_id) or 0)
    if asked.search:
        condition &= _found_by(context, searchable(asked.search))
    return condition


def _status(context: Context, status: ServerStatus) -> Q:
    deployed = Q(retired_at__isnull=True, deployment=Deployment.SUCCEEDED)
    there = deployed & Q(missing_since__isnull=True)
    held = _stopped_by(context, *_HOLDING)
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
    in_force = Q(lifted_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=context.now))
    stopping = Hold.filter(in_force, cause__in=list(causes), stops_server=True)
    return Q(id__in=Subquery(stopping.values("server_id")))


def _found_by(context: Context, text: str) -> Q:
    condition = Q(external_id__icontains=text) | Q(guest__icontains=text)
    return condition | Q(name__icontains=text) if context.sees_people else condition
