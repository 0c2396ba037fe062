"""Notices ahead of trouble: a card that expires, and money that no longer pays for the servers that run.

Owns who is told and that nobody is told twice of the same; when is the policy's word, and the invoices before their due
date are `billing.rules.notices`'. To be called in mode `apply` alone: elsewhere nothing of it would follow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from billing import cards, funds, notices
from billing.cards import Expiring
from billing.models import Account, Episode, Notice, Override
from billing.money_models import LedgerKind, UsageInterval
from billing.notice_content import Ahead, NamedCard, NamedRunway
from billing.notice_request import NamedServer, NoticeRequest
from billing.rules import funds as rules
from billing.rules.due import local_day
from billing.rules.funds import Outlook
from billing.rules.policy import Policy
from billing.rules.terms import NoticeState, OverrideKind
from billing.settling import Means

CARD_EXPIRING = "card_expiring"
FUNDS_LOW = "funds_low"
#: Of money that ends nobody is told more often, however often its end moves.
REPEAT_EVERY = timedelta(days=1)
#: Accounts read at once.
PAGE = 200


@dataclass(frozen=True, kw_only=True)
class _Telling:
    """One notice that is due, with the key of its cause."""

    account: Account
    dedupe_key: str
    template: str
    ahead: Ahead


async def queue_ahead(means: Means) -> int:
    """Queue what customers are to be told ahead, each cause once; return how many notices are new.

    Any number of processes may do this at once. Never call it inside a transaction.
    """
    return await _of_cards(means) + await _of_money(means)


async def still_due(notice: Notice, means: Means) -> bool:
    """Return whether something that was told ahead would be told now, in the same words; what else there is, is.

    A card that was replaced is told of no more, nor is money that a card, a voucher or a payment has joined meanwhile.
    """
    if notice.template not in {CARD_EXPIRING, FUNDS_LOW}:
        return True
    account, now = await Account.get(id=notice.account_id), means.clock.now()
    if notice.template == CARD_EXPIRING:
        span = _policy(account, means).before_card_expiry
        found = await cards.expiring(now=now, within=span, account_id=account.id) if span else []
        return notice.dedupe_key in {_of_card(account, card).dedupe_key for card in found}
    held = await funds.of_accounts([account.id], means, now=now)
    seen = rules.runs_short(held[account.id], _policy(account, means), now)
    if account.free_plan or seen is None or await _left_out([account.id], now):
        return False
    return notice.dedupe_key == _of_runway(account, seen, now).dedupe_key


# -- cards ---------------------------------------------------------------------------------------------------------


async def _of_cards(means: Means) -> int:
    spans = [one.before_card_expiry for one in means.policies.values() if one.before_card_expiry]
    if not spans:
        return 0
    now, queued = means.clock.now(), 0
    found = await cards.expiring(now=now, within=max(spans))
    for start in range(0, len(found), PAGE):
        page = found[start : start + PAGE]
        accounts = await Account.in_bulk({card.account_id for card in page}, "id")
        due = [
            _of_card(accounts[card.account_id], card)
            for card in page
            if _is_near(card, _policy(accounts[card.account_id], means), now)
        ]
        queued += await _queue(due, now)
    return queued


def _is_near(card: Expiring, policy: Policy, now: datetime) -> bool:
    span = policy.before_card_expiry
    return span is not None and card.expires_at - span <= now


def _of_card(account: Account, card: Expiring) -> _Telling:
    last_day = local_day(card.expires_at - timedelta(seconds=1), account.time_zone)
    return _Telling(
        account=account,
        # A renewed card is news; the same one read again is not.
        dedupe_key=f"{account.id}:{CARD_EXPIRING}:{card.card_id}:{last_day}",
        template=CARD_EXPIRING,
        ahead=Ahead(card=NamedCard(brand=card.brand, last4=card.last4, last_day=last_day)),
    )


# -- money ---------------------------------------------------------------------------------------------------------


async def _of_money(means: Means) -> int:
    now, queued, last = means.clock.now(), 0, 0
    while page := await _with_money_and_servers(last):
        last = page[-1].id
        held = await funds.of_accounts([account.id for account in page], means, now=now)
        due = []
        for account in page:
            seen = rules.runs_short(held[account.id], _policy(account, means), now)
            if seen is not None:
                due.append(_of_runway(account, seen, now))
        queued += await _queue(await _untroubled(due, now), now)
    return queued


async def _with_money_and_servers(last: int) -> list[Account]:
    """Return the next accounts with something in a purse and a server that costs something, by id."""
    return (
        await Account.filter(
            id__gt=last,
            free_plan=False,
            ledger_accounts__kind__in=(LedgerKind.BALANCE, LedgerKind.VOUCHER),
            ledger_accounts__balance__gt=0,
            usage__rate__gt=0,
            usage__ended_at__isnull=True,
        )
        .distinct()
        .order_by("id")
        .limit(PAGE)
    )


def _of_runway(account: Account, seen: Outlook, now: datetime) -> _Telling:
    return _Telling(
        account=account,
        # To the day: an end that moves by minutes is no news.
        dedupe_key=f"{account.id}:{FUNDS_LOW}:{local_day(seen.lasts_until, account.time_zone)}",
        template=FUNDS_LOW,
        ahead=Ahead(
            runway=NamedRunway(
                until=seen.lasts_until,
                ended=seen.lasts_until <= now,
                stopped_at=seen.follows.stopped_at,
                reviewed_at=seen.follows.reviewed_at,
            )
        ),
    )


async def _untroubled(due: Sequence[_Telling], now: datetime) -> list[_Telling]:
    """Leave out for whom nothing is to be told, and who was told a day ago."""
    ids = [one.account.id for one in due]
    if not ids:
        return []
    # Who was not reached was not told.
    told = Notice.filter(account_id__in=ids, template=FUNDS_LOW, created_at__gt=now - REPEAT_EVERY)
    rows = await told.exclude(state=NoticeState.FAILED).values_list("account_id")
    left_out = await _left_out(ids, now) | {account_id for (account_id,) in rows}
    return [one for one in due if one.account.id not in left_out]


async def _left_out(ids: Sequence[int], now: datetime) -> set[int | None]:
    """Return whom the ladder speaks to already, and for whom nothing would follow."""
    in_debt = Episode.filter(account_id__in=ids, server_id=None, ended_at=None)
    in_force = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    exempt = Override.filter(in_force, account_id__in=ids, server_id=None, kind=OverrideKind.EXEMPT)
    left_out: set[int | None] = set()
    for rows in (in_debt, exempt):
        left_out |= {account_id for (account_id,) in await rows.values_list("account_id")}
    return left_out


# -- both ----------------------------------------------------------------------------------------------------------


async def _queue(due: Sequence[_Telling], now: datetime) -> int:
    """Queue what was not queued before, for accounts that have an address: here nobody has to be asked for one."""
    reachable = [one for one in due if one.account.email or one.account.billing_emails]
    keys = [one.dedupe_key for one in reachable]
    known = {key for (key,) in await Notice.filter(dedupe_key__in=keys).values_list("dedupe_key")}
    new = [one for one in reachable if one.dedupe_key not in known]
    servers = await _servers(one.account.id for one in new if one.template == FUNDS_LOW)
    for one in new:
        async with in_transaction():
            request = NoticeRequest(
                account=one.account,
                template=one.template,
                dedupe_key=one.dedupe_key,
                servers=servers.get(one.account.id, ()),
                ahead=one.ahead,
            )
            await notices.queue(request, now=now)
    return len(new)


async def _servers(account_ids: Iterable[int]) -> dict[int, list[NamedServer]]:
    """Return what runs and costs something, by the name that its invoice will say."""
    rows = UsageInterval.filter(account_id__in=list(account_ids), ended_at=None, rate__gt=0)
    found: dict[int, list[NamedServer]] = {}
    for row in await rows.order_by("server_id"):
        named = NamedServer(id=row.server_id, name=row.server_name)
        found.setdefault(row.account_id, []).append(named)
    return found


def _policy(account: Account, means: Means) -> Policy:
    return means.policies.get(account.policy) or means.policies["standard"]
