"""A simulated Stripe account on the test's clock, and the product's way to it through the real SDK.

The SDK's requests reach the simulator inside the process, which is quick; the tests of the gateway use sockets.
Reached through the fixtures `simulator`, `wire`, `gateway` and `card_gateway`.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import httpx
import stripe

from billing.clock import ManualClock
from billing.stripe.gateway import StripeGateway
from simulators.stripe import Account as Simulator
from simulators.stripe import create_app

KEY = "sk_test_canary_5f1c0b9e"


class Wire(httpx.AsyncBaseTransport):
    """Carries requests to the simulator, counts them by path, and can do something just before an answer goes back."""

    def __init__(self, simulator: Simulator) -> None:
        self.requests: Counter[str] = Counter()
        self.before_answer: Callable[[str], Awaitable[None]] | None = None
        self._inner = httpx.ASGITransport(app=create_app(simulator))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests[request.url.path] += 1
        response = await self._inner.handle_async_request(request)
        await response.aread()
        if self.before_answer is not None:
            await self.before_answer(request.url.path)
        return response


def make_simulator(clock: ManualClock) -> Simulator:
    """An empty account; webhooks go nowhere."""
    return Simulator(clock, Random(7), api_key=KEY)


def make_gateway(wire: Wire) -> StripeGateway:
    """The product's gateway on this wire, without the SDK's own retries."""
    # Nothing is encrypted on this wire: reading the certificate authorities would take longer than most tests do.
    client = stripe.HTTPXClient(timeout=60, verify_ssl_certs=False)
    client._client_async = httpx.AsyncClient(transport=wire)
    return StripeGateway(KEY, api_base="http://stripe.test", retries=0, http_client=client)
