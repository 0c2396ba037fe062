"""`make setup` says what is missing, two of them do not disturb each other, and half of one never counts as whole."""

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SETUP = ("sh", "scripts/setup.sh", "run")
#: Wherever the packages are on this machine, nothing is found.
NO_INDEX = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
NAMES = ("python3", "python3.13", "python3.12", "python3.11")


def _pythons(folder: Path, script: str) -> str:
    """Put a program under each name that the set-up looks for; returns the PATH that begins with them."""
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def _changed(folder: Path) -> dict[Path, int]:
    """Return when each file of a folder was changed last, without the modules that Python compiles at leisure."""
    files = (file for file in folder.rglob("*") if "__pycache__" not in file.parts)
    return {file: file.lstat().st_mtime_ns for file in files}


def test_it_is_done_once_and_then_says_nothing(checkout: Any) -> None:
    """What a developer has set up runs the product too, and a second set-up costs next to nothing."""
    before = _changed(checkout.folder / ".venv")
    done = checkout.run("make", "setup")
    assert (done.process.returncode, done.text) == (0, "")
    assert _changed(checkout.folder / ".venv") == before
    assert not list(checkout.folder.glob(".venv.*"))


@pytest.mark.nightly
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_it_works_with_newer_pythons(newer_pythons: Mapping[str, Any], version: str) -> None:
    """The product is installed and answers with each Python that it promises."""
    if version not in newer_pythons:
        pytest.skip(
            f"Python {version} is not here, or a newer one is and ABEYANCE_TEST_PYTHONS=all is not set"
        )
    copy, setting_up = newer_pythons[version]
    assert setting_up.ended() == 0, setting_up.text
    assert f"Python {version}." in setting_up.text
    schema = copy.run(".venv/bin/abeyance", "schema")
    assert schema.text == (copy.folder / "api/graphql/schema.graphql").read_text(), version
    for command in (
        ["actions", "check"],
        ["policy", "check", "billing/policies/standard.yaml"],
        ["db", "upgrade"],
    ):
        done = copy.run(".venv/bin/abeyance", *command)
        assert done.process.returncode == 0, done.text
    assert copy.run(".venv/bin/abeyance", "plan").text == "Nothing to do (mode plan).\n"


def test_without_ensurepip_one_line_says_what_to_install(bare_checkout: Any, tmp_path: Path) -> None:
    """Debian's Python comes without it; nothing is left behind that looks like an environment."""
    path = _pythons(
        tmp_path / "bin",
        'case "$*" in *ensurepip*) exit 1 ;; esac\nexec /usr/bin/env -i /usr/bin/python3 "$@"',
    )
    done = bare_checkout.run(*SETUP, environment=bare_checkout.environment(PATH=path))
    assert done.process.returncode == 1
    (line,) = done.text.splitlines()
    assert "cannot make virtual environments: install python3." in line
    assert "-venv" in line
    assert not (bare_checkout.folder / ".venv").exists()
    through_make = bare_checkout.run("make", "demo", environment=bare_checkout.environment(PATH=path))
    assert through_make.process.returncode != 0
    assert through_make.text.splitlines()[0] == line


def test_without_a_usable_python_one_line_says_so(bare_checkout: Any, tmp_path: Path) -> None:
    """Too old and too new are both no use."""
    path = _pythons(tmp_path / "bin", "echo 3.10")
    done = bare_checkout.run(*SETUP, environment=bare_checkout.environment(PATH=path))
    assert done.process.returncode == 1
    (line,) = done.text.splitlines()
    assert line.startswith("setup: no Python 3.11, 3.12 or 3.13 was found: install python3 and python3-venv")


def test_without_an_index_one_line_says_so(bare_checkout: Any) -> None:
    """What could not be installed, why perhaps, and where the rest is; and the demo is not begun."""
    environment = bare_checkout.environment(HOME="/proc", LC_ALL="C") | NO_INDEX
    for _ in range(2):  # the second finds a .venv already, and it still is not whole
        done = bare_checkout.run("make", "demo", "ARGS=--once", environment=environment)
        assert done.process.returncode == 2
        faults = [line for line in done.text.splitlines() if line.startswith("setup: ")]
        assert len(faults) == 1, done.text
        assert "No matching distribution found" in faults[0]
        assert "is a package index reachable?" in faults[0]
        assert "Traceback" not in done.text
    assert not (bare_checkout.folder / ".venv/abeyance-setup").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_one_begins_anew(
    bare_checkout: Any, silent_index: str, number: signal.Signals
) -> None:
    """Whatever ends it on the way, the next does not build on what is half there."""
    environment = bare_checkout.environment(PIP_CONFIG_FILE="/dev/null", PIP_INDEX_URL=silent_index)
    running = bare_checkout.start(*SETUP, environment=environment)
    running.until("Installing the locked packages")
    assert running.interrupt(number) < 60
    assert running.process.returncode != 0
    assert "Traceback" not in running.text
    assert not (bare_checkout.folder / ".venv/abeyance-setup").exists()
    again = bare_checkout.start(*SETUP, environment=environment)
    again.until("Preparing .venv")
    again.interrupt(signal.SIGKILL)
    assert not list(bare_checkout.folder.glob(".venv.*"))


def test_it_waits_for_another_one(bare_checkout: Any, locked: Callable[[], None]) -> None:
    """While one set-up has the lock, another touches nothing; then it goes on by itself."""
    running = bare_checkout.start(*SETUP, environment=bare_checkout.environment() | NO_INDEX)
    running.until("Waiting for another set-up")
    assert not (bare_checkout.folder / ".venv").exists()
    locked()
    running.until("Preparing .venv")
    running.interrupt(signal.SIGKILL)


def test_one_that_was_moved_begins_anew(checkout: Any, bare_checkout: Any) -> None:
    """A `.venv` is full of absolute paths: after a move it would run what is left at the old place."""
    venv = bare_checkout.folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").write_text("#!/bin/sh\nexit 0\n")
    (venv / "bin/python").chmod(0o755)
    _, made_from = (checkout.folder / ".venv/abeyance-setup").read_text().splitlines()
    environment = bare_checkout.environment() | NO_INDEX
    (venv / "abeyance-setup").write_text(f"{bare_checkout.folder}\n{made_from}\n")
    assert bare_checkout.run(*SETUP, environment=environment).text == ""
    (venv / "abeyance-setup").write_text(f"{checkout.folder}\n{made_from}\n")
    moved = bare_checkout.start(*SETUP, environment=environment)
    moved.until("Preparing .venv")
    moved.interrupt(signal.SIGKILL)
