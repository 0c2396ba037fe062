"""`make demo` and `make test` in hostile surroundings: nothing of the user's counts, and nothing is left over."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.slow

USUAL_PORT = 8080
#: What an operator of a real installation may have around; nothing of it may reach the demo.
SOMEBODYS = {
    "ABEYANCE_DATABASE_URL": "sqlite:///nowhere/abeyance.db",
    "ABEYANCE_MODE": "off",
    "ABEYANCE_LISTEN": "nonsense",
    "ABEYANCE_INVENTORY": "/nowhere",
    "ABEYANCE_POLICIES": "/nowhere",
    "ABEYANCE_STRIPE_API_KEY": "sk_live_somebodys",
    "ABEYANCE_SMTP_URL": "smtp://mail.somebody.example",
    "ABEYANCE_MISSPELT": "1",
    "ANSIBLE_CONFIG": "/nowhere/ansible.cfg",
    "ANSIBLE_STDOUT_CALLBACK": "nonsense",
    "PYTHONPATH": "/nowhere",
}
ASKED = "{ reconciler { mode } accounts(first: 50) { edges { node { externalId standing { stage } } } } }"


@pytest.fixture
def usual_port_taken() -> Iterator[None]:
    """Something listens on the port that the demo would take."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else has it already, which is the same
            taken.bind(("127.0.0.1", USUAL_PORT))
            taken.listen()
        yield


@pytest.fixture
def somebodys_files(checkout: Any) -> Iterator[None]:
    """The working folder holds the database and the settings of a real installation."""
    files = {"abeyance.db": "somebody's database", "abeyance.toml": 'mode = "apply"\nnonsense = 1\n'}
    for name, text in files.items():
        (checkout.folder / name).write_text(text)
    yield
    for name in files:
        (checkout.folder / name).unlink()


def _temporary(checkout: Any, name: str) -> Path:
    folder = checkout.scratch / name
    folder.mkdir()
    return Path(folder)


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return all files outside of `.venv` with size and time of change."""
    found = {}
    for file in folder.rglob("*"):
        name = str(file.relative_to(folder))
        if file.is_file() and not name.startswith(".venv/") and "__pycache__" not in file.parts:
            found[name] = (file.stat().st_size, file.stat().st_mtime_ns)
    return found


def _nothing_left(checkout: Any, temporary: Path) -> None:
    deadline = time.monotonic() + 60
    while (left := checkout.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [line for line in left if str(temporary) in line]
    assert list(temporary.iterdir()) == []


def _asked(introduction: str) -> dict[str, Any]:
    """Ask the API of a demo what an admin would ask, with what the demo has printed."""
    url = re.search(r"GraphQL and its page +(\S+)", introduction)
    token = re.search(r"^ +admin +(\S+)$", introduction, re.MULTILINE)
    assert url
    assert token
    assert str(USUAL_PORT) not in url[1]
    headers = {"Authorization": f"Bearer {token[1]}"}
    answer = httpx.post(url[1], json={"query": ASKED}, headers=headers, timeout=60)
    data: dict[str, Any] = answer.json()["data"]
    return data


def test_the_story_is_told_beside_another_demo_and_touches_nothing(
    checkout: Any, usual_port_taken: None, somebodys_files: None
) -> None:
    """With a bare PATH, no locale, a read-only home, a closed input and somebody's settings all around."""
    before = _files(checkout.folder)
    shown_in, told_in = _temporary(checkout, "shown"), _temporary(checkout, "told")
    least = checkout.environment(TMPDIR=str(shown_in))
    show = checkout.start("make", "demo", environment=least)
    try:
        introduction = show.until("Plans as they change")
        hostile = checkout.environment(LC_ALL="C", HOME="/proc", TMPDIR=str(told_in), **SOMEBODYS)
        story = checkout.run("make", "demo", "ARGS=--once", environment=hostile)
        assert story.process.returncode == 0, story.text
        assert re.search(r"^The story ended as it should: \d+ checks\.$", story.text, re.MULTILINE)
        assert "Traceback" not in story.text
        assert "\x1b" not in story.text
        show.until("LOCK_BACKUPS acct-final-notice")
        data = _asked(introduction)
        assert data["reconciler"]["mode"] == "APPLY"
        stages = {edge["node"]["standing"]["stage"] for edge in data["accounts"]["edges"]}
        assert {"CURRENT", "PAST_DUE", "FINAL_NOTICE"} <= stages
        assert show.interrupt(signal.SIGINT) < 60
    finally:
        with suppress(ProcessLookupError):
            os.killpg(show.process.pid, signal.SIGKILL)
    # Make itself ends by the signal, whatever the demo's exit code; it must not call that an error.
    assert show.text.count("Ended; nothing is left behind.") == 1
    assert "Error" not in show.text
    assert "Traceback" not in show.text
    assert _files(checkout.folder) == before
    for temporary in (shown_in, told_in):
        _nothing_left(checkout, temporary)


def test_the_story_can_be_ended_early(checkout: Any) -> None:
    """A story that was not told to its end is no success, and leaves as little."""
    temporary = _temporary(checkout, "early")
    environment = checkout.environment(TMPDIR=str(temporary))
    running = checkout.start(".venv/bin/abeyance", "demo", "--once", environment=environment)
    running.until("the platform's guests are observed")
    assert running.interrupt(signal.SIGTERM) < 60
    assert running.process.returncode == 1
    assert running.text.splitlines()[-2:] == [
        "Ended before the story did.",
        "abeyance: the story did not end as it should; the lines above say where",
    ]
    _nothing_left(checkout, temporary)


def test_it_speaks_to_a_terminal_in_plain_lines(checkout: Any) -> None:
    """A log line is for people there, without colours where they are not wanted; and Ctrl-C is a good end."""
    temporary = _temporary(checkout, "terminal")
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [".venv/bin/abeyance", "demo"], cwd=checkout.folder, stdin=theirs, stdout=theirs, stderr=theirs,
            env=checkout.environment(TMPDIR=str(temporary), TERM="xterm", NO_COLOR="1"), start_new_session=True,
        )  # fmt: skip
        shown = b""
        while b"Plans as they change" not in shown:
            assert select.select([ours], [], [], 200)[0], shown
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        os.close(ours)
        os.close(theirs)
    assert b"\x1b" not in shown
    assert b"timestamp=" not in shown
    _nothing_left(checkout, temporary)


def test_make_test_runs_in_the_same_surroundings(checkout: Any) -> None:
    """A part of the suite passes, whatever is set around it."""
    environment = checkout.environment(LC_ALL="C", HOME="/proc", **SOMEBODYS)
    part = "-q -n 0 -p no:cacheprovider tests/api/test_settings.py tests/reconciler/test_catalogue.py"
    ran = checkout.run("make", "test", f"ARGS={part}", environment=environment)
    assert ran.process.returncode == 0, ran.text
    assert " passed" in ran.text
