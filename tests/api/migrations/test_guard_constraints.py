"""Every constraint on the tables of the guard bites, on both databases, in raw SQL."""
# ruff: noqa: S608 - every word of it is written here

from typing import Any

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.models import Model

from api.catalog import expected_file
from billing.approval_models import Approval, ApprovalVote
from billing.rules.approvals import ApprovalKind
from reconciler.guard_models import BreakerCover, LadderInForce, SafeModeCause, SafeModeKind

TABLES = (Approval, ApprovalVote, BreakerCover, SafeModeCause, LadderInForce)

#: What breaks each CHECK: the rule's name, then SQL values for the columns that break it and nothing else.
VIOLATIONS: dict[type[Model], dict[str, dict[str, str]]] = {
    Approval: {
        "kind": {"kind": "'WHIM'"},
        "state": {"state": "'LOST'", "ended_at": "requested_at"},
        "subject_given": {"subject_id": "''"},
        "digest": {"digest": "'short'"},
        "reason_given": {"reason": "''"},
        "author_given": {"requested_by": "''"},
        "expiry": {"expires_at": "requested_at"},
        "given": {"state": "'GIVEN'"},
        "ended": {"ended_at": "requested_at"},
    },
    ApprovalVote: {"person_given": {"person": "''"}, "reason_given": {"reason": "''"}},
    SafeModeCause: {
        "kind": {"kind": "'WHIM'"},
        "reason_given": {"reason": "''"},
        "end": {"ended_at": "'2020-01-01 00:00:00+00:00'"},
        "released": {"released_by": "'anna'"},
    },
}
NEVER_CHANGED = (ApprovalVote, BreakerCover)
KEPT = "id kind subject_type subject_id account_id digest requested_by requested_at expires_at alone_at"
NEVER_DELETED = (Approval, ApprovalVote, BreakerCover, SafeModeCause)


@pytest.fixture
async def _rows(database: str, clock: Any) -> None:
    """One valid row in every table."""
    now = clock.now()
    approval = await Approval.create(
        kind=ApprovalKind.SUSPEND_NOW, subject_type="Account", subject_id="7", account_id=7, digest="0" * 64,
        reason="r", requested_by="x", requested_at=now, expires_at=now.replace(year=2027),
    )  # fmt: skip
    await ApprovalVote.create(approval=approval, person="anna", actor="x", reason="r", at=now)
    await BreakerCover.create(approval=approval, account_id=7, episode_id=1)
    await SafeModeCause.create(kind=SafeModeKind.IDENTITY, reason="r", since=now, needs_person=False)


async def _all(model: type[Model]) -> Any:
    return await model.all().order_by("id").values()


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("model", VIOLATIONS, ids=lambda model: model._meta.db_table)
async def test_it_refuses_a_row_that_breaks_a_check(model, execute, copy):
    """An INSERT is refused by the CHECK's name; an UPDATE by it, or because such a row never changes."""
    table = model._meta.db_table
    before = await _all(model)
    for name, broken in VIOLATIONS[model].items():
        with pytest.raises(IntegrityError, match=f"{table}_{name}\\b"):
            await copy(model, broken)
        changes = ", ".join(f'"{column}" = {value}' for column, value in broken.items())
        with pytest.raises(IntegrityError, match=rf"{table}_{name}\b|never changed"):
            await execute(f'UPDATE "{table}" SET {changes}')
    assert await _all(model) == before


def test_it_tries_every_check_and_index_on_these_tables():
    """The lists here are complete."""
    lines = expected_file("postgres").read_text().splitlines()
    own = {model._meta.db_table for model in TABLES}
    found = [line.split() for line in lines if line.startswith("constraint ") and ": CHECK (" in line]
    tried = {f"{model._meta.db_table}_{name}" for model, rules in VIOLATIONS.items() for name in rules}
    assert tried == {words[1] for words in found if words[3].rstrip(":") in own}
    partial = [line.split() for line in lines if line.startswith("index ") and " WHERE " in line]
    assert {words[1].rstrip(":") for words in partial if words[7] in own} == set(ONE)


ONE: dict[str, tuple[type[Model], str, dict[str, str]]] = {
    "approval_pending": (
        Approval,
        "state = 'VOID', ended_at = requested_at",
        {"state": "'PENDING'", "ended_at": "NULL"},
    ),
    "safe_mode_cause_open": (SafeModeCause, "ended_at = since", {"ended_at": "NULL"}),
}


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("name", ONE)
async def test_it_allows_one_open_row_at_a_time(name, execute, copy):
    """A second one is refused; once the first has ended it is welcome."""
    model, end, opened = ONE[name]
    with pytest.raises(IntegrityError):
        await copy(model, {})
    await execute(f'UPDATE "{model._meta.db_table}" SET {end}')
    await copy(model, opened)
    assert await model.all().count() == 2


@pytest.mark.usefixtures("_rows")
async def test_it_lets_nobody_vote_twice(copy):
    """One vote per person and approval."""
    with pytest.raises(IntegrityError):
        await copy(ApprovalVote, {})
    await copy(ApprovalVote, {"person": "'ben'"})


@pytest.mark.usefixtures("_rows")
async def test_it_never_brings_an_approval_back(execute):
    """What was given does not wait again, and what has ended stays ended."""
    await execute("UPDATE approval SET state = 'GIVEN', given_at = requested_at")
    with pytest.raises(IntegrityError, match="never goes back"):
        await execute("UPDATE approval SET state = 'PENDING'")
    await execute("UPDATE approval SET state = 'VOID', ended_at = requested_at")
    with pytest.raises(IntegrityError, match="never goes back"):
        await execute("UPDATE approval SET state = 'GIVEN', ended_at = NULL")


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("model", [*NEVER_CHANGED, Approval], ids=lambda model: model._meta.db_table)
async def test_it_never_changes_what_was_agreed(model, execute):
    """Column by column."""
    columns = KEPT if model is Approval else " ".join(model._meta.db_fields)
    before = await _all(model)
    others = {"digest": f"'{'9' * 64}'", "invoice_ids": "'[8]'"}
    for column in columns.split():
        late = column == "at" or column.endswith("_at")
        number = column == "id" or column.endswith(("account_id", "server_id", "episode_id", "approval_id"))
        usual = "'2031-01-01 00:00:00+00:00'" if late else "8" if number else "'9'"
        with pytest.raises(IntegrityError, match=r"never changed|CHECK|check"):
            await execute(f'UPDATE "{model._meta.db_table}" SET "{column}" = {others.get(column, usual)}')
    assert await _all(model) == before


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("model", NEVER_DELETED, ids=lambda model: model._meta.db_table)
async def test_it_never_deletes(model, execute):
    """Not one row."""
    with pytest.raises(IntegrityError, match="never deleted"):
        await execute(f'DELETE FROM "{model._meta.db_table}"')
