"""One keep-alive HTTP client for a Proxmox VE endpoint.

Owns connections, TLS verification, the token's header and what an error means. The token is kept out of every message.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from .proxmox_endpoints import call_line, retry_of
from .reports import GuestGoneError, PlatformError, Retry, StillRunningError

#: pveproxy answers within 30 s or with 596/599.
CALL_TIMEOUT_SECONDS = 35.0
#: pveproxy closes idle connections after 5 s and busy ones after 100 requests; a write must not meet that.
_IDLE_SECONDS = 2.0
_REQUESTS = 90
#: A proxy gave up waiting: what was asked for may be under way.
_PERHAPS_DONE = frozenset({502, 504, 596, 599})
_LARGEST_ANSWER = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the API is and who we are; certificates are always verified, against `ca_file` when there is one."""

    url: str
    token_id: str
    secret: str = field(repr=False)
    ca_file: str | None = None


class ProxmoxClient:
    """Makes the calls of `ENDPOINTS`, from several threads at once."""

    def __init__(
        self, endpoint: Endpoint, *, monotonic: Callable[[], float], timeout: float = CALL_TIMEOUT_SECONDS
    ) -> None:
        parts = urlsplit(endpoint.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PlatformError(f"site_endpoint: {endpoint.url!r} is not http(s)://host:port")
        self._host, self._port, self._tls = parts.hostname, parts.port or 8006, parts.scheme == "https"
        self._base = parts.path.rstrip("/") + "/api2/json"
        try:
            self._context = ssl.create_default_context(cafile=endpoint.ca_file) if self._tls else None
        except OSError as error:
            reason = (
                "holds no certificate"
                if isinstance(error, ssl.SSLError)
                else f"cannot be read: {error.strerror}"
            )
            raise PlatformError(
                f"site_ca_file: {endpoint.ca_file} {reason}; name a readable PEM file"
            ) from None
        self._headers = {"Authorization": f"PVEAPIToken={endpoint.token_id}={endpoint.secret}"}
        self._monotonic, self._timeout = monotonic, timeout
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()

    def call(self, name: str, where: Mapping[str, str] | None = None, /, **parameters: str) -> Any:
        """Make the listed call `name` and return the `data` of its answer.

        Raises `GuestGoneError` when the node has no such guest, `StillRunningError` when a change was sent and no
        answer came, `PlatformError` otherwise. Only reads are repeated, once, on a connection that had gone stale.
        """
        method, path = call_line(name, where or {}, parameters)
        query = urlencode(parameters)
        target = self._base + quote(path, safe="/:@!+")
        if method == "GET" and query:
            target = f"{target}?{query}"
        body = None if method == "GET" else query
        for attempt in (1, 2):
            connection = self._take(fresh=attempt > 1)
            try:
                status, reason, content = connection.send(method, target, body, self._headers)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if method == "GET" and connection.used and attempt == 1:
                    continue
                raise self._silence(method, error, sent=connection.sent) from None
            if status in _PERHAPS_DONE and method != "GET":
                connection.close()
                raise StillRunningError(f"{status} {reason.strip()}: it may have been done all the same")
            return self._data(connection, status, reason, content)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _take(self, *, fresh: bool) -> _Connection:
        now = self._monotonic()
        with self._lock:
            while self._idle and not fresh:
                connection = self._idle.pop()
                if now - connection.last <= _IDLE_SECONDS and connection.used < _REQUESTS:
                    return connection
                connection.close()
        if self._context is not None:
            return _Connection(
                http.client.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout, context=self._context
                )
            )
        return _Connection(http.client.HTTPConnection(self._host, self._port, timeout=self._timeout))

    def _data(self, connection: _Connection, status: int, reason: str, content: bytes) -> Any:
        if status != http.HTTPStatus.OK:
            connection.close()  # pveproxy closes after every error
            raise _error(status, _wording(reason, content))
        connection.used += 1
        connection.last = self._monotonic()
        with self._lock:
            self._idle.append(connection)
        try:
            return json.loads(content)["data"]
        except (ValueError, KeyError, TypeError):
            raise PlatformError("the answer is not one of Proxmox VE's", Retry.LATER) from None

    def _silence(self, method: str, error: Exception, *, sent: bool) -> PlatformError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return PlatformError(f"the certificate is not trusted: {error.verify_message}")
        message = f"no answer from {self._host}:{self._port}: {type(error).__name__}"
        return (
            StillRunningError(message, Retry.LATER)
            if sent and method != "GET"
            else PlatformError(message, Retry.LATER)
        )


class _Connection:
    """One connection with what the pool wants to know of it."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self.used = 0
        self.last = 0.0
        self.sent = False

    def send(
        self, method: str, target: str, body: str | None, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        self.sent = False
        if self._connection.sock is None:
            self._connection.connect()
        self.sent = True
        kind = {} if body is None else {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request(method, target, body=body, headers={**headers, **kind})
        answer = self._connection.getresponse()
        content = answer.read(_LARGEST_ANSWER)
        return answer.status, answer.reason, content

    def close(self) -> None:
        self._connection.close()


def _wording(reason: str, content: bytes) -> str:
    """Return what Proxmox VE says: the reason of the status line, and which parameters it did not like."""
    try:
        errors = json.loads(content).get("errors") or {}
    except (ValueError, AttributeError):
        errors = {}
    listed = "; ".join(f"{key}: {value}" for key, value in errors.items()) if isinstance(errors, dict) else ""
    return f"{reason.strip()} ({listed})" if listed else reason.strip()


def _error(status: int, reason: str) -> PlatformError:
    message = f"{status} {reason}"
    verdict = retry_of(status, reason)
    if verdict == "gone":
        return GuestGoneError(message)
    return PlatformError(message, Retry(verdict) if verdict else None)
