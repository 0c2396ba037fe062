"""Operations that are made to cost more than they say: refused at once, and in little memory."""

import json
import tracemalloc
from typing import Any

import pytest

from api.models import Role
from benchmarks.attacks import ATTACKS, MOST_BYTES, refused

pytestmark = pytest.mark.usefixtures("sqlite_database")

#: An honest page, as a portal asks for it.
HONEST = {
    "query": """{ viewer { accounts { id name standing { stage since } announcement { code title }
      servers(first: 20) { totalCount edges { node { id name status gates { action allowed code message } } } } } } }"""
}
#: How many functions a refusal may call at most, which is some 50 ms; `make bench-attacks` measures the time.
MOST_CALLS = 500_000


@pytest.mark.parametrize("attack", sorted(ATTACKS))
async def test_an_attack_is_refused_cheaply(door: Any, factory: Any, attack: str) -> None:
    """It refuses it with a code, with little work and memory, and answers the next as before."""
    server = await factory.server()
    account = (await server.account).external_id
    token = await door.token(Role.CUSTOMER, account)
    body = ATTACKS[attack]
    assert len(json.dumps(body)) < 128 * 1024 or attack == "a batch"
    answer = (await door.post(body, token=token)).json()
    assert refused(answer), answer
    assert len(json.dumps(answer)) < 50_000
    cost = await door.calls(body, token=token)
    tracemalloc.start()
    await door.post(body, token=token)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{attack}: {cost:,} calls, {peak / 2**20:.1f} MiB")
    assert peak < MOST_BYTES
    assert cost < MOST_CALLS
    assert (await door.post(HONEST, token=token)).json()["data"]["viewer"]["accounts"][0]["servers"][
        "totalCount"
    ] == 1
