"""`abeyance serve` in a process of its own, at a brisk pace, that ends itself by SIGKILL at a point told from outside.

Arguments: a file to note the ids of all runs in, and optionally the point as JSON: `{"where": "module:name", "when":
"before" or "after", "about": a text that the call's arguments have to mention}`. Settings come from the environment.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from api import operations
from api.runtime import Pace
from api.settings import load
from billing import notices
from billing.stripe import processing
from reconciler.runs.execution import Execution

#: A claim of a process that died comes back after this; the product waits minutes, which only cost time here.
LEASE = timedelta(seconds=2)
PACE = Pace(tick=1.0, observe=15.0, sweep=2.0, scale=20.0)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(point: Mapping[str, str]) -> None:
    """Let the process die before or after the first call of a coroutine function that is about something."""
    module, _, path = point["where"].partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = getattr(owner, name)

    async def armed(*arguments: Any, **named: Any) -> Any:
        kinds = [str(getattr(one, "kind", "")) for one in arguments]
        meant = point.get("about", "") in f"{arguments} {named} {kinds}"
        if meant and point["when"] == "before":
            _die()
        result = await original(*arguments, **named)
        if meant:
            _die()
        return result

    setattr(owner, name, armed)


def _note_runs(file: Path) -> None:
    start = Execution.start

    async def noted(self: Execution, request: Any) -> Any:
        with file.open("a") as out:
            out.write(f"{request.run_id}\n")
        return await start(self, request)

    Execution.start = noted  # type: ignore[method-assign]


def _main(file: str, point: str = "") -> None:
    # Whoever started us reads one line; everything else that is printed goes where nobody has to read it.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    notices.LEASE = LEASE
    processing._LEASE = LEASE
    _note_runs(Path(file))
    if point:
        _arm(json.loads(point))
    asyncio.run(operations.serve(load(), ready=lambda url: print(url, file=answer, flush=True), pace=PACE))


if __name__ == "__main__":
    _main(*sys.argv[1:])
