"""What a play is given: its environment, its variables and its command line.

Owns the complete list of each; nothing is inherited from whoever started us, so a hostile or merely unusual
`ansible.cfg`, `~/.ansible`, `ANSIBLE_*` or locale outside changes nothing. Secrets never pass through here.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from reconciler.runs.processes import RUN_TAG

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PLUGIN_KINDS = {
    "ACTION": "action",
    "BECOME": "become",
    "CACHE": "cache",
    "CLICONF": "cliconf",
    "CONNECTION": "connection",
    "FILTER": "filter",
    "HTTPAPI": "httpapi",
    "INVENTORY": "inventory",
    "LOOKUP": "lookup",
    "NETCONF": "netconf",
    "STRATEGY": "strategy",
    "TERMINAL": "terminal",
    "TEST": "test",
    "VARS": "vars",
}
#: The runner drops a result above this many characters without a word. A shallow observation of 30,000 guests
#: fits; what does not is flagged and its targets are unknown.
MAX_RESULT_CHARACTERS = 4_000_000


def bare_environment(run_id: str) -> dict[str, str]:
    """Return the environment of the supervisor itself: enough to start Python, and the run's tag."""
    return {
        RUN_TAG: run_id,
        "LC_ALL": "C.UTF-8",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PATH": f"{Path(sys.executable).parent}:{_SYSTEM_PATH}",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1",
        # The code that the parent runs, wherever another copy may be installed.
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONSAFEPATH": "1",
    }


def play_environment(run_id: str, folder: Path, playbooks: Path) -> dict[str, str]:
    """Return the whole environment of a play; `folder` is the run's own.

    Raises `FileNotFoundError` without an `ansible.cfg` in `playbooks`: Ansible would look for one elsewhere.
    """
    config = playbooks / "ansible.cfg"
    if not config.is_file():
        raise FileNotFoundError(f"{config} is missing; a run uses no other ansible.cfg")
    plugins = playbooks / "plugins"
    ours = {
        "HOME": folder,
        "TMPDIR": folder / "tmp",
        "ANSIBLE_CONFIG": config,
        "ANSIBLE_HOME": folder / "ansible",
        "ANSIBLE_LOCAL_TEMP": folder / "tmp",
        # Expanded by the shell of the node: here the run's folder, elsewhere the home of the account we log in to.
        # The default asks the password database, whose home may be missing or read-only for a service.
        "ANSIBLE_REMOTE_TMP": "$HOME/.ansible/tmp",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": folder / "cp",
        "ANSIBLE_COLLECTIONS_PATH": playbooks / "collections",
        "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "False",
        "ANSIBLE_ROLES_PATH": playbooks / "roles",
        "ANSIBLE_LIBRARY": plugins / "modules",
        "ANSIBLE_MODULE_UTILS": plugins / "module_utils",
        "ANSIBLE_DOC_FRAGMENT_PLUGINS": plugins / "doc_fragments",
        "ANSIBLE_CACHE_PLUGIN": "memory",
        "ANSIBLE_INVENTORY_ENABLED": "yaml",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_VARS_ENABLED": "host_group_vars",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_VERBOSITY": "0",
        "ANSIBLE_DEBUG": "False",
        "ANSIBLE_KEEP_REMOTE_FILES": "False",
        "ANSIBLE_NOCOLOR": "True",
        "MAX_EVENT_RES": str(MAX_RESULT_CHARACTERS),
    }
    for variable, kind in _PLUGIN_KINDS.items():
        ours[f"ANSIBLE_{variable}_PLUGINS"] = plugins / kind
    bare = bare_environment(run_id)
    del bare["PYTHONPATH"]
    return bare | {name: str(value) for name, value in ours.items()}


def write_variables(path: Path, variables: Mapping[str, object]) -> None:
    """Write extra variables so that Ansible never takes a text in them for a template.

    Ansible evaluates extra variables from a file like any template, nested ones too; each text is therefore
    wrapped in the marker that its JSON reader turns into an untrusted one. (A YAML file with `!unsafe` does the
    same and takes four times as long to read.)
    """
    path.write_text(json.dumps({name: _unsafe(value) for name, value in variables.items()}))
    path.chmod(0o600)


def _unsafe(value: object) -> object:
    match value:
        case str():
            return {"__ansible_unsafe": value}
        case Mapping():
            return {key: _unsafe(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_unsafe(inner) for inner in value]
        case _:
            return value


def play_command(
    *, playbook: Path, inventory: Path, variables: Path, nodes: list[str], check: bool
) -> list[str]:
    """Return the command that starts the play through our launcher, as an argument list.

    `--limit` repeats the targets: a play that says `hosts: all` by mistake still reaches none but these.
    """
    launcher = Path(__file__).with_name("launch.py")
    command = [
        sys.executable,
        "-I",
        str(launcher),
        str(os.getpid()),
        "playbook",
        "-i",
        str(inventory / "hosts.yml"),
    ]
    command += ["--limit", ",".join(nodes), "-e", f"@{variables}"]
    return [*command, *(["--check"] if check else []), str(playbook)]
