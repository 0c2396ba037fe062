"""How whole stories are staged: the product on a world of simulators, in seconds, looked at through the public doors.

Owns ladders that pass in seconds, the account that owes, and what is believed of the world: the simulators' own state,
the letters that arrived and the API's answers.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from api.demo.installation import TOKEN_VARIABLE, Installation, Outside, Plot, outside, product
from api.demo.pace import Speed
from api.demo.sample import guests_of, register
from api.demo.story import essence
from api.models import Role
from api.runtime import Pace
from api.settings import Settings
from reconciler.rules.terms import Mode
from simulators.proxmox.sample import ACCOUNTS, STORY, TOKEN_SECRET

#: How long any one turn may take; a busy machine is slow, a wrong product never gets there.
PATIENCE_SECONDS = 200.0
#: Back-offs and settling times are twenty times shorter, looking is done every few seconds.
BRISK = Pace(tick=1.0, observe=15.0, sweep=3.0, scale=20.0)
#: Looks more often: for what is seen only by looking.
WATCHFUL = replace(BRISK, observe=4.0)
ALL_EFFECTS = ("lock_backups", "stop_servers", "lock_account")
STATE = """
query($id: String!) {
  account(externalId: $id) {
    id standing { stage reasonCode effects } announcement { code }
    gate(action: DEPLOY) { allowed code }
    servers(first: 20) { edges { node {
      id externalId status inSync restoring power { desired observed }
      gates(actions: [START, CREATE_BACKUP]) { action allowed code }
    } } }
  }
}
"""
PLAN = "{ plan { mode text steps(first: 100) { edges { node { kind state heldBackBy reason } } } } }"


def ladder(
    *, final: float = 0.6, suspended: float = 1.2, told: float = 0.2, effects: Sequence[str] = ALL_EFFECTS,
    early: bool = True,
) -> dict[str, str]:  # fmt: skip
    """Return policy files with one ladder, its spans in seconds.

    `told`: how long the final notice has been delivered before a suspension; `early`: it locks backups.
    """
    stages: dict[str, dict[str, object]] = {
        "past_due": {"after": "PT0S", "notice": "payment_overdue", "remind_every": "P7D"},
        "final_notice": {"after": f"PT{final:g}S", "min_notice": "PT0.2S", "notice": "final_notice"},
        "suspended": {
            "after": f"PT{suspended:g}S",
            "min_notice": f"PT{told:g}S",
            "notice": "suspended",
            "effects": list(effects),
        },
    }
    if early and "lock_backups" in effects:
        stages["final_notice"]["effects"] = ["lock_backups"]
    return {"standard": yaml.safe_dump({"stages": stages}, sort_keys=False)}


@dataclass(kw_only=True)
class Tale:
    """One account that owes money to one installation, and ways to look at what became of it."""

    scene: Installation
    customer: str = ""
    address: str = ""
    invoice: str = ""

    @property
    def world(self) -> Outside:
        """The outside world."""
        return self.scene.outside

    async def register(self, servers: Sequence[Mapping[str, str]]) -> None:
        """Register the account with these servers and wait until they were observed."""
        self.customer, self.address = await register(self.scene, STORY, "standard", servers)
        await self.until("the guests are observed", self.observed)

    async def begin(self, *, guests: Sequence[int] = ACCOUNTS[STORY]) -> None:
        """Register the account with these guests and wait until they were observed."""
        servers = [one for one in guests_of(self.scene, STORY) if int(one["guest"]) in guests]
        await self.register(servers)

    def owe(self) -> None:
        """Let an invoice be two days overdue at Stripe."""
        due = self.scene.clock.now() - timedelta(days=2)
        self.invoice = self.scene.stripe.create_invoice(self.customer, 2900, "eur", due_date=due)["id"]

    def pay(self) -> None:
        """Let the customer pay the invoice."""
        self.scene.stripe.pay_invoice(self.invoice, out_of_band=True)

    # -- the API's word ---------------------------------------------------------------------------------------------

    async def account(self, role: Role = Role.CUSTOMER) -> dict[str, Any]:
        """Return what the portal shows of the account."""
        data = await self.scene.portal(role).ask(STATE, {"id": STORY})
        found: dict[str, Any] = data["account"]
        return found

    async def servers(self) -> dict[str, dict[str, Any]]:
        """Return the account's servers by the number of their guest."""
        edges = (await self.account())["servers"]["edges"]
        return {edge["node"]["externalId"].removeprefix(f"{STORY}-"): edge["node"] for edge in edges}

    async def stage(self) -> str:
        """Return where the account stands."""
        return str((await self.account())["standing"]["stage"])

    async def observed(self) -> bool:
        """Return whether every server was seen."""
        found = await self.servers()
        return bool(found) and all(one["power"]["observed"] != "UNKNOWN" for one in found.values())

    async def in_sync(self) -> bool:
        """Return whether every server is as its holds ask."""
        return all(one["inSync"] for one in (await self.servers()).values())

    async def held_back(self) -> dict[str, str]:
        """Return who holds back each kind of step in the present plan."""
        plan = (await self.scene.portal(Role.ADMIN).ask(PLAN))["plan"]
        nodes = [edge["node"] for edge in plan["steps"]["edges"]]
        return {node["kind"]: node["heldBackBy"] for node in nodes if node["heldBackBy"]}

    async def reaches(self, stage: str, *, settled: bool = False) -> None:
        """Wait until the account stands at a stage and, if `settled`, all is as that asks."""

        async def there() -> bool:
            found = await self.account()
            as_asked = all(edge["node"]["inSync"] for edge in found["servers"]["edges"])
            return bool(found["standing"]["stage"] == stage and (as_asked or not settled))

        await self.until(f"the account stands at {stage}", there)

    # -- the world's word -------------------------------------------------------------------------------------------

    def guest(self, vmid: int) -> dict[str, Any]:
        """Return what the cluster itself says of a guest."""
        found: dict[str, Any] = self.world.cluster.snapshot()["guests"][str(vmid)]
        return found

    def power(self, vmid: int) -> str:
        """Return whether a guest really runs."""
        return str(self.guest(vmid)["power"])

    def essence(self) -> dict[str, Any]:
        """Return everything of the cluster that a customer could tell apart."""
        return essence(self.world.cluster.snapshot())

    def asked(self, vmid: int, verb: str) -> int:
        """Return how often a guest was asked to `shutdown`, `stop` or `start`."""
        ending = f"/{vmid}/status/{verb}"
        calls = list(self.world.cluster.calls)
        return sum(call.method == "POST" and call.path.endswith(ending) for call in calls)

    def writes(self) -> list[str]:
        """Return every call to the cluster that was not a mere question."""
        return [f"{call.method} {call.path}" for call in self.world.cluster.calls if call.method != "GET"]

    def letters(self) -> list[str]:
        """Return the subjects of the letters to the account, oldest first."""
        return [letter.subject for letter in self.world.mailbox.to(self.address)]

    async def until(
        self, what: str, holds: Callable[[], bool | Awaitable[bool]], *, patience: float = PATIENCE_SECONDS
    ) -> None:
        """Wait until something holds; fail with what was waited for and what is to be seen instead."""
        limit = asyncio.get_running_loop().time() + patience
        while True:
            answer = holds()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            if asyncio.get_running_loop().time() > limit:
                pytest.fail(f"{what}: not within {patience:g} s\n{await self._seen()}", pytrace=False)
            await asyncio.sleep(0.1)

    async def _seen(self) -> str:
        plan = (await self.scene.portal(Role.ADMIN).ask(PLAN))["plan"]
        return f"{await self.account()}\n{plan['text']}\n{self.letters()}\n{self.writes()}"


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which another process runs with these settings and nothing else."""
    found = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "COLUMNS": "400"}
    for name, value in settings:
        if value is None or value == Settings.model_fields[name].default:
            continue
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        found[f"ABEYANCE_{name.upper()}"] = {"mode": text.lower()}.get(name, text)
    # A duration is written as ISO 8601 wants it.
    found["ABEYANCE_FACTS_MAX_AGE"] = f"PT{settings.facts_max_age.total_seconds():g}S"
    return found | {TOKEN_VARIABLE: TOKEN_SECRET}


@dataclass(kw_only=True)
class Theatre:
    """Opens worlds and installations for one test, all in its own folder."""

    folder: Path
    worlds: list[Outside] = field(default_factory=list)
    #: Writes policy files with a ladder of seconds.
    ladder = staticmethod(ladder)
    #: A pace for stories in which much is seen only by looking.
    watchful = WATCHFUL
    #: Only power is taken: for what happens around a stop.
    stops = ladder(effects=("stop_servers",))

    def plot(self, **changes: Any) -> Plot:
        """Return a brisk plot; `changes` replace its parts."""
        base = Plot(speed=Speed.parse("72h=2s"), pace=BRISK, task_scale=0.02, ladders=ladder())
        return replace(base, **changes)

    def told_of(self, scene: Installation) -> Tale:
        """Return the tale of an installation that somebody else runs."""
        return Tale(scene=scene)

    def environment(self, settings: Settings) -> dict[str, str]:
        """Return the environment in which another process runs with these settings and nothing else."""
        return environment(settings)

    @asynccontextmanager
    async def world(self, plot: Plot) -> AsyncIterator[Outside]:
        """Run the outside world alone."""
        async with outside(plot) as world:
            self.worlds.append(world)
            yield world

    @asynccontextmanager
    async def opened(
        self, plot: Plot, world: Outside, known: Tale | None = None, *, mode: Mode | None = None
    ) -> AsyncIterator[Tale]:
        """Run the product on a world; with `known`, it is a restart and the account is there already."""
        chosen = replace(plot, mode=mode) if mode is not None else plot
        async with product(self.folder, chosen, world) as scene:
            yield replace(known, scene=scene) if known is not None else Tale(scene=scene)

    @asynccontextmanager
    async def tale(self, **changes: Any) -> AsyncIterator[Tale]:
        """Run a world and the product on it."""
        plot = self.plot(**changes)
        async with self.world(plot) as world, self.opened(plot, world) as tale:
            yield tale

    def destroying(self) -> list[object]:
        """Return every call to any of the worlds that would have destroyed something."""
        return [call for world in self.worlds for call in world.cluster.destroying_calls]
