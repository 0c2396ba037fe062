"""What the schema says of its types, fields, arguments and values where their code says nothing: one file of words.

Owns reading that file and putting each word where it belongs. An entry that describes nothing is an error.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from graphql import GraphQLNamedType, GraphQLSchema, is_specified_scalar_type

FILE = Path(__file__).with_suffix(".toml")
#: The tables of what a name means wherever it stands: of fields, inputs and values, and of arguments.
_ANYWHERE, _ANY_ARGUMENT = "*", "()"
#: Types that only carry others, and what they are.
_CARRIERS = {"Connection": "One page of a list.", "Edge": "One row of a list, with its cursor."}

Tables = Mapping[str, Mapping[str, str]]


class UnusedWordsError(Exception):
    """Entries of the file that describe nothing; the text names them."""


def describe(schema: GraphQLSchema) -> None:
    """Give a word to everything of a schema that has none; raises `UnusedWordsError` for words about nothing."""
    words = _Words(_tables())
    for kind in schema.type_map.values():
        if not (kind.name.startswith("__") or is_specified_scalar_type(kind)):
            _describe_type(kind, words)
    words.refuse_unused()


def _describe_type(kind: GraphQLNamedType, words: "_Words") -> None:
    kind.description = kind.description or _carrier(kind.name)
    for name, member in members(kind):
        if not member.description:
            member.description = words.of(kind.name, name, _ANYWHERE)
        for argument, given in getattr(member, "args", {}).items():
            if not given.description:
                given.description = words.of(kind.name, f"{name}({argument})", _ANY_ARGUMENT, argument)


def members(kind: GraphQLNamedType) -> Iterator[tuple[str, Any]]:
    """Yield the fields, inputs or values of a type."""
    yield from (getattr(kind, "fields", None) or getattr(kind, "values", None) or {}).items()


def _carrier(name: str) -> str | None:
    return next((word for end, word in _CARRIERS.items() if name.endswith(end)), None)


@dataclass
class _Words:
    tables: Tables
    _used: set[tuple[str, str]] = field(default_factory=set, init=False)

    def of(self, kind: str, name: str, anywhere: str, plain: str | None = None) -> str | None:
        """Return the word of one type about this name, else the one that holds anywhere."""
        for table, entry in ((kind, name), (anywhere, plain or name)):
            word = self.tables.get(table, {}).get(entry)
            if word is not None:
                self._used.add((table, entry))
                return word
        return None

    def refuse_unused(self) -> None:
        """Raise for entries that nothing was described by."""
        entries = {(table, entry) for table, words in self.tables.items() for entry in words}
        unused = sorted(f"{table}.{entry}" for table, entry in entries - self._used)
        if unused:
            raise UnusedWordsError(f"{FILE.name}: {', '.join(unused)} describe nothing")


@cache
def _tables() -> Tables:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))
