"""A checkout of its own in a folder with a blank in its name, and what runs there.

Owns the copy, its one set-up per session and the surroundings: nothing of the user's environment reaches a command but
what pip needs to find its index.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What pip may need to reach its index on this machine. The product reads none of it.
_INDEX = (
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_PROXY", "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
#: For machines that do much else; whoever is done sooner does not wait.
PATIENCE_SECONDS = 400.0


@dataclass(kw_only=True)
class Running:
    """A command that runs in a process group of its own, as one from a terminal does."""

    process: "subprocess.Popen[bytes]"
    output: Path
    began: float

    @property
    def text(self) -> str:
        """What it has printed so far, both streams together."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def until(self, words: str) -> str:
        """Wait until it has printed these words; returns everything it has printed."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words not in (text := self.text):
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{text}"
            assert time.monotonic() < deadline, f"no {words!r} within {PATIENCE_SECONDS:.0f} s:\n{text}"
            time.sleep(0.1)
        return text

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> float:
        """Send a signal to the whole group, as Ctrl-C does, and return how many seconds it took to end."""
        began = time.monotonic()
        os.killpg(self.process.pid, number)
        self.process.wait(timeout=PATIENCE_SECONDS)
        return time.monotonic() - began

    def ended(self, within: float = PATIENCE_SECONDS) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(timeout=within)


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A copy of what belongs to the repository, with or without its `.venv`."""

    folder: Path
    scratch: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Return what `env -i PATH=/usr/bin:/bin` leaves, and what is named here."""
        config = next((file for file in _pip_configs() if file.is_file()), None)
        index = {name: os.environ[name] for name in _INDEX if name in os.environ}
        index |= {"PIP_CONFIG_FILE": str(config)} if config else {}
        return {"PATH": "/usr/bin:/bin"} | index | more

    def start(
        self, *command: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Running:
        """Start a command with a closed standard input."""
        output = self.scratch / f"output-{time.monotonic_ns()}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                # A shell closes the standard input; Python would have to leave it open or give an empty one.
                ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command],
                cwd=cwd or self.folder, env=environment if environment is not None else self.environment(),
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return Running(process=process, output=output, began=time.monotonic())

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Running:
        """Run a command to its end."""
        running = self.start(*command, environment=environment, cwd=cwd)
        try:
            running.ended()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)
        return running

    def processes(self) -> list[str]:
        """Return the processes that still have to do with this checkout or its scratch folder."""
        return [line for line in _processes() if str(self.folder) in line or str(self.scratch) in line]


def _pip_configs() -> list[Path]:
    named = [Path(os.environ["PIP_CONFIG_FILE"])] if "PIP_CONFIG_FILE" in os.environ else []
    return [*named, Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"]


def _processes() -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if arguments and int(entry.name) != os.getpid():
                yield f"{entry.name} in {(entry / 'cwd').readlink()}: {arguments}"


def copy_checkout(folder: Path) -> None:
    """Copy all files that belong to the repository, committed or not, and nothing that is ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _checkout(base: Path, require: Callable[[str], NoReturn]) -> Checkout:
    for program in ("git", "make"):
        if shutil.which(program, path="/usr/bin:/bin") is None:
            require(f"{program} is not in /usr/bin or /bin")
    if not (ROOT / ".git").exists():
        require("this is no git checkout, so what belongs to it is not known")
    folder, scratch = base / "a checkout", base / "scratch"
    scratch.mkdir(parents=True)
    copy_checkout(folder)
    return Checkout(folder=folder, scratch=scratch)


@pytest.fixture(scope="session")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the session's copies; each with its packages is too large to be kept."""
    folder = tmp_path_factory.mktemp("commands")
    yield folder
    # A hundred thousand small files: nobody has to wait for that.
    subprocess.Popen(["/bin/rm", "-rf", str(folder)], start_new_session=True)


@pytest.fixture(scope="session")
def newer_pythons(
    _folder: Path, require: Callable[[str], NoReturn]
) -> Iterator[Mapping[str, tuple[Checkout, Running]]]:
    """Copies that are being set up with newer Pythons, beside the other tests: by default the newest that is here."""
    programs = {version: program for version in ("3.13", "3.12") if (program := _python(version))}
    wanted = programs if os.environ.get("ABEYANCE_TEST_PYTHONS") == "all" else dict([*programs.items()][:1])
    begun: dict[str, tuple[Checkout, Running]] = {}
    for version, program in wanted.items():
        copy = _checkout(_folder / version, require)
        environment = copy.environment(HOME="/proc")
        begun[version] = (copy, copy.start("make", "setup", f"PYTHON={program}", environment=environment))
    yield begun
    for _, running in begun.values():
        with suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)


def _python(version: str) -> str | None:
    homes = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for found in (shutil.which(f"python{version}"), *map(str, reversed(homes))):
        # A name that leads to nothing is common where several versions are managed.
        if (
            found
            and subprocess.run([found, "-c", "import ensurepip"], capture_output=True, check=False).returncode
            == 0
        ):
            return found
    return None


@pytest.fixture(scope="session")
def checkout(_folder: Path, require: Callable[[str], NoReturn]) -> Checkout:
    """A fresh copy that was set up once, by two makes at the same time, with the least environment there is."""
    fresh = _checkout(_folder / "the least environment", require)
    environment = fresh.environment(LC_ALL="C", HOME="/proc")
    both = [fresh.start("make", "setup-dev", environment=environment) for _ in range(2)]
    assert [one.ended() for one in both] == [0, 0], "\n".join(one.text for one in both)
    said = [one.text for one in both]
    assert sum("Waiting for another set-up" in text for text in said) == 1, said
    assert sum("Preparing .venv" in text for text in said) == 1, said
    return fresh


@pytest.fixture
def bare_checkout(tmp_path: Path, require: Callable[[str], NoReturn]) -> Checkout:
    """A fresh copy without a `.venv`."""
    return _checkout(tmp_path, require)


@pytest.fixture
def silent_index() -> Iterator[str]:
    """The URL of a package index that takes a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/simple"


@pytest.fixture
def locked(bare_checkout: Checkout) -> Iterator[Callable[[], None]]:
    """Holds the lock of a set-up in the bare checkout; call it to let go."""
    with (bare_checkout.folder / "scripts/setup.sh").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(file, fcntl.LOCK_UN)
