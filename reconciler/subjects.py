"""Who may climb, with everything that decides it: accounts, and single servers whose subscription has ended.

Reads the facts of many accounts in a fixed number of statements and asks the pure rules. Writes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from billing import invoices
from billing.models import Account, Episode, Notice, Override, Subscription
from billing.overrides import fact_of
from billing.rules import ladder
from billing.rules.facts import (
    AccountFacts,
    CoverageFacts,
    DisputeFact,
    EpisodeFact,
    InvoiceFact,
    NoticeFact,
    OverrideFact,
)
from billing.rules.ladder import Eligibility
from billing.rules.policy import Policy
from billing.rules.terms import NoticeState, Stage, milder
from reconciler.models import ReconcilerState, Server


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An account, or one uncovered server of it, as of one instant."""

    account: Account
    #: Null: the account itself.
    server: Server | None
    policy: Policy
    facts: AccountFacts | CoverageFacts
    episode: Episode | None
    eligibility: Eligibility

    @property
    def admitted(self) -> Stage:
        """The stage that the guard has let it reach in this episode."""
        return self.episode.admitted if self.episode else Stage.CURRENT

    @property
    def standing(self) -> Stage:
        """The lower of eligible and admitted: the only stage that anybody is shown."""
        return milder(self.eligibility.stage, self.admitted)

    @property
    def name(self) -> str:
        """Its external id, for people."""
        return self.server.external_id if self.server else self.account.external_id


async def load(account_ids: Iterable[int], policies: Mapping[str, Policy], now: datetime) -> list[Subject]:
    """Return the accounts and their uncovered servers with their eligibility at `now`, accounts first."""
    ids = sorted(set(account_ids))
    accounts = await Account.filter(id__in=ids).order_by("id")
    loaded = await _Loaded.read(ids, now)
    subjects = [_account_subject(account, loaded, policies, now) for account in accounts]
    for account in accounts:
        policy = _policy(account, policies)
        if policy.billing.subscription_end_climbs:
            subjects += [
                _coverage_subject(account, server, ended_at, loaded, policy, now)
                for server, ended_at in loaded.uncovered[account.id]
            ]
        climbs = policy.billing.subscription_end_climbs
        subjects += [
            _covered_again(account, server, policy, episode, loaded, now)
            for server, episode in loaded.covered_again(account.id, climbs=climbs)
        ]
    return subjects


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """The rows of one read, by whom they belong to."""

    invoices: Mapping[int, tuple[InvoiceFact, ...]]
    overrides: Mapping[int, list[Override]]
    episodes: Mapping[tuple[int, int | None], Episode]
    notices: Mapping[int, list[NoticeFact]]
    uncovered: Mapping[int, list[tuple[Server, datetime]]]
    servers: Mapping[int, Server]
    void_before: datetime | None
    disputed: Mapping[int, int]

    @classmethod
    async def read(cls, ids: list[int], now: datetime) -> "_Loaded":
        overrides: dict[int, list[Override]] = defaultdict(list)
        for override in await Override.filter(account_id__in=ids).order_by("id"):
            overrides[override.account_id].append(override)
        open_episodes = await Episode.filter(account_id__in=ids, ended_at=None)
        episodes = {(row.account_id, row.server_id): row for row in open_episodes}
        state = await ReconcilerState.get_or_none(id=1)
        uncovered = await _uncovered_servers(ids, now)
        held = [row.server_id for row in open_episodes if row.server_id is not None]
        servers = {server.id: server for server in await Server.filter(id__in=held)} if held else {}
        return cls(
            invoices=await invoices.open_invoices(ids, now=now),
            overrides=overrides,
            episodes=episodes,
            notices=await _notices([row.id for row in open_episodes]),
            uncovered=uncovered,
            servers=servers,
            void_before=state.notices_void_before if state else None,
            disputed=await invoices.disputed_amounts(ids),
        )

    def covered_again(self, account_id: int, *, climbs: bool) -> list[tuple[Server, Episode]]:
        """Return the servers whose episode is open although they are covered, or their policy climbs for none."""
        uncovered = {server.id for server, _ in self.uncovered[account_id]} if climbs else set()
        return [
            (self.servers[server_id], episode)
            for (owner, server_id), episode in self.episodes.items()
            if owner == account_id and server_id is not None and server_id not in uncovered
        ]


async def _uncovered_servers(ids: list[int], now: datetime) -> Mapping[int, list[tuple[Server, datetime]]]:
    found: dict[int, list[tuple[Server, datetime]]] = defaultdict(list)
    ended = dict(
        await Subscription.filter(account_id__in=ids, ended_at__lte=now).values_list(
            "stripe_subscription_id", "ended_at"
        )
    )
    if not ended:
        return found
    rows = Server.filter(
        account_id__in=ids, stripe_subscription_id__in=list(ended), free=False, retired_at=None
    ).order_by("id")
    for server in await rows:
        found[server.account_id].append((server, ended[server.stripe_subscription_id]))
    return found


async def _notices(episode_ids: list[int]) -> Mapping[int, list[NoticeFact]]:
    notices: dict[int, list[NoticeFact]] = defaultdict(list)
    for row in await Notice.filter(episode_id__in=episode_ids, channel="mail").order_by("id"):
        notices[row.episode_id or 0].append(
            NoticeFact(
                stage=row.stage,
                template=row.template,
                sent_at=row.created_at,
                delivered_at=row.delivered_at,
                failed=row.state is NoticeState.FAILED,
                invoice_ids=frozenset(row.invoice_ids),
                server_ids=frozenset(row.server_ids),
            )
        )
    return notices


def _policy(account: Account, policies: Mapping[str, Policy]) -> Policy:
    """A policy that is gone falls back to `standard`, which always exists."""
    return policies.get(account.policy) or policies["standard"]


def _account_subject(
    account: Account, loaded: _Loaded, policies: Mapping[str, Policy], now: datetime
) -> Subject:
    policy = _policy(account, policies)
    episode = loaded.episodes.get((account.id, None))
    facts = AccountFacts(
        account_id=account.id,
        currency=account.currency,
        free_plan=account.free_plan,
        has_address=bool(account.email or account.billing_emails),
        invoices=loaded.invoices.get(account.id, ()),
        overrides=_override_facts(loaded.overrides[account.id], None),
        episode=_episode_fact(episode),
        notices=tuple(loaded.notices[episode.id]) if episode else (),
        notices_void_before=_void_before(account, loaded),
        disputes=_disputes(loaded.disputed.get(account.id, 0), episode, now),
    )
    return Subject(
        account=account,
        server=None,
        policy=policy,
        facts=facts,
        episode=episode,
        eligibility=ladder.eligible(facts, policy, now),
    )


def _coverage_subject(
    account: Account, server: Server, ended_at: datetime, loaded: _Loaded, policy: Policy, now: datetime
) -> Subject:
    episode = loaded.episodes.get((account.id, server.id))
    facts = CoverageFacts(
        server_id=server.id,
        ended_at=ended_at,
        seen_at=episode.started_at if episode else now,
        has_address=bool(account.email or account.billing_emails),
        overrides=_override_facts(loaded.overrides[account.id], server.id),
        episode=_episode_fact(episode),
        notices=tuple(loaded.notices[episode.id]) if episode else (),
        notices_void_before=_void_before(account, loaded),
    )
    eligibility = ladder.eligible_uncovered(facts, policy, now)
    return Subject(
        account=account, server=server, policy=policy, facts=facts, episode=episode, eligibility=eligibility
    )


def _covered_again(
    account: Account, server: Server, policy: Policy, episode: Episode, loaded: _Loaded, now: datetime
) -> Subject:
    """A server that is paid for again: nothing to climb for, its episode ends."""
    facts = CoverageFacts(
        server_id=server.id,
        ended_at=episode.started_at,
        seen_at=episode.started_at,
        free=True,
        has_address=bool(account.email or account.billing_emails),
        episode=_episode_fact(episode),
        notices=tuple(loaded.notices[episode.id]),
    )
    eligibility = ladder.eligible_uncovered(facts, policy, now)
    return Subject(
        account=account, server=server, policy=policy, facts=facts, episode=episode, eligibility=eligibility
    )


def _override_facts(rows: Iterable[Override], server_id: int | None) -> tuple[OverrideFact, ...]:
    """Return the account-wide overrides, and with a server its own too."""
    return tuple(fact_of(row) for row in rows if row.server_id is None or row.server_id == server_id)


def _void_before(account: Account, loaded: _Loaded) -> datetime | None:
    """Return from when notices count: after too long outside `APPLY`, and after the account's ladder was shortened."""
    return max((at for at in (loaded.void_before, account.notices_void_before) if at), default=None)


def _disputes(amount: int, episode: Episode | None, now: datetime) -> tuple[DisputeFact, ...]:
    """Return what is in dispute, as one that has been open since the episode began: the most merciful reading."""
    opened_at = episode.started_at if episode else now
    return (DisputeFact(amount=amount, opened_at=opened_at),) if amount else ()


def _episode_fact(episode: Episode | None) -> EpisodeFact | None:
    if episode is None:
        return None
    return EpisodeFact(
        started_at=episode.started_at, admitted=episode.admitted, admitted_at=episode.admitted_at
    )
