"""What accounts could pay with and have to pay for, read for many at once.

Reads alone, in one statement; what follows from it is decided by `billing.rules.funds`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from billing.bundle import Bundle, Part, grouped, instant, instant_or_none
from billing.money_models import LedgerKind
from billing.rules import cards as card_rules
from billing.rules import funds as rules
from billing.rules.funds import Funds, OpenInvoice
from billing.rules.metering import Span
from billing.rules.runway import OpenUsage
from billing.rules.settlement import Purses
from billing.rules.terms import InvoiceOrigin
from billing.settling import Means, payable

_CHUNK = 5_000
"""Accounts per statement, so that the rows of one are not too many for the memory."""

_BUNDLE = Bundle({
    "accounts": Part(
        columns="id, currency, time_zone, policy", rows="FROM account WHERE id IN (SELECT id FROM asked)"
    ),
    "purses": Part(
        columns="account_id, kind, balance",
        rows="FROM ledger_account WHERE kind IN ('VOUCHER', 'BALANCE') AND account_id IN (SELECT id FROM asked)",
    ),
    "cards": Part(
        columns="account_id, exp_year, exp_month",
        rows="FROM card WHERE removed_at IS NULL AND account_id IN (SELECT id FROM asked)",
    ),
    "reserved": Part(
        columns="account_id, invoice_id, amount, set_aside",
        rows="FROM reservation WHERE state IN ('RESERVED', 'REPORTED') AND account_id IN (SELECT id FROM asked)",
    ),
    "invoices": Part(
        columns="id, account_id, currency, origin, total, due_on, amount_due, overdue_at",
        rows="FROM invoice WHERE status = 'OPEN' AND amount_due > 0 AND account_id IN (SELECT id FROM asked)",
    ),
    "metered": Part(
        columns="account_id, invoiced_until, month",
        rows="FROM metered_account WHERE account_id IN (SELECT id FROM asked)",
    ),
    "usage": Part(
        columns="u.id, u.account_id, u.server_id, u.server_name, u.sku, u.rate, u.started_at, u.ended_at",
        rows="FROM usage_interval u JOIN metered_account m ON m.account_id = u.account_id "
        "WHERE (u.ended_at IS NULL OR u.ended_at > m.invoiced_until) AND u.account_id IN (SELECT id FROM asked)",
    ),
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Account:
    currency: str
    zone: str
    policy: str


@dataclass(frozen=True, kw_only=True)
class _Reserved:
    invoice_id: int
    amount: int
    set_aside: bool


@dataclass(frozen=True, kw_only=True)
class _Open:
    id: int
    currency: str
    origin: InvoiceOrigin
    total: int
    due_on: date | None
    amount_due: int
    overdue_at: datetime | None


async def of_accounts(account_ids: Iterable[int], means: Means, *, now: datetime) -> Mapping[int, Funds]:
    """Return the funds of each account that exists, in one statement."""
    every = sorted(set(account_ids))
    found: dict[int, Funds] = {}
    for start in range(0, len(every), _CHUNK):
        found |= _funds(await _BUNDLE.read(every[start : start + _CHUNK]), means, now)
    return found


async def needs_card(account_id: int, means: Means, *, now: datetime) -> bool:
    """Whether the account has metered servers that no purse covers for the coming month.

    Servers under a Stripe subscription are not metered: whether Stripe charges a card for them is the caller's to ask.
    """
    return rules.needs_card((await of_accounts([account_id], means, now=now))[account_id], now)


def _funds(rows: Mapping[str, list[list[Any]]], means: Means, now: datetime) -> dict[int, Funds]:
    accounts = {
        key: _Account(currency=currency, zone=zone, policy=policy)
        for key, currency, zone, policy in rows["accounts"]
    }
    held: dict[int, dict[str, int]] = defaultdict(dict)
    for account_id, kind, balance in rows["purses"]:
        held[account_id][kind] = balance
    with_card = {
        account_id
        for account_id, year, month in rows["cards"]
        if now < card_rules.expires_at(year, month, accounts[account_id].zone)
    }
    invoices, usage = _invoices(rows, accounts, means), _usage(rows, accounts)
    return {
        key: Funds(
            currency=account.currency,
            has_card=key in with_card,
            purses=Purses(
                voucher=held[key].get(LedgerKind.VOUCHER, 0), balance=held[key].get(LedgerKind.BALANCE, 0)
            ),
            invoices=tuple(invoices[key]),
            usage=usage.get(key),
        )
        for key, account in accounts.items()
    }


def _invoices(
    rows: Mapping[str, list[list[Any]]], accounts: Mapping[int, _Account], means: Means
) -> Mapping[int, list[OpenInvoice]]:
    """Return the open invoices of each account's own currency, in the order of their ids."""
    reserved = grouped((row[0], _reserved(*row)) for row in rows["reserved"])
    found: dict[int, list[OpenInvoice]] = defaultdict(list)
    for account_id, invoice in ((row[1], _open(*row)) for row in rows["invoices"]):
        account = accounts[account_id]
        if invoice.currency == account.currency:
            settled = payable(invoice, reserved[account_id], account.policy, means)
            found[account_id].append(OpenInvoice(payable=settled, overdue_at=invoice.overdue_at))
    return found


def _usage(rows: Mapping[str, list[list[Any]]], accounts: Mapping[int, _Account]) -> Mapping[int, OpenUsage]:
    spans = grouped((row[1], _span(*row)) for row in rows["usage"])
    return {
        account_id: OpenUsage(
            invoiced_until=instant(invoiced_until),
            month=date.fromisoformat(month),
            zone=accounts[account_id].zone,
            spans=tuple(spans[account_id]),
        )
        for account_id, invoiced_until, month in rows["metered"]
    }


def _reserved(_account_id: int, invoice_id: int, amount: int, set_aside: int) -> _Reserved:
    return _Reserved(invoice_id=invoice_id, amount=amount, set_aside=bool(set_aside))


def _open(key: int, _account_id: int, currency: str, origin: str, total: int, *rest: Any) -> _Open:
    due_on, amount_due, overdue_at = rest
    return _Open(
        id=key,
        currency=currency,
        origin=InvoiceOrigin(origin),
        total=total,
        due_on=date.fromisoformat(due_on) if due_on is not None else None,
        amount_due=amount_due,
        overdue_at=instant_or_none(overdue_at),
    )


def _span(_id: int, _account_id: int, server_id: int, server_name: str, sku: str, *rest: Any) -> Span:
    rate, started_at, ended_at = rest
    return Span(
        server_id=server_id,
        server_name=server_name,
        sku=sku,
        rate=rate,
        started_at=instant(started_at),
        ended_at=instant_or_none(ended_at),
    )
