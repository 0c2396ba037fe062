"""How much one operation may ask for, decided before anything of it is validated or executed.

Owns the limits on tokens, depth, aliases and cost; those on selections are `api.graphql.selections`'s. Cost counts the
fields that would be executed, page sizes included, so that pages nested in pages are bounded too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    validate,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from api.graphql.connections import DEFAULT_PAGE, LARGEST_PAGE
from api.graphql.documents import Documents
from api.graphql.errors import INVALID, LIMIT_EXCEEDED, coded
from api.graphql.selections import problem_of_selections
from api.graphql.texts import UNFIT, has_fit_literals
from api.models import Role

MOST_TOKENS = 2_000
DEEPEST = 14
MOST_ALIASES = 30
MOST_FIELDS = 20_000
#: Mistakes of one document that are told.
MOST_MISTAKES = 5

TOO_DEEP = f"the query is too deep; ask for at most {DEEPEST} levels"

#: Fields that answer with a page of rows, by default of the usual size.
_PAGED = frozenset({
    "accounts", "servers", "invoices", "notices", "history", "steps", "targets", "runs", "workQueue", "audit",
    "forecast", "changes",
    "vouchers", "ledger",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a selection comes to, with its fragments spread out."""

    depth: int = 0
    aliases: int = 0
    fields: int = 0


class LimitOperations(SchemaExtension):
    """Refuse an operation that asks for too much, with the limit that it meets; validate the others."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def on_operation(self) -> Iterator[None]:
        """Tell the parser how many tokens it may read."""
        self.execution_context.parse_options["max_tokens"] = MOST_TOKENS
        yield

    def on_parse(self) -> Iterator[None]:
        """Take the document as it was read before, if it was."""
        context = self.execution_context
        known = self._documents.find(self._role, context.query or "")
        context.graphql_document = known.document if known is not None else None
        yield

    def on_validate(self) -> Iterator[None]:
        """Measure the document; one over a limit is not even validated."""
        document = self.execution_context.graphql_document
        if document is not None:
            try:
                problem = problem_of(document, self.execution_context.variables or {})
            except RecursionError:
                problem = TOO_DEEP
            if _is_ambiguous(document, self.execution_context.context.operation):
                several = "the document has several operations; name the one to execute"
                self.execution_context.pre_execution_errors = [coded(several, INVALID)]
            elif problem is None and not (self._is_known(document) or has_fit_literals(document)):
                self.execution_context.pre_execution_errors = [coded(UNFIT, INVALID)]
            if problem is not None:
                self.execution_context.pre_execution_errors = [coded(problem, LIMIT_EXCEEDED)]
            if self.execution_context.pre_execution_errors is None:
                self.execution_context.pre_execution_errors = self._mistakes(document)
        yield

    def _mistakes(self, document: DocumentNode) -> list[GraphQLError]:
        """Validate as Strawberry would afterwards, but briefly: each mistake told costs, and a suggestion far more."""
        context = self.execution_context
        if self._is_known(document):
            return []
        rules = (*context.validation_rules, MaybeNullValidationRule, OneOfInputValidationRule)
        mistakes = validate(
            context.schema._schema,  # noqa: SLF001  # it has no other door
            document,
            rules,
            max_errors=MOST_MISTAKES,
            hide_suggestions=True,
        )
        if not mistakes:
            self._documents.keep(self._role, context.query or "", document)
        return mistakes

    @property
    def _role(self) -> Role:
        role: Role = self.execution_context.context.principal.role
        return role

    def _is_known(self, document: DocumentNode) -> bool:
        known = self._documents.find(self._role, self.execution_context.query or "")
        return known is not None and known.document is document


def _is_ambiguous(document: DocumentNode, name: str | None) -> bool:
    operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    return name is None and len(operations) > 1


def problem_of(document: DocumentNode, variables: Mapping[str, Any]) -> str | None:
    """Return which limit the document exceeds, in words; null when it keeps all of them."""
    return problem_of_size(document, variables) or problem_of_selections(document)


def problem_of_size(document: DocumentNode, variables: Mapping[str, Any]) -> str | None:
    """Return which of the limits it exceeds that depend on variables too; the others it keeps or exceeds for ever."""
    measure = _Measuring(document, variables).document()
    if measure.depth > DEEPEST:
        return f"the query is {measure.depth} levels deep; ask for at most {DEEPEST}"
    if measure.aliases > MOST_ALIASES:
        return f"the query has {measure.aliases} aliases; use at most {MOST_ALIASES}"
    if measure.fields > MOST_FIELDS:
        return f"the query would read up to {measure.fields} fields; ask for at most {MOST_FIELDS}"
    return None


class _Measuring:
    """Walks a document once; each fragment is measured once, however often it is spread."""

    def __init__(self, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
        self._fragments = {
            one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._variables = variables
        self._measured: dict[str, Measure] = {}

    def document(self) -> Measure:
        measures = [self._selection(operation.selection_set) for operation in self._operations]
        return _together(measures)

    def _selection(self, selection: SelectionSetNode | None) -> Measure:
        if selection is None:
            return Measure()
        found = []
        for node in selection.selections:
            if isinstance(node, FieldNode):
                found.append(self._field(node))
            elif isinstance(node, InlineFragmentNode):
                found.append(self._selection(node.selection_set))
            elif isinstance(node, FragmentSpreadNode):
                found.append(self._fragment(node.name.value))
        return _together(found)

    def _field(self, node: FieldNode) -> Measure:
        if node.name.value in {"__schema", "__type"}:
            return Measure(fields=1)  # allowed only to developers, and bounded by the schema
        inside = self._selection(node.selection_set)
        return Measure(
            depth=inside.depth + 1,
            aliases=inside.aliases + (node.alias is not None),
            fields=1 + inside.fields * self._rows(node),
        )

    def _fragment(self, name: str) -> Measure:
        if name not in self._measured:
            self._measured[name] = (
                Measure()
            )  # a fragment within itself adds nothing here and is refused as invalid
            fragment = self._fragments.get(name)
            self._measured[name] = self._selection(fragment.selection_set if fragment else None)
        return self._measured[name]

    def _rows(self, node: FieldNode) -> int:
        arguments = {argument.name.value: argument.value for argument in node.arguments or ()}
        if node.name.value == "serversByExternalId":
            value = arguments.get("externalIds")
            return max(self._length(value), 1)
        if node.name.value not in _PAGED:
            return 1
        sizes = [self._size(arguments[name]) for name in ("first", "last") if name in arguments]
        return max((size for size in sizes if size is not None), default=DEFAULT_PAGE)

    def _length(self, value: object) -> int:
        asked = self._variables.get(value.name.value) if isinstance(value, VariableNode) else value
        if isinstance(asked, ListValueNode):
            return len(asked.values)
        return len(asked) if isinstance(asked, list) else 1

    def _size(self, value: object) -> int | None:
        if isinstance(value, VariableNode):
            given = self._variables.get(value.name.value)
            # A default of the variable is not looked up: the largest page is the worst it can be.
            return given if isinstance(given, int) and given > 0 else LARGEST_PAGE
        return int(value.value) if isinstance(value, IntValueNode) else None


def _together(measures: list[Measure]) -> Measure:
    return Measure(
        depth=max((measure.depth for measure in measures), default=0),
        aliases=sum(measure.aliases for measure in measures),
        fields=sum(measure.fields for measure in measures),
    )
