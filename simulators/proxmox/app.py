"""The HTTP face of the simulated cluster: `/api2/json` with Proxmox VE's envelope, errors and order of checks.

Owns recording of calls and injected trouble; must not know what any endpoint answers. The order is that of
`PVE::HTTPServer`: token, method, permission, reaching the node, parameters.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.proxmox.cluster import Cluster
from simulators.proxmox.control import control_routes
from simulators.proxmox.core import CONFIG_LOCK_SECONDS
from simulators.proxmox.destroying import what_it_destroys
from simulators.proxmox.endpoints import Ask, find
from simulators.proxmox.errors import ApiError, ConfigLocked
from simulators.proxmox.routes import ENDPOINTS
from simulators.proxmox.state import Call, Fault

REASON_HEADER = "x-simulator-reason"
"""Carries the reason phrase to `server`, since ASGI has no place for one."""
Sleep = Callable[[float], Awaitable[None]]
_SECRETS = (
    "password",
    "secret",
    "cipassword",
    "sshkeys",
    "ssh-public-keys",
    "token",
    "ticket",
    "csrfpreventiontoken",
)
_IDENTITY = re.compile(r"PVEAPIToken=([^!=]+![^=]+)=")
_LOCK_STEPS = 20
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]


def create_app(cluster: Cluster, *, sleep: Sleep = asyncio.sleep) -> Starlette:
    """Return the application that serves a cluster under `/api2/json` and its control door under `/_simulator`."""

    async def api(request: Request) -> Response:
        return await _Exchange(cluster, sleep, request).answer()

    return Starlette(routes=[Route("/api2/json{path:path}", api, methods=_METHODS), *control_routes(cluster)])


class _Exchange:
    """One call and its answer."""

    def __init__(self, cluster: Cluster, sleep: Sleep, request: Request) -> None:
        self._cluster = cluster
        self._sleep = sleep
        self._request = request
        self._method = request.method
        self._path: str = request.path_params["path"].rstrip("/") or "/"
        self._params: Mapping[str, str] = {}
        self._has_body = False

    async def answer(self) -> Response:
        """Answer the call as the cluster would, after whatever trouble is planned for it."""
        try:
            fault = await self._receive()
            result = await self._troubled(fault)
        except ApiError as error:
            return _error(error)
        return JSONResponse({"data": result}, media_type="application/json;charset=UTF-8")

    async def _receive(self) -> Fault | None:
        body = await self._request.body()
        self._has_body = bool(body)
        malformed: ApiError | None = None
        try:
            self._params = {**_body_params(self._request, body), **dict(self._request.query_params)}
        except ApiError as error:
            malformed = error
        with self._cluster.present():
            self._record()
            latency, fault = self._cluster.latency_seconds, self._take_fault()
        await self._sleep(latency)
        if malformed is not None:
            raise malformed
        return fault

    def _record(self) -> None:
        """Write the call down, without its secrets, before anything can refuse it."""
        identity = _IDENTITY.match(self._request.headers.get("authorization", ""))
        user = identity[1] if identity else None
        shown = {name: value for name, value in self._params.items() if name.lower() not in _SECRETS}
        call = Call(
            at=self._cluster.timeline.now, method=self._method, path=self._path, params=shown, user=user
        )
        self._cluster.calls.append(call)
        if self._destroys():
            self._cluster.destroying_calls.append(call)

    def _destroys(self) -> str | None:
        storage = self._cluster.storages.get(self._params.get("storage", ""))
        prunes = storage is not None and storage.prunes
        return what_it_destroys(self._method, self._path, self._params, storage_prunes=prunes)

    def _take_fault(self) -> Fault | None:
        for fault in self._cluster.faults:
            if fault.times > 0 and fault.method in (None, self._method) and fault.path_contains in self._path:
                fault.times -= 1
                return fault
        return None

    async def _troubled(self, fault: Fault | None) -> Any:
        if fault is None:
            return await self._patiently()
        result: Any = None
        if fault.acts:
            result = await self._patiently()
        await self._sleep(fault.seconds)
        if fault.status is not None:
            raise ApiError(fault.status, fault.reason, bare=True)
        return result if fault.acts else await self._patiently()

    async def _patiently(self) -> Any:
        """Perform the call; while another task holds the guest's configuration, wait as long as Proxmox VE does."""
        pause = self._cluster.timeline.scaled(CONFIG_LOCK_SECONDS).total_seconds() / _LOCK_STEPS
        for _ in range(_LOCK_STEPS):
            try:
                return self._perform()
            except ConfigLocked:
                await self._sleep(pause)
        try:
            return self._perform()
        except ConfigLocked as locked:
            raise locked.timed_out() from None

    def _perform(self) -> Any:
        cluster = self._cluster
        with cluster.present() as now:
            if self._has_body and self._method not in ("POST", "PUT"):
                raise ApiError(501, f"Unexpected content for method '{self._method}'", bare=True)
            user = cluster.access.authenticate(self._request.headers.get("authorization"), now)
            if reason := self._destroys():
                raise ApiError(
                    403, f"Permission check failed (this call {reason}: the simulator refuses and reports it)"
                )
            found = find(ENDPOINTS, self._method, self._path)
            if found is None:
                raise ApiError(501, f"Method '{self._method} {self._path}' not implemented")
            endpoint, parts = found
            ask = Ask(core=cluster, user=user, parts=parts, raw=self._params)
            if endpoint.permitted is not None:
                endpoint.permitted(ask)
            if "node" in parts:
                cluster.reach(parts["node"])
            checked = endpoint.checked(self._params)
            return endpoint.answer(
                Ask(core=cluster, user=user, parts=parts, raw=self._params, params=checked)
            )


def _body_params(request: Request, body: bytes) -> dict[str, str]:
    """The parameters in a body: a form or JSON, as Proxmox VE takes both; JSON booleans become 0 and 1."""
    if not body or request.method not in ("POST", "PUT"):
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode(), keep_blank_values=True))
    if kind == "application/json":
        try:
            given = json.loads(body)
        except ValueError:
            given = None
        if isinstance(given, dict):
            return {str(name): _text(value) for name, value in given.items() if value is not None}
        raise ApiError(400, "malformed JSON string", bare=True)
    raise ApiError(501, f"upload 'Content-Type '{kind}' not implemented", bare=True)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _error(error: ApiError) -> Response:
    """An error as Proxmox VE sends it: the reason in the status line and in `message`, and the connection closed."""
    headers = {"connection": "close", REASON_HEADER: error.reason.splitlines()[0]}
    if error.bare:
        return Response(status_code=error.status, headers=headers)
    body: dict[str, Any] = {"data": None, "message": f"{error.reason}\n"}
    if error.errors:
        body["errors"] = error.errors
    return JSONResponse(
        body, status_code=error.status, headers=headers, media_type="application/json;charset=UTF-8"
    )
