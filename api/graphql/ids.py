"""Opaque global ids and cursors.

Owns their text. A text that is not one of ours names nothing: it is answered like an object that does not exist.
"""

import base64
import binascii

import strawberry

#: No key has more parts than this.
MOST_PARTS = 8
_FOR_ADDRESSES = bytes.maketrans(b"+/", b"-_")


def global_id(noun: str, key: int | str) -> strawberry.ID:
    """Return the opaque id of the object of this type and key."""
    return strawberry.ID(_encode(f"{noun}:{key}"))


def read_id(text: str) -> tuple[str, str] | None:
    """Return the type and key of a global id; null for any other text."""
    noun, colon, key = (_decode(text) or "").partition(":")
    return (noun, key) if colon and noun and key else None


def key_of(noun: str, text: str | None) -> int | None:
    """Return the integer key of a global id of this type; null for anything else."""
    named = read_id(text) if text is not None else None
    return _number(named[1]) if named is not None and named[0] == noun else None


def cursor(listing: str, *key: int) -> str:
    """Return the cursor of one row of one list; a key may have several parts, the weightiest first."""
    return _encode(f"{listing}>{'.'.join(map(str, key))}")


def read_cursor(listing: str, text: str) -> tuple[int, ...] | None:
    """Return the parts of a cursor of this list; null for a cursor of another list and for any other text."""
    named, _, key = (_decode(text) or "").rpartition(">")
    parts = [_number(part) for part in key.split(".", MOST_PARTS)] if named == listing else [None]
    known = tuple(part for part in parts if part is not None)
    return known if len(known) == len(parts) else None


def _number(text: str) -> int | None:
    """Read a key as it was written: no sign, no leading zeros, and no larger than a column can hold."""
    if not text.isascii() or not text.isdecimal() or str(int(text[:20])) != text:
        return None
    return int(text) if int(text) < 2**63 else None


def _encode(text: str) -> str:
    return binascii.b2a_base64(text.encode(), newline=False).translate(_FOR_ADDRESSES).decode().rstrip("=")


def _decode(text: str) -> str | None:
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        decoded = raw.decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return decoded if _encode(decoded) == text else None
