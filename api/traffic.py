"""What this process was asked at its API, and what became of it, in figures.

Owns the counting. Outcomes are our own codes, a handful; nothing that a client wrote becomes a name of a figure.
"""

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: What is answered without an error on top; refusals of the business are among it.
OK = "OK"
#: Seconds, up to the time after which an operation is given up.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)


class Traffic:
    """Counts operations by outcome, measures those that were executed, and tells how many connections last."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._operations = Counter(
            "abeyance_api_operations",
            "Operations and events answered, by outcome: OK, or the code of the first error on top.",
            ["outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "abeyance_api_seconds",
            "How long queries and mutations by POST took to execute.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._connections = Gauge(
            "abeyance_api_connections",
            "WebSockets and streams of events that are open.",
            registry=self.registry,
        )
        for outcome in (OK, "INTERNAL", "LIMIT_EXCEEDED", "RATE_LIMITED", "UNAUTHENTICATED"):
            self._operations.labels(outcome)  # there from the start, so that the first one is a change

    def note(self, told: Mapping[str, Any], seconds: float | None = None) -> None:
        """Count one answer as it goes on the wire, and how long it took."""
        errors = told.get("errors")
        self._operations.labels(errors[0]["extensions"]["code"] if errors else OK).inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def watch(self, connections: Callable[[], float]) -> None:
        """Have the lasting connections told by whoever counts them."""
        self._connections.set_function(connections)
