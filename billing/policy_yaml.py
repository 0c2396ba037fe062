"""Reading a YAML mapping key by key, so that every refusal names its file and line.

Owns nodes, lines and typed values; knows no word of a policy. Collects what is wrong instead of stopping at the first.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import yaml

from billing.rules.durations import DurationError, parse_duration

#: Longer lengths are typing errors, and would leave the calendar.
LONGEST = timedelta(days=3660)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a file, with what to do about it. Line 0: with the file as a whole."""

    file: str
    line: int
    where: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        """Return the whole problem on one line: `file:line: where: reason; remedy`."""
        place = f"{self.where}: " if self.where else ""
        line = f":{self.line}" if self.line else ""
        return " ".join(f"{self.file}{line}: {place}{self.reason}; {self.remedy}".split())


class FileRefused(ValueError):  # noqa: N818 - it says what happened to the file
    """A file that cannot be used; `problems` names everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Source:
    """One file being read, with what is wrong with it so far."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, line: int, where: str, reason: str, remedy: str) -> None:
        """Note a problem and go on."""
        self.problems.append(Problem(file=self.file, line=line, where=where, reason=reason, remedy=remedy))


class Section:
    """One mapping of a file. Its keys are taken one by one; `finish` refuses those that nobody took."""

    def __init__(self, source: Source, where: str, node: yaml.MappingNode) -> None:
        self.source, self.where, self.line = source, where, line_of(node)
        self._nodes: dict[str, yaml.Node] = {}
        self._known: list[str] = []
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name in self._nodes:
                self.source.refuse(line_of(key), self._path(name), "stands twice", "keep one of the two")
            self._nodes[name] = value

    @property
    def keys(self) -> list[str]:
        """The keys in the order of the file."""
        return list(self._nodes)

    def line_at(self, key: str) -> int:
        """Return the line of a key's value, or that of the section where the key is absent."""
        return line_of(self._nodes[key]) if key in self._nodes else self.line

    def refuse(self, key: str, reason: str, remedy: str) -> None:
        """Note a problem with one key."""
        self.source.refuse(self.line_at(key), self._path(key), reason, remedy)

    def finish(self) -> None:
        """Refuse every key that was not taken."""
        for key in self._nodes:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                remedy = f"did you mean {near[0]}?" if near else f"known here: {', '.join(self._known)}"
                self.refuse(key, "is unknown", remedy)

    def take(self, key: str) -> yaml.Node | None:
        """Return the value of a key; null when it is absent, or blank, which is refused."""
        self._known.append(key)
        node = self._nodes.get(key)
        if node is not None and node.tag == "tag:yaml.org,2002:null":
            self.refuse(key, "is blank", "give it a value or remove the line")
            return None
        return node

    def section(self, key: str) -> "Section | None":
        """Return a mapping under this key; null when it is absent or something else, which is refused."""
        node = self.take(key)
        if node is None or isinstance(node, yaml.MappingNode):
            return Section(self.source, self._path(key), node) if node else None
        self.refuse(key, "is not a mapping", "write `key: value` pairs")
        return None

    def text(self, key: str) -> str | None:
        """Return a plain text; null when it is absent or something else, which is refused."""
        node = self.take(key)
        if isinstance(node, yaml.ScalarNode) and node.value.strip():
            return str(node.value)
        if node is not None:
            self.refuse(key, "is not a text", "write one word or a quoted text")
        return None

    def items(self, key: str) -> list[tuple[int, str]] | None:
        """Return a list of plain texts with their lines; null when it is absent or something else, which is refused."""
        node = self.take(key)
        if node is None:
            return None
        if not isinstance(node, yaml.SequenceNode) or not all(
            isinstance(n, yaml.ScalarNode) for n in node.value
        ):
            self.refuse(key, "is not a list of words", "write it like [one, two]")
            return None
        return [(line_of(item), str(item.value)) for item in node.value]

    def choice(self, key: str, among: Sequence[str], default: str) -> str:
        """Return one of several words."""
        word = self.text(key)
        if word is None or word in among:
            return default if word is None else word
        self.refuse(key, f"{word[:40]!r} is none of the possible words", f"use one of: {', '.join(among)}")
        return default

    def duration(self, key: str, default: timedelta, *, at_least: timedelta = timedelta(0)) -> timedelta:
        """Return an exact ISO 8601 duration."""
        word = self.text(key)
        if word is None:
            return default
        try:
            length = parse_duration(word)
        except DurationError as error:
            reason, _, remedy = str(error).partition("; ")
            self.refuse(key, reason, remedy)
            return default
        if length > LONGEST:
            self.refuse(key, f"{word} is longer than ten years", f"write at most P{LONGEST.days}D")
        elif length < at_least:
            self.refuse(key, f"{word} is too short", "write a duration longer than 0, such as P7D")
        else:
            return length
        return default

    def never_or_duration(self, key: str, default: timedelta | None) -> timedelta | None:
        """Return a duration above 0, or null for the word `never`."""
        node = self._nodes.get(key)
        if isinstance(node, yaml.ScalarNode) and node.value == "never":
            self.take(key)
            return None
        if key not in self._nodes:
            self.take(key)
            return default
        return self.duration(key, default or timedelta(0), at_least=timedelta(microseconds=1))

    def whole(self, key: str, default: int, *, at_least: int, at_most: int) -> int:
        """Return a whole number within bounds."""
        node = self.take(key)
        if node is None:
            return default
        value = node.value if isinstance(node, yaml.ScalarNode) else ""
        if node.tag == "tag:yaml.org,2002:int" and value.lstrip("-").isdecimal() and len(value) <= 20:
            if at_least <= int(value) <= at_most:
                return int(value)
            self.refuse(
                key, f"{value} is out of bounds", f"write a whole number from {at_least} to {at_most}"
            )
        else:
            self.refuse(key, "is not a whole number", f"write a whole number from {at_least} to {at_most}")
        return default

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        node = self.take(key)
        if node is None:
            return default
        if node.tag == "tag:yaml.org,2002:bool" and node.value in ("true", "false"):
            return bool(node.value == "true")
        self.refuse(key, "is neither true nor false", "write true or false")
        return default

    def _path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key


def line_of(node: yaml.Node) -> int:
    """Return the line that a node starts on, counted from 1."""
    return int(node.start_mark.line) + 1


def read_mapping(source: Source, text: str) -> Section | None:
    """Return the one mapping that a YAML text consists of; null for anything else, which is refused with its line."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = f"is not valid YAML: {error.problem or error.context}"
        source.refuse(mark.line + 1 if mark else 1, "", reason, "mend the line, or its indentation")
    except (yaml.YAMLError, RecursionError) as error:
        source.refuse(
            1, "", f"is not readable as YAML: {str(error).splitlines()[0]}", "save it as plain UTF-8 text"
        )
    else:
        if isinstance(node, yaml.MappingNode):
            return Section(source, "", node)
        line = line_of(node) if node else 1
        source.refuse(line, "", "holds no mapping", "start from a copy of standard.yaml")
    return None
