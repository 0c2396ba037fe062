"""Whom a restriction reaches, and what of it nobody read lately."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.rules.terms import OverrideKind
from reconciler import reach
from reconciler.rules.terms import Deployment

AGE = timedelta(minutes=15)
T = datetime(2026, 11, 1, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("database")


async def test_counts_the_live_servers_of_each_site_that_are_not_free(factory, clock):
    """An account without any is left out."""
    account = await factory.account()
    for site in ("demo", "demo", "other"):
        await factory.server(account, site=site)
    await factory.server(account, site="free", free=True)
    await factory.server(account, site="gone", retired_at=clock.now())
    other = await factory.server(await factory.account(), free=True)

    assert await reach.sites([account.id, other.account_id]) == {account.id: {"demo": 2, "other": 1}}


async def test_tells_which_servers_were_not_read_lately(factory, clock):
    """Never, or too long ago, the oldest first; whoever was read just within the time is left out."""
    account, fresh = await factory.account(), await factory.server()
    old, older, never, young = [await factory.server(account) for _ in range(4)]
    now = clock.now()
    for server, age in ((old, AGE + timedelta(seconds=1)), (older, 2 * AGE), (young, AGE), (fresh, AGE)):
        await factory.observation(server, observed_at=now - age)

    found = await reach.unread([account.id, fresh.account_id], max_age=AGE, now=now)

    assert {key: list(servers.items()) for key, servers in found.items()} == {
        account.id: [
            (never.id, f"server {never.external_id} on site demo was never read"),
            (older.id, f"server {older.external_id} on site demo was not read for more than 0:15:00"),
            (old.id, f"server {old.external_id} on site demo was not read for more than 0:15:00"),
        ]
    }


@pytest.mark.parametrize(
    "given",
    [
        {"free": True},
        {"retired_at": T},
        {"missing_since": T},
        {"guest": None},
        {"deployment": Deployment.IN_PROGRESS},
    ],
)
async def test_waits_for_no_reading_of_what_it_would_not_touch(factory, clock, given):
    """Free, retired and missing servers take no hold, and what has no guest yet cannot be read."""
    server = await factory.server(**given)

    assert await reach.unread([server.account_id], max_age=AGE, now=clock.now()) == {}


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ({}, False),
        ({"expires_at": None}, False),
        ({"kind": OverrideKind.ALLOW_BACKUPS}, True),
        ({"placed_at": timedelta(minutes=1)}, True),
        ({"placed_at": -timedelta(days=2), "expires_at": timedelta(0)}, True),
        ({"revoked_at": timedelta(0), "revoked_by": "anna"}, True),
        ({"server_id": None}, True),
    ],
)
async def test_waits_for_no_reading_of_an_exempt_server(factory, clock, given, counts):
    """For as long as its own exemption is in force; that of the whole account is the ladder's."""
    server, now = await factory.server(), clock.now()
    values = {name: now + value if isinstance(value, timedelta) else value for name, value in given.items()}
    await factory.override(await server.account, **({"server_id": server.id} | values))

    assert bool(await reach.unread([server.account_id], max_age=AGE, now=now)) is counts
