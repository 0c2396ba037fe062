"""How fast the API answers, as a ratio against what somebody could write by hand instead.

`portal_home_vs_plain` and `gates_100_vs_plain`: how many answers a hand-written endpoint with the same token check and
the same statements gives for each of ours, to the portal's start page and to "may these hundred servers be started?"
(lower is better; the target is at most 4). Counted by the processor's time of the serving processes, which is what
limits one that has enough to do: by the clock, told beside it, the hand-written one would also wait for the database
and for the client, and look slower than it is. It reads the same rows and answers with the same JSON, but works nothing
out: neither standings nor gates. Beside each ratio stands what executing the fields with graphql-core
alone would come to (`..._floor`), with nothing read and nothing worked out. `webhook_vs_insert`: accepted and durable
Stripe events for each row that is just verified and inserted (higher is better; the target is at least 0.5).
"""

import argparse
import asyncio
import hashlib
import hmac
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from api import tokens
from api.database import open_database, upgrade
from api.models import Role
from benchmarks.cluster import MissingError, postgres
from benchmarks.fleet import NOW, Fleet, fill
from benchmarks.floor import floor
from benchmarks.load import Run, load, request
from benchmarks.serving import CHECKOUT, SECRET, product, write
from billing.clock import SystemClock

#: How often both servers of a comparison are loaded.
ROUNDS = 5
PORTAL_HOME = (CHECKOUT / "clients/operations/PortalHome.graphql").read_text(encoding="utf-8")
GATES_100 = """query Gates($names: [String!]!) {
  serversByExternalId(externalIds: $names) { externalId gate(action: START) { allowed code message until } } }"""
_FLEETS = {"full": Fleet(), "small": Fleet(accounts=2_000, servers=10_000)}


@dataclass(frozen=True, kw_only=True)
class Result:
    """Two runs and what they come to."""

    name: str
    ours: Run
    plain: Run
    ratio: float
    target: str
    #: The processor's seconds of graphql-core alone; null where it takes no part.
    floor: float | None = None

    def text(self) -> str:
        """Return it in a few lines."""
        lines = [f"{self.name} = {self.ratio:.2f} (target {self.target})"]
        lines += [f"  ours  {self.ours.text()}", f"  plain {self.plain.text()}"]
        if self.floor is not None:
            lines.append(f"  by the clock {self.plain.rate / self.ours.rate:.2f}")
            alone = f"{self.floor * 1e3:.2f} ms of CPU each by graphql-core alone"
            lines.append(f"{self.name.partition('_vs_')[0]}_floor = {self.floor_ratio:.2f} ({alone})")
        return "\n".join(lines)

    def ratios(self) -> dict[str, float]:
        """Return its figures by name."""
        alone = (
            {f"{self.name.partition('_vs_')[0]}_floor": self.floor_ratio} if self.floor is not None else {}
        )
        return {self.name: self.ratio} | alone

    @property
    def floor_ratio(self) -> float:
        """How many answers of the hand-written one graphql-core alone costs, by the processor's time."""
        return (self.floor or 0) / self.plain.each


@asynccontextmanager
async def served(kind: str, url: str, script: str = "") -> AsyncIterator[tuple[int, int]]:
    """Run one of the servers; yields its port and its process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.serving", kind, url, script,
        cwd=CHECKOUT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, asked = process.stdout, process.stdin
    if told is None or asked is None:
        raise RuntimeError("a server without pipes")
    try:
        yield int(await asyncio.wait_for(told.readline(), 60)), process.pid
    finally:
        asked.close()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()


async def prepare(url: str, fleet: Fleet) -> tuple[str, str]:
    """Fill the database; returns a token of the busy customer and one of the control plane."""
    begun = time.perf_counter()
    await upgrade(url)
    connection = await asyncpg.connect(url)
    try:
        await fill(connection, fleet)
        await connection.execute("CREATE TABLE plain_event (event_id text PRIMARY KEY, type text, body text)")
    finally:
        await connection.close()
    async with open_database(url):
        customer = await tokens.create(
            "c", Role.CUSTOMER, account_external_id=fleet.busy, now=NOW, actor="benchmark"
        )
        control = await tokens.create("k", Role.CONTROL, now=NOW, actor="benchmark")
    print(
        f"{fleet.accounts:,} accounts, {fleet.servers:,} servers in {time.perf_counter() - begun:.0f} s",
        flush=True,
    )
    return customer, control


async def script_of(url: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return what the product does for one operation: its statements beside the token check, and its answer."""
    sent: list[tuple[str, list[Any]]] = []

    def note(record: asyncpg.connection.LoggedQuery) -> None:
        sent.append((record.query, [write(value) for value in record.args]))

    original = asyncpg.connection.Connection.__init__

    def watched(connection: Any, *args: Any, **more: Any) -> None:
        original(connection, *args, **more)
        connection.add_query_logger(note)

    asyncpg.connection.Connection.__init__ = watched
    try:
        async with product(url) as app:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://bench") as client:
                headers = {"Authorization": f"Bearer {token}"}
                sent.clear()
                answer = (await client.post("/graphql", json=body, headers=headers)).json()
                if "errors" in answer:
                    raise RuntimeError(f"the operation is refused: {answer['errors']}")
    finally:
        asyncpg.connection.Connection.__init__ = original
    statements = [one for one in sent if "FROM" in one[0] and "api_token" not in one[0]]
    return {"statements": statements, "answer": answer}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A server, by its port and its process, and what it is asked: `make` returns the request of a number."""

    at: tuple[int, int]
    make: Callable[[int], bytes]


async def in_turn(many: int, *servers: Asked, cost: Callable[[Run], float]) -> list[Run]:
    """Load servers one after the other, several times; return the run of each that cost least.

    Whatever else the machine does makes a run dearer and never cheaper, and seldom falls on both alike.
    """
    numbers = itertools.count(1)

    async def loaded(times: int) -> list[Run]:
        return [
            await load(*one.at, [one.make(number) for number in itertools.islice(numbers, times)])
            for one in servers
        ]

    await loaded(max(many // 10, 8))
    runs = [await loaded(many) for _ in range(ROUNDS)]
    return [min(of_one, key=cost) for of_one in zip(*runs, strict=True)]


async def compare_queries(url: str, name: str, token: str, body: dict[str, Any], many: int) -> Result:
    """Measure one operation on both servers."""
    script = await script_of(url, token, body)
    print(f"{name}: {len(script['statements'])} statements beside the token check", flush=True)
    headers = {"Authorization": f"Bearer {token}"}
    ours_sent = request("/graphql", json.dumps(body).encode(), **headers)
    plain_sent = request("/answer", json.dumps(body).encode(), **headers)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(script, file)
        file.flush()
        async with served("product", url) as product_at, served("plain", url, file.name) as plain_at:
            ours, plain = await in_turn(
                many,
                Asked(at=product_at, make=lambda _: ours_sent),
                Asked(at=plain_at, make=lambda _: plain_sent),
                cost=lambda run: run.each,
            )
    return Result(
        name=name,
        ours=ours,
        plain=plain,
        ratio=ours.each / plain.each,
        target="<= 4",
        floor=await floor(body, script["answer"]["data"], max(many // 10, 8)),
    )


def _event(number: int) -> bytes:
    at = int(SystemClock().now().timestamp())
    about = {"id": f"in_{number}", "object": "invoice", "customer": f"cus_{number}", "padding": "x" * 3_000}
    body = json.dumps({
        "id": f"evt_{number}", "object": "event", "api_version": "2026-01-01", "created": at, "livemode": False,
        "type": "invoice.paid", "pending_webhooks": 1, "request": None, "data": {"object": about},
    }).encode()  # fmt: skip
    mac = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return request("/webhooks/stripe", body, Stripe_Signature=f"t={at},v1={mac}")


async def compare_webhooks(url: str, many: int) -> Result:
    """Measure the intake of events."""

    def plainly(number: int) -> bytes:
        return _event(number).replace(b"/webhooks/stripe", b"/insert", 1)

    async with served("product", url) as product_at, served("plain", url) as plain_at:
        ours, plain = await in_turn(
            many,
            Asked(at=product_at, make=_event),
            Asked(at=plain_at, make=plainly),
            cost=lambda run: run.seconds,
        )
    return Result(
        name="webhook_vs_insert", ours=ours, plain=plain, ratio=ours.rate / plain.rate, target=">= 0.5"
    )


async def run(fleet: Fleet, many: int) -> list[Result]:
    """Measure everything on a PostgreSQL of its own and print it."""
    results = []
    with postgres() as url:
        customer, control = await prepare(url, fleet)
        home = {"query": PORTAL_HOME}
        hundred = [f"server-{1 + number * fleet.servers // 100}" for number in range(100)]
        gates = {"query": GATES_100, "variables": {"names": hundred}}
        for work in (
            compare_queries(url, "portal_home_vs_plain", customer, home, many),
            compare_queries(url, "gates_100_vs_plain", control, gates, many),
            compare_webhooks(url, many),
        ):
            results.append(await work)
            print(results[-1].text(), flush=True)
    return results


def main() -> int:
    """Run from the command line; 1 when there were errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleet", choices=_FLEETS, default="full", help="small: two minutes, all told")
    parser.add_argument("--accounts", type=int, help="instead of the fleet's")
    parser.add_argument("--servers", type=int, help="instead of the fleet's")
    parser.add_argument("--requests", type=int, default=1_000, help="of each load")
    parser.add_argument("--json", type=Path, help="also write the ratios here")
    given = parser.parse_args()
    fleet = _FLEETS[given.fleet]
    fleet = Fleet(accounts=given.accounts or fleet.accounts, servers=given.servers or fleet.servers)
    try:
        results = asyncio.run(run(fleet, given.requests))
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    if given.json:
        ratios = {name: round(ratio, 3) for one in results for name, ratio in one.ratios().items()}
        given.json.write_text(json.dumps(ratios), encoding="utf-8")
    return int(any(one.ours.errors or one.plain.errors for one in results))


if __name__ == "__main__":
    sys.exit(main())
