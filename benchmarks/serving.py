"""The servers that are compared, each in a process of its own: the product's application, and one written by hand.

The plain one does what somebody would write without the product: the same token check and the very statements that the
product sends for the same question, on asyncpg, every row read; then the same JSON as the product's. What it would
have to work out in between, it is given for nothing, and whatever the product spares itself it spares itself too:
connections are not reset between requests, and orjson writes the answer.
"""

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.app import create_app
from api.database import open_database
from api.long_lived import keep_what_is_loaded
from api.ports import Ports
from api.rates import Allowances
from api.sockets import HttpConnection
from api.webhooks import StripeWebhook
from benchmarks.fleet import NOW
from billing.clock import Clock, ManualClock, SystemClock
from billing.notices import known_templates
from billing.policy_files import PolicyBook
from billing.stripe.signature import verify

CHECKOUT = Path(__file__).resolve().parent.parent
SECRET = "whsec_" + "benchmark" * 4
#: So that the limits on how often one may ask, which are another matter, stay out of the way.
UNLIMITED = Allowances(
    people=10**9, control=10**9, strangers=10**9, people_fields=10**12, control_fields=10**12
)


class _NoHands:
    def allowed(self) -> frozenset[str]:
        return frozenset()

    async def observe(self, server_id: int, *, actor: str) -> int:
        raise AssertionError

    async def give_back(self, action: str, server_id: int, *, reason: str, actor: str) -> None:
        raise AssertionError


def ports(clock: Clock) -> Ports:
    """Return what the product's doors need here: the shipped policies, and no reconciler."""
    book = PolicyBook.of_folder(CHECKOUT / "billing" / "policies", templates=known_templates())
    return Ports(
        clock=clock,
        wake=lambda _: None,
        policies=lambda: {name: book.get(name) for name in book.names},
        platforms=lambda: {f"site{number}": "proxmox" for number in range(40)},
        actions=_NoHands(),
        allowances=UNLIMITED,
    )


@asynccontextmanager
async def product(url: str) -> AsyncIterator[Starlette]:
    """The product's application over this database."""
    async with open_database(f"{url}?minsize=5&maxsize=10"):
        webhook = StripeWebhook(
            secrets=(SECRET,), live=False, account_id=None, clock=SystemClock(), wake=lambda: None
        )
        yield create_app(ports(ManualClock(NOW)), webhook=webhook)


async def _as_it_is(_: object) -> None:
    pass


@asynccontextmanager
async def plain(
    url: str, statements: list[tuple[str, list[Any]]], told: dict[str, Any]
) -> AsyncIterator[Starlette]:
    """The application by hand: `POST /answer` sends the statements, `POST /insert` keeps a verified event."""
    async with asyncpg.create_pool(url, min_size=5, max_size=10, reset=_as_it_is) as pool:

        async def answer(request: Request) -> Response:
            await request.json()
            bearer = request.headers["authorization"].removeprefix("Bearer ")
            async with pool.acquire() as connection:
                known = await connection.fetchrow(
                    "SELECT role, account_external_id FROM api_token WHERE hash = $1 AND revoked_at IS NULL"
                    " AND (expires_at IS NULL OR expires_at > $2)",
                    hashlib.sha256(bearer.encode()).hexdigest(),
                    NOW,
                )
                if known is None:
                    return JSONResponse({"error": "unauthenticated"}, 401)
                for statement, values in statements:
                    for row in await connection.fetch(statement, *values):
                        dict(row)
            return Response(orjson.dumps(told), media_type="application/json")

        async def insert(request: Request) -> Response:
            body = await request.body()
            verify(body, request.headers["stripe-signature"], (SECRET,), now=SystemClock().now())
            event = json.loads(body)
            await pool.execute(
                "INSERT INTO plain_event (event_id, type, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                event["id"],
                event["type"],
                body.decode(),
            )
            return JSONResponse({"received": True})

        yield Starlette(
            routes=[Route("/answer", answer, methods=["POST"]), Route("/insert", insert, methods=["POST"])]
        )


async def serve(app: Starlette, ready: Callable[[int], Awaitable[None]], http: type[H11Protocol]) -> None:
    """Serve on a free port until standard input ends; tells the port."""
    config = uvicorn.Config(app, port=0, http=http, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    await ready(server.servers[0].sockets[0].getsockname()[1])
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


async def _main(kind: str, url: str, script: str) -> None:
    async def ready(port: int) -> None:
        print(port, flush=True)

    done = json.loads(await asyncio.to_thread(Path(script).read_text)) if script else {}
    statements = [(text, [_read(one) for one in given]) for text, given in done.get("statements", ())]
    ours = kind == "product"
    application = product(url) if ours else plain(url, statements, done.get("answer", {}))
    async with application as app:
        keep_what_is_loaded()  # as `serve` does; the plain one is given it too
        await serve(app, ready, HttpConnection if ours else H11Protocol)


def write(value: Any) -> Any:
    """Return a parameter of a statement as JSON can keep it."""
    return {"at": value.isoformat()} if hasattr(value, "isoformat") else value


def _read(value: Any) -> Any:
    return NOW.fromisoformat(value["at"]) if isinstance(value, dict) else value


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:4]))
