"""Documents that were found right: parsed and validated once, since a client sends the same few all the time.

Owns what is remembered, and for whom: rights are part of the validation, so each role has its own. What depends on the
variables, the limits on cost, is no part of it.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from graphql import DocumentNode

from api.models import Role

#: Characters; a longer document is read anew each time, so that nobody fills the memory.
_LONGEST = 16 * 1024


@dataclass(kw_only=True)
class Documents:
    """The documents of one schema that were used last."""

    most: int = 500
    _right: OrderedDict[tuple[Role, str], DocumentNode] = field(default_factory=OrderedDict)

    def find(self, role: Role, query: str) -> DocumentNode | None:
        """Return the document of this text if it was found right for this role; nobody may change it."""
        document = self._right.get((role, query))
        if document is not None:
            self._right.move_to_end((role, query))
        return document

    def keep(self, role: Role, query: str, document: DocumentNode) -> None:
        """Remember a document that is right for this role, instead of the one that was not used for the longest."""
        if len(query) <= _LONGEST:
            self._right[role, query] = document
            if len(self._right) > self.most:
                self._right.popitem(last=False)
