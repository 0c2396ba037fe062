"""The control door `/_simulator/`: scripting a running simulator over HTTP with JSON.

Owns the list of what may be called from outside. It is for development and tests, has no password
and must never be reachable from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.stripe.account import Account
from simulators.stripe.errors import ApiError
from simulators.stripe.outage import Trouble
from simulators.stripe.store import Obj

SCRIPTS = frozenset(
    [
        "add_card",
        "authenticate",
        "close_dispute",
        "create_customer",
        "create_invoice",
        "create_subscription",
        "confirm_payment",
        "credit",
        "delete_customer",
        "detach_card",
        "end_subscription",
        "fail_payment",
        "finalize_invoice",
        "mark_uncollectible",
        "open_dispute",
        "pay_invoice",
        "refund",
        "renew_card",
        "report_payment",
        "require_action",
        "save_card",
        "void_credit_note",
        "void_invoice",
    ]
)
"""The account's methods that may be called."""

Act = Callable[[Obj], Awaitable[Any]]

_SHOWN = ("customer", "invoice", "subscription", "credit_note", "dispute", "refund")


class _Door:
    """One handler per path; each takes the JSON object of the body and returns what to show."""

    def __init__(self, account: Account) -> None:
        self.account = account

    async def state(self, given: Obj) -> Obj:
        return describe(self.account)

    async def advance(self, given: Obj) -> None:
        self.account.advance(**given)

    async def deliveries(self, given: Obj) -> None:
        self.account.deliveries.set_knobs(**given)

    async def redeliver(self, given: Obj) -> None:
        if given:
            self.account.deliveries.redeliver(**given)
        else:
            self.account.deliveries.redeliver_all()

    async def deliver(self, given: Obj) -> list[Obj]:
        self.account.run_due()
        return [asdict(attempt) for attempt in await self.account.deliveries.pump()]

    async def endpoints(self, given: Obj) -> Obj:
        events = tuple(given.get("enabled_events", ("*",)))
        made = self.account.deliveries.add_endpoint(given["url"], *given["secrets"], enabled_events=events)
        return {"id": made.id, "url": made.url}

    async def outage(self, given: Obj) -> None:
        self.account.outage.begin(Trouble(given.pop("trouble")), **given)

    async def outage_ends(self, given: Obj) -> None:
        self.account.outage.end()

    async def script(self, given: Obj) -> Obj:
        name = given.pop("")
        if name not in SCRIPTS:
            raise LookupError(f"there is no script {name!r}; there are {', '.join(sorted(SCRIPTS))}")
        result: Obj = getattr(self.account, name)(**_instants(given))
        return result


def control_routes(account: Account) -> list[Route]:
    """The door's routes."""
    door = _Door(account)
    acts: list[tuple[str, str, Act]] = [
        ("GET", "state", door.state),
        ("POST", "advance", door.advance),
        ("POST", "deliveries", door.deliveries),
        ("POST", "redeliver", door.redeliver),
        ("POST", "deliver", door.deliver),
        ("POST", "endpoints", door.endpoints),
        ("POST", "outage", door.outage),
        ("DELETE", "outage", door.outage_ends),
        ("POST", "script/{name}", door.script),
    ]
    return [
        Route(f"/_simulator/{path}", partial(_carry_out, act), methods=[method]) for method, path, act in acts
    ]


def describe(account: Account) -> Obj:
    """What is where, in brief: the clock, the objects with their states, the deliveries."""
    with account.lock:
        kinds = {kind: account.store.newest_first(kind) for kind in _SHOWN}
        return {
            "account": account.id,
            "now": account.clock.now().isoformat(),
            "offset_seconds": account.clock.offset.total_seconds(),
            "objects": {
                kind: [{key: obj.get(key) for key in ("id", "status", "metadata")} for obj in found]
                for kind, found in kinds.items()
            },
            "events": len(account.store.newest_first("event")),
            "endpoints": [{"id": one.id, "url": one.url} for one in account.deliveries.endpoints.values()],
            "knobs": asdict(account.deliveries.knobs),
            "waiting": len(account.deliveries.queue),
            "attempts": [asdict(attempt) for attempt in list(account.deliveries.log)[-20:]],
        }


async def _carry_out(act: Act, request: Request) -> Response:
    """Run one act; whatever is wrong with the request is answered as 400 with the reason."""
    try:
        given = json.loads(await request.body() or b"{}")
        if not isinstance(given, dict):
            raise TypeError("the body must be a JSON object")
        if "name" in request.path_params:
            given[""] = request.path_params["name"]
        return JSONResponse({"result": await act(given)})
    except ApiError as error:
        return JSONResponse(error.body(), error.status)
    except KeyError as error:
        return _refused(f"{error} is missing")
    except (LookupError, TypeError, ValueError) as error:
        return _refused(str(error))


def _instants(given: Obj) -> Obj:
    due = given.get("due_date")
    return {**given, "due_date": datetime.fromisoformat(due)} if isinstance(due, str) else given


def _refused(message: str) -> Response:
    return JSONResponse({"error": {"message": message}}, 400)
