"""Runs through the real supervisor, runner and Ansible: what a verdict says, and that runs never mix."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from billing.clock import SystemClock
from reconciler.rules.outcome import Outcome, Retry
from reconciler.rules.terms import RunState
from reconciler.runs import processes
from reconciler.runs.environment import MAX_RESULT_CHARACTERS
from reconciler.runs.execution import Execution, RunVerdict, boot_time, sweep_leftovers
from reconciler.runs.request import RunRefusedError, RunRequest

Eventually = Callable[..., Awaitable[None]]
Ask = Callable[..., RunRequest]
Guest = Callable[..., dict[str, Any]]
DONE = {"outcome": "changed", "before": {"power": "running"}, "after": {"power": "stopped"}}


async def run(execution: Execution, request: RunRequest) -> RunVerdict:
    return await (await execution.start(request)).wait()


def outcomes(verdict: RunVerdict) -> dict[str, Outcome]:
    return {report.id: report.outcome for report in verdict.reports}


async def test_it_gives_each_target_the_outcome_that_was_reported(
    execution: Execution, ask: Ask, guest: Guest
) -> None:
    """Each target has its own report; silence, doubled, foreign and misspelled ones are unknown and told."""
    say = {
        "changed": [DONE],
        "unchanged": [DONE | {"outcome": "unchanged"}],
        "failed": [{"outcome": "failed", "message": "no quorum", "retry": "later"}],
        "refused": [{"outcome": "refused", "retry": "never", "message": "gone"}],
        "misspelled": [DONE | {"outcome": "ok"}],
        "doubled": [DONE, DONE],
        "silent": [],
        "unread": [DONE | {"after": None}],
    }
    guests = [
        guest(name, do="say", reports=[report | {"id": f"srv-{name}"} for report in said])
        for name, said in say.items()
    ]
    guests.append(guest("foreign", do="say", reports=[DONE | {"id": "srv-of-somebody-else"}]))
    verdict = await run(execution, ask(*guests))
    assert verdict.state is RunState.FINISHED
    assert verdict.verified_gone
    assert outcomes(verdict) == {
        "srv-changed": Outcome.CHANGED,
        "srv-unchanged": Outcome.UNCHANGED,
        "srv-failed": Outcome.FAILED,
        "srv-refused": Outcome.REFUSED,
        "srv-misspelled": Outcome.UNKNOWN,
        "srv-doubled": Outcome.UNKNOWN,
        "srv-silent": Outcome.UNKNOWN,
        "srv-unread": Outcome.UNKNOWN,
        "srv-foreign": Outcome.UNKNOWN,
    }
    failed = next(report for report in verdict.reports if report.id == "srv-failed")
    assert (failed.retry, failed.message) == (Retry.LATER, "no quorum")
    assert verdict.problem is not None
    for told in (
        "srv-of-somebody-else",
        "srv-doubled: reported more than once",
        "srv-misspelled",
        "srv-unread",
    ):
        assert told in verdict.problem
    assert "PLAY RECAP" in verdict.log
    assert verdict.started_at < verdict.finished_at


async def test_it_never_mixes_runs_that_go_on_together(execution: Execution, ask: Ask, guest: Guest) -> None:
    """Six runs at once, on overlapping nodes: each reports exactly its own targets, read by its own play."""
    requests = [
        ask(
            *(guest(f"{run}-{node}", node=node, do="observe") for node in ("n1", "n2")),
            nodes=("n1", "n2"),
        )
        for run in range(6)
    ]
    verdicts = await asyncio.gather(*(run(execution, request) for request in requests))
    for request, verdict in zip(requests, verdicts, strict=True):
        ids = [guest["id"] for guest in request.guests]
        assert [report.id for report in verdict.reports] == ids
        assert set(outcomes(verdict).values()) == {Outcome.UNCHANGED}
        assert [seen.node for seen in verdict.observation] in (["n1", "n2"], ["n2", "n1"])
        for seen in verdict.observation:
            assert [guest["id"] for guest in seen.facts["guests"]] == ids  # type: ignore[attr-defined]
        assert verdict.problem is None


async def test_it_tells_reports_as_they_come_and_predicts_in_check_mode(
    execution: Execution, ask: Ask, guest: Guest
) -> None:
    """Reports stream before the verdict, which says the same; `check` reaches the plugins."""
    handle = await execution.start(ask(guest("101"), guest("102"), check=True))
    streamed = [report async for report in handle.reports()]
    verdict = await handle.wait()
    assert tuple(streamed) == verdict.reports
    assert [report.after and report.after["check"] for report in streamed] == [True, True]


async def test_it_reaches_none_but_its_nodes(execution: Execution, ask: Ask, guest: Guest) -> None:
    """Even a play that says `hosts: all` by mistake runs on the listed nodes alone."""
    verdict = await run(execution, ask(guest("101", do="observe"), play="everywhere"))
    assert [seen.node for seen in verdict.observation] == ["n1"]
    assert "n2" not in verdict.log
    assert verdict.observation[0].facts["said_by_group_vars"] == "yes, zrh1"
    assert outcomes(verdict) == {"srv-101": Outcome.UNCHANGED}


async def test_it_takes_a_result_that_the_runner_dropped_for_unknown(
    execution: Execution, ask: Ask, guest: Guest
) -> None:
    """A result too large for the runner comes as an empty success: unknown, and told. One just below arrives."""
    too_large = guest("101", node="n1", do="flood", characters=MAX_RESULT_CHARACTERS + 1)
    large = guest("102", node="n2", do="flood", characters=MAX_RESULT_CHARACTERS - 2000)
    verdict = await run(execution, ask(too_large, large, nodes=("n1", "n2")))
    assert verdict.state is RunState.FINISHED
    assert outcomes(verdict) == {"srv-101": Outcome.UNKNOWN, "srv-102": Outcome.UNCHANGED}
    assert "on n1 was too large" in str(verdict.problem)


async def test_it_believes_no_output_that_imitates_an_event(
    execution: Execution, ask: Ask, guest: Guest
) -> None:
    """The runner's marks printed as text, as a guest's name could, forge no report."""
    forged = {
        "uuid": "11111111-2222-3333-4444-555555555555",
        "event": "runner_on_ok",
        "event_data": {"host": "n1", "task": "x", "res": {"abeyance_reports": [DONE | {"id": "srv-102"}]}},
    }
    coded = base64.b64encode(json.dumps(forged).encode()).decode()
    text = f"<esc>[K{coded}<esc>[{len(coded)}D<esc>[Kx<esc>[Ke30=<esc>[4D<esc>[K"
    verdict = await run(
        execution, ask(guest("101", do="print", text=text), guest("102", do="say", reports=[]))
    )
    assert outcomes(verdict)["srv-102"] is Outcome.UNKNOWN
    assert "imitates" in str(verdict.problem)


async def test_it_says_why_a_play_could_not_run(
    execution: Execution, ask: Ask, guest: Guest, playbooks: Path
) -> None:
    """A broken playbook ends as a finished run in which nothing is known, with the reason in its log."""
    (playbooks / "broken.yml").write_text("- hosts: [\n")
    verdict = await run(execution, ask(guest("101"), play="broken"))
    assert verdict.state is RunState.FINISHED
    assert outcomes(verdict) == {"srv-101": Outcome.UNKNOWN}
    assert "ansible-playbook ended with 4" in str(verdict.problem)  # as Ansible names an error in a play
    assert "broken.yml" in verdict.log


async def test_it_fails_on_an_inventory_that_does_not_know_a_node(
    execution: Execution, ask: Ask, guest: Guest
) -> None:
    """What only the request believes to exist is not created by the run."""
    wrong = replace(
        ask(guest("101", node="n9", do="observe")), target_nodes=("n9",), known_nodes=frozenset({"n9"})
    )
    verdict = await run(execution, wrong)
    assert outcomes(verdict) == {"srv-101": Outcome.UNKNOWN}
    assert verdict.observation == ()


async def test_it_keeps_the_permit_as_old_as_it_was_given(
    eventually: Eventually, ask: Ask, guest: Guest, tmp_path: Path, state_dir: Path
) -> None:
    """The permit carries the instant at which the parent asked the facts, however late it is written."""
    effects, read = tmp_path / "effects", tmp_path / "read"
    asked_at = iter([1.0, boot_time()])
    execution = Execution(state_dir, SystemClock(), boot_time=lambda: next(asked_at))
    handle = await execution.start(
        ask(
            guest("101", do="work", path=str(effects), until=str(read)),
            guest("102", do="observe"),
            void=frozenset({"a"}),
        )
    )
    await eventually(effects.exists)
    first = permit(handle.run_id)
    handle.permit(void=["step-102", "b"])
    await eventually(lambda: permit(handle.run_id) != first)
    renewed = permit(handle.run_id)
    read.touch()
    verdict = await handle.wait()
    assert first["at"] == 1.0
    assert 1.0 < renewed["at"] <= boot_time()
    assert (first["void"], renewed["void"]) == (["a"], ["b", "step-102"])
    assert verdict.observation[0].facts["permit"] == renewed


def permit(run_id: str) -> dict[str, Any]:
    (file,) = Path("/dev/shm").glob(f"abeyance-run-{run_id}-*/permit.json")
    permit: dict[str, Any] = json.loads(file.read_text())
    return permit


async def test_it_works_where_there_is_no_memory_to_use(ask: Ask, guest: Guest, tmp_path: Path) -> None:
    """Without room in memory the folder is made in the state directory, here one with spaces in its path."""
    state_dir = tmp_path / "a state" / "of ours"
    execution = Execution(state_dir, SystemClock(), memory=tmp_path / "missing")
    verdict = await run(execution, ask(guest("101", do="observe"), play="module"))
    assert outcomes(verdict) == {"srv-101": Outcome.UNCHANGED}, verdict.log
    assert f" {state_dir}/runs/abeyance-run-" in str(verdict.observation[0].facts["seen"])
    assert list((state_dir / "runs").iterdir()) == []


async def test_it_refuses_a_second_run_of_the_same_id(
    execution: Execution, ask: Ask, guest: Guest, state_dir: Path
) -> None:
    """A run's id is its mark on its processes: two with one id would end each other."""
    request = ask(guest("101"))
    (state_dir / "runs").mkdir(parents=True)
    (state_dir / "runs" / f"{request.run_id}.json").touch()
    with pytest.raises(RunRefusedError, match="another run's"):
        await execution.start(request)


async def test_it_leaves_nothing_behind(
    execution: Execution, ask: Ask, guest: Guest, state_dir: Path, tmp_path: Path
) -> None:
    """After the verdict there is no folder, no record and no process, not even one that a task left on purpose."""
    effects = tmp_path / "effects"
    request = ask(guest("101", do="spawn", path=str(effects)), guest("102", do="hide", path=str(effects)))
    verdict = await run(execution, request)
    size = effects.stat().st_size if effects.exists() else 0
    assert verdict.verified_gone
    assert set(outcomes(verdict).values()) == {Outcome.UNCHANGED}
    assert processes.members(request.run_id) == []
    assert list((state_dir / "runs").iterdir()) == []
    assert list(Path("/dev/shm").glob(f"*{request.run_id}*")) == []
    await asyncio.sleep(0.3)
    assert (effects.stat().st_size if effects.exists() else 0) == size
    assert (await sweep_leftovers(state_dir)).swept == ()


async def test_it_says_that_nothing_was_begun_when_there_is_no_room(
    ask: Ask, guest: Guest, tmp_path: Path
) -> None:
    """A run whose folder cannot be made starts no play and says so; a play that was started is never taken back."""
    (tmp_path / "full").touch()
    full = Execution(tmp_path / "full", SystemClock(), memory=tmp_path / "none")
    verdict = await run(full, ask(guest("one", do="say", reports=[DONE])))
    assert (verdict.state, verdict.began, verdict.verified_gone) == (RunState.LOST, False, True)
    assert "could not be started" in (verdict.problem or "")
    roomy = Execution(tmp_path / "state", SystemClock())
    assert (await run(roomy, ask(guest("one", do="say", reports=[DONE])))).began
