"""The lines that a supervisor and its parent exchange: one JSON object each.

Owns the spelling of both directions. To the supervisor: the spec first, then permits; the end of the input is the
order to stop. From it: reports and observations as they come, one verdict last.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.runs.request import Depth, RunRefusedError, RunRequest

#: The longest line either side accepts. A result is at most 4,000,000 characters, each at most six bytes here.
MAX_LINE = 32 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A request with what the supervisor must know beside it.

    `memory` is where the run's folder is made if there is room; `permit_at` is in CLOCK_BOOTTIME seconds.
    """

    request: RunRequest = field(repr=False)
    state_dir: Path
    memory: Path
    parent: int
    permit_at: float


def line(message: Mapping[str, object]) -> bytes:
    """Return one message as it is written."""
    return json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n"


def spec_line(spec: Spec) -> bytes:
    """Return the first line that a supervisor is given; it holds the secrets and goes through a pipe only."""
    request = spec.request
    return line(
        {
            "run_id": request.run_id,
            "playbook": str(request.playbook),
            "playbooks": str(request.playbooks),
            "inventory": str(request.inventory),
            "target_nodes": list(request.target_nodes),
            "known_nodes": sorted(request.known_nodes),
            "guests": [dict(guest) for guest in request.guests],
            "depth": request.depth,
            "check": request.check,
            "void": sorted(request.void),
            "secrets": dict(request.secrets),
            "timeout_seconds": request.timeout_seconds,
            "state_dir": str(spec.state_dir),
            "memory": str(spec.memory),
            "parent": spec.parent,
            "permit_at": spec.permit_at,
        }
    )


def read_spec(raw: bytes) -> Spec:
    """Return the spec that `spec_line` wrote; raises `RunRefusedError` without repeating any of it."""
    try:
        said = json.loads(raw)
        request = RunRequest(
            run_id=said["run_id"],
            playbook=Path(said["playbook"]),
            playbooks=Path(said["playbooks"]),
            inventory=Path(said["inventory"]),
            target_nodes=tuple(said["target_nodes"]),
            known_nodes=frozenset(said["known_nodes"]),
            guests=tuple(said["guests"]),
            depth=None if said["depth"] is None else Depth(said["depth"]),
            check=said["check"] is True,
            void=frozenset(said["void"]),
            secrets=said["secrets"],
            timeout_seconds=float(said["timeout_seconds"]),
        )
        return Spec(
            request=request,
            state_dir=Path(said["state_dir"]),
            memory=Path(said["memory"]),
            parent=int(said["parent"]),
            permit_at=float(said["permit_at"]),
        )
    except (ValueError, KeyError, TypeError) as wrong:
        raise RunRefusedError(f"the spec cannot be read ({type(wrong).__name__})") from None
