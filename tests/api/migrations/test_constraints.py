"""Every constraint of the migrations bites, on both databases, in raw SQL that no code of ours has looked at."""

import ast
from pathlib import Path
from typing import Any

import pytest
from tortoise.exceptions import IntegrityError
from tortoise.models import Model

from api.catalog import expected_file
from api.migrations import _author
from api.models import ApiToken, Role
from billing import approval_models, attempt_models, money_models
from billing.models import (
    Account,
    AuditEntry,
    Dispute,
    Episode,
    Invoice,
    Notice,
    Override,
    StripeEvent,
    StripeMirror,
    WorkItem,
)
from billing.rules.terms import InvoiceOrigin, OverrideKind, Stage
from reconciler import guard_models
from reconciler.models import (
    Admission,
    Hold,
    Observation,
    PlanSnapshot,
    ReconcilerState,
    RestorePart,
    Run,
    Server,
    Step,
)
from reconciler.outgoing_models import EventType, OutgoingDelivery, OutgoingEvent
from reconciler.rules.terms import Lane, Mode

#: The tables that `test_money_constraints` and `test_guard_constraints` look at.
ELSEWHERE = {
    model._meta.db_table
    for module in (money_models, attempt_models, approval_models, guard_models)
    for model in vars(module).values()
    if isinstance(model, type) and model.__module__ == module.__name__ and issubclass(model, Model)
}

#: What breaks each CHECK: the rule's name, then SQL values for the columns that break it and nothing else.
VIOLATIONS: dict[type[Model], dict[str, dict[str, str]]] = {
    Account: {
        "currency": {"currency": "'eur'"},
        "external_id_given": {"external_id": "''"},
        "facts_version": {"facts_version": "0"},
    },
    Invoice: {
        "currency": {"currency": "'EU1'"},
        "origin": {"origin": "'GIFT'"},
        "status": {"status": "'open'", "amount_due": "0"},
        "total": {"total": "-1"},
        "amount_paid": {"amount_paid": "-1"},
        "amount_due": {"amount_due": "-1"},
        "disputed_amount": {"disputed_amount": "-1"},
        "due_only_while_open": {"status": "'PAID'"},
        "stripe_id": {"origin": "'STRIPE'"},
    },
    Dispute: {"amount": {"amount": "-1"}, "end": {"closed_at": "'2026-01-01 00:00:00+00:00'"}},
    StripeEvent: {
        "state": {"state": "'LOST'"},
        "source": {"source": "'guess'"},
        "attempts": {"attempts": "-1"},
    },
    StripeMirror: {"only_row": {"id": "2"}},
    Override: {
        "kind": {"kind": "'FORGET'"},
        "reason_given": {"reason": "''"},
        "author_given": {"placed_by": "''"},
        "of_a_server": {"kind": "'FREEZE'", "server_id": "1"},
        "expiry": {"expires_at": "placed_at"},
        "revoked": {"revoked_by": "'anna'"},
    },
    Episode: {
        "admitted": {"admitted": "'LATE'"},
        "end": {"ended_at": "'2026-01-01 00:00:00+00:00'"},
        "awaits": {"awaits": "'LATE'", "awaits_since": "started_at"},
        "awaits_since": {"awaits": "'SUSPENDED'"},
    },
    Notice: {
        "channel": {"channel": "'fax'"},
        "stage": {"stage": "'LATE'"},
        "state": {"state": "'SENT'"},
        "attempts": {"attempts": "-1"},
        "delivery": {"state": "'DELIVERED'"},
        "mail_has_account": {"account_id": "NULL"},
    },
    WorkItem: {"state": {"state": "'DONE'"}, "resolution": {"state": "'RESOLVED'"}},
    AuditEntry: {
        "sealed_whole": {"position": "1", "salt": "'s'"},
        "salted": {"salt": "'s'"},
        "position": {"position": "0", "hash": "'x'", "digest": "'d'", "salt": "'s'"},
    },
    Server: {
        "external_id_given": {"external_id": "''"},
        "kind": {"kind": "'JAIL'"},
        "deployment": {"deployment": "'MAYBE'"},
        "rate": {"rate": "-1"},
    },
    Hold: {
        "cause": {"cause": "'WHIM'", "stage": "NULL"},
        "stage": {"stage": "'LATE'"},
        "stage_of_billing": {"stage": "NULL"},
        "lifted": {"lifted_at": "since"},
    },
    Observation: {"power": {"power": "'ON'"}, "absences": {"absences": "-1"}},
    RestorePart: {
        "part": {"part": "'disk'"},
        "owner": {
            "server_id": "nullif(server_id, server_id)",
            "account_id": "nullif(account_id, account_id)",
        },
        "volume": {"volume": "'backup/1'"},
        "closed": {"closed_at": "taken_at"},
    },
    Run: {
        "lane": {"lane": "'FAST'"},
        "state": {"state": "'HALTED'", "finished_at": "started_at"},
        "finished": {"state": "'FINISHED'"},
    },
    Step: {
        "kind": {"kind": "'DESTROY'"},
        "state": {"state": "'GUESSED'"},
        "lane": {"lane": "'FAST'"},
        "outcome": {"outcome": "'OK'"},
        "attempt": {"attempt": "0"},
    },
    PlanSnapshot: {"mode": {"mode": "'FORCE'"}},
    Admission: {"from_stage": {"from_stage": "'LATE'"}, "to_stage": {"to_stage": "'LATE'"}},
    ReconcilerState: {
        "only_row": {"id": "2"},
        "generation": {"generation": "-1"},
        "last_mode": {"last_mode": "'FORCE'"},
        "paused": {"paused_by": "'anna'"},
    },
    OutgoingEvent: {
        "type": {"type": "'server.destroyed'", "server": "'x'"},
        "stage": {"stage": "'LATE'"},
        "about": {"type": "'server.held'"},
    },
    OutgoingDelivery: {
        "state": {"state": "'SENT'", "finished_at": "next_attempt_at", "receiver": "'y'"},
        "finished": {"state": "'DELIVERED'", "receiver": "'y'"},
        "attempts": {"attempts": "-1", "receiver": "'y'"},
    },
    ApiToken: {
        "role": {"role": "'ROOT'"},
        "customer_has_account": {"role": "'CUSTOMER'"},
        "hash": {"hash": "'short'"},
    },
}


@pytest.fixture
async def _rows(database: str, factory: Any, clock: Any) -> None:
    """One valid row in every table that has a constraint."""
    now = clock.now()
    account = await factory.account()
    server = await factory.server(account)
    await factory.dispute(await factory.invoice(account))
    await factory.stripe_event()
    await factory.override(account)
    await factory.episode(account)
    await factory.episode(account, server_id=server.id)
    await factory.notice(account)
    await factory.hold(server)
    await factory.observation(server)
    await factory.step(server)
    await factory.step(server, server_id=None)
    await WorkItem.create(kind="x", title="x", detail="x", since=now, dedupe_key="x")
    await AuditEntry.create(at=now, actor="x", kind="x", subject_type="Account", subject_id="1", reason="x")
    part = {"site": "demo", "found": "RUNNING", "step_id": 1, "taken_at": now}
    await RestorePart.create(server_id=server.id, account_id=account.id, part="power", **part)
    await RestorePart.create(account_id=account.id, part="role", **part)
    await Run.create(
        tag="x", action="observe", site="demo", node="node1", lane=Lane.OBSERVE, plan_digest="", requested_by="x",
        started_at=now,
    )  # fmt: skip
    await PlanSnapshot.create(digest="x", at=now, mode=Mode.PLAN, content={}, text="")
    await Admission.create(
        account_id=1, episode_id=1, policy="standard", from_stage=Stage.CURRENT, to_stage=Stage.PAST_DUE,
        larger=False, plan_digest="x", at=now,
    )  # fmt: skip
    told = await OutgoingEvent.create(
        type=EventType.STANDING_CHANGED, at=now, account="x", stage=Stage.CURRENT, gives_back=True
    )
    await OutgoingDelivery.create(event=told, receiver="x", next_attempt_at=now)
    await ApiToken.create(name="x", role=Role.ADMIN, hash="0" * 64, created_at=now)


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("model", VIOLATIONS, ids=lambda model: model._meta.db_table)
async def test_it_refuses_a_row_that_breaks_a_check(model, execute, copy):
    """Neither an UPDATE nor an INSERT gets past a CHECK, and the message names it."""
    table = model._meta.db_table
    before = await model.all().count()
    for name, broken in VIOLATIONS[model].items():
        # The audit trail refuses such rows for a second reason, and a trigger comes before a CHECK.
        named = "sealed|never changed|audit_entry_" if model is AuditEntry else f"{table}_{name}\\b"
        changes = ", ".join(f'"{column}" = {value}' for column, value in broken.items())
        with pytest.raises(IntegrityError, match=named):
            await execute(f'UPDATE "{table}" SET {changes}')  # noqa: S608
        with pytest.raises(IntegrityError, match=named):
            await copy(model, broken)
    assert await model.all().count() == before


def test_it_tries_every_check_that_the_migrations_make():
    """The list above is complete but for the tables that have a list of their own."""
    lines = [
        line.split() for line in expected_file("postgres").read_text().splitlines() if ": CHECK (" in line
    ]
    expected = {
        words[1] for words in lines if words[0] == "constraint" and words[3].rstrip(":") not in ELSEWHERE
    }
    tried = {f"{model._meta.db_table}_{name}" for model, rules in VIOLATIONS.items() for name in rules}
    assert tried == expected


#: Each partial unique index: its table, a row under it, what a second row changes, and what ends the first.
OPEN: dict[str, tuple[type[Model], str, str]] = {
    "episode_open_account": (Episode, "server_id IS NULL", "ended_at = started_at"),
    "episode_open_server": (Episode, "server_id IS NOT NULL", "ended_at = started_at"),
    "hold_open": (Hold, "1 = 1", "lifted_at = since, lifted_by = 'anna'"),
    "work_item_open": (WorkItem, "1 = 1", "state = 'RESOLVED', resolved_at = since"),
    "restore_part_of_server": (
        RestorePart,
        "server_id IS NOT NULL",
        "closed_at = taken_at, closed_because = 'restored'",
    ),
    "restore_part_of_account": (
        RestorePart,
        "server_id IS NULL",
        "closed_at = taken_at, closed_because = 'restored'",
    ),
    "run_on_node": (Run, "1 = 1", "state = 'FINISHED', finished_at = started_at"),
    "server_of_guest": (Server, "1 = 1", "retired_at = created_at"),
    "step_on_server": (Step, "server_id IS NOT NULL", "state = 'DONE'"),
    "step_on_account": (Step, "server_id IS NULL", "state = 'FAILED'"),
}


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("name", OPEN)
async def test_it_allows_one_open_row_at_a_time(name, execute, copy):
    """A second open row is refused; once the first one has ended it is welcome."""
    model, where, end = OPEN[name]
    with pytest.raises(IntegrityError):
        await copy(model, {}, where)
    await execute(f'UPDATE "{model._meta.db_table}" SET {end} WHERE {where}')  # noqa: S608
    opened = {part.split(" = ")[0]: "NULL" for part in end.split(", ")}
    if "state" in opened:
        opened["state"] = {WorkItem: "'OPEN'", Run: "'RUNNING'", Step: "'UNKNOWN'"}[model]
    await copy(model, opened, where)


def test_it_tries_every_partial_index_that_the_migrations_make():
    """The list above is complete but for those tried elsewhere, and for an index that only finds."""
    lines = expected_file("postgres").read_text().splitlines()
    found = [line.split() for line in lines if line.startswith("index ") and " WHERE " in line]
    found = [words for words in found if "UNIQUE" in words]
    # index name: CREATE UNIQUE INDEX name ON table ...
    assert set(OPEN) == {words[1].rstrip(":") for words in found if words[7] not in ELSEWHERE | {"invoice"}}


@pytest.mark.usefixtures("_rows")
async def test_it_tells_a_receiver_of_an_event_once(copy):
    """There is one delivery of an event to a receiver."""
    with pytest.raises(IntegrityError):
        await copy(OutgoingDelivery, {})
    await copy(OutgoingDelivery, {"receiver": "'y'"})


@pytest.mark.usefixtures("_rows")
async def test_it_treats_an_unknown_step_as_still_at_work(factory):
    """While a step is unknown nothing else is dispatched to its server."""
    await Step.filter(server_id__not_isnull=True).update(state="UNKNOWN")
    with pytest.raises(IntegrityError):
        await factory.step(await Server.first())


@pytest.mark.usefixtures("_rows")
@pytest.mark.parametrize("model", [StripeEvent, StripeMirror, Notice, AuditEntry, ReconcilerState])
async def test_it_never_deletes(model, database, execute):
    """Not by DELETE, not by TRUNCATE, not by SQLite's INSERT OR REPLACE."""
    table = model._meta.db_table
    count = await model.all().count()
    assert count > 0
    with pytest.raises(IntegrityError, match="never deleted"):
        await execute(f'DELETE FROM "{table}"')  # noqa: S608
    emptied = (
        f'INSERT OR REPLACE INTO "{table}" SELECT * FROM "{table}"'  # noqa: S608
        if database.startswith("sqlite")
        else f'TRUNCATE "{table}" CASCADE'
    )
    with pytest.raises(IntegrityError):
        await execute(emptied)
    assert await model.all().count() == count


_SEAL = "position = 1, hash = 'a', digest = 'd', salt = 's'"
_ERASURE = "erased_at = at, salt = NULL, reason = '(erased)', before = NULL, after = NULL"
_OTHER = {"at": "'2020-01-01 00:00:00+00:00'", "account_id": "7", "facts_version": "7"}


@pytest.mark.usefixtures("_rows")
async def test_it_seals_an_audit_row_once_and_changes_nothing_else_of_it(execute):
    """The seal goes from nothing to something; every other change is refused, also together with the seal."""
    written = "at actor kind account_id subject_type subject_id reason before after facts_version"
    for column in written.split():
        value = _OTHER.get(column, "'other'")
        with pytest.raises(IntegrityError, match="never changed"):
            await execute(f"""UPDATE audit_entry SET "{column}" = {value}, {_SEAL}""")  # noqa: S608
        with pytest.raises(IntegrityError, match="never changed"):
            await execute(f'UPDATE audit_entry SET "{column}" = {value}')  # noqa: S608
    with pytest.raises(IntegrityError, match="never changed"):
        await execute(f"UPDATE audit_entry SET {_ERASURE}")  # noqa: S608
    await execute(f"UPDATE audit_entry SET {_SEAL}")  # noqa: S608
    for again in (
        "position = 2",
        "hash = 'b'",
        "digest = 'b'",
        "salt = 'b'",
        "position = NULL, hash = NULL, digest = NULL, salt = NULL",
        "reason = 'other'",
    ):
        with pytest.raises(IntegrityError, match="never changed"):
            await execute(f"UPDATE audit_entry SET {again}")  # noqa: S608
    entry = await AuditEntry.get()
    assert (entry.position, entry.hash, entry.reason) == (1, "a", "x")


@pytest.mark.usefixtures("_rows")
async def test_it_erases_of_a_sealed_audit_row_only_what_it_says_about_a_person(execute, clock):
    """Reason, values and a customer's name go, together and for good; the rest, and a colleague's name, stay."""
    now = clock.now()
    await AuditEntry.create(
        at=now,
        actor="customer:kim",
        kind="x",
        subject_type="Account",
        subject_id="1",
        reason="x",
        before="{}",
    )
    for number, row in enumerate(await AuditEntry.all().order_by("id"), 1):
        await execute(f"UPDATE audit_entry SET {_SEAL.replace('= 1', f'= {number}')} WHERE id = {row.id}")  # noqa: S608
    for column in ("at", "kind", "account_id", "subject_type", "subject_id", "position", "hash", "digest"):
        value = "9" if column == "position" else _OTHER.get(column, "'other'")
        with pytest.raises(IntegrityError, match="never changed"):
            await execute(f'UPDATE audit_entry SET {_ERASURE}, "{column}" = {value}')  # noqa: S608
    for wrong in ("reason = 'better'", "before = 'other'", "salt = 's'", "erased_at = NULL"):
        changes = ", ".join(part for part in _ERASURE.split(", ") if part.split()[0] != wrong.split()[0])
        with pytest.raises(IntegrityError, match="never changed"):
            await execute(f"UPDATE audit_entry SET {changes}, {wrong} WHERE position = 2")  # noqa: S608
    for where, name in (("1", "customer:erased"), ("2", "customer:other")):
        with pytest.raises(IntegrityError, match="never changed"):
            await execute(f"UPDATE audit_entry SET {_ERASURE}, actor = '{name}' WHERE position = {where}")  # noqa: S608
    await execute(f"UPDATE audit_entry SET {_ERASURE} WHERE position = 1")  # noqa: S608
    await execute(f"UPDATE audit_entry SET {_ERASURE}, actor = 'customer:erased' WHERE position = 2")  # noqa: S608
    with pytest.raises(IntegrityError, match="never changed"):
        await execute(f"UPDATE audit_entry SET {_ERASURE}")  # noqa: S608
    assert [row.reason for row in await AuditEntry.all()] == ["(erased)", "(erased)"]


@pytest.mark.usefixtures("_rows")
async def test_it_takes_what_is_valid(factory):
    """The rules leave room: a negative total of Stripe's, a notice for staff, two undeployed servers."""
    account = await Account.first()
    await factory.invoice(account, origin=InvoiceOrigin.STRIPE, total=-500, amount_due=0)
    await factory.override(account, kind=OverrideKind.ALLOW_BACKUPS, server_id=1)
    await factory.override(account, kind=OverrideKind.SUSPEND_NOW, expires_at=None)
    await factory.notice(None, channel="staff", stage=None)
    await factory.server(account, guest=None)
    await factory.server(account, guest=None)


async def test_it_has_a_migration_for_every_change_of_the_models():
    """The models and the migrations agree."""
    assert await _author.pending_operations() == []


async def test_it_notices_a_model_that_changed(monkeypatch):
    """The check above can fail: a field that differs is named."""
    monkeypatch.setattr(Account._meta.fields_map["email"], "null", False)
    assert await _author.pending_operations() == ["Alter field email on Account"]


def test_its_files_import_nothing_that_may_be_renamed():
    """A migration of today must run in ten years: no model, no enum, only the ORM and the helpers beside it."""
    folder = Path(_author.__file__).parent
    files = sorted(folder.glob("[0-9]*.py"))
    assert files
    for file in [*files, folder / "_sql.py"]:
        for node in ast.walk(ast.parse(file.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            assert (
                module is None
                or module.split(".")[0] in {"tortoise", "typing"}
                or module == "api.migrations._sql"
            )
            assert not isinstance(node, ast.Import)
