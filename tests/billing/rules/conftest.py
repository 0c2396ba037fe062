"""The shipped policies, and one instant to count from."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

import billing
from billing.policy_reader import read_policy
from billing.rules.policy import Policy

TEMPLATES = ("payment_overdue", "final_notice", "suspended", "retained", "final_warning")


def _shipped(name: str) -> Policy:
    folder = Path(billing.__file__).parent / "policies"
    return read_policy(name, (folder / f"{name}.yaml").read_text("utf-8"), templates=TEMPLATES)


@pytest.fixture(scope="session")
def standard() -> Policy:
    """Return the shipped standard policy."""
    return _shipped("standard")


@pytest.fixture(scope="session")
def considerate() -> Policy:
    """Return the shipped considerate policy."""
    return _shipped("considerate")


@pytest.fixture(scope="session")
def start() -> datetime:
    """Return the instant at which the debts of these tests begin."""
    return datetime(2026, 11, 2, 8, tzinfo=UTC)
