"""A server that starts one run when it starts, as the product does; tests end it in every way. Not a test itself.

Arguments: state directory, playbooks, inventory, the guests as JSON. Prints the run's id, then the verdict's state.
"""

import json
import sys
from pathlib import Path
from typing import Any

import uvicorn

from billing.clock import SystemClock
from reconciler.runs.execution import Execution
from reconciler.runs.request import RunRequest


def request(playbooks: Path, inventory: Path, guests: list[dict[str, Any]]) -> RunRequest:
    nodes = frozenset(str(guest["node"]) for guest in guests)
    return RunRequest(
        playbook=playbooks / "act.yml",
        playbooks=playbooks,
        inventory=inventory,
        target_nodes=tuple(sorted(nodes)),
        known_nodes=nodes,
        guests=tuple(guests),
        timeout_seconds=240,
    )


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "lifespan"
    execution = Execution(Path(sys.argv[1]), SystemClock())
    await receive()
    handle = await execution.start(request(Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])))
    print(handle.run_id, flush=True)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await execution.aclose()
    verdict = await handle.wait()
    print(verdict.state.value, verdict.verified_gone, flush=True)
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=0, log_level="error")
