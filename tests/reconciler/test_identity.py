"""Another platform behind the same address is noticed, and nothing is taken there or concluded from it."""

from datetime import timedelta

import pytest

from billing.models import WorkItem, WorkState
from billing.rules.terms import HoldCause
from reconciler import identity, observe, safety
from reconciler.guard_models import SafeModeCause
from reconciler.inventory import Platform
from reconciler.models import Observation, ReconcilerState, Server, SiteState, Step
from reconciler.overview import GuestSeen, SiteSeen
from reconciler.rules.terms import Power, StepKind
from reconciler.safety import Safety

OURS, THEIRS = "CA 5A:5A", "CA 00:00"


@pytest.fixture
async def known(lite, platform):
    """The reconciler once its site has answered as `OURS`, with safe mode in the passes."""
    platform.identity = OURS
    lite.passes.safety = Safety(
        clock=lite.clock, state_dir=None, sites=frozenset({lite.site.name}), stripe=False
    )
    await lite.turn()
    return lite


@pytest.fixture
def later(lite):
    """Lets a minute pass and everything be looked at again."""

    async def go(turns=1):
        for _ in range(turns):
            lite.clock.advance(timedelta(minutes=1))
            await lite.turn()

    return go


async def remembered():
    return (await SiteState.get(site="demo")).identities


async def test_keeps_the_first_that_answers(known, later):
    """Growing or renewing tells the same again, and nobody is alarmed."""
    await later(2)

    assert await remembered() == {"": OURS}
    assert not await SafeModeCause.all().exists()


async def test_believes_a_platform_that_never_told(lite, later, platform, delinquent):
    """A playbook of one's own need not know: everything goes on as it did."""
    _, _, (server,) = await delinquent()
    await lite.settle()

    assert await remembered() == {}
    assert platform.guests[server.guest].power == "stopped"


@pytest.mark.parametrize("told", [THEIRS, None])
async def test_takes_nothing_on_another_platform(known, platform, delinquent, later, told):
    """Nor on one that suddenly tells nothing; the person is told both names and what to do, once."""
    _, _, (server,) = await delinquent()
    platform.identity = told
    await later(3)

    assert platform.guests[server.guest].power == "running"
    assert platform.done == []
    item = await WorkItem.get(kind="safe_mode")
    assert f"site demo answers as {told or 'nobody'} and was {OURS} before" in item.detail
    assert "`site_endpoint`" in item.detail
    assert "`safeModeRelease`" in item.detail
    assert "answers as" in (await ReconcilerState.get(id=1)).safe_mode_reason
    assert "answers as" in (await SiteState.get(site="demo")).problem


async def test_takes_nothing_there_for_other_causes_either(known, factory, platform, debtor, later):
    """Abuse is no reason to stop a stranger's guest that has the number of ours."""
    _, _, (server,) = await debtor()
    await later()
    platform.identity = THEIRS
    await later()
    await factory.hold(server, cause=HoldCause.ABUSE, stage=None, locks_backups=False)
    await later()

    (step,) = [one for one in known.last.plan.steps if one.server_id == server.id]
    assert (step.kind, step.held_back_by) == (StepKind.STOP, "SITE_IDENTITY")
    assert platform.guests[server.guest].power == "running"


async def test_concludes_nothing_from_what_a_stranger_shows(known, platform, debtor, later):
    """Neither that guests are missing nor what they do; its nodes that do not answer are not ours."""
    rows = [(await debtor())[2][0] for _ in range(2)]
    await later()
    platform.identity = THEIRS
    platform.guests.pop(rows[1].guest)
    platform.guests[rows[0].guest].power = "stopped"
    await later(3)
    platform.silent = {"node2"}
    await later()

    assert await Server.filter(missing_since=None).count() == 2
    assert await Observation.filter(power=Power.RUNNING, absences=0).count() == 2
    assert (await SiteState.get(site="demo")).silent_nodes == []


async def test_gives_back_meanwhile_to_whom_the_mark_fits(known, platform, delinquent, later):
    """A payment starts the server if it is that very guest, and no other one of its number."""
    first, second = await delinquent(), await delinquent()
    await known.settle()
    for _, _, (server,) in (first, second):
        assert platform.guests[server.guest].power == "stopped"
    platform.identity = THEIRS
    platform.guests[second[2][0].guest].marker = "hwaddr:another"
    await later()

    for _, invoice, _ in (first, second):
        await known.pay(invoice)
    await later(2)

    assert platform.guests[first[2][0].guest].power == "running"
    assert platform.guests[second[2][0].guest].power == "stopped"


async def test_ends_by_itself_when_the_known_one_is_back(known, platform, delinquent, later):
    """No person is needed for what is as it was."""
    _, _, (server,) = await delinquent()
    platform.identity = THEIRS
    await later()
    platform.identity = OURS
    await later(2)

    assert not await SafeModeCause.filter(ended_at=None).exists()
    assert (await WorkItem.get(kind="safe_mode")).state is WorkState.RESOLVED
    await known.settle()
    assert platform.guests[server.guest].power == "stopped"


async def test_a_person_accepts_another_one(known, platform, delinquent, later):
    """From then on it is the known one, and the former would be a stranger."""
    _, _, (server,) = await delinquent()
    platform.identity = THEIRS
    await later(2)
    await safety.release(reason="installed anew", actor="admin:anna", now=known.clock.now())
    await later(2)

    assert await remembered() == {"": THEIRS}
    assert not await SafeModeCause.filter(ended_at=None).exists()
    await known.settle()
    assert platform.guests[server.guest].power == "stopped"
    platform.identity = OURS
    await later()
    assert await SafeModeCause.filter(ended_at=None).count() == 1


async def test_a_person_accepts_that_nobody_tells_any_more(known, platform, later):
    """A playbook of one's own took the place of ours: nothing is expected from then on."""
    platform.identity = None
    await later()
    await safety.release(reason="our own playbook", actor="admin:anna", now=known.clock.now())
    await later(2)

    assert await remembered() == {}
    assert not await SafeModeCause.filter(ended_at=None).exists()


async def test_what_was_accepted_is_no_third_one(known, platform, later):
    """The release was for what the person saw; whoever comes after it needs another, and an item of its own."""
    platform.identity = THEIRS
    await later()
    await safety.release(reason="installed anew", actor="admin:anna", now=known.clock.now())
    platform.identity = "CA 11:11"
    await later()

    assert await remembered() == {"": OURS}
    cause = await SafeModeCause.get(ended_at=None)
    assert (cause.released_at, "CA 11:11" in cause.reason) == (None, True)
    open_item = await WorkItem.filter(kind="safe_mode").exclude(state=WorkState.RESOLVED).get()
    assert "CA 11:11" in open_item.detail


async def test_silence_is_no_other_platform(known, platform, debtor, later):
    """Who does not answer cannot say who they are: their guests are doubted, and nobody else."""
    _, _, (server,) = await debtor()
    await later()
    before = (await Observation.get(server_id=server.id)).observed_at
    platform.observation = [
        {
            "on": "node1",
            "guests": [{"guest": server.guest, "node": "node1", "power": "stopped"}],
            "complete": False,
        }
    ]
    await later()

    assert not await SafeModeCause.all().exists()
    seen = await Observation.get(server_id=server.id)
    assert (seen.power, seen.observed_at) == (Power.RUNNING, before)


async def test_looks_again_just_before_it_takes(known, platform, delinquent):
    """An address may point elsewhere between the overview and the act: what is read there is not restricted."""
    account, _, (server,) = await delinquent()
    await known.watch.cycle()
    platform.identity = THEIRS
    await known.act()

    assert platform.guests[server.guest].power == "running"
    steps = await Step.filter(account_id=account.id)
    assert {step.message for step in steps} == {f"the platform answers as {THEIRS} and was {OURS} before"}
    assert not await WorkItem.filter(kind="guest_replaced").exists()


async def test_a_step_binds_the_platform_that_was_read(known, platform, delinquent):
    """The play compares what was committed; what gives back is bound by the guest's own mark."""
    account, invoice, _ = await delinquent()
    await known.settle()
    await known.pay(invoice)
    await known.settle()

    steps = await Step.filter(account_id=account.id)
    bound = {step.kind: step.expect.get("identity") for step in steps}
    assert bound == {
        kind: OURS if kind.restricts else None for kind in StepKind if kind is not StepKind.ADVANCE
    }


async def test_judges_no_unknown_step_by_a_strangers_guest(known, platform, delinquent, later):
    """A guest of the same number that happens to be off proves no stop of ours."""
    _, _, (server,) = await delinquent()
    platform.fates["stop_guests", server.guest] = "unknown"
    await known.settle()
    assert [step.kind for step in await known.open_steps()] == [StepKind.STOP]
    known.clock.advance(timedelta(minutes=10))
    platform.identity = THEIRS
    guest = platform.guests[server.guest]
    guest.power, guest.onboot, guest.protection = "stopped", False, True

    assert await known.watch.resolve_unknown() == 0
    platform.identity = OURS
    assert await known.watch.resolve_unknown() == 1


# -- nodes that stand for themselves ----------------------------------------------------------------------------------


@pytest.fixture
def lxc_site(make_stand, sqlite_database):
    """A site of two machines with containers."""
    return make_stand(Platform.LXC).site


def of_nodes(*guests, silent=(), **told):
    """Return an overview in which these nodes told who they are, with a guest `NAME@NODE` running each."""
    shown = tuple(
        GuestSeen(guest=name, node=node, power=Power.RUNNING, busy=None)
        for name, node in (guest.split("@") for guest in guests)
    )
    return SiteSeen(guests=shown, silent_nodes=frozenset(silent), complete=not silent, identities=told)


async def test_a_new_node_is_welcome_and_another_machine_is_not(lxc_site, clock):
    """Each node is known by itself, one that is added as well; what is shown of the others counts."""
    now = clock.now()
    await observe.apply(lxc_site, of_nodes(node1="machine a"), now)
    await observe.apply(lxc_site, of_nodes(node1="machine a", node2="machine b"), now)
    assert not await SafeModeCause.all().exists()

    seen = of_nodes("web@node1", "db@node2", node1="machine a", node2="machine c")
    judged = await identity.judged(lxc_site, seen, now)

    assert [guest.guest for guest in judged.guests] == ["web"]
    assert judged.complete is False
    (cause,) = await SafeModeCause.all()
    assert cause.reason == "node node2 of site demo answers as machine c and was machine b before"


async def test_a_node_that_does_not_answer_and_one_that_left_are_nobody(lxc_site, clock):
    """Neither tells anything; a site need not answer for nodes that it has no more."""
    await SiteState.create(site="demo", identities={"node1": "a", "node2": "b", "gone": "c"})

    judged = await identity.judged(lxc_site, of_nodes("web@node1", silent=["node2"], node1="a"), clock.now())

    assert [guest.guest for guest in judged.guests] == ["web"]
    assert judged.silent_nodes == {"node2"}
    assert not await SafeModeCause.all().exists()
    whole = await identity.judged(lxc_site, of_nodes("web@node1", node1="a", node2="b"), clock.now())
    assert whole.complete is True


def test_the_node_of_a_step_has_to_answer_as_its_own(lxc_site):
    """A whole cluster has one name, a machine its own."""
    assert identity.expected(lxc_site, {"node1": "a", "node2": "b"}, "node2") == "b"
    assert identity.expected(lxc_site, {}, "node2") is None
