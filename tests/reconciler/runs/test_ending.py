"""A run that ends before its play is done: whatever ended it, no process is left and nothing more happens."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.rules.outcome import Outcome
from reconciler.rules.terms import RunState
from reconciler.runs import execution as execution_module
from reconciler.runs import processes
from reconciler.runs.execution import Execution, RunHandle, sweep_leftovers
from reconciler.runs.request import RunRequest

Ask = Callable[..., RunRequest]
Guest = Callable[..., dict[str, Any]]
Eventually = Callable[..., Awaitable[None]]
NODES = ("n1", "n2", "n3")


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    """Return the file that every busy process of the run keeps appending to."""
    return tmp_path / "effects"


@pytest.fixture
def busy(guest: Guest, effects: Path) -> list[dict[str, Any]]:
    """Return guests that keep three workers, a child and a process without any mark of the run at work for minutes."""
    path = str(effects)
    return [
        guest("101", node="n1", do="work", path=path),
        guest("201", node="n2", do="spawn", path=path),
        guest("202", node="n2", do="work", path=path),
        guest("301", node="n3", do="hide", path=path),
        guest("302", node="n3", do="work", path=path),
    ]


def both_at_work(effects: Path) -> Callable[[], bool]:
    """Return whether workers and children alike have had effects."""

    def at_work() -> bool:
        text = effects.read_text() if effects.exists() else ""
        return text.count("worker") > 5 and text.count("child") > 5

    return at_work


async def no_more_effects(effects: Path) -> None:
    """Assert that nothing is appended any more."""
    before = effects.read_bytes()
    await asyncio.sleep(0.3)
    assert effects.read_bytes() == before


def traces(run_id: str, state_dir: Path) -> list[Path]:
    """Return what is on disk of a run."""
    return [*Path("/dev/shm").glob(f"*{run_id}*"), *state_dir.glob(f"runs/*{run_id}*")]


def supervisor_of(handle: RunHandle) -> int:
    return handle._process.pid


async def test_it_leaves_nothing_when_cancelled(
    eventually: Eventually,
    execution: Execution,
    ask: Ask,
    busy: list[dict[str, Any]],
    effects: Path,
    state_dir: Path,
) -> None:
    """A stop ends workers, children and what hid itself, long before their time, before the verdict is given."""
    handle = await execution.start(ask(*busy, nodes=NODES))
    await eventually(both_at_work(effects))
    handle.cancel()
    handle.cancel()
    verdict = await handle.wait()
    size = effects.stat().st_size
    await no_more_effects(effects)
    assert effects.stat().st_size == size
    assert (verdict.state, verdict.verified_gone, verdict.problem) == (RunState.CANCELLED, True, "cancelled")
    assert {report.outcome for report in verdict.reports} == {Outcome.UNKNOWN}
    assert processes.members(handle.run_id) == []
    assert traces(handle.run_id, state_dir) == []


async def test_it_leaves_nothing_when_its_deadline_passes(
    execution: Execution, ask: Ask, busy: list[dict[str, Any]], effects: Path
) -> None:
    """The deadline is a stop like any other and says so."""
    for deadline in (2, 8, 32, 128):  # on a busy machine a play takes longer to get to work
        handle = await execution.start(ask(*busy, nodes=NODES, timeout_seconds=float(deadline)))
        verdict = await handle.wait()
        assert (verdict.state, verdict.verified_gone) == (RunState.CANCELLED, True)
        assert f"deadline of {deadline} s" in str(verdict.problem)
        if effects.exists() and "worker" in effects.read_text():
            break
    assert "worker" in effects.read_text()
    assert processes.members(handle.run_id) == []
    await no_more_effects(effects)


async def test_it_stops_a_run_that_has_hardly_begun(
    execution: Execution, ask: Ask, guest: Guest, effects: Path
) -> None:
    """A stop at any moment of the start leaves nothing either."""
    handles = []
    for delay in (0.0, 0.1, 0.25, 0.4):
        handle = await execution.start(ask(guest("101", do="work", path=str(effects))))
        await asyncio.sleep(delay)
        handle.cancel()
        handles.append(handle)
    verdicts = await asyncio.gather(*(handle.wait() for handle in handles))
    assert {verdict.state for verdict in verdicts} <= {RunState.CANCELLED, RunState.LOST}
    assert all(verdict.verified_gone for verdict in verdicts)
    assert [processes.members(handle.run_id) for handle in handles] == [[], [], [], []]


async def test_it_stops_only_the_run_that_was_meant(
    eventually: Eventually, execution: Execution, ask: Ask, guest: Guest, tmp_path: Path
) -> None:
    """Another run that goes on beside it ends as it would have."""
    stopped = await execution.start(ask(guest("101", do="work", path=str(tmp_path / "stopped"))))
    last = {"path": str(tmp_path / "other"), "until": str(tmp_path / "enough")}
    other = await execution.start(ask(guest("102", do="work", **last)))
    for name in ("stopped", "other"):
        await eventually((tmp_path / name).exists)
    stopped.cancel()
    assert (await stopped.wait()).state is RunState.CANCELLED
    (tmp_path / "enough").touch()
    verdict = await other.wait()
    assert (verdict.state, verdict.reports[0].outcome) == (RunState.FINISHED, Outcome.UNCHANGED)


async def test_it_is_lost_and_leaves_nothing_when_its_supervisor_is_killed(
    eventually: Eventually,
    execution: Execution,
    ask: Ask,
    guest: Guest,
    busy: list[dict[str, Any]],
    effects: Path,
    state_dir: Path,
) -> None:
    """Without a supervisor the parent ends what is left; nothing is known then, whatever was reported before."""
    handle = await execution.start(ask(*busy[:3], guest("303", node="n3"), nodes=NODES))
    await eventually(both_at_work(effects))
    assert (await anext(handle.reports())).id == "srv-303"
    os.kill(supervisor_of(handle), signal.SIGKILL)
    verdict = await handle.wait()
    await no_more_effects(effects)
    assert (verdict.state, verdict.verified_gone) == (RunState.LOST, True)
    assert [report.outcome for report in verdict.reports] == [Outcome.UNKNOWN] * 4
    assert processes.members(handle.run_id) == []
    assert traces(handle.run_id, state_dir) == []


async def test_it_leaves_nothing_when_the_play_itself_is_killed(
    eventually: Eventually, execution: Execution, ask: Ask, busy: list[dict[str, Any]], effects: Path
) -> None:
    """The main process of the play killed, as for want of memory: its workers do not go on without it."""
    handle = await execution.start(ask(*busy, nodes=NODES))
    await eventually(both_at_work(effects))
    (play,) = processes.children(supervisor_of(handle))[:1]
    os.kill(play, signal.SIGKILL)
    verdict = await handle.wait()
    await no_more_effects(effects)
    assert (verdict.state, verdict.verified_gone) == (RunState.FINISHED, True)
    assert "was killed" in str(verdict.problem)
    assert {report.outcome for report in verdict.reports} == {Outcome.UNKNOWN}
    assert processes.members(handle.run_id) == []


async def test_it_gives_up_a_supervisor_that_hangs(
    eventually: Eventually,
    execution: Execution,
    ask: Ask,
    guest: Guest,
    effects: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A supervisor that answers nothing is ended too: no run is ever stuck."""
    monkeypatch.setattr(execution_module, "VERDICT_SECONDS", 0.5)
    handle = await execution.start(ask(guest("101", do="work", path=str(effects))))
    await eventually(effects.exists)
    os.kill(supervisor_of(handle), signal.SIGSTOP)
    handle.cancel()
    verdict = await handle.wait()
    assert (verdict.state, verdict.verified_gone) == (RunState.LOST, True)
    assert "no verdict in time" in str(verdict.problem)
    assert processes.members(handle.run_id) == []
    await no_more_effects(effects)


async def test_it_lets_a_caller_stop_waiting(execution: Execution, ask: Ask, guest: Guest) -> None:
    """Cancelling the task that waits does not end the run."""
    handle = await execution.start(ask(guest("101")))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handle.wait(), 0.05)
    assert (await handle.wait()).reports[0].outcome is Outcome.UNCHANGED


Serve = Callable[[list[dict[str, Any]]], Awaitable[tuple[asyncio.subprocess.Process, str]]]


@pytest.fixture
async def serve(playbooks: Path, inventory: Path, state_dir: Path, run_ids: list[str]) -> Any:
    """Yield a starter of a server process that has one run with the given guests."""
    started: list[asyncio.subprocess.Process] = []

    async def start(guests: list[dict[str, Any]]) -> tuple[asyncio.subprocess.Process, str]:
        script = str(Path(__file__).with_name("serving_parent.py"))
        paths = (str(state_dir), str(playbooks), str(inventory))
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, *paths, json.dumps(guests), stdout=asyncio.subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        run_id = (await process.stdout.readline()).decode().strip()
        run_ids.append(run_id)
        return process, run_id

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_ends_with_a_server_that_is_killed(
    eventually: Eventually, serve: Serve, busy: list[dict[str, Any]], effects: Path, state_dir: Path
) -> None:
    """`kill -9` of the parent ends the run and its supervisor long before its time, and nothing is left on disk."""
    parent, run_id = await serve(busy)
    await eventually(both_at_work(effects))
    parent.kill()
    await parent.wait()
    await eventually(lambda: not processes.members(run_id), what="the run outlived its parent")
    await no_more_effects(effects)
    assert traces(run_id, state_dir) == []
    assert (await sweep_leftovers(state_dir)).alive == ()


async def test_it_ends_with_a_server_that_shuts_down(
    eventually: Eventually, serve: Serve, busy: list[dict[str, Any]], effects: Path, state_dir: Path
) -> None:
    """Under uvicorn, SIGTERM still shuts the server down in order, and its run has a verdict before it is gone."""
    parent, run_id = await serve(busy)
    await eventually(both_at_work(effects))
    parent.send_signal(signal.SIGTERM)
    assert parent.stdout is not None
    assert (await parent.stdout.read()).decode().split() == ["CANCELLED", "True"]
    await asyncio.wait_for(parent.wait(), 60)
    assert processes.members(run_id) == []
    assert traces(run_id, state_dir) == []
    await no_more_effects(effects)


async def test_it_is_swept_at_the_next_start_when_all_were_killed(
    eventually: Eventually, serve: Serve, busy: list[dict[str, Any]], effects: Path, state_dir: Path
) -> None:
    """Parent and supervisor killed at once: the next start finds what is left, ends it and removes its folder."""
    parent, run_id = await serve([one for one in busy if one["id"] != "srv-301"])
    await eventually(lambda: effects.exists() and "child" in effects.read_text())
    (supervisor,) = processes.children(parent.pid)
    os.kill(supervisor, signal.SIGSTOP)
    parent.kill()
    os.kill(supervisor, signal.SIGKILL)
    await parent.wait()
    # The play ends by itself with its supervisor; only what left its session goes on.
    await eventually(lambda: len(processes.members(run_id)) == 1, what="the play outlived its supervisor")
    before = effects.read_text().count("worker")
    await asyncio.sleep(0.3)
    assert effects.read_text().count("worker") == before
    assert len(processes.members(run_id)) == 1
    assert traces(run_id, state_dir) != []
    left = await sweep_leftovers(state_dir)
    assert (left.swept, left.alive) == ((run_id,), ())
    assert processes.members(run_id) == []
    assert traces(run_id, state_dir) == []
    await no_more_effects(effects)


async def test_its_workers_end_with_the_play_when_nobody_is_left_to_end_them(
    eventually: Eventually, serve: Serve, busy: list[dict[str, Any]], effects: Path
) -> None:
    """Parent, supervisor and the play itself killed at once: no worker goes on alone until the next start."""
    parent, run_id = await serve([busy[0], busy[2], busy[4]])
    await eventually(lambda: len(processes.members(run_id)) == 5, what="the workers did not start")
    (supervisor,) = processes.children(parent.pid)
    (play,) = processes.children(supervisor)
    # The play first, so that it hears nothing of the others; the supervisor must not notice.
    os.kill(supervisor, signal.SIGSTOP)
    parent.kill()
    for process in (play, supervisor):
        os.kill(process, signal.SIGKILL)
    await parent.wait()
    await eventually(lambda: not processes.members(run_id), what="a worker outlived its play")
    if effects.exists():
        await no_more_effects(effects)


async def test_it_does_not_sweep_a_run_that_is_going_on(
    eventually: Eventually, execution: Execution, ask: Ask, guest: Guest, effects: Path, state_dir: Path
) -> None:
    """Another process with the same state directory leaves living runs alone."""
    enough = effects.with_name("enough")
    handle = await execution.start(ask(guest("101", do="work", path=str(effects), until=str(enough))))
    await eventually(effects.exists)
    left = await sweep_leftovers(state_dir)
    assert (left.swept, left.alive) == ((), ())
    enough.touch()
    assert (await handle.wait()).state is RunState.FINISHED
