"""How values of scalars and enums are written, in functions that cost little more than looking at the value.

Owns no rule: what is written is what the schema's types write. Whatever is not plainly a value of the type raises, for
graphql-core to tell.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from graphql import GraphQLLeafType, Undefined, is_enum_type

#: From a value to what goes on the wire; raises whatever it likes when the value is not plain. The second argument
#: is of no concern here: it is the run that every other reader is told.
Writer = Callable[[Any, Any], Any]
Coerce = Callable[[Any], Any]

#: Built-in scalars whose values of exactly this Python type go on the wire as they are.
_AS_IT_IS = {"String": str, "ID": str, "Boolean": bool}


class UnusualError(Exception):
    """Something that graphql-core has to tell, from the start."""


def step_back() -> NoReturn:
    """Leave the answer to graphql-core."""
    raise UnusualError


def writer_of(kind: GraphQLLeafType, *, nullable: bool) -> Writer:
    """Return what writes the values of a type."""
    members = _members(kind)
    if members is not None:
        return _of_enum(kind, members, nullable=nullable)
    exact = _AS_IT_IS.get(kind.name)
    coerce = kind.coerce_output_value
    if exact is not None:
        return _as_it_is(exact, coerce, nullable=nullable)

    def write(value: Any, _: Any) -> Any:
        return None if nullable and value is None else _coerced(coerce, value)

    return write


def _as_it_is(exact: type, coerce: Coerce, *, nullable: bool) -> Writer:
    def write(value: Any, _: Any) -> Any:
        if value.__class__ is exact or (nullable and value is None):
            return value
        return _coerced(coerce, value)

    return write


def _of_enum(kind: GraphQLLeafType, members: type[enum.Enum], *, nullable: bool) -> Writer:
    coerce = kind.coerce_output_value
    written = {member: _coerced(coerce, member) for member in members}

    def write(value: Any, _: Any) -> Any:
        if value.__class__ is members:
            return written[value]
        return None if nullable and value is None else _coerced(coerce, value)

    return write


def _members(kind: GraphQLLeafType) -> type[enum.Enum] | None:
    found = getattr(kind, "wrapped_cls", None) if is_enum_type(kind) else None
    return found if isinstance(found, type) and issubclass(found, enum.Enum) else None


def _coerced(coerce: Coerce, value: Any) -> Any:
    if not _is_value(value.__class__):
        step_back()
    written = coerce(value)
    if written is None or written is Undefined:
        step_back()
    return written


@functools.cache
def _is_value(kind: type) -> bool:
    """Return whether objects of a class are values: no null, nothing to wait for, no fault returned instead of one.

    Some scalars would write even those down.
    """
    return kind is not type(None) and not issubclass(kind, (Exception, Awaitable))
