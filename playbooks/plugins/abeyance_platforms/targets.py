"""What a play accepts as its targets, and the strict patterns that every text in them must match.

Owns the border between data and plays: nothing that could be a template, a path outside or an option passes.
Talks to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

#: So many targets are read by one item of a loop; what acts on guests takes `node_in_flight` of them.
CHUNK = 25

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=+/-]{0,127}")
NODE = re.compile(r"(?!(?:all|ungrouped)$)[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
POOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(?:/[A-Za-z0-9][A-Za-z0-9_.-]{0,62}){0,2}")
VMID = re.compile(r"[1-9][0-9]{2,8}")
CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
VOLID = re.compile(r"(?!.*(?:\.\.|//))[A-Za-z0-9][A-Za-z0-9_.:/+@-]{0,254}")
ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9 :._-]{0,127}")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,62}")
WORDS = re.compile(r"[A-Za-z0-9 :_.,()/+-]{0,200}")

_GUEST_IDS = {"proxmox": VMID, "lxc": CONTAINER}
_KINDS = {"proxmox": ("lxc", "vm"), "lxc": ("lxc",)}
_KEYS = frozenset({"id", "kind", "guest", "pool", "node", "step", "generation", "expect", "role"})


class BadInputError(ValueError):
    """The targets are not what a play accepts; nothing was done. Names the field and what would be right."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One guest, or one customer's pool, that a play acts on.

    `kind` is `lxc`, `vm` or `pool`. `expect` holds only parts that were given: what was observed when the step
    was dispatched, and so the record of what to give back. `role` asks for another role than the site's own.
    """

    id: str
    kind: str
    guest: str = ""
    pool: str = ""
    node: str = ""
    step: str = ""
    role: str = ""
    expect: Mapping[str, object] = field(default_factory=dict)


def parse_targets(raw: object, platform: str) -> tuple[Target, ...]:
    """Return the targets of `raw`, a list of mappings; raise `BadInputError` on the first thing that does not fit."""
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise BadInputError("guests: must be a list")
    targets = tuple(_target(f"guests[{position}]", entry, platform) for position, entry in enumerate(raw))
    for name, values in (
        ("id", [target.id for target in targets]),
        ("guest", [(target.kind, target.node, target.guest, target.pool) for target in targets]),
    ):
        if len(set(values)) != len(values):
            raise BadInputError(f"guests: one {name} is listed twice; list each target once")
    return targets


def parse_nodes(raw: object) -> tuple[str, ...]:
    """Return the names of the nodes of a run; each names one host, and none selects several."""
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes) or not raw:
        raise BadInputError("target_nodes: must list at least one node")
    nodes = tuple(text(f"target_nodes[{position}]", node, NODE) for position, node in enumerate(raw))
    if len(set(nodes)) != len(nodes):
        raise BadInputError("target_nodes: a node is listed twice")
    return nodes


def text(where: str, value: object, pattern: re.Pattern[str]) -> str:
    """Return `value` as a plain `str` when it matches `pattern` as a whole."""
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise BadInputError(f"{where}: {str(value)[:60]!r} does not match {pattern.pattern}")
    return str.__str__(value)


def _target(where: str, raw: object, platform: str) -> Target:
    if not isinstance(raw, Mapping):
        raise BadInputError(f"{where}: must be a mapping")
    if unknown := sorted(str(key) for key in set(raw) - _KEYS):
        raise BadInputError(f"{where}: unknown key {unknown[0][:60]!r}; known are {', '.join(sorted(_KEYS))}")
    kind = text(f"{where}.kind", raw.get("kind"), re.compile("[A-Za-z]{1,20}")).lower()
    generation = raw.get("generation", 0)
    if isinstance(generation, bool) or not isinstance(generation, int) or generation < 0:
        raise BadInputError(f"{where}.generation: must be a whole number from 0")
    if kind == "pool":
        named = {"pool": text(f"{where}.pool", raw.get("pool"), POOL)}
    elif kind in _KINDS[platform]:
        named = {
            "guest": text(f"{where}.guest", raw.get("guest"), _GUEST_IDS[platform]),
            "node": text(f"{where}.node", raw.get("node"), NODE),
        }
    else:
        raise BadInputError(
            f"{where}.kind: {kind!r}; platform {platform} has {', '.join(_KINDS[platform])} and pool"
        )
    return Target(
        id=text(f"{where}.id", raw.get("id"), ID),
        kind=kind,
        step=text(f"{where}.step", raw["step"], ID) if raw.get("step") is not None else "",
        role=text(f"{where}.role", raw["role"], ROLE) if raw.get("role") is not None else "",
        expect=_expect(f"{where}.expect", raw.get("expect")),
        **named,
    )


def _expect(where: str, raw: object) -> Mapping[str, object]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise BadInputError(f"{where}: must be a mapping")
    parts: dict[str, object] = {}
    for key, value in raw.items():
        if key not in _EXPECTED:
            raise BadInputError(
                f"{where}: unknown key {str(key)[:60]!r}; known are {', '.join(sorted(_EXPECTED))}"
            )
        if value is not None:
            parts[str.__str__(key)] = _EXPECTED[key](f"{where}.{key}", value)
    return parts


def _flag(where: str, value: object) -> bool:
    if value not in (0, 1):  # True and False are 1 and 0
        raise BadInputError(f"{where}: must be true or false")
    return bool(value)


def _power(where: str, value: object) -> str:
    return text(where, value, re.compile("running|stopped|unknown", re.IGNORECASE)).lower()


def _matching(pattern: re.Pattern[str]) -> Callable[[str, object], str]:
    return lambda where, value: text(where, value, pattern)


def _several(pattern: re.Pattern[str]) -> Callable[[str, object], tuple[str, ...]]:
    def parse(where: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise BadInputError(f"{where}: must be a list")
        return tuple(text(f"{where}[{position}]", entry, pattern) for position, entry in enumerate(value))

    return parse


_EXPECTED: dict[str, Callable[[str, object], object]] = {
    "power": _power,
    "onboot": _flag,
    "protection": _flag,
    "backups_locked": _flag,
    "node": _matching(NODE),
    "role": _matching(ROLE),
    "digest": _matching(re.compile("[0-9a-f]{1,128}")),
    "marker": _matching(re.compile("[A-Za-z0-9:._-]{1,100}")),
    "busy": _matching(WORDS),
    "identity": _matching(IDENTITY),
    "tags": _several(TAG),
    "backups": _several(VOLID),
    "protected_backups": _several(VOLID),
    "unprotected_backups": _several(VOLID),
}
