"""Each guard is worth its name: taken out, a test turns red."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("sabotage")
def test_a_test_turns_red_for_every_guard_that_is_taken_out(tmp_path: Path) -> None:
    """The table names each guard with the test that notices; a row that names nothing real is as bad as a green one."""
    out = tmp_path / "told.json"
    done = subprocess.run(
        [sys.executable, str(HERE / "saboteur.py"), str(out)],
        cwd=HERE.parents[1], capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    told = json.loads(out.read_text())
    assert len(told) > 80
    assert {name: problem for name, problem in told.items() if problem is not None} == {}
