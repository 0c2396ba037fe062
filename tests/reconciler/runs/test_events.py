"""What leaves a run: reports read field by field, and no secret in any spelling."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from reconciler.rules.outcome import Outcome, Retry, TargetReport
from reconciler.runs.events import BLANK, BoundedLog, Redactor, harvest, read_report

TARGETS = frozenset({"srv-1"})
GOOD: dict[str, Any] = {
    "id": "srv-1",
    "outcome": "changed",
    "before": {"power": "running"},
    "after": {"power": "stopped"},
}
NODES = frozenset({"n1"})


def event(result: object, *, kind: str = "runner_on_ok", host: str = "n1") -> dict[str, object]:
    return {"event": kind, "event_data": {"host": host, "task": "Stop", "res": result}}


def read(**change: Any) -> TargetReport:
    report = read_report(GOOD | change, TARGETS)
    assert isinstance(report, TargetReport)
    return report


def test_it_reads_a_report_as_it_stands() -> None:
    """A report of the contract is taken whole and without a flag."""
    assert read() == TargetReport(
        id="srv-1", outcome=Outcome.CHANGED, before={"power": "running"}, after={"power": "stopped"}
    )
    refused = read(outcome="refused", retry="later", message="locked (backup)", after=None)
    assert (refused.outcome, refused.retry, refused.message) == (
        Outcome.REFUSED,
        Retry.LATER,
        "locked (backup)",
    )
    assert not refused.flags


@pytest.mark.parametrize(
    "outcome", [None, "", "ok", "success", "CHANGED", "Changed", 1, True, ["changed"], {}]
)
def test_it_takes_an_outcome_it_does_not_know_for_unknown(outcome: object) -> None:
    """Only the five words count, exactly spelled."""
    report = read(outcome=outcome)
    assert report.outcome is Outcome.UNKNOWN
    assert report.flags


@pytest.mark.parametrize("outcome", ["changed", "unchanged"])
@pytest.mark.parametrize(
    "after", [None, {}, {"power": None, "node": None}, "stopped", ["stopped"], {"text": "x" * 100_000}]
)
def test_it_takes_success_that_was_not_read_back_for_unknown(outcome: str, after: object) -> None:
    """Done means read back: without the state after the act nothing is done."""
    report = read(outcome=outcome, after=after)
    assert report.outcome is Outcome.UNKNOWN
    assert report.flags


def test_it_flags_oddities_that_change_nothing() -> None:
    """An extra key, a strange retry and a message that is no text are noted; the outcome stands."""
    odd = read(extra=1, retry="soon", message=["x"])
    assert odd.outcome is Outcome.CHANGED
    assert odd.retry is None
    assert len(odd.flags) == 3


@pytest.mark.parametrize(
    "raw", [None, "changed", [], {}, GOOD | {"id": "srv-2"}, GOOD | {"id": 1}, GOOD | {"id": None}]
)
def test_it_drops_a_report_about_no_target_of_the_run(raw: object) -> None:
    """What is about somebody else, or about nobody, is only a problem to be recorded."""
    assert isinstance(read_report(raw, TARGETS), str)


def test_it_makes_a_message_fit_for_a_screen() -> None:
    """Terminal sequences, line breaks and text that reorders itself are taken out; length is bounded."""
    report = read(message="a\x1b[31mb\r\nc\u202ed" + "x" * 5000)
    assert report.message.startswith("ab cdxxx")
    assert len(report.message) == 1000


@pytest.mark.parametrize(
    "kind", ["runner_on_ok", "runner_on_failed", "runner_item_on_ok", "runner_item_on_failed"]
)
def test_it_takes_reports_and_observations_from_results(kind: str) -> None:
    """Results of whole tasks and of loop items count, failed ones too."""
    taken = harvest(
        event({"abeyance_reports": [GOOD], "abeyance_observation": {"a": 1}}, kind=kind), NODES, genuine=True
    )
    assert taken is not None
    assert (taken.node, taken.reports, taken.observation, taken.problems) == ("n1", (GOOD,), {"a": 1}, ())


@pytest.mark.parametrize(
    "kind", ["runner_on_start", "runner_retry", "verbose", "playbook_on_stats", "runner_on_skipped"]
)
def test_it_takes_nothing_from_other_events(kind: str) -> None:
    """An attempt that is repeated, or a text that was printed, is no result."""
    assert harvest(event({"abeyance_reports": [GOOD]}, kind=kind), NODES, genuine=True) is None


@pytest.mark.parametrize(
    ("result", "host", "genuine"),
    [
        ({"abeyance_reports": [GOOD]}, "n1", False),
        ({"abeyance_reports": [GOOD]}, "n9", True),
        ({"abeyance_reports": {"srv-1": GOOD}}, "n1", True),
        ({"abeyance_observation": ["a"]}, "n1", True),
        ({}, "n1", True),
    ],
)
def test_it_flags_what_it_does_not_believe(result: object, host: str, genuine: bool) -> None:
    """Imitated output, another node's result, a wrong shape and an emptied result give a problem and no report."""
    taken = harvest(event(result, host=host), NODES, genuine=genuine)
    assert taken is not None
    assert taken.problems
    assert (taken.reports, taken.observation) == ((), None)


SECRET = 's3cr3t/"canary"\\+=\u00e9'


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(json.dumps({"a": SECRET}))[1:-1],
        repr(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        f"user:{SECRET}@host",
    ],
)
def test_it_blanks_out_a_secret_in_every_spelling(spelled: str) -> None:
    """Raw, quoted, escaped, percent-encoded and base64 alike, in texts, values and keys."""
    redactor = Redactor([SECRET])
    for cleaned in (redactor.text(spelled), json.dumps(redactor.value({"a": [spelled], spelled: 1}))):
        assert BLANK in cleaned
        assert "canary" not in cleaned
        assert base64.b64encode(SECRET.encode()).decode()[:12] not in cleaned


def test_it_leaves_text_alone_without_secrets() -> None:
    """No secrets means no change."""
    assert Redactor([]).value({"a": ["b", 1, None, True]}) == {"a": ["b", 1, None, True]}


def test_it_keeps_the_end_of_a_long_log() -> None:
    """A log is bounded, says that it was cut, and keeps the end, where the failure is told."""
    log = BoundedLog(Redactor(["hunter2hunter2"]), limit=1000)
    for number in range(500):
        log.add(f"line {number} hunter2hunter2\x1b[0m\r\n")
    text = log.text()
    assert len(text) < 1100
    assert text.startswith("[earlier output was dropped]")
    assert text.endswith(f"line 499 {BLANK}")
    log.add("y" * 5000)
    assert log.text().endswith("yyy")
    assert len(log.text()) < 1100
