"""Situations on a moving clock: months of the shipped ladder in seconds, through the public doors, simulators behind.

Owns the clock that can be moved and the turns that the product takes when it was; everything asked and done goes
through HTTP, and the plays are real.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from api import operations, tokens
from api.demo.installation import CHECKOUT, Installation, Outside, Plot, assembled, demo_site
from api.demo.portal import Portal
from api.demo.sample import guests_of, register
from api.models import Role
from api.runtime import Pace, Runtime
from reconciler.safety import MARKER
from simulators.proxmox.sample import ACCOUNTS, STORY

#: `tests/staging.py`: whoever asks for this module has loaded that one.
staging: Any = sys.modules["abeyance_tests_staging"]

#: Friday noon, so that a few days pass over a weekend.
BEGINNING = datetime(2026, 11, 20, 12, tzinfo=UTC)
#: Long enough for every settling time and back-off, short enough for no stage.
MOMENT = timedelta(minutes=5)
WORK = "{ workQueue(first: 20, state: OPEN) { edges { node { kind } } } }"
SERVER = "query($id: String!) { server(externalId: $id) { id explanation { rule text by until } } }"
SHIPPED = {
    file.stem: file.read_text(encoding="utf-8") for file in (CHECKOUT / "billing/policies").glob("*.yaml")
}


@dataclass(kw_only=True)
class MovedClock:
    """Goes as real time goes, from an instant of ours, and can be moved forward."""

    beginning: datetime = BEGINNING
    _began: datetime = field(default_factory=lambda: datetime.now(UTC))
    _moved: timedelta = timedelta(0)

    def now(self) -> datetime:
        """Return the instant that everybody in the story believes in."""
        return self.beginning + (datetime.now(UTC) - self._began) + self._moved

    def move(self, span: timedelta) -> None:
        """Let a span of time have passed."""
        self._moved += span


@dataclass(kw_only=True)
class Situation(staging.Tale):  # type: ignore[misc]
    """A tale whose time stands in the test's hands."""

    runtime: Runtime
    clock: MovedClock
    plot: Plot
    #: What the product of this moment is closed by.
    running: AsyncExitStack
    #: Whether the sites are read at every turn; where nobody has servers that takes time for nothing.
    looks: bool = False

    async def begin(
        self,
        *,
        guests: Sequence[int] = ACCOUNTS[STORY],
        servers: Sequence[Mapping[str, str]] | None = None,
        policy: str = "standard",
        **account: Any,
    ) -> None:
        """Register the account with these guests of the sample cluster (or these `servers`), and take a turn."""
        if servers is None:
            servers = [one for one in guests_of(self.scene, STORY) if int(one["guest"]) in guests]
        self.customer, self.address = await register(self.scene, STORY, policy, servers)
        if account:
            known = {"externalId": STORY, "name": "Story", "currency": "EUR", "timeZone": "Europe/Zurich"}
            await self.change("accountUpsert", known | account, "account { id }", Role.CONTROL)
        self.looks = bool(servers)
        await self.turn()

    async def restarts(self, **changes: Any) -> None:
        """End the product and start it again on the same database, its plot changed by this; the world goes on."""
        await self.running.aclose()
        self.plot = replace(self.plot, **changes)
        self.scene, self.runtime = await started(self.running, self.scene.folder, self.plot, self.world)

    async def turn(self, *, looks: bool = True) -> None:
        """Let the product do everything that it would do at this moment: read, decide, act, tell.

        Without `looks` it knows of the sites what it read the last time.
        """
        self.world.stripe.run_due()
        while await self.world.stripe.deliveries.pump():
            pass
        await self.runtime.stripe.sweep()
        if self.looks and looks:
            await self.runtime.watch.cycle()
        await operations.settle(self.runtime)

    async def after(
        self, span: timedelta, *, step: timedelta = timedelta(hours=24), looks: bool = True
    ) -> None:
        """Let a span of time pass, with a turn at the end of every `step` of it."""
        end = self.clock.now() + span
        while (left := end - self.clock.now()) > timedelta(0):
            self.clock.move(min(step, left))
            await self.turn(looks=looks)

    async def owes(self, amount: int = 2900, *, due: timedelta = -timedelta(days=2), **more: Any) -> str:
        """Let an invoice be due so long from now at Stripe, and take a turn; return Stripe's id of it.

        Nothing is taken at once for that, so the sites are not read.
        """
        made = self.scene.stripe.create_invoice(
            self.customer, amount, "eur", due_date=self.clock.now() + due, **more
        )
        self.invoice = str(made["id"])
        await self.turn(looks=False)
        return self.invoice

    async def pays(self, invoice: str | None = None) -> None:
        """Let the customer pay an invoice, the last one if none is named, and take a turn."""
        self.scene.stripe.pay_invoice(invoice or self.invoice, out_of_band=True)
        await self.turn()

    async def suspended(self, *guests: int, policy: str = "standard") -> str:
        """Register the account with these guests and let it reach its suspension; return the invoice."""
        await self.begin(guests=guests, policy=policy)
        return await self.falls_behind()

    async def falls_behind(self) -> str:
        """Let the account owe and climb until it is suspended; return the invoice."""
        invoice = await self.owes()
        for days in (3, 2):
            await self.after(timedelta(days=days), step=timedelta(days=days))
        assert await self.stage() == "SUSPENDED", await self.held_back()
        return invoice

    async def joins(self, name: str) -> tuple[str, str]:
        """Register another account without servers; return its customer at Stripe and its id."""
        customer, _ = await register(self.scene, name, "standard", [])
        found = await self.ask("query($id: String!) { account(externalId: $id) { id } }", id=name)
        return customer, str(found["account"]["id"])

    async def stands(self, name: str) -> str:
        """Return where another account stands."""
        query = "query($id: String!) { account(externalId: $id) { standing { stage } } }"
        return str((await self.ask(query, id=name))["account"]["standing"]["stage"])

    async def admin(self, person: str) -> Portal:
        """Return an admin's own way in: what takes two persons takes two of these."""
        token = await tokens.create(person, Role.ADMIN, now=self.clock.now(), actor="test", person=person)
        return Portal(self.scene.url, token)

    async def ask(self, query: str, role: Role = Role.ADMIN, **variables: Any) -> Any:
        """Ask the API in a role."""
        return await self.scene.portal(role).ask(query, variables)

    async def change(self, name: str, wanted: Mapping[str, Any], shown: str, role: Role = Role.ADMIN) -> Any:
        """Change something through the API in a role, and return what was asked to be shown."""
        kind = name[0].upper() + name[1:] + "Input"
        return await self.scene.portal(role).change(name, kind, dict(wanted), shown)

    async def attempt(self, name: str, wanted: Mapping[str, Any], shown: str, role: Role) -> Any:
        """The same, refusals included; and take a turn, whatever came of it."""
        kind = name[0].upper() + name[1:] + "Input"
        answer = await self.scene.portal(role).attempt(name, kind, dict(wanted), shown)
        await self.turn()
        return answer

    async def decides(self, kind: str, span: timedelta, role: Role = Role.ADMIN, **more: Any) -> Any:
        """Let staff place an override for so long from now, and take a turn."""
        wanted = {"accountId": await self.id(), "kind": kind, "reason": f"a case for {kind.lower()}"}
        until = {"expiresAt": (self.clock.now() + span).isoformat()}
        placed = await self.change("overridePlace", wanted | until | more, "override { id }", role)
        await self.turn()
        return placed

    async def abeyance(self, *arguments: str) -> tuple[int, str]:
        """Run the command in a process of its own beside this one; return its exit code and all it said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "api.cli", *arguments,
            env=staging.environment(self.scene.settings),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(process.communicate(), 200)
        return process.returncode or 0, " ".join(said.decode().split())

    async def server(self, vmid: int) -> dict[str, Any]:
        """Return the id of a server of the account, and why it is as it is."""
        found: dict[str, Any] = (await self.ask(SERVER, id=f"{STORY}-{vmid}"))["server"]
        return found

    async def id(self) -> str:
        """Return the account's id."""
        return str((await self.account(Role.ADMIN))["id"])

    async def is_told(self) -> str | None:
        """Return the code of the announcement that the portal shows."""
        announcement = (await self.account())["announcement"]
        return announcement and str(announcement["code"])

    async def work(self) -> list[str]:
        """Return the kinds of what waits for a person."""
        edges = (await self.ask(WORK))["workQueue"]["edges"]
        return [edge["node"]["kind"] for edge in edges]


async def started(
    running: AsyncExitStack, folder: Path, plot: Plot, world: Outside
) -> tuple[Installation, Runtime]:
    """Start the product; it ends with `running`, its jobs first."""
    scene, runtime = await running.enter_async_context(assembled(folder, plot, world))
    running.push_async_callback(runtime.dispatcher.aclose)
    return scene, runtime


def opener(theatre: Any) -> Callable[..., AbstractAsyncContextManager[Situation]]:
    """Return what opens an installation on simulators under the shipped policies, in the theatre's folder.

    `site` changes the variables of the site, `more` the settings of the product.
    """

    @asynccontextmanager
    async def opened(site: Mapping[str, Any] | None = None, **changes: Any) -> AsyncIterator[Situation]:
        clock = MovedClock()
        plot = theatre.plot(
            **{"ladders": SHIPPED, "clock": clock, "pace": Pace(tick=60, observe=60, sweep=300)} | changes
        )
        # One that was in use before: without the mark of the last pass all sites would have to be read first.
        (theatre.folder / "state").mkdir(exist_ok=True)
        (theatre.folder / "state" / MARKER).write_text("0\n")
        async with theatre.world(plot) as world:
            if site is not None:
                inventory = demo_site(world.site_url)
                inventory["all"]["children"]["demo"]["vars"] |= site
                plot = replace(plot, inventory=inventory)
            async with AsyncExitStack() as running:
                scene, runtime = await started(running, theatre.folder, plot, world)
                yield Situation(scene=scene, runtime=runtime, clock=clock, plot=plot, running=running)

    return opened
