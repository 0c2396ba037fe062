"""The two ways to run the demo: on show until Ctrl-C, and one story that is checked.

Owns how they begin and end, and prints. The installation's folder is a fresh one and is removed at the end.
"""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from api.demo.installation import START_SECONDS, Installation, Plot, installed
from api.demo.pace import DEFAULT_SPEED, ONCE_SPEED, Speed
from api.demo.sample import register_others, register_story
from api.demo.story import Story, StoryFailedError
from api.demo.telling import changes, introduction, settings_for_a_terminal
from billing.clock import Clock
from reconciler.models import PlanSnapshot, ReconcilerState

Say = Callable[[str], None]
#: The usual address; where something else listens there already, a free port is taken.
PREFERRED = "127.0.0.1:8080"


async def once(say: Say, *, speed: str = ONCE_SPEED) -> bool:
    """Tell the whole story and return whether all of it came out as it should; SIGINT and SIGTERM end it early."""
    telling = asyncio.create_task(_tell_story(say, Speed.parse(speed)))
    _on_signal(telling.cancel)
    try:
        return await telling
    except asyncio.CancelledError:
        say("Ended before the story did.")
        return False


async def _tell_story(say: Say, speed: Speed) -> bool:
    with tempfile.TemporaryDirectory(prefix="abeyance-demo-") as folder:
        async with installed(Path(folder), Plot(speed=speed)) as scene:
            story = Story(scene=scene, say=say)
            try:
                await story.tell()
            except StoryFailedError as failed:
                say(f"FAILED  {failed}")
                return False
            say(f"The story ended as it should: {story.checks} checks.")
            return True


async def show(say: Say, *, speed: str = DEFAULT_SPEED) -> None:
    """Run the product with the sample accounts until SIGINT or SIGTERM, printing each new plan."""
    stop = asyncio.Event()
    _on_signal(stop.set)
    with tempfile.TemporaryDirectory(prefix="abeyance-demo-") as folder:
        async with installed(Path(folder), Plot(speed=Speed.parse(speed), listen=PREFERRED)) as scene:
            await _settle(scene)
            await register_others(scene)
            customer, _ = await register_story(scene)
            for line in introduction(scene, speed, _settings_file(scene, customer)):
                say(line)
            say("Ctrl-C ends it. Plans as they change:")
            telling = asyncio.create_task(_tell_plans(say, scene.clock))
            await stop.wait()
            say("Ending ...")
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
    say("Ended; nothing is left behind.")


def _on_signal(act: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, act)


async def _settle(scene: Installation) -> None:
    """Wait for the first pass: a database without accounts is new, and nobody doubts it later on."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while not await ReconcilerState.exists(id=1, generation__gt=0):  # noqa: ASYNC110 - another part writes it
                await asyncio.sleep(0.1)


def _settings_file(scene: Installation, customer: str) -> Path:
    """Write the settings for a second terminal, for their owner alone."""
    file = scene.folder / "demo.env"
    file.touch(mode=0o600)
    file.write_text(settings_for_a_terminal(scene, customer, scene.clock.now()), encoding="utf-8")
    return file


async def _tell_plans(say: Say, clock: Clock) -> None:
    shown = ""
    before: list[Mapping[str, Any]] = []
    while True:
        latest = await PlanSnapshot.all().order_by("-id").first()
        if latest is not None and latest.digest != shown:
            shown, steps = latest.digest, latest.content["steps"]
            at = f"{clock.now():%H:%M:%S}"
            for line in changes(steps, before) or (["nothing is left to do"] if before and not steps else []):
                say(f"{at}  {line}")
            before = steps
        await asyncio.sleep(0.5)
