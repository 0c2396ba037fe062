"""The schema: its nouns put together, its limits and rights switched on.

Owns composition only. The text of it is checked in beside this module.
"""

from __future__ import annotations

from pathlib import Path

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLError,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    Undefined,
)
from strawberry.extensions import DisableIntrospection, SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.name_converter import NameConverter
from strawberry.types.base import StrawberryObjectDefinition, StrawberryType
from strawberry.types.execution import ExecutionContext

from api.graphql.account_changes import AccountMutations
from api.graphql.accounts import AccountQueries
from api.graphql.action_requests import ActionMutations
from api.graphql.audit import AuditQueries
from api.graphql.decisions import DecisionMutations
from api.graphql.enforcement import EnforcementMutations
from api.graphql.invoices import InvoiceQueries
from api.graphql.limits import LimitOperations
from api.graphql.lookup import NodeQueries
from api.graphql.notices import NoticeQueries
from api.graphql.override_changes import OverrideMutations
from api.graphql.permissions import CheckRights
from api.graphql.plan import PlanQueries, PlanStep
from api.graphql.policies import PolicyQueries
from api.graphql.reconciler import ReconcilerQueries
from api.graphql.runs import RunQueries
from api.graphql.scalars import SCALARS
from api.graphql.server_changes import ServerMutations
from api.graphql.servers import ServerQueries
from api.graphql.viewer import ViewerQueries
from api.graphql.work_queue import WorkQueueQueries

SDL_FILE = Path(__file__).with_name("schema.graphql")


@strawberry.type
class Query(
    NodeQueries,
    ViewerQueries,
    AccountQueries,
    ServerQueries,
    InvoiceQueries,
    PolicyQueries,
    PlanQueries,
    WorkQueueQueries,
    NoticeQueries,
    RunQueries,
    ReconcilerQueries,
    AuditQueries,
):
    """Everything that can be asked."""


@strawberry.type
class Mutation(
    AccountMutations,
    ServerMutations,
    OverrideMutations,
    DecisionMutations,
    EnforcementMutations,
    ActionMutations,
):
    """Everything that can be done."""


class _Names(NameConverter):
    """Keeps the contract's short names for the audit trail's pages."""

    def from_generic(
        self, object_type: StrawberryObjectDefinition, types: list[StrawberryType | type]
    ) -> str:
        return super().from_generic(object_type, types).replace("AuditEntry", "Audit")


class _Schema(strawberry.Schema):
    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Log nothing here: what is a fault of ours was logged, with its number, when it was masked."""


def build_schema(*, dev: bool = False) -> strawberry.Schema:
    """Return the schema; introspection answers only developers."""
    extensions: list[type[SchemaExtension]] = [LimitOperations, CheckRights]
    if not dev:
        extensions.append(DisableIntrospection)
    schema = _Schema(
        query=Query,
        mutation=Mutation,
        types=[PlanStep],
        extensions=extensions,
        config=StrawberryConfig(
            name_converter=_Names(),
            scalar_map=SCALARS,
            disable_field_suggestions=True,
            batching_config=None,
            relay_max_results=0,
        ),
    )
    _forget_null_defaults(schema)
    return schema


def _forget_null_defaults(schema: strawberry.Schema) -> None:
    """Make "may be left out" read as in the contract: Python's `None` defaults are no defaults of the schema."""
    for kind in schema._schema.type_map.values():  # noqa: SLF001  # it has no other door
        if isinstance(kind, GraphQLInputObjectType):
            places: list[GraphQLInputField | GraphQLArgument] = list(kind.fields.values())
        elif isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            places = [argument for field in kind.fields.values() for argument in field.args.values()]
        else:
            continue
        for place in places:
            if place.default_value is None:
                place.default_value = Undefined


def sdl() -> str:
    """Return the schema as text, as it is checked in."""
    return build_schema().as_str().rstrip() + "\n"
