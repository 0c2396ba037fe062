"""Four processes that do the same thing at the same moment, again and again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROCESSES = 4
ROOT = Path(__file__).parents[3]


class Racers:
    """Processes of our own, each with its own connections; started once, used by every race."""

    def __init__(self) -> None:
        self.rounds = 0
        self._processes = [
            subprocess.Popen(
                [sys.executable, Path(__file__).parent / "racer.py", str(number)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            for number in range(PROCESSES)
        ]  # fmt: skip

    def open(self, url: str) -> None:
        """Let each process open the database; the rounds are counted from here."""
        self.rounds = 0
        assert self._ask([url] * PROCESSES) == ["open"] * PROCESSES

    def round(self, orders: list[dict[str, Any]]) -> list[str]:
        """Give each process one order at the same moment; return their answers: yes, no or a fault."""
        assert len(orders) == PROCESSES
        self.rounds += 1
        return self._ask([json.dumps(order) for order in orders])

    def close(self) -> None:
        """Let each process close the database."""
        assert self._ask(["null"] * PROCESSES) == ["closed"] * PROCESSES

    def end(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def _ask(self, lines: list[str]) -> list[str]:
        for process, line in zip(self._processes, lines, strict=True):
            assert process.stdin is not None
            process.stdin.write(f"{line}\n")
        answers = []
        for process in self._processes:
            assert process.stdout is not None
            answers.append(process.stdout.readline().strip())
        return answers


@pytest.fixture(scope="session")
def _processes() -> Iterator[Racers]:
    racers = Racers()
    yield racers
    racers.end()


@pytest.fixture
def racers(_processes: Racers, database: str, told_rounds: Callable[[int, int], None]) -> Iterator[Racers]:
    """Four processes with the test's database open."""
    _processes.open(database)
    yield _processes
    told_rounds(_processes.rounds, PROCESSES)
    _processes.close()
