"""What is answered to operations that are made to cost more than they say, by a server of its own process.

Owns the attacks themselves, which the tests send too, and how long a refusal takes on the wire (the target is at most
50 ms) and how much more memory the server has at its highest (at most 20 MB). Exits with 1 where one is not refused or
takes more.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.api import PORTAL_HOME, prepare, served
from benchmarks.cluster import MissingError, postgres
from benchmarks.fleet import Fleet
from benchmarks.load import receive, request

MOST_SECONDS = 0.05
MOST_BYTES = 20 * 2**20
#: What a refusal may say.
CODES = frozenset({"LIMIT_EXCEEDED", "INVALID", "FORBIDDEN"})

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


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """How one attack went: how long its answers took, in seconds, and by how much the server grew, in bytes."""

    name: str
    typical: float
    worst: float
    grown: int
    refused: bool

    @property
    def good(self) -> bool:
        """Whether it was refused within the targets."""
        return self.refused and self.typical <= MOST_SECONDS and self.grown <= MOST_BYTES

    def text(self) -> str:
        """Return it in one line."""
        verdict = "" if self.good else "  TOO DEAR" if self.refused else "  NOT REFUSED"
        times = f"{self.typical * 1e3:7.1f} ms, at most {self.worst * 1e3:7.1f} ms"
        return f"{self.name:32} {times}, {self.grown / 2**20:5.1f} MB more{verdict}"


class Highest:
    """The most memory that a process has had since it was last asked, as its kernel counts it."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def forget(self) -> int:
        """Count anew from now on; returns the bytes of now. Source: proc(5), clear_refs."""
        (self._folder / "clear_refs").write_text("5", encoding="ascii")
        return self.told()

    def told(self) -> int:
        """Return the most since then, in bytes."""
        lines = (self._folder / "status").read_text(encoding="ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024


async def _sent(port: int, sent: bytes) -> tuple[float, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = time.perf_counter()
    writer.write(sent)
    answer = json.loads((await asyncio.wait_for(receive(reader), 60))[1])
    took = time.perf_counter() - begun
    writer.close()
    return took, answer


def refused(answer: Mapping[str, Any]) -> bool:
    """Tell whether an answer carries nothing but a coded refusal."""
    errors = answer.get("errors") or ()
    codes = {error.get("extensions", {}).get("code") for error in errors}
    return answer.get("data") is None and bool(codes) and codes <= CODES


async def attack(at: tuple[int, int], name: str, headers: Mapping[str, str], times: int) -> Refusal:
    """Send one attack `times` times, one after the other."""
    port, pid = at
    sent = request("/graphql", json.dumps(ATTACKS[name]).encode(), **headers)
    highest = Highest(pid)
    before = highest.forget()
    answers = [await _sent(port, sent) for _ in range(times)]
    return Refusal(
        name=name,
        typical=statistics.median(took for took, _ in answers),
        worst=max(took for took, _ in answers),
        grown=highest.told() - before,
        refused=all(refused(answer) for _, answer in answers),
    )


async def run(fleet: Fleet, times: int) -> list[Refusal]:
    """Send every attack to a server on a PostgreSQL of its own, and print what became of it."""
    done = []
    with postgres() as url:
        customer, _ = await prepare(url, fleet)
        headers = {"Authorization": f"Bearer {customer}"}
        honest = request("/graphql", json.dumps({"query": PORTAL_HOME}).encode(), **headers)
        async with served("product", url) as at:
            pages = [(await _sent(at[0], honest))[0] for _ in range(max(times, 4))][1:]
            print(f"{'one honest start page':32} {statistics.median(pages) * 1e3:7.1f} ms", flush=True)
            for name in ATTACKS:
                done.append(await attack(at, name, headers, times))
                print(done[-1].text(), flush=True)
    return done


def main() -> int:
    """Run from the command line; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=20, help="how often each attack is sent")
    given = parser.parse_args()
    try:
        done = asyncio.run(run(Fleet(accounts=given.accounts, servers=given.servers), given.times))
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    print(f"{sum(one.good for one in done)} of {len(done)} refused within 50 ms and 20 MB")
    return int(not all(one.good for one in done))


if __name__ == "__main__":
    sys.exit(main())
