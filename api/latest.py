"""One answer for everybody who asks at the same time.

Owns that alone: whoever needs no token to ask can have it made no more than once at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass(kw_only=True, eq=False)
class Latest(Generic[Answer]):
    """Makes one answer at a time, for all who ask meanwhile and for `seconds` after it."""

    make: Callable[[], Awaitable[Answer]]
    seconds: float = 0.0
    _making: asyncio.Task[Answer] | None = None
    _good_until: float = 0.0

    async def get(self) -> Answer:
        """Return the latest answer; raises what making it raised."""
        now = asyncio.get_running_loop().time()
        if self._making is None or (self._making.done() and now >= self._good_until):
            self._making = asyncio.create_task(self._made(), name="latest")
        return await asyncio.shield(self._making)

    async def _made(self) -> Answer:
        try:
            return await self.make()
        finally:
            self._good_until = asyncio.get_running_loop().time() + self.seconds
