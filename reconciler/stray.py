"""Servers of sites that the inventory does not have: nothing is seen of them, stopped there or given back.

Owns finding them and the work items that say so. Judges no server: a renamed site is mended in the inventory.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

import structlog
from tortoise.functions import Count

from billing import work_queue
from billing.models import WorkItem, WorkState
from reconciler.models import Server

log = structlog.get_logger(__name__)

ACTOR = "system:inventory"
KIND = "site_unknown"
REMEDY = "give the site its name back in the inventory, then start `abeyance serve` again"


async def servers_by_site(known: Collection[str]) -> Mapping[str, int]:
    """Return how many servers that are not retired each site has that is not `known`, by its name."""
    rows = Server.filter(retired_at__isnull=True).annotate(many=Count("id")).group_by("site").order_by("site")
    return {site: many for site, many in await rows.values_list("site", "many") if site not in known}


def said(found: Mapping[str, int]) -> str:
    """Return in words which sites are missing and how many servers each has."""
    return ", ".join(f"{site} (servers: {many})" for site, many in found.items())


async def tell(found: Mapping[str, int], *, now: datetime) -> None:
    """Open one work item for each of these sites, and close those of sites that are known again or empty."""
    if found:
        log.error("sites.unknown", sites=said(found), remedy=REMEDY)
    for site, many in found.items():
        await work_queue.open_item(
            KIND,
            f"{KIND}:{site}",
            at=now,
            title=f"The inventory has no site {site}; servers on it: {many}",
            detail=f"Nothing there is seen, stopped or given back, even when it is paid: {REMEDY}.",
        )
    standing = WorkItem.filter(kind=KIND).exclude(state=WorkState.RESOLVED)
    for key in await standing.values_list("dedupe_key", flat=True):
        if str(key).partition(":")[2] not in found:
            await work_queue.resolve(
                str(key), at=now, by=ACTOR, resolution="the inventory has the site, or nothing is on it"
            )
