"""The simulated account's objects and events: identities, snapshots and what changed.

Owns the only copy of every object and writes an event for each change. It knows no rule of
billing and delivers nothing; whoever wants to hear of events appends to `listeners`.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from random import Random
from typing import Any

from simulators.stripe.clock import MovableClock
from simulators.stripe.errors import missing

API_VERSION = "2026-10-28.endive"
"""The version that every object and event is written in: the one of the SDK 16.1."""

EVENT_RETENTION = 30 * 86400
"""Seconds that events stay listable (docs.stripe.com/api/events)."""

Obj = dict[str, Any]
_LETTERS = string.ascii_letters + string.digits


def previous_attributes(before: Obj, after: Obj) -> Obj:
    """The former values of what differs, nested hashes reduced to their changed keys."""
    changed: Obj = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        nested = isinstance(old, dict) and isinstance(new, dict)
        changed[key] = previous_attributes(old, new) if nested else deepcopy(old)  # type: ignore[arg-type]
    return changed


class Store:
    """All objects by id and by kind, in the order of their creation."""

    def __init__(self, clock: MovableClock, rng: Random) -> None:
        self.clock = clock
        self.rng = rng
        self.kinds: dict[str, dict[str, Obj]] = {}
        self.request: Obj = {"id": None, "idempotency_key": None}
        self.listeners: list[Callable[[Obj], None]] = []

    def now(self) -> int:
        """The simulated second."""
        return int(self.clock.timestamp())

    def new_id(self, prefix: str, length: int = 24) -> str:
        """A fresh id such as `in_1A…`; the random source decides, so a seed repeats them."""
        return f"{prefix}_{''.join(self.rng.choices(_LETTERS, k=length))}"

    def add(self, obj: Obj, *events: str) -> Obj:
        """Keep a new object and write its events."""
        self.kinds.setdefault(obj["object"], {})[obj["id"]] = obj
        for event in events:
            self.emit(event, obj)
        return obj

    def remove(self, obj: Obj) -> None:
        """Forget an object."""
        del self.kinds[obj["object"]][obj["id"]]

    def get(self, kind: str, key: str, *, param: str = "id") -> Obj:
        """One object; raises Stripe's `resource_missing` naming the parameter that asked."""
        found = self.kinds.get(kind, {}).get(key)
        if found is None:
            raise missing(kind, key, param=param)
        return found

    def find(self, key: str) -> Obj | None:
        """An object of any kind by its id."""
        return next((kind[key] for kind in self.kinds.values() if key in kind), None)

    def oldest_first(self, kind: str) -> list[Obj]:
        """All objects of a kind in the order in which they were made."""
        return list(self.kinds.get(kind, {}).values())

    def newest_first(self, kind: str) -> list[Obj]:
        """All objects of a kind in the order in which Stripe lists them."""
        found = self.oldest_first(kind)[::-1]
        if kind == "event":
            oldest = self.now() - EVENT_RETENTION
            return [event for event in found if event["created"] > oldest]
        return sorted(found, key=lambda obj: -int(obj.get("created") or obj.get("date") or 0))

    @contextmanager
    def change(self, obj: Obj, *events: str) -> Iterator[Obj]:
        """Edit an object in place, then write the events; nothing is written if nothing changed."""
        before = deepcopy(obj)
        yield obj
        if before == obj:
            return
        for event in events:
            # Only *.updated events carry what was before (docs.stripe.com/api/events/object).
            previous = previous_attributes(before, obj) if event.endswith(".updated") else None
            self.emit(event, obj, previous)

    def emit(self, kind: str, obj: Obj, previous: Obj | None = None) -> Obj:
        """Write a snapshot event of the object as it is now."""
        data: Obj = {"object": deepcopy(obj)}
        if previous is not None:
            data["previous_attributes"] = previous
        event: Obj = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now(),
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": dict(self.request),
            "type": kind,
        }
        self.add(event)
        for listener in self.listeners:
            listener(event)
        return event
