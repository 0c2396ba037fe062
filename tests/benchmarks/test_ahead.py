"""The benchmark of the forecast still runs: in small, for what it does and not for what it measures."""

import pytest

from benchmarks.ahead import run


@pytest.mark.postgres
async def test_it_walks_everybody_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    """Each of them changes its stage within the month."""
    result = await run(200, 30)
    assert result.changes >= 200
    assert result.ratio > 0
    assert "forecast_vs_reading = " in capsys.readouterr().out
