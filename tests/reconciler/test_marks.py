"""A guest that carries our mark without a record is a person's business: once, with what to do, until it is clear."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from billing import work_queue
from billing.models import WorkItem, WorkState
from reconciler import marks
from reconciler.models import Observation, RestorePart, Server, Step
from reconciler.overview import MARK, merge
from reconciler.rules.terms import StepKind, StepState

PLATFORMS = Path(__file__).parents[2] / "playbooks/platforms"
#: As a stop of ours leaves a guest.
LEFT = {"power": "stopped", "onboot": False, "protection": True, "tags": (MARK,)}


def leave(platform, server):
    """Let a guest be as a stop of ours left it, of which nothing is on record."""
    for part, value in LEFT.items():
        setattr(platform.guests[server.guest], part, value)


@pytest.fixture
def later(lite):
    """Lets a minute pass and everything be looked at and done."""

    async def go(turns=1):
        for _ in range(turns):
            lite.clock.advance(timedelta(minutes=1))
            await lite.turn()

    return go


def items():
    """Return the open items about marks."""
    return WorkItem.filter(kind=marks.KIND).exclude(state=WorkState.RESOLVED)


@pytest.mark.parametrize(
    "file", sorted(PLATFORMS.glob("*/stop_guests.yml")), ids=lambda file: file.parent.name
)
def test_it_is_the_mark_that_the_shipped_playbooks_leave(file):
    """The product and the plays know it by the same name."""
    (task,) = yaml.safe_load(file.read_text())
    (arguments,) = (value for name, value in task.items() if name.startswith("abeyance_"))
    assert arguments["want"]["tag"] == MARK


def test_a_reading_without_tags_tells_nothing_of_marks():
    """A platform of one's own may have no tags: nothing is concluded from that."""
    guest = {"guest": "1", "node": "a", "power": "running"}
    told = [{}, {"tags": ["blue"]}, {"tags": ["blue", MARK]}]
    seen = merge([{"guests": [{**guest, **tags} for tags in told]}])
    assert [one.marked for one in seen.guests] == [None, False, True]


async def test_a_mark_without_a_record_is_told_once_and_ends_with_the_mark(lite, later, platform, debtor):
    """One item for each server, with what to do in either case; nothing is started by itself."""
    (_, _, (server,)), (_, _, (other,)) = await debtor(), await debtor()
    leave(platform, server)
    await later(3)

    item = await items().get()
    assert (item.server_id, item.account_id) == (server.id, server.account_id)
    assert "`serverPowerSet`" in item.detail
    assert f"`{MARK}`" in item.detail
    assert platform.done == []

    platform.guests[server.guest].tags = ("blue",)
    await later()
    assert not await items().exists()
    assert await Observation.filter(server_id__in=[server.id, other.id], marked_at=None).count() == 2


async def test_what_a_person_closed_stays_closed_while_the_mark_is_the_same(lite, later, platform, debtor):
    """Somebody decided; a mark that comes anew is another matter."""
    _, _, (server,) = await debtor()
    leave(platform, server)
    await later()
    item = await items().get()
    await work_queue.resolve(item.dedupe_key, at=lite.clock.now(), by="infra:ida", resolution="it stays off")
    await later(2)
    assert not await items().exists()

    platform.guests[server.guest].tags = ()
    await later()
    leave(platform, server)
    await later()
    assert await items().count() == 1


async def test_a_stop_of_ours_explains_its_mark_from_begin_to_end(lite, later, platform, delinquent):
    """Neither while it stands, nor while it is given back, is anybody asked."""
    _, invoice, (server,) = await delinquent()
    await lite.settle()
    assert platform.guests[server.guest].tags == (MARK,)
    await later(2)
    await lite.pay(invoice)
    await lite.settle()

    assert platform.guests[server.guest].tags == ()
    assert not await WorkItem.filter(kind=marks.KIND).exists()


async def test_a_reading_that_may_be_older_than_the_last_step_proves_nothing(
    lite, clock, platform, debtor, factory
):
    """What was begun before a start had ended may still show the mark."""
    _, _, (server,) = await debtor()
    leave(platform, server)
    ended = clock.now()
    await factory.step(server, kind=StepKind.START, state=StepState.DONE, finished_at=ended)
    for seconds in (5, 10):
        clock.advance(timedelta(seconds=seconds))
        await lite.watch.cycle()
        assert not await items().exists()
    clock.advance(timedelta(seconds=1))
    await lite.watch.cycle()
    assert await items().count() == 1


async def test_stops_nothing_anew_that_would_then_count_as_found_off(lite, later, platform, delinquent):
    """After a restored database the hold asks again: recording it would leave the server off once it is paid."""
    _, invoice, (server,) = await delinquent()
    leave(platform, server)
    await later(3)

    assert not await RestorePart.filter(server_id=server.id, part="power", closed_at=None).exists()
    steps = await Step.filter(server_id=server.id, kind=StepKind.STOP)
    assert {step.state for step in steps} == {StepState.VOID}
    assert await items().count() == 1

    await lite.pay(invoice)
    await later(2)
    assert platform.guests[server.guest].power == "stopped"
    assert await items().count() == 1

    await Server.filter(id=server.id).update(start_wanted_at=lite.clock.now())
    await later(2)
    assert platform.guests[server.guest].power == "running"
    assert platform.guests[server.guest].tags == ()
    assert not await items().exists()


async def test_a_marked_guest_that_runs_is_stopped_as_any_other(lite, later, platform, delinquent):
    """Somebody had started it by hand: that it runs is what was found, and comes back."""
    _, invoice, (server,) = await delinquent()
    leave(platform, server)
    platform.guests[server.guest].power = "running"
    await lite.settle()
    assert platform.guests[server.guest].power == "stopped"
    assert not await items().exists()

    await lite.pay(invoice)
    await lite.settle()
    assert platform.guests[server.guest].power == "running"


@pytest.mark.parametrize("change", ["retired_at", "missing_since"])
async def test_nobody_is_asked_about_a_server_that_is_gone(lite, later, platform, debtor, clock, change):
    """Retired, or missing, of which an item tells already."""
    _, _, (server,) = await debtor()
    leave(platform, server)
    await later()
    assert await items().count() == 1
    await Server.filter(id=server.id).update(**{change: clock.now()})
    await marks.follow(clock.now())
    assert not await items().exists()
