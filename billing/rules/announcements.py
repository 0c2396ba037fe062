"""What the portal shows on every page because of where an account stands.

Owns what is said, when, how loudly, and what goes on working meanwhile: as message ids with arguments, and their
English. Follows the standing alone, never what an account is eligible for; holds no text of a customer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from billing.rules.climb import NextStage
from billing.rules.funds import MoneyTrouble
from billing.rules.money import Money
from billing.rules.runway import Consequences
from billing.rules.terms import Effect, Severity, Stage


@dataclass(frozen=True, kw_only=True)
class Message:
    """Words for people as a stable id with what it speaks of, so that every language can say it its own way."""

    id: str
    arguments: Mapping[str, str | int | Money | datetime] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """One announcement, ready to be put into words."""

    #: The same while nothing about it changes, so that a portal can remember that it was seen.
    id: str
    severity: Severity
    #: Stable: `PAYMENT_OVERDUE`, `FINAL_NOTICE`, `SUSPENDED`, `RETAINED`, `DECOMMISSION_REVIEW`, `SUBSCRIPTION_ENDED`,
    #: `FUNDS_LOW`, `CARD_MISSING`.
    code: str
    title: Message
    body: tuple[Message, ...]
    #: When the next stage comes if nothing is paid; null when that is not known.
    deadline: datetime | None
    since: datetime
    still_works: tuple[Message, ...]


@dataclass(frozen=True, kw_only=True)
class AnnouncedStanding:
    """What an announcement rests on. `stage` and `effects` are the standing's."""

    stage: Stage
    since: datetime
    effects: frozenset[Effect] = frozenset()
    debt: Money | None = None
    next: NextStage | None = None
    #: How many servers stand on the ladder alone because their subscription ended, the highest of their stages, since
    #: when, and what that stage does to them.
    uncovered: int = 0
    uncovered_stage: Stage = Stage.CURRENT
    uncovered_since: datetime | None = None
    uncovered_effects: frozenset[Effect] = frozenset()
    #: Servers that are not paid for in the long run, and what the account has in its purses.
    trouble: MoneyTrouble | None = None
    money: Money | None = None


_CODES = {
    Stage.PAST_DUE: ("PAYMENT_OVERDUE", Severity.WARNING),
    Stage.FINAL_NOTICE: ("FINAL_NOTICE", Severity.WARNING),
    Stage.SUSPENDED: ("SUSPENDED", Severity.CRITICAL),
    Stage.RETAINED: ("RETAINED", Severity.CRITICAL),
    Stage.DECOMMISSION_REVIEW: ("DECOMMISSION_REVIEW", Severity.CRITICAL),
}
_SUBSCRIPTION_ENDED = "SUBSCRIPTION_ENDED"
_FUNDS_LOW = "FUNDS_LOW"
_CARD_MISSING = "CARD_MISSING"

ENGLISH: Mapping[str, str] = {
    "title.PAYMENT_OVERDUE": "A payment is overdue",
    "title.FINAL_NOTICE": "Final notice: please pay now",
    "title.SUSPENDED": "Your account is suspended",
    "title.RETAINED": "Your account is suspended; your data is kept",
    "title.DECOMMISSION_REVIEW": "Final warning about your servers",
    "title.SUBSCRIPTION_ENDED": "A subscription has ended",
    "body.owed": "{amount} is overdue.",
    "body.PAYMENT_OVERDUE": "Please pay it so that everything keeps running.",
    "body.FINAL_NOTICE": "This is the last notice before your servers are stopped.",
    "body.SUSPENDED": "Nothing is deleted, and all of it comes back when you pay.",
    "body.RETAINED": "Your data is kept, and all of it comes back when you pay.",
    "body.DECOMMISSION_REVIEW": "Our staff may decide to give your servers up. Paying, or writing to us, ends that.",
    "effect.LOCK_BACKUPS": "Your backups are kept and locked.",
    "effect.STOP_SERVERS": "Your servers are stopped.",
    "effect.LOCK_ACCOUNT": "Changes to the account are closed; paying is always possible.",
    "body.SUBSCRIPTION_ENDED.PAST_DUE": "Servers whose subscription has ended: {servers}.",
    "body.SUBSCRIPTION_ENDED.FINAL_NOTICE": "Servers without a subscription, their backups locked: {servers}.",
    "body.SUBSCRIPTION_ENDED.SUSPENDED": "Servers without a subscription, stopped: {servers}.",
    "body.renew": "Renew the subscription, or put each server on another one, and it comes back by itself.",
    "title.FUNDS_LOW": "Your money runs out soon",
    "title.CARD_MISSING": "Please add a card",
    "body.FUNDS_LOW": "Your balance and vouchers, {money}, pay for your servers until {until}.",
    "body.FUNDS_USED_UP": "Your balance and vouchers, {money}, have paid for your servers until {until}.",
    "body.CARD_MISSING": "You have servers, but neither a card nor voucher balance to pay for them.",
    "body.add_money": "Add a card, redeem a voucher or top up your balance to keep them running.",
    "body.add_card": "Add a card or redeem a voucher to keep them running.",
    "body.stopped": "Without that they are stopped on {stopped} at the earliest.",
    "body.reviewed": "After {reviewed} our staff may decide to remove them; before that nothing is deleted.",
    "body.deadline.FINAL_NOTICE": "Without a payment the final notice follows on {deadline}.",
    "body.deadline.SUSPENDED": "Without a payment your servers are stopped on {deadline}.",
    "body.deadline.RETAINED": "Without a payment the next step follows on {deadline}.",
    "body.deadline.DECOMMISSION_REVIEW": "Without a payment the final warning follows on {deadline}.",
    "works.pay": "Paying, cards, vouchers and topping up",
    "works.read": "Reading and downloading your files",
    "works.servers": "Your servers keep running",
    "works.backups": "Creating, restoring and exporting backups",
    "works.kept": "Your backups are kept",
    "works.account": "Changing your account and your servers' files",
}


def announcement(standing: AnnouncedStanding, now: datetime) -> Announcement | None:
    """Return what to show for a standing; null when there is nothing to say.

    The account's own stage goes first, then servers whose subscription ended, then servers that are not paid for in the
    long run.
    """
    if standing.stage is not Stage.CURRENT:
        code, severity = _CODES[standing.stage]
        # A stage that is due already is held back by the guard, and nobody hears of that.
        certain = standing.next and standing.next.waiting_for is None and standing.next.at > now
        deadline = standing.next.at if standing.next and certain else None
        body = (
            *([Message(id="body.owed", arguments={"amount": standing.debt})] if standing.debt else []),
            *(Message(id=f"effect.{effect}") for effect in Effect if effect in standing.effects),
            Message(id=f"body.{code}"),
            *_deadline(standing.next, deadline),
        )
        return _announcement(
            code, severity, body, standing.since, effects=standing.effects, deadline=deadline
        )
    if standing.uncovered and standing.uncovered_stage is not Stage.CURRENT:
        stopped = Effect.STOP_SERVERS in standing.uncovered_effects
        locked = Effect.LOCK_BACKUPS in standing.uncovered_effects
        shown = Stage.SUSPENDED if stopped else Stage.FINAL_NOTICE if locked else Stage.PAST_DUE
        text = f"body.{_SUBSCRIPTION_ENDED}.{shown}"
        body = (Message(id=text, arguments={"servers": standing.uncovered}), Message(id="body.renew"))
        severity = Severity.CRITICAL if stopped else Severity.WARNING
        since = standing.uncovered_since or standing.since
        return _announcement(_SUBSCRIPTION_ENDED, severity, body, since, effects=frozenset(), deadline=None)
    return _about_money(standing, now)


def english(message: Message, zone: tzinfo = UTC) -> str:
    """Return the message in English, with its instants in the reader's zone."""
    return ENGLISH[message.id].format(
        **{name: _said(value, zone) for name, value in message.arguments.items()}
    )


def _about_money(standing: AnnouncedStanding, now: datetime) -> Announcement | None:
    """Return what is said of money that ends or that there never was; with dates only where it ends before long."""
    trouble, money = standing.trouble, standing.money
    if trouble is None or money is None:
        return None
    follows = trouble.outlook.follows
    if trouble.ends:
        until = trouble.outlook.lasts_until
        text = f"body.{_FUNDS_LOW}" if until > now else "body.FUNDS_USED_UP"
        said = Message(id=text, arguments={"money": money, "until": until})
        body = (said, Message(id="body.add_money"), *_consequences(follows))
        code, severity, deadline = _FUNDS_LOW, Severity.WARNING, follows.stopped_at
    else:
        dated = not money.minor
        missing = Message(id=f"body.{_CARD_MISSING}")
        body = (missing, Message(id="body.add_card"), *(_consequences(follows) if dated else ()))
        code, severity, deadline = _CARD_MISSING, Severity.INFO, follows.stopped_at if dated else None
    return _announcement(code, severity, body, trouble.since, effects=frozenset(), deadline=deadline)


def _consequences(follows: Consequences) -> tuple[Message, ...]:
    said = []
    if follows.stopped_at is not None:
        said.append(Message(id="body.stopped", arguments={"stopped": follows.stopped_at}))
    if follows.reviewed_at is not None:
        said.append(Message(id="body.reviewed", arguments={"reviewed": follows.reviewed_at}))
    return tuple(said)


def _announcement(
    code: str,
    severity: Severity,
    body: tuple[Message, ...],
    since: datetime,
    *,
    effects: frozenset[Effect],
    deadline: datetime | None,
) -> Announcement:
    return Announcement(
        id=f"{code}:{since.astimezone(UTC).isoformat()}",
        severity=severity,
        code=code,
        title=Message(id=f"title.{code}"),
        body=body,
        deadline=deadline,
        since=since,
        still_works=tuple(_still_works(effects)),
    )


def _deadline(following: NextStage | None, deadline: datetime | None) -> list[Message]:
    if following is None or deadline is None:
        return []
    return [Message(id=f"body.deadline.{following.stage}", arguments={"deadline": deadline})]


def _still_works(effects: frozenset[Effect]) -> list[Message]:
    """Return what the gates leave open under these effects, in the order of its worth."""
    ids = ["works.pay", "works.read"]
    if Effect.STOP_SERVERS not in effects:
        ids.append("works.servers")
    ids.append("works.backups" if not effects else "works.kept")
    if Effect.LOCK_ACCOUNT not in effects:
        ids.append("works.account")
    return [Message(id=one) for one in ids]


def _said(value: str | int | Money | datetime, zone: tzinfo) -> str:
    if isinstance(value, datetime):
        return value.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
    return str(value)
