"""The public keys of the portal's identity provider: read, kept for a while, read again when a key is missing.

Owns the reading of one JWK set and which of its keys may verify a signature. Keys that can no longer be confirmed are
given up: without a key nobody is let in.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

import httpx
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key
from joserfc.jws import JWSRegistry

log = structlog.get_logger(__name__)

#: Keys older than this are read again, while those that are there go on serving.
FRESH = timedelta(minutes=5)
#: Keys that could not be confirmed for this long serve no more.
KEPT = timedelta(hours=1)
#: Between two readings at least this: tokens with invented key ids are no way to make us read all the time.
BETWEEN = timedelta(seconds=30)
#: One reading may take this long.
PATIENCE_SECONDS = 5.0
LARGEST_SET = 256 * 1024
MOST_KEYS = 100
#: Bits; RFC 7518, 3.3 requires them.
SMALLEST_RSA = 2048
#: A token that fits no key is told of for this long, unless one that fits comes after it: strangers may send any.
TOLD = timedelta(minutes=15)

Read = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, kw_only=True)
class VerifyingKey:
    """A public key, and the signatures that it may verify: only asymmetric ones, and only those made for such a key."""

    key: RSAKey | ECKey | OKPKey
    registry: JWSRegistry


class KeySet:
    """The keys by id. Every caller shares one reading at a time."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._keys: Mapping[str | None, VerifyingKey] = MappingProxyType({})
        self._confirmed: datetime | None = None
        self._tried: datetime | None = None
        self._reading: asyncio.Task[None] | None = None
        #: Since when the keys cannot be read, and why; null: the last reading was good.
        self._unread: tuple[datetime, str] | None = None
        #: When the newest token came, if it fitted no key.
        self._unfit: datetime | None = None

    async def find(self, kid: str | None, now: datetime) -> VerifyingKey | None:
        """Return the key of this id at `now`; null when there is none. Without an id: the only key of the set.

        An unknown id has the set read again, at most every `BETWEEN`; a known one never waits for that.
        """
        found = self._known(kid, now)
        if found is None or not _within(self._confirmed, FRESH, now):
            reading = self._begin(now)
            if found is None and reading is not None:
                await asyncio.shield(reading)
                found = self._known(kid, now)
        self._unfit = now if found is None and self._unread is None else None
        return found

    @property
    def unread(self) -> bool:
        """Whether the last reading failed: a key that is not known here may be one of the provider's all the same."""
        return self._unread is not None

    def trouble(self, now: datetime) -> str | None:
        """Return why customers cannot get in, or soon will not; null: nothing is known against it.

        Has old keys read again in the background, so that it is told before a customer comes. Names no address.
        """
        if not _within(self._confirmed, FRESH, now):
            self._begin(now)
        if self._unread is not None:
            since, why = self._unread
            known = self._confirmed if _within(self._confirmed, KEPT, now) else None
            left = f"those known serve until {known + KEPT:%H:%M} UTC" if known else "no customer gets in"
            return f"the keys cannot be read since {since:%Y-%m-%d %H:%M} UTC ({why}); {left}"
        if self._confirmed is not None and _within(self._unfit, TOLD, now):
            return "no key fits the newest token: it is not of this provider, or its set lacks a key"
        return None

    async def aclose(self) -> None:
        """End a reading that still goes on."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    def _known(self, kid: str | None, now: datetime) -> VerifyingKey | None:
        if not _within(self._confirmed, KEPT, now):
            return None
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _begin(self, now: datetime) -> asyncio.Task[None] | None:
        if self._reading is None and not _within(self._tried, BETWEEN, now):
            self._tried = now
            self._reading = asyncio.create_task(self._renew(now), name="jwks")
            self._reading.add_done_callback(self._ended)
        return self._reading

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._reading = None

    async def _renew(self, now: datetime) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                told = await self._read()
            keys = usable_keys(told)
        except (OSError, TimeoutError, ValueError, httpx.HTTPError, httpx.InvalidURL) as problem:
            log.warning("jwks.not_read", problem=str(problem) or type(problem).__name__)
            # Only our own words: the others' may hold an address or a path.
            why = str(problem) if type(problem) is ValueError else type(problem).__name__
            self._unread = (self._unread[0] if self._unread else now, why)
            return
        self._keys, self._confirmed, self._unread = keys, now, None


def from_url(url: str) -> Read:
    """Return what reads a JWK set from an `https` (or local `http`) URL or an absolute `file` URL."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        return lambda: asyncio.to_thread(_read_file, path)
    return lambda: _fetch(url)


def usable_keys(told: bytes) -> Mapping[str | None, VerifyingKey]:
    """Return the keys of a JWK set that may verify a signature; others are passed over (RFC 7517, 5).

    Raises `ValueError` for anything that is no JWK set, and for one without a usable key.
    """
    try:
        entries = json.loads(told)["keys"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ValueError('it is no JSON object with "keys"') from None
    if not isinstance(entries, list) or len(entries) > MOST_KEYS:
        raise ValueError(f'"keys" is no list of at most {MOST_KEYS}')
    keys: dict[str | None, VerifyingKey] = {}
    for entry in entries:
        key = _usable(entry)
        kid = entry.get("kid") if key else None
        if key is not None and (kid is None or isinstance(kid, str)):
            keys.setdefault(kid, key)
    if not keys:
        raise ValueError("none of its keys can verify a signature: RSA of 2048 bits, EC or Ed25519")
    return MappingProxyType(keys)


def _usable(entry: object) -> VerifyingKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    if "verify" not in entry.get("key_ops", ["verify"]) or entry.get("kty") not in {"RSA", "EC", "OKP"}:
        return None
    try:
        key = import_key({str(name): value for name, value in entry.items()})
        if isinstance(key, RSAKey):
            algorithms = _RSA if key.public_key.key_size >= SMALLEST_RSA else frozenset()
        elif isinstance(key, ECKey | OKPKey):
            algorithms = _BY_CURVE.get(key.curve_name, frozenset())
        else:
            return None
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if "alg" in entry:
        algorithms &= {entry["alg"]} if isinstance(entry["alg"], str) else frozenset()
    if not algorithms:
        return None
    # RFC 7515, 4.1.11: header parameters that nobody calls critical are ignored when they are not understood.
    registry = JWSRegistry(algorithms=sorted(algorithms), strict_check_header=False)
    return VerifyingKey(key=key, registry=registry)


_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE = {
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "P-521": frozenset({"ES512"}),
    "Ed25519": frozenset({"EdDSA", "Ed25519"}),
}


def _within(since: datetime | None, span: timedelta, now: datetime) -> bool:
    """Return whether an instant is less than `span` away; a clock that was set back makes nothing last."""
    return since is not None and abs(now - since) < span


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        told = file.read(LARGEST_SET + 1)
    return _bounded(told)


async def _fetch(url: str) -> bytes:
    told = bytearray()
    async with (
        httpx.AsyncClient(timeout=PATIENCE_SECONDS, follow_redirects=False) as client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"the identity provider answered {answer.status_code}")
        async for part in answer.aiter_bytes():
            told += part
            _bounded(told)
    return bytes(told)


def _bounded(told: bytes | bytearray) -> bytes:
    if len(told) > LARGEST_SET:
        raise ValueError(f"it is larger than {LARGEST_SET} bytes")
    return bytes(told)
