"""The events of one subscription: each authenticated, counted and timed like an operation of its own.

Owns when the next event may be answered and when a subscription ends. What is shown of an event is the resolvers'.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from api.auth import Principal, principal_of
from api.graphql.context import Context
from api.graphql.errors import UNAUTHENTICATED, coded
from api.graphql.feed import Feed
from api.graphql.marks import Key
from billing.rules.words import phrase

log = structlog.get_logger("abeyance.api")

#: A subscription without events outlives its token by no more than this.
RECHECK_SECONDS = 15.0
#: While nobody can tell whether a credential is live, nothing is shown; this long passes until it is tried anew.
AGAIN_SECONDS = 5.0


@dataclass(kw_only=True, eq=False)
class Stream:
    """What a subscription needs beside the context of its resolvers."""

    feed: Feed
    authorization: str | None
    #: Ends the answering of one event that takes too long; off while the next one is awaited.
    deadline: asyncio.Timeout
    #: Counts one operation of a principal; returns how long to wait when none is left, else null.
    wait_of: Callable[[Principal], timedelta | None]
    _begun: bool = False

    def begin(self, span: timedelta) -> None:
        """Give the answer that is worked on this long."""
        self.deadline.reschedule(asyncio.get_running_loop().time() + span.total_seconds())

    def rest(self) -> None:
        """Wait as long as it takes."""
        self.deadline.reschedule(None)

    async def events(self, context: Context, keys: Sequence[Key]) -> AsyncGenerator[Key, None]:
        """Yield every key at once, and then each that changed, until the credential is no longer live.

        Several changes of one key while it is being answered are one event.
        """
        async with self.feed.watching(keys) as watcher:
            due = list(keys)
            while True:
                for key in due:
                    await self._admit(context)
                    yield key
                self.rest()
                due = await watcher.changed(RECHECK_SECONDS)
                if not due:
                    await self._check(context)

    async def _admit(self, context: Context) -> None:
        self.rest()
        if self._begun:  # the first event was counted with the operation
            while (wait := context.spend(context.fields)) is not None:  # noqa: ASYNC110 - time alone gives it back
                await asyncio.sleep(wait.total_seconds())
        self._begun = True
        while (wait := self.wait_of(context.principal)) is not None:  # noqa: ASYNC110 - time alone gives it back
            await asyncio.sleep(wait.total_seconds())
        await self._check(context)
        context.renew(context.ports.clock.now())
        self.begin(context.ports.query_timeout)

    async def _check(self, context: Context) -> None:
        if await self._principal(context) != context.principal:
            raise coded(phrase("You are signed out; sign in again."), UNAUTHENTICATED)

    async def _principal(self, context: Context) -> Principal | None:
        """Return who the credential stands for; a database that is away for a while ends nobody's subscription."""
        told = False
        while True:
            try:
                now = context.ports.clock.now()
                return await principal_of(self.authorization, context.ports.authenticators, now)
            except Exception as fault:  # noqa: BLE001 - whatever it is, it is ours
                if not told:
                    log.warning("subscription.unchecked", problem=type(fault).__name__)
                told = True
                await asyncio.sleep(AGAIN_SECONDS)
