"""Each guard is worth its name: taken out, a test turns red."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _told(table: str, out: Path) -> dict[str, str | None]:
    """Return what came of taking out each guard of a table; null where its test turned red."""
    done = subprocess.run(
        [sys.executable, str(HERE / "saboteur.py"), str(out), table],
        cwd=HERE.parents[1], capture_output=True, text=True, timeout=560, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    told: dict[str, str | None] = json.loads(out.read_text())
    return told


def test_a_test_turns_red_for_every_guard_that_is_taken_out(tmp_path: Path) -> None:
    """The table names each guard with the test that notices; a row that names nothing real is as bad as a green one."""
    told = _told("GUARDS", tmp_path / "told.json")
    assert len(told) > 100
    assert {name: problem for name, problem in told.items() if problem is not None} == {}


@pytest.mark.nightly
def test_a_play_turns_red_for_every_guard_beside_a_guest(tmp_path: Path) -> None:
    """In real plays against the simulated cluster, whose files are copied without the guard."""
    told = _told("PLAYS", tmp_path / "told.json")
    assert len(told) > 10
    assert {name: problem for name, problem in told.items() if problem is not None} == {}
