"""Operations compiled: every selection becomes, once, functions that make its part of the answer.

Owns the compiler. It has no rule, no right and no error of its own: what it does not know it does not compile, and
whatever is unusual while an answer is made raises, for graphql-core to do and tell all of it from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLOutputType,
    Node,
    VariableNode,
    Visitor,
    is_interface_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
    visit,
)
from graphql.execution.collect_fields import (
    CollectedFields,
    FieldDetailsList,
    GroupedFieldSet,
    collect_fields,
)
from graphql.execution.executor import Executor
from graphql.execution.values import get_argument_values
from graphql.pyutils import Path
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from api.graphql.completing import (
    Completer,
    Getter,
    LaterField,
    Part,
    PlainField,
    Run,
    at_once,
    listed,
    object_later,
    of_attribute,
    once,
    optional,
    plain_object,
    resolved,
)
from api.graphql.leaves import step_back, writer_of

Resolver = TypeVar("Resolver", bound=Callable[..., object])
_AT_HAND = "_abeyance_at_hand"


class NotAtHandError(Exception):
    """A quick resolver lacks something that has to be loaded first: graphql-core asks the field's own resolver."""


def at_hand(quick: Callable[..., object]) -> Callable[[Resolver], Resolver]:
    """Give a resolver a quick one beside it: `(source, context, **arguments)`, the arguments scalars or enums.

    It answers at once from what is loaded, with what the resolver would, or raises `NotAtHandError`. What it returns
    is not changed any more: an object that it returns again is written once.
    """

    def mark(resolver: Resolver) -> Resolver:
        vars(resolver)[_AT_HAND] = quick
        return resolver

    return mark


def root_of(executor: Executor[Any]) -> Completer:
    """Return what answers a whole query, from its root value; raises `UnusualError` for what is not compiled."""
    kind = executor.schema.get_root_type(executor.operation.operation)
    if kind is None or any(fragment.variable_signatures for fragment in executor.fragments.values()):
        step_back()
    collected = collect_fields(
        executor.schema,
        executor.fragments,
        executor.variable_values,
        kind,
        executor.operation,
        executor.hide_suggestions,
    )
    return _Compiler(executor).selection(kind, None, _without_defer(collected)).complete


def value_of(executor: Executor[Any], kind: GraphQLOutputType, details: FieldDetailsList) -> Completer:
    """Return what writes the values of one field; raises `UnusualError` for what is not compiled."""
    return _Compiler(executor).part(kind, details).complete


class _Compiler:
    """Compiles for one shape of an operation. Nothing that it returns keeps the executor or its variables."""

    def __init__(self, executor: Executor[Any]) -> None:
        self._executor = executor
        self._schema = executor.schema

    def part(self, kind: Any, details: FieldDetailsList) -> Part:
        """Return how values of a type are written."""
        nullable = not is_non_null_type(kind)
        inner = kind if nullable else kind.of_type
        if is_leaf_type(inner):
            return at_once(writer_of(inner, nullable=nullable))
        part = self._composite(inner, details)
        return optional(part) if nullable else part

    def _composite(self, kind: Any, details: FieldDetailsList) -> Part:
        if is_list_type(kind):
            return listed(self.part(kind.of_type, details))
        if is_interface_type(kind):
            return self._interface(kind, details)
        if not is_object_type(kind):
            step_back()
        selected = _without_defer(self._executor.collect_subfields(kind, details))
        return self.selection(kind, _classes(kind), selected)

    def _interface(self, kind: GraphQLInterfaceType, details: FieldDetailsList) -> Part:
        """Choose by the very class of a value, each of which is one type."""
        parts: dict[type, Completer] = {}
        for possible in self._schema.get_possible_types(kind):
            part = self._composite(possible, details)
            parts |= dict.fromkeys(_classes(possible), part.complete)

        def complete(value: Any, run: Run, path: Path | None) -> Any:
            return parts[value.__class__](value, run, path)

        return Part(read=None, complete=complete)

    def selection(
        self, parent: GraphQLObjectType, classes: tuple[type, ...] | None, fields: GroupedFieldSet
    ) -> Part:
        """Return how objects of a type are written; `classes` are those that they have to be of."""
        plain: list[PlainField] = []
        later: list[LaterField] = []
        for name, details in fields.items():
            field = self._field(parent, name, details)
            if isinstance(field, PlainField):
                plain.append(field)
            else:
                later.append(field)
        read = plain_object(plain, classes)
        if not later:
            return at_once(read)
        return Part(read=None, complete=object_later(tuple(fields), read, later))

    def _field(
        self, parent: GraphQLObjectType, name: str, details: FieldDetailsList
    ) -> PlainField | LaterField:
        called = details[0].node.name.value
        if called == "__typename":
            return PlainField(name=name, get=lambda _, __: parent.name, read=lambda value, _: value)
        field = self._schema.get_field(parent, called)
        definition = field.extensions.get("strawberry-definition") if field is not None else None
        if field is None or not isinstance(definition, StrawberryField):
            step_back()
        part = self.part(field.type, details)
        attribute = _attribute(field, definition)
        if attribute is not None:
            get_attribute = attrgetter(attribute)
            if part.read is not None:
                return PlainField(
                    name=name,
                    get=lambda source, _: get_attribute(source),
                    read=part.read,
                    attribute=attribute,
                )
            return LaterField(
                name=name, finish=of_attribute(get_attribute, part.complete, (name, parent.name))
            )
        arguments = _arguments(field, details)
        quick = _quick(definition)
        if quick is not None and part.read is not None:
            return PlainField(name=name, get=_asked(quick, arguments), read=once(part.read))
        return LaterField(
            name=name, finish=resolved(field, definition, part, (name, parent, details), arguments)
        )


def _attribute(field: GraphQLField, definition: StrawberryField) -> str | None:
    plain = definition.is_basic_field and not field.args and definition.default_resolver is getattr
    return definition.python_name if plain else None


def _quick(definition: StrawberryField) -> Callable[..., Any] | None:
    if definition.base_resolver is None or definition.extensions:
        return None
    quick: Callable[..., Any] | None = vars(definition.base_resolver.wrapped_func).get(_AT_HAND)
    return quick


def _classes(kind: GraphQLObjectType) -> tuple[type, ...]:
    """Return the classes of the objects of a type; those of a generic one are of the class that was made concrete."""
    definition = (kind.extensions or {}).get("strawberry-definition")
    if not isinstance(definition, StrawberryObjectDefinition) or definition.is_type_of is not None:
        step_back()
    generic = definition.concrete_of
    return (definition.origin,) if generic is None else (definition.origin, generic.origin)


def _without_defer(collected: CollectedFields) -> GroupedFieldSet:
    if collected.new_defer_usages:
        step_back()
    return collected.grouped_field_set


# -- arguments -----------------------------------------------------------------------------------------------------


def _arguments(field: GraphQLField, details: FieldDetailsList) -> Callable[[Run], dict[str, Any]]:
    """Return what tells the arguments of a field, which only where variables are in them is asked of each execution."""
    node = details[0].node
    if not field.args and not node.arguments:
        return lambda _: {}
    if not variables_in(*(node.arguments or ())):
        constant = get_argument_values(field, node)
        return lambda _: constant

    def told(run: Run) -> dict[str, Any]:
        known = run.arguments.get(id(node))
        if known is None:
            executor = run.executor
            known = run.arguments[id(node)] = get_argument_values(
                field, node, executor.variable_values, None, executor.hide_suggestions
            )
        return known

    return told


def variables_in(*nodes: Node) -> set[str]:
    """Return the names of the variables that are used anywhere in these nodes."""
    found: set[str] = set()

    class Names(Visitor):
        def enter_variable(self, node: VariableNode, *_: object) -> None:
            found.add(node.name.value)

    for node in nodes:
        visit(node, Names())
    return found


def _asked(quick: Callable[..., Any], arguments: Callable[[Run], dict[str, Any]]) -> Getter:
    return lambda source, run: quick(source, run.context, **arguments(run))
