"""What the demo says, and what README.md says of it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.demo.pace import STAYING, Speed, policies
from api.demo.telling import YOURSELF, changes
from billing.rules.durations import parse_duration

README = (Path(__file__).resolve().parents[3] / "README.md").read_text()


def step(kind: str, account: str, server: str | None = None, **given: Any) -> dict[str, Any]:
    """Return a step as a plan keeps it."""
    least = {
        "to_stage": None,
        "held_back_by": None,
        "held_back_reason": None,
        "reason": "payment is overdue.",
    }
    return {"kind": kind, "account": account, "server": server} | least | given


def test_the_readme_shows_the_lines_that_the_demo_prints() -> None:
    """In one block, in their order and word for word."""
    assert "```sh\n" + "\n".join(YOURSELF) + "\n```" in README
    assert "demo.env" in README


def test_it_tells_the_servers_of_an_account_together() -> None:
    """One line for what is to be done to them, another for what waits, with its reason."""
    steps = [
        step("ADVANCE", "one", to_stage="PAST_DUE"),
        step("STOP", "two", "a"),
        step("STOP", "two", "b"),
        step("STOP", "three", "c", held_back_by="ORDER", held_back_reason="access is closed first"),
    ]
    assert changes(steps, []) == [
        "+ ADVANCE to PAST_DUE one: payment is overdue",
        "+ STOP two, 2 servers: payment is overdue",
        "· STOP three, 1 server: waits: access is closed first",
    ]


def test_it_tells_nothing_twice() -> None:
    """What the plan before had is not told again, however many of its servers are left; what ceased to wait is."""
    before = [
        step("STOP", "two", "a"),
        step("STOP", "two", "b"),
        step("STOP", "two", "c", held_back_by="ORDER"),
    ]
    assert changes(before[:1], before) == []
    assert changes([step("STOP", "two", "c")], before[2:]) == ["+ STOP two, 1 server: payment is overdue"]


@pytest.mark.parametrize("speed", ["72h=30s", "72h=6s"])
def test_what_stays_at_a_stage_goes_on_at_the_usual_time(speed: str) -> None:
    """No banner names a date that is years ahead: the stages after the one that is shown come in days, and in order."""
    for name, text in policies(Speed.parse(speed)).items():
        # A fresh warning, as after an extension that was taken back, holds no stage up for a real day.
        renewed = parse_duration(yaml.safe_load(text)["notices"]["repeat_every"])
        assert renewed == Speed.parse(speed).real(timedelta(days=1))
        spans = [parse_duration(rung["after"]) for rung in yaml.safe_load(text)["stages"].values()]
        assert spans == sorted(set(spans)), name
        assert spans[-1] <= timedelta(days=90)
        stays = name in STAYING and STAYING[name] != "decommission_review"
        assert (spans[-1] == timedelta(days=90)) is stays
