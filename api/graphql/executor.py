"""Executes operations as graphql-core does, by functions that they were compiled to.

Owns when to compile, what is kept of it, and the way back. Where anything is unusual (a null that may not be one, a
value that is not of its type, an error) graphql-core does and tells all of it from the start. A query only reads, so it
may begin anew; of every other operation no more than the reading of the value that its field answered with.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from graphql import (
    DirectiveNode,
    ExecutionResult,
    GraphQLOutputType,
    GraphQLResolveInfo,
    OperationType,
    Visitor,
    visit,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.execution.executor import Executor
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from api.graphql.compiled import root_of, value_of, variables_in
from api.graphql.completing import Completer, Run

#: Shapes kept of one document; more of them come of variables in `@skip` and `@include` than anybody uses.
_MOST_SHAPES = 16


class Shapes:
    """What the queries of one document were compiled to, for each way in which variables steer what is selected."""

    def __init__(self) -> None:
        self._steering: frozenset[str] | None = None
        self._compiled: dict[tuple[Any, ...], Completer | None] = {}

    def __len__(self) -> int:
        return len(self._compiled)

    def of(self, executor: Executor[Any]) -> Completer | None:
        """Return what answers the executor's query; null for one that is not compiled."""
        if self._steering is None:
            self._steering = frozenset(_steering(executor))
        variables, name = executor.variable_values.coerced, executor.operation.name
        key = (name.value if name else None, *(variables.get(one) for one in self._steering))
        if key not in self._compiled:
            if len(self._compiled) >= _MOST_SHAPES:
                self._compiled.clear()
            self._compiled[key] = _compiled(lambda: root_of(executor))
        return self._compiled[key]


def _steering(executor: Executor[Any]) -> set[str]:
    """Return the variables that directives of the document look at."""
    found: set[str] = set()

    class Directives(Visitor):
        def enter_directive(self, node: DirectiveNode, *_: object) -> None:
            found.update(variables_in(node))

    for node in (executor.operation, *executor.fragment_definitions.values()):
        visit(node, Directives())
    return found


def _compiled(compile_: Callable[[], Completer]) -> Completer | None:
    try:
        return compile_()
    except Exception:  # noqa: BLE001 - graphql-core meets it again, and tells it
        return None


class QuickExecutor(StrawberryGraphQLCoreExecutionContext):
    """Executes one operation."""

    def __init__(self, *args: Any, shapes: Shapes | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._shapes = Shapes() if shapes is None else shapes
        self._values: dict[int, tuple[FieldDetailsList, Completer | None]] = {}
        middlewares = self.middleware_manager
        wrapped = middlewares is not None and middlewares.middlewares
        self._plainly = not wrapped and self.abort_signal is None and self.hooks is None

    def execute_operation(self, serially: bool | None = None) -> Any:
        """Answer a query by what it was compiled to; leave any other operation to graphql-core."""
        execute = super().execute_operation
        if not self._plainly or serially or self.operation.operation is not OperationType.QUERY:
            return execute(serially)
        complete = self._shapes.of(self)
        if complete is None:
            return execute(serially)
        return self._tried(
            lambda: complete(self.root_value, Run(self), None),
            lambda data: ExecutionResult(data, None),
            otherwise=lambda: execute(serially),
        )

    def complete_value(
        self,
        return_type: GraphQLOutputType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        path: Path,
        result: Any,
        position_context: Any,
    ) -> Any:
        """Read what a mutation, or an event of a subscription, answers with."""

        def otherwise() -> Any:
            return complete_value(return_type, field_details_list, info, path, result, position_context)

        complete_value = super().complete_value
        queried = self.operation.operation is OperationType.QUERY
        complete = (
            None
            if queried or path.prev or not self._plainly
            else self._value(return_type, field_details_list)
        )
        if complete is None:
            return otherwise()
        return self._tried(
            lambda: complete(result, Run(self), path), lambda value: value, otherwise=otherwise
        )

    def _value(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Completer | None:
        """Return what reads the value of a field; kept for all events of a subscription."""
        known = self._values.get(id(details))
        if known is None:
            known = self._values[id(details)] = (details, _compiled(lambda: value_of(self, kind, details)))
        return known[1]

    def _tried(
        self, attempt: Callable[[], Any], told: Callable[[Any], Any], *, otherwise: Callable[[], Any]
    ) -> Any:
        try:
            made = attempt()
        except Exception:  # noqa: BLE001 - graphql-core meets it again, and tells it
            return otherwise()
        return self._waited(made, told, otherwise) if made.__class__ is CoroutineType else told(made)

    async def _waited(self, made: Any, told: Callable[[Any], Any], otherwise: Callable[[], Any]) -> Any:
        try:
            return told(await made)
        except Exception:  # noqa: BLE001 - graphql-core meets it again, and tells it
            again = otherwise()
        return await again if self.is_awaitable(again) else again
