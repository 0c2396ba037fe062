"""Reads `hosts.yml`, `group_vars/` and `host_vars/` as Ansible's own YAML inventory does, as far as sites need it.

Owns groups, hosts and the precedence of variables (parent before child, group before host, files after inline). Knows
no variable's meaning. Encrypted files and values are passed over: what is ours is never encrypted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

_SUFFIXES = ("", ".yml", ".yaml", ".json")
_VAULT = "$ANSIBLE_VAULT"
_DEEPEST = 20


class InventoryError(ValueError):
    """Something in an inventory is wrong: which file, which field, what, and what would be right."""

    def __init__(self, file: Path, field_name: str, problem: str, remedy: str) -> None:
        super().__init__(f"{file}: {field_name}: {problem}; {remedy}")
        self.file = file
        self.field = field_name
        self.remedy = remedy


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A variable's value and the file that it was found in."""

    value: object
    file: Path


@dataclass(kw_only=True, eq=False)
class Group:
    """One group. A group that is listed in several places is one object with several parents."""

    name: str
    own: dict[str, Place] = field(default_factory=dict)
    hosts: dict[str, dict[str, Place]] = field(default_factory=dict)
    parents: list[Group] = field(default_factory=list)
    children: list[Group] = field(default_factory=list)
    files: _VarFiles

    def walk(self) -> list[Group]:
        """Return this group and all below it, each once."""
        found: dict[str, Group] = {}
        pending = [self]
        while pending:
            group = pending.pop()
            if group.name not in found:
                found[group.name] = group
                pending += reversed(group.children)
        return list(found.values())

    @property
    def ancestors(self) -> frozenset[str]:
        """Return the names of all groups above this one."""
        return frozenset(name for parent in self.parents for name in (parent.name, *parent.ancestors))

    @property
    def all_vars(self) -> dict[str, Place]:
        """Return the variables that hold for the group: its own over those of the groups above."""
        merged: dict[str, Place] = {}
        for parent in sorted(self.parents, key=lambda group: (len(group.ancestors), group.name)):
            merged |= parent.all_vars
        return merged | self.own

    @property
    def all_hosts(self) -> frozenset[str]:
        """Return the hosts of this group and of all below it."""
        return frozenset(host for group in self.walk() for host in group.hosts)

    def host_vars(self, host: str) -> dict[str, Place]:
        """Return what holds for one of the hosts: its own over its groups', the deeper group over the upper."""
        merged: dict[str, Place] = {}
        holding = [group for group in self.walk() if host in group.hosts]
        for group in sorted(holding, key=lambda group: (len(group.ancestors), group.name)):
            merged |= group.all_vars
        for group in holding:
            merged |= group.hosts[host]
        return merged | self.files.of("host_vars", host)


def read_tree(folder: Path) -> Group | None:
    """Return the group `all` of the folder's `hosts.yml` with everything below it; None without that file."""
    file = folder / "hosts.yml"
    if not file.exists():
        return None
    content = _load(file)
    if not isinstance(content, Mapping) or set(content) != {"all"}:
        raise InventoryError(file, "all", "is not the one top-level key", "put everything below `all:`")
    files = _VarFiles(folder)
    known: dict[str, Group] = {}
    return _Reader(file, files, known).group("all", content["all"], depth=0)


class _Reader:
    """Builds groups from the nested mappings of one file."""

    def __init__(self, file: Path, files: _VarFiles, known: dict[str, Group]) -> None:
        self._file, self._files, self._known = file, files, known

    def group(self, name: str, content: object, *, depth: int) -> Group:
        if depth > _DEEPEST:
            raise InventoryError(self._file, name, "is nested too deep", "list groups beside each other")
        group = self._known.get(name)
        if group is None:
            group = self._known[name] = Group(name=name, files=self._files)
        body = self._mapping(name, content)
        if unknown := sorted(str(key) for key in body.keys() - {"hosts", "children", "vars"}):
            raise InventoryError(
                self._file, f"{name}.{unknown[0]}", "is unknown", "use hosts, children and vars"
            )
        group.own |= self._places(f"{name}.vars", body.get("vars"))
        group.own |= self._files.of("group_vars", name)
        for host, variables in self._mapping(f"{name}.hosts", body.get("hosts")).items():
            places = self._places(f"{name}.hosts.{host}", variables)
            group.hosts[self._name(f"{name}.hosts", host)] = places
        for child, inner in self._mapping(f"{name}.children", body.get("children")).items():
            below = self.group(self._name(f"{name}.children", child), inner, depth=depth + 1)
            if name in (below.name, *(g.name for g in below.walk())):
                raise InventoryError(
                    self._file, f"{name}.children.{child}", "contains itself", "list it once"
                )
            if below not in group.children:
                group.children.append(below)
                below.parents.append(group)
        return group

    def _places(self, where: str, content: object) -> dict[str, Place]:
        values = self._mapping(where, content)
        return {str(key): Place(value=value, file=self._file) for key, value in values.items()}

    def _mapping(self, where: str, content: object) -> Mapping[object, object]:
        if content is None:
            return {}
        if not isinstance(content, Mapping):
            raise InventoryError(self._file, where, "is not a mapping", "write `name: {}` for each entry")
        return content

    def _name(self, where: str, name: object) -> str:
        if not isinstance(name, str):
            raise InventoryError(self._file, where, f"{name!r} is not a text", "put the name in quotes")
        return name


class _VarFiles:
    """`group_vars/NAME` and `host_vars/NAME`: a file with or without suffix, or a folder of files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, kind: str, name: str) -> dict[str, Place]:
        merged: dict[str, Place] = {}
        for file in self._files(self._folder / kind, name):
            content = _load(file)
            if content is None:
                continue
            if not isinstance(content, Mapping):
                raise InventoryError(file, name, "is not a mapping", "write `variable: value` lines")
            merged |= {str(key): Place(value=value, file=file) for key, value in content.items()}
        return merged

    def _files(self, folder: Path, name: str) -> Iterator[Path]:
        if "/" in name or name.startswith("."):
            return
        for suffix in _SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                yield path
            elif path.is_dir():
                yield from sorted(
                    file for file in path.rglob("*") if file.is_file() and file.suffix in _SUFFIXES
                )


class _Loader(yaml.SafeLoader):
    """Safe loading that refuses a key given twice and passes over Ansible's own tags."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    "while reading a mapping", node.start_mark, f"{key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Sealed:
    """Stands for a value under a tag of Ansible's, such as `!vault`, that is not ours to read."""

    def __repr__(self) -> str:
        return "a tagged value"


_Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: _Sealed())


def _load(file: Path) -> object:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InventoryError(
            file, "the file", f"cannot be read: {reason}", "make it readable for this user"
        ) from None
    if text.startswith(_VAULT):
        return None
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else "the file"
        problem = str(getattr(error, "problem", "") or "is not YAML")
        raise InventoryError(file, line, problem, "mend the YAML there") from None
