"""The schema: its nouns put together, its limits and rights switched on.

Owns composition only. The text of it is checked in beside this module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLError,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    Undefined,
    execute,
)
from strawberry.execution.is_awaitable import optimized_is_awaitable
from strawberry.extensions import DisableIntrospection, SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.name_converter import NameConverter
from strawberry.types.base import StrawberryObjectDefinition, StrawberryType
from strawberry.types.execution import ExecutionContext, ExecutionResult

from api.graphql.account_changes import AccountMutations
from api.graphql.account_decisions import AccountDecisionMutations
from api.graphql.accounts import AccountQueries
from api.graphql.action_requests import ActionMutations
from api.graphql.approvals import ApprovalMutations, ApprovalQueries
from api.graphql.audit import AuditQueries
from api.graphql.card_changes import CardMutations
from api.graphql.decisions import DecisionMutations
from api.graphql.descriptions import describe
from api.graphql.documents import Documents
from api.graphql.enforcement import EnforcementMutations
from api.graphql.executor import QuickExecutor
from api.graphql.forecast import ForecastQueries
from api.graphql.invoices import InvoiceQueries
from api.graphql.limits import LimitOperations, measured, overspent
from api.graphql.lookup import NodeQueries
from api.graphql.money_changes import MoneyMutations
from api.graphql.notices import NoticeQueries
from api.graphql.override_changes import OverrideMutations
from api.graphql.payments import PaymentMutations
from api.graphql.permissions import CheckRights
from api.graphql.plan import PlanQueries, PlanStep
from api.graphql.policies import PolicyQueries
from api.graphql.prices import PriceMutations, PriceQueries
from api.graphql.reconciler import ReconcilerQueries
from api.graphql.run_changes import RunMutations
from api.graphql.runs import RunQueries
from api.graphql.scalars import SCALARS
from api.graphql.server_changes import ServerMutations
from api.graphql.servers import ServerQueries
from api.graphql.subscriptions import Subscription
from api.graphql.viewer import ViewerQueries
from api.graphql.voucher_changes import VoucherMutations
from api.graphql.vouchers import VoucherQueries
from api.graphql.work_queue import WorkQueueQueries
from api.postgres_engine import one_connection

SDL_FILE = Path(__file__).with_name("schema.graphql")


@strawberry.type
class Query(
    NodeQueries,
    ViewerQueries,
    AccountQueries,
    ServerQueries,
    InvoiceQueries,
    VoucherQueries,
    PriceQueries,
    PolicyQueries,
    PlanQueries,
    ForecastQueries,
    WorkQueueQueries,
    NoticeQueries,
    RunQueries,
    ReconcilerQueries,
    AuditQueries,
    ApprovalQueries,
):
    """Everything that can be asked."""


@strawberry.type
class Mutation(
    AccountMutations,
    CardMutations,
    PaymentMutations,
    ServerMutations,
    OverrideMutations,
    DecisionMutations,
    EnforcementMutations,
    ApprovalMutations,
    AccountDecisionMutations,
    ActionMutations,
    RunMutations,
    VoucherMutations,
    MoneyMutations,
    PriceMutations,
):
    """Everything that can be done."""


class _Names(NameConverter):
    """Keeps the contract's short names for the audit trail's pages."""

    def from_generic(
        self, object_type: StrawberryObjectDefinition, types: list[StrawberryType | type]
    ) -> str:
        return super().from_generic(object_type, types).replace("AuditEntry", "Audit")


class _Schema(strawberry.Schema):
    def __init__(self, *args: Any, documents: Documents, **more: Any) -> None:
        super().__init__(*args, **more)
        self._documents = documents

    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any = None,
        root_value: Any = None,
        operation_name: str | None = None,
        *args: Any,
        **more: Any,
    ) -> ExecutionResult:
        """Execute a query of a document that was found right before at once: the extensions would only find so again.

        What depends on the variables, and on how many accounts are the caller's, is measured each time.
        """
        principal = context_value.principal
        known = self._documents.find(principal.role, query or "")
        measure = (
            measured(known, variable_values or {}, own=len(principal.accounts))
            if known is not None and known.has_query(operation_name)
            else None
        )
        if known is None or measure is None:
            return await super().execute(
                query, variable_values, context_value, root_value, operation_name, *args, **more
            )
        refused = overspent(context_value, measure)
        if refused:
            return ExecutionResult(data=None, errors=refused)
        result: Any = execute(
            self._schema,
            known.document,
            root_value,
            context_value,
            variable_values,
            operation_name,
            executor_class=QuickExecutor,
            is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]  # it is one, and says so less well
            shapes=known.shapes,
        )
        async with one_connection():
            executed = await result if optimized_is_awaitable(result) else result
        return ExecutionResult(data=executed.data, errors=executed.errors)

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Log nothing here: what is a fault of ours was logged, with its number, when it was masked."""


def build_schema(*, dev: bool = False) -> strawberry.Schema:
    """Return the schema; introspection answers only developers."""
    documents = Documents()
    extensions: list[type[SchemaExtension] | Callable[[], SchemaExtension]] = [
        lambda: LimitOperations(documents),
        CheckRights,
    ]
    if not dev:
        extensions.append(DisableIntrospection)
    schema = _Schema(
        documents=documents,
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[PlanStep],
        extensions=extensions,
        execution_context_class=QuickExecutor,
        config=StrawberryConfig(
            name_converter=_Names(),
            scalar_map=SCALARS,
            disable_field_suggestions=True,
            batching_config=None,
            relay_max_results=0,
        ),
    )
    _tidy(schema)
    describe(schema._schema)  # noqa: SLF001  # it has no other door
    return schema


def _tidy(schema: strawberry.Schema) -> None:
    """Make the schema read as the contract does, and carry the words of the code.

    Python's `None` defaults are no defaults of the schema, and the docstrings of types and resolvers describe them.
    """
    for kind in schema._schema.type_map.values():  # noqa: SLF001  # it has no other door
        if kind.name.startswith("__"):
            continue
        if isinstance(kind, GraphQLInputObjectType):
            _without_null_defaults(kind.fields.values())
        elif isinstance(kind, GraphQLObjectType):
            for field in kind.fields.values():
                _without_null_defaults(field.args.values())
                definition = field.extensions.get(_DEFINITION)
                resolver = getattr(definition, "base_resolver", None)
                field.description = field.description or _words(getattr(resolver, "wrapped_func", None))
        definition = (kind.extensions or {}).get(_DEFINITION)
        kind.description = kind.description or _words(
            getattr(definition, "origin", None) or getattr(definition, "wrapped_cls", None)
        )


_DEFINITION = "strawberry-definition"


def _without_null_defaults(places: Iterable[GraphQLInputField | GraphQLArgument]) -> None:
    for place in places:
        if place.default_value is None:
            place.default_value = Undefined


def _words(thing: object) -> str | None:
    """Return the docstring of our own classes and functions; generated ones have none of their own."""
    if not getattr(thing, "__module__", "").startswith(("api.", "billing.", "reconciler.")):
        return None
    words = inspect.getdoc(thing)
    return words if words and not words.startswith(f"{getattr(thing, '__name__', '')}(") else None


def sdl() -> str:
    """Return the schema as text, as it is checked in."""
    return build_schema().as_str().rstrip() + "\n"
