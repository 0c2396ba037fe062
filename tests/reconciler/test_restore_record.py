"""The restore record keeps, part by part, what is to be given back."""

import pytest

from reconciler import restore_record
from reconciler.models import RestorePart
from reconciler.restore_record import BACKUP_PARTS, POWER_PARTS, Owner
from reconciler.rules.terms import Power

pytestmark = pytest.mark.usefixtures("database")
OWNER = Owner(site="demo", server_id=7)
FIRST = [("power", "", "RUNNING"), ("onboot", "", "true"), ("protection", "", "false")]


@pytest.fixture
def take(clock):
    """Takes parts for the step of this number."""

    async def go(found, step_id=1, owner=OWNER):
        await restore_record.take(owner, found, step_id=step_id, at=clock.now())

    return go


async def open_parts():
    """Return the open parts as (part, volume) to what was found."""
    return {(row.part, row.volume): row.found for row in await RestorePart.filter(closed_at=None)}


async def test_keeps_what_was_found_first(take):
    """A second stop finds what the first one left, and does not take that for the customer's wish."""
    await take(FIRST)
    await take([("power", "", "STOPPED"), ("onboot", "", "false"), ("protection", "", "true")], step_id=2)

    record = (await restore_record.of_servers([7]))[7]
    assert (record.power, record.onboot, record.protection) == (Power.RUNNING, True, False)


async def test_takes_anew_what_somebody_else_changed_meanwhile(take):
    """Found off, then started by somebody, then stopped again: what is given back is the running guest."""
    await take([("power", "", "STOPPED"), ("onboot", "", "false")])
    await take([("power", "", "RUNNING"), ("onboot", "", "false")], step_id=2)

    assert await open_parts() == {("power", ""): "RUNNING", ("onboot", ""): "false"}
    assert (await RestorePart.get(closed_because="changed_by_others")).found == "STOPPED"


async def test_keeps_what_did_not_change_since_it_was_found(take):
    """A stop that did not work finds the guest as before, and takes nothing twice."""
    await take(FIRST)
    await take(FIRST, step_id=2)

    assert await RestorePart.all().count() == 3


async def test_keeps_the_volumes_of_every_lock(take):
    """A backup that was made since joins those that are locked already."""
    await take([("backups", "", "open"), ("backup", "pbs:a", "false")])
    await take([("backups", "", "open"), ("backup", "pbs:b", "false")], step_id=2)

    record = (await restore_record.of_servers([7]))[7]
    assert (record.backups_locked, record.volumes) == (True, ("pbs:a", "pbs:b"))


async def test_closes_only_what_was_given_back(take, clock):
    """Power may be back while backups stay locked for another cause."""
    await take([*FIRST, ("backups", "", "open")])

    assert await restore_record.close(OWNER, POWER_PARTS, because="restored", at=clock.now()) == 3

    assert await open_parts() == {("backups", ""): "open"}
    assert await restore_record.close(OWNER, BACKUP_PARTS, because="restored", at=clock.now()) == 1
    assert await restore_record.of_servers([7]) == {}


async def test_closes_of_a_refused_step_only_what_that_step_took(take, clock):
    """A refusal proves that it did nothing; what an earlier step took stays on record."""
    await take([("power", "", "RUNNING")])
    await take([("power", "", "RUNNING"), ("onboot", "", "true")], step_id=2)

    assert await restore_record.close_taken_by(2, because="did_nothing", at=clock.now()) == 1
    assert await open_parts() == {("power", ""): "RUNNING"}


async def test_keeps_access_apart_by_account_and_site(take):
    """A role belongs to an account on a site."""
    await take([("role", "", "Customer")], owner=Owner(site="demo", account_id=1))
    await take([("role", "", "none")], owner=Owner(site="other", account_id=1))

    records = await restore_record.of_access([1])
    assert {pair: record.role for pair, record in records.items()} == {
        (1, "demo"): "Customer",
        (1, "other"): "none",
    }


async def test_gives_up_what_a_step_found_done_by_others(take, clock):
    """Backups that were protected meanwhile stay so; they still count as locked, and so do those of earlier steps."""
    await take([("backups", "", "open"), ("backup", "pbs:a", "false")])
    await take(
        [("backups", "", "open"), ("backup", "pbs:a", "false"), ("backup", "pbs:b", "false")], step_id=2
    )

    await restore_record.leave_to_others(2, role=None, at=clock.now())

    record = (await restore_record.of_servers([7]))[7]
    assert (record.backups_locked, record.volumes) == (True, ("pbs:a",))
    assert (await RestorePart.get(closed_because="changed_by_others")).volume == "pbs:b"


@pytest.mark.parametrize(("step", "kept"), [(1, "Suspended"), (2, "Customer")])
async def test_gives_back_the_role_that_others_gave_meanwhile(take, clock, step, kept):
    """Access counts as closed, and opening it again leaves their role; one that an earlier step took is given back."""
    access = Owner(site="demo", account_id=1)
    await take([("role", "", "Customer")], owner=access)
    await take([("role", "", "Customer")], step_id=2, owner=access)

    await restore_record.leave_to_others(step, role="Suspended", at=clock.now())

    assert (await restore_record.of_access([1]))[1, "demo"].role == kept
