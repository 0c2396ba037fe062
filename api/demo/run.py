"""The two ways to run the demo: on show until Ctrl-C, and one story that is checked.

Owns what is printed. The installation's folder is a fresh one and is removed at the end.
"""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

from api.demo.installation import Installation, Plot, installed
from api.demo.pace import DEFAULT_SPEED, ONCE_SPEED, Speed
from api.demo.sample import register_others, register_story
from api.demo.story import Story, StoryFailedError
from reconciler.models import PlanSnapshot

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
            await register_others(scene)
            await register_story(scene)
            _introduce(scene, say, speed)
            telling = asyncio.create_task(_tell_plans(say))
            await stop.wait()
            say("Ending ...")
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
    say("Ended; nothing is left behind.")


def _on_signal(act: Callable[[], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, act)


def _introduce(scene: Installation, say: Say, speed: str) -> None:
    say("Abeyance runs on simulators; nothing here is real, and nothing is left behind.")
    say(f"  GraphQL and its page   {scene.url}/graphql")
    say(f"  health, metrics        {scene.url}/readyz  {scene.url}/metrics")
    say(f"  simulated Proxmox VE   {scene.outside.site_url}/_simulator/state")
    say(f"  simulated Stripe       {scene.outside.stripe_url}/_simulator/state")
    say(f"  time                   {speed}: the 120 hours until suspension pass in seconds")
    say("One token per role (Authorization: Bearer ...); the customer's is of acct-story:")
    for role, token in scene.tokens.items():
        say(f"  {role.lower():<9} {token}")
    say("Ctrl-C ends it. Plans as they change:")


async def _tell_plans(say: Say) -> None:
    shown = ""
    while True:
        latest = await PlanSnapshot.all().order_by("-id").first()
        if latest is not None and latest.digest != shown:
            shown = latest.digest
            say(latest.text.rstrip())
        await asyncio.sleep(0.5)
