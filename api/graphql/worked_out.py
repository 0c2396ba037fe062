"""What is worked out when it is first read: a page shows few fields, of many rows.

Owns that trick alone. What a field comes to is said by its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Generic, Self, TypeVar

Worth = TypeVar("Worth")


class Kept(Generic[Worth]):
    """A property that is worked out once: `functools.cached_property` without the lock that Python 3.11 takes there."""

    def __init__(self, work: Callable[[Any], Worth], *, name: str = "") -> None:
        self._work = work
        self._name = name
        self.__doc__ = work.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Worth:
        value = vars(instance)[self._name] = self._work(instance)
        return value


class WorkedOut:
    """The base of such types, made by `made_of`; nothing calls their constructors."""

    @classmethod
    def works_out(cls, fields: Mapping[str, Callable[[Any], Any]]) -> None:
        """Say what each field comes of, by its name; the object's own facts are at hand in it."""
        for name, work in fields.items():
            # What is merely looked up costs less than keeping it.
            setattr(cls, name, property(work) if isinstance(work, attrgetter) else Kept(work, name=name))

    @classmethod
    def made_of(cls, **facts: Any) -> Self:
        """Return an object of these facts."""
        made = cls.__new__(cls)
        made.__dict__ = facts
        return made
