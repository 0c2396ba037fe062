"""The process is killed all through the story: after each restart it goes on, and in the end nothing shows it.

Each life of the server has one point at which it dies, by its own SIGKILL inside the code or by ours from what the
world shows. The next life begins in whatever that left behind.
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api.demo.installation import Installation, prepare, settings_in, subscribe
from reconciler.runs.processes import RUN_TAG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
START_SECONDS = 200.0
POINT_SECONDS = 200.0


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a life ends: inside the code, at a sight of the world, or after a while."""

    name: str
    where: str = ""
    when: str = "after"
    about: str = ""
    seen: Callable[[Any], bool] | None = None
    #: What is done to the world before, so that there is time to see it.
    slowed: Callable[[Any], None] = lambda tale: None
    seconds: float = 0.0

    @property
    def armed(self) -> str:
        """What the server is told of it."""
        if not self.where:
            return ""
        return json.dumps({"where": self.where, "when": self.when, "about": self.about})


STARTS, COMMITS = "reconciler.actions:Actions.start", "reconciler.dispatch:commit"
RECORDS, SENDS = "reconciler.outcomes:record", "billing.mail:SmtpMailer.send"
STORES = "billing.stripe.inbox:store"


def _half_configured(tale: Any) -> bool:
    return not tale.guest(1101)["config"].get("onboot") and tale.power(1101) == "running"


def _slow_to_configure(tale: Any) -> None:
    """The platform changes the options at once and takes its time to say so: no shutdown is asked for meanwhile."""
    tale.world.cluster.inject_fault("/1101/config", method="PUT", acts=True, seconds=5.0)


TAKING = {
    "sqlite": (
        Point(name="the webhook is stored and not answered", where=STORES, about="invoice.finalized"),
        Point(name="a climb is admitted", where="reconciler.standing:admit"),
        Point(name="the letter is sent and not recorded", where=SENDS),
        Point(name="locking backups has begun without a row of its run", where=STARTS, about="lock_backups"),
        Point(name="a stop is committed and not begun", where=COMMITS, about="STOP"),
        Point(name="a guest is being shut down", seen=lambda tale: tale.asked(1101, "shutdown") > 0),
        Point(name="a stop is done and not recorded", where=RECORDS, when="before", about="STOP"),
    ),
    "postgres": (
        Point(name="an event is worked off, in its transaction", where="billing.stripe.processing:_mark"),
        Point(name="a notice is queued, in its transaction", where="billing.notices:queue"),
        Point(name="the guests are being read deeply", where=STARTS, about="deep"),
        Point(name="closing the access has begun", where=STARTS, about="close_access"),
        Point(name="a guest is half configured", seen=_half_configured, slowed=_slow_to_configure),
        Point(name="one of several stops is recorded", where=RECORDS, about="STOP"),
    ),
}
GIVING_BACK = {
    "sqlite": (
        Point(name="the payment is stored and not answered", where=STORES, about="invoice.paid"),
        Point(name="the good news is sent and not recorded", where=SENDS),
        Point(name="a guest is being started", seen=lambda tale: tale.asked(1101, "start") > 0),
    ),
    "postgres": (
        Point(name="a hold is lifted, in its transaction", where="reconciler.billing_holds:_lift"),
        Point(name="starting has begun without a row of its run", where=STARTS, about="start_guests"),
        Point(name="a start is done and not recorded", where=RECORDS, when="before", about="START"),
    ),
}
#: The deaths that every change is tried with; the night tries them all.
BY_DAY = {"the letter is sent and not recorded", "a guest is being shut down", "a guest is being started"}


def _of(kind: str, when: str, points: Mapping[str, Sequence[Point]]) -> list[Point]:
    return [point for point in points[kind] if when == "night" or point.name in BY_DAY]


@dataclass(kw_only=True)
class Lives:
    """The server, life after life, on one database and one port."""

    environment: dict[str, str]
    runs: Path
    said: Path
    process: asyncio.subprocess.Process | None = None
    killed: list[str] = field(default_factory=list)

    async def begin(self, point: Point | None = None) -> None:
        """Start the server and return when it answers, or when it died at its point before it could."""
        with self.said.open("ab") as said:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, str(Path(__file__).with_name("serving.py")), str(self.runs),
                *([point.armed] if point and point.armed else []),
                env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=said,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), START_SECONDS)
        assert line or await self.process.wait() == -signal.SIGKILL, self.said.read_text()[-3000:]

    async def die(self, point: Point, tale: Any) -> None:
        """Wait until the point is reached and the server is dead by SIGKILL."""
        assert self.process is not None
        try:
            async with asyncio.timeout(POINT_SECONDS):
                if point.seen is not None:
                    while not point.seen(tale):  # noqa: ASYNC110 - the world has no event for it
                        await asyncio.sleep(0.005)
                if not point.where:
                    await asyncio.sleep(point.seconds)
                    self.process.kill()
                code = await self.process.wait()
        except TimeoutError:
            pytest.fail(f"never reached: {point.name}\n{self.said.read_text()[-3000:]}", pytrace=False)
        assert code == -signal.SIGKILL
        self.killed.append(point.name)

    async def through(self, points: Sequence[Point], tale: Any) -> None:
        """Live once for each point, and then once more without one."""
        for point in points:
            await self.end()
            point.slowed(tale)
            await self.begin(point)
            await self.die(point, tale)
        await self.begin()

    async def end(self) -> None:
        """End the present life, if there is one, as somebody ends a service."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await asyncio.wait_for(self.process.wait(), START_SECONDS)

    def left(self) -> list[str]:
        """Return the living processes of any run of any life."""
        tags = {f"{RUN_TAG}={run_id}".encode() for run_id in self.runs.read_text().split()}
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                found += [str(path)] if tags & set(path.read_bytes().split(b"\0")) else []
            except OSError:
                continue
        return found


@asynccontextmanager
async def _lives(theatre: Any, database_url: str, port: int) -> AsyncIterator[tuple[Lives, Any]]:
    """A world, a server that is about to live on it, and the tale of its account."""
    plot = theatre.plot(database_url=database_url, listen=f"127.0.0.1:{port}")
    async with theatre.world(plot) as world:
        settings = settings_in(theatre.folder, plot, world)
        tokens = await prepare(settings, world.clock)
        url = f"http://{settings.listen}"
        scene = Installation(url=url, folder=theatre.folder, settings=settings, outside=world, tokens=tokens)
        subscribe(world, url)
        lives = Lives(
            environment=theatre.environment(settings) | {"PYTHONPATH": os.pathsep.join(sys.path)},
            runs=theatre.folder / "runs.txt",
            said=theatre.folder / "said.txt",
        )
        lives.runs.touch()
        for vmid in (1101, 1102):  # a second of the test: long enough to die in
            world.cluster.behave(vmid, shutdown_seconds=50)
        try:
            yield lives, theatre.told_of(scene)
        finally:
            await lives.end()


async def _nothing_shows(lives: Lives, tale: Any, before: Any) -> None:
    """Everything is as it was, each guest was stopped and started once, each letter came, and nothing runs on."""
    await tale.until("everything is as it was", lambda: tale.essence() == before)
    await tale.reaches("CURRENT", settled=True)
    await tale.until("the good news arrives", lambda: len(set(tale.letters())) == 4)
    assert [tale.asked(vmid, "shutdown") for vmid in (1101, 1103, 1102)] == [1, 0, 1], lives.killed
    assert [tale.asked(vmid, "start") for vmid in (1101, 1103, 1102)] == [1, 0, 1], lives.killed
    assert [tale.asked(vmid, "stop") for vmid in (1101, 1103, 1102)] == [0, 0, 0]
    await lives.end()
    assert lives.left() == []
    assert not list((lives.runs.parent / "state" / "runs").glob("*.json"))
    for kept in Path("/dev/shm").glob("abeyance-run-*"):
        assert not any(run_id in kept.name for run_id in lives.runs.read_text().split())


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ("sqlite", "day"),
        pytest.param("sqlite", "night", marks=pytest.mark.nightly),
        pytest.param("postgres", "night", marks=[pytest.mark.postgres, pytest.mark.nightly]),
    ],
)
async def test_it_converges_wherever_it_is_killed(
    theatre: Any, kind: str, when: str, free_port: Callable[[], int], request: pytest.FixtureRequest
) -> None:
    """Dead at each point of the story in turn: suspended once, restored once, exactly, with no process left."""
    taking, giving_back = _of(kind, when, TAKING), _of(kind, when, GIVING_BACK)
    url = str(request.getfixturevalue(f"{kind}_url"))
    async with _lives(theatre, url, free_port()) as (lives, tale):
        await lives.begin()
        await tale.begin()
        before = tale.essence()
        await lives.end()
        # The invoice is overdue while nobody listens: the first life has to hear of it again.
        tale.world.stripe.deliveries.set_knobs(hold=True)
        tale.owe()
        tale.world.stripe.deliveries.release()
        tale.world.stripe.deliveries.redeliver_all()
        await lives.through(taking, tale)
        await tale.reaches("SUSPENDED", settled=True)
        assert [tale.power(vmid) for vmid in (1101, 1103, 1102)] == ["stopped"] * 3
        await lives.end()
        tale.pay()
        await lives.through(giving_back, tale)
        await _nothing_shows(lives, tale, before)
        assert len(lives.killed) == len(taking) + len(giving_back) >= len(BY_DAY)


@pytest.mark.nightly
async def test_it_converges_when_it_is_killed_at_any_instant(
    theatre: Any, sqlite_url: str, free_port: Callable[[], int]
) -> None:
    """Four deaths at instants that nobody chose, two on each side of the payment."""
    seed = random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    async with _lives(theatre, sqlite_url, free_port()) as (lives, tale):
        await lives.begin()
        await tale.begin()
        before = tale.essence()
        tale.owe()
        print(f"seed {seed}")
        await lives.through([_at_random(rng) for _ in range(2)], tale)
        await tale.reaches("SUSPENDED", settled=True)
        tale.pay()
        await lives.through([_at_random(rng) for _ in range(2)], tale)
        await _nothing_shows(lives, tale, before)


def _at_random(rng: random.Random) -> Point:
    return Point(name="a random instant", seconds=rng.uniform(0.2, 4.0))
