"""Safe mode begins where the database, the clock or the readings are in doubt, and ends when all was read again."""

from datetime import timedelta

import pytest

from billing.models import AuditEntry, Notice, StripeMirror, WorkItem
from billing.refusal import RefusalCode, RefusalError
from reconciler import safety
from reconciler.guard_models import SafeModeCause, SafeModeKind
from reconciler.models import ReconcilerState, SiteState
from reconciler.safety import Safety

SITES = frozenset({"demo"})


class Uptime:
    """A second clock that nobody sets."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def begun(clock, tmp_path):
    """Makes the safety of a process that starts now, on one state folder."""

    def make(**changes):
        values = {"clock": clock, "state_dir": tmp_path / "state", "sites": SITES, "stripe": False}
        return Safety(**(values | changes))

    return make


async def kinds():
    return [str(cause.kind) for cause in await SafeModeCause.filter(ended_at=None).order_by("id")]


async def reread(clock, seconds=1):
    """Let the site be read completely, `seconds` from now."""
    clock.advance(timedelta(seconds=seconds))
    if not await SiteState.filter(site="demo").update(complete_at=clock.now()):
        await SiteState.create(site="demo", complete_at=clock.now(), silent_nodes=[])


async def restored(begun, clock, factory, passes=5):
    """Let a database count on and then be what it was before; the process is a new one."""
    await factory.account()
    first = begun()
    await first.check()
    await reread(clock)
    for _ in range(passes):
        await first.check()
    assert await kinds() == []
    await ReconcilerState.filter(id=1).update(generation=1)
    return begun()


@pytest.mark.usefixtures("sqlite_database")
async def test_a_new_installation_is_not_in_doubt(begun, factory):
    """Without an account there is nobody to restrict; from then on the marker is kept."""
    process = begun()
    await process.check()
    await factory.account()
    await process.check()
    await begun().check()

    assert await kinds() == []
    assert (process.state_dir / "generation").read_text() == "2\n"


@pytest.mark.usefixtures("database")
async def test_a_restored_database_waits_for_facts_and_a_person(begun, clock, factory):
    """Neither alone is enough; staff are told once, and the summary names the reason."""
    process = await restored(begun, clock, factory)

    await process.check()
    assert await kinds() == ["RESTORED_DATABASE"]
    assert "it was restored" in (await ReconcilerState.get(id=1)).safe_mode_reason
    await reread(clock)
    await process.check()
    assert await kinds() == ["RESTORED_DATABASE"]

    await safety.release(reason="restored by us on purpose", actor="admin:anna", now=clock.now())
    await process.check()

    assert await kinds() == []
    state = await ReconcilerState.get(id=1)
    assert (state.safe_mode_since, state.safe_mode_reason) == (None, None)
    assert await Notice.filter(channel="staff", body__contains="it was restored").count() == 1
    assert (await WorkItem.get(dedupe_key="safe_mode:RESTORED_DATABASE:")).state == "RESOLVED"
    told = await AuditEntry.filter(kind__startswith="safe_mode").order_by("id").values_list("kind", flat=True)
    assert list(told)[-3:] == ["safe_mode.entered", "safe_mode.released", "safe_mode.ended"]


@pytest.mark.usefixtures("sqlite_database")
async def test_a_person_who_was_first_waits_for_the_facts(begun, clock, factory):
    """A release ends nothing before everything was read again."""
    process = await restored(begun, clock, factory)
    await process.check()

    await safety.release(reason="mine", actor="admin:anna", now=clock.now())
    await process.check()

    assert await kinds() == ["RESTORED_DATABASE"]
    await reread(clock)
    await process.check()
    assert await kinds() == []


@pytest.mark.usefixtures("sqlite_database")
async def test_a_database_that_is_restored_under_a_running_process_is_noticed(begun, clock, factory):
    """The process knows what it has counted itself."""
    await factory.account()
    process = begun()
    await process.check()
    await reread(clock)
    await process.check()
    (process.state_dir / "generation").unlink()
    await ReconcilerState.filter(id=1).update(generation=1)

    await process.check()

    assert await kinds() == ["RESTORED_DATABASE"]


@pytest.mark.usefixtures("sqlite_database")
async def test_a_restored_database_is_one_only_once(begun, clock, factory):
    """The next process does not begin the matter anew, and does not end it either."""
    await (await restored(begun, clock, factory)).check()

    await begun().check()

    assert await kinds() == ["RESTORED_DATABASE"]
    assert await SafeModeCause.filter(kind=SafeModeKind.RESTORED_DATABASE).count() == 1


@pytest.mark.usefixtures("sqlite_database")
async def test_the_loss_of_the_last_commit_is_no_restored_database(begun, clock, factory):
    """The folder is a pass behind, so that a crash between the two is none either."""
    await factory.account()
    process = begun()
    await process.check()
    await reread(clock)
    await process.check()
    state = await ReconcilerState.get(id=1)
    await ReconcilerState.filter(id=1).update(generation=state.generation - 1)

    await begun().check()

    assert await kinds() == []


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("content", [None, "", "garbage", "-3", "9" * 40])
async def test_without_a_marker_facts_are_read_again_and_work_goes_on(begun, clock, factory, content):
    """No person is needed; what was read since the process started counts."""
    await factory.account()
    process = begun()
    if content is not None:
        process.state_dir.mkdir()
        (process.state_dir / "generation").write_text(content)
    await process.check()
    assert await kinds() == ["NO_MARKER"]
    told = await Notice.get(channel="staff")
    assert "by itself. If this database was restored from a backup, call `enforcementPause`" in told.body
    assert "bring its file `generation` along" in told.body

    await reread(clock)
    await process.check()

    assert await kinds() == []


@pytest.mark.usefixtures("sqlite_database")
async def test_a_folder_that_cannot_be_used_stops_no_pass(begun, factory, tmp_path):
    """It is doubt, and no fault."""
    await factory.account()
    (tmp_path / "file").write_text("")

    await begun(state_dir=tmp_path / "file").check()

    assert await kinds() == ["NO_MARKER"]


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(("ahead", "expected"), [(300, []), (301, ["CLOCK_JUMP"])])
async def test_a_clock_that_went_back_is_noticed_across_a_restart(begun, clock, ahead, expected):
    """The last pass lies in the future; what was read then counts only once it was read again."""
    later = clock.now() + timedelta(seconds=ahead)
    await SiteState.create(site="demo", complete_at=later, silent_nodes=[])
    await ReconcilerState.filter(id=1).update(last_pass_at=later)
    process = begun()

    await process.check()
    await ReconcilerState.filter(id=1).update(last_pass_at=clock.now())
    await process.check()
    assert await kinds() == expected

    await reread(clock)
    await process.check()
    assert await kinds() == []


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(
    ("wall", "up", "expected"),
    [(60, 60, []), (360, 60, []), (361, 60, ["CLOCK_JUMP"]), (60, 361, ["CLOCK_JUMP"]), (86400, 86400, [])],
)
async def test_a_clock_that_jumps_is_noticed_by_another_one(begun, clock, wall, up, expected):
    """Forwards and backwards; time that really passed is none, however long."""
    second = Uptime()
    process = begun(uptime=second)
    await process.check()
    clock.advance(timedelta(seconds=wall))
    second.seconds += up

    await process.check()

    assert await kinds() == expected


@pytest.mark.usefixtures("sqlite_database")
async def test_everything_is_read_again_stripe_included(begun, clock, factory):
    """A site alone is not everything, and what was read before the doubt counts for nothing."""
    await factory.account()
    process = begun(stripe=True)
    await StripeMirror.filter(id=1).update(last_full_sweep_at=clock.now() - timedelta(hours=1))
    await process.check()
    await reread(clock)
    await process.check()
    assert await kinds() == ["NO_MARKER"]

    await StripeMirror.filter(id=1).update(last_full_sweep_at=clock.now())
    await process.check()

    assert await kinds() == []


@pytest.mark.usefixtures("sqlite_database")
async def test_doubt_that_comes_again_begins_anew(clock):
    """What was read or released before it counts no longer."""
    now = clock.now()
    await safety.enter(SafeModeKind.IDENTITY, "another key", since=now, now=now)
    await reread(clock)
    await safety.release(reason="r", actor="admin:anna", now=clock.now())
    await safety.enter(SafeModeKind.IDENTITY, "another key", since=clock.now(), now=clock.now())

    await safety.review(SITES, stripe=False, now=clock.now())

    assert await kinds() == ["IDENTITY"]
    assert (await SafeModeCause.get()).released_at is None


@pytest.mark.usefixtures("sqlite_database")
async def test_nothing_is_released_that_waits_for_nobody(clock):
    """Off, or released already: the person is told so."""
    for _ in range(2):
        with pytest.raises(RefusalError) as refused:
            await safety.release(reason="r", actor="admin:anna", now=clock.now())
        assert refused.value.problems[0].code is RefusalCode.CONFLICT
        now = clock.now()
        await safety.enter(SafeModeKind.CLOCK_JUMP, "x", since=now, now=now)
        await safety.release(reason="r", actor="admin:anna", now=now)


async def test_a_pass_in_safe_mode_restricts_nobody_and_gives_back(stand, delinquent, platform, begun):
    """The doubt is found before the guard is asked; a payment brings servers back meanwhile."""
    _, invoice, (theirs,) = await delinquent()
    await stand.settle()
    assert platform.guests[theirs.guest].power == "stopped"
    late, _, (server,) = await delinquent()
    stand.passes.safety = begun()

    await stand.pay(invoice)
    await stand.turn()
    await stand.turn()

    waits = {step.held_back_by for step in stand.last.plan.steps if step.account_id == late.id}
    assert waits == {"SAFE_MODE", "ORDER"}
    assert platform.guests[server.guest].power == "running"
    assert platform.guests[theirs.guest].power == "running"

    stand.clock.advance(timedelta(seconds=1))
    await stand.settle()
    assert platform.guests[server.guest].power == "stopped"


async def test_a_crowd_of_missing_guests_is_doubted(lite, debtor, platform, clock):
    """More than the blast radius at once: nobody is called missing, nothing is lifted; they come back, and it ends."""
    rows = [(await debtor())[2][0] for _ in range(7)]
    await lite.turn()
    lite.passes.safety = Safety(clock=clock, state_dir=None, sites=SITES, stripe=False)
    gone = {server.guest: platform.guests.pop(server.guest) for server in rows[:6]}
    for _ in range(3):
        clock.advance(timedelta(minutes=1))
        await lite.turn()

    assert await kinds() == ["GUESTS_MISSING"]
    assert not await WorkItem.filter(kind="server_missing").exists()

    platform.guests |= gone
    clock.advance(timedelta(minutes=1))
    await lite.turn()
    assert await kinds() == []


async def test_a_person_may_believe_a_crowd_of_missing_guests(lite, debtor, platform, clock):
    """Then they are missing, as they would be one by one, and safe mode ends."""
    rows = [(await debtor())[2][0] for _ in range(7)]
    await lite.turn()
    lite.passes.safety = Safety(clock=clock, state_dir=None, sites=SITES, stripe=False)
    for server in rows[:6]:
        platform.guests.pop(server.guest)
    for _ in range(3):
        clock.advance(timedelta(minutes=1))
        await lite.turn()

    await safety.release(reason="the old node was taken down", actor="admin:anna", now=clock.now())
    clock.advance(timedelta(minutes=1))
    await lite.turn()

    assert await WorkItem.filter(kind="server_missing").count() == 6
    assert await kinds() == []


async def test_a_few_missing_guests_are_believed(lite, debtor, platform, clock):
    """As many as the blast radius allows."""
    rows = [(await debtor())[2][0] for _ in range(7)]
    await lite.turn()
    for server in rows[:5]:
        platform.guests.pop(server.guest)
    for _ in range(2):
        clock.advance(timedelta(minutes=1))
        await lite.turn()

    assert await kinds() == []
    assert await WorkItem.filter(kind="server_missing").count() == 5
