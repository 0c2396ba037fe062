"""A serving process spares the garbage collector what it keeps anyway."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from api import cli, operations
from api.cli import operating
from api.long_lived import THRESHOLDS, keep_what_is_loaded


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class _Circle:
    def __init__(self) -> None:
        self.itself = self


def test_it_still_collects_what_comes_later() -> None:
    """What was loaded is left alone, and a circle made afterwards is freed."""
    keep_what_is_loaded()
    assert gc.get_freeze_count() > 1_000
    assert gc.get_threshold() == THRESHOLDS
    later = weakref.ref(_Circle())
    gc.collect()
    assert later() is None


def test_serving_calls_it_once_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command does it when the schema is built, not before."""

    async def served(_: object, *, ready: object) -> None:
        assert gc.get_threshold() != THRESHOLDS
        assert callable(ready)
        ready("http://127.0.0.1:1")

    monkeypatch.setattr(operations, "serve", served)
    monkeypatch.setattr(operating, "_settings", lambda: None)
    operating.serve()
    assert gc.get_threshold() == THRESHOLDS


def test_a_command_collects_less_often_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forecast of a big fleet would else go through its objects again and again."""
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(cli, "app", lambda: asked.append(gc.get_threshold()))
    cli.main()
    assert asked == [THRESHOLDS]
