"""The static gate, by sabotage: whatever could destroy turns it red, wherever it is put."""

import shutil
from pathlib import Path

import pytest

from reconciler.catalogue import check_actions
from reconciler.forbidden import forbidden_in, forbidden_program

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
TASKS = {
    "delete by state": "community.general.lxd_container: {name: x, state: absent}",
    "destroy by state": "community.libvirt.virt: {name: x, state: destroyed}",
    "undefine": "community.libvirt.virt: {name: x, command: undefine}",
    "snapshot removal": "community.proxmox.proxmox_snap: {vmid: 1, state: absent}",
    "prune": "community.proxmox.proxmox_backup: {retention: keep-last=1, mode: prune}",
    "a module that deletes": "community.general.lxc_delete: {name: x}",
    "raw": "ansible.builtin.raw: pct stop 101",
    "shell": "ansible.builtin.shell: echo hello",
    "script": "ansible.builtin.script: x.sh",
    "file": "ansible.builtin.file: {path: /x, state: touch}",
    "copy": "ansible.builtin.copy: {content: x, dest: /etc/pve/lxc/101.conf}",
    "short name": "shell: echo hello",
    "legacy": "ansible.legacy.shell: echo hello",
    "unknown plugin": "abeyance_wish: {guests: []}",
    "role": "ansible.builtin.include_role: {name: x}",
    "command, free form": "ansible.builtin.command: pct destroy 101",
    "command, cmd": "ansible.builtin.command: {cmd: pct list}",
    "command, destroying": "ansible.builtin.command: {argv: [lxc-stop, --rcfile, destroy]}",
    "command, program": "ansible.builtin.command: {argv: [lxc-destroy, -n, x]}",
    "command, shell": "ansible.builtin.command: {argv: [/bin/sh, -c, ls]}",
    "command, env": "ansible.builtin.command: {argv: [env, -i, A=b, bash, x]}",
    "command, find": "ansible.builtin.command: {argv: [find, /x, -delete]}",
    "command, find exec": "ansible.builtin.command: {argv: [find, /x, -exec, ls]}",
    "command, mv": "ansible.builtin.command: {argv: [mv, /a, /b]}",
    "command, from data": "ansible.builtin.command: {argv: ['{{ program }}', x]}",
    "uri DELETE": "ansible.builtin.uri: {url: 'https://x/', method: DELETE}",
    "uri method from data": "ansible.builtin.uri: {url: 'https://x/', method: '{{ verb }}'}",
    "uri rollback": "ansible.builtin.uri: {url: 'https://x/snapshot/a/rollback', method: POST}",
    "uri unverified": "ansible.builtin.uri: {url: 'https://x/', validate_certs: false}",
    "state from data": "community.general.lxd_container: {name: x, state: '{{ wish }}'}",
    "include from data": "ansible.builtin.include_tasks: '{{ file }}'",
    "include outside": "ansible.builtin.include_tasks: ../../../../etc/passwd",
    "pipe": "ansible.builtin.debug: {msg: x}\n  vars: {y: \"{{ lookup('pipe', 'x') }}\"}",
    "host keys": "ansible.builtin.debug: {msg: x}\n  vars: {ansible_ssh_args: -o StrictHostKeyChecking=no}",
    "two modules": "ansible.builtin.debug: {msg: x}\n  ansible.builtin.fail: {msg: x}",
    "args": "ansible.builtin.command:\n  args: {cmd: pct destroy 1}",
    "action keyword": "action: shell echo",
    "in a block": "block:\n    - name: Inside\n      ansible.builtin.shell: x",
    "in a rescue": "block:\n    - name: I\n      ansible.builtin.ping:\n  rescue:\n    - name: R\n      raw: x",
}
HARMLESS = {
    "a message": "ansible.builtin.debug: {msg: never delete or purge anything}",
    "a question": "ansible.builtin.uri: {url: 'https://x/status', method: GET}",
    "a list of arguments": "ansible.builtin.command: {argv: [lxc-ls, -P, /var/lib/lxc]}",
    "another collection": "community.general.lxd_container: {name: x, state: stopped}",
    "moving without writing over": "ansible.builtin.command: {argv: [mv, -n, /a, /b]}",
}
PLUGINS = {
    "a DELETE": 'ENDPOINTS = {"x": ("DELETE", "/nodes/{node}/lxc/{vmid}", ())}',
    "a rollback": 'ENDPOINTS = {"x": ("POST", "/nodes/{node}/lxc/{vmid}/snapshot/{s}/rollback", ())}',
    "a parameter": 'ENDPOINTS = {"x": ("PUT", "/nodes/{node}/lxc/{vmid}/config", ("delete",))}',
    "a computed table": "ENDPOINTS = make()",
    "a computed list": "COMMANDS = dict(x=1)",
    "a program": 'COMMANDS = {"x": ("lxc-destroy", "-n", "{name}")}',
    "a removal": 'COMMANDS = {"x": ("rm", "-f", "{path}")}',
    "a move": 'COMMANDS = {"x": ("mv", "{a}", "{b}")}',
    "a process": "import subprocess",
    "a process, hidden": "from os import system as s\ns('x')\nos.system('x')",
    "a socket": "import socket",
    "the network": "import http.client",
    "the network, by name": "from http import client",
    "another client": "import requests",
    "an unlink": "from pathlib import Path\nPath('x').unlink()",
    "a tree": "import shutil",
    "a file": "open('x', 'w')",
    "a text": "from pathlib import Path\nPath('x').write_text('y')",
    "a module of Ansible's": "self._execute_module(module_name='shell')",
    "an eval": "eval('1')",
    "a verb": "verb = 'DELETE'",
    "no Python": "def (",
}


@pytest.fixture
def playbooks(tmp_path: Path) -> Path:
    """A copy of the playbooks to spoil."""
    copy = tmp_path / "playbooks"
    shutil.copytree(PLAYBOOKS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize("case", sorted(TASKS))
def test_a_task_that_could_destroy_is_refused(playbooks: Path, case: str) -> None:
    """Each way to destroy something is found in a platform's file."""
    file = playbooks / "platforms/lxc/stop_guests.yml"
    file.write_text(f"{file.read_text()}- name: Added\n  {TASKS[case]}\n")
    findings = check_actions(playbooks)
    assert findings, f"{case} passed"
    assert {finding.file for finding in findings} == {file}


@pytest.mark.parametrize("case", ["shell", "uri DELETE", "in a rescue"])
def test_a_play_and_a_file_that_nobody_includes_are_read_as_well(playbooks: Path, case: str) -> None:
    """A forbidden task is found wherever it is put."""
    play, unused = playbooks / "actions/stop_guests.yml", playbooks / "platforms/lxc/unused.yml"
    task = f"- name: Added\n  {TASKS[case]}\n"
    unused.write_text(f"---\n{task}")
    play.write_text(play.read_text() + "    " + task.replace("\n", "\n    ").rstrip() + "\n")
    assert {finding.file for finding in check_actions(playbooks)} == {play, unused}


@pytest.mark.parametrize("case", sorted(HARMLESS))
def test_a_harmless_task_passes(playbooks: Path, case: str) -> None:
    """The gate is no ban on writing playbooks."""
    (playbooks / "platforms/lxc/new.yml").write_text(f"---\n- name: Added\n  {HARMLESS[case]}\n")
    assert check_actions(playbooks) == ()


@pytest.mark.parametrize("case", sorted(PLUGINS))
def test_a_plugin_with_another_way_out_is_refused(playbooks: Path, case: str) -> None:
    """Plugins make listed calls and commands; whatever else could act is found in their syntax."""
    file = playbooks / "plugins/abeyance_platforms/added.py"
    file.write_text(PLUGINS[case] + "\n")
    findings = check_actions(playbooks)
    assert findings, f"{case} passed"
    assert {finding.file for finding in findings} == {file}
    assert all(finding.remedy and str(finding).startswith(str(file)) for finding in findings)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("plugins/abeyance_platforms/proxmox_endpoints.py", '("onboot",', '("delete", "onboot",'),
        (
            "plugins/abeyance_platforms/proxmox_endpoints.py",
            '"/nodes/{node}/{type}/{vmid}/status/start"',
            '"/destroy"',
        ),
        ("plugins/abeyance_platforms/lxc_commands.py", '("touch",', '("rm",'),
        ("plugins/abeyance_platforms/lxc_commands.py", '"-nT"', '"-T"'),
        ("plugins/abeyance_platforms/lxc_commands.py", '"lxc-start"', '"lxc-execute"'),
        ("ansible.cfg", "host_key_checking = True", "host_key_checking = False"),
        ("actions/observe.yml", "  gather_facts: false", "  roles: [x]"),
        ("actions/observe.yml", "  gather_facts: false", "  vars_files: [x.yml]"),
    ],
)
def test_the_shipped_files_cannot_be_changed_into_destroying_ones(
    playbooks: Path, file: str, old: str, new: str
) -> None:
    """One word more in a table, and the gate is red."""
    text = (playbooks / file).read_text()
    assert old in text
    (playbooks / file).write_text(text.replace(old, new))
    assert {finding.file.name for finding in check_actions(playbooks)} == {Path(file).name}


def test_something_that_is_no_plugin_is_refused_among_them(playbooks: Path) -> None:
    """A binary or a script beside the plugins is not there by accident."""
    (playbooks / "plugins/action/added.sh").write_text("true\n")
    assert [finding.problem for finding in check_actions(playbooks)] == ["is not Python"]


@pytest.mark.parametrize(
    "word", ["DELETE", "snapshot-delete", "Destroyed", "rm", "state=absent", "pruneBackups", "--purge"]
)
def test_it_knows_the_words(word: str) -> None:
    """Whole words and parts of longer ones, in any case."""
    assert forbidden_in(word)


@pytest.mark.parametrize(
    "word", ["alarm", "information", "cleaner-none-of-it", "added", "platform", "reformation"]
)
def test_it_takes_no_word_for_another(word: str) -> None:
    """`rm` in `alarm` and `format` in `information` are no verbs."""
    assert forbidden_in(word) is None


@pytest.mark.parametrize(
    "argv", [[], ["env", "-i", "A=b"], ["SH"], ["/usr/bin/perl", "-e", "1"], ["{name}"], ["busybox", "x"]]
)
def test_it_knows_the_programs(argv: list[str]) -> None:
    """No program, any program and those that run what they are told."""
    assert forbidden_program(argv)
