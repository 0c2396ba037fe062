"""The suite that is meant for Stripe itself, run against the simulator: the two are kept alike, and it cannot rot."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from billing.clock import SystemClock
from simulators.stripe import Account, serve_in_thread

ROOT = Path(__file__).parents[3]


@pytest.mark.nightly
def test_it_does_what_the_suite_for_stripe_expects() -> None:
    """All but what needs a test clock, which is skipped."""
    account = Account(SystemClock(), random.Random(3), api_key="sk_test_suite")
    with serve_in_thread(account) as url:
        told = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/sandbox"],
            cwd=ROOT,
            env=os.environ
            | {"ABEYANCE_TEST_STRIPE_KEY": "sk_test_suite", "ABEYANCE_TEST_STRIPE_API_BASE": url},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert told.returncode == 0, told.stdout
    counted = re.search(r"(\d+) passed, (\d+) skipped", told.stdout)
    assert counted is not None, told.stdout
    assert (int(counted[1]) >= 14, int(counted[2])) == (True, 1)
