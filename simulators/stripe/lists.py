"""Lists as Stripe pages them, and expansion of ids into objects.

Owns cursors, filters and `expand[]` (docs.stripe.com/api/pagination, /expanding_objects). Read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

from simulators.stripe.errors import invalid
from simulators.stripe.params import RANGE, Spec
from simulators.stripe.store import Obj, Store

PAGING: Spec = {"limit": int, "starting_after": str, "ending_before": str}
_DEEPEST = 4
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda value, limit: value > limit,
    "gte": lambda value, limit: value >= limit,
    "lt": lambda value, limit: value < limit,
    "lte": lambda value, limit: value <= limit,
}


def page(found: list[Obj], params: Obj, url: str) -> Obj:
    """One page of a list that is newest first.

    `starting_after` reads on to older objects. `ending_before` reads the objects just before the cursor,
    so that going on with the page's first object climbs towards the newest.
    """
    limit = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise invalid(f"Invalid limit: {limit} is not between 1 and 100.", "limit")
    if "starting_after" in params and "ending_before" in params:
        raise invalid("You may only specify one of these parameters: starting_after, ending_before.")
    if "ending_before" in params:
        newer = found[: _position(found, params["ending_before"], "ending_before")]
        shown, more = newer[-limit:], len(newer) > limit
    else:
        start = 0
        if "starting_after" in params:
            start = _position(found, params["starting_after"], "starting_after") + 1
        shown, more = found[start : start + limit], len(found) > start + limit
    return {"object": "list", "url": url, "has_more": more, "data": shown}


def matching(found: Iterable[Obj], params: Obj, spec: Spec) -> list[Obj]:
    """The objects whose fields equal the given filters; instants by their limits."""
    names = [name.rstrip("!") for name in spec if name.rstrip("!") in params]
    return [obj for obj in found if all(_fits(obj.get(name), params[name], spec, name) for name in names)]


def _fits(value: Any, wanted: Any, spec: Spec, name: str) -> bool:
    if spec.get(name) is RANGE:
        return value is not None and all(_COMPARE[word](value, limit) for word, limit in wanted.items())
    return bool(value == wanted)


def _position(found: list[Obj], cursor: str, param: str) -> int:
    for index, obj in enumerate(found):
        if obj["id"] == cursor:
            return index
    raise invalid(f"No such object: '{cursor}'", param, "resource_missing")


class Expander:
    """Replaces ids by their objects, and adds what only an expansion shows."""

    def __init__(self, store: Store, payments_of: Callable[[Obj], list[Obj]]) -> None:
        self.store = store
        self.payments_of = payments_of

    def expand(self, answer: Obj, paths: list[str]) -> Obj:
        """The answer with every path expanded; a path that names nothing is refused."""
        answer = deepcopy(answer) if paths else answer
        for path in paths:
            names = path.split(".")
            if len([name for name in names if name != "data"]) > _DEEPEST:
                raise invalid(f"You cannot expand more than {_DEEPEST} levels of a property.", "expand")
            self._walk(answer, names, path)
        return answer

    def _walk(self, place: Any, names: list[str], path: str) -> None:
        if isinstance(place, list):
            for item in place:
                self._walk(item, names, path)
            return
        if not names or not isinstance(place, dict):
            return
        name, rest = names[0], names[1:]
        if name not in place:
            self._include(place, name, path)
        if isinstance(place.get(name), str):
            found = self.store.find(place[name])
            if found is None:
                raise invalid(f"This property cannot be expanded ({path}).", "expand")
            place[name] = deepcopy(found)
        self._walk(place.get(name), rest, path)

    def _include(self, place: Obj, name: str, path: str) -> None:
        kind = place.get("object")
        if (kind, name) == ("invoice", "payments"):
            payments = deepcopy(self.payments_of(place))
            url = f"/v1/invoice_payments?invoice={place['id']}"
            place[name] = {
                "object": "list",
                "data": payments[:10],
                "has_more": len(payments) > 10,
                "url": url,
            }
        elif (kind, name) == ("invoice", "confirmation_secret"):
            place[name] = self._secret_of(place)
        elif (kind, name) == ("customer", "subscriptions"):
            mine = [s for s in self.store.newest_first("subscription") if s["customer"] == place["id"]]
            alive = deepcopy([s for s in mine if s["status"] != "canceled"])
            url = f"/v1/customers/{place['id']}/subscriptions"
            place[name] = {"object": "list", "data": alive, "has_more": False, "url": url}
        elif place.get("deleted") or kind is None or "payment" in str(kind):
            # A stub or a union such as invoice_payment.payment may well lack the field.
            return
        else:
            raise invalid(f"This property cannot be expanded ({path}).", "expand")

    def _secret_of(self, invoice: Obj) -> Obj | None:
        for payment in self.payments_of(invoice):
            intent = self.store.find(payment["payment"].get("payment_intent") or "")
            if payment["is_default"] and intent is not None:
                return {"client_secret": intent["client_secret"], "type": "payment_intent"}
        return None
