"""The whole matrix: what each role may do, and every field of every type along a way that leads there."""

from collections import deque
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    build_schema,
    get_named_type,
)

from api.graphql.permissions import roles_of
from api.graphql.schema import build_schema as build_ours
from api.graphql.schema import sdl
from api.models import Role

SCHEMA = build_schema(sdl())
OURS = build_ours(dev=True)
ROOTS = {"Query": "query", "Mutation": "mutation", "Subscription": "subscription"}
#: The rights of the contract, told once more and differently: operations by role. Everything else is denied.
EVERYBODY = "node viewer policies server servers serversByExternalId"
RIGHTS = {
    Role.CUSTOMER: f"{EVERYBODY} account accounts invoice invoices serverPowerSet "
    "cardSetupBegin cardAdd cardSetDefault cardRemove balanceTopUp invoicePay",
    Role.SUPPORT: f"{EVERYBODY} account accounts invoice invoices plan run runs reconciler workQueue notices audit "
    "forecast stages "
    "approvals overridePlace overrideRevoke workItemResolve noticeMarkDelivered",
    Role.ADMIN: f"{EVERYBODY} account accounts invoice invoices plan run runs reconciler workQueue notices audit "
    "forecast stages policyPreview "
    "approvals approvalWithdraw overridePlace overrideRevoke workItemResolve noticeMarkDelivered holdPlace "
    "holdLift enforcementPause enforcementResume reconcileRequest actionRequest "
    "runCancel stepRetry",
    Role.INFRA: f"{EVERYBODY} plan run runs reconciler holdPlace holdLift enforcementPause reconcileRequest "
    "forecast stages "
    "actionRequest runCancel stepRetry",
    Role.CONTROL: f"{EVERYBODY} account accounts accountUpsert serverRegister serverUpdate serverTransfer serverRetire "
    "holdPlace holdLift",
}
#: The same of what the guard takes from persons.
GUARD_RIGHTS = {
    Role.CUSTOMER: "graceRequest",
    Role.ADMIN: "breakerRelease safeModeRelease policyAssign decommissionApprove",
}
#: The same of what is about purses, vouchers and prices.
MONEY_RIGHTS = {
    Role.CUSTOMER: "prices vouchers voucherRedeem",
    Role.SUPPORT: "prices vouchers voucherRedeem paymentRecord",
    Role.ADMIN: "prices vouchers voucherRedeem paymentRecord invoiceForgive creditGrant ledgerReverse vouchersIssue "
    "voucherRevoke priceSet",
    Role.INFRA: "prices",
    Role.CONTROL: "prices",
}
#: A type, the field that leads on, and the type that it leads to.
Step = tuple[str, str, str]


def _value(kind: Any) -> str:
    """Return a literal of an input type, as empty as it may be."""
    if isinstance(kind, GraphQLNonNull):
        return _value(kind.of_type)
    if isinstance(kind, GraphQLList):
        return f"[{_value(kind.of_type)}]"
    if isinstance(kind, GraphQLEnumType):
        return next(iter(kind.values))
    if isinstance(kind, GraphQLInputObjectType):
        needed = {name: one for name, one in kind.fields.items() if isinstance(one.type, GraphQLNonNull)}
        return "{" + ", ".join(f"{name}: {_value(one.type)}" for name, one in needed.items()) + "}"
    assert isinstance(kind, GraphQLScalarType)
    texts = {"Boolean": "true", "Int": "1", "DateTime": '"2026-11-20T00:00:00Z"', "Date": '"2026-11-20"'}
    return texts.get(kind.name, '"1.00"' if kind.name == "Decimal" else '"x"')


def _call(name: str, field: GraphQLField, inside: str) -> str:
    needed = [
        f"{one}: {_value(arg.type)}"
        for one, arg in field.args.items()
        if isinstance(arg.type, GraphQLNonNull)
    ]
    arguments = f"({', '.join(needed)})" if needed else ""
    return f"{name}{arguments} {inside}"


def _asked(root: str, name: str) -> str:
    """Return the operation that asks for a root field with arguments as empty as they may be."""
    field = SCHEMA.get_type(root).fields[name]  # type: ignore[union-attr]
    return f"{ROOTS[root]} {{ {_call(name, field, '{ __typename }')} }}"


def _ways() -> dict[str, list[list[Step]]]:
    """Return, for each type, the shortest way from each root that leads there."""
    ways: dict[str, list[list[Step]]] = {}
    for root in ROOTS:
        waiting: deque[tuple[str, list[Step]]] = deque([(root, [])])
        seen = {root}
        while waiting:
            noun, way = waiting.popleft()
            ways.setdefault(noun, []).append(way)
            kind = SCHEMA.get_type(noun)
            reached = (
                [(one.name, "") for one in SCHEMA.get_possible_types(kind)]
                if isinstance(kind, GraphQLInterfaceType)
                else []
            )
            if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
                reached += [(get_named_type(field.type).name, name) for name, field in kind.fields.items()]
            for target, name in reached:
                inner = SCHEMA.get_type(target)
                if target not in seen and isinstance(inner, GraphQLObjectType | GraphQLInterfaceType):
                    seen.add(target)
                    waiting.append((target, [*way, (noun, name, target)]))
    return ways


def _document(way: list[Step], leaf: str) -> str:
    """Return the operation that goes this way and asks for `leaf` there."""
    selection = leaf
    for noun, name, target in reversed(way):
        kind = SCHEMA.get_type(noun)
        if name:
            selection = _call(name, kind.fields[name], f"{{ {selection} }}")  # type: ignore[union-attr]
        else:
            selection = f"... on {target} {{ {selection} }}"
    return f"{{ {selection} }}"


WAYS = _ways()
FIELDS = sorted(
    (noun, name)
    for noun, kind in SCHEMA.type_map.items()
    if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and not noun.startswith("__")
    for name in kind.fields
)


OPERATIONS = sorted(one for one in FIELDS if one[0] in {"Query", "Mutation"})


def _errors(role: Role, document: str) -> set[str]:
    """Return the codes of what the validation says to this role; nothing is executed."""
    from graphql import parse, validate
    from graphql.validation import specified_rules

    from api.graphql.permissions import _rule

    said = validate(OURS._schema, parse(document), [*specified_rules, _rule(role)])
    return {(error.extensions or {}).get("code", error.message) for error in said}


@pytest.mark.parametrize("role", list(Role))
def test_every_field_is_refused_on_every_way_to_the_roles_without_it(role: Role) -> None:
    """It says `FORBIDDEN` exactly where the field, or one on the way to it, is not the role's, and nothing else."""
    wrong = []
    for noun, name in FIELDS:
        kind = SCHEMA.get_type(noun)
        field = kind.fields[name]  # type: ignore[union-attr]
        inner = get_named_type(field.type)
        inside = "{ __typename }" if isinstance(inner, GraphQLObjectType | GraphQLInterfaceType) else ""
        for way in WAYS[noun]:
            root = way[0][0] if way else noun
            document = ROOTS[root] + _document(way, _call(name, field, inside))
            passed = [(at, step) for at, step, _ in way if step]
            may = all(role in roles_of(at, step) for at, step in [*passed, (noun, name)])
            if _errors(role, document) != (set() if may else {"FORBIDDEN"}):
                wrong.append((document, may, _errors(role, document)))
    assert wrong == []


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_do_what_the_contract_says_and_nothing_else(
    door: Any, factory: Any, role: Role
) -> None:
    """It answers `FORBIDDEN` to every operation that the contract does not give the role."""
    account = (await factory.account()).external_id if role is Role.CUSTOMER else None
    refused = set()
    for root, field in OPERATIONS:
        answer = await door.ask(role, _asked(root, field), account=account)
        codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
        assert codes <= {"FORBIDDEN"}, (field, answer)
        if codes:
            refused.add(field)
    assert {field for _, field in OPERATIONS} - refused == {
        *RIGHTS[role].split(),
        *MONEY_RIGHTS[role].split(),
        *GUARD_RIGHTS.get(role, "").split(),
    }


def test_every_type_is_reached() -> None:
    """It leaves no type out that the schema has."""
    assert {noun for noun, _ in FIELDS} == set(WAYS)


@pytest.mark.usefixtures("sqlite_database")
async def test_without_a_token_nothing_is_told(door: Any) -> None:
    """It answers whoever is nobody the same, whatever the question."""
    told = set()
    for root in ROOTS:
        for name in SCHEMA.get_type(root).fields:  # type: ignore[union-attr]
            answer = await door.post({"query": _asked(root, name)})
            told.add((answer.status_code, answer.content))
    assert len(told) == 1
    assert next(iter(told))[0] == 401
