"""Random lives of servers across month ends, invoiced as a small independent model says, to the second and the unit."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from billing import issuing, prices
from billing.clock import ManualClock
from billing.models import Account, Invoice
from billing.money_models import InvoiceLine
from billing.prices import NewPrice
from billing.rules.policy import BillingPolicy, Policy, StagePolicy
from billing.rules.terms import Effect, Stage
from reconciler import billing_holds, observe, servers, subjects
from reconciler.inventory import Site, SiteMode
from reconciler.models import Server
from reconciler.overview import GuestSeen, SiteSeen
from reconciler.rules.terms import GuestKind, Mode, Power
from reconciler.servers import Registration, ServerChange

SITE = Site(name="zrh", platform="proxmox", mode=SiteMode.APPLY, nodes=(), where=Path("x"))
START = datetime(2027, 12, 20, 5, tzinfo=UTC)
LIVES = [
    ("EUR", "Europe/Berlin", False),
    ("JPY", "Australia/Lord_Howe", False),
    ("KWD", "America/Santiago", True),
    ("USD", "America/New_York", False),
]


@dataclass
class Modelled:
    """One server as the model sees it: what it costs now, since when, and when it was last seen."""

    id: int
    guest: str
    sku: str
    price: int
    seen_at: datetime
    free: bool = False
    visible: bool = True
    absences: int = 0
    missing: bool = False
    retired: bool = False
    began: datetime | None = None
    ran_at: int = 0


@dataclass
class Model:
    """Microseconds by server and rate in the present month, and the months that ended."""

    zone: ZoneInfo
    charged: bool
    now: datetime = START
    held: bool = False
    prices: dict[str, int] = field(default_factory=dict)
    servers: list[Modelled] = field(default_factory=list)
    usage: Counter[tuple[int, int]] = field(default_factory=Counter)
    months: list[dict[tuple[int, int], tuple[int, int]]] = field(default_factory=list)

    def advance(self, by: timedelta) -> None:
        """Let time pass; a month that ends on the way is closed."""
        left = by
        while left:
            step = min(left, self._month_end() - self.now)
            for server in self.servers:
                if server.began is not None:
                    self.usage[server.id, server.ran_at] += step // timedelta(microseconds=1)
            self.now += step
            left -= step
            if self.now.astimezone(self.zone).day == 1 and self.now == self._month_start():
                self._close()

    def _month_start(self) -> datetime:
        local = self.now.astimezone(self.zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return local.astimezone(UTC)

    def _month_end(self) -> datetime:
        local = self.now.astimezone(self.zone).replace(tzinfo=None)
        year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
        return datetime(year, month, 1, tzinfo=self.zone).astimezone(UTC)

    def _close(self) -> None:
        costs = {}
        for key, micros in self.usage.items():
            seconds = micros // 1_000_000
            exact = Fraction(seconds, 3_600) * Fraction(key[1], 1_000_000)
            if micros:
                costs[key] = (seconds, int(exact + Fraction(1, 2)))
        self.months.append(costs if sum(amount for _, amount in costs.values()) else {})
        self.usage.clear()

    def look(self) -> None:
        """Start and stop what costs something after a change."""
        for server in self.servers:
            stopped = self.held and not self.charged and not server.free and not server.missing
            runs = not (server.retired or server.missing or server.free or stopped) and server.price > 0
            if runs and (server.began is None or server.ran_at != server.price):
                server.began, server.ran_at = self.now, server.price
            elif not runs:
                server.began = None

    def lose(self, server: Modelled) -> None:
        """Take back what ran since the last sighting, as far as it is of this run and of this month."""
        if server.began is not None:
            since = max(server.seen_at, server.began, self._month_start())
            self.usage[server.id, server.ran_at] -= (self.now - since) // timedelta(microseconds=1)
        server.missing = True


class Life:
    """Does the same to the product and to the model."""

    def __init__(self, account: Account, seed: int, *, charged: bool) -> None:
        self.rng = random.Random(seed)
        self.account = account
        self.clock = ManualClock(START)
        self.model = Model(zone=ZoneInfo(account.time_zone), charged=charged)
        stage = StagePolicy(
            stage=Stage.SUSPENDED,
            after=timedelta(),
            effects=frozenset({Effect.STOP_SERVERS}),
            notice="suspended",
        )
        billing = BillingPolicy(charge_while_suspended=charged)
        self.policies = {"standard": Policy(name="standard", stages=(stage,), billing=billing)}

    async def step(self) -> None:
        """Let some time pass, do one thing, let the pass settle the holds, and issue what is due."""
        by = timedelta(microseconds=self.rng.randrange(4 * 86_400 * 1_000_000))
        self.model.advance(by)
        self.clock.advance(by)
        await issuing.issue_due(self.clock, self.policies)
        acts = [self.price, self.register, self.resize, self.resize, self.free, self.suspend, self.suspend]
        await self.rng.choice([*acts, self.observe, self.observe, self.observe, self.vanish, self.retire])()
        self.model.look()
        loaded = await subjects.load([self.account.id], self.policies, self.clock.now())
        stage = Stage.SUSPENDED if self.model.held else Stage.CURRENT
        await billing_holds.sync(loaded, {None: stage}, mode=Mode.APPLY, now=self.clock.now())

    def _live(self) -> list[Modelled]:
        return [server for server in self.model.servers if not server.retired]

    async def price(self) -> None:
        """A new price of one size, sometimes of nothing."""
        sku = self.rng.choice(["small", "large"])
        rate = self.rng.choice([0, *[684_932, 12_345_678, 499_999, 1_500_000] * 2])
        asked = NewPrice(sku=sku, currency=self.account.currency, rate=rate)
        await prices.set_price(asked, actor="admin:eva", now=self.clock.now())
        self.model.prices[sku] = rate

    async def register(self) -> None:
        """A new server, of a size that may have no price."""
        if len(self._live()) >= 5:
            return
        sku, guest = self.rng.choice(["small", "large", "odd"]), str(100 + len(self.model.servers))
        row = await servers.register(
            Registration(
                account_id=self.account.id, external_id=guest, name=f"web-{guest}", site="zrh", kind=GuestKind.VM,
                guest=guest, sku=sku,
            ),
            platforms={"zrh": "proxmox"}, actor="control:panel", now=self.clock.now(),
        )  # fmt: skip
        # As if it had been there when the episode began: holds reach it at once.
        await Server.filter(id=row.id).update(joined_at=START)
        self.model.servers.append(
            Modelled(
                id=row.id, guest=guest, sku=sku, price=self.model.prices.get(sku, 0), seen_at=self.clock.now()
            )
        )

    async def _tell(self, server: Modelled, **told: Any) -> None:
        await servers.update(
            server.id, ServerChange(**told), platforms={"zrh": "proxmox"}, actor="control:panel",
            now=self.clock.now(),
        )  # fmt: skip

    async def resize(self) -> None:
        """Another size, at the price of now."""
        for server in self.rng.sample(self._live(), k=min(1, len(self._live()))):
            sku = self.rng.choice(["small", "large"])
            await self._tell(server, sku=sku)
            if sku != server.sku:
                server.sku, server.price = sku, self.model.prices.get(sku, 0)
                if server.began is not None:
                    server.began = self.model.now

    async def free(self) -> None:
        """Free, or no longer."""
        for server in self.rng.sample(self._live(), k=min(1, len(self._live()))):
            server.free = not server.free
            await self._tell(server, free=server.free)
            # Its hold waits for a notice that names it, as after a sighting: neither is what is metered here.
            await Server.all().update(joined_at=START)

    async def suspend(self) -> None:
        """The whole account is stopped, or given back."""
        self.model.held = not self.model.held

    async def vanish(self) -> None:
        """A guest is gone from its site, or back there."""
        for server in self.rng.sample(self._live(), k=min(1, len(self._live()))):
            server.visible = not server.visible or self.rng.random() < 0.5

    async def observe(self) -> None:
        """The site is read completely, once."""
        there = [
            GuestSeen(guest=server.guest, node="pve1", power=Power.RUNNING, busy=None)
            for server in self._live()
            if server.visible
        ]
        other = GuestSeen(guest="9999", node="pve1", power=Power.RUNNING, busy=None)
        seen = SiteSeen(guests=(*there, other), silent_nodes=frozenset(), complete=True)
        await observe.apply(SITE, seen, self.clock.now())
        await Server.all().update(joined_at=START)
        for server in self._live():
            server.absences = 0 if server.visible else server.absences + 1
            if server.visible:
                server.seen_at, server.missing = self.model.now, False
            elif server.absences == 2:
                self.model.lose(server)

    async def retire(self) -> None:
        """One is deleted, now and then."""
        if len(self._live()) > 3:
            server = self.rng.choice(self._live())
            await servers.retire(server.id, reason="deleted", actor="control:panel", now=self.clock.now())
            server.retired = True


@pytest.mark.parametrize("seed", range(len(LIVES)))
async def test_it_invoices_what_really_ran(sqlite_database: str, factory: Any, seed: int) -> None:
    """Prices, sizes, holds, free servers, guests gone and back: a year with its leap day and clock changes."""
    currency, zone, charged = LIVES[seed]
    account = await factory.account(currency=currency, time_zone=zone)
    await factory.episode(account, started_at=START)
    life = Life(account, seed, charged=charged)
    for sku in ("small", "large"):
        asked = NewPrice(sku=sku, currency=currency, rate=684_932)
        await prices.set_price(asked, actor="admin:eva", now=START)
        life.model.prices[sku] = 684_932
    while life.clock.now() < datetime(2028, 12, 5, tzinfo=UTC):
        await life.step()
    invoices = await Invoice.all().order_by("period_start")
    issued: list[dict[tuple[int, int], tuple[int, int]]] = []
    for invoice in invoices:
        lines = await InvoiceLine.filter(invoice_id=invoice.id).order_by("id")
        assert invoice.total == sum(line.amount for line in lines)
        again = [(line.server_id, line.rate, line.seconds) for line in await issuing.recompute(invoice)]
        assert again == [(line.server_id, line.rate, line.seconds) for line in lines]
        issued.append({(line.server_id, line.rate): (line.seconds, line.amount) for line in lines})
    assert issued == [month for month in life.model.months if month]
    assert len(issued) >= 9
