"""Which texts and numbers may come in: those that every database can store and every answer can carry.

Owns the check of all of a request, before anything is executed, and the longest text to search for.
"""

import re
from collections.abc import Mapping

from graphql import DocumentNode, FloatValueNode, IntValueNode, StringValueNode, Visitor, visit

from api.graphql.errors import LIMIT_EXCEEDED, coded
from billing.rules.words import phrase

#: Characters; longer than any name or address.
LONGEST_SEARCH = 200
#: Digits; far more than any number that is asked for.
LONGEST_NUMBER = 100

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


def problem_of_literals(document: DocumentNode) -> str | None:
    """Return what is wrong with a text or a number written into a document; null when nothing is.

    An escape may spell what its source has not, and Python reads no number of thousands of digits.
    """
    found: list[str] = []
    numbers: list[str] = []

    class Literals(Visitor):
        def enter_string_value(self, node: StringValueNode, *_: object) -> None:
            found.append(node.value)

        def enter_int_value(self, node: IntValueNode, *_: object) -> None:
            numbers.append(node.value)

        def enter_float_value(self, node: FloatValueNode, *_: object) -> None:
            numbers.append(node.value)

    visit(document, Literals())
    if any(len(number) > LONGEST_NUMBER for number in numbers):
        return f"a number has more than {LONGEST_NUMBER} digits"
    return None if is_fit(found) else UNFIT


def searchable(text: str) -> str:
    """Return a text to search for; raises the error to answer with when it is longer than anything to be found."""
    if len(text) > LONGEST_SEARCH:
        raise coded(phrase("Search for at most %(most)s characters.", most=LONGEST_SEARCH), LIMIT_EXCEEDED)
    return text
