"""The rule of exact restore, alone: what a restriction may change, and what an undo may give back."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from abeyance_platforms.compare import Changes, restriction, undoing
from abeyance_platforms.reports import Backup, Refusal, State
from hypothesis import given
from hypothesis import strategies as st

TAG = "abeyance-suspended"
WANT = {"power": "stopped", "onboot": False, "protection": True, "tag": TAG}
PARTS = ("onboot", "protection", "tag", "power")
LEFT = {"tag": TAG}

states = st.builds(
    State,
    power=st.sampled_from(["running", "stopped"]),
    onboot=st.booleans(),
    protection=st.booleans(),
    tags=st.lists(st.sampled_from(["blue", "gold", TAG]), unique=True).map(tuple),
)


def _as_expect(state: State) -> dict[str, Any]:
    return {part: getattr(state, part) for part in ("power", "onboot", "protection")}


def _after(state: State, changes: Changes) -> State:
    """Return the state once the changes were made."""
    parts = {
        p: getattr(changes, p) for p in ("power", "onboot", "protection") if getattr(changes, p) is not None
    }
    tags = [tag for tag in state.tags or () if tag != changes.take_tag]
    return replace(state, **parts, tags=tuple(tags + ([changes.add_tag] if changes.add_tag else [])))


@given(states)
def test_a_restriction_reaches_what_is_wanted_and_its_undo_the_beginning(begin: State) -> None:
    """From any state: stop, stop again (nothing), give back, give back again (nothing), and all is as before."""
    begin = replace(begin, tags=tuple(tag for tag in begin.tags or () if tag != TAG))
    expect = _as_expect(begin)
    stopped = _after(begin, restriction(WANT, expect, begin))
    assert (stopped.power, stopped.onboot, stopped.protection) == ("stopped", False, True)
    assert TAG in (stopped.tags or ())
    assert not restriction(WANT, expect, stopped).anything
    back = undoing(PARTS, expect, stopped, left=LEFT)
    assert _after(stopped, back) == begin
    assert back.unmet(begin) == ()
    assert not undoing(PARTS, expect, begin, left=LEFT).anything


@given(states, states)
def test_a_restriction_never_changes_what_was_not_recorded_so(now: State, recorded: State) -> None:
    """Whatever differs from the record, nothing is changed, unless all of it is our own work already."""
    expect = _as_expect(recorded)
    if _as_expect(now) == expect:
        restriction(WANT, expect, now)
    elif _is_ours(now):
        assert not restriction(WANT, expect, now).anything
    else:
        with pytest.raises(Refusal):
            restriction(WANT, expect, now)


def _is_ours(state: State) -> bool:
    return _as_expect(state) == {"power": "stopped", "onboot": False, "protection": True} and TAG in (
        state.tags or ()
    )


@given(states, states)
def test_an_undo_moves_parts_only_from_our_values_to_the_recorded_ones(now: State, recorded: State) -> None:
    """No part is given a value that was not recorded, and none is touched that is not as we left it."""
    changes = undoing(PARTS, _as_expect(recorded), now, left=LEFT)
    for part, ours in (("power", "stopped"), ("onboot", False), ("protection", True)):
        change = getattr(changes, part)
        if change is not None:
            assert (getattr(now, part), change) == (ours, getattr(recorded, part))
    assert changes.power != "stopped"
    assert changes.add_tag is None


@given(states, st.sets(st.sampled_from(["power", "onboot", "protection"])))
def test_a_missing_part_of_the_record_is_never_guessed(now: State, missing: set[str]) -> None:
    """A restriction without the record of a part is refused; an undo leaves that part alone."""
    now = replace(now, tags=())
    expect = {part: value for part, value in _as_expect(now).items() if part not in missing}
    if missing:
        with pytest.raises(Refusal, match="missing"):
            restriction(WANT, expect, now)
    changes = undoing(PARTS, expect, now, left=LEFT)
    assert all(getattr(changes, part) is None for part in missing)


@pytest.mark.parametrize("power", [None, "unknown"])
def test_an_unknown_power_is_no_ground_to_act(power: str | None) -> None:
    """What could not be read is never among the reasons of a restriction."""
    now = State(power=power, onboot=True, protection=False, tags=())
    with pytest.raises(Refusal):
        restriction(WANT, {"power": power, "onboot": True, "protection": False}, now)


@pytest.mark.parametrize(
    ("known", "found", "restricts", "gives_back"),
    [("a", "a", True, True), ("a", "b", False, False), ("a", None, False, True), (None, "b", True, True)],
)
def test_the_creation_mark_binds_more_tightly_before_a_restriction(
    known: str | None, found: str | None, restricts: bool, gives_back: bool
) -> None:
    """A mark that cannot be read stops a restriction, not an undo; another one stops both."""
    begin = State(power="running", onboot=True, protection=False, tags=(), marker=found)
    expect = {**_as_expect(begin), **({"marker": known} if known else {})}
    assert _passes(lambda: restriction(WANT, expect, begin)) is restricts
    left = replace(begin, power="stopped", onboot=False, protection=True)
    assert _passes(lambda: undoing(PARTS, expect, left, left=LEFT)) is gives_back


@pytest.mark.parametrize(
    ("known", "found", "restricts"),
    [("a", "a", True), ("a", "b", False), ("a", None, False), (None, "b", True)],
)
def test_another_platform_binds_restrictions_alone(
    known: str | None, found: str | None, restricts: bool
) -> None:
    """Nothing is taken on a platform that it was not decided about; for an undo the guest's own mark decides."""
    expect = {
        "power": "running",
        "onboot": True,
        "protection": False,
        "unprotected_backups": [],
        "role": "wide",
    }
    expect |= {"identity": known} if known else {}
    begin = State(power="running", onboot=True, protection=False, tags=(), role="wide", identity=found)
    for want in (WANT, {"backups": "protected"}, {"role": "narrow"}):
        assert _passes(partial(restriction, want, expect, begin)) is restricts
    left = replace(begin, power="stopped", onboot=False, protection=True)
    assert undoing(PARTS, expect, left, left=LEFT).power == "running"


def _passes(act: Any) -> bool:
    try:
        act()
    except Refusal:
        return False
    return True


def test_backups_are_locked_newest_first() -> None:
    """When a limit leaves some out, the newest are the ones that are kept."""
    kept = tuple(Backup(volid=f"pbs:{n}", protected=False, made=float(n)) for n in (2, 3, 1))
    changes = restriction(
        {"backups": "protected"}, {"unprotected_backups": ["pbs:1", "pbs:2", "pbs:3"]}, State(backups=kept)
    )
    assert list(changes.backups or {}) == ["pbs:3", "pbs:2", "pbs:1"]


def test_what_is_protected_already_is_said_to_be() -> None:
    """A second run, or somebody else's work since: nothing is done, and the report does not claim it as its own."""
    held = (Backup(volid="pbs:1", protected=True, made=1.0), Backup(volid="pbs:2", protected=True, made=2.0))
    changes = restriction(
        {"backups": "protected"}, {"unprotected_backups": ["pbs:1", "pbs:2"]}, State(backups=held)
    )
    assert not changes.anything
    assert changes.notes == ("all listed backups are protected already",)
    closed = restriction({"role": "Suspended"}, {"role": "Customer"}, State(role="Suspended"))
    assert not closed.anything
    assert closed.notes == ("the role is Suspended already",)


def test_an_empty_list_of_backups_is_locked_by_nothing() -> None:
    """A guest without backups needs none locked; a record without the list is no record."""
    assert not restriction({"backups": "protected"}, {"unprotected_backups": []}, State(backups=())).anything
    with pytest.raises(Refusal, match="missing"):
        restriction({"backups": "protected"}, {}, State(backups=()))


def test_a_role_that_is_not_ours_stays() -> None:
    """Opening moves only from a role that closing gives."""
    left = {"roles": ["Suspended", ""]}
    assert undoing(("role",), {"role": "Customer"}, State(role="Suspended"), left=left).role == "Customer"
    other = undoing(("role",), {"role": "Customer"}, State(role="Something"), left=left)
    assert other.role is None
    assert "left alone" in other.notes[0]
    assert not undoing(("role",), {}, State(role="Suspended"), left=left).anything
