"""The static gate: nothing that the playbooks could do may delete, purge, prune, roll back or overwrite.

Owns what is forbidden in plays and platform files. Follows every include of every action on every platform; what it
cannot follow it refuses. Runs nothing and imports no Ansible.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from reconciler.forbidden import forbidden_in, forbidden_program
from reconciler.plugin_gate import Finding, gate_plugins

#: The same language as `yaml.SafeLoader`, in C where that is built.
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAY_TASKS = ("pre_tasks", "tasks", "post_tasks", "handlers")
_BLOCKS = ("block", "rescue", "always")
_INCLUDES = frozenset({"ansible.builtin.include_tasks", "ansible.builtin.import_tasks"})
#: Of `ansible.builtin`, only these: they read, decide or talk back. Everything else of it is refused.
_BUILTIN = _INCLUDES | {
    f"ansible.builtin.{name}"
    for name in (
        "assert", "command", "debug", "fail", "meta", "pause", "ping", "service_facts", "set_fact", "set_stats",
        "setup", "slurp", "stat", "uri", "validate_argument_spec", "wait_for", "wait_for_connection",
    )
}  # fmt: skip
_TALKING = frozenset({"ansible.builtin.debug", "ansible.builtin.fail", "ansible.builtin.assert"})
_VERBS = frozenset({"action", "cmd", "command", "ensure", "method", "operation", "state"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT"})
_KEYWORDS = frozenset({
    "any_errors_fatal", "args", "async", "become", "become_exe", "become_flags", "become_method", "become_user",
    "changed_when", "check_mode", "collections", "connection", "debugger", "delay", "delegate_facts", "delegate_to",
    "diff", "environment", "failed_when", "ignore_errors", "ignore_unreachable", "listen", "loop", "loop_control",
    "module_defaults", "name", "no_log", "notify", "poll", "port", "register", "remote_user", "retries", "run_once",
    "tags", "throttle", "timeout", "until", "vars", "when", *_BLOCKS,
})  # fmt: skip
_PLAY_KEYS = frozenset({
    "any_errors_fatal", "become", "become_method", "become_user", "check_mode", "connection", "diff", "environment",
    "gather_facts", "hosts", "max_fail_percentage", "module_defaults", "name", "no_log", "order", "serial",
    "strategy", "tags", "throttle", "timeout", "vars", *_PLAY_TASKS,
})  # fmt: skip
_PIPE = re.compile(r"(?:lookup|query|q)\(\s*['\"](?:ansible\.builtin\.)?(?:pipe|unvault|template)['\"]")
_UNCHECKED = re.compile(r"StrictHostKeyChecking|ansible_host_key_checking|UserKnownHostsFile", re.IGNORECASE)
_FQCN = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+\.[a-z0-9_.]+")
_DEEPEST = 10


def gate(playbooks: Path, plays: Mapping[Path, tuple[str, ...]]) -> tuple[Finding, ...]:
    """Return everything forbidden below `playbooks`; `plays` maps each play to the platforms that it runs on.

    Platform files that no play reaches are checked as well: somebody will include them one day.
    """
    playbooks = playbooks.resolve()
    found: list[Finding] = []
    seen: set[tuple[Path, str]] = set()
    for play, platforms in plays.items():
        for platform in platforms:
            found += _Walk(playbooks, platform, seen).play(play.resolve())
    for file in sorted((playbooks / "platforms").rglob("*.y*ml")):
        found += _Walk(playbooks, file.parent.name, seen).tasks_of(file, 0)
    found += _config(playbooks / "ansible.cfg")
    found += gate_plugins(playbooks / "plugins")
    return tuple(dict.fromkeys(found))


def gate_play(playbooks: Path, play: Path, platform: str) -> tuple[Finding, ...]:
    """Return everything forbidden in what one play does on one platform, in the plugins and in the configuration."""
    playbooks = playbooks.resolve()
    found = [*_Walk(playbooks, platform, set()).play(play.resolve())]
    found += _config(playbooks / "ansible.cfg")
    found += gate_plugins(playbooks / "plugins")
    return tuple(dict.fromkeys(found))


class _Walk:
    """One play on one platform, with all that it includes."""

    def __init__(self, playbooks: Path, platform: str, seen: set[tuple[Path, str]]) -> None:
        self._playbooks, self._platform, self._seen = playbooks, platform, seen

    def play(self, file: Path) -> Iterator[Finding]:
        for play in _entries(content := _read(file)):
            if not isinstance(play, Mapping):
                yield _finding(file, "play", "is not a mapping", "write a play")
                continue
            for key in sorted(str(key) for key in play.keys() - _PLAY_KEYS):
                yield _finding(file, key, "cannot be followed by this gate", "use tasks and include_tasks")
            for section in _PLAY_TASKS:
                yield from self._tasks(file, play.get(section), 0)
            yield from self._plain(file, "vars", play.get("vars"))
            yield from self._plain(file, "environment", play.get("environment"))
        if content is None:
            yield _finding(file, "the file", "cannot be read as YAML", "mend it")

    def tasks_of(self, file: Path, depth: int) -> Iterator[Finding]:
        if (file, self._platform) in self._seen:
            return
        self._seen.add((file, self._platform))
        content = _read(file)
        if content is None or depth > _DEEPEST:
            yield _finding(
                file, "the file", "cannot be followed", "make it a list of tasks, not nested too deep"
            )
            return
        yield from self._tasks(file, content, depth)

    def _tasks(self, file: Path, raw: object, depth: int) -> Iterator[Finding]:
        for task in _entries(raw):
            if not isinstance(task, Mapping):
                yield _finding(file, "task", "is not a mapping", "write a task")
                continue
            for section in _BLOCKS:
                yield from self._tasks(file, task.get(section), depth)
            yield from self._task(file, task, depth)

    def _task(self, file: Path, task: Mapping[Any, Any], depth: int) -> Iterator[Finding]:
        where = str(task.get("name", "a task without a name"))
        modules = [str(key) for key in task if key not in _KEYWORDS]
        if len(modules) > 1 or (not modules and "block" not in task):
            yield _finding(file, where, f"has {len(modules)} modules", "write one module per task")
            return
        for key in ("vars", "environment", "module_defaults", "loop"):
            yield from self._plain(file, f"{where}: {key}", task.get(key))
        for module in modules:
            arguments = task[module]
            more = task.get("args")
            if isinstance(arguments, Mapping) and isinstance(more, Mapping):
                arguments = {**arguments, **more}
            elif more is not None:
                yield _finding(file, where, "keeps its arguments in `args`", f"write them below {module}")
            yield from self._module(file, where, module, arguments)
            if module in _INCLUDES:
                yield from self._include(file, where, arguments, depth)

    def _module(self, file: Path, where: str, module: str, arguments: object) -> Iterator[Finding]:
        if module.startswith("abeyance_"):
            if not (self._playbooks / "plugins" / "action" / f"{module}.py").is_file():
                yield _finding(file, where, f"{module} is not one of the plugins", "see plugins/action")
        elif _FQCN.fullmatch(module) is None:
            yield _finding(
                file, where, f"{module} is not a full name", "write collection and module, or a plugin"
            )
        elif module.startswith(("ansible.builtin.", "ansible.legacy.")) and module not in _BUILTIN:
            yield _finding(file, where, f"{module} is not allowed", "use a plugin whose calls are listed")
        elif word := forbidden_in(module.rpartition(".")[2]):
            yield _finding(file, where, f"{module} could {word}", "nothing here may")
        if module in _TALKING or module in _INCLUDES:
            return
        yield from self._plain(file, where, arguments)
        yield from _arguments(file, where, module, arguments)

    def _include(self, file: Path, where: str, arguments: object, depth: int) -> Iterator[Finding]:
        named = arguments.get("file") if isinstance(arguments, Mapping) else arguments
        path = str(named).replace("{{ playbook_dir }}", str(self._playbooks / "actions"))
        path = path.replace("{{ site_platform }}", self._platform)
        if "{{" in path or "{%" in path:
            yield _finding(file, where, f"includes {named!s}, which only a run could tell", "name the file")
            return
        target = (file.parent / path).resolve()
        if not target.is_file() or not target.is_relative_to(self._playbooks):
            yield _finding(
                file, where, f"includes {path}, which is no file of the playbooks", "name a file that is"
            )
            return
        yield from self.tasks_of(target, depth + 1)

    def _plain(self, file: Path, where: str, value: object) -> Iterator[Finding]:
        """Refuse, in any text, what reaches past the gate."""
        for text in _texts(value):
            if _PIPE.search(text):
                yield _finding(file, where, "runs a program or a template through a lookup", "use a plugin")
            if _UNCHECKED.search(text):
                yield _finding(
                    file, where, "turns off the check of host keys", "put the key into known_hosts"
                )


def _arguments(file: Path, where: str, module: str, arguments: object) -> Iterator[Finding]:
    if isinstance(arguments, str):
        yield _finding(file, where, f"{module} takes free text", "write its arguments as a mapping")
        return
    for text in _texts(arguments):
        if word := forbidden_in(text):
            yield _finding(file, where, f"{module} is told to {word}: {text[:60]!r}", "nothing here may")
    if not isinstance(arguments, Mapping):
        return
    for key, value in arguments.items():
        if str(key) in _VERBS and isinstance(value, str) and "{{" in value:
            yield _finding(file, where, f"{key} is only known in a run", "write it down")
        if str(key) in ("validate_certs", "verify_ssl") and value is not True:
            yield _finding(file, where, f"{key} is turned off", "trust the authority instead")
    if module == "ansible.builtin.uri" and str(arguments.get("method", "GET")).upper() not in _METHODS:
        yield _finding(
            file, where, f"method {arguments.get('method')}", f"use one of {', '.join(sorted(_METHODS))}"
        )
    if module == "ansible.builtin.command":
        yield from _command(file, where, arguments)


def _command(file: Path, where: str, arguments: Mapping[Any, Any]) -> Iterator[Finding]:
    argv = arguments.get("argv")
    if not isinstance(argv, list) or not argv or set(arguments) - {"argv", "chdir", "creates", "stdin"}:
        yield _finding(file, where, "command needs a list of arguments", "write `argv: [program, argument]`")
    elif problem := forbidden_program([str(argument) for argument in argv]):
        yield _finding(file, where, problem, "use a plugin whose commands are listed")


def _config(file: Path) -> Iterator[Finding]:
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if re.search(r"^\s*host_key_checking\s*=(?!\s*true\b)", text, re.IGNORECASE | re.MULTILINE):
        yield _finding(
            file, "host_key_checking", "is turned off", "leave it on: host keys are always checked"
        )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _entries(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _read(file: Path) -> object:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=SAFE_LOADER)  # noqa: S506 - a safe one
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _finding(file: Path, where: str, problem: str, remedy: str) -> Finding:
    return Finding(file=file, where=where, problem=problem, remedy=remedy)
