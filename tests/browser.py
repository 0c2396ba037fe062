"""A real Chromium that reaches this machine alone, driven over its own protocol. Reached through the fixture `browser`.

Owns starting and ending the program, and the few commands that the tests need; remembers every address it asked for.
"""

import asyncio
import base64
import itertools
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

_SECONDS = 120.0
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--lang=en",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-port=0", "--window-size=1280,800", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


@dataclass(kw_only=True)
class Page:
    """One page; what it does is waited for, never slept for."""

    wire: ClientConnection
    #: Every address that was asked for, and what was said on the console that is an error.
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _waiting: dict[int, "asyncio.Future[Any]"] = field(default_factory=dict)

    async def command(self, method: str, **given: Any) -> Any:
        """Return the result of one command of the protocol."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self.wire.send(json.dumps({"id": number, "method": method, "params": given}))
        return await asyncio.wait_for(answer, _SECONDS)

    async def listen(self) -> None:
        """Read what the browser says until it is closed."""
        async for message in self.wire:
            told = json.loads(message)
            if "id" in told:
                answer = self._waiting.pop(told["id"])
                if "error" in told:
                    answer.set_exception(AssertionError(told["error"]))
                else:
                    answer.set_result(told["result"])
            elif told["method"] == "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"]["url"])
            elif told["method"] == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.complaints.append(told["params"]["entry"]["text"])
            elif told["method"] == "Runtime.exceptionThrown":
                self.complaints.append(told["params"]["exceptionDetails"]["text"])

    async def open(self, url: str) -> None:
        """Go to an address."""
        for part in ("Network", "Log", "Runtime", "Page"):
            await self.command(f"{part}.enable")
        await self.command("Page.navigate", url=url)

    async def value(self, script: str) -> Any:
        """Return what an expression in the page comes to, as JSON; a promise is waited for."""
        told = await self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until an expression in the page is true, and return it."""
        deadline = asyncio.get_running_loop().time() + _SECONDS
        while not (value := await self.value(script)):
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"never true: {script}; the page says: {self.complaints}")
            await asyncio.sleep(0.05)
        return value

    async def type(self, text: str) -> None:
        """Type where the cursor is."""
        await self.command("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """Press one key, such as `Enter`."""
        code = {"Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            await self.command(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text="\r"
            )

    async def photograph(self, file: Path) -> None:
        """Write what is seen as PNG."""
        told = await self.command("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(told["data"]))


@asynccontextmanager
async def opened(program: str, home: Path) -> AsyncIterator[Page]:
    """Start the browser with a home of its own, and give its page; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        program, *_FLAGS, f"--user-data-dir={home}", "about:blank", stdout=subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, env=os.environ | {"HOME": str(home)}, start_new_session=True,
    )  # fmt: skip
    try:
        address = await asyncio.wait_for(_address(process), _SECONDS)
        async with connect(await _page_of(address), max_size=None) as wire:
            page = Page(wire=wire)
            listening = asyncio.create_task(page.listen())
            try:
                yield page
            finally:
                listening.cancel()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    """Return where its protocol is spoken, which it says on its standard error."""
    said = []
    assert process.stderr is not None
    async for line in process.stderr:
        said.append(line.decode(errors="replace"))
        if found := re.search(r"listening on (ws://\S+)", said[-1]):
            return found[1]
    raise AssertionError(f"the browser did not start:\n{''.join(said)}")


async def _page_of(address: str) -> str:
    """Return the address of the first page of a browser."""
    async with connect(address, max_size=None) as wire:
        await wire.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        while "id" not in (told := json.loads(await wire.recv())):
            pass
    [target] = [one for one in told["result"]["targetInfos"] if one["type"] == "page"]
    return f"{address.partition('/devtools/')[0]}/devtools/page/{target['targetId']}"
