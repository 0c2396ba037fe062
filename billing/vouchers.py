"""Vouchers: issued in batches, shown once, revoked, redeemed once; guessing is slowed down.

The only writer of `voucher` and `voucher_guess`. Moves no money itself: that is the ledger's. What a filled purse
settles is the caller's next step.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from tortoise.backends.base.client import TransactionalDBClient
from tortoise.connection import get_connection
from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from billing import ledger
from billing.audit import record
from billing.models import Account
from billing.money_models import LedgerKind, TransactionKind, Voucher, VoucherGuess
from billing.refusal import RefusalCode, RefusalError, TooOftenError, refusal, required_reason
from billing.rules.money import Money
from billing.rules.voucher_codes import RandomBelow, code_hash, new_code, normalised
from billing.rules.words import phrase

MOST_AT_ONCE = 1_000
MOST_VALUE = 10**11
"""Minor units; far from what 64 bits hold, however many are redeemed."""


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """This many wrong codes within a while close the door until the oldest of them is over."""

    most: int
    within: timedelta


PER_ACCOUNT = Throttle(most=5, within=timedelta(minutes=15))
PER_ADDRESS = Throttle(most=20, within=timedelta(hours=1))


class VoucherState(StrEnum):
    """Where a voucher is in its life."""

    ISSUED = "ISSUED"
    REDEEMED = "REDEEMED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Vouchers that are asked for: how many, each worth what, until when, and a note for staff."""

    count: int
    value: Money
    expires_at: datetime | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A new voucher and its code, which is known here and now and never again."""

    voucher: Voucher
    code: str


class TooManyGuessesError(TooOftenError):
    """Too many wrong codes came from this account or address: not even a right one is taken before `retry_at`."""

    def __init__(self, retry_at: datetime) -> None:
        message = phrase("Too many wrong codes were entered. Try again after %(retry)s.")
        super().__init__(message, "code", retry_at=retry_at)


def state_of(voucher: Voucher, *, now: datetime) -> VoucherState:
    """Return where a voucher is; one that ended before its expiry stays what it became."""
    if voucher.redeemed_at is not None:
        return VoucherState.REDEEMED
    if voucher.revoked_at is not None:
        return VoucherState.REVOKED
    expired = voucher.expires_at is not None and voucher.expires_at <= now
    return VoucherState.EXPIRED if expired else VoucherState.ISSUED


def in_state(state: VoucherState, *, now: datetime) -> Q:
    """Return, as a condition on vouchers, whether they are in this state at `now`: the same as `state_of`."""
    if state is VoucherState.REDEEMED:
        return Q(redeemed_at__isnull=False)
    if state is VoucherState.REVOKED:
        return Q(redeemed_at__isnull=True, revoked_at__isnull=False)
    unused = Q(redeemed_at__isnull=True, revoked_at__isnull=True)
    if state is VoucherState.EXPIRED:
        return unused & Q(expires_at__lte=now)
    return unused & (Q(expires_at__isnull=True) | Q(expires_at__gt=now))


async def issue(batch: Batch, *, random_below: RandomBelow, actor: str, now: datetime) -> list[Issued]:
    """Issue the vouchers, all or none, and return them with their codes; only the codes' hashes are kept.

    Refuses a number that is not 1 to 1000, a value that is not above zero, and an expiry that is not in the future.
    """
    _refuse_batch(batch, now)
    codes: dict[str, str] = {}
    while len(codes) < batch.count:
        code = new_code(random_below)
        codes[code_hash(code.replace("-", ""))] = code
    rows = [
        Voucher(
            code_hash=hashed,
            value=batch.value.minor,
            currency=batch.value.currency,
            note=batch.note,
            issued_by=actor,
            issued_at=now,
            expires_at=batch.expires_at,
        )
        for hashed in codes
    ]
    async with in_transaction():
        await Voucher.bulk_create(rows)
        issued = await Voucher.filter(code_hash__in=list(codes)).order_by("id")
        await record(
            "vouchers.issued",
            ("Voucher", issued[0].id),
            at=now,
            actor=actor,
            reason=batch.note or "issued",
            after={
                "ids": [voucher.id for voucher in issued],
                "value": str(batch.value),
                "expires_at": batch.expires_at,
            },
        )
    return [Issued(voucher=voucher, code=codes[voucher.code_hash]) for voucher in issued]


async def revoke(voucher_id: int, *, reason: str, actor: str, now: datetime) -> Voucher:
    """Make a voucher worthless for ever. Refuses one that was redeemed or revoked already."""
    told = required_reason(reason)
    async with in_transaction():
        revoked = await Voucher.filter(
            id=voucher_id, redeemed_at__isnull=True, revoked_at__isnull=True
        ).update(revoked_at=now)
        voucher = await Voucher.get_or_none(id=voucher_id)
        if voucher is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such voucher", "voucherId")
        if not revoked and voucher.redeemed_at is not None:
            raise refusal(RefusalCode.VOUCHER_USED, "the voucher has been redeemed already", "voucherId")
        if not revoked:
            raise refusal(RefusalCode.CONFLICT, "the voucher has been revoked already", "voucherId")
        await record("voucher.revoked", ("Voucher", voucher.id), at=now, actor=actor, reason=told)
    return voucher


async def redeem(
    typed: str,
    *,
    account_id: int,
    address: str | None,
    actor: str,
    now: datetime,
    within: Callable[[Voucher], Awaitable[None]] | None = None,
) -> Voucher:
    """Fill the account's voucher purse with the voucher of a code, once for ever, and return the voucher.

    Refuses, without a word on which it was, a code that does not exist or was mistyped; one that was redeemed, has
    expired, was revoked, or is in another currency than the account. Wrong codes are counted by account and by network
    address (of IPv6 the /64); after too many `TooManyGuessesError` refuses right ones too. Not to be called within a
    transaction, which would take the count back together with the refusal. `within` runs in the one that redeems.
    """
    if isinstance(get_connection("default"), TransactionalDBClient):
        raise RuntimeError(
            "a voucher is redeemed in transactions of its own, or its refusals would not be counted"
        )
    if not await Account.exists(id=account_id):
        raise refusal(RefusalCode.NOT_FOUND, phrase("There is no such account."), "accountId")
    guess = await _admitted(account_id, _origin(address), now)
    code = normalised(typed)
    voucher = await Voucher.get_or_none(code_hash=code_hash(code)) if code is not None else None
    if voucher is None:
        await _note_wrong(guess, actor=actor)
        message = phrase("This is no code of a voucher; check each character.")
        raise refusal(RefusalCode.VOUCHER_UNKNOWN, message, "code")
    # Who knows a whole code does not guess.
    await guess.delete()
    async with in_transaction():
        taken = await _take(voucher, account_id, actor=actor, now=now)
        if within is not None:
            await within(taken)
    return taken


async def _take(voucher: Voucher, account_id: int, *, actor: str, now: datetime) -> Voucher:
    """Redeem the voucher if that is still possible: one conditional update, together with its booking."""
    async with in_transaction():
        currency = await ledger.lock(account_id)
        taken = await Voucher.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=now),
            id=voucher.id,
            currency=currency,
            redeemed_at__isnull=True,
            revoked_at__isnull=True,
        ).update(redeemed_at=now, redeemed_by_id=account_id)
        voucher = await Voucher.get(id=voucher.id)
        if not taken:
            raise _reason_against(voucher, currency, now)
        value = Money(voucher.value, voucher.currency)
        booked = await ledger.book(
            TransactionKind.VOUCHER_REDEEMED,
            account_id,
            [ledger.Move(debit=LedgerKind.VOUCHERS_ISSUED, credit=LedgerKind.VOUCHER, amount=value.minor)],
            fact=("voucher", str(voucher.id)),
            at=now,
            actor=actor,
            description="Voucher",
            voucher_id=voucher.id,
        )
        if booked is None:
            raise RuntimeError(f"voucher {voucher.id} was booked before it was redeemed")
        await record(
            "voucher.redeemed",
            ("Voucher", voucher.id),
            at=now,
            actor=actor,
            reason="its code was entered",
            account_id=account_id,
            after={"value": str(value)},
        )
    return voucher


async def prune_guesses(*, now: datetime) -> int:
    """Forget the wrong codes that no throttle looks at any more; return how many."""
    return await VoucherGuess.filter(at__lte=now - max(PER_ACCOUNT.within, PER_ADDRESS.within)).delete()


async def _admitted(account_id: int, address: str | None, now: datetime) -> VoucherGuess:
    """Count one guess, or refuse it because the door is closed.

    It is written first and counted afterwards: of any number of guesses at once, no more than the limit get through.
    """
    guess = await VoucherGuess.create(account_id=account_id, address=address, at=now)
    reopenings = [
        others[-1] + throttle.within
        for throttle, others in await _counted(guess)
        if len(others) == throttle.most
    ]
    if reopenings:
        await guess.delete()
        raise TooManyGuessesError(max(reopenings))
    return guess


async def _note_wrong(guess: VoucherGuess, *, actor: str) -> None:
    """Leave a trace when this wrong code is the one that closes the door; forget old ones."""
    if any(len(others) + 1 == throttle.most for throttle, others in await _counted(guess)):
        await record(
            "voucher.guessing",
            ("Account", str(guess.account_id)),
            at=guess.at,
            actor=actor,
            reason="too many wrong codes: no code is taken for a while",
            account_id=guess.account_id,
            after={"address": guess.address},
        )
    await prune_guesses(now=guess.at)


async def _counted(guess: VoucherGuess) -> list[tuple[Throttle, list[datetime]]]:
    """Return, for each throttle, when the latest other guesses were that it counts, at most its limit."""
    whose: list[tuple[Throttle, dict[str, Any]]] = [(PER_ACCOUNT, {"account_id": guess.account_id})]
    if guess.address is not None:
        whose.append((PER_ADDRESS, {"address": guess.address}))
    counted: list[tuple[Throttle, list[datetime]]] = []
    for throttle, by in whose:
        others = VoucherGuess.filter(**by, at__gt=guess.at - throttle.within).exclude(id=guess.id)
        latest = await others.order_by("-at", "-id").limit(throttle.most)
        counted.append((throttle, [other.at for other in latest]))
    return counted


def _origin(address: str | None) -> str | None:
    """Return what of an address stands for one customer's line; None when it is no address."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


def _refuse_batch(batch: Batch, now: datetime) -> None:
    if not 1 <= batch.count <= MOST_AT_ONCE:
        raise refusal(RefusalCode.INVALID, f"issue 1 to {MOST_AT_ONCE} vouchers at once", "count")
    if not 0 < batch.value.minor <= MOST_VALUE:
        most = Money(MOST_VALUE, batch.value.currency)
        raise refusal(RefusalCode.INVALID, f"a voucher is worth more than 0 and at most {most}", "value")
    if batch.expires_at is not None and batch.expires_at <= now:
        raise refusal(RefusalCode.EXPIRY_IN_PAST, "give an instant in the future", "expiresAt")


def _reason_against(voucher: Voucher, currency: str, now: datetime) -> RefusalError:
    match state_of(voucher, now=now):
        case VoucherState.REDEEMED:
            code, message = RefusalCode.VOUCHER_USED, phrase("This voucher has been redeemed already.")
        case VoucherState.REVOKED:
            code, message = RefusalCode.VOUCHER_EXPIRED, phrase("This voucher was withdrawn.")
        case VoucherState.EXPIRED:
            code = RefusalCode.VOUCHER_EXPIRED
            message = phrase("This voucher was valid until %(until)s.", until=voucher.expires_at or now)
        case VoucherState.ISSUED:
            code = RefusalCode.CURRENCY_MISMATCH
            message = phrase(
                "This voucher is in %(its)s, the account in %(yours)s.", its=voucher.currency, yours=currency
            )
    return refusal(code, message, "code")
