"""Form parameters as the SDK sends them: decoding, checking against what an endpoint takes.

Owns the nesting rules (`a[b][0]=c`) and Stripe's parameter errors. A parameter that the simulator
does not model is refused, never ignored.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from simulators.stripe.errors import ApiError

Spec = dict[str, Any]
"""Parameter name to type: `str`, `int`, `bool`, MAP, RANGE, `[str]`, or a nested Spec. `name!` is required."""

MAP = "map"
"""A hash with free keys and text values, such as metadata; empty text clears it."""

RANGE = "range"
"""An instant, or limits by gt, gte, lt, lte; kept as limits."""

_LIMITS: Spec = {"gt": int, "gte": int, "lt": int, "lte": int}
_FLAGS = {"true": True, "false": False}


def decode(text: str) -> dict[str, Any]:
    """Turn `a[b]=1&c[0]=2` into nested hashes and lists."""
    tree: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        head, *rest = key.replace("]", "").split("[")
        place = tree
        for name, following in zip([head, *rest], rest, strict=False):
            inner = place.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ApiError(f"Invalid {following}: {key}", param=key)
            place = inner
        last = rest[-1] if rest else head
        place[last or str(len(place))] = value
    return tree


def check(given: dict[str, Any], spec: Spec, *, path: str = "") -> dict[str, Any]:
    """The parameters with their types, or Stripe's error about the first wrong one."""
    types = {name.rstrip("!"): kind for name, kind in spec.items()}
    for name in spec:
        if name.endswith("!") and name[:-1] not in given:
            wanted = _named(path, name[:-1])
            raise ApiError(f"Missing required param: {wanted}.", code="parameter_missing", param=wanted)
    checked = {}
    for name, value in given.items():
        where = _named(path, name)
        if name not in types:
            raise ApiError(f"Received unknown parameter: {where}", code="parameter_unknown", param=where)
        checked[name] = _typed(value, types[name], where)
    return checked


def _typed(value: Any, kind: Any, where: str) -> Any:
    if kind is MAP:
        return _map(value, where)
    if kind is RANGE:
        if isinstance(value, dict):
            return check(value, _LIMITS, path=where)
        exact = _typed(value, int, where)
        return {"gte": exact, "lte": exact}
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            raise ApiError(f"Invalid object for {where}", param=where)
        return check(value, kind, path=where)
    if isinstance(kind, list):
        if not isinstance(value, dict):
            raise ApiError(f"Invalid array for {where}", param=where)
        return [_typed(item, kind[0], f"{where}[{index}]") for index, item in value.items()]
    if isinstance(value, dict):
        raise ApiError(f"Invalid string: {value}", param=where)
    return _scalar(value, kind, where)


def _scalar(value: str, kind: type, where: str) -> Any:
    if kind is bool:
        if value not in _FLAGS:
            raise ApiError(f"Invalid boolean: {value}", code="parameter_invalid_boolean", param=where)
        return _FLAGS[value]
    if kind is int:
        try:
            return int(value)
        except ValueError:
            raise ApiError(
                f"Invalid integer: {value}", code="parameter_invalid_integer", param=where
            ) from None
    return value


def _map(value: Any, where: str) -> dict[str, str]:
    if value == "":
        return {}
    if not isinstance(value, dict) or any(isinstance(item, dict) for item in value.values()):
        raise ApiError(f"Invalid hash for {where}", param=where)
    if len(value) > 50 or any(len(key) > 40 or len(item) > 500 for key, item in value.items()):
        raise ApiError(
            f"{where} takes at most 50 keys of 40 characters with values of 500 characters", param=where
        )
    return value


def _named(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name
