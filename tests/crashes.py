"""A process that dies at any place at which the product reaches its database or the outside, before or after it.

Nothing is listed by hand: every statement and commit of every database client and every request on the wire is a place.
Reached through the fixture `deaths`.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tortoise.backends.asyncpg import client as asyncpg_client
from tortoise.backends.sqlite import client as sqlite_client


class Died(BaseException):
    """The process is gone: nothing catches it."""


class Deaths:
    """Counts the places that are reached, and dies at the chosen one."""

    #: What a test suppresses.
    Died = Died
    #: What is raised at the chosen place instead: a failure that the product lives to see.
    error: type[BaseException] = Died

    def __init__(self, patch: pytest.MonkeyPatch, wire: Any) -> None:
        self.at, self.count, self.after = 0, 0, False
        #: What was reached: proof that the search is not empty.
        self.reached: set[str] = set()
        for module in (sqlite_client, asyncpg_client):
            for _, owner in inspect.getmembers(module, inspect.isclass):
                for name, real in list(vars(owner).items()):
                    if _reaches(name, real):
                        patch.setattr(owner, name, self._dying(real, name))
        send = type(wire).handle_async_request
        patch.setattr(type(wire), "handle_async_request", self._dying(send, "request"))

    def _dying(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def dying(*given: Any, **more: Any) -> Any:
            if not self.at:
                return await real(*given, **more)
            self.count += 1
            self.reached.add(name)
            dies = self.count == self.at
            if dies and not self.after:
                raise self.error("before")
            answer = await real(*given, **more)
            if dies:
                raise self.error("after")
            return answer

        return dying

    def places(self, *, every: int = 1) -> Iterator[int]:
        """Yield one place after the other, before and after it, until what ran since `arm` got through alive."""
        for self.after in (False, True):
            place = 1
            while True:
                yield place
                if self.count < place:
                    break
                place += every

    def arm(self, place: int) -> None:
        """Die at this place from now on."""
        self.at, self.count = place, 0

    def disarm(self) -> None:
        """Die no more, and count no more, until the next place."""
        self.at = 0


def _reaches(name: str, member: object) -> bool:
    statement = name.startswith("execute") or name == "commit"
    return statement and callable(member) and inspect.iscoroutinefunction(inspect.unwrap(member))
