"""Nothing from outside reaches a play, no data in it is ever a template, and no secret leaves it."""

import asyncio
import hashlib
import json
import os
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.rules.outcome import Outcome
from reconciler.rules.terms import RunState
from reconciler.runs import processes
from reconciler.runs.environment import play_environment, write_variables
from reconciler.runs.execution import Execution
from reconciler.runs.request import RunRefusedError, RunRequest

Eventually = Callable[..., Awaitable[None]]
Ask = Callable[..., RunRequest]
Guest = Callable[..., dict[str, Any]]
CANARY = "s3cr3t/canary+9f2c"

HOSTILE_PLUGIN = """
from pathlib import Path
Path({canary!r}).write_text("ran")
from ansible.plugins.{base} import {name}
class {made}({name}):
    CALLBACK_NAME, CALLBACK_TYPE, CALLBACK_VERSION = "hostile", "aggregate", 2.0
    def run(self, tmp=None, task_vars=None):
        return {{"abeyance_reports": []}}
"""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Return a file that exists only if something hostile ran."""
    return tmp_path / "canary"


def plant(folder: Path, canary: Path) -> None:
    """Put an action and a callback plugin and an ansible.cfg that uses them into a folder."""
    for kind, base, name, made in (
        ("action", "action", "ActionBase", "ActionModule"),
        ("callback", "callback", "CallbackBase", "CallbackModule"),
    ):
        target = folder / "plugins" / kind
        target.mkdir(parents=True)
        for file in ("obey.py", "hostile.py", "awx_display.py"):
            text = HOSTILE_PLUGIN.format(canary=str(canary), base=base, name=name, made=made)
            (target / file).write_text(text)
    (folder / "ansible.cfg").write_text(
        f"[defaults]\naction_plugins = {folder}/plugins/action\ncallback_plugins = {folder}/plugins/callback\n"
        f"callbacks_enabled = hostile\nhost_key_checking = False\nlog_path = {canary}\n"
    )
    (folder / "sitecustomize.py").write_text(f"open({str(canary)!r}, 'w').write('ran')\n")


async def test_it_takes_nothing_from_the_surroundings(
    execution: Execution,
    ask: Ask,
    guest: Guest,
    tmp_path: Path,
    canary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Planted configuration, plugins, variables, locale, home and Python paths of the caller have no effect."""
    home = tmp_path / "home"
    for folder in (home / ".ansible", tmp_path / "here"):
        plant(folder, canary)
    (home / ".ansible.cfg").write_text((home / ".ansible" / "ansible.cfg").read_text())
    hostile = {
        "HOME": str(home),
        "ANSIBLE_CONFIG": str(tmp_path / "here" / "ansible.cfg"),
        "ANSIBLE_ACTION_PLUGINS": str(tmp_path / "here" / "plugins" / "action"),
        "ANSIBLE_CALLBACK_PLUGINS": str(tmp_path / "here" / "plugins" / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "hostile",
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_VERBOSITY": "4",
        "ANSIBLE_LOG_PATH": str(canary),
        "ANSIBLE_CHECK_MODE_MARKERS": "True",
        "AWX_LIB_DIRECTORY": str(tmp_path / "here" / "plugins" / "callback"),
        "RUNNER_OMIT_EVENTS": "True",
        "PYTHONPATH": str(tmp_path / "here"),
        "PYTHONSTARTUP": str(tmp_path / "here" / "sitecustomize.py"),
        "LD_PRELOAD_NOTE": "x",
        "LC_ALL": "C",
        "STRIPE_SECRET_KEY": CANARY,
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path / "here")
    home.chmod(stat.S_IRUSR | stat.S_IXUSR)
    handle = await execution.start(ask(guest("101", do="observe"), play="module"))
    verdict = await handle.wait()
    home.chmod(stat.S_IRWXU)
    assert verdict.reports[0].outcome is Outcome.UNCHANGED, verdict
    assert not canary.exists()
    environment = verdict.observation[0].facts["environment"]
    assert isinstance(environment, dict)
    assert hostile.keys() & environment.keys() <= {
        "HOME", "ANSIBLE_CONFIG", "ANSIBLE_ACTION_PLUGINS", "ANSIBLE_CALLBACK_PLUGINS",
        "ANSIBLE_HOST_KEY_CHECKING", "ANSIBLE_VERBOSITY", "RUNNER_OMIT_EVENTS", "LC_ALL",
    }  # fmt: skip
    assert not [name for name, value in hostile.items() if environment.get(name) == value]
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert environment["HOME"].startswith(f"/dev/shm/abeyance-run-{handle.run_id}-")
    assert f" {environment['HOME']}/.ansible/tmp/" in str(verdict.observation[0].facts["seen"])
    assert str(verdict.observation[0].facts["cwd"]).startswith(environment["HOME"])


async def test_it_does_without_a_config_of_its_own_only_by_refusing(
    execution: Execution, ask: Ask, guest: Guest, playbooks: Path
) -> None:
    """Without the playbooks' own ansible.cfg Ansible would search for another, so nothing is started."""
    (playbooks / "ansible.cfg").unlink()
    with pytest.raises(RunRefusedError, match=r"ansible\.cfg is missing"):
        await execution.start(ask(guest("101")))


SHELL = (
    "$(touch {c})",
    "`touch {c}`",
    "; touch {c}",
    "| touch {c}",
    "&& touch {c}",
    "' ; touch {c} ; '",
    "> {c}",
)
JINJA = (
    "{{{{ lookup('pipe', 'touch {c}') }}}}",
    "{{{{ lookup('ansible.builtin.file', '/etc/passwd') }}}}",
    "{{% set x = lookup('pipe', 'touch {c}') %}}x",
    "{{{{ ''.__class__.__mro__[1].__subclasses__() }}}}",
    "{{{{ query('lines', 'touch {c}') }}}}",
    "#jinja2: variable_start_string:'[%', variable_end_string:'%]'\n[% lookup('pipe', 'touch {c}') %]",
    "!unsafe {{{{ 7*7 }}}}",
    "{{{{ 7*7 }}}}",
)


async def test_it_passes_shell_text_as_text(
    execution: Execution, ask: Ask, guest: Guest, canary: Path
) -> None:
    """What may be in an observed state but means something to a shell arrives unchanged and does nothing."""
    texts = [text.format(c=canary) for text in SHELL]
    verdict = await (await execution.start(ask(guest("101", do="observe", found=texts)))).wait()
    assert verdict.observation[0].facts["guests"][0]["expect"]["found"] == texts  # type: ignore[index]
    assert not canary.exists()


async def test_it_never_evaluates_a_template_even_if_one_came_through(
    ask: Ask, guest: Guest, canary: Path, tmp_path: Path
) -> None:
    """Behind the refusal, the variables themselves are plain: Ansible prints the marks and evaluates none.

    Ansible is run directly here, since no request with such text gets this far.
    """
    texts = [text.format(c=canary) for text in JINJA]
    request = ask(guest("101"))
    out = tmp_path / "out.json"
    play = request.playbooks / "echo.yml"
    play.write_text(
        "- hosts: '{{ target_nodes }}'\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.copy:\n"
        "        content: '{{ guests | to_json }}'\n"
        f"        dest: {str(out)!r}\n"
        "      vars: {ansible_python_interpreter: '{{ ansible_playbook_python }}'}\n"
        "    - ansible.builtin.debug: {msg: '{{ guests[0].expect.found[0] }}'}\n"
    )
    variables = tmp_path / "variables.json"
    guests = [guest(text, node=text, found=[text, {"deep": [text]}]) for text in texts]
    write_variables(variables, {"target_nodes": ("n1",), "guests": guests})
    command = [
        "-m",
        "ansible",
        "playbook",
        "-i",
        str(request.inventory / "hosts.yml"),
        "-e",
        f"@{variables}",
        str(play),
    ]
    environment = play_environment("0" * 32, tmp_path, request.playbooks) | {"TMPDIR": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    assert json.loads(out.read_text()) == guests
    assert not canary.exists()
    assert stat.S_IMODE(variables.stat().st_mode) == 0o600


def everything_readable(run_id: str, state_dir: Path) -> str:
    """Return all that another process could read of a run: its files, command lines and environments."""
    (folder,) = Path("/dev/shm").glob(f"abeyance-run-{run_id}-*")
    texts = [
        file.read_text(errors="replace")
        for file in [*folder.rglob("*"), *state_dir.rglob("*")]
        if file.is_file()
    ]
    for pid in [*processes.members(run_id), os.getpid()]:
        parts = (Path(f"/proc/{pid}/{part}").read_bytes() for part in ("cmdline", "environ"))
        texts += [part.decode(errors="replace") for part in parts]
    return "\n".join(texts)


async def test_it_gives_a_secret_to_the_play_and_to_nobody_else(
    eventually: Eventually, execution: Execution, ask: Ask, guest: Guest, tmp_path: Path, state_dir: Path
) -> None:
    """A play reads its secret by path; no file, argument, environment, event or answer ever holds it."""
    effects, looked = tmp_path / "effects", tmp_path / "looked"
    request = ask(
        guest("101", do="observe"),
        guest("102", do="work", path=str(effects), until=str(looked)),
        secrets={"token": CANARY},
    )
    handle = await execution.start(request)
    await eventually(effects.exists)
    readable = everything_readable(handle.run_id, state_dir)
    (folder,) = Path("/dev/shm").glob(f"abeyance-run-{handle.run_id}-*")
    mode = stat.S_IMODE(folder.stat().st_mode)
    looked.touch()
    verdict = await handle.wait()
    assert f"ABEYANCE_RUN_ID={handle.run_id}" in readable
    assert "token_path" in readable
    assert CANARY not in readable
    assert mode == 0o700
    assert not folder.exists()
    # Read through the path, and only its digest told:
    assert verdict.observation[0].facts["secrets"] == [hashlib.sha256(CANARY.encode()).hexdigest()]
    assert CANARY not in repr(verdict) + verdict.log
    # Beside what the test's own request holds, nothing of the run's files survives.
    kept = "".join(file.read_text(errors="replace") for file in state_dir.rglob("*") if file.is_file())
    assert CANARY not in kept


async def test_it_blanks_out_a_secret_that_a_play_lets_slip(
    execution: Execution, ask: Ask, guest: Guest
) -> None:
    """A play that prints, raises and returns its secret leaks it into no report, observation, problem or log."""
    handle = await execution.start(ask(guest("101", do="leak"), secrets={"token": CANARY}))
    reports = [report async for report in handle.reports()]
    verdict = await handle.wait()
    told = repr(reports) + repr(verdict) + verdict.log
    assert verdict.state is RunState.FINISHED
    assert "printing [redacted]" in verdict.log
    assert "[redacted]" in repr(verdict.reports)
    assert "canary" not in told
