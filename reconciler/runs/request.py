"""What may be asked of a run, and the checks that every request passes before anything is started.

Owns the border between our data and Ansible: names and ids match strict patterns, the targets are listed one by
one, and no text that could be a template crosses. Starts nothing and reads no file.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

#: More guests than this in one run are split by the caller; their results stay far from the runner's limit.
MAX_GUESTS = 1000
MAX_TIMEOUT_SECONDS = 6 * 3600
_MAX_TEXT = 4096
_MAX_DEPTH = 6
#: A shorter secret would blank out half of every log that it is redacted from.
MIN_SECRET = 6

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=+/-]{0,127}")
_KIND = re.compile(r"[A-Za-z]{1,20}")
_GUEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,252}(/[A-Za-z0-9][A-Za-z0-9_.+-]{0,252}){0,2}")
_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_EXPECT_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+/-]{0,199}")
_SECRET_NAME = re.compile(r"(?!ansible_)[a-z][a-z0-9_]{0,40}")
#: Separators of lists of paths or hosts, and the starts of variables, in Ansible's own reading of a path.
_READ_BY_ANSIBLE = re.compile(r"[:$,]|\{[{%#]")
_TEMPLATE_MARKS = ("{{", "{%", "{#")
#: Words that select hosts in Ansible although they look like a plain name.
_SELECTING_NAMES = frozenset({"all", "ungrouped"})

_GUEST_FIELDS = {
    "id": _ID,
    "kind": _KIND,
    "guest": _GUEST,
    "node": _NODE,
    "pool": _GUEST,
    "step": _ID,
    "role": _ROLE,
}
_GUEST_KEYS = frozenset(_GUEST_FIELDS) | {"generation", "expect"}


class RunRefusedError(ValueError):
    """The request names something that no run may be started with; nothing was started."""


class Depth(StrEnum):
    """How much an observing run reads; `SHALLOW` alone needs no list of guests."""

    SHALLOW = "shallow"
    DEEP = "deep"


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One run of one playbook on listed nodes.

    `playbooks` is the folder with `ansible.cfg` and `plugins/`, `playbook` a file inside it, `inventory` the
    folder that holds `hosts.yml`; all three absolute. `known_nodes` are the inventory's own node names: the
    targets must be among them. `void` lists the steps that are already void at the start. Each secret reaches
    the play as a path in the extra variable `<name>_path` and is never printed.
    """

    playbook: Path
    playbooks: Path
    inventory: Path
    target_nodes: tuple[str, ...]
    known_nodes: frozenset[str]
    timeout_seconds: float
    guests: tuple[Mapping[str, object], ...] = ()
    depth: Depth | None = None
    check: bool = False
    void: frozenset[str] = frozenset()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)


def checked(request: RunRequest) -> RunRequest:
    """Return the request when a run may be started with it.

    Raises `RunRefusedError` naming the field, what was wrong and what would be right.
    """
    _fullmatch("run_id", request.run_id, _RUN_ID)
    if not 0 < request.timeout_seconds <= MAX_TIMEOUT_SECONDS:
        raise RunRefusedError(
            f"timeout_seconds: {request.timeout_seconds}; give more than 0, at most {MAX_TIMEOUT_SECONDS}"
        )
    _check_paths(request)
    _check_nodes(request.target_nodes, request.known_nodes)
    _check_guests(request)
    for step in request.void:
        _fullmatch("void", step, _ID)
    for name, value in request.secrets.items():
        _fullmatch("secrets", name, _SECRET_NAME)
        if len(value) < MIN_SECRET:
            raise RunRefusedError(f"secrets.{name}: needs a text of at least {MIN_SECRET} characters")
    return request


def _check_paths(request: RunRequest) -> None:
    for name in ("playbook", "playbooks", "inventory"):
        path: Path = getattr(request, name)
        if not path.is_absolute() or ".." in path.parts:
            raise RunRefusedError(f"{name}: {str(path)!r} must be an absolute path without '..'")
        if not str(path).isprintable() or _READ_BY_ANSIBLE.search(str(path)):
            raise RunRefusedError(
                f"{name}: {str(path)!r} holds one of : $ , {{ which Ansible does not take literally"
            )
    if not request.playbook.is_relative_to(request.playbooks):
        raise RunRefusedError(f"playbook: {str(request.playbook)!r} is not inside {str(request.playbooks)!r}")


def _check_nodes(targets: Sequence[str], known: frozenset[str]) -> None:
    if not targets:
        raise RunRefusedError("target_nodes: is empty; list the nodes of the run one by one")
    for node in targets:
        _fullmatch("target_nodes", node, _NODE)
        if node.lower() in _SELECTING_NAMES:
            raise RunRefusedError(
                f"target_nodes: {node!r} selects hosts instead of naming one; list the nodes"
            )
        if node not in known:
            raise RunRefusedError(f"target_nodes: {node!r} is not a node of this inventory")
    if len(set(targets)) != len(targets):
        raise RunRefusedError("target_nodes: a node is listed twice; list each once")


def _check_guests(request: RunRequest) -> None:
    if not request.guests and request.depth is not Depth.SHALLOW:
        raise RunRefusedError("guests: is empty; only a shallow observation runs without guests")
    if len(request.guests) > MAX_GUESTS:
        raise RunRefusedError(f"guests: {len(request.guests)} in one run; give at most {MAX_GUESTS}")
    seen: set[object] = set()
    for position, guest in enumerate(request.guests):
        where = f"guests[{position}]"
        _check_guest(where, guest)
        if guest["id"] in seen:
            raise RunRefusedError(f"{where}.id: {guest['id']!r} is listed twice; list each target once")
        seen.add(guest["id"])
        if guest.get("node") is not None and guest["node"] not in request.target_nodes:
            raise RunRefusedError(f"{where}.node: {guest['node']!r} is not among target_nodes")


def _check_guest(where: str, guest: Mapping[str, object]) -> None:
    if unknown := sorted(str(key) for key in guest.keys() - _GUEST_KEYS):
        raise RunRefusedError(
            f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_GUEST_KEYS))}"
        )
    for name in ("id", "kind"):
        if guest.get(name) is None:
            raise RunRefusedError(f"{where}.{name}: is missing")
    if guest.get("guest") is None and guest.get("pool") is None:
        raise RunRefusedError(f"{where}: names neither a guest nor a pool")
    for name, pattern in _GUEST_FIELDS.items():
        if guest.get(name) is not None:
            _fullmatch(f"{where}.{name}", guest[name], pattern)
    generation = guest.get("generation", 0)
    if isinstance(generation, bool) or not isinstance(generation, int) or generation < 0:
        raise RunRefusedError(f"{where}.generation: {generation!r} must be a whole number from 0")
    _check_plain(f"{where}.expect", guest.get("expect"), _MAX_DEPTH)


def _check_plain(where: str, value: object, depth: int) -> None:
    """Refuse anything but plain data without template marks; Ansible would evaluate those."""
    match value:
        case None | bool() | int() | float():
            return
        case str():
            _check_text(where, value)
        case Mapping() if depth:
            for key, inner in value.items():
                _fullmatch(where, key, _EXPECT_KEY)
                _check_plain(f"{where}.{key}", inner, depth - 1)
        case list() | tuple() if depth:
            for position, inner in enumerate(value):
                _check_plain(f"{where}[{position}]", inner, depth - 1)
        case _:
            raise RunRefusedError(f"{where}: {type(value).__name__} is nested too deep or not plain data")


def _check_text(where: str, text: str) -> None:
    if len(text) > _MAX_TEXT:
        raise RunRefusedError(f"{where}: {len(text)} characters; at most {_MAX_TEXT}")
    if not text.isprintable():
        raise RunRefusedError(f"{where}: holds a newline or another unprintable character")
    if any(mark in text for mark in _TEMPLATE_MARKS):
        raise RunRefusedError(f"{where}: holds a template mark; data of a run is never a template")


def _fullmatch(where: str, value: object, pattern: re.Pattern[str]) -> None:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        shown = repr(value)[:80]
        raise RunRefusedError(f"{where}: {shown} does not match {pattern.pattern}")
