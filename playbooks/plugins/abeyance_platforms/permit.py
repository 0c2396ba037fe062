"""The last look before each guest: is this step still wanted, and is that answer fresh?

Owns the reading of the permit file, which whoever started the run keeps rewriting. Decides nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .reports import Refusal, Retry

MAX_AGE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Permit:
    """The permit of a run; without a file (a run by hand) nothing is ever void and nothing too old.

    `boottime` returns the seconds of CLOCK_BOOTTIME, which the writer of the file uses too: it goes on while
    the machine sleeps and no change of the wall clock moves it.
    """

    path: Path | None
    boottime: Callable[[], float]

    def check(self, step: str, *, restricts: bool) -> None:
        """Raise `Refusal` when `step` is void or, for a restriction, when the permit is old or unreadable."""
        if self.path is None:
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            at, void = float(content["at"]), frozenset(content["void"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if restricts:
                raise Refusal(f"the permit cannot be read: {type(error).__name__}", Retry.LATER) from None
            return
        if step in void:
            raise Refusal("the step is void: what asked for it does not hold any more", Retry.LATER)
        age = self.boottime() - at
        if restricts and not (math.isfinite(age) and -1 <= age <= MAX_AGE_SECONDS):
            raise Refusal(
                f"the permit is {age:.1f} s old, at most {MAX_AGE_SECONDS:.0f} are allowed", Retry.LATER
            )
