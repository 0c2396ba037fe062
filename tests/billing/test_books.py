"""The daily look at the books."""

from typing import Any

import pytest
import structlog

from billing import books, ledger
from billing.models import WorkItem, WorkState

pytestmark = pytest.mark.usefixtures("sqlite_database")


async def test_it_finds_nothing_in_books_that_add_up(clock: Any, factory: Any, wallet: Any) -> None:
    """No log, no work item."""
    await wallet.cash(await factory.account(), 500)
    with structlog.testing.capture_logs() as logs:
        assert await books.check(clock) == []
    assert (logs, await WorkItem.all().count(), await books.in_doubt()) == ([], 0, None)


async def test_it_tells_of_a_difference_once_until_it_is_gone(
    clock: Any, factory: Any, wallet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loudly in the log at each look, in the work queue as one item, which a clean look closes."""
    wrong = [f"purse {number} holds 1, its transfers add up to 2" for number in range(30)]

    async def differs() -> list[str]:
        return wrong

    with monkeypatch.context() as broken, structlog.testing.capture_logs() as logs:
        broken.setattr(ledger, "proven", differs)
        assert [await books.check(clock), await books.check(clock)] == [wrong, wrong]
    assert [(line["log_level"], line["differences"]) for line in logs] == [("error", 30)] * 2
    item = await books.in_doubt()
    assert item is not None
    assert item.detail.splitlines()[0] == wrong[0]
    assert "and 10 more" in item.detail
    assert await books.check(clock) == []
    assert (await WorkItem.get()).state is WorkState.RESOLVED
    assert await books.in_doubt() is None
