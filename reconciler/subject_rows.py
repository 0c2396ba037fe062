"""What the subjects of many accounts are made of, read in one statement.

Owns that statement and how its rows become facts. Decides nothing and writes nothing.
"""

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from billing.bundle import Bundle, Part, grouped, instant, instant_or_none
from billing.models import Episode
from billing.rules.due import counts_from
from billing.rules.facts import DisputeFact, InvoiceFact, NoticeFact, OverrideFact
from billing.rules.terms import NoticeState, OverrideKind, Stage
from reconciler.models import Server

Key = TypeVar("Key")
Row = TypeVar("Row")

_PARTS = {
    "overrides": Part(
        columns="id, account_id, server_id, kind, placed_at, expires_at, revoked_at, by_customer",
        rows="FROM override WHERE account_id IN (SELECT id FROM asked)",
    ),
    "notices": Part(
        columns="n.id, n.episode_id, n.stage, n.template, n.state, n.created_at, n.delivered_at, "
        "<json>n.invoice_ids</json>, <json>n.server_ids</json>",
        rows="FROM notice n JOIN episode e ON e.id = n.episode_id AND e.account_id = n.account_id "
        "WHERE n.channel = 'mail' AND e.ended_at IS NULL AND n.account_id IN (SELECT id FROM asked)",
    ),
    "invoices": Part(
        columns="id, account_id, currency, amount_due, amount_paid, disputed_amount, overdue_at, overdue_seen_at, "
        "CASE WHEN origin <> 'STRIPE' THEN issued_at END",
        rows="FROM invoice WHERE status = 'OPEN' AND amount_due > 0 AND account_id IN (SELECT id FROM asked)",
    ),
    "disputes": Part(
        columns="d.id, d.account_id, d.amount, d.opened_at, d.closed_at",
        rows="FROM dispute d WHERE d.account_id IN (SELECT id FROM asked) AND (d.closed_at IS NULL OR d.closed_at > "
        "(SELECT e.started_at FROM episode e "
        "WHERE e.account_id = d.account_id AND e.server_id IS NULL AND e.ended_at IS NULL))",
    ),
    "uncollected": Part(
        columns="account_id",
        rows="FROM invoice WHERE status = 'UNCOLLECTIBLE' AND amount_paid < total "
        "AND account_id IN (SELECT id FROM asked)",
    ),
    "last_ended": Part(
        columns="account_id, MAX(ended_at)",
        rows="FROM episode WHERE ended_at IS NOT NULL AND server_id IS NULL "
        "AND account_id IN (SELECT id FROM asked) GROUP BY account_id",
    ),
    "metered": Part(
        columns="account_id", rows="FROM metered_account WHERE account_id IN (SELECT id FROM asked)"
    ),
    "void_before": Part(columns="notices_void_before", rows="FROM reconciler_state WHERE id = 1"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SubjectRows:
    """The rows of one read, by whom they belong to; empty where there are none."""

    #: All that were ever placed, of the account and of its servers, oldest first.
    overrides: Mapping[int, list[OverrideFact]]
    #: The open ones, by account and then by server; server null: the account's own.
    episodes: Mapping[int, dict[int | None, Episode]]
    #: The mails of each open episode, oldest first.
    notices: Mapping[int, list[NoticeFact]]
    #: The open invoices with something left to pay, in the order of their ids.
    invoices: Mapping[int, list[InvoiceFact]]
    #: Those that are open, or were in the account's open episode; of paid invoices too, since at Stripe a disputed
    #: invoice stays paid.
    disputes: Mapping[int, list[DisputeFact]]
    #: The servers whose subscription has ended, and when.
    uncovered: Mapping[int, dict[int, datetime]]
    #: These servers, and those whose episode is open although they are covered, by their ids.
    servers: Mapping[int, Server]
    #: Accounts with an unpaid uncollectible invoice: no debt, but nothing new is deployed for them.
    uncollected: frozenset[int]
    #: When the account's own last episode ended.
    last_ended: Mapping[int, datetime]
    #: Accounts with metered usage.
    metered: frozenset[int]
    #: Notices sent before this instant open no stage.
    void_before: datetime | None


async def read(account_ids: Iterable[int], *, now: datetime) -> SubjectRows:
    """Return the rows of these accounts. An invoice that is overdue and was not seen so yet counts from `now`."""
    found = await _bundle().read(account_ids)
    episodes = _nested((row.account_id, row.server_id, row) for row in map(Episode.of_row, found["episodes"]))
    ended = [(Server.of_row(columns), instant(ended_at)) for ended_at, *columns in found["uncovered"]]
    servers = [server for server, _ in ended] + [Server.of_row(columns) for columns in found["climbing"]]
    return SubjectRows(
        overrides=grouped((row[1], _override(*row)) for row in found["overrides"]),
        episodes=episodes,
        notices=grouped((row[1], _notice(*row)) for row in found["notices"]),
        invoices=grouped((row[1], _invoice(now, *row)) for row in found["invoices"]),
        disputes=grouped((row[1], _dispute(now, *row)) for row in found["disputes"]),
        # A server that climbs alone has been uncovered before, whatever the clock says now.
        uncovered=_nested(
            (server.account_id, server.id, at)
            for server, at in ended
            if at <= now or server.id in episodes.get(server.account_id, {})
        ),
        servers={server.id: server for server in servers},
        uncollected=frozenset(account_id for (account_id,) in found["uncollected"]),
        last_ended={account_id: instant(ended_at) for account_id, ended_at in found["last_ended"]},
        metered=frozenset(account_id for (account_id,) in found["metered"]),
        void_before=next((instant_or_none(at) for (at,) in found["void_before"]), None),
    )


@functools.cache
def _bundle() -> Bundle:
    """Return the statement; whole rows are in it too, whose columns are known once the ORM has been set up."""
    episodes = Part(
        columns=", ".join(Episode.columns()),
        rows="FROM episode WHERE ended_at IS NULL AND account_id IN (SELECT id FROM asked)",
    )
    server = ", ".join(f"s.{name}" for name in Server.columns())
    ended = Part(
        columns=f"u.ended_at, {server}",
        rows="FROM server s JOIN subscription u "
        "ON u.stripe_subscription_id = s.stripe_subscription_id AND u.account_id = s.account_id "
        "WHERE u.ended_at IS NOT NULL AND NOT s.free AND s.retired_at IS NULL "
        "AND s.account_id IN (SELECT id FROM asked)",
    )
    climbing = Part(
        columns=server,
        rows="FROM server s JOIN episode e ON e.server_id = s.id "
        "WHERE e.ended_at IS NULL AND e.account_id IN (SELECT id FROM asked)",
    )
    return Bundle(_PARTS | {"episodes": episodes, "uncovered": ended, "climbing": climbing})


def _override(_id: int, _account_id: int, server_id: int | None, kind: str, *rest: Any) -> OverrideFact:
    placed_at, expires_at, revoked_at, by_customer = rest
    return OverrideFact(
        kind=OverrideKind(kind),
        server_id=server_id,
        placed_at=instant(placed_at),
        expires_at=instant_or_none(expires_at),
        revoked_at=instant_or_none(revoked_at),
        by_customer=bool(by_customer),
    )


def _notice(_id: int, _episode_id: int, stage: str | None, template: str, *rest: Any) -> NoticeFact:
    state, created_at, delivered_at, invoice_ids, server_ids = rest
    return NoticeFact(
        stage=Stage(stage) if stage is not None else None,
        template=template,
        sent_at=instant(created_at),
        delivered_at=instant_or_none(delivered_at),
        failed=state == NoticeState.FAILED,
        invoice_ids=frozenset(invoice_ids),
        server_ids=frozenset(server_ids),
    )


def _invoice(now: datetime, invoice_id: int, _account_id: int, currency: str, *rest: Any) -> InvoiceFact:
    due, paid, disputed, overdue, seen, announced = rest
    overdue_at, seen_at = instant_or_none(overdue), instant_or_none(seen)
    # Once it was seen overdue, no clock that is set back makes it unseen.
    is_overdue = overdue_at is not None and (seen_at is not None or overdue_at <= now)
    return InvoiceFact(
        id=invoice_id,
        currency=currency,
        amount_due=due,
        amount_paid=paid,
        disputed_amount=disputed,
        overdue_at=overdue_at,
        counts_from=counts_from(overdue_at, seen_at or now) if overdue_at and is_overdue else None,
        announced_at=instant_or_none(announced),
    )


def _dispute(now: datetime, _id: int, _account_id: int, *rest: Any) -> DisputeFact:
    amount, opened_at, closed_at = rest
    return dispute_fact(amount, instant(opened_at), instant_or_none(closed_at), now=now)


def dispute_fact(
    amount: int, opened_at: datetime, closed_at: datetime | None, *, now: datetime
) -> DisputeFact:
    """Return a dispute as the rules see it: one that is known is not to come, whichever clock is ahead."""
    return DisputeFact(amount=amount, opened_at=min(opened_at, now), closed_at=closed_at)


def _nested(rows: Iterable[tuple[int, Key, Row]]) -> Mapping[int, dict[Key, Row]]:
    found: dict[int, dict[Key, Row]] = defaultdict(dict)
    for owner, key, row in rows:
        found[owner][key] = row
    return found
