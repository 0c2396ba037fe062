"""The sealer of the audit trail: what it chains, in which order, and what an erasure leaves."""

import json
import random
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from tortoise.connection import get_connection
from tortoise.transactions import in_transaction

from api.database import tortoise_config
from billing import audit, audit_seal
from billing.audit_verify import verify
from billing.models import AuditEntry
from billing.refusal import RefusalError

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def rng() -> random.Random:
    """A source of salts that repeats itself."""
    return random.Random(7)


async def _record(clock: Any, count: int = 1, **given: Any) -> None:
    for number in range(count):
        values = {"at": clock.now(), "actor": "admin:anna", "reason": f"because of {number}"} | given
        await audit.record("stage.fell", ("Account", number), **values)


async def _positions() -> list[tuple[int, int | None]]:
    return [(row.id, row.position) for row in await AuditEntry.all().order_by("id")]


async def test_it_chains_what_is_committed_in_batches(clock: Any, rng: random.Random) -> None:
    """Rows get the positions 1, 2, 3 and so on in the order of their ids, a batch a call, and none twice."""
    await _record(clock, 7)
    assert [await audit_seal.seal(rng, limit=3) for _ in range(4)] == [3, 3, 1, 0]
    assert [position for _, position in await _positions()] == [1, 2, 3, 4, 5, 6, 7]
    rows = await AuditEntry.all()
    assert len({row.hash for row in rows}) == len({row.salt for row in rows}) == 7
    assert (await verify()).head.position == 7


async def test_it_seals_nothing_that_is_rolled_back(clock: Any, rng: random.Random) -> None:
    """A decision that did not happen leaves no gap."""

    async def failing() -> None:
        async with in_transaction():
            await _record(clock)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await failing()
    await _record(clock)
    await audit_seal.seal_all(rng)
    assert (await verify()).head.position == 1


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_it_seals_a_row_that_was_committed_after_later_ones(
    database: str, clock: Any, rng: random.Random
) -> None:
    """A transaction that lasts holds nobody up, and its row, with the lowest id, is chained once it is there."""
    given = tortoise_config(database)["connections"]["default"]["credentials"]
    slow = await asyncpg.connect(
        host=given["host"], port=given["port"], user=given["user"], database=given["database"]
    )
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(
            "INSERT INTO audit_entry (at, actor, kind, subject_type, subject_id, reason) VALUES"
            " (now(), 'system:slow', 'x', 'Account', '1', 'took its time')"
        )
        await _record(clock, 2)
        assert await audit_seal.seal(rng) == 2
        head = (await verify()).head
        await transaction.commit()
    finally:
        await slow.close()
    assert await audit_seal.seal(rng) == 1
    late = await AuditEntry.get(position=3)
    assert late.id < (await AuditEntry.get(position=1)).id
    assert (await verify([head])).head.position == 3


async def test_two_sealers_cannot_fork_the_chain(clock: Any, rng: random.Random, monkeypatch: Any) -> None:
    """The second, which read the trail before the first wrote, fails as a whole."""
    await _record(clock, 3)
    write = AuditEntry.bulk_update

    async def after_another(rows: Any, fields: Any) -> Any:
        monkeypatch.undo()
        first = rows[0]
        await get_connection("default").execute_query(
            f"UPDATE audit_entry SET position = 1, hash = 'h', salt = 's', digest = 'd' WHERE id = {first.id}"  # noqa: S608
        )
        return await write(rows, fields=fields)

    monkeypatch.setattr(AuditEntry, "bulk_update", after_another)
    with pytest.raises(Exception, match="never changed"):
        await audit_seal.seal(rng)
    assert [position for _, position in await _positions()] == [None, None, None]


async def test_an_erasure_takes_the_person_and_leaves_the_chain(
    factory: Any, clock: Any, rng: random.Random
) -> None:
    """Names, reasons and values of that account are gone; what happened stays, and so does everybody else's trail."""
    account, other = await factory.account(), await factory.account()
    values = {"before": {"email": "kim@example.org"}, "after": {"email": "kim@example.com"}}
    await _record(clock, account_id=account.id, actor="customer:kim", **values)
    await _record(clock, account_id=account.id, reason="Kim is ill", **values)
    await _record(clock, account_id=other.id, reason="Sam is well")
    await audit_seal.seal_all(rng)
    head = (await verify()).head
    clock.advance(timedelta(hours=1))
    asked = {"reason": "asked by letter", "actor": "operator:cli", "now": clock.now()}
    assert await audit_seal.erase(account.external_id, **asked) == 2

    rows = await AuditEntry.all().order_by("id")
    told = json.dumps([[row.actor, row.reason, row.before, row.after, row.salt] for row in rows[:2]])
    assert json.loads(told) == [
        ["customer:erased", "(erased)", None, None, None],
        ["admin:anna", "(erased)", None, None, None],
    ]
    assert rows[2].reason == "Sam is well"
    assert (rows[3].kind, rows[3].reason, rows[3].after) == ("audit.erased", "asked by letter", '{"rows": 2}')
    await audit_seal.seal_all(rng)
    found = await verify([head])
    assert (found.head.position, found.erased) == (4, 2)
    assert await audit_seal.erase(account.external_id, **asked) == 0, "its own row stays"
    assert (await AuditEntry.get(id=rows[3].id)).reason == "asked by letter"


async def test_an_erasure_needs_an_account_and_a_reason(factory: Any, clock: Any) -> None:
    """Both are asked for by name."""
    account = await factory.account()
    with pytest.raises(RefusalError, match="no account nobody"):
        await audit_seal.erase("nobody", reason="x", actor="operator:cli", now=clock.now())
    with pytest.raises(RefusalError, match="say why"):
        await audit_seal.erase(account.external_id, reason=" ", actor="operator:cli", now=clock.now())
