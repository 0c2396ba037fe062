"""Documents that were found right: parsed and validated once, since a client sends the same few all the time.

Owns what is remembered, and for whom: rights are part of the validation, so each role has its own. What depends on the
variables, the limits on cost, is no part of it.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from graphql import DocumentNode, OperationDefinitionNode, OperationType

from api.graphql.compiled import variables_in
from api.graphql.executor import Shapes
from api.models import Role

#: Characters; a longer document is read anew each time, so that nobody fills the memory.
_LONGEST = 16 * 1024
#: Characters of all that are kept: a document takes a hundred times its text, and as much again once it is compiled.
_MOST_CHARACTERS = 96 * 1024


def unchain(document: DocumentNode) -> None:
    """Take the tokens of a document apart, which nobody needs once it is parsed.

    Each knows the one before and the one after it. Such circles wait for the garbage collector, which here runs seldom:
    documents that were forgotten would fill the memory meanwhile.
    """
    token = document.loc.start_token if document.loc is not None else None
    while token is not None:
        following = token.next
        token.prev = token.next = None
        token = following


@dataclass(frozen=True, kw_only=True)
class Known:
    """A document that was found right, with what its queries were compiled to; nobody may change it."""

    document: DocumentNode
    #: Whether there are variables in it, on which its cost may depend.
    varies: bool
    #: For how many accounts of the caller's own it was found to keep the limits.
    own: int
    #: How many fields it was measured to execute then.
    fields: int = 0
    shapes: Shapes = field(default_factory=Shapes)

    def has_query(self, name: str | None) -> bool:
        """Return whether the operation of this name is a query; null: the only one."""
        operations = [one for one in self.document.definitions if isinstance(one, OperationDefinitionNode)]
        meant = [
            one for one in operations if name is None or (one.name is not None and one.name.value == name)
        ]
        return len(meant) == 1 and meant[0].operation is OperationType.QUERY


@dataclass(kw_only=True)
class Documents:
    """The documents of one schema that were used last."""

    most: int = 500
    most_characters: int = _MOST_CHARACTERS
    _right: OrderedDict[tuple[Role, str], Known] = field(default_factory=OrderedDict)
    _characters: int = 0

    def find(self, role: Role, query: str) -> Known | None:
        """Return the document of this text if it was found right for this role."""
        known = self._right.get((role, query))
        if known is not None:
            self._right.move_to_end((role, query))
        return known

    def keep(self, role: Role, query: str, document: DocumentNode, *, own: int, fields: int = 0) -> None:
        """Remember a document that is right for this role, instead of the one that was not used for the longest."""
        if len(query) > _LONGEST:
            return
        if (role, query) not in self._right:
            self._characters += len(query)
        varies = bool(variables_in(document))
        self._right[role, query] = Known(document=document, varies=varies, own=own, fields=fields)
        while len(self._right) > self.most or self._characters > self.most_characters:
            (_, forgotten), _ = self._right.popitem(last=False)
            self._characters -= len(forgotten)
