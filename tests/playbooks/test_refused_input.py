"""Nothing but plain ids reaches a play, a run matches exactly what it lists, and no text is ever a template."""

from pathlib import Path
from typing import Any

import pytest
from abeyance_platforms.targets import BadInputError, parse_nodes, parse_targets

GOOD = {
    "id": "s1",
    "kind": "LXC",
    "guest": "1031",
    "node": "pve1",
    "step": "step-1",
    "generation": 1,
    "expect": {},
}
PAYLOADS = (
    "{{ lookup('pipe', 'touch CANARY') }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    "{# #}",
    "$(touch CANARY)",
    "`touch CANARY`",
    "1031; touch CANARY",
    "1031 && x",
    "1031\n",
    "../1031",
    "-n",
    "--kill",
    "",
    "*",
    "all",
    "0",
    "99",
    "１０３１",
    "1031\x00",
    "a" * 300,
)
TEXTS = ("id", "kind", "guest", "node", "step")
EXPECTED = ("power", "node", "role", "digest", "marker", "busy", "onboot")


@pytest.mark.parametrize("payload", PAYLOADS[:9])
@pytest.mark.parametrize("field", [*TEXTS, "pool", "role"])
def test_it_refuses_text_that_is_no_id(field: str, payload: str) -> None:
    """No template, no shell, no path and no second line gets through any field of a target."""
    pool = {"id": "s1", "kind": "pool", "pool": "customer-1"}
    target = {**(pool if field == "pool" else GOOD), field: payload}
    with pytest.raises(BadInputError, match=field):
        parse_targets([target], "proxmox")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_it_refuses_a_guest_that_is_no_guest_of_the_platform(payload: str) -> None:
    """A VMID is a number in range; a container's name begins with a letter or digit."""
    with pytest.raises(BadInputError, match="guest"):
        parse_targets([{**GOOD, "guest": payload}], "proxmox")
    if not payload.isascii() or not payload.isalnum() or len(payload) > 63:
        with pytest.raises(BadInputError, match="guest"):
            parse_targets([{**GOOD, "guest": payload}], "lxc")


@pytest.mark.parametrize("payload", PAYLOADS[:4])
def test_it_refuses_text_in_what_was_recorded(payload: str) -> None:
    """The record is data as well: its texts match patterns, its lists hold names, its keys are known."""
    for key in EXPECTED:
        with pytest.raises(BadInputError, match=key):
            parse_targets([{**GOOD, "expect": {key: payload}}], "proxmox")
    for key in ("unprotected_backups", "backups", "tags"):
        with pytest.raises(BadInputError, match=key):
            parse_targets([{**GOOD, "expect": {key: [payload]}}], "proxmox")
    with pytest.raises(BadInputError, match="unknown key"):
        parse_targets([{**GOOD, "expect": {payload: 1}}], "proxmox")
    with pytest.raises(BadInputError, match="unknown key"):
        parse_targets([{**GOOD, payload: 1}], "proxmox")


@pytest.mark.parametrize(
    "targets",
    [
        "1031",
        {"id": "s1"},
        ["1031"],
        [GOOD, GOOD],
        [GOOD, {**GOOD, "id": "s2"}],
        [{**GOOD, "generation": -1}],
        [{**GOOD, "generation": True}],
        [{**GOOD, "expect": ["power"]}],
        [{**GOOD, "kind": "workload"}],
    ],
)
def test_it_refuses_targets_of_another_shape(targets: Any) -> None:
    """A list of mappings, each target once, each of a kind that the platform has."""
    with pytest.raises(BadInputError):
        parse_targets(targets, "proxmox")


@pytest.mark.parametrize(
    "nodes", [None, [], "pve1", ["all"], ["pve*"], ["!pve1"], ["pve1", "pve1"], ["@file"], [1]]
)
def test_it_refuses_nodes_that_select_instead_of_naming(nodes: Any) -> None:
    """Patterns, groups of everything, files and repetitions are no names."""
    with pytest.raises(BadInputError, match="target_nodes"):
        parse_nodes(nodes)


def test_a_play_never_evaluates_a_payload(site: Any, tmp_path: Path) -> None:
    """Ansible would evaluate these variables by itself; the play refuses them before it looks at them again."""
    canary = tmp_path / "canary"
    payload = "{{ lookup('pipe', 'touch " + str(canary) + "') }}"
    good = site.target(1031)
    before = site.everything()
    for broken in (
        {**good, "guest": payload},
        {**good, "expect": {**good["expect"], "marker": payload}},
        {**good, "expect": {payload: "running"}},
    ):
        result = site.play("stop_guests", nodes=["pve1"], guests=[broken])
        assert result.code != 0
        assert "guests[0]" in result.failures[0]
        assert not result.reports
    assert not canary.exists()
    assert site.everything() == before
    assert not site.cluster.calls


def test_a_play_runs_on_exactly_the_nodes_that_it_lists(site: Any) -> None:
    """No node, all nodes, unknown nodes and guests of other nodes end the run before it begins."""
    bare = site.play("stop_guests", nodes=[], guests=[site.target(1031)])
    everything = site.play("stop_guests", nodes=["all"], guests=[site.target(1031)])
    stray = site.play("stop_guests", nodes=["pve2"], guests=[site.target(1031)])
    unknown = site.play("stop_guests", nodes=["pve1", "pve9"], guests=[site.target(1031)])
    nothing = site.play("stop_guests", nodes=["pve1"], guests=[])
    assert "target_nodes" in everything.failures[0]
    assert "pve1" in stray.failures[0]
    assert "target_nodes" in unknown.failures[0]
    assert "guests" in nothing.failures[0]
    assert not any(run.reports for run in (bare, everything, stray, unknown, nothing))
    assert not site.cluster.calls


def test_a_site_in_plan_mode_is_only_looked_at(make_site: Any) -> None:
    """What takes something away does not run there, whoever starts it; predicting and giving back do."""
    site = make_site(site_mode="plan")
    before = site.everything()
    assert "site_mode" in site.play("stop_guests", guests=[site.target(1031)]).failures[0]
    assert site.play("stop_guests", guests=[site.target(1031)], check=True).outcome("s1031") == "changed"
    assert site.everything() == before
    assert site.play("start_guests", guests=[site.target(1031)]).outcome("s1031") == "unchanged"
