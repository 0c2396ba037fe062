"""Where two forecasts differ: what a policy on trial would do otherwise than today's.

Pure. Compares the stage that each subject has at every instant, so that a change which only comes sooner, later or
never is told as what it means for the customer.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from billing.rules.terms import Stage
from reconciler.rules.forecast import Ahead

Subject = tuple[int, int | None]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """From `at` on a subject would stand at `to_stage`, where today's policy has it at `from_stage`."""

    at: datetime
    #: When the difference ends, or another one takes its place; null: not within the time that was compared.
    until: datetime | None
    account_id: int
    server_id: int | None
    from_stage: Stage
    to_stage: Stage
    servers: int
    waiting_for: str | None


def differences(
    today: Iterable[Ahead],
    tried: Iterable[Ahead],
    present: Mapping[Subject, tuple[Stage, int]],
    *,
    now: datetime,
) -> list[Difference]:
    """Return each beginning of another stage than today's policy gives, in the order of time, accounts and servers.

    `present` are the stages admitted now and the servers that they reach.
    """
    before, after = _by_subject(today), _by_subject(tried)
    found = [
        difference
        for subject in before.keys() | after.keys()
        for difference in _of(subject, before.get(subject, []), after.get(subject, []), present, now)
    ]
    return sorted(found, key=lambda one: (one.at, one.account_id, one.server_id or 0, one.to_stage.rank))


def _by_subject(rows: Iterable[Ahead]) -> dict[Subject, list[Ahead]]:
    found: dict[Subject, list[Ahead]] = defaultdict(list)
    for row in rows:
        found[row.account_id, row.server_id].append(row)
    return found


def _of(
    subject: Subject,
    before: list[Ahead],
    after: list[Ahead],
    present: Mapping[Subject, tuple[Stage, int]],
    now: datetime,
) -> Iterable[Difference]:
    stage, servers = present[subject]
    pair = (stage, stage)
    turns: list[tuple[datetime, tuple[Stage, Stage], str | None]] = []
    for at in sorted({row.at for row in (*before, *after)} | {now}):
        rows = [row for row in after if row.at == at]
        last, pair = pair, (_at(before, at, pair[0]), rows[-1].to_stage if rows else pair[1])
        if pair != last:
            turns.append((at, pair, rows[-1].waiting_for if rows else None))
    ends = [*(at for at, _, _ in turns[1:]), None]
    for (at, (todays, tried), waiting_for), until in zip(turns, ends, strict=False):
        if todays is not tried:
            yield Difference(
                at=at,
                until=until,
                account_id=subject[0],
                server_id=subject[1],
                from_stage=todays,
                to_stage=tried,
                servers=servers,
                waiting_for=waiting_for,
            )


def _at(rows: Iterable[Ahead], at: datetime, otherwise: Stage) -> Stage:
    reached = [row.to_stage for row in rows if row.at == at]
    return reached[-1] if reached else otherwise
