"""Stories on real backends: see `tests/staging.py` for how they are told."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_STAGING = "abeyance_tests_staging"
if (
    _STAGING not in sys.modules
):  # the tests are no package, so a module beside them is loaded by its path, once
    _spec = importlib.util.spec_from_file_location(_STAGING, Path(__file__).parents[1] / "staging.py")
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_STAGING] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_STAGING])


@pytest.fixture(autouse=True)
def theatre(tmp_path: Path) -> Iterator[Any]:
    """Where the test's stories are staged; each ends by looking for calls that would have destroyed something."""
    staged = sys.modules[_STAGING].Theatre(folder=tmp_path)
    yield staged
    assert staged.destroying() == []
