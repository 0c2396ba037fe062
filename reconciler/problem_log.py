"""Problems of runs in the log: each once when it appears or changes, and once when it is over.

Owns what was said last about whom, in this process. What a problem means is decided elsewhere.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class ProblemLog:
    """Logs problems as `event` at error level; what has been said already is not said again every cycle."""

    event: str
    _said: dict[Hashable, str] = field(default_factory=dict)

    def note(self, subject: Hashable, problem: str | None, *, run_id: str = "", **named: str) -> None:
        """Take in how a run of `subject` went; its own id in the text does not make a problem another one."""
        said = self._said.get(subject)
        if problem is None:
            if said is not None:
                del self._said[subject]
                over = self.event + ".over"
                log.info(over, **named)
            return
        plain = problem.replace(run_id, "") if run_id else problem
        if plain != said:
            self._said[subject] = plain
            log.error(self.event, problem=problem, **named)
