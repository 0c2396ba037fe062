"""What could destroy is not played, whenever the files were edited."""

import os
import shutil
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from reconciler.actions import Actions
from reconciler.catalogue import load_catalogue
from reconciler.inventory import load_inventory
from reconciler.play_guard import PlayGuard
from reconciler.runs.request import RunRefusedError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "playbooks"
DESTROYS = "\n- name: Tidy up\n  ansible.builtin.uri: {url: 'https://x/nodes/a/lxc/101', method: DELETE}\n"


@pytest.fixture
def playbooks(tmp_path: Path) -> Path:
    """A copy of the shipped playbooks."""
    return shutil.copytree(SHIPPED, tmp_path / "playbooks")


@pytest.fixture
def guard(playbooks: Path) -> PlayGuard:
    """The guard of a process that has been running for a while."""
    return PlayGuard(playbooks=playbooks)


def _append(file: Path, text: str) -> None:
    """Edit a file so that nothing but its content tells it: the same instant, as some editors and tools keep it."""
    before = file.stat()
    file.write_text(file.read_text() + text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_the_shipped_plays_pass(guard: PlayGuard) -> None:
    """Each on the platforms that it is for."""
    for platform in ("proxmox", "lxc"):
        for file in sorted((guard.playbooks / "platforms" / platform).glob("*.yml")):
            await guard.check(guard.playbooks / "actions" / file.name, platform)


@pytest.mark.parametrize("edited", ["platforms/proxmox/stop_guests.yml", "actions/stop_guests.yml"])
async def test_an_edit_that_could_destroy_is_refused_at_the_next_run(guard: PlayGuard, edited: str) -> None:
    """It names file, task and fault; other plays go on, and so does this one once it is mended."""
    play = guard.playbooks / "actions/stop_guests.yml"
    await guard.check(play, "proxmox")
    good = (guard.playbooks / edited).read_text()
    _append(guard.playbooks / edited, DESTROYS if "platforms" in edited else indent(DESTROYS, "    "))
    with pytest.raises(RunRefusedError, match=rf"{edited.rpartition('/')[2]}: ") as refused:
        await guard.check(play, "proxmox")
    assert "the static gate refuses it" in str(refused.value)
    await guard.check(guard.playbooks / "actions/start_guests.yml", "proxmox")
    (guard.playbooks / edited).write_text(good)
    await guard.check(play, "proxmox")


async def test_no_run_is_started_for_it(playbooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks: refused like any other request that no run may be started with."""
    monkeypatch.setenv("ABEYANCE_DEMO_TOKEN", "a-token-of-nobody")

    class Execution:
        """Starts nothing."""

        async def start(self, request: Any) -> None:
            """Tell that it was asked to."""
            pytest.fail(f"{request.playbook} was started")

    inventory = load_inventory(ROOT / "inventory/demo")
    [site] = inventory.sites
    actions = Actions(
        execution=Execution(),  # type: ignore[arg-type]
        catalogue=load_catalogue(playbooks),
        inventory=inventory,
        playbooks=playbooks,
        inventory_folder=ROOT / "inventory/demo",
    )
    _append(playbooks / "platforms/proxmox/stop_guests.yml", DESTROYS)
    with pytest.raises(RunRefusedError, match="the static gate refuses it"):
        await actions.start("stop_guests", site.name, nodes=site.node_names)


async def test_a_plugin_with_another_way_out_stops_every_play(guard: PlayGuard) -> None:
    """Each play could reach it."""
    plugin = guard.playbooks / "plugins/abeyance_platforms/proxmox_map.py"
    plugin.write_text(f"import subprocess\n{plugin.read_text()}")
    for action in ("stop_guests", "start_guests", "observe"):
        with pytest.raises(RunRefusedError, match="imports subprocess"):
            await guard.check(guard.playbooks / f"actions/{action}.yml", "proxmox")


async def test_what_tools_leave_behind_is_no_edit(guard: PlayGuard) -> None:
    """Python's own caches come and go with every play."""
    play = guard.playbooks / "actions/observe.yml"
    await guard.check(play, "lxc")
    seen = guard._seen
    cache = guard.playbooks / "plugins/abeyance_platforms/__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "new.pyc").write_bytes(b"x")
    await guard.check(play, "lxc")
    assert guard._seen == seen
