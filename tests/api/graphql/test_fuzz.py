"""Whatever the schema allows is answered or refused: generated operations find no fault of ours."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from graphql import StringValueNode, build_schema
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import mutations, queries

from api.graphql import ids
from api.graphql.schema import sdl
from api.models import Role
from api.rates import Allowances

SCHEMA = build_schema(sdl())
CODES = {"BAD_CURSOR", "LIMIT_EXCEEDED", "FORBIDDEN", "INVALID", "RATE_LIMITED", "NOT_FOUND"}


def _text(*texts: str) -> st.SearchStrategy[StringValueNode]:
    return st.sampled_from(texts).map(lambda text: StringValueNode(value=text))


SCALARS = {
    "DateTime": _text(
        "2026-11-20T09:00:00Z", "2030-01-01T00:00:00+02:00", "0001-01-01T00:00:00Z", "soon", ""
    ),
    "Date": _text("2026-11-20", "9999-12-31", "x"),
    "Decimal": _text("1.00", "0", "-1.00", "1e400", "NaN", "9" * 40, "0.001"),
    "CurrencyCode": _text("EUR", "JPY", "xxx", ""),
    "Duration": _text("P1D", "PT0S", "P99999Y", "x"),
    "JSON": _text("{}", "x"),
}
#: Generated ids name nothing; with these some of them do.
IDS = [
    ids.global_id(noun, 1) for noun in ("Account", "Server", "Invoice", "Run", "Override", "WorkItem", "Card")
]


@st.composite
def _operations(draw: st.DrawFn) -> tuple[Role, str]:
    """A role and an operation of the schema; ids sometimes name what there is."""
    make = draw(st.sampled_from([queries, mutations]))
    kind = SCHEMA.query_type if make is queries else SCHEMA.mutation_type
    fields = draw(st.lists(st.sampled_from(sorted(kind.fields)), min_size=1, max_size=2, unique=True))
    text: str = draw(make(SCHEMA, fields=fields, custom_scalars=SCALARS))
    for argument in ("id", "accountId", "serverId", "invoiceId", "cardId", "runId"):
        if draw(st.booleans()):
            text = _named(text, argument, draw(st.sampled_from(IDS)))
    return draw(st.sampled_from(list(Role))), text


def _named(text: str, argument: str, value: str) -> str:
    """Put an id where an argument has one; a text without it stays as it is."""
    head, found, rest = text.partition(f'{argument}: "')
    return f'{head}{found}{value}"{rest.partition(chr(34))[2]}' if found else text


async def _tried(door: Any, account: str, role: Role, query: str) -> str:
    """Send one operation; returns what became of it, which is never a fault of ours."""
    token = await door.token(role, account if role is Role.CUSTOMER else None)
    answer = await door.post({"query": query}, token=token)
    assert answer.status_code in {200, 400, 413, 429}, (answer.status_code, query)
    told = answer.json()
    codes = {error["extensions"]["code"] for error in told.get("errors", ())}
    assert codes <= CODES, (role, query, told["errors"])
    return ",".join(sorted(codes)) or "answered"


async def _fuzzed(door: Any, factory: Any, many: int) -> Counter[str]:
    door.ports = replace(door.ports, allowances=Allowances(people=10**6, control=10**6))
    server = await factory.furnished()
    await factory.observation(server)
    account = (await server.account).external_id
    seen: Counter[str] = Counter()
    found: list[tuple[Role, str]] = []

    @settings(
        max_examples=many, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(_operations())
    def collect(operation: tuple[Role, str]) -> None:
        found.append(operation)

    collect()
    for role, query in found:
        seen[await _tried(door, account, role, query)] += 1
    return seen


@pytest.mark.usefixtures("sqlite_database")
async def test_no_generated_operation_finds_a_fault(door: Any, factory: Any) -> None:
    """It answers or refuses every one of a hundred with a code, and some of each."""
    seen = await _fuzzed(door, factory, 100)
    assert sum(seen.values()) >= 100
    assert seen["answered"] > 5, seen
    assert seen["FORBIDDEN"] > 5, seen


@pytest.mark.nightly
@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.timeout(1_800)
async def test_no_generated_operation_finds_a_fault_in_thousands(door: Any, factory: Any) -> None:
    """It holds for 2,500 operations as well."""
    seen = await _fuzzed(door, factory, 2_500)
    print(dict(seen))
    assert sum(seen.values()) >= 2_000
