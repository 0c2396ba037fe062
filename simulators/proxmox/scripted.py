"""The mark of the methods with which tests and demos script the cluster.

Owns that each of them sees the present state, alone, and may be called by name over `/_simulator/…`.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

_Method = TypeVar("_Method", bound=Callable[..., Any])

SCRIPTED: set[str] = set()
"""The names of the methods that `/_simulator/…` may call."""


def scripted(method: _Method) -> _Method:
    """Mark a method of the cluster: it runs with everything done that is due, and nobody else at work."""

    @functools.wraps(method)
    def alone(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.present():
            return method(self, *args, **kwargs)

    SCRIPTED.add(method.__name__)
    return cast("_Method", alone)
