"""What the action plugins have in common: a task's arguments in, one report per target out.

Owns the names of both. Knows no platform.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from .permit import Permit
from .procedure import Driver, Pace, Procedure, order_for
from .reports import Outcome, PlatformError, Report
from .settings import DEFAULT_IN_FLIGHT, DEFAULT_RATE_PER_MINUTE, Settings
from .targets import BadInputError, parse_targets

_ORDER = frozenset({"procedure", "parts", "want", "give_back", "left", "grace_seconds"})
TASK_ARGUMENTS = frozenset({"survey", "guests"}) | _ORDER


def run_task(
    driver: Callable[[], Driver],
    arguments: Mapping[str, object],
    settings: Settings,
    platform: str,
    *,
    check_mode: bool,
) -> dict[str, object]:
    """Run the procedure of a task and return its result; the task has failed when a target did, or stayed unknown."""
    try:
        targets = parse_targets(arguments.get("guests"), platform)
        order = order_for(arguments, check_mode=check_mode)
    except BadInputError as error:
        return {"failed": True, "msg": str(error)}
    try:
        procedure = Procedure(
            driver(),
            order,
            permit=Permit(path=settings.absolute(settings.text("permit_file")), boottime=_boottime),
            pace=Pace(
                settings.number("node_rate_per_minute", DEFAULT_RATE_PER_MINUTE),
                monotonic=time.monotonic,
                sleep=time.sleep,
            ),
            width=int(settings.number("node_in_flight", DEFAULT_IN_FLIGHT)),
        )
    except (BadInputError, PlatformError) as error:
        # Nothing was done to anybody, and each target is told so: silence would make it unknown.
        return _result(
            [Report(id=target.id, outcome=Outcome.FAILED, message=str(error)) for target in targets]
        )
    return _result(procedure.run(targets))


def _result(reports: Sequence[Report]) -> dict[str, object]:
    outcomes = [report.outcome for report in reports]
    return {
        "abeyance_reports": [report.wire() for report in reports],
        "changed": Outcome.CHANGED in outcomes,
        "failed": Outcome.FAILED in outcomes or Outcome.UNKNOWN in outcomes,
        "msg": ", ".join(
            f"{outcomes.count(outcome)} {outcome.value}" for outcome in Outcome if outcome in outcomes
        ),
    }


def silence(nodes: Sequence[str], error: Exception) -> dict[str, object]:
    """Return the result of a survey that got no answer: every node is silent, and nothing may be concluded."""
    nothing = {
        "guests": [],
        "nodes": [],
        "silent_nodes": sorted(nodes),
        "complete": False,
        "problem": str(error),
    }
    return {"failed": True, "msg": str(error), "abeyance_observation": nothing}


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
