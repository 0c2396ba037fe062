"""A whole installation on simulators: database, sites, Stripe, mail, the product itself, each in one folder.

Owns how the parts are started and ended, and the sample accounts. Used by the demo and by the tests that go through the
public doors; it reads no setting of the surroundings.
"""

import asyncio
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from api import tokens as api_tokens
from api.app import create_app
from api.database import open_database, upgrade
from api.demo.mailbox import Mailbox
from api.demo.pace import Speed, policies
from api.demo.portal import Portal
from api.leadership import leadership
from api.models import Role
from api.operations import OperationError, answering, listen
from api.runtime import Pace, Runtime
from api.settings import Settings
from billing.clock import Clock, SystemClock
from reconciler.models import ReconcilerState
from reconciler.rules.terms import Mode
from simulators import proxmox, stripe
from simulators.proxmox import sample as proxmox_sample

CHECKOUT = Path(__file__).resolve().parents[2]
TOKEN_VARIABLE = "ABEYANCE_DEMO_TOKEN"  # noqa: S105 - the name of a variable
SITE = "demo"
START_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What an installation is made of."""

    speed: Speed
    mode: Mode = Mode.APPLY
    listen: str = "127.0.0.1:0"
    #: What the simulated platform's durations are multiplied by.
    task_scale: float = 0.05
    #: Null: a SQLite file in the folder.
    database_url: str | None = None
    #: Policy files by name; null: the demo's ladders at its speed.
    ladders: Mapping[str, str] | None = None
    #: The content of `hosts.yml`; null: the demo's site on the simulated cluster.
    inventory: Mapping[str, Any] | None = None
    #: The spans of the ticks; null: those of the speed.
    pace: Pace | None = None
    #: Whether mail is set up at all.
    mail: bool = True
    facts_max_age: timedelta = timedelta(minutes=15)
    #: The time of the product and of the world around it.
    clock: Clock = field(default_factory=SystemClock)
    seed: int = 20261120
    #: Further settings of the product, by name.
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outside:
    """The simulated outside world, to be looked at and moved; it outlives the product that runs on it."""

    clock: Clock
    rng: random.Random = field(repr=False)
    cluster: proxmox.Cluster
    stripe: stripe.Account
    mailbox: Mailbox
    #: Where the two simulators answer, control doors included.
    site_url: str
    stripe_url: str
    webhook_secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A running installation: where it answers and the outside world that it runs on."""

    url: str
    folder: Path
    settings: Settings
    outside: Outside
    #: One bearer token per role; the customer's is of the story's account.
    tokens: Mapping[Role, str] = field(repr=False)

    @property
    def clock(self) -> Clock:
        """The clock of the product and the world alike."""
        return self.outside.clock

    @property
    def cluster(self) -> proxmox.Cluster:
        """The simulated Proxmox VE cluster."""
        return self.outside.cluster

    @property
    def stripe(self) -> stripe.Account:
        """The simulated Stripe account."""
        return self.outside.stripe

    @property
    def mailbox(self) -> Mailbox:
        """The mail that arrived."""
        return self.outside.mailbox

    def portal(self, role: Role) -> Portal:
        """Return a client of the API in a role."""
        return Portal(self.url, self.tokens[role])


@asynccontextmanager
async def outside(plot: Plot) -> AsyncIterator[Outside]:
    """Run a simulated cluster, a simulated Stripe account and a mail server until the end of the block."""
    rng = random.Random(plot.seed)  # noqa: S311 - the simulators' whims, nothing secret
    async with AsyncExitStack() as stack:
        mailbox = await stack.enter_async_context(Mailbox.open())
        cluster = proxmox_sample.sample_cluster(
            clock=plot.clock, rng=rng, time_scale=plot.task_scale, broadcast_seconds=10.0
        )
        account = stripe.Account(clock=plot.clock, rng=rng)
        yield Outside(
            clock=plot.clock,
            rng=rng,
            cluster=cluster,
            stripe=account,
            mailbox=mailbox,
            site_url=await stack.enter_async_context(_serving(cluster)),
            stripe_url=await stack.enter_async_context(stripe.serve(account)),
            webhook_secret=f"whsec_{secrets.token_hex(16)}",
        )


@asynccontextmanager
async def installed(folder: Path, plot: Plot) -> AsyncIterator[Installation]:
    """Start everything in `folder`, which is made if need be, and end it all at the end of the block."""
    async with outside(plot) as world, product(folder, plot, world) as installation:
        yield installation


@asynccontextmanager
async def product(folder: Path, plot: Plot, world: Outside) -> AsyncIterator[Installation]:
    """Run the product in this process on a world that is there, until the end of the block.

    May be done again in the same folder, with the same database: that is a restart.
    """
    async with (
        assembled(folder, plot, world) as (installation, runtime),
        runtime.watching(),
        runtime.running(),
    ):
        yield installation


@asynccontextmanager
async def assembled(folder: Path, plot: Plot, world: Outside) -> AsyncIterator[tuple[Installation, Runtime]]:
    """Let the product answer on a world that is there; its turns are taken by whoever asked for this."""
    settings = settings_in(folder, plot, world)
    database = settings.database_url.get_secret_value()
    async with AsyncExitStack() as stack:
        tokens = await prepare(settings, world.clock)
        await stack.enter_async_context(open_database(database))
        if not await stack.enter_async_context(leadership(database)):
            raise OperationError(f"another process reconciles the database in {folder}")
        runtime = Runtime(settings, clock=world.clock, rng=world.rng, pace=plot.pace or plot.speed.pace)
        stack.push_async_callback(runtime.aclose)
        app = create_app(runtime.ports(), health=runtime.health(), webhook=runtime.webhook(), dev=True)
        listener = stack.enter_context(_listener(settings.listen))
        url = await stack.enter_async_context(answering(app, listener))
        subscribe(world, url)
        yield Installation(url=url, folder=folder, settings=settings, outside=world, tokens=tokens), runtime


def settings_in(folder: Path, plot: Plot, world: Outside) -> Settings:
    """Write the installation's own policies and inventory, and return settings that name them and nothing else."""
    for name, text in (plot.ladders or policies(plot.speed)).items():
        file = folder / "policies" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (folder / "inventory").mkdir(exist_ok=True)
    inventory = yaml.safe_dump(plot.inventory or demo_site(world.site_url), sort_keys=False)
    (folder / "inventory/hosts.yml").write_text(inventory, encoding="utf-8")
    os.environ[TOKEN_VARIABLE] = proxmox_sample.TOKEN_SECRET
    return Settings(
        database_url=SecretStr(plot.database_url or f"sqlite://{folder / 'abeyance.db'}"),
        listen=plot.listen,
        mode=plot.mode,
        policies=folder / "policies",
        inventory=folder / "inventory",
        state_dir=folder / "state",
        stripe_api_key=SecretStr(world.stripe.api_key),
        stripe_api_base=world.stripe_url,
        stripe_webhook_secret=SecretStr(world.webhook_secret),
        smtp_url=SecretStr(world.mailbox.url) if plot.mail else None,
        mail_from="Abeyance demo <billing@demo.example>",
        facts_max_age=plot.facts_max_age,
        **{"playbooks": CHECKOUT / "playbooks", **plot.more},
    )


def demo_site(url: str) -> dict[str, Any]:
    """Return the demo's inventory with the simulated cluster's address in it."""
    inventory: dict[str, Any] = yaml.safe_load(
        (CHECKOUT / "inventory/demo/hosts.yml").read_text(encoding="utf-8")
    )
    inventory["all"]["children"][SITE]["vars"]["site_endpoint"] = url
    return inventory


async def prepare(settings: Settings, clock: Clock) -> Mapping[Role, str]:
    """Make the database ready to apply and return a fresh bearer token for each role."""
    database = settings.database_url.get_secret_value()
    await upgrade(database)
    async with open_database(database):
        await ReconcilerState.filter(id=1, first_apply_at=None).update(first_apply_at=clock.now())
        return {role: await _token(role, clock.now()) for role in Role}


def subscribe(world: Outside, url: str) -> None:
    """Let Stripe's webhooks go to the product at `url`, and nowhere else."""
    world.stripe.deliveries.endpoints.clear()
    world.stripe.deliveries.add_endpoint(f"{url}/webhooks/stripe", world.webhook_secret)


@asynccontextmanager
async def _serving(cluster: proxmox.Cluster) -> AsyncIterator[str]:
    """Serve the simulated cluster in this process until the end of the block."""
    ready: asyncio.Queue[str] = asyncio.Queue()
    serving = asyncio.create_task(proxmox.serve(cluster, ready=ready.put_nowait), name="proxmox simulator")
    try:
        async with asyncio.timeout(START_SECONDS):
            url = await ready.get()
        yield url
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def _listener(address: str) -> socket.socket:
    """Listen where the plot wants it, or on a free port where something else does already, such as another demo."""
    try:
        return listen(address)
    except OperationError:
        return listen("127.0.0.1:0")


async def _token(role: Role, now: datetime) -> str:
    """Make this run's bearer token of a role; an earlier one of the same folder ends."""
    name = f"demo-{role.lower()}"
    await api_tokens.revoke(name, now=now, actor="demo")
    return await api_tokens.create(
        name,
        role,
        now=now,
        actor="demo",
        person=None if role is Role.CONTROL else f"demo {role.lower()}",
        account_external_id=proxmox_sample.STORY if role is Role.CUSTOMER else None,
    )
