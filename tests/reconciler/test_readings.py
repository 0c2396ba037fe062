"""Readings are translated without a guess, and judged part by part."""

import pytest

from reconciler import readings
from reconciler.readings import Reading
from reconciler.rules.terms import Power, StepKind
from reconciler.rules.world import NOTHING_TAKEN, RecordView

READ = {
    "power": "running",
    "onboot": True,
    "protection": False,
    "digest": "ab",
    "marker": "m",
    "node": "node1",
    "busy": "",
    "protected_backups": ["b"],
    "unprotected_backups": ["c", "a"],
    "role": "Customer",
    "tags": ["x"],
}


def test_reads_what_a_play_told():
    """Types are checked and lists are sorted; what is not known is left out."""
    assert Reading.of(READ) == Reading(
        power=Power.RUNNING,
        onboot=True,
        protection=False,
        digest="ab",
        marker="m",
        node="node1",
        protected=("b",),
        unprotected=("a", "c"),
        role="Customer",
        marked=False,
    )


@pytest.mark.parametrize("wrong", [{"power": "paused"}, {"power": None}, {"power": 1}, {}])
def test_takes_an_odd_power_for_unknown(wrong):
    """Neither running nor stopped is unknown, and unknown is neither."""
    assert Reading.of(wrong).power is Power.UNKNOWN


@pytest.mark.parametrize("wrong", ["yes", 1, None, ["true"]])
def test_takes_an_odd_flag_for_not_read(wrong):
    """Only a truth value is one."""
    assert Reading.of({"onboot": wrong}).onboot is None


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (StepKind.STOP, {"power", "onboot", "protection", "digest", "marker"}),
        (StepKind.LOCK_BACKUPS, {"unprotected_backups", "marker"}),
        (StepKind.CLOSE_ACCESS, {"role"}),
    ],
)
def test_commits_only_the_parts_that_a_step_changes(kind, parts):
    """Each action compares its own parts."""
    assert readings.expectation(kind, Reading.of(READ)).keys() == parts


def test_records_what_was_found():
    """Power always, flags where the platform has them, volumes one by one, and that nobody had a role."""
    assert readings.found(StepKind.STOP, Reading(power=Power.STOPPED, onboot=False)) == [
        ("power", "", "STOPPED"),
        ("onboot", "", "false"),
    ]
    assert readings.found(StepKind.LOCK_BACKUPS, Reading.of(READ))[1:] == [
        ("backup", "a", "false"),
        ("backup", "c", "false"),
    ]
    assert readings.found(StepKind.CLOSE_ACCESS, Reading()) == [("role", "", readings.NO_ROLE)]


def test_gives_back_as_recorded():
    """The owner's wish to have it on counts beside the record; a role that nobody had is not given to anybody."""
    record = RecordView(power=Power.STOPPED, onboot=True, backups_locked=True, volumes=("a",), role="none")

    start = readings.recorded(StepKind.START, record, start_wanted=False, marker="m")
    assert start == {"power": "stopped", "onboot": True, "marker": "m"}
    wished = readings.recorded(StepKind.START, NOTHING_TAKEN, start_wanted=True)
    assert wished == {"power": "running"}
    unlock = readings.recorded(StepKind.UNLOCK_BACKUPS, record, start_wanted=False, marker="m")
    assert unlock == {"unprotected_backups": ["a"], "marker": "m"}
    assert readings.recorded(StepKind.OPEN_ACCESS, record, start_wanted=False) == {}


@pytest.mark.parametrize(
    ("kind", "record", "wished", "left"),
    [
        (StepKind.START, NOTHING_TAKEN, False, False),
        (StepKind.START, NOTHING_TAKEN, True, True),
        (StepKind.START, RecordView(onboot=True), False, True),
        (StepKind.UNLOCK_BACKUPS, NOTHING_TAKEN, True, False),
        (StepKind.UNLOCK_BACKUPS, RecordView(backups_locked=True), False, True),
        (StepKind.OPEN_ACCESS, NOTHING_TAKEN, False, False),
        (StepKind.OPEN_ACCESS, RecordView(role="Customer"), False, True),
    ],
)
def test_knows_whether_anything_is_left_to_give_back(kind, record, wished, left):
    """A restore of nothing is no restore."""
    assert readings.to_give_back(kind, record, start_wanted=wished) is left


STOPPED = Reading(power=Power.STOPPED, onboot=False, protection=True)


@pytest.mark.parametrize(
    ("kind", "expect", "reading", "done"),
    [
        (StepKind.STOP, {}, STOPPED, True),
        (StepKind.STOP, {}, Reading(power=Power.STOPPED), True),
        (StepKind.STOP, {}, Reading(power=Power.STOPPED, onboot=True), False),
        (StepKind.STOP, {}, Reading(), False),
        (StepKind.LOCK_BACKUPS, {"unprotected_backups": ["a"]}, Reading(protected=("a", "b")), True),
        (StepKind.LOCK_BACKUPS, {"unprotected_backups": ["a"]}, Reading(protected=()), False),
        (StepKind.LOCK_BACKUPS, {"unprotected_backups": ["a"]}, Reading(), False),
        (StepKind.START, {"power": "running"}, Reading(power=Power.RUNNING), True),
        (StepKind.START, {"power": "running"}, STOPPED, False),
        (StepKind.START, {"power": "stopped", "onboot": True}, STOPPED, False),
        (StepKind.START, {"power": "stopped", "onboot": False}, STOPPED, True),
        (StepKind.UNLOCK_BACKUPS, {"unprotected_backups": ["a"]}, Reading(protected=("b",)), True),
        (StepKind.UNLOCK_BACKUPS, {"unprotected_backups": ["a"]}, Reading(protected=("a",)), False),
        (StepKind.UNLOCK_BACKUPS, {"unprotected_backups": ["a"]}, Reading(), False),
        (StepKind.CLOSE_ACCESS, {"role": "Customer"}, Reading(role="Suspended"), True),
        (StepKind.CLOSE_ACCESS, {"role": "Customer"}, Reading(role="Customer"), False),
        (StepKind.CLOSE_ACCESS, {"role": "Customer"}, Reading(), False),
        (StepKind.OPEN_ACCESS, {"role": "Customer"}, Reading(role="Customer"), True),
        (StepKind.OPEN_ACCESS, {"role": "Customer"}, Reading(role="Suspended"), False),
    ],
)
def test_judges_what_a_step_reached(kind, expect, reading, done):
    """Done is only what is read as it should be."""
    assert readings.shows_done(kind, expect, reading) is done


def test_knows_an_untouched_guest():
    """Every committed part as it was; an undoing step has nothing to compare."""
    before = Reading.of(READ)
    expect = readings.expectation(StepKind.STOP, before)

    assert readings.shows_untouched(StepKind.STOP, expect, before)
    assert not readings.shows_untouched(StepKind.STOP, expect, STOPPED)
    assert not readings.shows_untouched(StepKind.STOP, {}, before)
    assert not readings.shows_untouched(StepKind.START, expect, before)
