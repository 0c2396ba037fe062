"""Runs against small playbooks of this folder: requests, inventories, and what is left on the machine."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from billing.clock import SystemClock
from reconciler.runs import processes
from reconciler.runs.execution import Execution
from reconciler.runs.request import RunRequest

NODES = ("n1", "n2", "n3")


@pytest.fixture
def playbooks(tmp_path: Path) -> Path:
    """Return a copy of the test playbooks, in a checkout whose path has a space."""
    return Path(shutil.copytree(Path(__file__).with_name("playbooks"), tmp_path / "a checkout" / "playbooks"))


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Return the folder of an inventory with three nodes, all of them this machine."""
    folder = tmp_path / "an inventory"
    folder.mkdir()
    hosts = "".join(f"        {node}: {{ansible_connection: local}}\n" for node in NODES)
    (folder / "hosts.yml").write_text(f"all:\n  children:\n    zrh1:\n      hosts:\n{hosts}")
    (folder / "group_vars").mkdir()
    (folder / "group_vars" / "zrh1.yml").write_text("said_by_group_vars: yes, zrh1\ntarget_nodes: all\n")
    (folder / "README.md").write_text("{{ nothing here is an inventory }}\n")
    return folder


@pytest.fixture
def ask(playbooks: Path, inventory: Path) -> Callable[..., RunRequest]:
    """Return a maker of requests: `ask(guest(...), nodes=("n1",), play="act", **other)`."""

    def make(
        *guests: dict[str, Any], nodes: tuple[str, ...] = ("n1",), play: str = "act", **other: Any
    ) -> RunRequest:
        return RunRequest(
            playbook=playbooks / f"{play}.yml",
            playbooks=playbooks,
            inventory=inventory,
            target_nodes=nodes,
            known_nodes=frozenset(NODES),
            guests=guests,
            **{"timeout_seconds": 240.0, **other},
        )

    return make


@pytest.fixture
def guest() -> Callable[..., dict[str, Any]]:
    """Return a maker of guests: `guest("101", node="n1", do=..., **expect)`."""

    def make(number: str, *, node: str = "n1", **expect: Any) -> dict[str, Any]:
        return {
            "id": f"srv-{number}",
            "kind": "vm",
            "guest": number,
            "node": node,
            "step": f"step-{number}",
            "generation": 1,
            "expect": expect,
        }

    return make


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Return a state directory of this test's own."""
    return tmp_path / "state"


@pytest.fixture
async def execution(state_dir: Path) -> AsyncIterator[Execution]:
    """Yield an execution; every run that the test left is cancelled at its end."""
    running = Execution(state_dir, SystemClock())
    yield running
    await running.aclose()


@pytest.fixture
def run_ids() -> Iterator[list[str]]:
    """Yield a list of run ids whose processes are ended after the test, whatever happened in it."""
    ids: list[str] = []
    yield ids
    for run_id in ids:
        processes.sweep(run_id)


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Return a waiter: `await eventually(holds, what="…", within=60)` fails with `what` when it never holds."""

    async def wait(holds: Callable[[], bool], *, what: str = "it never happened", within: float = 60) -> None:
        until = time.monotonic() + within
        while not holds():
            assert time.monotonic() < until, what
            await asyncio.sleep(0.02)

    return wait
