"""Telling the control plane: each queued event to each receiver, signed, again and again for 24 hours.

The only writer of `outgoing_delivery`. An event that was taken may come again when the process died in between, and
none waits for another: receivers recognise an event by its `id`, and read the state.
"""

import asyncio
import hashlib
import hmac
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from tortoise.transactions import in_transaction

from billing import work_queue
from billing.clock import Clock
from reconciler.http_calls import Caller, CallFailedError, host_of
from reconciler.outgoing_models import DeliveryState, OutgoingDelivery, OutgoingEvent
from reconciler.rules.terms import Mode

log = structlog.get_logger(__name__)

SIGNATURE = "Abeyance-Signature"
#: How long an event is told again and again.
GIVE_UP_AFTER = timedelta(hours=24)
FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(hours=1)
#: How long events are kept after they came true.
KEPT = timedelta(days=7)
BATCH = 200
AT_ONCE = 8
#: After a failure nothing is told to that receiver for this long.
REST_SECONDS = 5.0
#: Looked at again at least so often while anything is pending.
LONGEST_SLEEP_SECONDS = 60.0
WORK_ITEM = "webhook_failed"
_ACTOR = "system:webhooks"


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """One address that is told. `key` stands for its URL wherever that must not be seen."""

    url: str

    @property
    def key(self) -> str:
        """The beginning of the hash of the URL."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]


def signature(secret: str, body: bytes, at: datetime) -> str:
    """Return the header's value: the second of signing, and the HMAC-SHA256 of that second, a dot and the body."""
    second = int(at.timestamp())
    digest = hmac.new(secret.encode(), b"%d." % second + body, hashlib.sha256).hexdigest()
    return f"t={second},v1={digest}"


def body_of(event: OutgoingEvent) -> bytes:
    """Return an event as receivers read it, the same bytes for every attempt."""
    told = {
        "id": event.event_id,
        "type": event.type,
        "at": event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "account": event.account,
        "server": event.server,
        "stage": event.stage,
        "effects": event.effects,
    }
    return json.dumps(told, separators=(",", ":")).encode()


@dataclass(kw_only=True)
class Outgoing:
    """Tells the receivers. Without any, events are only dropped when they are old."""

    clock: Clock
    caller: Caller
    rng: random.Random
    receivers: Sequence[Receiver]
    secret: str

    async def send_due(self, mode: Mode) -> float | None:
        """Tell what is due; return in how many seconds to look again, null for never.

        In `OFF` nobody is told anything, in `PLAN` only of what was given back.
        """
        if mode is Mode.OFF:
            return None
        await self._drop_old()
        if not self.receivers:
            return None
        more = await self._fan_out(mode)
        waits = await asyncio.gather(*(self._serve(receiver) for receiver in self.receivers))
        return 0.0 if more else min((wait for wait in waits if wait is not None), default=None)

    async def _fan_out(self, mode: Mode) -> bool:
        """Give new events their ids and a delivery to each receiver; return whether there may be more of them."""
        fresh = OutgoingEvent.filter(event_id=None, at__gt=self.clock.now() - GIVE_UP_AFTER)
        if mode is Mode.PLAN:
            fresh = fresh.filter(gives_back=True)
        events = await fresh.order_by("id").limit(BATCH)
        if not events:
            return False
        for event in events:
            # Random, because a database that was restored would give the same numbers to other events.
            event.event_id = f"evt_{self.rng.getrandbits(128):032x}"
        async with in_transaction():
            await OutgoingEvent.bulk_update(events, fields=["event_id"])
            await OutgoingDelivery.bulk_create(
                OutgoingDelivery(event_id=event.id, receiver=receiver.key, next_attempt_at=event.at)
                for event in events
                for receiver in self.receivers
            )
        return len(events) == BATCH

    async def _serve(self, receiver: Receiver) -> float | None:
        """Tell one receiver what is due; at the first failure the rest waits, since the others would fail as well."""
        now = self.clock.now()
        mine = OutgoingDelivery.filter(receiver=receiver.key, state=DeliveryState.PENDING)
        due = await (
            mine.filter(next_attempt_at__lte=now)
            .order_by("next_attempt_at", "id")
            .limit(BATCH)
            .select_related("event")
        )
        for start in range(0, len(due), AT_ONCE):
            part = due[start : start + AT_ONCE]
            if not all(await asyncio.gather(*(self._tell(receiver, delivery) for delivery in part))):
                return REST_SECONDS
        if len(due) == BATCH:
            return 0.0
        coming = await mine.order_by("next_attempt_at").first()
        if coming is None:
            return None
        wait = (coming.next_attempt_at - self.clock.now()).total_seconds()
        return min(max(wait, 0.0), LONGEST_SLEEP_SECONDS)

    async def _tell(self, receiver: Receiver, delivery: OutgoingDelivery) -> bool:
        """Make one attempt and write down how it went; return whether the event was taken."""
        body = body_of(delivery.event)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "abeyance",
            SIGNATURE: signature(self.secret, body, self.clock.now()),
        }
        try:
            await self.caller.post(receiver.url, body, headers)
        except CallFailedError as problem:
            await self._failed(receiver, delivery, str(problem))
            return False
        now = self.clock.now()
        await OutgoingDelivery.filter(id=delivery.id, state=DeliveryState.PENDING).update(
            state=DeliveryState.DELIVERED, attempts=delivery.attempts + 1, finished_at=now, error=None
        )
        await work_queue.resolve(
            f"{WORK_ITEM}:{receiver.key}", at=now, by=_ACTOR, resolution="the receiver takes events again"
        )
        return True

    async def _failed(self, receiver: Receiver, delivery: OutgoingDelivery, problem: str) -> None:
        now, attempts = self.clock.now(), delivery.attempts + 1
        again = now + self._wait(attempts)
        over = again >= delivery.event.at + GIVE_UP_AFTER
        log.warning(
            "webhook.not_taken",
            receiver=host_of(receiver.url),
            event_id=delivery.event.event_id,
            attempts=attempts,
            problem=problem,
            given_up=over,
        )
        changes = (
            {"state": DeliveryState.GIVEN_UP, "finished_at": now} if over else {"next_attempt_at": again}
        )
        async with in_transaction():
            await OutgoingDelivery.filter(id=delivery.id, state=DeliveryState.PENDING).update(
                attempts=attempts, error=problem, **changes
            )
            if over:
                await work_queue.open_item(
                    WORK_ITEM,
                    f"{WORK_ITEM}:{receiver.key}",
                    at=now,
                    title=f"{host_of(receiver.url)} takes no events",
                    detail=f"Events for the control plane were given up after 24 hours; the last answer: {problem}. "
                    "Mend the receiver, then retry: what was given up in the last week is sent again.",
                )

    def _wait(self, attempts: int) -> timedelta:
        """Return how long to wait after so many attempts: doubled each time, a fifth more or less."""
        longest: timedelta = min(FIRST_WAIT * 2 ** min(attempts - 1, 20), LONGEST_WAIT)
        return longest * self.rng.uniform(0.8, 1.2)

    async def _drop_old(self) -> None:
        """Forget events that are long past, and what was meant for receivers that are no longer named."""
        now = self.clock.now()
        named = [receiver.key for receiver in self.receivers]
        gone = OutgoingDelivery.filter(state=DeliveryState.PENDING)
        await (gone.exclude(receiver__in=named) if named else gone).update(
            state=DeliveryState.GIVEN_UP, finished_at=now, error="the receiver is no longer named"
        )
        old = now - KEPT
        if await OutgoingEvent.filter(at__lt=old).exists():
            async with in_transaction():
                await OutgoingDelivery.filter(event__at__lt=old).delete()
                await OutgoingEvent.filter(at__lt=old).delete()


async def send_again(receiver: str, *, now: datetime) -> int:
    """Let everything that was given up for one receiver be told once more; return how many events."""
    given_up = OutgoingDelivery.filter(receiver=receiver, state=DeliveryState.GIVEN_UP)
    return await given_up.update(state=DeliveryState.PENDING, finished_at=None, next_attempt_at=now)
