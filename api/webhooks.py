"""The door for Stripe's webhooks: verify, store, answer. Nothing is processed while Stripe waits.

Owns the HTTP side alone: what counts as genuine is decided in `billing.stripe.signature`, what is kept in the inbox.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from tortoise.exceptions import BaseORMException

from api.bodies import LargeBodyError, SlowBodyError, read_body
from billing.clock import Clock
from billing.stripe import inbox
from billing.stripe.signature import UnverifiedError, verify

LARGEST_BODY = 1024 * 1024
"""Bytes; Stripe's events stay far below (docs.stripe.com/webhooks)."""

_log = structlog.get_logger(__name__)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


#: Made once: with its own constants, `json.loads` would make one for each event.
_JSON = json.JSONDecoder(parse_constant=_no_number)


@dataclass(frozen=True, kw_only=True)
class StripeWebhook:
    """Answers `POST /webhooks/stripe`; mount its `handle`.

    200 once the event is stored, also if it was before; 400 for anything that is not a genuine event of our Stripe
    account and mode, of which nothing is kept; 503 when the database does not take it, so that Stripe tries again.
    """

    secrets: Sequence[str] = field(repr=False)
    #: Whether our API key is a live one: an event of the other mode is refused.
    live: bool
    #: The account that we mirror; events of connected accounts are refused. Null: any event that names none is taken.
    account_id: str | None
    clock: Clock
    #: Called after a new event was stored; returns at once.
    wake: Callable[[], None]

    async def handle(self, request: Request) -> Response:
        """Take one delivery."""
        try:
            payload = await read_body(request, most=LARGEST_BODY)
            verify(payload, request.headers.get("stripe-signature"), self.secrets, now=self.clock.now())
            event = _parsed(payload)
            self._check_origin(event)
            new = await inbox.store(event, source="webhook", now=self.clock.now())
        except (
            UnverifiedError, LargeBodyError, SlowBodyError, inbox.UnstorableError, ClientDisconnect
        ) as error:  # fmt: skip
            # The reason is for our log: whoever sends a forgery learns nothing from it.
            _log.warning("stripe_webhook_refused", reason=str(error) or type(error).__name__)
            return JSONResponse({"error": "not a genuine Stripe event"}, 400)
        except (BaseORMException, OSError) as error:
            _log.error("stripe_webhook_not_stored", error=type(error).__name__)
            return JSONResponse({"error": "the event could not be stored; please send it again"}, 503)
        if new:
            self.wake()
        return JSONResponse({"received": True})

    def _check_origin(self, event: dict[str, Any]) -> None:
        if event.get("object") != "event":
            raise inbox.UnstorableError("it is no snapshot event")
        if event.get("livemode") is not self.live:
            raise inbox.UnstorableError(f"livemode is not {str(self.live).lower()}")
        if event.get("account") not in {None, self.account_id}:
            raise inbox.UnstorableError("it is of another Stripe account")


def _parsed(payload: bytes) -> dict[str, Any]:
    try:
        event = _JSON.decode(payload.decode())
    except (ValueError, RecursionError) as error:
        raise inbox.UnstorableError(f"the body is no JSON ({type(error).__name__})") from None
    if not isinstance(event, dict):
        raise inbox.UnstorableError("the body is no JSON object")
    return event
