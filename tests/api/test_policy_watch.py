"""A changed policy file takes effect while the process runs; a wrong one changes nothing but what staff are told."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from pydantic import SecretStr

import billing
from api import operations
from api.policy_watch import KIND, PolicyWatch
from api.settings import Settings
from billing import notices, work_queue
from billing.models import WorkItem, WorkState
from billing.policy_files import PolicyBook

SHIPPED = Path(billing.__file__).parent / "policies"
CHECKOUT = SHIPPED.parents[1]


class _Watched:
    """A folder of policies, the book of it, and what watches the two."""

    def __init__(self, folder: Path, clock: Any) -> None:
        self.file = folder / "standard.yaml"
        self.good = self.file.read_text()
        self.book = PolicyBook.of_folder(folder, templates=notices.known_templates())
        self.taken: list[str] = []
        self.watch = PolicyWatch(
            self.book, clock=clock, every=60, settled=2, changed=lambda: self.taken.append(self.book.digest)
        )

    def write(self, old: str, new: str) -> None:
        self.file.write_text(self.good.replace(old, new))

    async def settle(self) -> None:
        """Look until nothing is left to wait for, and tell."""
        while await self.watch.look() != 60:
            pass
        await self.watch.tell()


@pytest.fixture
def watched(tmp_path: Path, clock: Any) -> _Watched:
    """A copy of the shipped policies, watched."""
    return _Watched(Path(shutil.copytree(SHIPPED, tmp_path / "policies")), clock)


async def _items() -> list[tuple[WorkState, str]]:
    return [(item.state, item.detail) for item in await WorkItem.filter(kind=KIND).order_by("id")]


@pytest.mark.usefixtures("sqlite_database")
async def test_it_takes_a_good_change_over(watched: _Watched) -> None:
    """From then on it is in force, once; staff need not do anything."""
    watched.write("PT72H", "PT96H")
    await watched.settle()
    await watched.settle()
    assert watched.book.get("standard").stages[1].after.total_seconds() == 96 * 3600
    assert watched.taken == [watched.book.digest]
    assert await _items() == []


@pytest.mark.usefixtures("sqlite_database")
async def test_it_waits_until_a_file_is_whole(watched: _Watched) -> None:
    """Half a file may be a policy, and a wrong one: a folder that changes from look to look is not judged."""
    half = "stages:\n  past_due: {after: PT0S}\n  suspended: {after: PT1H}\n"
    watched.file.write_text(half)
    assert await watched.watch.look() == 2
    watched.write("PT72H", "PT96H")
    assert await watched.watch.look() == 2
    assert watched.taken == []
    assert await watched.watch.look() == 60
    assert watched.book.get("standard").stages[1].after.total_seconds() == 96 * 3600


@pytest.mark.usefixtures("sqlite_database")
async def test_it_waits_for_nothing_when_it_is_asked(watched: _Watched) -> None:
    """Whoever asks says that the files are whole."""
    watched.write("PT72H", "PT96H")
    watched.watch.reload()
    assert await watched.watch.look() == 60
    assert len(watched.taken) == 1


@pytest.mark.usefixtures("sqlite_database")
async def test_it_refuses_a_bad_change_and_says_so_once(watched: _Watched) -> None:
    """The old ladder stays in force; one line in the log, one item for staff, which the next good state closes."""
    before = watched.book.get("standard")
    watched.write("PT72H", "P1M")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await watched.settle()
    assert [line["event"] for line in logs] == ["policies.refused"]
    assert watched.book.get("standard") is before
    ((state, detail),) = await _items()
    assert state is WorkState.OPEN
    assert "standard.yaml:" in detail
    assert "P1M has no exact length" in detail

    watched.write("PT72H", "P2M")
    await watched.settle()
    watched.file.write_text(watched.good)
    await watched.settle()

    assert [state for state, _ in await _items()] == [WorkState.RESOLVED] * 2
    assert (watched.taken, watched.book.problems) == ([], ())


@pytest.mark.usefixtures("sqlite_database")
async def test_it_leaves_closed_what_a_person_closed(watched: _Watched, clock: Any) -> None:
    """The same refused state does not ask again."""
    watched.write("PT72H", "P1M")
    await watched.settle()
    await work_queue.resolve_kind(KIND, but="", at=clock.now(), by="admin:anna", resolution="tomorrow")
    await watched.settle()
    assert [state for state, _ in await _items()] == [WorkState.RESOLVED]


@pytest.mark.usefixtures("sqlite_database")
async def test_it_closes_what_an_earlier_process_left_open(watched: _Watched, clock: Any) -> None:
    """A start with good files is the next good state."""
    await work_queue.open_item(KIND, f"{KIND}:abc", at=clock.now(), title="t", detail="d")
    await watched.settle()
    assert [state for state, _ in await _items()] == [WorkState.RESOLVED]


async def _ladder(url: str) -> str:
    async with httpx.AsyncClient(base_url=url) as client:
        return str((await client.get("/readyz")).json()["checks"]["policy_files"]["detail"])


async def test_a_signal_lets_a_running_server_read_them(sqlite_url: str, tmp_path: Path) -> None:
    """Long before its next tick, and it goes on to serve."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "policies"))
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory/hosts.yml").write_text("all: {}\n")
    settings = Settings(
        database_url=SecretStr(sqlite_url), listen="127.0.0.1:0", policies=folder, tick_seconds=3600,
        playbooks=CHECKOUT / "playbooks", inventory=tmp_path / "inventory", state_dir=tmp_path / "state",
    )  # fmt: skip
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(operations.serve(settings, ready=url.set_result))
    try:
        async with asyncio.timeout(100):
            base = await url
            (folder / "standard.yaml").write_text("stages: {}\n")
            while "refused" not in await _ladder(base):
                os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0.1)
            assert "past_due" in await _ladder(base)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
