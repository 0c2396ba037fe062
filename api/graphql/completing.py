"""Functions that make the parts of an answer: what the compiler puts together.

Owns how values are read, and how what takes time is waited for. They know no document, and raise whatever they like
where a value is not as it should be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import CoroutineType
from typing import Any

from graphql import GraphQLField, GraphQLObjectType
from graphql.execution.collect_fields import FieldDetailsList
from graphql.execution.executor import Executor, to_nodes
from graphql.pyutils import Path
from strawberry.types.field import StrawberryField

from api.graphql.leaves import step_back

#: From a value to its part of the answer, at once.
Reader = Callable[[Any, "Run"], Any]
#: The same where something in there has a resolver: the part of the answer, or a coroutine that returns it.
Completer = Callable[[Any, "Run", Path | None], Any]
#: From an object to the value of one of its fields, at once.
Getter = Callable[[Any, "Run"], Any]


class Run:
    """One execution of an operation."""

    def __init__(self, executor: Executor[Any]) -> None:
        self.executor = executor
        self.context = executor.context_value
        #: What was written of objects that may be met again, by reader and object; the object is kept, so that its id
        #: stays its.
        self.written: dict[tuple[Reader, int], tuple[Any, Any]] = {}
        #: Arguments that depend on variables, by field.
        self.arguments: dict[int, dict[str, Any]] = {}


@dataclass(frozen=True, kw_only=True)
class Part:
    """How a type's values are written: by the reader, or where there is none by the completer."""

    read: Reader | None
    complete: Completer


@dataclass(frozen=True, kw_only=True)
class PlainField:
    """A field that is read of its object at once."""

    name: str
    get: Getter
    read: Reader
    #: The attribute that it is, where it is one.
    attribute: str | None = None


@dataclass(frozen=True, kw_only=True)
class LaterField:
    """A field with a resolver, or with one somewhere below it."""

    name: str
    finish: Completer


def at_once(read: Reader) -> Part:
    """Return the part of values that are read at once."""
    return Part(read=read, complete=lambda value, run, _: read(value, run))


def optional(part: Part) -> Part:
    """Return the same where the value may be null."""
    read, complete = part.read, part.complete
    if read is not None:
        return at_once(lambda value, run: None if value is None else read(value, run))
    return Part(
        read=None, complete=lambda value, run, path: None if value is None else complete(value, run, path)
    )


def listed(item: Part) -> Part:
    """Return the part of lists of such values."""
    read, complete = item.read, item.complete
    if read is not None:

        def read_each(values: Any, run: Run) -> list[Any]:
            if not isinstance(values, list | tuple):
                step_back()
            return [read(value, run) for value in values]

        return at_once(read_each)

    def complete_each(values: Any, run: Run, path: Path | None) -> Any:
        if not isinstance(values, list | tuple):
            step_back()
        begun = ((at, complete(value, run, Path(path, at, None))) for at, value in enumerate(values))
        return _settled([None] * len(values), begun)

    return Part(read=None, complete=complete_each)


def plain_object(fields: Sequence[PlainField], classes: tuple[type, ...] | None) -> Reader:
    """Return what reads these fields of an object of one of the classes; null: of any."""
    there = [field for field in fields if field.attribute is not None]
    if len(there) < 2:
        return _one_by_one(fields, classes)
    attributes = _all_attributes(there, attrgetter(*(str(field.attribute) for field in there)), classes)
    others = [(field.name, field.get, field.read) for field in fields if field.attribute is None]
    if not others:
        return attributes
    order = dict.fromkeys(field.name for field in fields)

    def read(source: Any, run: Run) -> dict[str, Any]:
        told: dict[str, Any] = order | attributes(source, run)
        for name, get, read_value in others:
            told[name] = read_value(get(source, run), run)
        return told

    return read


def _one_by_one(fields: Sequence[PlainField], classes: tuple[type, ...] | None) -> Reader:
    steps = [(field.name, field.get, field.read) for field in fields]

    def read(source: Any, run: Run) -> dict[str, Any]:
        if classes is not None and not isinstance(source, classes):
            step_back()
        return {name: read_value(get(source, run), run) for name, get, read_value in steps}

    return read


def _all_attributes(
    fields: Sequence[PlainField], get: Callable[[Any], tuple[Any, ...]], classes: tuple[type, ...] | None
) -> Reader:
    steps = [(field.name, field.read) for field in fields]

    def read(source: Any, run: Run) -> dict[str, Any]:
        if classes is not None and not isinstance(source, classes):
            step_back()
        return {
            name: read_value(value, run) for (name, read_value), value in zip(steps, get(source), strict=True)
        }

    return read


def once(read: Reader) -> Reader:
    """Read what may be met again, such as the gates of servers of one situation, once in an execution."""

    def read_once(value: Any, run: Run) -> Any:
        known = run.written.get((read, id(value)))
        if known is None:
            known = run.written[read, id(value)] = (value, read(value, run))
        return known[1]

    return read_once


# -- what has to be waited for -------------------------------------------------------------------------------------


def object_later(order: tuple[str, ...], read: Reader, later: Sequence[LaterField]) -> Completer:
    """Return what completes an object with these fields beside those that are read at once."""
    fields = [(field.name, field.finish) for field in later]

    def complete(source: Any, run: Run, path: Path | None) -> Any:
        told = dict.fromkeys(order) | read(source, run)
        return _settled(told, ((name, finish(source, run, path)) for name, finish in fields))

    return complete


def of_attribute(get: Callable[[Any], Any], complete: Completer, place: tuple[str, str]) -> Completer:
    """Return what completes an attribute; `place` is its name in the answer and the type that it is of."""
    return lambda source, run, path: complete(get(source), run, Path(path, *place))


def resolved(
    field: GraphQLField,
    definition: StrawberryField,
    part: Part,
    place: tuple[str, GraphQLObjectType, FieldDetailsList],
    arguments: Callable[[Run], dict[str, Any]],
) -> Completer:
    """Return what asks the resolver of a field, as graphql-core does."""
    name, parent, details = place
    nodes, resolve, complete = to_nodes(details), field.resolve, part.complete
    if resolve is None:
        step_back()

    def ask(source: Any, run: Run, here: Path) -> Any:
        info = run.executor.build_resolve_info(field, nodes, parent, here)
        return resolve(source, info, **arguments(run))

    def finish(source: Any, run: Run, path: Path | None) -> Any:
        here = Path(path, name, parent.name)
        return complete(ask(source, run, here), run, here)

    async def finish_later(source: Any, run: Run, path: Path | None) -> Any:
        here = Path(path, name, parent.name)
        completed = complete(await ask(source, run, here), run, here)
        return await completed if completed.__class__ is CoroutineType else completed

    return finish_later if definition.is_async else finish


def _settled(told: Any, begun: Iterable[tuple[Any, Any]]) -> Any:
    """Put what was begun into its places; a coroutine does so where some of it has to be waited for."""
    waiting: dict[Any, Coroutine[Any, Any, Any]] = {}
    fault: Exception | None = None
    try:
        for place, value in begun:
            if value.__class__ is CoroutineType:
                waiting[place] = value
            else:
                told[place] = value
    except Exception as raised:
        if not waiting:
            raise
        fault = raised  # what was begun beside it is not left lying about
    return _waited(told, waiting, fault) if waiting else told


async def _waited(
    told: Any, waiting: Mapping[Any, Coroutine[Any, Any, Any]], fault: BaseException | None
) -> Any:
    """Wait for all of it, side by side, so that loaders see what is asked for together; then tell of a fault."""
    if len(waiting) == 1 and fault is None:
        ((place, only),) = waiting.items()
        told[place] = await only
        return told
    found = await asyncio.gather(*waiting.values(), return_exceptions=True)
    for place, value in zip(waiting, found, strict=True):
        if isinstance(value, BaseException):
            fault = fault or value
        told[place] = value
    if fault is not None:
        raise fault
    return told
