"""The border of a run: what is refused before anything is started."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.runs.execution import Execution
from reconciler.runs.request import MAX_GUESTS, Depth, RunRefusedError, RunRequest, checked

Ask = Callable[..., RunRequest]
Guest = Callable[..., dict[str, Any]]

TEMPLATES = (
    "{{ lookup('pipe', 'touch canary') }}",
    "{% for x in range(3) %}x{% endfor %}",
    "{# comment #}",
    "name {{7*7}}",
    "a\nb",
    "a\rb",
    "tab\there",
    "bell\x07",
    "\x1b[31mred",
    "\u202eright to left",
    "\u2028line",
    "nul\x00",
)
NOT_A_NAME = (
    "", " ", "*", "all*", "n?", "n1,n2", "n1:n2", "!n1", "n1:!n2", "&n1", "~n.*", "@/etc/passwd", "@file", "n[1:3]",
    "-n1", "--limit", "n1 n2", "n1;touch x", "$(touch x)", "`touch x`", "n1|x", "../n1", "/n1", "n1/",
    "n\u00f6", "n1\n", *TEMPLATES,
)  # fmt: skip


def test_it_takes_a_plain_request(ask: Ask, guest: Guest) -> None:
    """What the product itself sends passes, a backup's name and a container's pool included."""
    pool = {"id": "acc-7@zrh1".replace("@", ":"), "kind": "pool", "pool": "customer-7", "generation": 0}
    listed = guest("101", unprotected=["pbs:backup/vm/101/2026-11-20T05:00:00Z"], onboot=True, net0=None)
    request = ask(listed, pool)
    assert checked(request) is request


@pytest.mark.parametrize("name", [*NOT_A_NAME, "all", "ALL", "ungrouped"])
def test_it_refuses_a_node_that_is_no_plain_name(ask: Ask, guest: Guest, name: str) -> None:
    """Patterns, files, ranges and exclusions never reach Ansible, even when the inventory is said to know them."""
    request = replace(
        ask(guest("101", node="n1")), target_nodes=("n1", name), known_nodes=frozenset({"n1", name})
    )
    with pytest.raises(RunRefusedError, match="target_nodes"):
        checked(request)


@pytest.mark.parametrize("targets", [(), ("n1", "n1"), ("n1", "elsewhere")])
def test_it_refuses_no_node_a_doubled_and_an_unknown_one(ask: Ask, targets: tuple[str, ...]) -> None:
    """A run matches exactly the listed nodes of its inventory, never nothing and never something else."""
    with pytest.raises(RunRefusedError, match="target_nodes"):
        checked(ask(nodes=targets, depth=Depth.SHALLOW))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.text(max_size=20) | st.from_regex(r"[a-z0-9*!:,@~\[\]&.{}-]{1,12}", fullmatch=True))
def test_it_lets_no_text_select_hosts(ask: Ask, guest: Guest, name: str) -> None:
    """Whatever passes is a name that Ansible takes literally."""
    request = replace(ask(guest("101", node=name)), target_nodes=(name,), known_nodes=frozenset({name}))
    try:
        checked(request)
    except RunRefusedError:
        return
    assert name.isascii()
    assert not set(name) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
    assert name[0] not in ".-_"
    assert name.lower() not in {"all", "ungrouped"}


@pytest.mark.parametrize("field", ["id", "kind", "guest", "node", "pool", "step", "role"])
@pytest.mark.parametrize("text", NOT_A_NAME)
def test_it_refuses_a_guest_whose_ids_are_no_ids(ask: Ask, guest: Guest, field: str, text: str) -> None:
    """Templates, shell text and options are refused in every field of a guest."""
    if field in {"id", "step"} and text in {"n1:n2", "n1/"}:
        text = f"/{text}"  # neither is ever part of a path or a pattern: these two marks may be inside
    with pytest.raises(RunRefusedError, match=rf"guests\[0\].*{field}"):
        checked(ask(guest("101") | {field: text}))


@pytest.mark.parametrize("field", ["id", "kind", "guest", "node", "pool", "step", "role"])
def test_it_refuses_an_id_that_is_no_text(ask: Ask, guest: Guest, field: str) -> None:
    """A number or a list in place of an id is refused rather than converted."""
    with pytest.raises(RunRefusedError, match=field):
        checked(ask(guest("101") | {field: ["n1"]}))


@pytest.mark.parametrize("text", TEMPLATES)
@pytest.mark.parametrize("place", [lambda t: t, lambda t: [t], lambda t: {"a": {"b": [t]}}, lambda t: {t: 1}])
def test_it_refuses_a_template_anywhere_in_expect(
    ask: Ask, guest: Guest, text: str, place: Callable[[str], object]
) -> None:
    """What was observed is data: a template mark or a control character in it refuses the run."""
    with pytest.raises(RunRefusedError, match=r"guests\[0\]\.expect"):
        checked(ask(guest("101", found=place(text))))


def test_it_refuses_what_is_not_plain_data_in_expect(ask: Ask, guest: Guest) -> None:
    """Objects, bottomless nesting and endless text are refused."""
    deep: object = 1
    for _ in range(20):
        deep = [deep]
    for value in (object(), b"bytes", deep, "x" * 10_000):
        with pytest.raises(RunRefusedError, match="expect"):
            checked(ask(guest("101", found=value)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "Ada's server"}, "unknown key 'name'"),
        ({"email": "a@b"}, "unknown key 'email'"),
        ({"generation": -1}, "generation"),
        ({"generation": "1"}, "generation"),
        ({"generation": True}, "generation"),
        ({"guest": None}, "neither a guest nor a pool"),
        ({"id": None}, "id"),
        ({"node": "n2"}, "not among target_nodes"),
    ],
)
def test_it_refuses_a_guest_that_is_not_of_the_contract(
    ask: Ask, guest: Guest, change: dict[str, Any], named: str
) -> None:
    """Extra keys, wrong types and another node's guest are refused by name."""
    with pytest.raises(RunRefusedError, match=named):
        checked(ask(guest("101") | change))


def test_it_refuses_no_guests_too_many_and_doubled_ones(ask: Ask, guest: Guest) -> None:
    """Only a shallow observation runs without a list, and no target is listed twice."""
    with pytest.raises(RunRefusedError, match="guests: is empty"):
        checked(ask(depth=Depth.DEEP))
    with pytest.raises(RunRefusedError, match="at most"):
        checked(ask(*(guest(str(number)) for number in range(MAX_GUESTS + 1))))
    with pytest.raises(RunRefusedError, match="twice"):
        checked(ask(guest("101"), guest("101")))
    assert checked(ask(depth=Depth.SHALLOW))


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": "../../etc"},
        {"run_id": "A" * 32},
        {"timeout_seconds": 0.0},
        {"timeout_seconds": float("nan")},
        {"timeout_seconds": 1e9},
        {"void": frozenset({"{{ x }}"})},
        {"secrets": {"token": "short"}},
        {"secrets": {"ansible_password": "long enough"}},
        {"secrets": {"Token": "long enough"}},
        {"inventory": Path("relative")},
        {"inventory": Path("/srv/n1,n2")},
        {"playbook": Path("/etc/other.yml")},
        {"playbooks": Path("/srv/{{ x }}")},
    ],
)
def test_it_refuses_unsafe_paths_names_and_limits(ask: Ask, guest: Guest, change: dict[str, Any]) -> None:
    """Everything else that reaches a path, a variable's name or a clock is checked as well."""
    with pytest.raises(RunRefusedError, match=next(iter(change))):
        checked(replace(ask(guest("101")), **change))


def test_it_shows_no_secret_when_printed(ask: Ask, guest: Guest) -> None:
    """A request that lands in a traceback or a log does not carry its secrets."""
    assert "hunter2hunter2" not in repr(ask(guest("101"), secrets={"token": "hunter2hunter2"}))


async def test_it_starts_nothing_for_a_refused_request(
    execution: Execution, ask: Ask, guest: Guest, state_dir: Path
) -> None:
    """A refusal comes before any process and any file."""
    with pytest.raises(RunRefusedError):
        await execution.start(ask(guest("101"), nodes=("all",)))
    with pytest.raises(RunRefusedError, match="is missing"):
        await execution.start(ask(guest("101"), play="no_such_play"))
    assert not state_dir.exists()
