"""What a site shows becomes observations, and absence is judged with care."""

from datetime import timedelta

import pytest

from billing.models import Account, AuditEntry, WorkItem, WorkState
from reconciler import observe, overview
from reconciler.models import Observation, Server, SiteState
from reconciler.overview import GuestSeen, SiteSeen
from reconciler.readings import Reading
from reconciler.rules.terms import Deployment, Power


def showing(*servers, **changes):
    """Return a complete overview that shows these servers' guests running."""
    guests = tuple(
        GuestSeen(guest=server.guest, node="node1", power=Power.RUNNING, busy=None) for server in servers
    )
    values = {"guests": guests, "silent_nodes": frozenset(), "complete": True}
    return SiteSeen(**(values | changes))


@pytest.fixture
def see(lite, clock):
    """Applies an overview of the site `demo` as of now."""

    async def go(seen):
        await observe.apply(lite.site, seen, clock.now())

    return go


async def seen_of(server):
    """Return what is on record of a server's guest."""
    return await Observation.get(server_id=server.id)


async def test_records_what_is_shown(see, factory, clock):
    """Power, node, what keeps it busy, and when."""
    server = await factory.server()
    busy = GuestSeen(guest=server.guest, node="node2", power=Power.STOPPED, busy="locked: backup")

    await see(showing(guests=(busy,)))

    row = await seen_of(server)
    assert (row.power, row.node, row.busy, row.observed_at) == (
        Power.STOPPED,
        "node2",
        "locked: backup",
        clock.now(),
    )


async def test_calls_a_server_missing_after_two_complete_readings(see, factory, clock):
    """Once is not enough; then its account hears of it and a person gets a task."""
    there, gone = await factory.server(), await factory.server()
    await see(showing(there, gone))

    await see(showing(there))
    assert (await Server.get(id=gone.id)).missing_since is None
    assert (await seen_of(gone)).power is Power.UNKNOWN
    await see(showing(there))

    assert (await Server.get(id=gone.id)).missing_since == clock.now()
    assert (await Account.get(id=gone.account_id)).facts_version == 2
    assert await WorkItem.filter(kind="server_missing", server_id=gone.id).count() == 1
    await see(showing(there))
    assert await AuditEntry.filter(kind="server.missing").count() == 1


@pytest.mark.parametrize(
    "flaw",
    [
        {"guests": ()},
        {"complete": False},
        {"complete": False, "silent_nodes": frozenset({"node1"})},
    ],
)
async def test_calls_nobody_missing_on_a_reading_that_proves_nothing(see, factory, flaw):
    """No guest at all is a lost privilege; a node that is down hides its guests: neither is absence."""
    there, hidden = await factory.server(), await factory.server()
    await see(showing(there, hidden))
    for _ in range(4):
        await see(showing(**({"guests": showing(there).guests} | flaw)))

    assert (await Server.get(id=hidden.id)).missing_since is None
    assert (await seen_of(hidden)).absences == 0


async def test_knows_nothing_of_guests_on_a_silent_node(see, factory, clock):
    """They are unknown, and the age of their last reading keeps growing."""
    server = await factory.server()
    await see(showing(server))
    at = clock.now()
    clock.advance(timedelta(minutes=3))

    await see(showing(guests=(), silent_nodes=frozenset({"node1"}), complete=False))

    row = await seen_of(server)
    assert (row.power, row.observed_at) == (Power.UNKNOWN, at)


async def test_believes_no_stale_power_of_a_silent_node(see, factory):
    """A cluster shows the guests of a dead node as running for a while."""
    server = await factory.server()
    await see(showing(server))

    await see(showing(server, silent_nodes=frozenset({"node1"}), complete=False))

    assert (await seen_of(server)).power is Power.UNKNOWN


async def test_takes_what_a_cluster_remembers_of_a_silent_node_for_no_reading(see, factory, clock):
    """The last reading grows older, and a server that was never read still was not."""
    server = await factory.server()
    await see(showing(server))
    at = clock.now()
    clock.advance(timedelta(minutes=3))
    new, hidden = await factory.server(), await factory.server()

    await see(showing(server, new, silent_nodes=frozenset({"node1"}), complete=False))

    row = await seen_of(server)
    assert (row.power, row.observed_at, row.seen_at) == (Power.UNKNOWN, at, clock.now())
    assert not await Observation.filter(server_id__in=[new.id, hidden.id]).exists()


async def test_keeps_an_old_reading_that_an_incomplete_one_does_not_touch(see, factory, clock):
    """Not shown by a reading that is not whole: nothing is known anew, and nothing is forgotten."""
    there, other = await factory.server(), await factory.server()
    await see(showing(there, other))
    at = clock.now()
    clock.advance(timedelta(minutes=1))

    await see(showing(there, complete=False))

    row = await seen_of(other)
    assert (row.power, row.observed_at) == (Power.RUNNING, at)


async def test_welcomes_a_server_back(see, factory, clock):
    """It joins anew, so that no hold comes on it before a notice named it; the task closes."""
    there, gone = await factory.server(), await factory.server()
    for _ in range(3):
        await see(showing(there))
    clock.advance(timedelta(hours=2))

    await see(showing(there, gone))

    row = await Server.get(id=gone.id)
    assert (row.missing_since, row.joined_at) == (None, clock.now())
    assert (await WorkItem.get(server_id=gone.id)).state is WorkState.RESOLVED


@pytest.mark.parametrize(("after", "power"), [(14, Power.STOPPED), (15, Power.RUNNING)])
async def test_prefers_a_read_back_to_an_overview_that_lags(see, factory, clock, after, power):
    """An overview may show the state of before for some seconds after a change was read back from the node."""
    server = await factory.server()
    await see(showing(server))
    read_back = Reading(power=Power.STOPPED, node="node1", onboot=False)
    await observe.note_deep(server.id, read_back, clock.now())
    clock.advance(timedelta(seconds=after))

    await see(showing(server))

    row = await seen_of(server)
    assert (row.power, row.observed_at) == (power, clock.now())


async def test_lets_no_overview_that_began_earlier_make_a_read_back_older(lite, factory, clock):
    """What was read from the node after the overview had begun is the newer word."""
    server = await factory.server()
    began = clock.now()
    await observe.apply(lite.site, showing(server), began)
    clock.advance(timedelta(seconds=40))
    await observe.note_deep(server.id, Reading(power=Power.STOPPED), clock.now())

    await observe.apply(lite.site, showing(server), began)

    row = await seen_of(server)
    assert (row.power, row.observed_at) == (Power.STOPPED, clock.now())


async def test_takes_no_deep_reading_without_a_power(see, factory):
    """A reading of backups alone says nothing of the guest."""
    server = await factory.server()
    await see(showing(server))

    await observe.note_deep(server.id, Reading(protected=("a",)), (await seen_of(server)).observed_at)

    assert (await seen_of(server)).deep_at is None


@pytest.mark.parametrize(
    "change", [{"retired_at": True}, {"deployment": Deployment.IN_PROGRESS}, {"guest": None}]
)
async def test_observes_live_servers_alone(see, factory, clock, change):
    """What is retired or not set up yet has no guest to look for."""
    values = {name: clock.now() if value is True else value for name, value in change.items()}
    await factory.server(**values)

    await see(showing(guests=(GuestSeen(guest="999", node="node1", power=Power.RUNNING, busy=None),)))

    assert not await Observation.all().exists()


async def test_keeps_when_a_site_was_last_whole(see, factory, clock):
    """An incomplete reading leaves the instant of the last complete one alone."""
    server = await factory.server()
    await see(showing(server))
    at = clock.now()
    clock.advance(timedelta(minutes=5))

    await see(showing(server, complete=False, problem="hidden guests"))

    state = await SiteState.get(site="demo")
    assert (state.complete_at, state.attempted_at, state.problem) == (at, clock.now(), "hidden guests")


@pytest.mark.parametrize(
    ("raws", "complete"),
    [
        ([], False),
        ([{"guests": [], "complete": True}], True),
        ([{"guests": [], "complete": True, "silent_nodes": ["node2"]}], False),
        ([{"guests": [], "complete": True}, {"guests": []}], False),
        ([{"guests": "none", "complete": "yes"}], False),
    ],
)
def test_puts_what_several_nodes_say_together(raws, complete):
    """Complete is only what every part calls complete, with no node silent."""
    assert overview.merge(raws).complete is complete


async def test_tells_people_of_a_token_that_could_destroy_while_it_could(see, clock):
    """One item with the privileges; it ends with them, and a reading that does not tell leaves it."""
    await see(showing(excess=("VM.Allocate on /vms",)))
    await see(showing(excess=None))
    item = await WorkItem.get(kind="token_too_strong")
    assert "VM.Allocate on /vms" in item.detail
    assert (await SiteState.get(site="demo")).excess == ["VM.Allocate on /vms"]
    await see(showing(excess=()))
    await item.refresh_from_db()
    assert item.state is WorkState.RESOLVED
    assert (await SiteState.get(site="demo")).excess == []


def test_knows_nothing_of_a_token_that_no_reading_tells_of():
    """Silence is not the word that it cannot destroy; of several nodes, each adds what it saw."""
    assert overview.merge([{"guests": [], "complete": True}]).excess is None
    assert overview.merge([{"excess": []}, {"excess": ["b"]}, {"excess": ["a"]}]).excess == ("a", "b")
