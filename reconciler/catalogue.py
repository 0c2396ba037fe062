"""The catalogue of actions: what each playbook closes, where it runs, and how long it may take.

Owns the meaning of `<action>.meta.yml`. The planner picks an action by the gap that it closes and never by its name.
Must not run anything or import Ansible.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import yaml

from reconciler.play_gate import SAFE_LOADER, gate
from reconciler.plugin_gate import Finding

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_KEYS = frozenset({"name", "summary", "satisfies", "platforms", "timeout_seconds"})
_OPTION_KEYS = frozenset({
    "choices", "default", "description", "elements", "no_log", "options", "required", "type", "version_added",
})  # fmt: skip
_OPTION_TYPES = frozenset({"bool", "dict", "float", "int", "list", "path", "raw", "str"})
_LONGEST_SECONDS = 6 * 3600


class CatalogueError(ValueError):
    """An action is not what the contract asks for: which file, which field, what, and what would be right."""

    def __init__(self, file: Path, field_name: str, problem: str, remedy: str) -> None:
        super().__init__(f"{file}: {field_name}: {problem}; {remedy}")
        self.file = file
        self.field = field_name
        self.problem = problem
        self.remedy = remedy


class UnknownActionError(LookupError):
    """No action of the catalogue is called so, or closes such a gap."""


class Gap(StrEnum):
    """A difference between what should be and what is, as `satisfies` names it."""

    POWER_STOPPED = "power: stopped"
    POWER_RECORDED = "power: recorded"
    BACKUPS_LOCKED = "backups: locked"
    BACKUPS_RECORDED = "backups: recorded"
    ACCESS_CLOSED = "access: closed"
    ACCESS_RECORDED = "access: recorded"

    @property
    def restricts(self) -> bool:
        """Whether closing the gap takes something away from somebody."""
        return not self.value.endswith("recorded")


@dataclass(frozen=True, kw_only=True)
class Action:
    """One verb of the playbooks. `gap` is None for observing; `argument_specs` is in Ansible's own form."""

    name: str
    summary: str
    gap: Gap | None
    platforms: tuple[str, ...]
    timeout_seconds: int
    argument_specs: Mapping[str, object] = field(repr=False)
    playbook: Path

    @property
    def satisfies(self) -> Mapping[str, str]:
        """Return what the metadata says under `satisfies`."""
        if self.gap is None:
            return MappingProxyType({})
        part, _, value = self.gap.value.partition(": ")
        return MappingProxyType({part: value})

    @property
    def restricts(self) -> bool:
        """Whether the action takes something away; what does not is never braked."""
        return self.gap is not None and self.gap.restricts

    @property
    def variables(self) -> frozenset[str]:
        """Return the names of the variables that a run of this action may be given."""
        return frozenset(self.argument_specs)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All actions, by name."""

    actions: tuple[Action, ...]

    def action(self, name: str) -> Action:
        """Return the action of that name; raises `UnknownActionError`: such a request is to be refused."""
        for action in self.actions:
            if action.name == name:
                return action
        raise UnknownActionError(f"there is no action {name[:60]!r}; see `abeyance actions list`")

    def satisfying(self, part: str, value: str, *, platform: str | None = None) -> Action:
        """Return the action that closes a gap such as `power`, `stopped`, on `platform` where one is named.

        Raises `UnknownActionError` where none does: not every platform has everything.
        """
        for action in self.actions:
            if action.satisfies == {part: value} and platform in {None, *action.platforms}:
                return action
        where = f" on platform {platform}" if platform else ""
        raise UnknownActionError(f"no action satisfies {part}: {value}{where}")


def load_catalogue(playbooks: Path) -> Catalogue:
    """Read all metadata below `playbooks/actions`.

    Raises `CatalogueError` on the first thing that is wrong; a catalogue is never loaded in part.
    """
    folder = playbooks / "actions"
    files = sorted(folder.glob("*.meta.yml"))
    if not files:
        raise CatalogueError(
            folder, "*.meta.yml", "no action was found", "set ABEYANCE_PLAYBOOKS to the playbooks' folder"
        )
    actions = tuple(_action(playbooks, file) for file in files)
    _refuse_ambiguous(folder, actions)
    described = {action.playbook for action in actions}
    for play in sorted(folder.glob("*.yml")):
        if not play.name.endswith(".meta.yml") and play not in described:
            raise CatalogueError(play, "metadata", "is missing", f"add {play.stem}.meta.yml beside it")
    return Catalogue(actions=actions)


def check_actions(playbooks: Path) -> tuple[Finding, ...]:
    """Check every action against its contract and return all that is wrong.

    The metadata, and then all that its plays, platform files and plugins could do: nothing in them may be able to
    delete, purge, prune, roll back or overwrite. Reads files only.
    """
    try:
        catalogue = load_catalogue(playbooks)
    except CatalogueError as error:
        found = [Finding(file=error.file, where=error.field, problem=error.problem, remedy=error.remedy)]
        return (*found, *gate(playbooks, {}))
    return gate(playbooks, {action.playbook: action.platforms for action in catalogue.actions})


def _refuse_ambiguous(folder: Path, actions: tuple[Action, ...]) -> None:
    closes: dict[Gap | None, str] = {}
    for action in actions:
        other = closes.setdefault(action.gap, action.name)
        if other != action.name:
            file = folder / f"{action.name}.meta.yml"
            raise CatalogueError(
                file, "action.satisfies", f"is what {other} satisfies too", "let one action do it"
            )


def _action(playbooks: Path, file: Path) -> Action:
    stem = file.name.removesuffix(".meta.yml")
    content = _mapping(file, "the file", _load(file))
    _only(file, "the file", content, frozenset({"action", "argument_specs"}))
    body = _mapping(file, "action", content.get("action"))
    _only(file, "action", body, _KEYS)
    if body["name"] != stem or _NAME.fullmatch(stem) is None:
        raise CatalogueError(
            file, "action.name", f"is {body['name']!r}", f"call it {stem!r}, as the file says"
        )
    summary, timeout = body["summary"], body["timeout_seconds"]
    if not isinstance(summary, str) or not summary.strip():
        raise CatalogueError(file, "action.summary", "is blank", "say in one sentence what the action does")
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 0 < timeout <= _LONGEST_SECONDS:
        remedy = f"give whole seconds from 1 to {_LONGEST_SECONDS}"
        raise CatalogueError(file, "action.timeout_seconds", f"is {timeout!r}", remedy)
    play = file.with_name(f"{stem}.yml")
    if not play.is_file():
        raise CatalogueError(
            file, "action.name", f"there is no play {play.name}", f"add {play.name} beside it"
        )
    return Action(
        name=stem,
        summary=summary.strip(),
        gap=_gap(file, body["satisfies"]),
        platforms=_platforms(playbooks, file, stem, body["platforms"]),
        timeout_seconds=timeout,
        argument_specs=MappingProxyType(_options(file, stem, content.get("argument_specs"))),
        playbook=play,
    )


def _gap(file: Path, raw: object) -> Gap | None:
    satisfies = _mapping(file, "action.satisfies", raw)
    if not satisfies:
        return None
    named = ", ".join(f"{part}: {value}" for part, value in satisfies.items())
    if named not in [gap.value for gap in Gap]:
        known = ", ".join(f"{{{gap}}}" for gap in Gap)
        raise CatalogueError(
            file, "action.satisfies", f"{{{named}}} is unknown", f"use one of {known}, or {{}}"
        )
    return Gap(named)


def _platforms(playbooks: Path, file: Path, stem: str, raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw or len({str(name) for name in raw}) != len(raw):
        raise CatalogueError(file, "action.platforms", f"is {raw!r}", "list the platforms, each once")
    for name in raw:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise CatalogueError(
                file, "action.platforms", f"{name!r} is no name", "use the name of a folder in platforms/"
            )
        procedure = playbooks / "platforms" / name / f"{stem}.yml"
        if not procedure.is_file():
            problem = f"there is no platforms/{name}/{stem}.yml"
            raise CatalogueError(file, "action.platforms", problem, f"add it, or leave {name} out")
    return tuple(raw)


def _options(file: Path, stem: str, raw: object) -> dict[str, object]:
    specs = _mapping(file, "argument_specs", raw)
    _only(file, "argument_specs", specs, frozenset({stem}))
    entry = _mapping(file, f"argument_specs.{stem}", specs.get(stem))
    where = f"argument_specs.{stem}"
    _only(file, where, entry, frozenset({"options"}), may=frozenset({"short_description", "description"}))
    options = _mapping(file, f"{where}.options", entry["options"])
    for name, spec in options.items():
        _check_option(file, f"{where}.options.{name}", spec)
    return {str(name): spec for name, spec in options.items()}


def _check_option(file: Path, where: str, raw: object) -> None:
    spec = _mapping(file, where, raw)
    _only(file, where, spec, frozenset({"type"}), may=_OPTION_KEYS)
    if spec["type"] not in _OPTION_TYPES:
        raise CatalogueError(
            file, f"{where}.type", f"is {spec['type']!r}", f"use one of {', '.join(sorted(_OPTION_TYPES))}"
        )
    for name, inner in _mapping(file, f"{where}.options", spec.get("options") or {}).items():
        _check_option(file, f"{where}.options.{name}", inner)


def _only(
    file: Path,
    where: str,
    given: Mapping[object, object],
    must: frozenset[str],
    *,
    may: frozenset[str] = frozenset(),
) -> None:
    """Refuse keys that nobody knows and miss none that is needed."""
    if unknown := sorted(str(key) for key in given.keys() - must - may):
        raise CatalogueError(
            file, f"{where}.{unknown[0]}", "is unknown", f"known are {', '.join(sorted(must | may))}"
        )
    if missing := sorted(must - given.keys()):
        raise CatalogueError(file, f"{where}.{missing[0]}", "is missing", "add it")


def _mapping(file: Path, where: str, value: object) -> Mapping[object, object]:
    if not isinstance(value, Mapping):
        raise CatalogueError(file, where, "is not a mapping", "write `key: value` lines")
    return value


def _load(file: Path) -> object:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=SAFE_LOADER)  # noqa: S506 - a safe one
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "the file"
        problem = str(getattr(error, "problem", None) or type(error).__name__)
        raise CatalogueError(file, where, problem, "make it readable YAML") from None
