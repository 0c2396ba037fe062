"""What an error about a document says of the schema: no more than its sender has written.

Owns the hiding of type names and suggestions in messages of the GraphQL library, with which strangers would otherwise
rebuild the schema by asking for what is not there. Developers are told everything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import is_specified_scalar_type

from api.graphql.errors import FORBIDDEN, INVALID

_WORD = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")
#: The library suggests similar names where variables are read, whatever it was told elsewhere.
_SUGGESTION = re.compile(r" ?Did you mean .*?\?", re.DOTALL)
_HIDDEN = "…"
#: A message quotes the values that it is about; longer ones help nobody.
_LONGEST = 500


@dataclass(frozen=True, kw_only=True)
class HiddenNames:
    """Hides the names of one schema's types."""

    types: frozenset[str]

    def hide(self, error: Mapping[str, Any], query: str) -> dict[str, Any]:
        """Return a formatted error without the names that the query does not have itself."""
        told = dict(error)
        if "path" in told or told.get("extensions", {}).get("code") not in {INVALID, FORBIDDEN}:
            return told  # it was executed: the text is ours
        said = set(_WORD.findall(query))

        def shown(word: re.Match[str]) -> str:
            name = word.group()
            return _HIDDEN if name in self.types and name not in said else name

        message = _WORD.sub(shown, _SUGGESTION.sub("", told["message"]))
        told["message"] = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}{_HIDDEN}"
        return told


def hidden_names(schema: strawberry.Schema) -> HiddenNames:
    """Return what hides the types of this schema; the scalars of the language are no secret."""
    kinds = schema._schema.type_map.items()  # noqa: SLF001  # it has no other door
    return HiddenNames(types=frozenset(name for name, kind in kinds if not is_specified_scalar_type(kind)))
