"""Verifying the whole audit trail, page by page, and comparing it with heads that were noted outside.

Reads only. A chain proves that nothing before its head was changed; that the head itself is genuine, only a copy kept
elsewhere can prove.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from billing.audit_chain import ORIGIN, Head, fault
from billing.models import AuditEntry

PAGE = 1000


class ChainBrokenError(Exception):
    """The trail is not what was sealed; the message names the first place where it shows."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was found to be whole. `unsealed` rows were committed only just now, or nobody seals."""

    head: Head
    erased: int
    unsealed: int


async def verify(noted: Sequence[Head] = (), *, page: int = PAGE) -> Verified:
    """Follow the chain from its first row to its present head; raise `ChainBrokenError` at the first fault.

    `noted` are heads that were printed earlier and kept elsewhere: the chain must have gone through each. Memory stays
    the same however long the trail is, and rows that are sealed meanwhile are left to the next time.
    """
    expected = _by_position(noted)
    last = await AuditEntry.filter(position__isnull=False).order_by("-position").first()
    until = last.position or 0 if last else 0
    if beyond := [position for position in expected if position > until]:
        raise ChainBrokenError(
            f"the trail ends at position {until}, and a head at position {max(beyond)} was noted: "
            "rows at its end were removed, or this is an older copy of the database"
        )
    head, erased = Head(position=0, hash=ORIGIN), 0
    async for row in _sealed(until, page):
        problem = fault(row, after=head)
        if problem is not None:
            raise ChainBrokenError(problem)
        head = Head(position=row.position or 0, hash=row.hash or "")
        if expected.get(head.position, head.hash) != head.hash:
            raise ChainBrokenError(
                f"the hash at position {head.position} is not the one that was noted: the trail was written anew"
            )
        erased += row.erased_at is not None
    if head.position != until:
        raise ChainBrokenError(f"position {head.position + 1} is missing: a row was removed")
    return Verified(head=head, erased=erased, unsealed=await AuditEntry.filter(position=None).count())


def read_heads(text: str) -> tuple[Head, ...]:
    """Return the heads in a text, one `POSITION HASH` a line as `audit verify` prints them; raise `ValueError`."""
    heads = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[0].isdecimal() or len(words[1]) != len(ORIGIN):
            raise ValueError(f"line {number} is not `POSITION HASH` as `abeyance audit verify` prints it")
        heads.append(Head(position=int(words[0]), hash=words[1].lower()))
    return tuple(heads)


def _by_position(noted: Sequence[Head]) -> dict[int, str]:
    expected: dict[int, str] = {}
    for head in noted:
        if head.position == 0:  # printed while the trail was empty
            continue
        if expected.setdefault(head.position, head.hash) != head.hash:
            raise ChainBrokenError(f"two different heads were noted for position {head.position}")
    return expected


async def _sealed(until: int, page: int) -> AsyncIterator[AuditEntry]:
    """Yield the sealed rows up to a position in the order of the chain."""
    after = 0
    while after < until:
        rows = AuditEntry.filter(position__gt=after, position__lte=until).order_by("position").limit(page)
        found = await rows
        if not found:
            return
        for row in found:
            yield row
        after = found[-1].position or until
