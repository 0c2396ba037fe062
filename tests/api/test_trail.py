"""The turns beside the reconciler, as the process that leads takes them."""

import random
from typing import Any

import pytest

from api.trail import SEAL_SECONDS, Trail
from billing import audit, audit_seal
from billing.models import AuditEntry

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def test_it_seals_every_second_and_faster_while_much_waits(
    clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that filled its batch asks for another at once."""
    monkeypatch.setattr(audit_seal, "BATCH", 2)
    monkeypatch.setitem(audit_seal.seal.__kwdefaults__ or {}, "limit", 2)
    trail = Trail(rng=random.Random(1))
    for _ in range(3):
        await audit.record("x", ("Account", 1), at=clock.now(), actor="x", reason="x")
    assert [await trail.seal() for _ in range(2)] == [0.0, SEAL_SECONDS]
    assert not await AuditEntry.filter(position=None).exists()
