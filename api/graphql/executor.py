"""Executes operations as graphql-core does, but reads what has no resolver of ours straight from the objects.

Owns that shortcut alone: no rule, no right and no error is its own. Where anything is unusual (a null that may not be
one, a value that is not of its type) it steps back, and graphql-core does and tells all of it from the start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from graphql import (
    GraphQLField,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    Undefined,
    is_enum_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.field import StrawberryField

#: From a resolver's value to what goes on the wire; raises whatever it likes when that is not plain.
Reader = Callable[[Any], Any]

#: Built-in scalars whose values of exactly this Python type go on the wire as they are.
_AS_IT_IS = {"String": str, "ID": str, "Boolean": bool}
#: What a resolver returns instead of a value; some scalars would write even that down.
_NO_VALUES = (Exception, Awaitable)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How the fields of one selection are executed."""

    #: By response name, the attribute to read and how.
    plain: tuple[tuple[str, str, Reader], ...]
    #: What has a resolver, for graphql-core.
    others: GroupedFieldSet


class PlainReading(StrawberryGraphQLCoreExecutionContext):
    """Executes one operation. An attribute of an object at hand is read without the ceremony of a resolver."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # By identity, with what has it, so that no other object takes it over while this operation is executed.
        self._plans: dict[tuple[int, int], tuple[object, _Plan]] = {}
        self._readers: dict[tuple[int, int], tuple[object, Reader | None]] = {}
        self._leaves: dict[str, Reader] = {}
        middlewares = self.middleware_manager
        self._plainly = middlewares is None or not middlewares.middlewares

    def execute_fields(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Path | None,
        grouped_field_set: GroupedFieldSet,
        position_context: Any,
    ) -> Any:
        """Read the plain fields and leave the others to graphql-core; the answer keeps the order of the selection."""
        if not self._plainly:
            return super().execute_fields(
                parent_type, source_value, path, grouped_field_set, position_context
            )
        plan = self._plan_of(parent_type, grouped_field_set)
        try:
            read = {name: reader(getattr(source_value, attribute)) for name, attribute, reader in plan.plain}
        except Exception:  # noqa: BLE001 - graphql-core meets it again, and tells it
            return super().execute_fields(
                parent_type, source_value, path, grouped_field_set, position_context
            )
        if not plan.others:
            return read
        executed = super().execute_fields(parent_type, source_value, path, plan.others, position_context)
        if not read:
            return executed
        if isinstance(executed, dict):
            return _joined(grouped_field_set, read, executed)
        return _joined_later(grouped_field_set, read, executed)

    def complete_value(
        self,
        return_type: GraphQLOutputType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> Any:
        """Read a value in which nothing has a resolver; leave any other to graphql-core."""
        reader = self._reader_of(return_type, field_details_list) if self._plainly else None
        if reader is not None:
            try:
                return reader(result)
            except Exception:  # noqa: BLE001, S110 - graphql-core meets it again, and tells it
                pass
        return super().complete_value(return_type, field_details_list, info, path, result, position_context)

    def _plan_of(self, parent_type: GraphQLObjectType, fields: GroupedFieldSet) -> _Plan:
        known = self._plans.get((id(parent_type), id(fields)))
        if known is not None:
            return known[1]
        plain: list[tuple[str, str, Reader]] = []
        others: GroupedFieldSet = {}
        for name, details in fields.items():
            found = self._plain_field(parent_type, details)
            if found is None:
                others[name] = details
            else:
                plain.append((name, *found))
        plan = _Plan(plain=tuple(plain), others=others)
        self._plans[id(parent_type), id(fields)] = ((parent_type, fields), plan)
        return plan

    def _plain_field(self, parent: GraphQLObjectType, details: FieldDetailsList) -> tuple[str, Reader] | None:
        """Return the attribute that answers a field, and how it is read; null for one with a resolver."""
        name = details[0].node.name.value
        if name == "__typename":
            return "__class__", lambda _: parent.name
        definition = self.schema.get_field(parent, name)
        attribute = _attribute_of(definition) if definition is not None else None
        reader = self._reader_of(definition.type, details) if definition and attribute else None
        return (attribute, reader) if attribute is not None and reader is not None else None

    def _reader_of(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Reader | None:
        key = (id(kind), id(details))
        known = self._readers.get(key)
        if known is None:
            known = self._readers[key] = ((kind, details), self._made(kind, details))
        return known[1]

    def _made(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Reader | None:
        if is_non_null_type(kind):
            return self._made_required(kind.of_type, details)
        reader = self._made_required(kind, details)
        return _optional(reader) if reader is not None else None

    def _made_required(self, kind: Any, details: FieldDetailsList) -> Reader | None:
        """Return a reader that takes no null; null where something in there has a resolver or several types."""
        if is_list_type(kind):
            item = self._made(kind.of_type, details)
            return _each(item) if item is not None else None
        if is_leaf_type(kind):
            return self._leaves.setdefault(kind.name, _leaf(kind))
        if not is_object_type(kind) or kind.is_type_of is not None:
            return None
        selected = self.collect_subfields(kind, details)
        if selected.new_defer_usages:
            return None
        plan = self._plan_of(kind, selected.grouped_field_set)
        return None if plan.others else _object(plan.plain)


def _attribute_of(field: GraphQLField) -> str | None:
    """Return which attribute of its object answers a field that nobody wrote a resolver for."""
    definition = field.extensions.get("strawberry-definition")
    if not isinstance(definition, StrawberryField) or not definition.is_basic_field or field.args:
        return None
    return definition.python_name if definition.default_resolver is getattr else None


def _leaf(kind: GraphQLLeafType) -> Reader:
    coerce = kind.coerce_output_value
    if is_enum_type(kind):
        return _Written(coerce).__getitem__
    exact = _AS_IT_IS.get(kind.name)

    def read(value: Any) -> Any:
        return value if type(value) is exact else _coerced(coerce, value)

    return read


class _Written(dict[Any, Any]):
    """What the values of one enum are written as, each worked out when it is first met."""

    def __init__(self, coerce: Reader) -> None:
        super().__init__()
        self._coerce = coerce

    def __missing__(self, value: Any) -> Any:
        self[value] = written = _coerced(self._coerce, value)
        return written


def _coerced(coerce: Reader, value: Any) -> Any:
    if value is None or isinstance(value, _NO_VALUES):
        _step_back()
    written = coerce(value)
    if written is None or written is Undefined:
        _step_back()
    return written


def _optional(reader: Reader) -> Reader:
    return lambda value: None if value is None else reader(value)


def _each(reader: Reader) -> Reader:
    def read(values: Any) -> list[Any]:
        if not isinstance(values, list | tuple):
            _step_back()
        return [reader(value) for value in values]

    return read


def _object(fields: tuple[tuple[str, str, Reader], ...]) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if value is None or isinstance(value, _NO_VALUES):
            _step_back()
        return {name: reader(getattr(value, attribute)) for name, attribute, reader in fields}

    return read


def _step_back() -> NoReturn:
    raise ValueError("this is not plain")


def _joined(order: GroupedFieldSet, read: dict[str, Any], executed: dict[str, Any]) -> dict[str, Any]:
    both = read | executed
    return {name: both[name] for name in order if name in both}


async def _joined_later(
    order: GroupedFieldSet, read: dict[str, Any], executing: Awaitable[dict[str, Any]]
) -> dict[str, Any]:
    return _joined(order, read, await executing)
