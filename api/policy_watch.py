"""A changed policy file takes effect while the process runs: noticed, judged whole, taken over or refused.

Owns when the folder is looked at and what is said about it. What is a good policy is `billing.policy_files`' word, what
a change means for accounts on the ladder `reconciler.policy_changes`'.
"""

import asyncio
from collections.abc import Callable

import structlog

from api.background import Worker
from billing import work_queue
from billing.clock import Clock
from billing.policy_files import PolicyBook

log = structlog.get_logger(__name__)

ACTOR = "system:policies"
KIND = "policies_refused"
#: A change is judged only when the folder was the same for so long: half a file can be a policy, and a wrong one.
SETTLED_SECONDS = 2.0
_MOST_TOLD = 20


class PolicyWatch:
    """Looks at the folder every so often, and at once when asked to; `changed` is called after each good change."""

    def __init__(
        self, book: PolicyBook, *, clock: Clock, every: float, changed: Callable[[], None], settled: float
    ) -> None:
        self._book = book
        self._clock = clock
        self._every = every
        self._changed = changed
        self._settled = settled
        self._asked = False
        self._seen: str | None = None
        #: What the work queue says; empty: nobody looked yet what an earlier process left there.
        self._told: str | None = ""
        #: Runs in every process that answers, for each decides by its own files.
        self.looking = Worker(name="policies", turn=self.look)
        #: Runs only where the reconciler does, so that staff hear of it once.
        self.telling = Worker(name="policy trouble", turn=self.tell)

    def reload(self) -> None:
        """Take over what is in the folder now, without waiting for it to settle: whoever asks says that it is whole."""
        self._asked = True
        self.looking.wake()

    async def look(self) -> float:
        """Look once; returns in how many seconds to look again."""
        asked, self._asked = self._asked, False
        found = await asyncio.to_thread(self._book.look)
        if found.digest == self._book.judged:
            self._seen = None
            return self._every
        if not asked and found.digest != self._seen:
            self._seen = found.digest
            return min(self._settled, self._every)
        report = await asyncio.to_thread(self._book.reload, found)
        if report.problems:
            log.error("policies.refused", problems=report.problems[:_MOST_TOLD], kept=self._book.names)
        elif report.changed:
            log.info("policies.changed", policies=self._book.names, digest=self._book.digest)
            self._changed()
        else:
            log.info("policies.as_before", policies=self._book.names)
        self.telling.wake()
        return self._every

    async def tell(self) -> None:
        """Open one work item for each refused state of the folder, and close it when that is over."""
        refused = self._book.judged if self._book.problems else None
        if refused == self._told:
            return
        now = self._clock.now()
        if refused is not None:
            problems = self._book.problems
            more = f"\n… and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
            await work_queue.open_item(
                KIND,
                f"{KIND}:{refused}",
                at=now,
                title="The changed policy files are refused; the last good policies stay in force",
                detail="\n".join(problems[:_MOST_TOLD]) + more,
            )
        await work_queue.resolve_kind(
            KIND, but=f"{KIND}:{refused}", at=now, by=ACTOR, resolution="the files were changed since"
        )
        self._told = refused
