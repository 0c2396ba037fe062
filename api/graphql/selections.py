"""How many selections a document comes to once its fragments are spread out and equal names are merged.

Owns the two limits that keep validation cheap: it compares selections of one response name in pairs, so what it costs
grows with their square. Counts only, stops at the first excess, and looks at no schema.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

MOST_SELECTIONS = 500
MOST_OF_ONE_NAME = 20
MOST_FRAGMENTS = 60

#: Selections with the names of the fragments that they are within.
_Level = list[tuple[SelectionSetNode, frozenset[str]]]


class _ExcessError(Exception):
    """The document exceeds a limit; the text says which one and what to do."""


def problem_of_selections(document: DocumentNode) -> str | None:
    """Return which limit on selections the document exceeds, in words; null when it keeps all of them."""
    try:
        _Merging(document).check()
    except _ExcessError as excess:
        return str(excess)
    return None


class _Merging:
    """Walks every definition level by level, as execution merges them; visits at most the permitted selections."""

    def __init__(self, document: DocumentNode) -> None:
        self._operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
        # Names that are taken twice are the validation's to refuse; until then each definition counts.
        self._fragments: dict[str, list[FragmentDefinitionNode]] = defaultdict(list)
        for one in document.definitions:
            if isinstance(one, FragmentDefinitionNode):
                self._fragments[one.name.value].append(one)
        self._spread: set[str] = set()
        self._selections = 0

    def check(self) -> None:
        fragments = sum(map(len, self._fragments.values()))
        if fragments > MOST_FRAGMENTS:
            raise _ExcessError(f"the query has {fragments} fragments; define at most {MOST_FRAGMENTS}")
        for operation in self._operations:
            self._merge([(operation.selection_set, frozenset())])
        for name, definitions in self._fragments.items():
            if (
                name not in self._spread
            ):  # nothing uses it, and the validation compares its fields all the same
                for fragment in definitions:
                    self._merge([(fragment.selection_set, frozenset({name}))])

    def _merge(self, root: _Level) -> None:
        levels = [root]
        while levels:
            levels.extend(self._below(levels.pop()))

    def _below(self, level: _Level) -> list[_Level]:
        """Return the levels under one level: the selections of all its fields of one name are one level."""
        counts: Counter[str] = Counter()
        below: dict[str, _Level] = defaultdict(list)
        for node, within in self._fields(level):
            name = (node.alias or node.name).value
            counts[name] += 1
            if counts[name] > MOST_OF_ONE_NAME:
                raise _ExcessError(
                    f'"{name[:40]}" is selected more than {MOST_OF_ONE_NAME} times at one place; '
                    "select it once and put everything that you want of it in there"
                )
            if node.selection_set is not None:
                below[name].append((node.selection_set, within))
        return list(below.values())

    def _fields(self, level: _Level) -> Iterator[tuple[FieldNode, frozenset[str]]]:
        open_ = list(level)
        while open_:
            selection_set, within = open_.pop()
            for node in selection_set.selections:
                self._selections += 1
                if self._selections > MOST_SELECTIONS:
                    raise _ExcessError(
                        f"the query has more than {MOST_SELECTIONS} selections with its fragments spread out; "
                        "ask for fewer fields, or in several operations"
                    )
                if isinstance(node, FieldNode):
                    yield node, within
                elif isinstance(node, FragmentSpreadNode):
                    open_.extend(self._spread_out(node.name.value, within))
                else:
                    open_.append((node.selection_set, within))  # type: ignore[attr-defined]

    def _spread_out(self, name: str, within: frozenset[str]) -> _Level:
        self._spread.add(name)
        if name in within:
            return []  # a fragment within itself is the validation's to refuse
        return [(one.selection_set, within | {name}) for one in self._fragments.get(name, ())]
