"""Which texts may come in: those that every database can store and every answer can carry.

Owns the check of all texts of a request, before anything is executed, and the longest text to search for.
"""

import re
from collections.abc import Mapping

from graphql import DocumentNode, StringValueNode, Visitor, visit

from api.graphql.errors import LIMIT_EXCEEDED, coded
from billing.rules.words import phrase

#: Characters; longer than any name or address.
LONGEST_SEARCH = 200

_SURROGATE = re.compile("[\ud800-\udfff]")

UNFIT = "a text has a NUL character or half of a surrogate pair in it; send whole Unicode characters"


def is_fit(told: object) -> bool:
    """Return whether every text in a JSON value, keys included, can be stored and answered.

    PostgreSQL stores no NUL (its manual, section "Character Types"), and a lone surrogate has no UTF-8.
    """
    open_ = [told]
    while open_:
        value = open_.pop()
        if isinstance(value, str):
            if "\0" in value or (not value.isascii() and _SURROGATE.search(value)):
                return False
        elif isinstance(value, Mapping):
            open_.extend(value.keys())
            open_.extend(value.values())
        elif isinstance(value, list):
            open_.extend(value)
    return True


def has_fit_literals(document: DocumentNode) -> bool:
    """Return whether the texts written into a document are fit; an escape may spell what its source has not."""
    found: list[str] = []

    class Texts(Visitor):
        def enter_string_value(self, node: StringValueNode, *_: object) -> None:
            found.append(node.value)

    visit(document, Texts())
    return is_fit(found)


def searchable(text: str) -> str:
    """Return a text to search for; raises the error to answer with when it is longer than anything to be found."""
    if len(text) > LONGEST_SEARCH:
        raise coded(phrase("Search for at most %(most)s characters.", most=LONGEST_SEARCH), LIMIT_EXCEEDED)
    return text
