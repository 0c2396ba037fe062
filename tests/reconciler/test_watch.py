"""Sites are watched, and steps of unknown outcome read where their guests are."""

import asyncio
from datetime import timedelta

import pytest
import structlog

from billing.models import WorkItem, WorkState
from reconciler.inventory import Platform
from reconciler.models import Observation, Run, Server, SiteState, Step
from reconciler.rules.terms import Lane, Power, RunState, StepKind, StepState

EXPECT = {"power": "running", "onboot": True, "protection": False}


@pytest.fixture
def unknown_stop(debtor, factory, clock):
    """Makes a stop of unknown outcome on a guest that still runs, old enough to be judged."""

    async def make(**given):
        _, _, (server,) = await debtor()
        values = {
            "state": StepState.UNKNOWN,
            "expect": EXPECT,
            "dispatched_at": clock.now() - timedelta(hours=1),
        }
        return await factory.step(server, **(values | given))

    return make


async def a_run(clock, **given):
    """Return the row of a run."""
    values = {
        "tag": "t" * 32,
        "action": "stop_guests",
        "site": "demo",
        "node": "node1",
        "lane": Lane.RESTRICT,
        "state": RunState.LOST,
        "plan_digest": "",
        "requested_by": "x",
        "started_at": clock.now(),
        "finished_at": clock.now(),
    }
    return await Run.create(**(values | given))


async def test_writes_down_what_a_site_shows(lite, debtor):
    """One overview a site and cycle."""
    _, _, (server,) = await debtor()

    await lite.watch.cycle()

    assert (await Observation.get(server_id=server.id)).power is Power.RUNNING
    assert (await SiteState.get(site="demo")).complete_at == lite.clock.now()


@pytest.mark.parametrize("problem", [OSError("no process"), None])
async def test_writes_down_that_nothing_was_seen(lite, debtor, platform, problem):
    """A site that cannot be read has a problem and no guests that are gone."""
    _, _, (server,) = await debtor()
    lite.execution.broken = problem
    platform.observation = []

    await lite.watch.cycle()

    state = await SiteState.get(site="demo")
    assert (state.complete_at, bool(state.problem)) == (None, True)
    assert not await Observation.filter(server_id=server.id).exists()
    assert (await Server.get(id=server.id)).missing_since is None


async def test_stamps_a_reading_with_the_instant_at_which_it_began(lite, debtor, platform, clock):
    """A slow overview is as old as its beginning."""
    _, _, (server,) = await debtor()
    began = clock.now()
    genuine = lite.execution.start

    async def slowly(request):
        clock.advance(timedelta(minutes=4))
        return await genuine(request)

    lite.execution.start = slowly
    await lite.watch.cycle()

    assert (await Observation.get(server_id=server.id)).observed_at == began


async def test_takes_a_node_that_told_nothing_for_silent(
    sqlite_database, make_stand, debtor, factory, platform
):
    """Where each node speaks for itself, one that is down makes its guests unknown and never missing."""
    stand = make_stand(platform_of_site=Platform.LXC)
    account, _, (first,) = await debtor()
    second = await factory.server(account, site_node="node2")
    listed = [{"guest": first.guest, "node": "node1", "power": "running"}]
    platform.observation = [{"on": "node1", "guests": listed, "silent_nodes": [], "complete": True}]

    for _ in range(3):
        await stand.watch.cycle()

    assert (await SiteState.get(site="demo")).silent_nodes == ["node2"]
    seen = {row.server_id: (row.power, row.absences) for row in await Observation.all()}
    assert seen == {first.id: (Power.RUNNING, 0)}
    assert (await Server.get(id=second.id)).missing_since is None


async def test_judges_an_unknown_step_of_an_account_that_no_pool_can_be_called_by(lite, unknown_stop, debtor):
    """An e-mail address as external id has no pool; that keeps no server unknown."""
    step = await unknown_stop()
    server = await Server.get(id=step.server_id).prefetch_related("account")
    await type(server.account).filter(id=server.account_id).update(external_id="anna@example.org")

    assert await lite.watch.resolve_unknown() == 1


async def test_judges_the_others_beside_a_step_that_no_run_takes(lite, unknown_stop):
    """One impossible target keeps nobody else of its node unknown."""
    good, bad = await unknown_stop(), await unknown_stop()
    await Step.filter(id=bad.id).update(expect={"power": "{{ impossible }}"})

    assert await lite.watch.resolve_unknown() == 1
    assert (await Step.get(id=good.id)).state is StepState.VOID


async def test_reads_a_guest_where_it_is_now(lite, unknown_stop, platform, factory):
    """A node that left the inventory does not keep its steps unknown for ever."""
    step = await unknown_stop(node="node9")
    assert await lite.watch.resolve_unknown() == 0
    await factory.observation(await Server.get(id=step.server_id), node="node2")

    assert await lite.watch.resolve_unknown() == 1


@pytest.mark.parametrize(("clears", "concluded"), [(False, 0), (True, 1)])
async def test_judges_nothing_of_a_run_that_may_still_be_alive(lite, unknown_stop, clock, clears, concluded):
    """What is left of a lost run is ended first; until then it could act after the reading."""
    run = await a_run(clock)
    await unknown_stop(run_id=run.id)
    lite.execution.clears = clears

    assert await lite.watch.resolve_unknown() == concluded
    assert (await Run.get(id=run.id)).verified_gone is clears


async def test_judges_nothing_of_a_run_that_goes_on(lite, unknown_stop, clock):
    """A run without a verdict is nobody's to judge."""
    run = await a_run(clock, state=RunState.RUNNING, finished_at=None)
    await unknown_stop(run_id=run.id)

    assert await lite.watch.resolve_unknown() == 0


async def test_judges_access_by_the_role_that_is_read(lite, debtor, platform, factory, clock):
    """Steps of access have a pool instead of a guest."""
    account, _, (server,) = await debtor()
    platform.pools[f"customer-{account.external_id}"] = "Suspended"
    step = await factory.step(
        server,
        server_id=None,
        kind=StepKind.CLOSE_ACCESS,
        state=StepState.UNKNOWN,
        expect={"role": "Customer"},
    )

    assert await lite.watch.resolve_unknown() == 1
    assert (await Step.get(id=step.id)).state is StepState.DONE


async def test_keeps_no_node_waiting_for_another(lite, unknown_stop, platform):
    """Nodes are read at the same time: one that hangs delays no restore elsewhere."""
    first, second = await unknown_stop(), await unknown_stop(node="node2")
    genuine, both = lite.execution.start, asyncio.Barrier(2)

    async def hangs_on_the_first(request):
        await both.wait()
        return await genuine(request)

    lite.execution.start = hangs_on_the_first
    async with asyncio.timeout(60):
        assert await lite.watch.resolve_unknown() == 2
    assert first.id != second.id


async def test_observes_a_site_once_at_a_time(lite, debtor, platform):
    """A second cycle skips a site whose first observation still runs."""
    await debtor()

    await asyncio.gather(lite.watch.cycle(), lite.watch.cycle())

    assert platform.runs == ["observe"]


async def test_logs_that_a_site_is_not_seen_once_per_change(lite, debtor, platform):
    """A site that hangs is in the log as an error when it begins and when it is over, not every minute."""
    await debtor()

    async def cycles(problem):
        platform.problem = problem
        for _ in range(2):
            await lite.watch.cycle()

    with structlog.testing.capture_logs() as logs:
        for problem in ("its deadline of 300 s passed", "No space left on device", None):
            await cycles(problem)

    assert [(line["event"], line["log_level"], line.get("problem")) for line in logs] == [
        ("site.problem", "error", "its deadline of 300 s passed"),
        ("site.problem", "error", "No space left on device"),
        ("site.problem.over", "info", None),
    ]


@pytest.mark.parametrize(("minutes", "told"), [(9, 0), (10, 1)])
async def test_tells_a_person_of_a_restore_that_stays_unknown(
    lite, unknown_stop, platform, clock, minutes, told
):
    """A site that hangs keeps nobody waiting unseen."""
    began = clock.now() - timedelta(minutes=minutes)
    step = await unknown_stop(kind=StepKind.START, lane=Lane.RESTORE, dispatched_at=began)
    await unknown_stop()
    lite.execution.broken = OSError("no process can be made")

    for _ in range(2):
        await lite.watch.resolve_unknown()

    items = await WorkItem.filter(kind="restore_delayed")
    assert [item.server_id for item in items] == [step.server_id] * told


async def test_tells_once_of_servers_on_a_site_that_the_inventory_does_not_have(lite, debtor):
    """One item for each such site until nothing is on it; retired servers do not count."""
    _, _, (first, second, retired) = await debtor(servers=3)
    await Server.filter(id__in=[first.id, retired.id]).update(site="renamed")
    await Server.filter(id=retired.id).update(retired_at=lite.clock.now())
    with structlog.testing.capture_logs() as logs:
        await lite.watch.cycle()
        await lite.watch.cycle()

    item = await WorkItem.get(kind="site_unknown")
    assert (item.dedupe_key, item.title) == (
        "site_unknown:renamed",
        "The inventory has no site renamed; servers on it: 1",
    )
    assert [entry["sites"] for entry in logs if entry["event"] == "sites.unknown"] == ["renamed (servers: 1)"]

    await Server.filter(id=first.id).update(site=second.site)
    await lite.watch.cycle()
    assert (await WorkItem.get(kind="site_unknown")).state is WorkState.RESOLVED
