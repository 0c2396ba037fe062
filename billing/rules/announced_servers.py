"""What a banner says of an account's servers: how many are stopped, were off already, or stay restricted.

Pure. Owns those counts and their sentences, so that no banner claims a stop of what nobody stopped, or promises back
what a payment does not give back. Who counts, and which servers, is its callers' part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from billing.rules.terms import Effect
from billing.rules.words import Phrase, counted, phrase

#: What there must be a server for.
OF_SERVERS = frozenset({Effect.STOP_SERVERS, Effect.LOCK_BACKUPS})


@dataclass(frozen=True, kw_only=True)
class AnnouncedServers:
    """How many servers an account has, and what is so of those that a banner speaks of."""

    #: All that there are.
    there: int = 0
    #: Those of them that nobody but their owner keeps from running.
    untouched: int = 0
    #: Those that the stage reaches: neither free, exempt nor missing. What follows is of them alone.
    reached: int = 0
    #: They ran, and are stopped for money.
    stopped: int = 0
    #: They were off already, and cannot be started for money.
    off: int = 0
    #: Their backups are locked for money.
    locked: int = 0
    #: Somebody else keeps them restricted, whatever is paid; they count neither as stopped nor as off.
    kept: int = 0
    #: They stay restricted because their own subscription has ended.
    uncovered: int = 0

    @property
    def to_stop(self) -> int:
        """How many of them a stop to come reaches: neither stopped nor held already."""
        return self.reached - self.stopped - self.off - self.kept

    def felt(self, effects: frozenset[Effect]) -> frozenset[Effect]:
        """Return what of these effects there is: on servers, whatever is so of one of them, also for itself alone."""
        felt = {Effect.STOP_SERVERS: self.stopped or self.off, Effect.LOCK_BACKUPS: self.locked}
        return (effects - OF_SERVERS) | {effect for effect, number in felt.items() if number}

    def reachable(self, effects: frozenset[Effect]) -> frozenset[Effect]:
        """Return what of the effects of a stage to come can reach anything more."""
        reaches = {Effect.STOP_SERVERS: self.to_stop, Effect.LOCK_BACKUPS: self.reached - self.locked}
        return (effects - OF_SERVERS) | {one for one, number in reaches.items() if one in effects and number}

    def told(self, number: int, of_all: Phrase, of_some: Phrase) -> Iterator[Phrase]:
        """Yield what is so of `number` servers, in the words for all that there are or for some; of none nothing."""
        if number:
            yield of_all if number == self.there else of_some


NO_SERVERS = AnnouncedServers()


def locks_told(servers: AnnouncedServers) -> Phrase:
    """Return of how many servers the backups are locked."""
    if servers.locked == servers.there:
        return phrase("Your backups are kept and locked.")
    return counted(
        "The backups of one of your servers are kept and locked.",
        "The backups of %(number)s of your servers are kept and locked.",
        servers.locked,
    )


def stops_told(servers: AnnouncedServers) -> Iterator[Phrase]:
    """Yield what is stopped, and apart from it what was off already."""
    yield from servers.told(
        servers.stopped,
        counted("Your server is stopped.", "Your servers are stopped.", servers.stopped),
        counted(
            "One of your servers is stopped.", "%(number)s of your servers are stopped.", servers.stopped
        ),
    )
    yield from servers.told(
        servers.off,
        counted(
            "Your server was off already; it stays off and cannot be started until this is settled.",
            "Your servers were off already; they stay off and cannot be started until this is settled.",
            servers.off,
        ),
        counted(
            "One of your servers was off already; it stays off and cannot be started until this is settled.",
            "%(number)s of your servers were off already; they stay off and cannot be started until this is settled.",
            servers.off,
        ),
    )


def last_notice_told(servers: AnnouncedServers) -> Phrase:
    """Return before what this is the last notice: nothing is stopped twice."""
    if not servers.to_stop:
        return phrase("This is our final notice.")
    if servers.stopped or servers.off:
        return counted(
            "This is the last notice before your other server is stopped.",
            "This is the last notice before your other servers are stopped.",
            servers.to_stop,
        )
    return counted(
        "This is the last notice before your server is stopped.",
        "This is the last notice before your servers are stopped.",
        servers.there,
    )


def stop_dated(servers: AnnouncedServers, at: datetime) -> Phrase:
    """Return from when on what is to be stopped may be."""
    if servers.stopped or servers.off:
        return counted(
            "If nothing is paid, your other server is stopped on %(deadline)s at the earliest.",
            "If nothing is paid, your other servers are stopped on %(deadline)s at the earliest.",
            servers.to_stop,
            deadline=at,
        )
    return counted(
        "If nothing is paid, your server is stopped on %(deadline)s at the earliest.",
        "If nothing is paid, your servers are stopped on %(deadline)s at the earliest.",
        servers.there,
        deadline=at,
    )


def exceptions_told(servers: AnnouncedServers) -> Iterator[Phrase]:
    """Yield what stays restricted although everything else comes back by itself."""
    yield from servers.told(
        servers.kept,
        counted(
            "Your server stays restricted for another reason, which our support can tell you.",
            "Your servers stay restricted for another reason, which our support can tell you.",
            servers.kept,
        ),
        counted(
            "One of your servers stays restricted for another reason, which our support can tell you.",
            "%(number)s of your servers stay restricted for another reason, which our support can tell you.",
            servers.kept,
        ),
    )
    yield from servers.told(
        servers.uncovered,
        counted(
            "Your server stays restricted until it has a subscription again.",
            "Your servers stay restricted until they have a subscription again.",
            servers.uncovered,
        ),
        counted(
            "One of your servers stays restricted until it has a subscription again.",
            "%(number)s of your servers stay restricted until they have a subscription again.",
            servers.uncovered,
        ),
    )


def renewal_told(number: int, effects: frozenset[Effect], *, only: bool) -> Phrase:
    """Return what ends it for so many servers; `only`: nothing but this keeps anything restricted."""
    if not effects:
        return counted(
            "Renew the subscription, or put the server on another one, and this is settled.",
            "Renew the subscriptions, or put each server on another one, and this is settled.",
            number,
        )
    if only:
        return counted(
            "Renew the subscription, or put the server on another one; then all of it comes back by itself.",
            "Renew the subscriptions, or put each server on another one; then all of it comes back by itself.",
            number,
        )
    return counted(
        "Renew the subscription, or put the server on another one; then everything else comes back by itself.",
        "Renew the subscriptions, or put each server on another one; then everything else comes back by itself.",
        number,
    )


def ended_told(servers: AnnouncedServers, number: int, effects: frozenset[Effect]) -> Iterator[Phrase]:
    """Yield that the subscription of so many servers has ended, and what that does to them."""
    if number != servers.there and servers.stopped == number:
        yield counted(
            "The subscription of one of your servers has ended, and it is stopped.",
            "The subscriptions of %(number)s of your servers have ended; servers without one are stopped.",
            number,
        )
        return
    if number != servers.there and servers.locked == number and Effect.STOP_SERVERS not in effects:
        yield counted(
            "The subscription of one of your servers has ended, and its backups are locked.",
            "The subscriptions of %(number)s of your servers have ended; backups of servers without one are locked.",
            number,
        )
        return
    if number == servers.there:
        yield counted(
            "The subscription of your server has ended.",
            "The subscriptions of your servers have ended.",
            number,
        )
    else:
        yield counted(
            "The subscription of one of your servers has ended.",
            "The subscriptions of %(number)s of your servers have ended.",
            number,
        )
    if servers.locked > servers.stopped + servers.off:
        yield locks_told(servers)
    yield from stops_told(servers)
