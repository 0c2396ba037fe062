"""The HTTP face of a simulated account: Stripe's API under `/v1/` and the control door.

Owns authentication, versions, idempotency and error answers. It holds no billing rule.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.stripe.account import Account
from simulators.stripe.control import control_routes
from simulators.stripe.errors import ApiError
from simulators.stripe.lists import Expander
from simulators.stripe.outage import Trouble
from simulators.stripe.params import check, decode
from simulators.stripe.routes import ENDPOINTS, Endpoint
from simulators.stripe.store import API_VERSION

KEY_LIFETIME = 86400
"""Seconds for which an idempotency key is remembered (docs.stripe.com/api/idempotent_requests)."""

_IDLE = 0.5
"""Real seconds between looks at the clock while nobody reports news."""


@dataclass(frozen=True, kw_only=True)
class _Remembered:
    fingerprint: str
    status: int
    body: bytes
    at: int


class Api:
    """Answers requests on behalf of one account."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.expander = Expander(account.store, account.invoice_payments.of)
        self.remembered: dict[str, _Remembered] = {}

    async def __call__(self, endpoint: Endpoint, request: Request) -> Response:
        """One request from authentication to answer, through whatever trouble is on."""
        request_id = self.account.store.new_id("req", 14)
        headers = {"Request-Id": request_id, "Stripe-Version": API_VERSION}
        trouble = self.account.outage.next(request.url.path)
        if trouble is not None:
            kind, seconds = trouble
            if kind in {Trouble.TIMEOUT, Trouble.SLOW}:
                await asyncio.sleep(seconds)
            if kind not in {Trouble.SLOW, Trouble.LOST_ANSWER}:
                return _refusal(_TROUBLES[kind], headers)
        body = (await request.body()).decode(errors="replace")
        try:
            self._admit(request)
            status, answer, replayed = self._answer(endpoint, request, body, request_id)
        except ApiError as error:
            return _refusal(error, headers)
        if trouble is not None and trouble[0] is Trouble.LOST_ANSWER:
            return _refusal(_TROUBLES[Trouble.UNAVAILABLE], headers)
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(answer, status, headers, media_type="application/json")

    def _admit(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {self.account.api_key}":
            raise ApiError("Invalid API Key provided.", status=401)
        version = request.headers.get("stripe-version", API_VERSION)
        if version != API_VERSION:
            raise ApiError(f"Invalid Stripe API version: {version}; this is {API_VERSION}.")

    def _answer(
        self, endpoint: Endpoint, request: Request, body: str, request_id: str
    ) -> tuple[int, bytes, bool]:
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        fingerprint = hashlib.sha256(f"{request.method} {request.url.path} {body}".encode()).hexdigest()
        with self.account.requested(request_id, key):
            self.account.run_due()
            now = self.account.store.now()
            known = self.remembered.get(key) if key else None
            if known is not None and known.at + KEY_LIFETIME > now:
                if known.fingerprint != fingerprint:
                    raise _other_parameters(str(key))
                return known.status, known.body, True
            query = "&".join(part for part in (request.url.query, body) if part)
            status, answer = self._run(endpoint, request.path_params.get("id", ""), query)
            if key:
                self.remembered[key] = _Remembered(
                    fingerprint=fingerprint, status=status, body=answer, at=now
                )
            return status, answer, False

    def _run(self, endpoint: Endpoint, key: str, query: str) -> tuple[int, bytes]:
        """Parameter errors are raised, and so not remembered: nothing had begun; others are answers."""
        params = check(decode(query), {**endpoint.spec, "expand": [str]})
        paths = params.pop("expand", [])
        try:
            status, answer = 200, self.expander.expand(endpoint.handler(self.account, key, params), paths)
        except ApiError as error:
            status, answer = error.status, error.body()
        # Written out at once: later changes of the object must not reach an answer that was given.
        return status, json.dumps(answer).encode()


def create_app(account: Account) -> Starlette:
    """The account as an ASGI application; while it runs, due work is done and webhooks go out."""
    api = Api(account)
    routes = [
        Route(endpoint.path, partial(_endpoint, api, endpoint), methods=[endpoint.method], name=endpoint.path)
        for endpoint in sorted(ENDPOINTS, key=lambda one: "{id}" in one.path)
    ]
    unknown = Route("/v1/{path:path}", _unknown, methods=["GET", "POST", "DELETE"])

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        worker = asyncio.create_task(_work(account))
        try:
            yield
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker

    app = Starlette(routes=[*routes, unknown, *control_routes(account)], lifespan=lifespan)
    app.state.account = account
    return app


async def _endpoint(api: Api, endpoint: Endpoint, request: Request) -> Response:
    return await api(endpoint, request)


async def _unknown(request: Request) -> Response:
    message = f"Unrecognized request URL ({request.method}: {request.url.path}); the simulator has no such endpoint."
    return _refusal(ApiError(message, status=404), {})


async def _work(account: Account) -> None:
    """Do due work and deliver until cancelled; news wakes it at once, from any thread."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    own_thread = threading.get_ident()

    def wake() -> None:
        if threading.get_ident() == own_thread:
            news.set()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(news.set)

    account.deliveries.wake = wake
    while True:
        news.clear()
        account.run_due()
        await account.deliveries.pump()
        with suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), _IDLE)


def _refusal(error: ApiError, headers: dict[str, str]) -> Response:
    return JSONResponse(error.body(), error.status, headers)


def _other_parameters(key: str) -> ApiError:
    return ApiError(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
        type="idempotency_error",
    )


_TROUBLES = {
    Trouble.RATE_LIMITED: ApiError(
        "Too many requests hit the API too quickly.", status=429, code="rate_limit"
    ),
    Trouble.SERVER_ERROR: ApiError("An error occurred.", status=500, type="api_error"),
    Trouble.UNAVAILABLE: ApiError("The service is unavailable.", status=503, type="api_error"),
    Trouble.TIMEOUT: ApiError("The request timed out.", status=504, type="api_error"),
}
