"""What is wrong with the configuration gives one clear line per fault through the real commands, and does nothing."""

# ruff: noqa: E501 - a table is read row by row

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
import yaml
from typer.testing import CliRunner

from api.cli.commands import app
from api.settings import PREFIX

ROOT = Path(__file__).resolve().parents[2]
#: Stands in every wrong value that could be a secret, and in no message.
SECRET = "hunter2-is-secret"
SMALLEST = "stages:\n  past_due: {after: PT0S, notice: payment_overdue}\n  suspended: {after: PT120H}\n"
Runs = Callable[..., "Ended"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    lines: list[str]


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """One wrong configuration: what is written over a right one, the command, and what its only line has to name."""

    command: tuple[str, ...] = ("plan",)
    names: tuple[str, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)


@pytest.fixture
def folder(tmp_path: Path, _sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder of a right installation: settings, policies, playbooks, inventory, a migrated database."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    work = tmp_path / "work"
    work.mkdir()
    shutil.copytree(ROOT / "billing/policies", work / "policies")
    shutil.copytree(ROOT / "inventory/demo", work / "inventory")
    shutil.copyfile(_sqlite_template, work / "abeyance.db")
    monkeypatch.chdir(work)
    monkeypatch.setenv("ABEYANCE_DEMO_TOKEN", SECRET)
    yield work
    structlog.reset_defaults()


def _settings(folder: Path, **more: object) -> None:
    values = {"policies": "policies", "playbooks": str(ROOT / "playbooks"), "inventory": "inventory",
              "state_dir": "state", "listen": "127.0.0.1:0"} | more  # fmt: skip
    lines = [
        f"{name} = {value!r}" if isinstance(value, str) else f"{name} = {value}"
        for name, value in values.items()
    ]
    (folder / "abeyance.toml").write_text("\n".join(lines) + "\n")


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _run(*arguments: str) -> Ended:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(code=result.exit_code, output=result.stdout, lines=result.stderr.splitlines())


def _is_refused(folder: Path, wrong: Wrong, run: Callable[..., Ended] = _run) -> None:
    _settings(folder, **wrong.settings)
    for name, content in wrong.files.items():
        file = folder / name
        if content is None:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = _contents(folder)
    ended = run(*wrong.command)
    assert (ended.code, ended.output) == (1, ""), ended
    (line,) = ended.lines
    assert line.startswith("abeyance: ")
    for name in wrong.names:
        assert name in line, line
    assert SECRET not in line
    assert _contents(folder) == before


def _hosts(**changes: object) -> str:
    tree = yaml.safe_load((ROOT / "inventory/demo/hosts.yml").read_text())
    variables = tree["all"]["children"]["demo"]["vars"]
    for name, value in changes.items():
        variables[name] = value
        if value is ...:
            del variables[name]
    return yaml.safe_dump(tree)


SETTINGS = {
    "a mode that does not exist": Wrong(settings={"mode": "on"}, names=("abeyance.toml: mode", "off, plan, apply")),
    "a number as text": Wrong(settings={"tick_seconds": "often"}, names=("abeyance.toml: tick_seconds", "example: 60")),
    "a misspelt name": Wrong(settings={"databse_url": SECRET}, names=("databse_url", "did you mean database_url?")),
    "a table": Wrong(files={"abeyance.toml": '[database]\nurl = "x"\n'}, names=("abeyance.toml: database", "not a setting")),
    "no TOML": Wrong(files={"abeyance.toml": f'mode = "plan\nstripe_api_key = "{SECRET}"\n'}, names=("abeyance.toml", "line 1")),
    "no text": Wrong(files={"abeyance.toml": b"\xff\xfe"}, names=("abeyance.toml", "UTF-8")),
    "a database that is none": Wrong(settings={"database_url": f"mysql://root:{SECRET}@db/x"}, names=("database_url", "mysql", "example")),
    "a port that is none":
        Wrong(command=("serve",), settings={"listen": "127.0.0.1:99999"}, names=("listen", "65535")),
    "mail without a scheme": Wrong(settings={"smtp_url": f"user:{SECRET}@mail:587", "mail_from": "a@b.example"}, names=("smtp_url", "smtp+starttls")),
    "mail without a sender": Wrong(settings={"smtp_url": f"smtp://u:{SECRET}@mail"}, names=("ABEYANCE_MAIL_FROM", "needed beside smtp_url")),
    "a publishable key": Wrong(settings={"stripe_api_key": f"pk_live_{SECRET}"}, names=("stripe_api_key", "sk_ or rk_")),
    "an account that is none": Wrong(settings={"stripe_account": "cus_1"}, names=("stripe_account", "acct_")),
    "a webhook's secret that is none": Wrong(settings={"stripe_webhook_secret": SECRET}, names=("stripe_webhook_secret", "whsec_")),
    "an age that is none": Wrong(settings={"facts_max_age": "15 minutes"}, names=("facts_max_age", "PT15M")),
    "half an identity provider": Wrong(settings={"jwt_issuer": "https://id.example"}, names=("ABEYANCE_JWT_AUDIENCE", "jwt_issuer")),
    "from the environment": Wrong(environment={"ABEYANCE_MODE": "on"}, names=("ABEYANCE_MODE", "off, plan, apply")),
    "a misspelt variable": Wrong(environment={"ABEYANCE_SMTP_URI": SECRET}, names=("ABEYANCE_SMTP_URI", "did you mean smtp_url?")),
}  # fmt: skip

POLICIES = {
    "an unknown key": Wrong(files={"policies/standard.yaml": SMALLEST + "tolerence: {EUR: 5}\n"}, names=("policies/standard.yaml:4", "tolerence", "did you mean tolerance?")),
    "a blank length": Wrong(files={"policies/standard.yaml": SMALLEST.replace("PT120H", "")}, names=("standard.yaml:3", "stages.suspended.after", "blank")),
    "a negative length": Wrong(files={"policies/standard.yaml": SMALLEST.replace("PT120H", "-PT1H")}, names=("standard.yaml:3", "after", "negative")),
    "stages out of order": Wrong(files={"policies/standard.yaml": "stages:\n  suspended: {after: PT9H}\n  past_due: {after: PT0S, notice: payment_overdue}\n"}, names=("standard.yaml:", "out of order")),
    "an effect that goes missing": Wrong(files={"policies/standard.yaml": SMALLEST.replace("PT120H", "PT120H, effects: [stop_servers]") + "  retained: {after: P30D}\n"}, names=("retained.effects", "add stop_servers")),
    "a notice without a template": Wrong(files={"policies/standard.yaml": SMALLEST.replace("PT120H", "PT120H, notice: nonsense")}, names=("suspended.notice", "'nonsense'", "use one of")),
    "a looser guard": Wrong(files={"policies/considerate.yaml": SMALLEST + "guard: {breaker_factor: 900}\n"}, names=("considerate.yaml:4", "guard.breaker_factor", "write at most 3")),
    "no YAML": Wrong(files={"policies/standard.yaml": "stages: {\n"}, names=("standard.yaml:", "not valid YAML")),
    "no text": Wrong(files={"policies/standard.yaml": b"\xff\xfe"}, names=("standard.yaml", "not UTF-8", "save it as UTF-8")),
    "no standard": Wrong(files={"policies/standard.yaml": None}, names=("standard.yaml: does not exist", "copy standard.yaml")),
    "no folder": Wrong(settings={"policies": "/nowhere"}, names=("/nowhere", "No such file or directory", "ABEYANCE_POLICIES")),
    "another ending": Wrong(files={"policies/mine.yml": SMALLEST}, names=("mine.yml", "rename it to end in .yaml")),
    "told by policy check": Wrong(command=("policy", "check", "policies/standard.yaml"), files={"policies/standard.yaml": SMALLEST + "x: 1\n"}, names=("policies/standard.yaml:4", "x", "unknown")),
    "a file that is not there": Wrong(command=("policy", "check", "nowhere.yaml"), names=("nowhere.yaml", "cannot be read")),
}  # fmt: skip

INVENTORY = {
    "a misspelt variable": Wrong(files={"inventory/hosts.yml": _hosts(site_endpiont="x")}, names=("inventory/hosts.yml", "demo.site_endpiont", "unknown", "site_endpoint")),
    "a platform that is none": Wrong(files={"inventory/hosts.yml": _hosts(site_platform="vmware")}, names=("demo.site_platform", "'vmware'", "proxmox")),
    "no endpoint": Wrong(files={"inventory/hosts.yml": _hosts(site_endpoint=...)}, names=("demo.site_endpoint", "is missing")),
    "an endpoint with a login": Wrong(files={"inventory/hosts.yml": _hosts(site_endpoint="root@pve:8006")}, names=("demo.site_endpoint", "https://host:port")),
    "no token": Wrong(files={"inventory/hosts.yml": _hosts(site_token_env=...)}, names=("demo.site_token_file", "exactly one of")),
    "a mode that is none": Wrong(files={"inventory/hosts.yml": _hosts(site_mode="off")}, names=("demo.site_mode", "plan, apply")),
    "one pool for all": Wrong(files={"inventory/hosts.yml": _hosts(site_pool_pattern="customers")}, names=("demo.site_pool_pattern", "customer-{account}")),
    "a role without its pool": Wrong(files={"inventory/hosts.yml": _hosts(site_pool_pattern=...)}, names=("demo.site_customer_role", "site_pool_pattern")),
    "no grace": Wrong(files={"inventory/hosts.yml": _hosts(shutdown_grace_seconds=0)}, names=("demo.shutdown_grace_seconds", "from 1 to 3600")),
    "no YAML": Wrong(files={"inventory/hosts.yml": "all: {\n"}, names=("inventory/hosts.yml", "line")),
    "something else at the top": Wrong(files={"inventory/hosts.yml": "demo: {}\n"}, names=("inventory/hosts.yml", "all", "put everything below `all:`")),
    "a fault in group_vars": Wrong(files={"inventory/group_vars/demo.yml": "node_in_flight: many\n"}, names=("inventory/group_vars/demo.yml", "node_in_flight", "'many'")),
    "no folder": Wrong(settings={"inventory": "/nowhere"}, names=("/nowhere", "does not exist", "ABEYANCE_INVENTORY")),
    "at the start of serving": Wrong(command=("serve",), files={"inventory/hosts.yml": _hosts(site_mode="off")}, names=("demo.site_mode",)),
}  # fmt: skip

STATE = {
    "no database": Wrong(files={"abeyance.db": None}, names=("abeyance.db", "does not exist", "abeyance db upgrade")),
    "no database, for serving": Wrong(command=("serve",), files={"abeyance.db": None}, names=("abeyance.db", "does not exist", "abeyance db upgrade")),
    "no database, for a token": Wrong(command=("token", "create", "--role", "ADMIN", "--name", "x"), files={"abeyance.db": None}, names=("abeyance db upgrade",)),
    "no database, to check": Wrong(command=("db", "check"), files={"abeyance.db": None}, names=("no migration", "abeyance db upgrade")),
    "no database, one by mistake": Wrong(settings={"database_url": "sqlite://no/such/folder.db"}, names=("ABEYANCE_DATABASE_URL", "no/such", "does not exist")),
    "an empty database": Wrong(files={"abeyance.db": b""}, names=("abeyance.db", "is empty", "abeyance db upgrade")),
    "something else": Wrong(files={"abeyance.db": b"not a database at all, but a letter"}, names=("abeyance.db", "not a database")),
    "something else, to migrate": Wrong(command=("db", "upgrade"), files={"abeyance.db": b"not a database at all, but a letter"}, names=("not a database",)),
    "a database that does not answer": Wrong(settings={"database_url": f"postgres://u:{SECRET}@127.0.0.1:1/x"}, names=("ABEYANCE_DATABASE_URL", "x on 127.0.0.1:1", "check that it is running")),
    "the same, for serving": Wrong(command=("serve",), settings={"database_url": f"postgres://u:{SECRET}@127.0.0.1:1/x"}, names=("ABEYANCE_DATABASE_URL",)),
    "the same, to migrate": Wrong(command=("db", "upgrade"), settings={"database_url": f"postgres://u:{SECRET}@127.0.0.1:1/x"}, names=("ABEYANCE_DATABASE_URL",)),
    "runs in a file": Wrong(settings={"state_dir": "abeyance.toml/runs"}, names=("ABEYANCE_STATE_DIR", "is not a folder", ".abeyance")),
    "a chat that does not exist": Wrong(settings={"staff_notify": f"nonsense-{SECRET}"}, names=("ABEYANCE_STAFF_NOTIFY", "URL 1", "discord://")),
    "no playbooks": Wrong(settings={"playbooks": "/nowhere"}, names=("/nowhere/actions", "ABEYANCE_PLAYBOOKS")),
    "a server that is none": Wrong(command=("explain", "nonsense"), names=("there is no server nonsense",)),
    "a token that is none": Wrong(command=("token", "revoke", "--name", "nonsense"), names=("no live token is called nonsense",)),
    "a customer without account": Wrong(command=("token", "create", "--role", "CUSTOMER", "--name", "x"), names=("CUSTOMER", "names its account")),
    "a token that has no end": Wrong(command=("token", "create", "--role", "ADMIN", "--name", "x", "--lasts", "1 year"), names=("--lasts", "PT72H")),
    "a speed that is none": Wrong(command=("demo", "--speed", "fast"), names=("--speed fast", "72h=30s")),
    "a speed that goes backwards": Wrong(command=("demo", "--once", "--speed", "1s=2s"), names=("--speed 1s=2s", "left side")),
}  # fmt: skip

TABLES = {"settings": SETTINGS, "policies": POLICIES, "inventory": INVENTORY, "state": STATE}


@pytest.mark.parametrize(
    ("table", "case"), [(name, case) for name, table in TABLES.items() for case in table]
)
def test_what_is_wrong_is_told_on_one_line_and_nothing_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, table: str, case: str
) -> None:
    """File or variable, field, fault and remedy; no traceback, no secret, nothing on the way to being done."""
    wrong = TABLES[table][case]
    for name, value in wrong.environment.items():
        monkeypatch.setenv(name, value)
    _is_refused(folder, wrong)


METADATA = {
    "an unknown key": ("  satisfies:", "  destructive: false\n  satisfies:", "action.destructive: is unknown"),
    "an unknown gap": ("power: stopped", "power: destroyed", "action.satisfies: {power: destroyed} is unknown"),
    "a platform without its file": ("[proxmox, lxc]", "[proxmox, xen]", "there is no platforms/xen/stop_guests.yml"),
    "no time": ("timeout_seconds: ", "timeout_seconds: -", "give whole seconds from 1 to"),
    "no YAML": ("action:\n", "action: {\n", "make it readable YAML"),
}  # fmt: skip


@pytest.mark.parametrize("command", [("plan",), ("actions", "check"), ("actions", "list")], ids=" ".join)
@pytest.mark.parametrize("case", METADATA)
def test_wrong_metadata_stops_every_command_that_needs_it(
    folder: Path, case: str, command: tuple[str, ...]
) -> None:
    """One line names file, field and remedy, whichever command met it."""
    old, new, said = METADATA[case]
    shutil.copytree(ROOT / "playbooks", folder / "playbooks", ignore=shutil.ignore_patterns("__pycache__"))
    name = "playbooks/actions/stop_guests.meta.yml"
    text = (folder / name).read_text()
    assert old in text
    wrong = Wrong(
        command=command,
        settings={"playbooks": "playbooks"},
        files={name: text.replace(old, new)},
        names=(name, said),
    )
    _is_refused(folder, wrong)


def test_every_fault_has_a_line_of_its_own(folder: Path) -> None:
    """Nobody mends one to be told of the next."""
    _settings(folder, mode="on", tick_seconds=0)
    assert [line.split(": ")[2] for line in _run("plan").lines] == ["mode", "tick_seconds"]
    _settings(folder)
    (folder / "policies/standard.yaml").write_text(SMALLEST + "x: 1\ny: 2\n")
    (folder / "policies/considerate.yaml").write_text("[]\n")
    assert len(_run("plan").lines) == 3
    shutil.copytree(ROOT / "playbooks", folder / "playbooks", ignore=shutil.ignore_patterns("__pycache__"))
    for action in ("stop_guests", "start_guests"):
        play = folder / f"playbooks/actions/{action}.yml"
        play.write_text(
            play.read_text().replace(
                "tasks:", "tasks:\n    - name: Away\n      ansible.builtin.command: rm -rf /\n", 1
            )
        )
    _settings(folder, playbooks="playbooks")
    ended = _run("actions", "check")
    assert ended.code == 1
    assert all(line.startswith("abeyance: ") for line in ended.lines)
    assert {"start_guests.yml", "stop_guests.yml"} <= {
        Path(line.split(": ")[1].split(":")[0]).name for line in ended.lines
    }


def test_a_newer_database_is_left_alone(folder: Path) -> None:
    """A program that is older than the data says so, and neither works on it nor migrates it."""
    with sqlite3.connect(folder / "abeyance.db") as database:
        database.execute(
            "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('abeyance', '9999_later', '2030-01-01')"
        )
    database.close()
    for command in (("plan",), ("serve",), ("db", "upgrade")):
        _is_refused(folder, Wrong(command=command, names=("9999_later", "newer than the program")))


def test_a_taken_port_is_told_before_anything_begins(folder: Path) -> None:
    """The address, why, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        _is_refused(
            folder,
            Wrong(
                command=("serve",),
                settings={"listen": address},
                names=("ABEYANCE_LISTEN", address, "name another port"),
            ),
        )


UNREADABLE = {
    "no token in the environment": ({"site_token_env": "ABEYANCE_TEST_NOWHERE"}, ("demo.site_token_env", "set ABEYANCE_TEST_NOWHERE")),
    "no token in its file": ({"site_token_env": ..., "site_token_file": "/nowhere/token"}, ("demo.site_token_file", "/nowhere/token")),
    "no authority": ({"site_endpoint": "https://127.0.0.1:1", "site_ca_file": "/nowhere/ca.pem"}, ("demo", "/nowhere/ca.pem")),
    "nobody there": ({"site_endpoint": "http://127.0.0.1:1"}, ("demo", "127.0.0.1:1")),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_site_that_cannot_be_read_is_told(folder: Path, case: str) -> None:
    """`observe` says for the site what is wrong and ends with 1; the other sites would have been read."""
    changes, names = UNREADABLE[case]
    _settings(folder)
    (folder / "inventory/hosts.yml").write_text(_hosts(**changes))
    ended = _run("observe")
    (line,) = ended.output.splitlines()
    for name in names:
        assert name in line, line
    assert ended.code == 1
    assert ended.lines[-1] == "abeyance: not every site could be read; what was said of each says why"
    assert not [said for said in (*ended.lines, line) if SECRET in said or "Traceback" in said]


USAGE = [
    ("nonsense",), ("plan", "--nonsense"), ("explain",), ("action", "observe"), ("policy", "check"), ("db",),
    ("token", "create", "--role", "KING", "--name", "x"), ("token", "create", "--role", "ADMIN"),
    ("simulator", "proxmox", "--port", "many"), ("simulator", "stripe", "--port", "70000"), ("demo", "--speed"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_wrong_usage_ends_with_2_and_does_nothing(folder: Path, arguments: tuple[str, ...]) -> None:
    """What was wrong, and how the command is used."""
    _settings(folder)
    before = _contents(folder)
    ended = _run(*arguments)
    assert ended.code == 2
    said = "\n".join((ended.output, *ended.lines))
    assert "Usage: abeyance" in said or "Error: " in said
    assert "Traceback" not in said
    assert _contents(folder) == before


def _process(*arguments: str) -> Ended:
    done = subprocess.run(
        [Path(sys.executable).with_name("abeyance"), *arguments],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return Ended(code=done.returncode, output=done.stdout, lines=done.stderr.splitlines())


@pytest.mark.parametrize(
    ("table", "case"),
    [("settings", "a publishable key"), ("policies", "an unknown key"), ("inventory", "at the start of serving"),
     ("state", "no database, for serving"), ("state", "the same, for serving")],
)  # fmt: skip
def test_a_real_process_ends_the_same_way(folder: Path, table: str, case: str) -> None:
    """What the tables show of the commands holds for the program: it ends, with the same one line."""
    _is_refused(folder, TABLES[table][case], _process)


@pytest.fixture
def stripe() -> Iterator[tuple[str, str]]:
    """A Stripe account in a process of its own: its URL and its key."""
    program = Path(sys.executable).with_name("abeyance")
    with subprocess.Popen(
        [program, "simulator", "stripe", "--port", "0"],
        env={"PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        yield process.stdout.readline().strip(), process.stderr.readline().strip().removeprefix("key: ")
        process.terminate()


def test_a_key_of_another_stripe_account_is_told(folder: Path, stripe: tuple[str, str]) -> None:
    """Nothing is read with it; the line names both settings, the account that was found and the one that is pinned."""
    url, key = stripe
    (folder / "inventory/hosts.yml").unlink()
    _settings(folder, stripe_api_base=url, stripe_api_key=key, stripe_account="acct_1Another")
    said = [line for line in _run("apply", "--yes").lines if "stripe.not_swept" in line]
    (line,) = said
    for name in ("belongs to acct_", "acct_1Another", "ABEYANCE_STRIPE_API_KEY", "ABEYANCE_STRIPE_ACCOUNT"):
        assert name in line
    assert key not in line
    _settings(folder, stripe_api_base=url, stripe_api_key=f"sk_test_{SECRET}")
    said = [line for line in _run("apply", "--yes").lines if "stripe.not_swept" in line]
    (line,) = said
    assert "401" in line
    assert "check the API key" in line
    assert SECRET not in line
