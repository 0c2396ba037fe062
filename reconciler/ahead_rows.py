"""Everybody whose stage time may change, read for a forecast: plain rows, a fixed number of statements a few thousand.

Reads only. `reconciler.subjects` reads the same facts for a pass, with the rows themselves to be changed; a test holds
the two against each other.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tortoise.expressions import Q, Subquery

from billing.models import Account, Dispute, Episode, Invoice, Notice, Override, Subscription
from billing.overrides import fact_of
from billing.rules.due import counts_from
from billing.rules.facts import AccountFacts, DisputeFact, EpisodeFact, InvoiceFact, NoticeFact
from billing.rules.policy import Policy
from billing.rules.shadow import Facts
from billing.rules.terms import Effect, InvoiceStatus, NoticeState, Stage
from reconciler import reach, subjects
from reconciler.chunks import chunks
from reconciler.models import ReconcilerState, Server
from reconciler.subject_rows import dispute_fact

Fact = TypeVar("Fact")

_ACCOUNT = (
    "id",
    "external_id",
    "currency",
    "free_plan",
    "email",
    "policy",
    "time_zone",
    "notices_void_before",
)
_INVOICE = (
    "account_id", "id", "currency", "amount_due", "amount_paid", "disputed_amount", "overdue_at", "overdue_seen_at",
)  # fmt: skip
_DISPUTE = ("account_id", "amount", "opened_at", "closed_at")
_EPISODE = ("account_id", "id", "started_at", "admitted", "admitted_at", "fell_silently", "granted", "awaits")
_NO_EPISODE = (None, None, None, Stage.CURRENT, None, False, None, None)
_NOTICE = (
    "episode_id", "stage", "template", "created_at", "delivered_at", "state", "invoice_ids",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Debtor:
    """An account, or one uncovered server of it, as it was read, before a policy is asked what becomes of it."""

    account_id: int
    account: str
    #: Null: the account itself.
    server_id: int | None = None
    server: str | None = None
    policy: str
    time_zone: str
    facts: Facts
    admitted: Stage
    #: What the admitted stage may do; null: all that its policy gives it.
    granted: frozenset[Effect] | None = None
    #: The last stage with larger effects that it was seen eligible for; null: none.
    awaits: Stage | None = None
    #: How many live servers its stage reaches, and on which sites they are.
    servers: int
    sites: frozenset[str]
    #: Whether one of them was not read within `max_age`.
    unread: bool


async def read(
    policies: Mapping[str, Policy], *, max_age: timedelta, now: datetime, until: datetime
) -> list[Debtor]:
    """Return everybody who owes by `until` or whose episode runs: accounts in the order of their ids, then servers."""
    found: list[Debtor] = []
    state = await ReconcilerState.get(id=1)
    for ids in chunks(await _accounts(until)):
        rows = await _Rows.read(ids, max_age=max_age, now=now)
        found += await asyncio.to_thread(rows.debtors, policies, state.notices_void_before, now)
    return found + await _servers_alone(policies, max_age=max_age, now=now)


async def _accounts(until: datetime) -> set[int]:
    owing = Invoice.filter(status=InvoiceStatus.OPEN, amount_due__gt=0, overdue_at__lte=until)
    found: set[int] = set()
    for rows in (owing, Episode.filter(ended_at=None, server_id=None)):
        found.update(account_id for (account_id,) in await rows.distinct().values_list("account_id"))
    return found


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows of a few thousand accounts; where a condition leaves few, those of the accounts between are read too."""

    accounts: Sequence[Any]
    #: Accounts whose invoices go to addresses beside their own.
    with_addresses: frozenset[int]
    invoices: Sequence[Any]
    disputes: Sequence[Any]
    episodes: Sequence[Any]
    notices: Sequence[Any]
    overrides: Sequence[Override]
    #: By account, how many servers its stage reaches on each site, and those that were not read lately.
    reach: Mapping[int, Mapping[str, int]]
    unread: Mapping[int, Mapping[int, str]]

    @classmethod
    async def read(cls, ids: Sequence[int], *, max_age: timedelta, now: datetime) -> "_Rows":
        """Read the rows of these accounts; the ids are sorted."""
        between: dict[str, Any] = {"account_id__gte": ids[0], "account_id__lte": ids[-1]}
        owed = Invoice.filter(status=InvoiceStatus.OPEN, amount_due__gt=0, **between).order_by("id")
        walking = Episode.filter(ended_at=None, server_id=None, **between)
        told = Notice.filter(channel="mail", episode_id__in=Subquery(walking.values("id")), **between)
        lonely = Account.filter(Q(email=None) | Q(email=""), id__gte=ids[0], id__lte=ids[-1])
        return cls(
            accounts=await Account.filter(id__in=ids).order_by("id").values_list(*_ACCOUNT),
            with_addresses=frozenset(
                key for key, emails in await lonely.values_list("id", "billing_emails") if emails
            ),
            invoices=await owed.values_list(*_INVOICE),
            disputes=await Dispute.filter(**between).order_by("id").values_list(*_DISPUTE),
            episodes=await walking.values_list(*_EPISODE),
            notices=await told.order_by("id").values_list(*_NOTICE),
            overrides=await Override.filter(**between).order_by("id"),
            reach=await reach.sites(ids),
            unread=await reach.unread(ids, max_age=max_age, now=now),
        )

    def debtors(
        self, policies: Mapping[str, Policy], void_before: datetime | None, now: datetime
    ) -> list[Debtor]:
        """Return the accounts with their facts; costs time and waits for nothing."""
        invoices, notices = _grouped(self.invoices, _invoice, now), _grouped(self.notices, _notice, now)
        episodes = {row[0]: row for row in self.episodes}
        overrides: dict[int, list[Override]] = defaultdict(list)
        for override in self.overrides:
            overrides[override.account_id].append(override)
        disputes = _grouped(self.disputes, _dispute, now)
        found = []
        for key, external_id, currency, free_plan, email, policy, zone, own_void_before in self.accounts:
            _, episode_id, started_at, stage, admitted_at, silently, granted, awaits = episodes.get(
                key, _NO_EPISODE
            )
            facts = AccountFacts(
                account_id=key,
                currency=currency,
                free_plan=free_plan,
                has_address=bool(email) or key in self.with_addresses,
                invoices=tuple(invoices.get(key, ())),
                overrides=tuple(fact_of(one) for one in overrides.get(key, ()) if one.server_id is None),
                episode=EpisodeFact(
                    started_at=started_at, admitted=stage, admitted_at=admitted_at, fell_silently=silently
                )
                if started_at
                else None,
                notices=tuple(notices.get(episode_id, ())),
                notices_void_before=max((at for at in (void_before, own_void_before) if at), default=None),
                disputes=tuple(
                    one
                    for one in disputes.get(key, ())
                    if one.closed_at is None or (started_at and one.closed_at > started_at)
                ),
            )
            sites = self.reach.get(key, {})
            found.append(
                Debtor(
                    account_id=key,
                    account=external_id,
                    policy=policy if policy in policies else "standard",
                    time_zone=zone,
                    facts=facts,
                    admitted=stage,
                    granted=subjects.granted_in(granted),
                    awaits=awaits,
                    servers=sum(sites.values()),
                    sites=frozenset(sites),
                    unread=key in self.unread,
                )
            )
        return found


async def _servers_alone(
    policies: Mapping[str, Policy], *, max_age: timedelta, now: datetime
) -> list[Debtor]:
    """Return the servers that climb alone, or whose episode is about to end; there are few of them."""
    # Read under every policy: whether it does anything about them is asked of it later.
    climbing = {
        name: replace(policy, billing=replace(policy.billing, subscription_end_climbs=True))
        for name, policy in policies.items()
    }
    ended = Subscription.filter(ended_at__lte=now).values("stripe_subscription_id")
    uncovered = Server.filter(stripe_subscription_id__in=Subquery(ended), free=False, retired_at=None)
    walking = Episode.filter(ended_at=None, server_id__isnull=False)
    whose = {
        key for rows in (uncovered, walking) for (key,) in await rows.distinct().values_list("account_id")
    }
    found = []
    for ids in chunks(whose):
        unread = await reach.unread(ids, max_age=max_age, now=now)
        found += [
            Debtor(
                account_id=one.account.id,
                account=one.account.external_id,
                server_id=one.server.id,
                server=one.server.external_id,
                policy=one.policy.name,
                time_zone=one.account.time_zone,
                facts=one.facts,
                admitted=one.admitted,
                granted=subjects.granted_by(one.episode),
                awaits=one.episode.awaits if one.episode else None,
                servers=1,
                sites=frozenset({one.server.site}),
                unread=one.server.id in unread.get(one.account.id, ()),
            )
            for one in await subjects.load(ids, climbing, now)
            if one.server is not None
        ]
    return found


def _grouped(
    rows: Iterable[Any], fact: Callable[[Sequence[Any], datetime], Fact], now: datetime
) -> dict[int, list[Fact]]:
    """Return the facts of rows by whom their first column names."""
    found: dict[int, list[Fact]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(fact(row, now))
    return found


def _invoice(row: Sequence[Any], now: datetime) -> InvoiceFact:
    _, key, currency, due, paid, disputed, overdue_at, seen_at = row
    is_overdue = overdue_at is not None and (seen_at is not None or overdue_at <= now)
    return InvoiceFact(
        id=key,
        currency=currency,
        amount_due=due,
        amount_paid=paid,
        disputed_amount=disputed,
        overdue_at=overdue_at,
        counts_from=counts_from(overdue_at, seen_at or now) if is_overdue else None,
    )


def _notice(row: Sequence[Any], _: datetime) -> NoticeFact:
    _, stage, template, sent_at, delivered_at, state, invoice_ids = row
    return NoticeFact(
        stage=stage,
        template=template,
        sent_at=sent_at,
        delivered_at=delivered_at,
        failed=state is NoticeState.FAILED,
        invoice_ids=frozenset(invoice_ids),
    )


def _dispute(row: Sequence[Any], now: datetime) -> DisputeFact:
    _, amount, opened_at, closed_at = row
    return dispute_fact(amount, opened_at, closed_at, now=now)
