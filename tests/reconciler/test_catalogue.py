"""The catalogue: what each action closes, and one clear error for metadata that is not what the contract asks for."""

import shutil
from pathlib import Path

import pytest
import yaml

from reconciler.catalogue import (
    CatalogueError,
    Gap,
    UnknownActionError,
    check_actions,
    load_catalogue,
)

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "playbooks"


@pytest.fixture
def playbooks(tmp_path: Path) -> Path:
    """A copy of the playbooks to spoil."""
    copy = tmp_path / "playbooks"
    shutil.copytree(PLAYBOOKS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_the_shipped_actions_close_every_gap() -> None:
    """Seven actions: one observes, and each gap has the one that closes it."""
    catalogue = load_catalogue(PLAYBOOKS)
    assert {action.name: action.gap for action in catalogue.actions} == {
        "observe": None,
        "stop_guests": Gap.POWER_STOPPED,
        "start_guests": Gap.POWER_RECORDED,
        "lock_backups": Gap.BACKUPS_LOCKED,
        "unlock_backups": Gap.BACKUPS_RECORDED,
        "close_access": Gap.ACCESS_CLOSED,
        "open_access": Gap.ACCESS_RECORDED,
    }
    assert {action.name for action in catalogue.actions if action.restricts} == {
        "stop_guests",
        "lock_backups",
        "close_access",
    }
    for action in catalogue.actions:
        assert action.playbook.is_file()
        assert {"target_nodes", "guests", "permit_file", "site_token_path"} <= action.variables
    assert "depth" in catalogue.action("observe").variables


def test_an_action_is_picked_by_the_gap_that_it_closes() -> None:
    """The planner names the gap; where a platform has no such thing there is no action."""
    catalogue = load_catalogue(PLAYBOOKS)
    assert catalogue.satisfying("power", "stopped").name == "stop_guests"
    assert catalogue.satisfying("backups", "recorded", platform="lxc").name == "unlock_backups"
    with pytest.raises(UnknownActionError, match="access: closed on platform lxc"):
        catalogue.satisfying("access", "closed", platform="lxc")
    with pytest.raises(UnknownActionError, match="delete_suspended_server"):
        catalogue.action("delete_suspended_server")


def test_the_shipped_actions_pass_the_gate() -> None:
    """Nothing in plays, platform files or plugins could destroy."""
    assert check_actions(PLAYBOOKS) == ()


OPTIONS = "argument_specs.stop_guests.options"
SPOILED = {
    "an unknown key": ("  satisfies:", "  destructive: false\n  satisfies:", "action.destructive"),
    "an unknown block": ("argument_specs:", "more: {}\nargument_specs:", "the file.more"),
    "no summary": ("  summary: Stop", "  summary:\n  # Stop", "action.summary"),
    "another name": ("  name: stop_guests", "  name: stop", "action.name"),
    "an unknown gap": ("power: stopped", "power: destroyed", "action.satisfies"),
    "two gaps": ("power: stopped", "power: stopped, access: closed", "action.satisfies"),
    "another one's gap": ("power: stopped", "backups: locked", "action.satisfies"),
    "a platform without its file": ("[proxmox, lxc]", "[proxmox, xen]", "action.platforms"),
    "a platform that leads elsewhere": ("[proxmox, lxc]", "[../actions]", "action.platforms"),
    "no platform": ("[proxmox, lxc]", "[]", "action.platforms"),
    "a platform twice": ("[proxmox, lxc]", "[lxc, lxc]", "action.platforms"),
    "a time as text": ("timeout_seconds: 10800", "timeout_seconds: PT1H", "action.timeout_seconds"),
    "no time": ("timeout_seconds: 10800", "timeout_seconds: 0", "action.timeout_seconds"),
    "no time at all": ("  timeout_seconds: 10800\n", "", "action.timeout_seconds"),
    "specs of another action": ("argument_specs:\n  stop_guests:", "argument_specs:\n  stop:", "argument_specs.stop"),
    "an unknown type": ("        type: path", "        type: folder", f"{OPTIONS}.permit_file.type"),
    "a misspelt option": ("        elements: str", "        element: str", f"{OPTIONS}.target_nodes.element"),
    "broken YAML": ("action:\n", "action: {\n", "line"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(SPOILED))
def test_spoiled_metadata_names_file_field_and_remedy(playbooks: Path, case: str) -> None:
    """One error, which stops the start and says where to look and what would be right."""
    old, new, where = SPOILED[case]
    file = playbooks / "actions/stop_guests.meta.yml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(CatalogueError) as found:
        load_catalogue(playbooks)
    assert found.value.file == file
    assert found.value.field.startswith(where)
    assert str(found.value).startswith(f"{file}: ")
    assert str(found.value).endswith(found.value.remedy)
    assert [finding.file for finding in check_actions(playbooks)] == [file]


def test_files_that_do_not_belong_together_are_named(playbooks: Path) -> None:
    """A play without metadata, metadata without a play, and a folder without actions."""
    (playbooks / "actions/open_access.yml").rename(playbooks / "actions/unseal.yml")
    with pytest.raises(CatalogueError, match=r"there is no play open_access\.yml"):
        load_catalogue(playbooks)
    (playbooks / "actions/open_access.meta.yml").unlink()
    with pytest.raises(CatalogueError, match=r"unseal\.yml: metadata: is missing"):
        load_catalogue(playbooks)
    with pytest.raises(CatalogueError, match="ABEYANCE_PLAYBOOKS"):
        load_catalogue(playbooks / "nowhere")


def test_an_action_needs_two_files_and_no_code(playbooks: Path) -> None:
    """A new action is there once its play, its metadata and its platform's file are."""
    metadata = yaml.safe_load((playbooks / "actions/observe.meta.yml").read_text())
    assert load_catalogue(playbooks).action("observe").satisfies == {}
    metadata["action"] |= {"name": "look_twice"}
    metadata["argument_specs"]["look_twice"] = metadata["argument_specs"].pop("observe")
    (playbooks / "actions/observe.meta.yml").unlink()
    (playbooks / "actions/observe.yml").rename(playbooks / "actions/look_twice.yml")
    (playbooks / "actions/look_twice.meta.yml").write_text(yaml.safe_dump(metadata))
    for platform in ("proxmox", "lxc"):
        (playbooks / "platforms" / platform / "observe.yml").rename(
            playbooks / "platforms" / platform / "look_twice.yml"
        )
    assert load_catalogue(playbooks).action("look_twice").platforms == ("proxmox", "lxc")
