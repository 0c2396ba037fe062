"""The HTTP application: which door is at which path.

Owns the wiring alone. Everything it needs is handed to it; it starts nothing and keeps nothing.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from api.graphql import ide
from api.graphql.connected import Connected
from api.graphql.endpoint import GraphQLEndpoint
from api.graphql.feed import Feed
from api.graphql.names import hidden_names
from api.graphql.operations import Operations
from api.graphql.schema import build_schema
from api.graphql.websocket import WebSocketDoor
from api.health import Health
from api.ports import Ports
from api.webhooks import StripeWebhook


def create_app(
    ports: Ports, *, webhook: StripeWebhook | None = None, health: Health | None = None, dev: bool = False
) -> Starlette:
    """Return the application. Without `webhook` Stripe is off, and whatever is sent there is refused.

    With `dev`, introspection answers and browsers get a page for trying queries.
    """
    schema = build_schema(dev=dev)
    operations = Operations(
        schema=schema,
        ports=ports,
        feed=Feed(changes=ports.changes),
        hidden=None if dev else hidden_names(schema),
    )
    connected = Connected()
    ports.traffic.watch(lambda: connected.total)
    graphql = GraphQLEndpoint(operations=operations, connected=connected)
    sockets = WebSocketDoor(operations=operations, connected=connected)
    health = health or Health(
        clock=ports.clock, policies=ports.policies, mode=ports.mode, traffic=ports.traffic
    )
    routes = [
        # Exact paths and no redirects, on which clients would drop their token.
        Route("/graphql", graphql.answer, methods=["POST"]),
        WebSocketRoute("/graphql", sockets.answer),
        Route("/webhooks/stripe", webhook.handle if webhook else _unverified, methods=["POST"]),
        Route("/healthz", health.alive, methods=["GET"]),
        Route("/readyz", health.ready, methods=["GET"]),
        Route("/metrics", health.metrics, methods=["GET"]),
    ]
    if dev:
        routes[:0] = ide.routes()
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


async def _unverified(_: Request) -> Response:
    """Refuse a webhook while Stripe is off: nothing could verify it."""
    return JSONResponse({"error": "not a genuine Stripe event"}, 400)
