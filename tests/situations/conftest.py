"""What situations share beside `tests/moved.py`: a ladder for what happens around a stop."""

import pytest


@pytest.fixture
def stops() -> dict[str, str]:
    """A ladder that takes power alone, five days after the first notice: as few plays as a stop needs."""
    text = """
stages:
  past_due: {after: PT0S, notice: payment_overdue}
  suspended: {after: PT120H, min_notice: PT24H, effects: [stop_servers], notice: suspended}
"""
    return {"standard": text}
