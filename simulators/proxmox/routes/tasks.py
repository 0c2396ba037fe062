"""Tasks of one node: the list, one task's status, its log.

Somebody else's task needs `Sys.Audit` on the node (`PVE::API2::Tasks`).
"""

from typing import Any

from simulators.proxmox.endpoints import NUMBER, TEXT, Answer, Ask, Endpoint, Parameter
from simulators.proxmox.errors import bad_parameter
from simulators.proxmox.tasks import Task

_DEFAULT_LIMIT = 50


def _list(ask: Ask) -> Answer:
    """The newest first; without `source` only finished ones, as the archive is what is listed."""
    source = ask.params.get("source", "archive")
    everything = ask.may(f"/nodes/{ask.node}", "Sys.Audit")
    rows: list[dict[str, Any]] = []
    for task in reversed(ask.core.tasks.by_upid.values()):
        if task.node != ask.node or not (everything or task.belongs_to(ask.user)):
            continue
        if source != "all" and (source == "active") != (task.exitstatus is None):
            continue
        if (
            str(ask.params.get("vmid", task.id)) != task.id
            or ask.params.get("typefilter", task.type) != task.type
        ):
            continue
        if ask.params.get("userfilter", "") in task.user:
            rows.append(dict(task.listed()))
    start = ask.params.get("start", 0)
    return rows[start : start + (ask.params.get("limit") or _DEFAULT_LIMIT)]


def _status(ask: Ask) -> Answer:
    return dict(_task(ask).status())


def _log(ask: Ask) -> Answer:
    start, limit = ask.params.get("start", 0), ask.params.get("limit") or _DEFAULT_LIMIT
    lines = _task(ask).log or ["no content"]
    return [{"n": number, "t": line} for number, line in enumerate(lines, start=1)][start : start + limit]


def _task(ask: Ask) -> Task:
    upid = ask.parts["upid"]
    if not upid.startswith("UPID:") or upid.count(":") != 8:
        raise bad_parameter(upid=f"unable to parse worker upid '{upid}'")
    task = ask.core.tasks.by_upid.get(upid)
    if task is None or task.node != ask.node:
        raise bad_parameter(upid="no such task")
    if not task.belongs_to(ask.user):
        ask.check(f"/nodes/{ask.node}", "Sys.Audit")
    return task


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/nodes/{node}/tasks",
        answer=_list,
        accepts={
            "limit": NUMBER,
            "source": Parameter(choices=("archive", "active", "all")),
            "start": NUMBER,
            "typefilter": TEXT,
            "userfilter": TEXT,
            "vmid": NUMBER,
        },
    ),
    Endpoint(method="GET", path="/nodes/{node}/tasks/{upid}/status", answer=_status),
    Endpoint(
        method="GET",
        path="/nodes/{node}/tasks/{upid}/log",
        answer=_log,
        accepts={"limit": NUMBER, "start": NUMBER},
    ),
)
