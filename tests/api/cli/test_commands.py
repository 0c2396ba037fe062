"""The command line as its user meets it: what is printed where, and how it ends."""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog
from tortoise.exceptions import OperationalError
from typer.testing import CliRunner, Result

from api import tokens
from api.cli.commands import app
from api.cli.terminal import _is_outside
from api.database import open_database
from api.graphql.schema import sdl
from api.leadership import leadership
from billing.clock import SystemClock
from billing.models import Account, AuditEntry
from billing.rules.terms import NoticeState, Stage
from reconciler import restore_record, safety
from reconciler.guard_models import SafeModeKind
from reconciler.models import SiteState
from reconciler.rules.terms import StepState

CHECKOUT = Path(__file__).parents[3]
ABEYANCE = Path(sys.executable).with_name("abeyance")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Run a command in an empty folder, with these settings and no others; its result."""
    for name in list(os.environ):
        if name.startswith("ABEYANCE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def runs(*arguments: str, **settings: str) -> Result:
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(f"ABEYANCE_{name.upper()}", value)
            return CliRunner().invoke(app, arguments, catch_exceptions=False)

    yield runs
    structlog.reset_defaults()


COMMANDS = {
    "serve", "plan", "apply", "observe", "doctor", "forecast", "explain", "action", "demo", "schema", "policy",
    "actions", "db", "token", "audit", "simulator",
}  # fmt: skip


def test_it_names_its_commands(run: Any) -> None:
    """It shows the tree without touching anything."""
    shown = run("--help")
    assert shown.exit_code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", shown.stdout, re.MULTILINE), command


@pytest.mark.parametrize(
    "arguments",
    [(), ("nonsense",), ("plan", "--nonsense"), ("token", "create"), ("token", "create", "--role", "king"),
     ("simulator", "proxmox", "--port", "70000"), ("explain",), ("policy",)],
)  # fmt: skip
def test_a_wrong_usage_ends_with_2(run: Any, arguments: tuple[str, ...]) -> None:
    """It says how the command is used."""
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert "Usage: abeyance" in ended.output


def test_a_wrong_setting_ends_every_command_with_one_line(run: Any) -> None:
    """It names variable, fault and example on standard error, without a traceback."""
    for arguments in (
        ("serve",),
        ("plan",),
        ("db", "check"),
        ("token", "revoke", "--name", "x"),
        ("actions", "list"),
    ):
        ended = run(*arguments, mode="on")
        assert (ended.exit_code, ended.stdout) == (1, "")
        assert ended.stderr == "abeyance: ABEYANCE_MODE: is not one of off, plan, apply; example: plan\n"


def test_a_database_without_tables_is_told(run: Any, tmp_path: Path) -> None:
    """It says which command mends it."""
    for arguments in (("plan",), ("explain", "x"), ("token", "create", "--role", "admin", "--name", "x")):
        ended = run(*arguments, database_url=f"sqlite://{tmp_path}/new.db")
        assert ended.exit_code == 1
        assert "abeyance db upgrade" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_it_migrates_and_compares(run: Any, empty_database_url: str) -> None:
    """It applies what waits, once, and finds the database as it should be."""
    assert run("db", "check", database_url=empty_database_url).exit_code == 1
    upgraded = run("db", "upgrade", database_url=empty_database_url)
    assert upgraded.exit_code == 0
    assert "applied 0001" in upgraded.stdout
    assert "applied" not in run("db", "upgrade", database_url=empty_database_url).stdout
    checked = run("db", "check", database_url=empty_database_url)
    assert (checked.exit_code, checked.stdout) == (0, "the database is as it should be\n")


async def _alive(url: str, text: str) -> bool:
    async with open_database(url):
        assert await AuditEntry.filter(actor="operator:cli").exists()
        return await tokens.find(text, now=SystemClock().now()) is not None


def test_a_token_is_printed_alone_and_once(run: Any, sqlite_url: str) -> None:
    """It is the only text on standard output, works, and ends with its revocation."""
    made = run(
        "token", "create", "--role", "ADMIN", "--name", "ops", "--person", "anna", database_url=sqlite_url
    )
    assert made.exit_code == 0
    assert re.fullmatch(r"abey_[A-Za-z0-9_-]{43}\n", made.stdout)
    assert made.stderr == ""
    assert asyncio.run(_alive(sqlite_url, made.stdout.strip()))
    again = run("token", "create", "--role", "admin", "--name", "ops", database_url=sqlite_url)
    assert (again.exit_code, again.stdout) == (1, "")
    assert run("token", "revoke", "--name", "ops", database_url=sqlite_url).exit_code == 0
    assert not asyncio.run(_alive(sqlite_url, made.stdout.strip()))
    assert run("token", "revoke", "--name", "ops", database_url=sqlite_url).exit_code == 1


async def _account(url: str, factory: Any) -> str:
    async with open_database(url):
        return str((await factory.account()).external_id)


def test_a_token_for_an_account_that_is_not_there_is_made_with_a_word(
    run: Any, sqlite_url: str, factory: Any
) -> None:
    """A typing error is noticed at once; the portal may still have its token before the account is registered."""
    known = asyncio.run(_account(sqlite_url, factory))
    for account, words in (("TYPO", "There is no account TYPO yet"), (known, "")):
        arguments = ("token", "create", "--role", "customer", "--name", account, "--account", account)
        made = run(*arguments, database_url=sqlite_url)
        assert made.exit_code == 0
        assert re.fullmatch(r"abey_[A-Za-z0-9_-]{43}\n", made.stdout)
        assert made.stderr.startswith(words)
        assert len(made.stderr.splitlines()) == bool(words)


def test_a_full_disk_is_told_on_one_line(sqlite_url: str, tmp_path: Path) -> None:
    """The database's log cannot grow: the command says so and prints no token."""
    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite://"))) as other:
        # What is not yet taken over from the log makes every further write one past the limit.
        other.execute("PRAGMA wal_autocheckpoint = 0")
        other.execute("CREATE TABLE ballast (content)")
        other.execute("INSERT INTO ballast VALUES (zeroblob(200000))")
        other.commit()
        ended = subprocess.run(
            [ABEYANCE, "token", "create", "--role", "ADMIN", "--name", "ops"], cwd=tmp_path, text=True,
            # Python would write compiled modules cut off at the limit, and never notice.
            env={"PATH": os.defpath, "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1",
                 "ABEYANCE_DATABASE_URL": sqlite_url},
            capture_output=True, timeout=200, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("abeyance: the database cannot do this now: ")
    assert len(ended.stderr.splitlines()) == 1


def _mistaken() -> BaseException:
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(sqlite3.Error) as caught,
    ):
        connection.execute("SELECT nothing FROM nowhere")
    return caught.value


def _locked(file: Path) -> BaseException:
    with (
        contextlib.closing(sqlite3.connect(file)) as one,
        contextlib.closing(sqlite3.connect(file, 0)) as two,
    ):
        one.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.Error) as caught:
            two.execute("BEGIN EXCLUSIVE")
    return caught.value


def test_a_fault_in_a_statement_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    """It is a bug to be reported; a lock, a full disk and a lost server are not, as themselves or as the ORM's."""
    locked, mistaken = _locked(tmp_path / "x.db"), _mistaken()
    bugs = (mistaken, OperationalError(mistaken), OperationalError("no such thing"),
            asyncpg.UndefinedTableError("x"))  # fmt: skip
    outside = (locked, OperationalError(locked), asyncpg.DiskFullError("x"), asyncpg.AdminShutdownError("x"),
               asyncpg.ConnectionDoesNotExistError("x"))  # fmt: skip
    assert [_is_outside(fault) for fault in bugs] == [False] * len(bugs)
    assert [_is_outside(fault) for fault in outside] == [True] * len(outside)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--role", "CUSTOMER"), "names its account"),
        (("--role", "ADMIN", "--account", "acct-7"), "names its account"),
        (("--role", "ADMIN", "--lasts", "soon"), "--lasts"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(
    run: Any, sqlite_url: str, arguments: tuple[str, ...], told: str
) -> None:
    """It prints no token and says why."""
    ended = run("token", "create", "--name", "x", *arguments, database_url=sqlite_url)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_it_prints_the_schema(run: Any) -> None:
    """It prints what is checked in."""
    assert run("schema").stdout == sdl()


def test_it_checks_a_policy(run: Any, tmp_path: Path) -> None:
    """It takes the shipped ones, and names file, line and remedy of a wrong one."""
    for name in ("standard", "considerate"):
        checked = run("policy", "check", str(CHECKOUT / "billing/policies" / f"{name}.yaml"))
        assert checked.exit_code == 0, checked.stderr
        assert f"policy {name}" in checked.stdout
    wrong = tmp_path / "mine.yaml"
    wrong.write_text(
        "stages:\n  past_due: {after: PT0S, notice: payment_overdue}\n  suspended: {after: -PT1H}\n"
    )
    ended = run("policy", "check", str(wrong))
    assert ended.exit_code == 1
    assert f"abeyance: {wrong}:3: " in ended.stderr
    missing = run("policy", "check", str(tmp_path / "none.yaml"))
    assert missing.exit_code == 1
    assert "cannot be read: No such file" in missing.stderr


def test_it_lists_and_checks_actions(run: Any, tmp_path: Path) -> None:
    """It shows the catalogue for people and programs, and refuses playbooks that are not whole."""
    listed = json.loads(run("actions", "list", "--json").stdout)
    assert {action["name"]: action["restricts"] for action in listed} == {
        "close_access": True, "lock_backups": True, "observe": False, "open_access": False, "start_guests": False,
        "stop_guests": True, "unlock_backups": False,
    }  # fmt: skip
    assert "stop_guests" in run("actions", "list").stdout
    ended = run("actions", "list", playbooks=str(tmp_path))
    assert ended.exit_code == 1
    assert "ABEYANCE_PLAYBOOKS" in ended.stderr


def test_an_unknown_server_is_told(run: Any, sqlite_url: str) -> None:
    """It says what is wanted instead."""
    ended = run("explain", "nope", database_url=sqlite_url)
    assert ended.exit_code == 1
    assert "there is no server nope" in ended.stderr


def test_an_action_on_an_unknown_server_says_what_is_wanted(
    run: Any, sqlite_url: str, tmp_path: Path
) -> None:
    """The plan names only servers that something is due for, so it is no place to look the name up."""
    ended = run("action", "observe", "nope", database_url=sqlite_url, state_dir=str(tmp_path / "state"))
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "there is no server nope; its external id is wanted" in ended.stderr


@pytest.mark.parametrize("folder", ["/proc/abeyance", "/dev/null/abeyance"])
def test_a_state_folder_that_cannot_be_made_is_told_before_it_answers(
    run: Any, sqlite_url: str, folder: str
) -> None:
    """Root has every right, and still makes no folder there."""
    ended = run("serve", database_url=sqlite_url, state_dir=folder, listen="127.0.0.1:0")
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert f"ABEYANCE_STATE_DIR: {folder} " in ended.stderr
    assert "answers at" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


async def _server(url: str, factory: Any) -> str:
    async with open_database(url):
        server = await factory.server()
        await factory.hold(server, reason="payment is overdue")
        await factory.observation(server)
        return str(server.external_id)


def test_it_explains_a_server(run: Any, sqlite_url: str, factory: Any) -> None:
    """It tells state, stage and reasons, for people and for programs."""
    name = asyncio.run(_server(sqlite_url, factory))
    said = run("explain", name, database_url=sqlite_url)
    assert said.exit_code == 0
    assert f"{name} of customer-2 is DELINQUENT; the account stands at CURRENT." in said.stdout
    assert "- BILLING: payment is overdue. Paying" in said.stdout
    assert "last read differently. (since 2026-11-20 09:00 UTC)\n" in said.stdout
    told = json.loads(run("explain", name, "--json", database_url=sqlite_url).stdout)
    assert (told["status"], told["reasons"][0]["rule"]) == ("DELINQUENT", "hold.billing")


@pytest.fixture
def refused_policies(tmp_path: Path) -> str:
    """Return a folder whose policy is refused."""
    folder = tmp_path / "refused"
    folder.mkdir()
    (folder / "standard.yaml").write_text("stages: {past_due: {after: -PT1S}}\n")
    return str(folder)


def test_it_explains_a_server_while_the_policy_files_are_refused(
    run: Any, sqlite_url: str, factory: Any, refused_policies: str
) -> None:
    """It tells what holds the server, says what is wrong, and judges no account by policies that nobody wrote."""
    name = asyncio.run(_server(sqlite_url, factory))
    said = run("explain", name, database_url=sqlite_url, policies=refused_policies)
    assert said.exit_code == 0
    assert f"{name} of customer-2 is DELINQUENT; the account stands at CURRENT." in said.stdout
    assert "- BILLING: payment is overdue. Paying" in said.stdout
    assert "standard.yaml" in said.stderr
    assert "its reasons are left out" in said.stderr
    told = json.loads(
        run("explain", name, "--json", database_url=sqlite_url, policies=refused_policies).stdout
    )
    rules = {one["rule"] for reason in told["reasons"] for one in (reason, *reason["because"])}
    assert "hold.billing" in rules
    assert not {rule for rule in rules if rule.startswith(("standing", "ladder.", "gate."))}


async def _stopped(url: str, factory: Any, clock: Any) -> str:
    async with open_database(url):
        server = await factory.server(site="demo")
        step = await factory.step(server, state=StepState.DONE)
        await restore_record.take(
            restore_record.Owner(site="demo", server_id=server.id),
            [("power", "", "RUNNING")],
            step_id=step.id,
            at=clock.now(),
        )
        return str(server.external_id)


async def _asked_for(url: str) -> int:
    async with open_database(url):
        return await AuditEntry.filter(kind="action.requested").count()


async def _led(url: str, work: Callable[[], Result]) -> Result:
    async with leadership(url) as lead:
        assert lead is not None
        return await asyncio.to_thread(work)


@pytest.mark.parametrize("led", [True, False])
def test_giving_back_is_asked_for_while_the_policy_files_are_refused(
    run: Any, sqlite_url: str, factory: Any, clock: Any, refused_policies: str, inventory: str, *, led: bool
) -> None:
    """The process that reconciles has good policies and does it; without one the answer says what to mend."""
    name = asyncio.run(_stopped(sqlite_url, factory, clock))
    settings = {"database_url": sqlite_url, "policies": refused_policies, "inventory": inventory}

    def asks() -> Result:
        result: Result = run("action", "start_guests", name, **settings)
        return result

    ended = asyncio.run(_led(sqlite_url, asks)) if led else asks()
    assert asyncio.run(_asked_for(sqlite_url)) == 1
    assert "policies.refused" in ended.stderr
    if led:
        assert (ended.exit_code, "the process that reconciles does it" in ended.stdout) == (0, True)
    else:
        assert (ended.exit_code, "no process reconciles" in ended.stderr) == (1, True)


def test_sites_are_read_while_the_policy_files_are_refused(
    run: Any, sqlite_url: str, refused_policies: str
) -> None:
    """Looking rests on no policy; the plan does, and is refused."""
    assert run("observe", database_url=sqlite_url, policies=refused_policies).exit_code == 0
    assert run("plan", database_url=sqlite_url, policies=refused_policies).exit_code == 1


@pytest.fixture
def inventory(tmp_path: Path) -> str:
    """Return an inventory of one site whose nodes nobody asks."""
    folder = tmp_path / "one_site"
    folder.mkdir()
    (folder / "hosts.yml").write_text(
        "all: {children: {demo: {vars: {site_platform: lxc}, hosts: {node1: {}}}}}\n"
    )
    return str(folder)


def _started(tmp_path: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "NO_COLOR": "1", "LC_ALL": "C"}
    return subprocess.Popen(
        [ABEYANCE, *arguments], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A suite that runs in the background of a shell has Ctrl-C ignored, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [("proxmox",), ("proxmox", "--tls"), ("stripe",)])
def test_a_simulator_serves_until_it_is_interrupted(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """It prints its URL alone on standard output, answers there, and ends cleanly on Ctrl-C."""
    import httpx

    process = _started(tmp_path, "simulator", *arguments, "--port", "0")
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("https://" if "--tls" in arguments else "http://127.0.0.1:")
        path = "/api2/json/version" if "proxmox" in arguments else "/v1/account"
        response = httpx.get(f"{url}{path}", verify=False)  # noqa: S501
        assert response.status_code < 500
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    """It says so on one line, and what to do."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = _started(tmp_path, "simulator", "stripe", "--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "cannot be listened on" in errors
    assert "Traceback" not in errors


async def _refused_actions(url: str) -> list[tuple[str, str]]:
    async with open_database(url):
        return [(entry.actor, entry.after or "") for entry in await AuditEntry.filter(kind="action.refused")]


@pytest.mark.parametrize("action", ["delete_suspended_server", "stop_guests", "lock_backups", "destroy"])
def test_a_forbidden_action_is_refused_by_hand_too(
    run: Any, sqlite_url: str, factory: Any, action: str
) -> None:
    """It ends with 1, does nothing and leaves exactly one audit row."""
    name = asyncio.run(_server(sqlite_url, factory))
    ended = run(
        "action", action, name, database_url=sqlite_url, state_dir=sqlite_url.removeprefix("sqlite://") + ".d"
    )
    assert ended.exit_code == 1
    assert f"{action} is refused" in ended.stderr
    assert "Traceback" not in ended.stderr
    ((actor, after),) = asyncio.run(_refused_actions(sqlite_url))
    assert actor == "operator:cli"
    assert action in after


def test_nothing_is_applied_without_an_answer(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks a person, and takes no terminal for a no."""
    done: list[str] = []

    async def first_apply(settings: Any, confirm: Any) -> list[str]:
        if confirm(["acct-1", "acct-2"]):
            done.append("first")
        return ["acct-1", "acct-2"]

    monkeypatch.setattr("api.operations.first_apply", first_apply)
    refused = run("apply", "--first")
    assert refused.exit_code == 1
    assert refused.stdout == "acct-1\nacct-2\n2 would get a first notice.\n"
    assert done == []
    assert run("apply", "--first", "--yes").exit_code == 0
    assert done == ["first"]


def test_a_database_that_applies_already_is_not_asked_about(
    run: Any, sqlite_url: str, tmp_path: Path
) -> None:
    """The first answer is asked for and recorded once; after that it says since when, and goes on."""
    given = {"database_url": sqlite_url, "state_dir": str(tmp_path / "state")}
    assert run("apply", "--first", **given).exit_code == 1
    assert run("apply", "--first", "--yes", **given).stdout == "0 would get a first notice.\n"
    again = run("apply", "--first", **given)
    assert (again.exit_code, again.stdout) == (0, "")
    assert re.search(
        r"this database applies since 20\d\d-\d\d-\d\d \d\d:\d\d UTC; there is nothing", again.stderr
    )
    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite://"))) as database:
        answers = database.execute("SELECT COUNT(*) FROM audit_entry WHERE kind = 'apply.first'").fetchone()
    assert answers == (1,)


def test_the_plan_is_printed_and_changes_nothing(run: Any, sqlite_url: str) -> None:
    """It prints text for people and plain data for programs."""
    folder = sqlite_url.removeprefix("sqlite://") + ".d"
    assert run("plan", database_url=sqlite_url, state_dir=folder).stdout == "Nothing to do (mode plan).\n"
    told = json.loads(run("plan", "--json", database_url=sqlite_url, state_dir=folder).stdout)
    assert (told["mode"], told["steps"]) == ("PLAN", [])


async def _braked(url: str) -> None:
    async with open_database(url):
        now = SystemClock().now()
        await safety.enter(SafeModeKind.CLOCK_JUMP, "the clock jumped", since=now, now=now)


def test_plan_and_explain_say_first_what_holds_restrictions_back(
    run: Any, sqlite_url: str, factory: Any
) -> None:
    """Whoever is woken at night sees it before anything else: why, and what ends it."""
    name = asyncio.run(_server(sqlite_url, factory))
    asyncio.run(_braked(sqlite_url))
    given = {"database_url": sqlite_url, "state_dir": sqlite_url.removeprefix("sqlite://") + ".d"}
    for command in (("plan",), ("explain", name)):
        first, second, *_ = run(*command, **given).stdout.splitlines()
        assert first.startswith("!! Safe mode since ")
        assert "the clock jumped" in first
        assert "it ends once" in first
        assert not second.startswith("!!")
        [brake] = json.loads(run(*command, "--json", **given).stdout)["brakes"]
        assert (brake["name"], f"!! {brake['text']}") == ("safe_mode", first)
    quoted, empty, head, *_ = run("plan", "--markdown", **given).stdout.splitlines()
    assert (quoted[:12], empty, head[:7]) == ("> Safe mode ", "", "## Plan")


async def _suspended_and_paid(url: str, factory: Any) -> str:
    async with open_database(url):
        account = await factory.account()
        await factory.episode(account, admitted=Stage.SUSPENDED)
        await Account.filter(id=account.id).update(next_change_at=SystemClock().now())
        return str(account.external_id)


def test_the_plan_names_whom_the_next_pass_gives_something_back(
    run: Any, sqlite_url: str, factory: Any
) -> None:
    """While no process makes passes, a payment is in no plan; whoever asks for one is told what is owed."""
    name = asyncio.run(_suspended_and_paid(sqlite_url, factory))
    given = {"database_url": sqlite_url, "state_dir": sqlite_url.removeprefix("sqlite://") + ".d"}
    line = (
        f"The next pass first gives back what no longer stands against {name}: `abeyance serve` makes passes"
    )
    first, second = run("plan", **given).stdout.splitlines()
    assert (first.split(",")[0], second) == (line, "Nothing to do (mode plan).")
    assert json.loads(run("plan", "--json", **given).stdout)["eased"] == [name]
    assert run("plan", "--markdown", **given).stdout.startswith(f"> {line}")


async def _seen(url: str) -> None:
    async with open_database(url):
        read_at = SystemClock().now()
        await SiteState.create(site="fra", silent_nodes=["pve1", "pve2"])
        await SiteState.create(site="ham", silent_nodes=["pve1"], problem="no answer from pve1")
        await SiteState.create(site="muc", complete_at=read_at)


def test_it_says_once_which_nodes_are_silent(run: Any, sqlite_url: str, tmp_path: Path) -> None:
    """In words, and not beside the problem that says so already."""
    asyncio.run(_seen(sqlite_url))
    given = {"database_url": sqlite_url, "state_dir": str(tmp_path / "state")}
    first, second, third = run("observe", **given).stdout.splitlines()
    assert first == "fra: no answer from pve1, pve2"
    assert second == "ham: no answer from pve1"
    assert third.startswith("muc: complete at 20")


async def _debtor(url: str, factory: Any) -> tuple[str, str]:
    async with open_database(url):
        account = await factory.account()
        await factory.invoice(
            account, overdue_at=SystemClock().now() + timedelta(days=1), overdue_seen_at=None
        )
        idle = await factory.account()
        return account.external_id, idle.external_id


def test_it_looks_ahead(run: Any, sqlite_url: str, factory: Any) -> None:
    """It tells who reaches which stage when, of all or of one account, for people and for programs."""
    name, idle = asyncio.run(_debtor(sqlite_url, factory))
    shown = run("forecast", "--days", "5", database_url=sqlite_url)
    assert shown.exit_code == 0, shown.stderr
    assert f"{name}: FINAL_NOTICE (from PAST_DUE; 0 servers)" in shown.stdout
    assert shown.stdout.endswith("if nothing is paid: 1 to PAST_DUE, 1 to FINAL_NOTICE.\n")
    rows = json.loads(run("forecast", "--days", "7", "--json", database_url=sqlite_url).stdout)
    assert [(row["account"], row["to"]) for row in rows] == [
        (name, "PAST_DUE"), (name, "FINAL_NOTICE"), (name, "SUSPENDED")
    ]  # fmt: skip
    alone = run("forecast", "--days", "7", "--account", idle, database_url=sqlite_url)
    assert "nobody changes a stage" in alone.stdout
    unknown = run("forecast", "--days", "7", "--account", "nope", database_url=sqlite_url)
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert run("forecast", "--days", "0", database_url=sqlite_url).exit_code == 2


async def _latecomer(url: str, factory: Any) -> None:
    async with open_database(url):
        account = await factory.account()
        now = SystemClock().now()
        since = now - timedelta(days=3)
        invoice = await factory.invoice(account, overdue_at=since, overdue_seen_at=since)
        episode = await factory.episode(account, started_at=since, admitted=Stage.PAST_DUE, admitted_at=since)
        await factory.notice(
            account, stage=Stage.PAST_DUE, template="past_due", episode_id=episode.id, invoice_ids=[invoice.id],
            server_ids=[], created_at=since, state=NoticeState.DELIVERED, delivered_at=since,
        )  # fmt: skip


def test_it_counts_by_the_order_of_the_stages(run: Any, sqlite_url: str, factory: Any) -> None:
    """Whoever reaches a stage first, the milder ones are told first."""
    asyncio.run(_latecomer(sqlite_url, factory))
    asyncio.run(_debtor(sqlite_url, factory))
    shown = run("forecast", "--days", "4", database_url=sqlite_url)
    first, second, *_, last = shown.stdout.splitlines()
    assert (": FINAL_NOTICE (" in first, ": PAST_DUE (" in second) == (True, True), shown.stdout
    assert re.search(r"if nothing is paid: 1 to PAST_DUE, \d to FINAL_NOTICE", last), last


def test_it_tries_a_policy(run: Any, sqlite_url: str, factory: Any, tmp_path: Path) -> None:
    """It tells what would differ in the place of the policy of its name, else of standard, and changes nothing."""
    name, _ = asyncio.run(_debtor(sqlite_url, factory))
    file = Path(sqlite_url.removeprefix("sqlite://"))
    tried = tmp_path / "harsher.yaml"
    text = (CHECKOUT / "billing/policies/standard.yaml").read_text()
    tried.write_text(text.replace("PT120H", "PT96H"))
    before = file.read_bytes()
    shown = run("policy", "try", str(tried), "--days", "9", database_url=sqlite_url)
    assert shown.exit_code == 0, shown.stderr
    first, last = shown.stdout.splitlines()
    ahead = re.fullmatch(
        rf"(.+) UTC  {name}: SUSPENDED until (.+) UTC \(today's policy FINAL_NOTICE; 0 servers\)", first
    )
    assert ahead, first
    assert datetime.fromisoformat(ahead[2]) - datetime.fromisoformat(ahead[1]) == timedelta(hours=24)
    assert (
        last == f"{tried} instead of standard: in the next 9 days 1 account or server would stand elsewhere."
    )
    plain = run("policy", "try", str(tried), "--days", "9", "--json", database_url=sqlite_url)
    [row] = json.loads(plain.stdout)
    assert (row["to"], row["until"][:16]) == ("SUSPENDED", ahead[2].replace(" ", "T"))
    tried.write_text(
        text.replace("PT120H", "PT96H").replace("count: 5", "count: 4").replace("count: 30", "count: 20")
    )
    other = run(
        "policy", "try", str(tried), "--days", "9", "--instead-of", "considerate", database_url=sqlite_url
    )
    assert (other.exit_code, "nobody would stand elsewhere" in other.stdout) == (0, True)
    gone = run("policy", "try", str(tried), "--days", "9", "--instead-of", "gone", database_url=sqlite_url)
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "no policy gone is in force" in gone.stderr
    assert file.read_bytes() == before


def test_it_shows_a_policy_as_a_table(run: Any, tmp_path: Path) -> None:
    """On standard output, or between the marks of a document, whose other lines stay as they are."""
    file = str(CHECKOUT / "billing/policies/standard.yaml")
    shown = run("policy", "table", file)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("| stage | when |")
    document = tmp_path / "doc.md"
    document.write_text("# Ours\n<!-- table of standard.yaml -->\nold\n<!-- end of table -->\nrest\n")
    for _ in range(2):
        assert run("policy", "table", file, "--into", str(document)).exit_code == 0
    text = document.read_text()
    assert text == f"# Ours\n<!-- table of standard.yaml -->\n\n{shown.stdout}\n<!-- end of table -->\nrest\n"
    document.write_text("nothing\n")
    refused = run("policy", "table", file, "--into", str(document))
    assert (refused.exit_code, document.read_text()) == (1, "nothing\n")
    assert "has no place for the table" in refused.stderr
