"""Types whose fields are worked out when they are first read: a page shows few of them, of many rows.

Owns that trick alone. What a field comes to is said by its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self


class WorkedOut:
    """The base of such types, made by `made_of`; nothing calls their constructors."""

    #: What each field comes of, by its name; the object's own facts are at hand in it.
    worked_out: ClassVar[Mapping[str, Callable[[Any], Any]]]

    @classmethod
    def made_of(cls, **facts: Any) -> Self:
        """Return an object of these facts."""
        made = cls.__new__(cls)
        made.__dict__ = facts
        return made

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            work = type(self).worked_out.get(name)
            if work is None:
                raise AttributeError(name)
            value = vars(self)[name] = work(self)
            return value
