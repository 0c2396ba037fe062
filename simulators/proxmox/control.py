"""The control door of the simulator, for tests and demos in another process. No Proxmox VE has such a thing.

`GET /_simulator/state`, `/_simulator/calls`, `/_simulator/destroying_calls`; `POST /_simulator/<method>` with the
arguments as a JSON object calls a scripting method of `Cluster`.
"""

import inspect
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.proxmox.cluster import Cluster
from simulators.proxmox.scripted import SCRIPTED
from simulators.proxmox.state import Call


def control_routes(cluster: Cluster) -> list[Route]:
    """Return the routes of the control door."""

    async def read(request: Request) -> Response:
        with cluster.present():
            views: dict[str, Any] = {
                "state": cluster.snapshot,
                "calls": lambda: [_call(call) for call in cluster.calls],
                "destroying_calls": lambda: [_call(call) for call in cluster.destroying_calls],
            }
            view = views.get(request.path_params["name"])
            if view is None:
                return _refused(404, f"no such view: one of {', '.join(views)}")
            return JSONResponse({"data": view()})

    async def script(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in SCRIPTED:
            return _refused(404, f"no such method: one of {', '.join(sorted(SCRIPTED))}")
        method = getattr(cluster, name)
        try:
            arguments = await request.json() if await request.body() else {}
            inspect.signature(method).bind(**arguments)
            result = method(**arguments)
        except (KeyError, TypeError, ValueError) as wrong:
            return _refused(400, f"{name}: {wrong}")
        return JSONResponse({"data": result.isoformat() if isinstance(result, datetime) else result})

    return [
        Route("/_simulator/{name}", read, methods=["GET"]),
        Route("/_simulator/{name}", script, methods=["POST"]),
    ]


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)


def _call(call: Call) -> dict[str, Any]:
    return {
        "at": call.at.isoformat(),
        "method": call.method,
        "params": dict(call.params),
        "path": call.path,
        "user": call.user,
    }
