"""A mark of an account or a run: it differs once the account's standing or servers, or the run's progress, differ.

Owns what goes into a mark. Each statement asks for all of a kind at once, whoever watches them.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

from tortoise.functions import Count, Sum

from billing.models import Account, Episode
from reconciler.models import Hold, Run, Server, Step
from reconciler.rules.terms import StepState

#: The noun and the key of what is watched.
Key = tuple[str, int]
ACCOUNT, RUN = "Account", "Run"
#: Keys of one statement; SQLite allows some 32,000 parameters.
_AT_ONCE = 1_000


async def marks_of(keys: Collection[Key]) -> Mapping[Key, Hashable]:
    """Return the marks of accounts and runs; what is gone has none."""
    marks: dict[Key, Hashable] = {}
    for noun, look in ((ACCOUNT, _accounts), (RUN, _runs)):
        wanted = sorted(key for kind, key in keys if kind == noun)
        for begin in range(0, len(wanted), _AT_ONCE):
            for key, mark in (await look(wanted[begin : begin + _AT_ONCE])).items():
                marks[noun, key] = mark
    return marks


async def _accounts(keys: list[int]) -> Mapping[int, Hashable]:
    rows = (
        await Account.filter(id__in=keys).values_list("id", "facts_version", "settled_version"),
        await Episode.filter(account_id__in=keys, ended_at__isnull=True)
        .order_by("id")
        .values_list("account_id", "id", "admitted"),
        await Server.filter(account_id__in=keys, retired_at__isnull=True)
        .annotate(many=Count("id"), which=Sum("id"))
        .group_by("account_id", "deployment", "missing_since", "observation__power")
        .order_by("account_id", "deployment", "missing_since", "observation__power")
        .values_list("account_id", "deployment", "missing_since", "observation__power", "many", "which"),
        await Hold.filter(server__account_id__in=keys, lifted_at__isnull=True)
        .annotate(many=Count("id"), which=Sum("id"))
        .group_by("server__account_id")
        .values_list("server__account_id", "many", "which"),
        await Step.filter(account_id__in=keys, state__in=[StepState.DISPATCHED, StepState.UNKNOWN])
        .annotate(many=Count("id"), which=Sum("id"))
        .group_by("account_id", "state")
        .order_by("account_id", "state")
        .values_list("account_id", "state", "many", "which"),
    )
    return _together(rows)


async def _runs(keys: list[int]) -> Mapping[int, Hashable]:
    rows = (
        await Run.filter(id__in=keys).values_list("id", "state", "finished_at"),
        await Step.filter(run_id__in=keys, outcome__isnull=False)
        .annotate(many=Count("id"))
        .group_by("run_id")
        .values_list("run_id", "many"),
    )
    return _together(rows)


def _together(rows: tuple[Iterable[Any], ...]) -> Mapping[int, Hashable]:
    """Return what each key's rows come to; the first set of rows says which keys there are."""
    marks: dict[int, list[Hashable]] = defaultdict(list)
    for number, found in enumerate(rows):
        for key, *rest in found:
            if number == 0 or key in marks:
                marks[key].append((number, *rest))
    return {key: tuple(mark) for key, mark in marks.items()}
