"""What a restriction of an account would reach: its live servers, where they are, and which of them nobody read lately.

Reads only, in one statement for each few thousand accounts. What follows is the guard's and the forecast's word.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from tortoise.expressions import Q, Subquery
from tortoise.functions import Count
from tortoise.queryset import QuerySet

from billing.models import Override
from billing.rules.terms import OverrideKind
from reconciler.chunks import chunks
from reconciler.models import Server
from reconciler.rules.terms import Deployment

_NEVER = datetime.min.replace(tzinfo=UTC)


def spared(now: datetime) -> Q:
    """Return the condition of a server that billing does not touch: it is free, or exempt by itself."""
    exempt = Override.filter(
        Q(expires_at=None) | Q(expires_at__gt=now),
        kind=OverrideKind.EXEMPT,
        server_id__isnull=False,
        revoked_at=None,
        placed_at__lte=now,
    )
    return Q(free=True) | Q(id__in=Subquery(exempt.values("server_id")))


def present() -> QuerySet[Server]:
    """Return the servers that have a guest to restrict: set up, not retired, and not missing."""
    return Server.filter(
        retired_at=None, missing_since=None, deployment=Deployment.SUCCEEDED, guest__isnull=False
    )


async def sites(account_ids: Iterable[int]) -> Mapping[int, Mapping[str, int]]:
    """Return how many live servers that are not free each account has, by site; one without any is left out."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for ids in chunks(account_ids):
        live = Server.filter(account_id__in=ids, retired_at=None, free=False)
        counted = live.annotate(number=Count("id")).group_by("account_id", "site")
        for account_id, site, number in await counted.values_list("account_id", "site", "number"):
            found[account_id][site] = int(number)
    return found


async def unread(
    account_ids: Iterable[int], *, max_age: timedelta, now: datetime
) -> Mapping[int, Mapping[int, str]]:
    """Return the servers that were not read within `max_age`, by account, each with a sentence; the oldest first.

    Those that a restriction would reach count: neither spared nor missing ones, and none that has no guest yet.
    """
    found: dict[int, dict[int, str]] = defaultdict(dict)
    for ids in chunks(account_ids):
        reached = present().filter(account_id__in=ids).exclude(spared(now))
        old = Q(observation__id__isnull=True) | Q(observation__observed_at__lt=now - max_age)
        rows = await reached.filter(old).values_list(
            "account_id", "id", "external_id", "site", "observation__observed_at"
        )
        for account_id, key, name, site, read_at in sorted(rows, key=lambda row: (row[4] or _NEVER, row[1])):
            since = f"not read for more than {max_age}" if read_at else "never read"
            found[account_id][key] = f"server {name} on site {site} was {since}"
    return found
