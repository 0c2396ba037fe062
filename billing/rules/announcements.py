"""What the portal shows on every page because of where an account stands.

Owns what is said, when, how loudly, what the customer can do, and what goes on working meanwhile: as phrases, which
`billing.words` says in every language. Follows the standing alone, never what an account is eligible for; holds no text
of a customer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from billing.rules.announced_servers import (
    NO_SERVERS,
    AnnouncedServers,
    ended_told,
    exceptions_told,
    last_notice_told,
    locks_told,
    renewal_told,
    stop_dated,
    stops_told,
)
from billing.rules.climb import NextStage
from billing.rules.funds import MoneyTrouble
from billing.rules.money import Money
from billing.rules.runway import Consequences
from billing.rules.terms import AnnouncementAction, Effect, Severity, Stage
from billing.rules.words import Phrase, counted, phrase


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """One announcement, ready to be put into words."""

    #: The same while nothing about it changes, so that a portal can remember that it was seen.
    id: str
    severity: Severity
    #: Stable: `PAYMENT_OVERDUE`, `FINAL_NOTICE`, `SUSPENDED`, `RETAINED`, `DECOMMISSION_REVIEW`, `SUBSCRIPTION_ENDED`,
    #: `FUNDS_LOW`, `CARD_MISSING`.
    code: str
    title: Phrase
    #: Whole sentences, one after the other.
    body: tuple[Phrase, ...]
    #: What the customer can do about it, and what a button says that leads there.
    action: AnnouncementAction
    action_label: Phrase
    #: When the next stage comes if nothing is paid; null when that is not known.
    deadline: datetime | None
    since: datetime
    still_works: tuple[Phrase, ...]


@dataclass(frozen=True, kw_only=True)
class AnnouncedStanding:
    """What an announcement rests on. `stage` and `effects` are the standing's."""

    stage: Stage
    since: datetime
    effects: frozenset[Effect] = frozenset()
    debt: Money | None = None
    next: NextStage | None = None
    #: What the next stage does.
    next_effects: frozenset[Effect] = frozenset()
    #: What is so of its servers; not asked about where there is only something to say of money.
    servers: AnnouncedServers = NO_SERVERS
    #: How many servers stand on the ladder alone because their subscription ended, the highest of their stages, since
    #: when, and what that stage does to them.
    uncovered: int = 0
    uncovered_stage: Stage = Stage.CURRENT
    uncovered_since: datetime | None = None
    uncovered_effects: frozenset[Effect] = frozenset()
    #: Servers that are not paid for in the long run, and what the account has in its purses.
    trouble: MoneyTrouble | None = None
    #: Whether staff lets backups of all servers be made and exported though the stage locks them.
    backups_open: bool = False
    money: Money | None = None


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What is the same whenever this is announced."""

    code: str
    severity: Severity
    title: Phrase
    action: AnnouncementAction = AnnouncementAction.PAY


_OF_STAGE = {
    Stage.PAST_DUE: _Kind(
        code="PAYMENT_OVERDUE", severity=Severity.WARNING, title=phrase("A payment is overdue")
    ),
    Stage.FINAL_NOTICE: _Kind(
        code="FINAL_NOTICE", severity=Severity.WARNING, title=phrase("Final notice: please pay now")
    ),
    Stage.SUSPENDED: _Kind(
        code="SUSPENDED", severity=Severity.CRITICAL, title=phrase("Your account is suspended")
    ),
    Stage.RETAINED: _Kind(
        code="RETAINED",
        severity=Severity.CRITICAL,
        title=phrase("Your account is suspended; your data is kept"),
    ),
    Stage.DECOMMISSION_REVIEW: _Kind(
        code="DECOMMISSION_REVIEW",
        severity=Severity.CRITICAL,
        title=phrase("Final warning"),
    ),
}
_COMES_BACK = {
    Stage.SUSPENDED: phrase("Nothing is deleted, and everything comes back by itself when you pay."),
    Stage.RETAINED: phrase("We keep your data, and everything comes back by itself when you pay."),
}
_ALL_ELSE_COMES_BACK = {
    Stage.SUSPENDED: phrase("Nothing is deleted, and everything else comes back by itself when you pay."),
    Stage.RETAINED: phrase("We keep your data, and everything else comes back by itself when you pay."),
}
_ENDED = _Kind(
    code="SUBSCRIPTION_ENDED",
    severity=Severity.WARNING,
    title=phrase("A subscription has ended"),
    action=AnnouncementAction.RENEW,
)
_FUNDS_LOW = _Kind(
    code="FUNDS_LOW",
    severity=Severity.WARNING,
    title=phrase("Your money runs out soon"),
    action=AnnouncementAction.ADD_MONEY,
)
_USED_UP = replace(_FUNDS_LOW, title=phrase("Your money is used up"))
_CARD_MISSING = _Kind(
    code="CARD_MISSING",
    severity=Severity.INFO,
    title=phrase("Please add a card"),
    action=AnnouncementAction.ADD_CARD,
)
_ACTIONS = {
    AnnouncementAction.PAY: phrase("Pay now"),
    AnnouncementAction.RENEW: phrase("Renew the subscription"),
    AnnouncementAction.ADD_MONEY: phrase("Add money or a card"),
    AnnouncementAction.ADD_CARD: phrase("Add a card"),
}
_CLOSED = phrase("Changes to the account are closed; paying is always possible.")
_MAKING_OPEN = phrase(
    "Your backups are kept; you can make and export some, but neither restore nor delete any."
)
_WORKS_PAYING = phrase("Paying, cards, vouchers and topping up")
_WORKS_READING = phrase("Reading and downloading your files")
_WORKS_SERVERS = phrase("Your running servers keep running")
_WORKS_OTHERS = phrase("Your other servers keep running")
_WORKS_BACKUPS = phrase("Creating, restoring and exporting backups")
_WORKS_MAKING = phrase("Creating and exporting backups")
_WORKS_KEPT = phrase("Your backups are kept")
_WORKS_ACCOUNT = phrase("Changing your account and your servers' files")


def announcement(standing: AnnouncedStanding, now: datetime) -> Announcement | None:
    """Return what to show for a standing; null when there is nothing to say.

    The account's own stage goes first, then servers whose subscription ended, then servers that are not paid for in the
    long run.
    """
    if standing.stage is not Stage.CURRENT:
        return _about_stage(standing, now)
    if standing.uncovered and standing.uncovered_stage is not Stage.CURRENT:
        return _about_uncovered(standing)
    return _about_money(standing, now)


def still_works(
    effects: frozenset[Effect], *, servers: bool = True, others: bool = False, backups_open: bool = False
) -> tuple[Phrase, ...]:
    """Return what the gates leave open under these effects, in the order of its worth.

    `servers`: whether there is any that a stop would reach; `others`: whether there is one that it does not reach;
    `backups_open`: whether staff lets backups of all of them be made and exported.
    """
    works = [_WORKS_PAYING, _WORKS_READING]
    if servers and Effect.STOP_SERVERS not in effects:
        works.append(_WORKS_SERVERS)
    elif others:
        works.append(_WORKS_OTHERS)
    works.append(_WORKS_KEPT if effects else _WORKS_BACKUPS)
    if effects and backups_open:
        works.append(_WORKS_MAKING)
    if Effect.LOCK_ACCOUNT not in effects:
        works.append(_WORKS_ACCOUNT)
    return tuple(works)


def _about_stage(standing: AnnouncedStanding, now: datetime) -> Announcement:
    kind, servers, following = _OF_STAGE[standing.stage], standing.servers, standing.next
    if standing.stage is Stage.DECOMMISSION_REVIEW and servers.there:
        about = counted("Final warning about your server", "Final warning about your servers", servers.there)
        kind = replace(kind, title=about)
    effects = servers.felt(standing.effects)
    # A stage that is due already is held back by the guard, and nobody hears of that.
    certain = following if following and following.waiting_for is None and following.at > now else None
    added = servers.reachable(standing.next_effects - standing.effects)
    body = (
        *([phrase("%(amount)s is overdue.", amount=standing.debt)] if standing.debt else []),
        *_taken(standing, effects),
        *_outlook(standing),
        *(_deadline(certain, added, servers) if certain else ()),
    )
    works = still_works(
        effects,
        servers=servers.untouched > 0,
        others=servers.untouched > 0,
        backups_open=standing.backups_open,
    )
    found = _announcement(kind, body, standing.since, works=works)
    return replace(found, deadline=certain.at) if certain else found


def _taken(standing: AnnouncedStanding, effects: frozenset[Effect]) -> Iterator[Phrase]:
    """Yield what is restricted, of all that the stage restricts where there is something to restrict.

    What single servers have for themselves is part of it: nothing goes on as before while one of them is stopped.
    """
    servers = standing.servers
    if Effect.LOCK_BACKUPS in effects:
        yield _MAKING_OPEN if standing.backups_open else locks_told(servers)
    if Effect.STOP_SERVERS in effects:
        yield from stops_told(servers)
    if Effect.LOCK_ACCOUNT in effects:
        yield _CLOSED
    elif not effects and not servers.kept and standing.stage.rank <= Stage.FINAL_NOTICE.rank:
        as_before = counted(
            "Your server and its backups go on as before. Only new servers and changes of size wait until the"
            " payment has arrived.",
            "Your servers and backups go on as before. Only new servers and changes of size wait until the"
            " payment has arrived.",
            servers.there,
        )
        alone = phrase("Only new servers wait until the payment has arrived.")
        yield as_before if servers.there else alone
    elif not standing.effects:
        yield phrase("New servers and changes of size wait until the payment has arrived.")


def _outlook(standing: AnnouncedStanding) -> Iterator[Phrase]:
    """Yield what a payment changes at this stage; where something comes back, first what does not."""
    servers, stage = standing.servers, standing.stage
    exceptions = tuple(exceptions_told(servers))
    if stage is Stage.FINAL_NOTICE:
        yield last_notice_told(servers)
        yield from exceptions
    elif stage is Stage.DECOMMISSION_REVIEW:
        looked_at = counted(
            "Our staff now looks at whether your server can be kept. Your payment ends that at once;"
            " if you cannot pay, write to us.",
            "Our staff now looks at whether your servers can be kept. Your payment ends that at once;"
            " if you cannot pay, write to us.",
            servers.there,
        )
        alone = phrase(
            "Our staff now looks into it. Your payment ends that at once; if you cannot pay, write to us."
        )
        yield looked_at if servers.there else alone
    elif stage in _COMES_BACK:
        yield from exceptions
        yield (_ALL_ELSE_COMES_BACK if exceptions else _COMES_BACK)[stage]
    else:
        yield phrase("Please pay it, and this is settled.")
        yield from exceptions


def _deadline(following: NextStage, added: frozenset[Effect], servers: AnnouncedServers) -> Iterator[Phrase]:
    """Yield what follows and when, and what it does beside what was done already; nothing if that is no more."""
    at = following.at
    if Effect.STOP_SERVERS in added:
        yield stop_dated(servers, at)
    elif following.stage is Stage.FINAL_NOTICE:
        yield phrase(
            "If nothing is paid, the final notice follows on %(deadline)s at the earliest.", deadline=at
        )
    elif following.stage is Stage.DECOMMISSION_REVIEW:
        yield phrase(
            "If nothing is paid, the final warning follows on %(deadline)s at the earliest.", deadline=at
        )
    elif added:
        yield phrase(
            "If nothing is paid, the next step follows on %(deadline)s at the earliest.", deadline=at
        )
    if Effect.LOCK_BACKUPS in added:
        yield phrase("Then your backups are locked, too; they are kept.")
    if Effect.LOCK_ACCOUNT in added:
        yield phrase("Then changes to the account are closed, too; paying is not.")


def _about_uncovered(standing: AnnouncedStanding) -> Announcement:
    servers, number = standing.servers, standing.uncovered
    effects = servers.felt(standing.uncovered_effects - {Effect.LOCK_ACCOUNT})
    exceptions = tuple(exceptions_told(replace(servers, uncovered=0)))
    body = (
        *ended_told(servers, number, effects),
        *exceptions,
        renewal_told(number, effects, only=not exceptions),
    )
    works = still_works(effects, servers=servers.untouched > 0, others=servers.untouched > 0)
    kind = replace(_ENDED, title=counted("A subscription has ended", "Subscriptions have ended", number))
    found = _announcement(kind, body, standing.uncovered_since or standing.since, works=works)
    return replace(found, severity=Severity.CRITICAL) if Effect.STOP_SERVERS in effects else found


def _about_money(standing: AnnouncedStanding, now: datetime) -> Announcement | None:
    """Return what is said of money that ends or that there never was; with dates only where it ends before long."""
    trouble, money = standing.trouble, standing.money
    if trouble is None or money is None:
        return None
    follows, until = trouble.outlook.follows, trouble.outlook.lasts_until
    if not trouble.ends:
        dated = not money.minor
        missing = phrase("You have servers, but neither a card nor voucher balance to pay for them.")
        add_card = phrase("Add a card or redeem a voucher to keep them running.")
        body = (missing, add_card, *(_consequences(follows) if dated else ()))
        found = _announcement(_CARD_MISSING, body, trouble.since, works=still_works(frozenset()))
        return replace(found, deadline=follows.stopped_at if dated else None)
    if until > now:
        said = phrase(
            "Your balance and vouchers, %(money)s, pay for your servers until %(until)s.",
            money=money,
            until=until,
        )
    else:
        said = phrase("Your balance and vouchers have paid for your servers until %(until)s.", until=until)
    add_money = phrase("Add a card, redeem a voucher or top up your balance to keep them running.")
    kind = _FUNDS_LOW if until > now else _USED_UP
    body = (said, add_money, *_consequences(follows))
    found = _announcement(kind, body, trouble.since, works=still_works(frozenset()))
    return replace(found, deadline=follows.stopped_at)


def _consequences(follows: Consequences) -> tuple[Phrase, ...]:
    said = []
    if follows.stopped_at is not None:
        said.append(
            phrase(
                "Without that they are stopped on %(stopped)s at the earliest.", stopped=follows.stopped_at
            )
        )
    if follows.reviewed_at is not None:
        said.append(
            phrase(
                "After %(reviewed)s our staff may decide to remove them; before that nothing is deleted.",
                reviewed=follows.reviewed_at,
            )
        )
    return tuple(said)


def _announcement(
    kind: _Kind, body: tuple[Phrase, ...], since: datetime, *, works: tuple[Phrase, ...]
) -> Announcement:
    return Announcement(
        id=f"{kind.code}:{since.astimezone(UTC).isoformat()}",
        severity=kind.severity,
        code=kind.code,
        title=kind.title,
        body=body,
        action=kind.action,
        action_label=_ACTIONS[kind.action],
        deadline=None,
        since=since,
        still_works=works,
    )
