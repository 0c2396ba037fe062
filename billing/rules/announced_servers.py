"""What a banner says of an account's servers: how many are stopped, were off already, or stay restricted.

Pure. Owns those counts and their sentences, so that no banner claims a stop of what nobody stopped, or promises back
what a payment does not give back. Who counts, and which servers, is its callers' part.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from billing.rules.terms import Effect
from billing.rules.words import Phrase, counted

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

    def felt(self, effects: frozenset[Effect]) -> frozenset[Effect]:
        """Return what of a stage's effects reached anything: where nothing is stopped, nobody is told of a stop."""
        unfelt = {
            Effect.STOP_SERVERS: not (self.stopped or self.off),
            Effect.LOCK_BACKUPS: not self.locked,
        }
        return frozenset(effect for effect in effects if not unfelt.get(effect, False))

    def reachable(self, effects: frozenset[Effect]) -> frozenset[Effect]:
        """Return what of the effects of a stage to come can reach anything."""
        return effects if self.reached else effects - OF_SERVERS


NO_SERVERS = AnnouncedServers()


def stops_told(servers: AnnouncedServers) -> Iterator[Phrase]:
    """Yield what is stopped, and apart from it what was off already."""
    if servers.stopped and servers.stopped == servers.there:
        yield counted("Your server is stopped.", "Your servers are stopped.", servers.stopped)
    elif servers.stopped:
        yield counted(
            "One of your servers is stopped.", "%(number)s of your servers are stopped.", servers.stopped
        )
    if servers.off and servers.off == servers.there:
        yield counted(
            "Your server was off already; it stays off and cannot be started until this is settled.",
            "Your servers were off already; they stay off and cannot be started until this is settled.",
            servers.off,
        )
    elif servers.off:
        yield counted(
            "One of your servers was off already; it stays off and cannot be started until this is settled.",
            "%(number)s of your servers were off already; they stay off and cannot be started until this is settled.",
            servers.off,
        )


def exceptions_told(servers: AnnouncedServers) -> Iterator[Phrase]:
    """Yield what stays restricted although everything else comes back by itself."""
    if servers.kept:
        yield counted(
            "One of your servers stays restricted for another reason, which our support can tell you.",
            "%(number)s of your servers stay restricted for another reason, which our support can tell you.",
            servers.kept,
        )
    if servers.uncovered:
        yield counted(
            "One of your servers stays restricted until it has a subscription again.",
            "%(number)s of your servers stay restricted until they have a subscription again.",
            servers.uncovered,
        )
