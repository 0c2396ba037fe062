"""Verifying the trail: every way to tamper with it shows, and nothing else does."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tortoise.connection import get_connection

from billing import audit, audit_seal
from billing.audit_chain import Head
from billing.audit_verify import ChainBrokenError, read_heads, verify
from billing.models import AuditEntry

TRIGGERS = ["audit_entry_only_sealed", "audit_entry_never_deleted", "audit_entry_appended_unsealed"]
CHECKS = ("audit_entry_checks_insert", "audit_entry_checks_update")


@pytest.fixture
async def tamper(sqlite_database: str, clock: Any) -> Callable[..., Awaitable[None]]:
    """Five sealed rows, and the hands of somebody who owns the database: every trigger is out of the way."""
    for number in range(5):
        await audit.record(
            "hold.placed", ("Server", number), at=clock.now(), actor="admin:anna", reason="spam", account_id=1
        )
    await audit_seal.seal_all(random.Random(1))
    connection = get_connection("default")
    for name in (*TRIGGERS, *CHECKS):
        await connection.execute_query(f'DROP TRIGGER "{name}"')

    async def execute(*statements: str) -> None:
        for statement in statements:
            await connection.execute_query(statement)

    return execute


CHANGES = [
    "reason = 'none'", "before = '{}'", "after = '{}'", "actor = 'admin:bob'", "kind = 'hold.lifted'", "account_id = 2",
    "account_id = NULL", "subject_id = '9'", "subject_type = 'Account'", "at = '2020-01-01 00:00:00+00:00'",
    "facts_version = 3", "id = id + 100",
    "hash = replace(hash, substr(hash, 1, 1), 'x')", "digest = '0'", "salt = '00'",
]  # fmt: skip


@pytest.mark.parametrize("position", [1, 3, 5])
@pytest.mark.parametrize("change", CHANGES)
async def test_it_finds_a_changed_row(tamper: Any, change: str, position: int) -> None:
    """Whichever column it is, in the first row, the last or between."""
    assert (await verify()).head.position == 5
    await tamper(f"UPDATE audit_entry SET {change} WHERE position = {position}")  # noqa: S608
    with pytest.raises(ChainBrokenError, match=f"position {position}"):
        await verify(page=2)


async def test_it_finds_a_removed_row(tamper: Any) -> None:
    """Also when the rows after it are moved up."""
    await tamper("DELETE FROM audit_entry WHERE position = 3")
    with pytest.raises(ChainBrokenError, match="position 3 is missing"):
        await verify()
    await tamper("UPDATE audit_entry SET position = position - 1 WHERE position > 3")
    with pytest.raises(ChainBrokenError, match="position 3"):
        await verify()


async def test_it_finds_an_inserted_row(tamper: Any) -> None:
    """A copy between two others fits nowhere."""
    await tamper(
        "UPDATE audit_entry SET position = position + 100 WHERE position > 2",
        "INSERT INTO audit_entry (at, actor, kind, subject_type, subject_id, reason, position, hash, salt, digest)"
        " SELECT at, actor, kind, subject_type, subject_id, reason, 3, hash, salt, digest FROM audit_entry"
        " WHERE position = 2",
        "UPDATE audit_entry SET position = position - 99 WHERE position > 100",
    )
    with pytest.raises(ChainBrokenError, match="position 3"):
        await verify()


async def test_it_finds_reordered_rows(tamper: Any) -> None:
    """Two rows that changed places."""
    await tamper(
        "UPDATE audit_entry SET position = 99 WHERE position = 2",
        "UPDATE audit_entry SET position = 2 WHERE position = 3",
        "UPDATE audit_entry SET position = 3 WHERE position = 99",
    )
    with pytest.raises(ChainBrokenError, match="position 2"):
        await verify()


async def test_it_finds_a_cut_end_by_a_head_that_was_noted(tamper: Any) -> None:
    """What the chain alone cannot show."""
    noted = (await verify()).head
    await tamper("DELETE FROM audit_entry WHERE position > 3")
    assert (await verify()).head.position == 3
    with pytest.raises(ChainBrokenError, match="ends at position 3, and a head at position 5 was noted"):
        await verify([noted])


async def test_it_finds_a_trail_written_anew_by_a_head_that_was_noted(tamper: Any) -> None:
    """Somebody who recomputes every hash is found by one kept elsewhere, wherever in the trail it was."""
    early = Head(position=2, hash=(await AuditEntry.get(position=2)).hash or "")
    await tamper(
        "UPDATE audit_entry SET position = NULL, hash = NULL, salt = NULL, digest = NULL",
        "UPDATE audit_entry SET reason = 'other' WHERE id = 1",
    )
    await audit_seal.seal_all(random.Random(2))
    assert (await verify()).head.position == 5
    with pytest.raises(ChainBrokenError, match="position 2 is not the one that was noted"):
        await verify([early])


async def test_it_finds_text_put_back_into_an_erased_row(tamper: Any) -> None:
    """A row that is called erased cannot pass off another actor of the staff, or another object."""
    await tamper(
        "UPDATE audit_entry SET salt = NULL, erased_at = at, reason = '(erased)' WHERE position = 2",
    )
    assert (await verify()).erased == 1
    await tamper("UPDATE audit_entry SET actor = 'admin:bob' WHERE position = 2")
    with pytest.raises(ChainBrokenError, match="position 2"):
        await verify()


async def test_it_leaves_rows_that_are_not_sealed_yet_to_the_next_time(tamper: Any, clock: Any) -> None:
    """They are counted."""
    await audit.record("x", ("Account", 1), at=clock.now(), actor="x", reason="x")
    found = await verify(page=2)
    assert (found.head.position, found.unsealed) == (5, 1)


def test_it_reads_heads_and_refuses_anything_else() -> None:
    """One a line, blank lines left out; another text is named by its line."""
    first, second = Head(position=1, hash="a" * 64), Head(position=20, hash="b" * 64)
    assert read_heads(f"{first}\n\n{second}\n") == (first, second)
    for wrong in ("x", f"1 {'a' * 63}", f"-1 {'a' * 64}", f"1 {'a' * 64} more"):
        with pytest.raises(ValueError, match="line 2 is not"):
            read_heads(f"{first}\n{wrong}")


async def test_heads_that_contradict_each_other_are_told(tamper: Any) -> None:
    """One of the two was not ours."""
    with pytest.raises(ChainBrokenError, match="two different heads"):
        await verify([Head(position=1, hash="a" * 64), Head(position=1, hash="b" * 64)])
