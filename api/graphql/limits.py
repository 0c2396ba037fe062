"""How much one operation may ask for, decided before anything of it is validated or executed.

Owns the limits on tokens, depth, aliases, lists and cost; those on selections are `api.graphql.selections`'s. Cost
counts the fields that would be executed, sizes of pages and lists included, so that nested lists are bounded too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
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
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    validate,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from api.graphql.connections import DEFAULT_PAGE, LARGEST_PAGE
from api.graphql.context import Context
from api.graphql.documents import Documents, Known, unchain
from api.graphql.errors import INVALID, LIMIT_EXCEEDED, RATE_LIMITED, coded
from api.graphql.nodes import GateAction
from api.graphql.scalars import written_instant
from api.graphql.selections import problem_of_selections
from api.graphql.texts import problem_of_literals
from api.models import Role
from billing.rules.words import phrase

MOST_TOKENS = 2_000
DEEPEST = 14
MOST_ALIASES = 30
MOST_FIELDS = 20_000
#: Items of one list or object that is given, in the document or in the variables.
MOST_ITEMS = 100
#: Mistakes of one document that are told.
MOST_MISTAKES = 5

TOO_DEEP = f"the query is too deep; ask for at most {DEEPEST} levels"

#: Fields that answer with a page of rows, by default of the usual size.
_PAGED = frozenset({
    "accounts", "servers", "invoices", "notices", "history", "steps", "targets", "runs", "workQueue", "audit",
    "forecast", "changes",
    "vouchers", "ledger",
})  # fmt: skip
#: Fields that answer with a list without pages, and as how long it is taken.
_LISTED = {
    "gates": len(GateAction), "serversByExternalId": 1, "prices": 20, "policies": 5, "stages": 6, "approvals": 100,
    "explanation": 8, "because": 2, "holds": 2, "overrides": 5, "cards": 3, "tasks": 2, "lines": 20, "payments": 3,
    "votes": 2, "codes": 20, "amounts": 1, "debt": 1, "moneyAtStake": 1, "errors": 1, "edges": 1,
}  # fmt: skip
#: The field, and the type, whose `accounts` are the caller's own.
_VIEWER = ("viewer", "Viewer")
#: The argument that says how long the list is.
_GIVEN = {"gates": "actions", "serversByExternalId": "externalIds"}
#: A number larger than this is as good as this one, and told in few digits.
_LARGEST_NUMBER = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a selection comes to, with its fragments spread out."""

    depth: int = 0
    aliases: int = 0
    fields: int = 0
    #: Of the longest list or object that is given.
    items: int = 0


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
        if known is None and context.graphql_document is not None:
            unchain(context.graphql_document)

    def on_validate(self) -> Iterator[None]:
        """Measure the document; one over a limit is not even validated."""
        document = self.execution_context.graphql_document
        if document is not None:
            measure = Measure()
            try:
                own = len(self.execution_context.context.principal.accounts)
                measure = measure_of(document, self.execution_context.variables or {}, own=own)
                problem = problem_of_measure(measure) or problem_of_selections(document)
            except RecursionError:
                problem = TOO_DEEP
            if _is_ambiguous(document, self.execution_context.context.operation):
                several = "the document has several operations; name the one to execute"
                self.execution_context.pre_execution_errors = [coded(several, INVALID)]
            elif (
                problem is None and not self._is_known(document) and (unfit := problem_of_literals(document))
            ):
                self.execution_context.pre_execution_errors = [coded(unfit, INVALID)]
            if problem is not None:
                self.execution_context.pre_execution_errors = [coded(problem, LIMIT_EXCEEDED)]
            if self.execution_context.pre_execution_errors is None:
                self.execution_context.pre_execution_errors = self._mistakes(document, measure) or overspent(
                    self.execution_context.context, measure
                )
        yield

    def _mistakes(self, document: DocumentNode, measure: Measure) -> list[GraphQLError]:
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
            own = len(context.context.principal.accounts)
            self._documents.keep(self._role, context.query or "", document, own=own, fields=measure.fields)
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


def problem_of(
    document: DocumentNode, variables: Mapping[str, Any], *, own: int = LARGEST_PAGE
) -> str | None:
    """Return which limit the document exceeds, in words; null when it keeps all of them.

    `own` is how many accounts are the caller's own.
    """
    return problem_of_measure(measure_of(document, variables, own=own)) or problem_of_selections(document)


def measure_of(document: DocumentNode, variables: Mapping[str, Any], *, own: int) -> Measure:
    """Return what a document comes to with these variables."""
    return _Measuring(document, variables, own).document()


def overspent(context: Context, measure: Measure) -> list[GraphQLError]:
    """Count the fields of an operation that keeps the limits; return the refusal when its principal has none left."""
    context.fields = measure.fields
    wait = context.spend(measure.fields)
    if wait is None:
        return []
    told = phrase(
        "You ask too often; ask again in %(seconds)s s.", seconds=max(math.ceil(wait.total_seconds()), 1)
    )
    return [coded(told, RATE_LIMITED, retryAt=written_instant(context.now + wait))]


def problem_of_measure(measure: Measure) -> str | None:
    """Return which of the limits is exceeded that depend on variables; the others are kept or exceeded for ever."""
    if measure.items > MOST_ITEMS:
        return f"a list or an object has {measure.items} items; give at most {MOST_ITEMS}"
    if measure.depth > DEEPEST:
        return f"the query is {measure.depth} levels deep; ask for at most {DEEPEST}"
    if measure.aliases > MOST_ALIASES:
        return f"the query has {measure.aliases} aliases; use at most {MOST_ALIASES}"
    if measure.fields > MOST_FIELDS:
        return f"the query would read up to {measure.fields} fields; ask for at most {MOST_FIELDS}"
    return None


def measured(known: Known, variables: Mapping[str, Any], *, own: int) -> Measure | None:
    """Return what a known document comes to here, null when that exceeds a limit; measured anew where it may differ."""
    if not variables and not known.varies and own <= known.own:
        return Measure(fields=known.fields)
    measure = measure_of(known.document, variables, own=own)
    return measure if problem_of_measure(measure) is None else None


class _Measuring:
    """Walks a document once; each fragment is measured once, however often it is spread."""

    def __init__(self, document: DocumentNode, variables: Mapping[str, Any], own: int) -> None:
        self._operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
        self._fragments = {
            one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._variables = variables
        self._own = max(own, 1)
        self._defaults = {
            one.variable.name.value: one.default_value
            for operation in self._operations
            for one in operation.variable_definitions or ()
            if one.default_value is not None
        }
        self._measured: dict[str, Measure] = {}

    def document(self) -> Measure:
        measures = [self._selection(operation.selection_set) for operation in self._operations]
        given = [_longest(value) for value in (self._variables, *self._defaults.values())]
        return _together([*measures, *(Measure(items=items) for items in given)])

    def _selection(self, selection: SelectionSetNode | None, parent: str | None = None) -> Measure:
        """Return what a selection comes to; `parent` is the field or the type that it is of, where that is known."""
        if selection is None:
            return Measure()
        found = []
        for node in selection.selections:
            if isinstance(node, FieldNode):
                found.append(self._field(node, parent))
            elif isinstance(node, InlineFragmentNode):
                of = node.type_condition.name.value if node.type_condition else parent
                found.append(self._selection(node.selection_set, of))
            elif isinstance(node, FragmentSpreadNode):
                found.append(self._fragment(node.name.value))
        return _together(found)

    def _field(self, node: FieldNode, parent: str | None) -> Measure:
        if node.name.value in {"__schema", "__type"}:
            return Measure(fields=1)  # allowed only to developers, and bounded by the schema
        inside = self._selection(node.selection_set, node.name.value)
        lists = [_longest(argument.value) for argument in node.arguments or ()]
        return Measure(
            depth=inside.depth + 1,
            aliases=inside.aliases + (node.alias is not None),
            fields=1 + inside.fields * self._rows(node, parent),
            items=max(inside.items, *lists, 0),
        )

    def _fragment(self, name: str) -> Measure:
        if name not in self._measured:
            self._measured[name] = (
                Measure()
            )  # a fragment within itself adds nothing here and is refused as invalid
            fragment = self._fragments.get(name)
            if fragment is not None:
                of = fragment.type_condition.name.value
                self._measured[name] = self._selection(fragment.selection_set, of)
        return self._measured[name]

    def _rows(self, node: FieldNode, parent: str | None) -> int:
        """Return how many objects a field is taken to answer with."""
        name = node.name.value
        if name == "accounts" and parent in _VIEWER:
            return self._own
        arguments = {argument.name.value: argument.value for argument in node.arguments or ()}
        if name in _PAGED:
            sizes = [self._size(arguments[one]) for one in ("first", "last") if one in arguments]
            return max((size for size in sizes if size is not None), default=DEFAULT_PAGE)
        given = arguments.get(_GIVEN.get(name, ""))
        length = self._length(given) if given is not None else None
        return _LISTED.get(name, 1) if length is None else max(length, 1)

    def _length(self, value: object) -> int | None:
        """Return how long a list is that is given; null where none is."""
        if isinstance(value, VariableNode):
            name = value.name.value
            value = self._variables[name] if name in self._variables else self._defaults.get(name)
        if isinstance(value, ListValueNode):
            return len(value.values)
        if isinstance(value, list):
            return len(value)
        return None if value is None or isinstance(value, NullValueNode) else 1

    def _size(self, value: object) -> int | None:
        if isinstance(value, VariableNode):
            given = self._variables.get(value.name.value)
            # A default of the variable is not looked up: the largest page is the worst it can be.
            return min(given, _LARGEST_NUMBER) if isinstance(given, int) and given > 0 else LARGEST_PAGE
        if not isinstance(value, IntValueNode):
            return None
        # A size below one is refused later on; here it must not make up for what the others cost.
        return max(int(value.value), 1) if len(value.value) < len(str(_LARGEST_NUMBER)) else _LARGEST_NUMBER


def _longest(given: object) -> int:
    """Return how much is in the longest list or object of a value, of the document or of the variables."""
    longest, open_ = 0, [given]
    while open_:
        value = open_.pop()
        items: Collection[object]
        if isinstance(value, ListValueNode):
            items = value.values
        elif isinstance(value, ObjectValueNode):
            items = [field.value for field in value.fields]
        elif isinstance(value, dict):
            items = value.values()
        elif isinstance(value, list | tuple):
            items = value
        else:
            continue
        longest = max(longest, len(items))
        open_.extend(items)
    return longest


def _together(measures: list[Measure]) -> Measure:
    return Measure(
        depth=max((measure.depth for measure in measures), default=0),
        aliases=sum(measure.aliases for measure in measures),
        fields=sum(measure.fields for measure in measures),
        items=max((measure.items for measure in measures), default=0),
    )
