"""The plays know by themselves what an id looks like, and so does the product: both mean the same."""

import re

import pytest
from abeyance_platforms import targets
from hypothesis import given
from hypothesis import strategies as st

from reconciler import overview, readings
from reconciler.readings import Reading
from reconciler.rules.terms import StepKind
from reconciler.runs import request
from reconciler.runs.request import RunRefusedError

#: What the product may say of a target, and what a play takes it for.
SAME = {
    "a target's id": (request._ID, targets.ID),
    "a role": (request._ROLE, targets.ROLE),
    "who answers": (overview._IDENTITY, targets.IDENTITY),
}
#: What only a play knows in detail, by platform; the product lets all of it through.
NARROWER = {
    "a Proxmox VE guest": targets.VMID,
    "a container": targets.CONTAINER,
    "a pool": targets.POOL,
}


@pytest.mark.parametrize("what", SAME)
def test_the_product_and_the_plays_take_the_same(what: str) -> None:
    """What one lets pass, the other takes; a run is refused before it starts, and not half way."""
    ours, theirs = SAME[what]
    assert ours.pattern == theirs.pattern


@pytest.mark.parametrize("what", NARROWER)
@given(data=st.data())
def test_the_product_refuses_no_guest_that_a_play_would_take(what: str, data: st.DataObject) -> None:
    """Only the play knows its platform: the product's own pattern is wider than each."""
    name = data.draw(st.from_regex(NARROWER[what], fullmatch=True))
    assert request._GUEST.fullmatch(name)


@given(st.one_of(st.from_regex(request._NODE, fullmatch=True), st.text(max_size=12), st.sampled_from(
    ["all", "ALL", "ungrouped", "pve1", "all1", "a" * 100, "a" * 101, "pve1\n", "*", "pve[1:2]", "!pve1"]
)))  # fmt: skip
def test_a_node_that_the_product_names_is_one_to_a_play(name: str) -> None:
    """And neither takes a word or a pattern that selects several."""
    try:
        request._check_nodes([name], frozenset({name}))
    except RunRefusedError:
        assert targets.NODE.fullmatch(name) is None or name.lower() in request._SELECTING_NAMES
    else:
        assert targets.parse_nodes([name]) == (name,)


@pytest.mark.parametrize(
    "kind", [kind for kind in StepKind if kind.restricts and kind is not StepKind.ADVANCE]
)
def test_a_play_takes_what_a_step_commits(kind: StepKind) -> None:
    """Every part of it by its name and in its form."""
    read = Reading.of(
        {"power": "running", "onboot": True, "protection": False, "digest": "ab12", "marker": "ctime:17",
         "unprotected_backups": ["pbs:backup/ct/101/2026-11-20T09:00:00Z"], "role": "Customer", "tags": ["x"],
         "identity": "CA " + ":".join(["5A"] * 32), "busy": "locked: backup", "node": "pve1"}
    )  # fmt: skip
    expect = readings.expectation(kind, read)
    where = (
        {"kind": "pool", "pool": "p"} if kind is StepKind.CLOSE_ACCESS else {"kind": "lxc", "guest": "101"}
    )
    node = {} if "pool" in where else {"node": "pve1"}
    (target,) = targets.parse_targets([{"id": "one", **where, **node, "expect": expect}], "proxmox")
    assert set(target.expect) == set(expect)
    assert re.fullmatch("CA .*", str(target.expect["identity"]))
