"""A sweep spares the containers that a play started and kills everything else below the supervisor."""

from pathlib import Path

import pytest

from reconciler.runs import processes

PLAY, HELPER, MONITOR, PAYLOAD, TAGGED = 10, 11, 12, 13, 14


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small /proc: a supervisor (1) with a play, a helper of it, and a container started by it."""
    tree = {
        PLAY: (1, "0::/", ""),
        HELPER: (PLAY, "0::/system.slice", ""),
        MONITOR: (1, "0::/lxc.monitor.g101", ""),
        PAYLOAD: (MONITOR, "0::/lxc.payload.g101", ""),
        TAGGED: (MONITOR, "0::/lxc.monitor.g101", f"{processes.RUN_TAG}=abc"),
    }
    for pid, (parent, group, environment) in tree.items():
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} (name) S {parent} 0 0")
        (folder / "cgroup").write_text(group)
        (folder / "environ").write_text(environment)
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    return tmp_path


def test_a_container_is_no_member_of_the_run_that_started_it(proc: Path) -> None:
    """The play and its helper are; so is whatever carries the run's tag, wherever it hides."""
    assert processes.members("abc", below=1) == [PLAY, HELPER, TAGGED]


def test_a_container_is_not_asked_to_end_with_the_play(proc: Path) -> None:
    """Only the play is the supervisor's child to be told."""
    assert processes.children(1) == [PLAY]
