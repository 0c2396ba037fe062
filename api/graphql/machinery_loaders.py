"""Bulk loaders about the machinery: what is under way on servers, what holds them, and what the last plan holds back.

Owns the questions that explanations and announcements ask, in one statement each for all of a page.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tortoise.expressions import Q

from api.graphql.bulk import Bulk
from reconciler import server_groups
from reconciler.models import PlanSnapshot, Step
from reconciler.rules.terms import StepState
from reconciler.server_groups import ServerGroup


class MachineryLoaders:
    """The loaders of one request."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    @Bulk
    async def steps(self, keys: list[int]) -> list[Step | None]:
        """The change of a server that is under way, unknown, or failed and to be tried again; by server id."""
        under_way = Q(state__in=(StepState.DISPATCHED, StepState.UNKNOWN))
        failed = Q(state=StepState.FAILED, retry_at__gt=self._now)
        rows = await Step.filter(under_way | failed, server_id__in=keys).order_by("id")
        latest = {row.server_id: row for row in rows}
        return [latest.get(key) for key in keys]

    @Bulk
    async def server_groups(self, keys: list[int]) -> list[Sequence[ServerGroup]]:
        """The live servers of an account in groups of which the same is so; by account id."""
        found = await server_groups.read(keys)
        return [found[key] for key in keys]

    @Bulk
    async def held_back(self, keys: list[int]) -> list[Sequence[Mapping[str, Any]]]:
        """The steps of the last plan that wait, as they were remembered; by account id."""
        plan = await PlanSnapshot.all().order_by("-id").first()
        waiting: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for row in plan.content["steps"] if plan else ():
            if row.get("held_back_by"):
                waiting[row["account_id"]].append(row)
        return [waiting[key] for key in keys]
