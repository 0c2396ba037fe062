"""Operations that are made to cost more than they say: refused at once, and in little memory."""

import json
import statistics
import time
import tracemalloc
from typing import Any

import pytest

from api.models import Role

pytestmark = pytest.mark.usefixtures("sqlite_database")

_FRAGMENTS = " ".join(
    f"fragment f{i} on Account {{ servers {{ edges {{ node {{ account {{ ...f{i + 1} ...f{i + 1} }} }} }} }} }}"
    for i in range(30)
)
ATTACKS: dict[str, Any] = {
    "1,000 aliases": {"query": "{" + " ".join(f"a{i}: viewer {{ role }}" for i in range(1_000)) + "}"},
    "1,000 aliases of a mutation": {
        "query": "mutation {" + " ".join(
            f'a{i}: overrideRevoke(input: {{id: "{i}", reason: "x"}}) {{ errors {{ code }} }}' for i in range(1_000)
        ) + "}"
    },
    "10,000 tokens": {"query": "{" + "viewer { role } " * 2_500 + "}"},
    "10,000 tokens of directives": {"query": "{ viewer { role " + "@skip(if: true) " * 1_500 + "} }"},
    "120 kB of one name": {"query": "{ " + "x" * 120_000 + " }"},
    "120 kB of brackets": {"query": "{ a(x: " + "[" * 110_000 + ") }"},
    "1,000 levels": {"query": "{ viewer " + "{ accounts " * 300 + "{ id }" + "}" * 301},
    "a batch": [{"query": "{ viewer { role } }"}] * 1_000,
    "circular fragments": {"query": "{ viewer { ...a } } fragment a on Viewer { ...b } fragment b on Viewer { ...a }"},
    "a fragment within itself": {
        "query": "{ viewer { accounts { ...a } } }"
        " fragment a on Account { id servers { edges { node { account { ...a } } } } }"
    },
    "fragments that double": {
        "query": "{ viewer { accounts { ...f0 } } } " + _FRAGMENTS + " fragment f30 on Account { id }"
    },
    "a circle of edges": {
        "query": "{ accounts { edges { node "
        + "{ servers { edges { node { account " * 4 + "{ id }" + "} } } }" * 4
        + " } } }"
    },
    "pages in pages": {
        "query": "{ accounts(first: 100) { edges { node { servers(first: 100) { edges { node {"
        " history(first: 100) { edges { node { id } } } } } } } } } }"
    },
    "one field 480 times": {"query": "{" + "viewer { role } " * 480 + "}"},
    "a wrong list of 20,000": {
        "query": "query($n: [GateAction!]) { servers { edges { node { gates(actions: $n) { code } } } } }",
        "variables": {"n": ["STARTS"] * 10_000},
    },
    "10,000 unknown fields": {
        "query": "query($f: ServerFilter) { servers(filter: $f) { totalCount } }",
        "variables": {"f": {f"field{i}": 1 for i in range(8_000)}},
    },
    "introspection": {"query": "{ __schema { types { name fields { name type { name } } } } }"},
}  # fmt: skip
#: An honest page, as a portal asks for it; what a refusal may cost is told in such pages.
HONEST = {
    "query": """{ viewer { accounts { id name standing { stage since } announcement { code title }
      servers(first: 20) { totalCount edges { node { id name status gates { action allowed code message } } } } } } }"""
}
MOST_BYTES = 20 * 1024 * 1024
#: A refusal may cost as much as this many honest pages at most.
MOST_PAGES = 10


async def _cpu(door: Any, token: str, body: Any) -> float:
    times = []
    for _ in range(3):
        begun = time.process_time()
        await door.post(body, token=token)
        times.append(time.process_time() - begun)
    return statistics.median(times)


@pytest.mark.parametrize("attack", sorted(ATTACKS))
async def test_an_attack_is_refused_cheaply(door: Any, factory: Any, attack: str) -> None:
    """It refuses it with a code, in little time and memory, and answers the next as before."""
    server = await factory.server()
    account = (await server.account).external_id
    token = await door.token(Role.CUSTOMER, account)
    body = ATTACKS[attack]
    assert len(json.dumps(body)) < 128 * 1024 or attack == "a batch"
    page = await _cpu(door, token, HONEST)
    answer = (await door.post(body, token=token)).json()
    assert answer["data"] is None
    assert answer["errors"][0]["extensions"]["code"] in {"LIMIT_EXCEEDED", "INVALID", "FORBIDDEN"}
    assert len(json.dumps(answer)) < 50_000
    cost = await _cpu(door, token, body)
    tracemalloc.start()
    await door.post(body, token=token)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{attack}: {cost * 1e3:.1f} ms of CPU, {cost / page:.2f} honest pages, {peak / 2**20:.1f} MiB")
    assert peak < MOST_BYTES
    assert cost < MOST_PAGES * page
    assert (await door.post(HONEST, token=token)).json()["data"]["viewer"]["accounts"][0]["servers"][
        "totalCount"
    ] == 1
