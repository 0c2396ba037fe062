"""Fixtures that every test may use: databases that are already migrated, a clock that stands still, rows.

Owns the one rule about missing parts of the machine: a test that lacks something is skipped with the reason, and fails
with it when `ABEYANCE_TEST_REQUIRE=all` is set.
"""

import asyncio
import ctypes
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import asyncpg
import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, settings

from api.database import open_database, upgrade
from billing.clock import ManualClock
from billing.stripe.card_gateway import CardGateway
from billing.stripe.gateway import StripeGateway

T = TypeVar("T")
_WORTH_TELLING_SECONDS = 60.0
_numbers = count(1)
# The usual one shows every variable of every frame. Nothing else of the process goes on meanwhile, which on a busy
# machine is longer than some deadlines.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback
# How long an example takes is the machine's affair: Hypothesis would call one of 0.2 s a failure.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def _lacking(reason: str) -> NoReturn:
    if os.environ.get("ABEYANCE_TEST_REQUIRE") == "all":
        pytest.fail(f"{reason} (ABEYANCE_TEST_REQUIRE=all)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require() -> Callable[[str], NoReturn]:
    """Call it with what is missing: skips the test, or fails it when everything is required."""
    return _lacking


@pytest.fixture
def clock() -> ManualClock:
    """A clock at Friday 2026-11-20, 09:00 UTC."""
    return ManualClock(datetime(2026, 11, 20, 9, tzinfo=UTC))


@pytest.fixture
def factory(clock: ManualClock) -> Any:
    """Makes valid rows in the open database: see `tests/factories.py`."""
    return _module("factories").Factory(clock)


@pytest.fixture
def told_rounds(record_property: Callable[[str, object], None]) -> Callable[[int, int], None]:
    """Call it with how many rounds a race ran and in how many processes: the end of the suite's output says so."""
    return lambda rounds, processes: record_property("race", f"{rounds} rounds, {processes} processes")


@pytest.fixture
def receiver() -> Iterator[Any]:
    """A real HTTP server that keeps what it was sent: see `tests/receiver.py`."""
    made = _module("receiver").Receiver()
    server = made.start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser(tmp_path: Path) -> Callable[[], Any]:
    """Opens a page of a real Chromium that reaches this machine alone: see `tests/browser.py`."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        _lacking("Chromium is missing: install Debian's chromium")
    return lambda: _module("browser").opened(program, tmp_path / "browser")


@pytest.fixture
def wallet(clock: ManualClock) -> Any:
    """Puts money into the purses of accounts of the open database: see `tests/wallet.py`."""
    return _module("wallet").Wallet(clock)


@pytest.fixture
def simulator(clock: ManualClock) -> Any:
    """An empty simulated Stripe account on the test's clock: see `tests/stripe_peer.py`."""
    return _module("stripe_peer").make_simulator(clock)


@pytest.fixture
def wire(simulator: Any) -> Any:
    """The way to it, which counts requests."""
    return _module("stripe_peer").Wire(simulator)


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch, wire: Any) -> Any:
    """A process that dies wherever a test lets it: see `tests/crashes.py`."""
    return _module("crashes").Deaths(monkeypatch, wire)


@pytest.fixture
def theatre(tmp_path: Path, sqlite_url: str) -> Iterator[Any]:
    """Where whole stories are staged, on a migrated database: see `tests/staging.py`.

    Each ends by looking for calls that would have destroyed something.
    """
    staged = _module("staging").Theatre(folder=tmp_path)
    yield staged
    assert staged.destroying() == []


@pytest.fixture
def situation(theatre: Any) -> Any:
    """Opens an installation whose clock stands in the test's hands: see `tests/moved.py`."""
    return _module("moved").opener(theatre)


@pytest.fixture
def validation() -> Any:
    """Tells the validation of the launch policy on a ground of the test's choice: see `tests/validation.py`."""
    return _module("validation").Validation


@pytest_asyncio.fixture
async def gateway(wire: Any) -> AsyncIterator[StripeGateway]:
    """The product's gateway to it."""
    made: StripeGateway = _module("stripe_peer").make_gateway(wire)
    yield made
    await made.close()


@pytest.fixture
def card_gateway(gateway: StripeGateway) -> CardGateway:
    """The product's gateway to it for cards."""
    return CardGateway(gateway)


def _module(name: str) -> Any:
    # The tests are no package, so a module beside them is loaded by its path, once.
    full_name = f"abeyance_tests_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, Path(__file__).parent / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[full_name] = module
    return sys.modules[full_name]


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own, leaving the test's loop alone."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    _run(upgrade(f"sqlite://{file}"))
    return file


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a migrated, empty SQLite database of this test alone."""
    file = tmp_path / "abeyance.db"
    shutil.copyfile(_sqlite_template, file)
    return f"sqlite://{file}"


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[str]:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if not folders:
        _lacking("PostgreSQL's server binaries are missing: install Debian's postgresql")
    programs = folders[-1].parent
    # PostgreSQL refuses to run as root.
    owner = pwd.getpwnam("postgres" if _exists("postgres") else "nobody") if os.geteuid() == 0 else None
    person: dict[str, Any] = (
        {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}
    )
    home = Path(tempfile.mkdtemp(prefix="abeyance-postgres-"))
    if owner:
        os.chown(home, owner.pw_uid, owner.pw_gid)
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    made = subprocess.run(
        [programs / "initdb", "-D", home / "data", "-U", "abeyance", "-A", "trust", "-E", "UTF8", "--no-sync"],
        cwd=home, env=environment, capture_output=True, text=True, timeout=200, check=False, **person,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    port = _free_port()
    settings = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off",
        "synchronous_commit": "off", "full_page_writes": "off", "max_connections": 60, "autovacuum": "off",
    }  # fmt: skip
    arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", home / "data", *arguments],
            cwd=home, env=environment, stdout=log, stderr=log, **person,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - calls the kernel and nothing else
        )  # fmt: skip
    url = f"postgres://abeyance@127.0.0.1:{port}"
    try:
        _run(_answers(f"{url}/postgres", server, home / "log"))
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=120)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Call it for a port of this machine that stays free until a server of another process listens there."""
    return _free_port


def _free_port() -> int:
    # Below those that the kernel gives to connections and to whoever asks for any: one of them may be gone in a moment.
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # 1: PR_SET_PDEATHSIG


async def _answers(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            await (await asyncpg.connect(url)).close()
            return
        except (OSError, asyncpg.PostgresError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            await asyncio.sleep(0.05)


async def _administer(server: str, statement: str) -> None:
    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def _postgres_template(_postgres_server: str) -> str:
    _run(_administer(_postgres_server, "CREATE DATABASE template_abeyance"))
    _run(upgrade(f"{_postgres_server}/template_abeyance"))
    return "template_abeyance"


@pytest.fixture
def empty_postgres_url(_postgres_server: str) -> Iterator[str]:
    """The URL of a PostgreSQL database of this test alone, without a table."""
    name = f"empty_{next(_numbers)}"
    _run(_administer(_postgres_server, f"CREATE DATABASE {name}"))
    yield f"{_postgres_server}/{name}"
    _run(_administer(_postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def postgres_url(_postgres_server: str, _postgres_template: str) -> Iterator[str]:
    """The URL of a migrated, empty PostgreSQL database of this test alone."""
    name = f"test_{next(_numbers)}"
    _run(_administer(_postgres_server, f"CREATE DATABASE {name} TEMPLATE {_postgres_template}"))
    yield f"{_postgres_server}/{name}"
    _run(_administer(_postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database, once on SQLite and once on PostgreSQL; not opened."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a table, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_postgres_url"))


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[str]:
    """Opens the database for the test, once on SQLite and once on PostgreSQL; its URL."""
    async with open_database(database_url):
        yield database_url


@pytest_asyncio.fixture
async def sqlite_database(sqlite_url: str) -> AsyncIterator[str]:
    """Opens a SQLite database alone, for tests in which the kind of database does not matter; its URL."""
    async with open_database(sqlite_url):
        yield sqlite_url


#: Where PostgreSQL itself is what is tried: constraints, claims, races, whole stories. Elsewhere its turn is nightly.
_POSTGRES_MATTERS = (
    "api/migrations",
    "api/test_catalog.py",
    "api/test_database.py",
    "api/test_leadership.py",
    "api/graphql/test_both_databases.py",
    "billing/races",
    "billing/stripe/test_processing.py",
    "billing/test_approvals.py",
    "billing/test_audit_seal.py",
    "billing/test_ledger.py",
    "billing/test_notices.py",
    "billing/test_settling.py",
    "billing/test_vouchers.py",
    "reconciler/test_commit.py",
    "reconciler/test_outgoing_delivery.py",
    "reconciler/test_restless.py",
    "reconciler/test_restore_record.py",
    "reconciler/test_standing.py",
    "reconciler/test_story.py",
    "scenarios",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the commands' tests in one process, and leave to the night what the same test on SQLite shows by day.

    The commands' tests share a checkout that takes half a minute to set up.
    """
    root = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(root) if item.path.is_relative_to(root) else item.path
        if place.parts[0] == "commands":
            item.add_marker(pytest.mark.xdist_group("commands"))
        on_postgres = "postgres" in getattr(getattr(item, "callspec", None), "id", "").split("-")
        if on_postgres and not any(place.is_relative_to(part) for part in _POSTGRES_MATTERS):
            item.add_marker(pytest.mark.nightly)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how the races were run, and what each part took: seconds of its workers, set-up and tear-down included."""
    took: Counter[str] = Counter()
    races: dict[str, object] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                took["/".join(Path(report.nodeid.partition("::")[0]).parts[1:-1][:2])] += report.duration
                for name, told in report.user_properties:
                    if name == "race":
                        races[report.nodeid] = told
    if races:
        terminalreporter.section("races")
    for test, told in sorted(races.items()):
        terminalreporter.write_line(f"{told}: {test.rpartition('/')[2]}")
    if took.total() < _WORTH_TELLING_SECONDS:
        return
    terminalreporter.section("what each part took, in seconds of a worker")
    for part, seconds in took.most_common():
        terminalreporter.write_line(
            f"{seconds:7.1f}  {100 * seconds / took.total():4.1f} %  {part or 'house'}"
        )
