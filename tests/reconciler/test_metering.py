"""What a server costs follows what happens to it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from billing import prices
from billing.clock import ManualClock
from billing.models import Account
from billing.money_models import UsageInterval
from billing.prices import NewPrice
from billing.rules.policy import BillingPolicy, Policy, StagePolicy
from billing.rules.terms import Effect, Stage
from reconciler import billing_holds, observe, servers, subjects
from reconciler.inventory import Site, SiteMode
from reconciler.models import Observation, Server
from reconciler.overview import GuestSeen, SiteSeen
from reconciler.rules.terms import Deployment, GuestKind, Mode, Power
from reconciler.servers import Registration, ServerChange

pytestmark = pytest.mark.usefixtures("sqlite_database")

HOUR = timedelta(hours=1)
SITES = {"zrh": "proxmox"}
SITE = Site(name="zrh", platform="proxmox", mode=SiteMode.APPLY, nodes=(), where=Path("x"))
STOPPING = StagePolicy(
    stage=Stage.SUSPENDED,
    after=HOUR,
    effects=frozenset({Effect.LOCK_BACKUPS, Effect.STOP_SERVERS}),
    notice="suspended",
)
LOCKING = StagePolicy(
    stage=Stage.FINAL_NOTICE, after=HOUR, effects=frozenset({Effect.LOCK_BACKUPS}), notice="final_notice"
)
SMALL, LARGE = 500_000, 900_000


@pytest.fixture
async def account(factory: Any, clock: ManualClock) -> Account:
    """An account in a world with two sizes that have a price."""
    for sku, rate in (("small", SMALL), ("large", LARGE)):
        await _price(clock, sku, rate)
    found: Account = await factory.account()
    return found


async def _price(clock: ManualClock, sku: str, rate: int) -> None:
    asked = NewPrice(sku=sku, currency="EUR", rate=rate)
    await prices.set_price(asked, actor="admin:eva", now=clock.now())


async def _register(account: Account, clock: ManualClock, **given: Any) -> Server:
    values: dict[str, Any] = {
        "account_id": account.id,
        "external_id": "srv-1",
        "name": "web",
        "site": "zrh",
        "kind": GuestKind.LXC,
        "guest": "101",
        "sku": "small",
    }
    return await servers.register(
        Registration(**(values | given)), platforms=SITES, actor="control:panel", now=clock.now()
    )


async def _update(server: Server, clock: ManualClock, **told: Any) -> Server:
    return await servers.update(
        server.id, ServerChange(**told), platforms=SITES, actor="control:panel", now=clock.now()
    )


async def _intervals() -> list[tuple[datetime, datetime | None, str | None, int]]:
    rows = await UsageInterval.all().order_by("id")
    return [(row.started_at, row.ended_at, row.ended_because, row.rate) for row in rows]


async def test_it_saves_the_price_of_the_deployment(clock: ManualClock, account: Account) -> None:
    """A later price touches later servers only."""
    server = await _register(account, clock)
    start = clock.now()
    clock.advance(HOUR)
    await _price(clock, "small", 600_000)
    later = await _register(account, clock, external_id="srv-2", guest="102")
    assert (server.rate, later.rate) == (SMALL, 600_000)
    assert await _intervals() == [(start, None, None, SMALL), (start + HOUR, None, None, 600_000)]
    assert (await Server.get(id=server.id)).rate == SMALL


@pytest.mark.parametrize("given", [{"free": True}, {"stripe_subscription_id": "sub_1"}, {"sku": "unpriced"}])
async def test_it_costs_nothing_that_is_not_metered(
    clock: ManualClock, account: Account, given: dict[str, Any]
) -> None:
    """Free, covered by Stripe, or of a size without a price: the rate is 0 and nothing runs."""
    server = await _register(account, clock, **given)
    assert server.rate == 0
    assert await _intervals() == []


async def test_it_runs_from_the_deployment_that_succeeded(clock: ManualClock, account: Account) -> None:
    """Not from the registration; at the price of the day on which it ended, told an hour later."""
    server = await _register(account, clock, deployment=Deployment.IN_PROGRESS, deployed_at=clock.now())
    assert (server.rate, server.deployed_at, await _intervals()) == (0, None, [])
    clock.advance(HOUR)
    ended = clock.now()
    await _price(clock, "small", 600_000)
    clock.advance(HOUR)
    await _price(clock, "small", 700_000)
    server = await _update(server, clock, deployment=Deployment.SUCCEEDED, at=ended)
    assert (server.rate, server.deployed_at) == (600_000, ended)
    assert await _intervals() == [(ended, None, None, 600_000)]


async def test_it_takes_the_price_of_the_day_of_a_change_of_size(
    clock: ManualClock, account: Account
) -> None:
    """And keeps it from then on, whatever else changes."""
    server = await _register(account, clock)
    start = clock.now()
    clock.advance(HOUR)
    await _price(clock, "large", 950_000)
    server = await _update(server, clock, sku="large")
    clock.advance(HOUR)
    await _price(clock, "large", 990_000)
    server = await _update(server, clock, name="other", free=True)
    assert server.rate == 0
    clock.advance(HOUR)
    server = await _update(server, clock, free=False)
    assert server.rate == 950_000
    assert await _intervals() == [
        (start, start + HOUR, "resized", SMALL),
        (start + HOUR, start + 2 * HOUR, "free", 950_000),
        (start + 3 * HOUR, None, None, 950_000),
    ]


async def test_it_stops_while_a_subscription_covers_the_server(clock: ManualClock, account: Account) -> None:
    """Nobody pays twice; afterwards the saved rate holds again."""
    server = await _register(account, clock)
    start = clock.now()
    clock.advance(HOUR)
    server = await _update(server, clock, stripe_subscription_id="sub_1")
    assert server.rate == 0
    clock.advance(HOUR)
    server = await _update(server, clock, stripe_subscription_id=None)
    assert await _intervals() == [
        (start, start + HOUR, "subscribed", SMALL),
        (start + 2 * HOUR, None, None, SMALL),
    ]


async def test_it_ends_with_the_server(clock: ManualClock, account: Account) -> None:
    """At its retirement, or when its deployment turns out to have failed."""
    one = await _register(account, clock)
    two = await _register(account, clock, external_id="srv-2", guest="102")
    start = clock.now()
    clock.advance(HOUR)
    await servers.retire(one.id, reason="deleted by its owner", actor="control:panel", now=clock.now())
    await _update(two, clock, deployment=Deployment.FAILED)
    clock.advance(HOUR)
    await servers.retire(one.id, reason="again", actor="control:panel", now=clock.now())
    ends = [(ended, because) for _, ended, because, _ in await _intervals()]
    assert ends == [(start + HOUR, "retired"), (start + HOUR, "failed")]


async def _suspend(account: Account, clock: ManualClock, stage: Stage, *, charged: bool = False) -> None:
    policy = Policy(
        name="standard", stages=(LOCKING, STOPPING), billing=BillingPolicy(charge_while_suspended=charged)
    )
    loaded = await subjects.load([account.id], {"standard": policy}, clock.now())
    await billing_holds.sync(loaded, {None: stage}, mode=Mode.APPLY, now=clock.now())


async def test_it_stops_with_the_billing_hold(clock: ManualClock, account: Account, factory: Any) -> None:
    """While a hold stops the server nothing is charged; one that only locks backups changes nothing."""
    server = await _register(account, clock)
    start = clock.now()
    await factory.episode(account)
    for stage in (Stage.FINAL_NOTICE, Stage.SUSPENDED, Stage.SUSPENDED, Stage.FINAL_NOTICE, Stage.CURRENT):
        clock.advance(HOUR)
        await _suspend(account, clock, stage)
    assert await _intervals() == [
        (start, start + 2 * HOUR, "held", SMALL),
        (start + 4 * HOUR, None, None, SMALL),
    ]
    assert await UsageInterval.filter(server_id=server.id).count() == 2


async def test_it_goes_on_where_the_policy_charges_suspended_servers(
    clock: ManualClock, account: Account, factory: Any
) -> None:
    """And a change of size under the hold takes its price then too."""
    server = await _register(account, clock)
    start = clock.now()
    await factory.episode(account)
    clock.advance(HOUR)
    await _suspend(account, clock, Stage.SUSPENDED, charged=True)
    clock.advance(HOUR)
    await _update(server, clock, sku="large")
    assert await _intervals() == [
        (start, start + 2 * HOUR, "resized", SMALL),
        (start + 2 * HOUR, None, None, LARGE),
    ]


async def test_it_stays_stopped_when_a_held_server_changes(
    clock: ManualClock, account: Account, factory: Any
) -> None:
    """The new rate is saved, and runs once the hold is lifted."""
    server = await _register(account, clock)
    start = clock.now()
    await factory.episode(account)
    await _suspend(account, clock, Stage.SUSPENDED)
    clock.advance(HOUR)
    await _update(server, clock, sku="large")
    clock.advance(HOUR)
    await _suspend(account, clock, Stage.CURRENT)
    assert await _intervals() == [(start, start, "held", SMALL), (start + 2 * HOUR, None, None, LARGE)]


async def test_it_puts_right_what_was_missed(clock: ManualClock, account: Account, factory: Any) -> None:
    """A server that should run and does not, and one that runs and should not, are mended by the next pass."""
    server = await _register(account, clock)
    await factory.episode(account)
    await UsageInterval.all().update(ended_at=clock.now(), ended_because="held")
    clock.advance(HOUR)
    await _suspend(account, clock, Stage.CURRENT)
    assert (await _intervals())[-1] == (clock.now(), None, None, SMALL)
    await Server.filter(id=server.id).update(missing_since=clock.now())
    clock.advance(HOUR)
    await _suspend(account, clock, Stage.CURRENT)
    assert (await _intervals())[-1] == (clock.now() - HOUR, clock.now(), "missing", SMALL)


def _seen(*guests: str, complete: bool = True) -> SiteSeen:
    there = tuple(GuestSeen(guest=guest, node="pve1", power=Power.RUNNING, busy=None) for guest in guests)
    return SiteSeen(guests=there, silent_nodes=frozenset(), complete=complete)


async def test_it_ends_at_the_last_sighting_of_a_missing_guest(clock: ManualClock, account: Account) -> None:
    """Days of silence in between change nothing; when the guest is back, the hours begin anew."""
    await _register(account, clock)
    start = clock.now()
    await observe.apply(SITE, _seen("101", "999"), start + HOUR)
    await observe.apply(SITE, _seen("999", complete=False), start + 30 * HOUR)
    await observe.apply(SITE, _seen("999"), start + 60 * HOUR)
    assert await _intervals() == [(start, None, None, SMALL)]
    await observe.apply(SITE, _seen("999"), start + 61 * HOUR)
    assert await _intervals() == [(start, start + HOUR, "missing", SMALL)]
    await observe.apply(SITE, _seen("101"), start + 70 * HOUR)
    assert (await _intervals())[1:] == [(start + 70 * HOUR, None, None, SMALL)]


async def test_it_never_charges_for_a_guest_that_was_never_seen(clock: ManualClock, account: Account) -> None:
    """Nothing proves that it existed."""
    await _register(account, clock)
    for hours in (1, 2):
        await observe.apply(SITE, _seen("999"), clock.now() + hours * HOUR)
    assert await _intervals() == [(clock.now(), clock.now(), "missing", SMALL)]


async def test_it_counts_a_deep_reading_as_a_sighting(clock: ManualClock, account: Account) -> None:
    """The node itself showed the guest."""
    server = await _register(account, clock)
    await observe.apply(SITE, _seen("101"), clock.now())
    reading = observe.Reading.of({"power": "RUNNING", "node": "pve1"})
    await observe.note_deep(server.id, reading, clock.now() + HOUR)
    assert (await Observation.get()).seen_at == clock.now() + HOUR


async def test_it_changes_nothing_when_told_the_same_again(clock: ManualClock, account: Account) -> None:
    """Repeated registrations and updates leave one interval."""
    server = await _register(account, clock)
    for _ in range(2):
        clock.advance(HOUR)
        await _register(account, clock)
        await _update(server, clock, sku="small", free=False)
    assert len(await _intervals()) == 1
