"""Narrowing a list of accounts, as conditions on rows.

Owns what each filter means in SQL. The stage is the one admitted in the open episode: every fall lowers it, so it is
the standing as of the last pass.
"""

import functools
import operator
from collections.abc import Sequence

import strawberry
from tortoise.expressions import Q

from api.graphql.context import Context
from api.graphql.id_sets import Ids
from api.graphql.long_lists import Part
from api.graphql.nodes import Stage
from api.graphql.sought import Sought
from api.graphql.texts import searchable


@strawberry.input
class AccountFilter:
    """Narrows a list of accounts; what is left out narrows nothing."""

    stage: list[Stage] | None = None
    search: str | None = None
    policy: str | None = None
    overdue: bool | None = None
    has_override: bool | None = None


def each(context: Context, asked: AccountFilter) -> Q:
    """Return the condition for a list of few."""
    condition = _part(context, asked).row_by_row()
    text = _sought(context, asked)
    return condition if text is None else condition & text.row_by_row()


async def part(context: Context, asked: AccountFilter) -> Part:
    """Return the same for a list of many."""
    found = _part(context, asked)
    text = _sought(context, asked)
    return found if text is None else found & await text.part()


def _part(context: Context, asked: AccountFilter) -> Part:
    inside, outside = _sets(context, asked)
    plain = Q() if asked.policy is None else Q(policy=asked.policy)
    condition = functools.reduce(operator.and_, (~Q(id__in=found) for found in outside), plain)
    if inside or not outside:
        return Part(condition=condition, inside=tuple(inside))
    others = Part(condition=plain, inside=(functools.reduce(operator.or_, outside),))
    return Part(condition=condition, counted=(Part(condition=plain), (others,)))


def _sought(context: Context, asked: AccountFilter) -> Sought | None:
    """Return the text to look for: in external ids for everybody, in names and addresses for who may read them."""
    if not asked.search:
        return None
    people = ("name", "email") if context.sees_people else ()
    return Sought(table="account", columns=("external_id", *people), text=searchable(asked.search))


def _sets(context: Context, asked: AccountFilter) -> tuple[list[Ids], list[Ids]]:
    """Return the sets that the accounts are in, and those that they are not in."""
    inside: list[Ids] = []
    outside: list[Ids] = []
    if asked.stage is not None:
        raised = [stage for stage in Stage if stage is not Stage.CURRENT]
        if Stage.CURRENT in asked.stage:
            outside.append(_standing_at([stage for stage in raised if stage not in asked.stage]))
        else:
            inside.append(_standing_at([stage for stage in raised if stage in asked.stage]))
    if asked.overdue is not None:
        (inside if asked.overdue else outside).append(Ids(_OWING, context.now))
    if asked.has_override is not None:
        (inside if asked.has_override else outside).append(Ids(_DECIDED, context.now))
    return inside, outside


def _standing_at(stages: Sequence[Stage]) -> Ids:
    listed = ", ".join(f"'{stage}'" for stage in stages) or "NULL"
    return Ids(
        "SELECT account_id FROM episode WHERE ended_at IS NULL AND server_id IS NULL"  # noqa: S608 - words of ours
        f" AND admitted IN ({listed})"
    )


#: As `invoices.overdue_at` and `context.in_force`.
_OWING = "SELECT account_id FROM invoice WHERE status = 'OPEN' AND amount_due > 0 AND overdue_at <= %s"
_DECIDED = (
    "SELECT account_id FROM override WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %s)"
)
