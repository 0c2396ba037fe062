"""Webhook delivery: signed, at least once, in no promised order, and as badly as a test wishes.

Owns the endpoints, the queue of deliveries and the knobs that disturb it. It reads events and never
changes an object.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random

from simulators.stripe.clock import Clock
from simulators.stripe.store import Obj, Store

Sender = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""Posts a body to a URL and returns the HTTP status; raises OSError when nobody answered."""

BACKOFF = (60, 300, 1800, 7200, 18000, 36000, *([43200] * 5))
"""Seconds between attempts; about three days in all (docs.stripe.com/webhooks, live mode)."""


@dataclass(kw_only=True)
class Endpoint:
    """Where events go. Several secrets are in force at once while one is being rotated."""

    id: str
    url: str
    secrets: tuple[str, ...]
    enabled_events: tuple[str, ...] = ("*",)


@dataclass(kw_only=True)
class Delivery:
    """One event on its way to one endpoint; `due` in simulated seconds."""

    event_id: str
    endpoint: Endpoint
    due: float
    attempts: int = 0


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What came of one attempt; status 0 when nobody answered."""

    event_id: str
    type: str
    url: str
    status: int


@dataclass(kw_only=True)
class Disturbance:
    """The knobs. All at rest: every event arrives once, at once, in order."""

    copies: int = 1
    """How often each event is delivered although the endpoint said 200."""

    delay: float = 0.0
    """Simulated seconds between an event and its first attempt."""

    reorder: bool = False
    """Whether deliveries that are due together go out in random order."""

    hold: bool = False
    """Whether nothing goes out until released."""

    lose_next: int = 0
    """How many of the next events never arrive, as after an outage longer than all retries."""

    fail_next: int = 0
    """How many of the next attempts nobody answers; they are retried on schedule."""


def signature(body: bytes, secrets: tuple[str, ...], at: int) -> str:
    """The `Stripe-Signature` header: one v1 per secret in force (docs.stripe.com/webhooks/signature)."""
    signed = f"{at}.".encode() + body
    marks = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={at}", *(f"v1={mark}" for mark in marks)])


class Deliveries:
    """The queue between the account's events and the world."""

    def __init__(
        self, store: Store, *, rng: Random, sender: Sender, signing_clock: Clock, lock: threading.RLock
    ) -> None:
        self.store = store
        self.rng = rng
        self.sender = sender
        self.signing_clock = signing_clock
        self.lock = lock
        self.endpoints: dict[str, Endpoint] = {}
        self.queue: list[Delivery] = []
        self.failed: set[str] = set()
        self.log: deque[Attempt] = deque(maxlen=10_000)
        self.knobs = Disturbance()
        self.wake: Callable[[], None] = lambda: None
        store.listeners.append(self._on_event)

    def add_endpoint(self, url: str, *secrets: str, enabled_events: tuple[str, ...] = ("*",)) -> Endpoint:
        """Deliver to this URL from now on; needs at least one secret (ValueError)."""
        if not secrets or not all(secrets):
            raise ValueError("a webhook endpoint needs a secret that is not empty")
        key = self.store.new_id("we")
        self.endpoints[key] = Endpoint(id=key, url=url, secrets=secrets, enabled_events=enabled_events)
        return self.endpoints[key]

    def set_knobs(self, **values: float) -> None:
        """Turn knobs by name; an unknown name is refused (ValueError)."""
        with self.lock:
            for name, value in values.items():
                if name not in Disturbance.__dataclass_fields__:
                    known = ", ".join(Disturbance.__dataclass_fields__)
                    raise ValueError(f"there is no knob {name!r}; there are {known}")
                setattr(self.knobs, name, value)
        self.wake()

    def release(self) -> None:
        """Let go what was held."""
        self.set_knobs(hold=False)

    def redeliver(self, event_id: str, times: int = 1) -> None:
        """Deliver one event again, now, to every endpoint that wants it."""
        with self.lock:
            self._enqueue(self.store.get("event", event_id), times, delay=0.0)
        self.wake()

    def redeliver_all(self) -> None:
        """Deliver every listable event again, oldest first."""
        with self.lock:
            for event in reversed(self.store.newest_first("event")):
                self._enqueue(event, 1, delay=0.0)
        self.wake()

    def next_due(self) -> float | None:
        """When the next delivery is due; None while all is held or nothing waits."""
        with self.lock:
            return None if self.knobs.hold else min((delivery.due for delivery in self.queue), default=None)

    async def pump(self) -> list[Attempt]:
        """Send everything that is due now, one after the other; what failed waits for its retry."""
        with self.lock:
            now = self.store.clock.timestamp()
            due = [] if self.knobs.hold else [d for d in self.queue if d.due <= now]
            self.queue = self.queue if self.knobs.hold else [d for d in self.queue if d.due > now]
            due.sort(key=lambda delivery: delivery.due)
            if self.knobs.reorder:
                self.rng.shuffle(due)
        return [await self._send(delivery) for delivery in due]

    def _on_event(self, event: Obj) -> None:
        with self.lock:
            if self.knobs.lose_next > 0:
                self.knobs.lose_next -= 1
                self.failed.add(event["id"])
                return
            self._enqueue(event, self.knobs.copies, delay=self.knobs.delay)
        self.wake()

    def _enqueue(self, event: Obj, times: int, *, delay: float) -> None:
        due = self.store.clock.timestamp() + delay
        for endpoint in self.endpoints.values():
            if "*" not in endpoint.enabled_events and event["type"] not in endpoint.enabled_events:
                continue
            event["pending_webhooks"] += 1
            for _ in range(times):
                self.queue.append(Delivery(event_id=event["id"], endpoint=endpoint, due=due))

    async def _send(self, delivery: Delivery) -> Attempt:
        with self.lock:
            event = self.store.get("event", delivery.event_id)
            body = json.dumps(event, indent=2).encode()
            at = int(self.signing_clock.now().timestamp())
            refuse = self.knobs.fail_next > 0
            self.knobs.fail_next -= refuse
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(body, delivery.endpoint.secrets, at),
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        try:
            status = 0 if refuse else await self.sender(delivery.endpoint.url, body, headers)
        except OSError:
            status = 0
        attempt = Attempt(
            event_id=delivery.event_id, type=event["type"], url=delivery.endpoint.url, status=status
        )
        with self.lock:
            self.log.append(attempt)
            self._book(delivery, event, arrived=200 <= status < 300)
        return attempt

    def _book(self, delivery: Delivery, event: Obj, *, arrived: bool) -> None:
        if arrived:
            event["pending_webhooks"] = max(0, event["pending_webhooks"] - 1)
        elif delivery.attempts < len(BACKOFF):
            delivery.due = self.store.clock.timestamp() + BACKOFF[delivery.attempts]
            delivery.attempts += 1
            self.queue.append(delivery)
        else:
            self.failed.add(event["id"])

    def succeeded(self, event: Obj) -> bool:
        """Whether every endpoint has taken the event (the `delivery_success` filter)."""
        return event["pending_webhooks"] == 0 and event["id"] not in self.failed
