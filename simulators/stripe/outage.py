"""Disturbances of the API itself: refusals, errors, slowness and answers that get lost.

Owns which request is hit next. It never changes an object; a lost answer is lost after the work was
done, everything else fails before it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum


class Trouble(Enum):
    """What happens to a request."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    SLOW = "slow"
    LOST_ANSWER = "lost_answer"


@dataclass(kw_only=True)
class _Active:
    trouble: Trouble
    requests: int | None
    seconds: float
    path: str


class Outage:
    """At most one trouble at a time, for the next requests or until it is ended."""

    def __init__(self) -> None:
        self._active: _Active | None = None
        self._lock = threading.Lock()

    def begin(
        self, trouble: Trouble, *, requests: int | None = None, seconds: float = 90.0, path: str = "/v1/"
    ) -> None:
        """Hit the next `requests` requests (None: all) whose path starts with `path`.

        `seconds` is how long a timeout hangs or a slow answer takes, in real seconds.
        """
        with self._lock:
            self._active = _Active(trouble=trouble, requests=requests, seconds=seconds, path=path)

    def end(self) -> None:
        """All is well again."""
        with self._lock:
            self._active = None

    def next(self, path: str) -> tuple[Trouble, float] | None:
        """The trouble that hits this request, with its seconds; counts the request."""
        with self._lock:
            active = self._active
            if active is None or not path.startswith(active.path):
                return None
            if active.requests is not None:
                active.requests -= 1
                if active.requests <= 0:
                    self._active = None
            return active.trouble, active.seconds
