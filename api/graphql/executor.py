"""Executes operations as graphql-core does, but reads what is at hand straight from the objects.

Owns that shortcut alone: no rule, no right and no error is its own. Where anything is unusual (a null that may not be
one, a value that is not of its type) it steps back, and graphql-core does and tells all of it from the start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NoReturn, TypeVar

from graphql import (
    GraphQLError,
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
from graphql.execution.values import get_argument_values
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

#: From a resolver's value to what goes on the wire; raises whatever it likes when that is not plain.
Reader = Callable[[Any], Any]
Resolver = TypeVar("Resolver", bound=Callable[..., object])

#: Built-in scalars whose values of exactly this Python type go on the wire as they are.
_AS_IT_IS = {"String": str, "ID": str, "Boolean": bool}
#: What a resolver returns instead of a value; some scalars would write even that down.
_NO_VALUES = (Exception, Awaitable)
_AT_HAND = "_abeyance_at_hand"


class NotAtHandError(Exception):
    """A quick resolver lacks something that has to be loaded first: the field's own resolver is asked."""


def at_hand(quick: Callable[..., object]) -> Callable[[Resolver], Resolver]:
    """Give a resolver a quick one beside it: `(source, context, **arguments)`, the arguments scalars or enums.

    It answers at once from what is loaded, with what the resolver would, or raises `NotAtHandError`.
    """

    def mark(resolver: Resolver) -> Resolver:
        vars(resolver)[_AT_HAND] = quick
        return resolver

    return mark


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How the fields of one selection are executed."""

    #: By response name, how each is read of its object.
    plain: tuple[tuple[str, Reader], ...]
    #: What only its resolver knows, for graphql-core.
    others: GroupedFieldSet

    def read(self, source: Any) -> dict[str, Any]:
        """Return what is plain of an object."""
        return {name: reader(source) for name, reader in self.plain}


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
            read = plan.read(source_value)
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
        plain: list[tuple[str, Reader]] = []
        others: GroupedFieldSet = {}
        for name, details in fields.items():
            reader = self._plain_field(parent_type, details)
            if reader is None:
                others[name] = details
            else:
                plain.append((name, reader))
        plan = _Plan(plain=tuple(plain), others=others)
        self._plans[id(parent_type), id(fields)] = ((parent_type, fields), plan)
        return plan

    def _plain_field(self, parent: GraphQLObjectType, details: FieldDetailsList) -> Reader | None:
        """Return how a field is read of its object; null for one that only its resolver knows."""
        name = details[0].node.name.value
        if name == "__typename":
            return lambda _: parent.name
        field = self.schema.get_field(parent, name)
        definition = field.extensions.get("strawberry-definition") if field is not None else None
        if field is None or not isinstance(definition, StrawberryField):
            return None
        get = self._getter(field, definition, details)
        reader = self._reader_of(field.type, details) if get is not None else None
        return (lambda source: reader(get(source))) if get is not None and reader is not None else None

    def _getter(
        self, field: GraphQLField, definition: StrawberryField, details: FieldDetailsList
    ) -> Reader | None:
        """Return how the value of a field comes from its object, if it is an attribute or has a quick resolver."""
        quick = (
            vars(definition.base_resolver.wrapped_func).get(_AT_HAND) if definition.base_resolver else None
        )
        if quick is not None and not definition.extensions:
            node, variables = details[0].node, details[0].fragment_variable_values
            try:
                given = get_argument_values(
                    field, node, self.variable_values, variables, self.hide_suggestions
                )
            except GraphQLError:
                return None  # graphql-core tells it
            context = self.context_value
            return lambda source: quick(source, context, **given)
        plain = definition.is_basic_field and not field.args and definition.default_resolver is getattr
        return attrgetter(definition.python_name) if plain else None

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
        if not is_object_type(kind):
            return None
        definition = (kind.extensions or {}).get("strawberry-definition")
        if not isinstance(definition, StrawberryObjectDefinition) or definition.is_type_of is not None:
            return None
        selected = self.collect_subfields(kind, details)
        if selected.new_defer_usages:
            return None
        plan = self._plan_of(kind, selected.grouped_field_set)
        return None if plan.others else _object(plan, definition.origin)


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


def _object(plan: _Plan, of: type) -> Reader:
    # Rows often share an object, such as the gates of servers of one situation; it is kept, so that its id stays its.
    told: dict[int, tuple[Any, dict[str, Any]]] = {}

    def read(value: Any) -> dict[str, Any]:
        known = told.get(id(value))
        if known is None:
            if not isinstance(value, of):
                _step_back()
            known = told[id(value)] = (value, plan.read(value))
        return known[1]

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
