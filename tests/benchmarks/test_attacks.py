"""The benchmark of refusals still runs, and can tell a refusal from an answer."""

import pytest

from benchmarks.attacks import ATTACKS, Refusal, refused, run
from benchmarks.fleet import Fleet


@pytest.mark.parametrize(
    "answer",
    [
        {"data": {"viewer": {"role": "CUSTOMER"}}},
        {"data": None, "errors": []},
        {"data": None, "errors": [{"message": "no code", "extensions": {}}]},
        {"data": None, "errors": [{"extensions": {"code": "INVALID"}}, {"extensions": {"code": "INTERNAL"}}]},
        {"data": {"viewer": None}, "errors": [{"extensions": {"code": "LIMIT_EXCEEDED"}}]},
    ],
)
def test_it_takes_nothing_else_for_a_refusal(answer: dict[str, object]) -> None:
    """An answer with data, without errors, with an error of ours or of no code is none."""
    assert not refused(answer)
    assert refused({"data": None, "errors": [{"extensions": {"code": "LIMIT_EXCEEDED"}}]})


@pytest.mark.parametrize(
    "less", [{"typical": 0.051}, {"grown": 21 * 2**20}, {"refused": False}], ids=["time", "memory", "refusal"]
)
def test_it_wants_every_target_met(less: dict[str, float]) -> None:
    """A refusal that takes too long or too much memory, or is none, is not good."""
    good: dict[str, float] = {"typical": 0.05, "worst": 1, "grown": 20 * 2**20, "refused": True}
    assert Refusal(name="x", **good).good  # type: ignore[arg-type]
    assert not Refusal(name="x", **(good | less)).good  # type: ignore[arg-type]


@pytest.mark.postgres
@pytest.mark.nightly
async def test_it_sends_every_attack(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is sent to a real server, and refused."""
    done = await run(Fleet(accounts=60, servers=300), 2)
    assert [one.name for one in done] == list(ATTACKS)
    assert all(one.refused for one in done), capsys.readouterr().out
