"""Accounts: created and changed by the control plane, one transaction with its audit row.

The only writer of the fields that people set. What Stripe tells about an account is the mirror's; stages are the
reconciler's.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, Final
from zoneinfo import ZoneInfo

from tortoise.exceptions import IntegrityError
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from billing.audit import record
from billing.mail import can_be_used
from billing.models import Account, Invoice
from billing.money_models import Charge, LedgerTransaction, UsageInterval
from billing.refusal import Problem, RefusalCode, RefusalError, refusal, required_reason
from billing.rules.money import MoneyError, exponent
from billing.rules.policy import Policy
from billing.rules.policy_change import shortens
from billing.rules.terms import InvoiceOrigin


class Keep(Enum):
    """Stands for a field that the request left out: it stays as it is."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, kw_only=True)
class AccountChange:
    """What the control plane tells about an account; fields left at `KEEP` stay as they are."""

    external_id: str
    name: str
    currency: str
    #: Null clears the address; such an account never climbs past its first stage.
    email: str | Keep | None = KEEP
    billing_emails: tuple[str, ...] | Keep = KEEP
    locale: str | Keep = KEEP
    time_zone: str | Keep = KEEP
    stripe_customer_id: str | Keep = KEEP
    policy: str | Keep = KEEP
    free_plan: bool | Keep = KEEP


@dataclass(frozen=True, kw_only=True)
class Upserted:
    """The account as it now is, and whether a Stripe customer was newly named and has to be read."""

    account: Account
    adopt_customer: str | None


_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?\Z")
#: Stripe's ids: a short prefix and letters and digits (https://docs.stripe.com/api/customers/object#customer_object-id).
_CUSTOMER = re.compile(r"cus_[A-Za-z0-9]{1,60}\Z")
_MOST_ADDRESSES = 10
_LONGEST_ID = 200
_LONGEST_NAME = 300


async def upsert(
    change: AccountChange, *, policies: Mapping[str, Policy], actor: str, now: datetime
) -> Upserted:
    """Create the account, or change what was named; the same request twice changes nothing the second time.

    Refuses, with the path of each wrong field: a zone, locale, address, currency or policy that does not exist, a new
    currency once there is an invoice, usage, money or a payment, another Stripe customer once Stripe has issued an
    invoice, and a customer that another account has.
    """
    problems = tuple(_problems(change, policies))
    if problems:
        raise RefusalError(*problems)
    try:
        async with in_transaction():
            account = await Account.get_or_none(external_id=change.external_id)
            if account is None:
                return await _create(change, actor=actor, now=now)
            return await _update(account, change, policies=policies, actor=actor, now=now)
    except IntegrityError:
        taken = not isinstance(change.stripe_customer_id, Keep) and await Account.exists(
            stripe_customer_id=change.stripe_customer_id
        )
        raise refusal(
            RefusalCode.CONFLICT,
            f"{change.stripe_customer_id} belongs to another account"
            if taken
            else "the account was changed by another request at the same moment: ask again",
            "stripeCustomerId" if taken else "externalId",
        ) from None


async def assign_policy(
    account_id: int,
    policy: str,
    *,
    policies: Mapping[str, Policy],
    reason: str,
    actor: str,
    now: datetime,
) -> Account:
    """Let an account walk another ladder; where that is shorter, the notices so far open no stage any more.

    Refuses an account or a policy that is not there; the policy that it has already changes nothing.
    """
    why = required_reason(reason)
    if problem := _known_policy(policy, policies):
        raise RefusalError(problem)
    async with in_transaction():
        account = await Account.filter(id=account_id).select_for_update(no_key=True).first()
        if account is None:
            raise refusal(RefusalCode.NOT_FOUND, "there is no such account", "accountId")
        if account.policy == policy:
            return account
        await Account.filter(id=account_id).update(
            policy=policy, **_warned_anew(account, policy, policies, now)
        )
        await note_fact(account_id, now=now)
        await record(
            "account.policy_assigned",
            ("Account", account_id),
            at=now,
            actor=actor,
            reason=why,
            account_id=account_id,
            before={"policy": account.policy},
            after={"policy": policy},
            facts_version=account.facts_version + 1,
        )
    return await Account.get(id=account_id)


async def look_at(account_id: int, *, now: datetime) -> None:
    """Ask the reconciler to look at an account although none of the facts about it has moved."""
    await Account.filter(id=account_id).update(next_change_at=now)


async def note_fact(account_id: int, *, now: datetime) -> None:
    """Tell the reconciler, inside the transaction of the fact, that this account's facts have moved."""
    await Account.filter(id=account_id).update(facts_version=F("facts_version") + 1, next_change_at=now)


async def _create(change: AccountChange, *, actor: str, now: datetime) -> Upserted:
    told = _told(change)
    account = await Account.create(**told, created_at=now, next_change_at=now)
    await record(
        "account.created",
        ("Account", account.id),
        at=now,
        actor=actor,
        reason="told by the control plane",
        account_id=account.id,
        after=told,
        facts_version=account.facts_version,
    )
    return Upserted(account=account, adopt_customer=account.stripe_customer_id)


async def _update(
    account: Account, change: AccountChange, *, policies: Mapping[str, Policy], actor: str, now: datetime
) -> Upserted:
    told = {name: value for name, value in _told(change).items() if getattr(account, name) != value}
    if not told:
        return Upserted(account=account, adopt_customer=None)
    await _refuse_lasting(account, told)
    before = {name: getattr(account, name) for name in told}
    newly_named = "stripe_customer_id" in told
    more: dict[str, Any] = {"stripe_fetched_at": None, "stripe_deleted": False} if newly_named else {}
    if "policy" in told:
        more |= _warned_anew(account, told["policy"], policies, now)
    await Account.filter(id=account.id).update(**told, **more)
    await note_fact(account.id, now=now)
    account = await Account.get(id=account.id)
    await record(
        "account.changed",
        ("Account", account.id),
        at=now,
        actor=actor,
        reason="told by the control plane",
        account_id=account.id,
        before=before,
        after=told,
        facts_version=account.facts_version,
    )
    return Upserted(account=account, adopt_customer=account.stripe_customer_id if newly_named else None)


def _warned_anew(
    account: Account, policy: str, policies: Mapping[str, Policy], now: datetime
) -> dict[str, datetime]:
    """Return what a change of policy changes beside it: a shorter ladder begins with a fresh notice."""
    standard = policies["standard"]  # followed by whoever has a policy that is gone
    shorter = shortens(policies.get(account.policy, standard), policies[policy])
    return {"notices_void_before": now} if shorter else {}


async def _refuse_lasting(account: Account, told: dict[str, Any]) -> None:
    """Refuse changes that would make what is already recorded mean something else."""
    if "currency" in told:
        # The account's row first: whoever books, charges or meters writes it too, so that nobody does so meanwhile.
        await Account.filter(id=account.id).update(facts_version=F("facts_version"))
        tables = (Invoice, UsageInterval, LedgerTransaction, Charge)
        if any([await table.exists(account_id=account.id) for table in tables]):
            raise refusal(
                RefusalCode.CONFLICT,
                f"the currency stays {account.currency}: the account has invoices, usage, money or payments in it",
                "currency",
            )
    had_customer = "stripe_customer_id" in told and account.stripe_customer_id is not None
    if had_customer and await Invoice.exists(account_id=account.id, origin=InvoiceOrigin.STRIPE):
        raise refusal(
            RefusalCode.CONFLICT,
            f"the Stripe customer stays {account.stripe_customer_id}: its invoices are on this account",
            "stripeCustomerId",
        )


def _told(change: AccountChange) -> dict[str, Any]:
    named = {field.name: getattr(change, field.name) for field in fields(change)}
    told = {name: value for name, value in named.items() if not isinstance(value, Keep)}
    if "billing_emails" in told:
        told["billing_emails"] = list(told["billing_emails"])
    return told


def _problems(change: AccountChange, policies: Collection[str]) -> list[Problem]:
    found = [
        _text(change.external_id, _LONGEST_ID, "externalId"),
        _text(change.name, _LONGEST_NAME, "name"),
        _unless(_is_currency(change.currency), "give an ISO 4217 code such as EUR", "currency"),
    ]
    if isinstance(change.email, str):
        found.append(_address(change.email, "email"))
    if not isinstance(change.billing_emails, Keep):
        found.append(
            _unless(
                len(change.billing_emails) <= _MOST_ADDRESSES,
                f"give at most {_MOST_ADDRESSES} addresses",
                "billingEmails",
            )
        )
        found.extend(
            _address(address, "billingEmails", str(place))
            for place, address in enumerate(change.billing_emails)
        )
    if not isinstance(change.locale, Keep):
        found.append(_unless(bool(_LOCALE.match(change.locale)), "give a locale such as de-CH", "locale"))
    if not isinstance(change.time_zone, Keep):
        found.append(
            _unless(_is_zone(change.time_zone), "give an IANA time zone such as Europe/Zurich", "timeZone")
        )
    if not isinstance(change.stripe_customer_id, Keep):
        named = bool(_CUSTOMER.match(change.stripe_customer_id))
        found.append(
            _unless(named, "give the id of a Stripe customer such as cus_abc123", "stripeCustomerId")
        )
    if not isinstance(change.policy, Keep):
        found.append(_known_policy(change.policy, policies))
    return [problem for problem in found if problem is not None]


def _known_policy(name: str, policies: Collection[str]) -> Problem | None:
    known = ", ".join(sorted(policies))
    return _unless(name in policies, f"there is no such policy; there are: {known}", "policy")


def _unless(right: bool, message: str, *path: str) -> Problem | None:
    return None if right else Problem(code=RefusalCode.INVALID, message=message, path=path)


def _text(value: str, longest: int, *path: str) -> Problem | None:
    right = bool(value.strip()) and value == value.strip() and value.isprintable() and len(value) <= longest
    return _unless(right, f"give 1 to {longest} printable characters without blanks around them", *path)


def _address(value: str, *path: str) -> Problem | None:
    right = can_be_used(value) and "." in value.partition("@")[2]
    message = (
        "give an e-mail address such as billing@example.com, its domain in the xn-- form where it needs one"
    )
    return _unless(right, message, *path)


def _is_currency(code: str) -> bool:
    try:
        exponent(code)
    except MoneyError:
        return False
    return True


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a relative name; a folder of the zone database
        return False
    return True
