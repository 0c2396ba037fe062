"""The one whole story, as the demo tells it, on both databases."""

from typing import Any

import pytest

from api.demo.story import Story

pytestmark = pytest.mark.slow


async def test_it_suspends_and_gives_back_exactly_what_it_took(theatre: Any, database_url: str) -> None:
    """Overdue, told, locked, stopped, refused, replayed, paid, restored: every turn is checked in the world."""
    said: list[str] = []
    async with theatre.tale(database_url=database_url) as tale:
        story = Story(scene=tale.scene, say=said.append, patience=200)
        await story.tell()
    assert story.checks >= 30, said
