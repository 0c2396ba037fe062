"""The chain of the audit trail: what a row's hash covers, and how its erasable part is bound to it.

Owns the canonical form of a row; pure. A row is hashed together with the hash before it. What may have to be erased one
day enters the hash only as a salted digest, so that without salt and text the chain still holds and tells nothing.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC
from typing import Protocol

from billing.models import AuditEntry

#: What the first row is chained to.
ORIGIN = "0" * 64
_FORM = "abeyance-audit-1"
_CUSTOMER = "customer:"
ERASED_REASON = "(erased)"
ERASED_ACTOR = f"{_CUSTOMER}erased"


@dataclass(frozen=True, kw_only=True)
class Head:
    """How far the chain goes: the position of its last row, counted from 1, and that row's hash."""

    position: int
    hash: str

    def __str__(self) -> str:
        return f"{self.position} {self.hash}"


class Random(Protocol):
    """A source of randomness."""

    def getrandbits(self, k: int, /) -> int:
        """Return so many random bits."""
        ...


def new_salt(rng: Random) -> str:
    """Return 128 random bits in hexadecimal digits."""
    return f"{rng.getrandbits(128):032x}"


def erasable_digest(row: AuditEntry, salt: str) -> str:
    """Return the HMAC-SHA256 of what an erasure takes away: who (a customer), why, and the values before and after."""
    told = _canonical([row.actor, row.reason, row.before, row.after])
    return hmac.new(bytes.fromhex(salt), told, hashlib.sha256).hexdigest()


def link(row: AuditEntry, *, position: int, digest: str, previous: str) -> str:
    """Return the SHA-256 of a row at its position, after the row with the hash `previous`."""
    # Of a customer who acted only the role stays when it is erased; staff and machinery answer for what they did.
    actor = _CUSTOMER if row.actor.startswith(_CUSTOMER) else row.actor
    content = [
        _FORM,
        previous,
        position,
        row.id,
        row.at.astimezone(UTC).isoformat(timespec="microseconds"),
        actor,
        row.kind,
        row.account_id,
        row.subject_type,
        row.subject_id,
        row.facts_version,
        digest,
    ]
    return hashlib.sha256(_canonical(content)).hexdigest()


def fault(row: AuditEntry, *, after: Head) -> str | None:
    """Return what is wrong with a sealed row that should follow `after`; null when nothing is."""
    position = row.position or 0
    if position != after.position + 1:
        return f"position {after.position + 1} is missing: a row was removed, or the order was changed"
    digest = row.digest or ""
    if row.salt is not None and not hmac.compare_digest(erasable_digest(row, row.salt), digest):
        return f"row {row.id} at position {position} is not as it was sealed: its actor, reason or values were changed"
    if not hmac.compare_digest(
        link(row, position=position, digest=digest, previous=after.hash), row.hash or ""
    ):
        return (
            f"row {row.id} at position {position} is not as it was sealed, or not the one that followed there"
        )
    return None


def _canonical(parts: list[str | int | None]) -> bytes:
    return json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode()
