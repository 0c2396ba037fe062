"""The permit: five seconds, by the clock that nobody sets."""

import json
import math
from pathlib import Path

import pytest
from abeyance_platforms.permit import Permit
from abeyance_platforms.reports import Refusal, Retry

NOW = 1000.0


def _permit(path: Path, content: object) -> Permit:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return Permit(path=path, boottime=lambda: NOW)


def _refused(permit: Permit, step: str, *, restricts: bool) -> bool:
    try:
        permit.check(step, restricts=restricts)
    except Refusal as refusal:
        return refusal.retry is Retry.LATER
    return False


@pytest.mark.parametrize(
    ("age", "refused"),
    [(0, False), (4.999, False), (5, False), (5.001, True), (3600, True), (-0.9, False), (-2, True)],
)
def test_it_is_good_for_five_seconds(tmp_path: Path, age: float, refused: bool) -> None:
    """A restriction needs a fresh permit, and one from the future is not fresh; giving back needs none."""
    permit = _permit(tmp_path / "permit", {"at": NOW - age, "void": []})
    assert _refused(permit, "s1", restricts=True) is refused
    assert not _refused(permit, "s1", restricts=False)


def test_it_is_read_again_each_time(tmp_path: Path) -> None:
    """What becomes void while a run works is void for the very next guest."""
    path = tmp_path / "permit"
    permit = _permit(path, {"at": NOW, "void": []})
    assert not _refused(permit, "s1", restricts=True)
    path.write_text(json.dumps({"at": NOW, "void": ["s1"]}))
    assert _refused(permit, "s1", restricts=True)
    assert _refused(permit, "s1", restricts=False)
    assert not _refused(permit, "s2", restricts=True)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"at": 1000}', '{"at": "x", "void": []}', '{"at": null, "void": []}']
)
def test_one_that_cannot_be_read_permits_no_restriction(tmp_path: Path, content: str) -> None:
    """Half a file is no permit."""
    permit = _permit(tmp_path / "permit", content)
    assert _refused(permit, "s1", restricts=True)
    assert not _refused(permit, "s1", restricts=False)


def test_one_without_a_number_permits_nothing(tmp_path: Path) -> None:
    """NaN compares with nothing, so it is never fresh."""
    assert _refused(_permit(tmp_path / "permit", '{"at": NaN, "void": []}'), "s1", restricts=True)
    assert _refused(_permit(tmp_path / "permit", {"at": -math.inf, "void": []}), "s1", restricts=True)


def test_a_run_by_hand_has_none(tmp_path: Path) -> None:
    """Without a file nothing is void; with a file that is missing nothing is restricted."""
    assert not _refused(Permit(path=None, boottime=lambda: NOW), "s1", restricts=True)
    assert _refused(Permit(path=tmp_path / "none", boottime=lambda: NOW), "s1", restricts=True)
