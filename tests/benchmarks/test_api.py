"""The benchmark of the API still runs: in small, for what it does and not for what it measures."""

import pytest

from benchmarks.api import Result, run
from benchmarks.fleet import Fleet


@pytest.fixture
def small() -> Fleet:
    """A fleet that is generated in a moment; the busy account has its servers and invoices all the same."""
    return Fleet(accounts=60, servers=300)


@pytest.mark.postgres
@pytest.mark.nightly
async def test_it_measures_every_ratio_without_an_error(
    small: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """It compares three questions with what is written by hand, and every answer is a good one."""
    results: list[Result] = await run(small, 10)
    assert [one.name for one in results] == [
        "portal_home_vs_plain",
        "gates_100_vs_plain",
        "webhook_vs_insert",
    ]
    for one in results:
        assert (one.ours.errors, one.plain.errors) == (0, 0), one.text()
        assert one.ours.p50 <= one.ours.p99
        assert one.ratio > 0
    assert "portal_home_vs_plain = " in capsys.readouterr().out
