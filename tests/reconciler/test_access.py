"""Access belongs to account and site, and stays open beside a server that billing must not touch."""

from datetime import timedelta

import pytest

from reconciler import access, chunks
from reconciler.models import Hold, Server


@pytest.fixture
def locked(factory):
    """Makes a server whose billing hold locks its account."""

    async def make(account=None, **given):
        server = await factory.server(account, **given)
        await factory.hold(server, locks_account=True)
        return server

    return make


async def closed(clock, *account_ids):
    """Return the accounts and sites whose access is to be closed."""
    return await access.wanted_closed(clock.now(), account_ids or None)


@pytest.mark.usefixtures("database")
async def test_closes_it_by_account_and_site(locked, factory, clock):
    """One pair for however many servers; another account or site is another pair."""
    first = await locked()
    account = await first.account
    await locked(account)
    await locked(account, site="other")
    second = await locked()
    await factory.server(await factory.account())

    assert await closed(clock) == {
        (first.account_id, "demo"),
        (first.account_id, "other"),
        (second.account_id, "demo"),
    }
    assert await closed(clock, second.account_id) == {(second.account_id, "demo")}


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("spared", ["free", "exempt"])
async def test_leaves_it_open_on_the_site_of_a_spared_server(locked, factory, clock, spared):
    """On its own site alone."""
    first = await locked()
    account = await first.account
    await locked(account, site="other")
    server = await factory.server(account, free=spared == "free")
    if spared == "exempt":
        await factory.override(account, server_id=server.id)

    assert await closed(clock) == {(account.id, "other")}


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(
    "change",
    [
        {"placed_at": timedelta(days=-2), "expires_at": timedelta(0)},
        {"revoked_at": timedelta(0), "revoked_by": "anna"},
        {"placed_at": timedelta(seconds=1)},
    ],
)
async def test_counts_an_exemption_only_while_it_is_in_force(locked, factory, clock, change):
    """One that ended, was revoked or is still to come spares nobody."""
    first = await locked()
    server = await factory.server(await first.account)
    values = {
        name: clock.now() + value if isinstance(value, timedelta) else value for name, value in change.items()
    }
    await factory.override(await first.account, server_id=server.id, **values)

    assert await closed(clock) == {(first.account_id, "demo")}


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("gone", ["lifted", "retired", "another cause"])
async def test_closes_nothing_for_what_does_not_ask(locked, factory, clock, gone):
    """A lifted hold, a retired server and another cause lock nobody out."""
    server = await locked()
    match gone:
        case "lifted":
            await Hold.all().update(lifted_at=clock.now(), lifted_by="anna")
        case "retired":
            await Server.filter(id=server.id).update(retired_at=clock.now())
        case _:
            await Hold.all().update(cause="ADMIN", stage=None)

    assert await closed(clock) == set()


@pytest.mark.parametrize(("ids", "cut"), [([], []), ([3, 1, 2, 1], [[1, 2], [3]])])
def test_cuts_ids_into_what_a_statement_carries(monkeypatch, ids, cut):
    """Each id once, in order."""
    monkeypatch.setattr(chunks, "MAX_IDS", 2)

    assert [list(part) for part in chunks.chunks(ids)] == cut
