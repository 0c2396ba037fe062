"""The folder and the record of a run: where they are made, and that only dead runs are cleared."""

import json
import os
import stat
from pathlib import Path

import pytest

from reconciler.runs import folders, processes
from reconciler.runs.execution import sweep_leftovers

RUN = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32


def record(run_id: str = RUN) -> folders.Record:
    return folders.Record(run_id=run_id, parent=os.getpid(), parent_mark=processes.start_mark(os.getpid()))


@pytest.mark.parametrize("memory", ["missing", "full", "usable"])
def test_it_makes_a_private_folder_where_there_is_room(
    memory: str, tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory when that exists and has room, else in the state directory; ours alone in both."""
    place = tmp_path / "memory"
    if memory != "missing":
        place.mkdir()
    if memory == "full":
        monkeypatch.setattr(folders, "_ROOM_BYTES", 1 << 62)
    folder = folders.make_folder(RUN, state_dir, place)
    assert folder.parent == (place if memory == "usable" else state_dir / "runs")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder != folders.make_folder(RUN, state_dir, place)


def test_it_forgets_one_run_alone(tmp_path: Path, state_dir: Path) -> None:
    """Clearing a run removes its folders and its record, and nothing of another."""
    memory = tmp_path / "memory"
    memory.mkdir()
    for run_id in (RUN, OTHER):
        (folders.make_folder(run_id, state_dir, memory) / "file").write_text("x")
        folders.HeldRecord(state_dir, record(run_id))
    folders.make_folder(RUN, state_dir, tmp_path / "none")
    folders.forget(state_dir, RUN, memory)
    assert {path.name[13:45] for path in memory.iterdir()} == {OTHER}
    assert [path.name for path in (state_dir / "runs").iterdir()] == [f"{OTHER}.json"]


def test_it_holds_a_record_until_released(state_dir: Path) -> None:
    """A record is held from its first appearance on, reads back what was written, and goes with its release."""
    held = folders.HeldRecord(state_dir, record())
    assert folders.is_held(state_dir, RUN)
    assert list(folders.records(state_dir)) == [record()]
    held.release()
    assert not folders.is_held(state_dir, RUN)
    assert list((state_dir / "runs").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"parent": "x", "parent_mark": null}', json.dumps({"parent": 1})]
)
async def test_it_clears_a_torn_record(state_dir: Path, text: str) -> None:
    """A record that cannot be read still names its run, and what else is in the folder is left alone."""
    (state_dir / "runs").mkdir(parents=True)
    (state_dir / "runs" / f"{RUN}.json").write_text(text)
    (state_dir / "runs" / "notes.txt").write_text("an operator's")
    assert (await sweep_leftovers(state_dir)).swept == (RUN,)
    assert [path.name for path in (state_dir / "runs").iterdir()] == ["notes.txt"]
