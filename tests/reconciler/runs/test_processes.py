"""Finding and ending the processes of one run and of no other."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from reconciler.runs import processes

RUN = "0123456789abcdef0123456789abcdef"
SLEEP = [sys.executable, "-S", "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yield a list whose processes are ended after the test."""
    all_of_them: list[subprocess.Popen[bytes]] = []
    yield all_of_them
    for process in all_of_them:
        process.kill()
        process.wait()


def start(tag: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        SLEEP, env={processes.RUN_TAG: tag, "X": f"{processes.RUN_TAG}={RUN}"}, start_new_session=True
    )


def test_it_ends_the_processes_of_one_run_alone(started: list[subprocess.Popen[bytes]]) -> None:
    """A sweep kills what carries the tag as a variable of its own, and leaves what only resembles it."""
    mine = [start(RUN) for _ in range(5)]
    others = [start(tag) for tag in (RUN[:-1] + "0", RUN + "0", "")]
    started += [*mine, *others]
    assert processes.members(RUN) == sorted(process.pid for process in mine)
    assert processes.sweep(RUN)
    assert {process.wait(60) for process in mine} == {-signal.SIGKILL}
    assert [process.poll() for process in others] == [None, None, None]
    assert processes.members(RUN) == []


def test_it_says_when_it_could_not_end_all(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does not end, as one that waits for a dead disk, makes the sweep say no."""
    started.append(start(RUN))
    monkeypatch.setattr(processes, "send", lambda *args, **named: None)
    assert not processes.sweep(RUN, seconds=0.2)


def test_it_signals_only_what_still_is_meant(started: list[subprocess.Popen[bytes]]) -> None:
    """A process number that means somebody else by now is not signalled."""
    meant, other = start(RUN), start(RUN)
    started += [meant, other]
    processes.send([meant.pid, other.pid], signal.SIGKILL, still=lambda: [meant.pid])
    assert meant.wait(60) == -signal.SIGKILL
    assert other.poll() is None


def test_it_tells_one_life_of_a_number_from_another(started: list[subprocess.Popen[bytes]]) -> None:
    """The mark of a living process is stable, that of an ended one is none."""
    process = start(RUN)
    started.append(process)
    mark = processes.start_mark(process.pid)
    assert mark is not None
    assert mark == processes.start_mark(process.pid)
    assert mark != processes.start_mark(os.getpid())
    process.kill()
    process.wait()
    assert processes.start_mark(process.pid) is None
