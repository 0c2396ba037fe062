"""Who may climb, with everything that decides it: accounts, and single servers whose subscription has ended.

Reads the facts of many accounts in a fixed number of statements and asks the pure rules. Writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from billing.models import Account, Episode
from billing.rules import ladder
from billing.rules.facts import (
    AccountFacts,
    CoverageFacts,
    EpisodeFact,
    OverrideFact,
)
from billing.rules.ladder import Eligibility
from billing.rules.policy import Policy
from billing.rules.terms import Effect, Stage, milder
from reconciler import subject_rows
from reconciler.models import Server
from reconciler.subject_rows import SubjectRows


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
    #: All overrides of the account and of its servers, ended ones too.
    overrides: tuple[OverrideFact, ...] = ()
    #: Whether the account has an unpaid uncollectible invoice.
    uncollected: bool = False
    #: When the account's own last episode ended; null: it never had one.
    last_ended: datetime | None = None
    #: Whether the account has metered usage.
    metered: bool = False

    @property
    def admitted(self) -> Stage:
        """The stage that the guard has let it reach in this episode."""
        return self.episode.admitted if self.episode else Stage.CURRENT

    @property
    def standing(self) -> Stage:
        """The lower of eligible and admitted: the only stage that anybody is shown."""
        return milder(self.eligibility.stage, self.admitted)

    def effects_at(self, stage: Stage) -> frozenset[Effect]:
        """Return what a stage does to it: at one that it has reached, nothing that came into the policy afterwards.

        What was added since needs a climb with its notice and its guard, as everything that is taken does.
        """
        effects = self.policy.effects_at(stage)
        granted = granted_by(self.episode)
        return effects if granted is None or stage.rank > self.admitted.rank else effects & granted

    @property
    def name(self) -> str:
        """Its external id, for people."""
        return self.server.external_id if self.server else self.account.external_id


def granted_by(episode: Episode | None) -> frozenset[Effect] | None:
    """Return the effects that the admitted stage may have; null: all that the policy gives it."""
    return granted_in(episode.granted) if episode is not None else None


def granted_in(stored: str | None) -> frozenset[Effect] | None:
    """Return the same as an episode keeps it."""
    return None if stored is None else frozenset(map(Effect, stored.split()))


async def load(account_ids: Iterable[int], policies: Mapping[str, Policy], now: datetime) -> list[Subject]:
    """Return the accounts and their uncovered servers with their eligibility at `now`, accounts first."""
    return await of_accounts(
        await Account.filter(id__in=sorted(set(account_ids))).order_by("id"), policies, now
    )


async def of_accounts(
    accounts: Sequence[Account], policies: Mapping[str, Policy], now: datetime
) -> list[Subject]:
    """Return the same of accounts that are at hand, in one statement."""
    rows = await subject_rows.read([account.id for account in accounts], now=now)
    subjects = [_account_subject(account, rows, policies, now) for account in accounts]
    for account in accounts:
        policy = _policy(account, policies)
        ended = rows.uncovered[account.id] if policy.billing.subscription_end_climbs else {}
        episodes = rows.episodes[account.id]
        subjects += [
            _coverage_subject(account, rows.servers[key], ended_at, rows, policy, now)
            for key, ended_at in sorted(ended.items())
        ]
        subjects += [
            _covered_again(account, rows.servers[key], policy, episode, rows, now)
            for key, episode in episodes.items()
            if key is not None and key not in ended
        ]
    return subjects


def _policy(account: Account, policies: Mapping[str, Policy]) -> Policy:
    """A policy that is gone falls back to `standard`, which always exists."""
    return policies.get(account.policy) or policies["standard"]


def _account_subject(
    account: Account, rows: SubjectRows, policies: Mapping[str, Policy], now: datetime
) -> Subject:
    policy = _policy(account, policies)
    episode = rows.episodes[account.id].get(None)
    facts = AccountFacts(
        account_id=account.id,
        currency=account.currency,
        free_plan=account.free_plan,
        has_address=bool(account.email or account.billing_emails),
        invoices=tuple(rows.invoices[account.id]),
        overrides=_override_facts(rows.overrides[account.id], None),
        episode=_episode_fact(episode),
        notices=tuple(rows.notices[episode.id]) if episode else (),
        notices_void_before=_void_before(account, rows),
        disputes=tuple(rows.disputes[account.id]),
    )
    return Subject(
        account=account,
        server=None,
        policy=policy,
        facts=facts,
        episode=episode,
        eligibility=ladder.eligible(facts, policy, now),
        overrides=tuple(rows.overrides[account.id]),
        uncollected=account.id in rows.uncollected,
        last_ended=rows.last_ended.get(account.id),
        metered=account.id in rows.metered,
    )


def _coverage_subject(
    account: Account, server: Server, ended_at: datetime, rows: SubjectRows, policy: Policy, now: datetime
) -> Subject:
    episode = rows.episodes[account.id].get(server.id)
    facts = CoverageFacts(
        server_id=server.id,
        ended_at=ended_at,
        seen_at=episode.started_at if episode else now,
        has_address=bool(account.email or account.billing_emails),
        overrides=_override_facts(rows.overrides[account.id], server.id),
        episode=_episode_fact(episode),
        notices=tuple(rows.notices[episode.id]) if episode else (),
        notices_void_before=_void_before(account, rows),
    )
    eligibility = ladder.eligible_uncovered(facts, policy, now)
    return Subject(
        account=account, server=server, policy=policy, facts=facts, episode=episode, eligibility=eligibility
    )


def _covered_again(
    account: Account, server: Server, policy: Policy, episode: Episode, rows: SubjectRows, now: datetime
) -> Subject:
    """A server that is paid for again: nothing to climb for, its episode ends."""
    facts = CoverageFacts(
        server_id=server.id,
        ended_at=episode.started_at,
        seen_at=episode.started_at,
        free=True,
        has_address=bool(account.email or account.billing_emails),
        episode=_episode_fact(episode),
        notices=tuple(rows.notices[episode.id]),
    )
    eligibility = ladder.eligible_uncovered(facts, policy, now)
    return Subject(
        account=account, server=server, policy=policy, facts=facts, episode=episode, eligibility=eligibility
    )


def _override_facts(placed: Iterable[OverrideFact], server_id: int | None) -> tuple[OverrideFact, ...]:
    """Return the account-wide overrides, and with a server its own too."""
    return tuple(one for one in placed if one.server_id is None or one.server_id == server_id)


def _void_before(account: Account, rows: SubjectRows) -> datetime | None:
    """Return from when notices count: after too long outside `APPLY`, and after the account's ladder was shortened."""
    return max((at for at in (rows.void_before, account.notices_void_before) if at), default=None)


def _episode_fact(episode: Episode | None) -> EpisodeFact | None:
    if episode is None:
        return None
    return EpisodeFact(
        started_at=episode.started_at,
        admitted=episode.admitted,
        admitted_at=episode.admitted_at,
        fell_silently=episode.fell_silently,
    )
