"""What the leading process does beside reconciling: seals audit rows, tells control plane and staff, shows life.

Owns when that is done, and how it follows from the settings; what is done is the modules' it calls.
"""

import asyncio
import random

import structlog

from api.background import Worker
from api.settings import Settings
from billing import audit_seal, work_digest
from billing.clock import Clock
from reconciler import modes
from reconciler.http_calls import CallFailedError, HttpCaller, host_of
from reconciler.outgoing_delivery import Outgoing, Receiver

log = structlog.get_logger(__name__)

#: How often committed audit rows are chained.
SEAL_SECONDS = 1.0
#: Signs of life come at most so often, however fast passes follow each other.
HEARTBEAT_SECONDS = 1.0


class Trail:
    """The turns beside the reconciler; they run only where it does, so that there is one sealer and one sender."""

    def __init__(
        self, settings: Settings, *, clock: Clock, rng: random.Random, caller: HttpCaller | None = None
    ) -> None:
        self._mode = settings.mode
        self._clock = clock
        self._tells_staff = settings.staff_notify is not None
        self._rng = rng
        self._caller = caller or HttpCaller()
        self._heartbeats = settings.heartbeats
        self._silent: set[str] = set()
        self._outgoing = Outgoing(
            clock=clock,
            caller=self._caller,
            rng=rng,
            receivers=[Receiver(url=url) for url in settings.receivers],
            secret=settings.outgoing_secret.get_secret_value() if settings.outgoing_secret else "",
        )
        self.sealer = Worker(name="sealer", turn=self.seal)
        self.sender = Worker(name="webhooks", turn=self.send)
        self.heartbeat = Worker(name="heartbeat", turn=self.beat)
        self.digest = Worker(name="digest", turn=self.tell_staff)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Everything that runs beside the reconciler."""
        return (self.sealer, self.sender, self.heartbeat, self.digest)

    def wake(self) -> None:
        """Let everything be done that time alone may have made due."""
        for worker in (self.sealer, self.sender, self.digest):
            worker.wake()

    def passed(self) -> None:
        """After each good pass: tell what it changed, and that it was made."""
        self.sender.wake()
        self.heartbeat.wake()

    async def seal(self) -> float | None:
        """Chain what was committed; at once again while there is more than one turn takes."""
        return 0.0 if await audit_seal.seal(self._rng) == audit_seal.BATCH else SEAL_SECONDS

    async def send(self) -> float | None:
        """Tell the control plane what is due."""
        return await self._outgoing.send_due(await modes.in_force(self._mode))

    async def tell_staff(self) -> float | None:
        """Queue one message to staff about everything new in the work queue, where staff can be reached at all."""
        due = await work_digest.queue_digest(self._clock.now()) if self._tells_staff else None
        return max((due - self._clock.now()).total_seconds(), 0.1) if due is not None else None

    async def beat(self) -> float | None:
        """Ping the address that watches us; one that does not answer changes nothing here."""
        for url in self._heartbeats:
            try:
                await self._caller.get(url)
            except CallFailedError as problem:
                if url not in self._silent:
                    log.warning("heartbeat.not_taken", receiver=host_of(url), problem=str(problem))
                self._silent.add(url)
            else:
                self._silent.discard(url)
        if self._heartbeats:
            await asyncio.sleep(HEARTBEAT_SECONDS)
        return None

    async def aclose(self) -> None:
        """Close what was opened."""
        await self._caller.aclose()
