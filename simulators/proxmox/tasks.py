"""Tasks of the simulated cluster: work that a POST only starts and that ends later, well or not.

Owns task identifiers, their states and logs; what a task does comes from outside.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from simulators.proxmox.errors import TaskFailed
from simulators.proxmox.timeline import Timeline

KILLED = "unexpected status"
"""What the log says of a task whose worker died with its node."""


@dataclass(kw_only=True)
class Task:
    """One task; `exitstatus` is None while it runs."""

    upid: str
    node: str
    type: str
    id: str
    user: str
    pid: int
    pstart: int
    started_at: datetime
    ended_at: datetime | None = None
    exitstatus: str | None = None
    log: list[str] = field(default_factory=list)

    def belongs_to(self, who: str) -> bool:
        """Whether somebody may read it without `Sys.Audit`: a token its own, a user its own and its tokens'."""
        return self.user == who or self.user.startswith(f"{who}!")

    def status(self) -> dict[str, str | int]:
        """The answer of `GET /nodes/{node}/tasks/{upid}/status`."""
        shown: dict[str, str | int] = {
            "id": self.id,
            "node": self.node,
            "pid": self.pid,
            "pstart": self.pstart,
            "starttime": int(self.started_at.timestamp()),
            "status": "running" if self.exitstatus is None else "stopped",
            "type": self.type,
            "upid": self.upid,
            "user": self.user,
        }
        if self.exitstatus is not None:
            shown["exitstatus"] = self.exitstatus
        return shown

    def listed(self) -> dict[str, str | int]:
        """One row of `GET /nodes/{node}/tasks`, where `status` is the exit status of a finished task."""
        row = self.status()
        row.pop("status")
        ended = row.pop("exitstatus", None)
        if ended is not None and self.ended_at is not None:
            row |= {"status": ended, "endtime": int(self.ended_at.timestamp())}
        return row


class Tasks:
    """All tasks of the cluster, newest last."""

    def __init__(self, timeline: Timeline, rng: random.Random) -> None:
        self._timeline = timeline
        self._rng = rng
        self._pids = count(1000)
        self.by_upid: dict[str, Task] = {}

    def start(self, *, node: str, type: str, id: str, user: str) -> Task:  # noqa: A002 - PVE's own words
        """Start a task that runs until `end` or `end_after` ends it."""
        now = self._timeline.now
        pid, pstart = next(self._pids), self._rng.randrange(2**31)
        upid = f"UPID:{node}:{pid:08X}:{pstart:08X}:{int(now.timestamp()):08X}:{type}:{id}:{user}:"
        task = Task(upid=upid, node=node, type=type, id=id, user=user, pid=pid, pstart=pstart, started_at=now)
        self.by_upid[upid] = task
        return task

    def end_after(self, task: Task, seconds: float, work: Callable[[], None]) -> None:
        """Do the work after `seconds` and end the task with how it went; a killed task does nothing."""

        def finish() -> None:
            if task.exitstatus is not None:
                return
            try:
                work()
            except TaskFailed as failure:
                self.end(task, str(failure))
            else:
                self.end(task, "OK")

        self._timeline.after(seconds, finish)

    def end(self, task: Task, exitstatus: str) -> None:
        """End a task; one that has ended stays as it is."""
        if task.exitstatus is None:
            task.exitstatus = exitstatus
            task.ended_at = self._timeline.now
            succeeded = exitstatus == "OK" or exitstatus.startswith("WARNINGS")
            task.log.append(f"TASK {'' if succeeded else 'ERROR: '}{exitstatus}")

    def kill_all_on(self, node: str) -> None:
        """A node died: its workers are gone without a word."""
        for task in self.by_upid.values():
            if task.node == node:
                self.end(task, KILLED)
