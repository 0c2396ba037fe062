"""The page for trying queries works in a real browser, and loads nothing from outside."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytest_asyncio

from api.models import Role

CHECKOUT = Path(__file__).parents[3]
BUNDLED = CHECKOUT / "api/graphql/ide"
BUNDLER = CHECKOUT / "scripts/ide"
FILES = {"graphiql.js", "graphiql.css", "LICENSES.txt"}

READY = "document.querySelector('.graphiql-execute-button') !== null"
#: What GraphiQL shows as the answer.
ANSWER = "(document.querySelector('.result-window')?.innerText ?? '')"


@pytest_asyncio.fixture
async def page(browser: Any) -> AsyncIterator[Any]:
    """A page of a browser that reaches this machine alone."""
    async with browser() as opened:
        yield opened


@pytest.mark.nightly
@pytest.mark.usefixtures("sqlite_database")
async def test_a_browser_asks_with_a_token_and_shows_the_answer(door: Any, page: Any, tmp_path: Path) -> None:
    """The schema is read, a query is answered, and every address asked for is the server's own."""
    door.dev = True
    token = await door.token(Role.ADMIN)
    async with door.listening() as url:
        await page.open(url)
        await page.until(READY)
        await page.value("document.querySelector('input[name=token]').focus()")
        await page.type(token)
        await page.press("Enter")
        await page.until("document.querySelector('.token span').innerText.startsWith('Asking')")
        await page.until(READY)
        await page.value("document.querySelector('.graphiql-execute-button').click()")
        answer = await page.until(f"{ANSWER}.includes('serverTime') && {ANSWER}")
        await page.value("document.querySelector('[aria-label=\"Show Documentation Explorer\"]').click()")
        # Once the schema was read, the book names its roots.
        await page.until("document.querySelector('.graphiql-doc-explorer')?.innerText.includes('Mutation')")
        await page.photograph(tmp_path / "ide.png")
        assert [one for one in page.asked if not one.startswith((url, "data:"))] == []
    assert '"role": "ADMIN"' in answer
    assert '"name": "ADMIN admin-anna"' in answer
    assert page.complaints == [], page.complaints


@pytest.mark.nightly
@pytest.mark.usefixtures("sqlite_database")
async def test_the_browser_of_these_tests_reaches_nothing_else(door: Any, page: Any) -> None:
    """An address outside is asked for, noted and not reached: the test above can fail."""
    door.dev = True
    async with door.listening() as url:
        await page.open(url)
        await page.until(READY)
        reached = "fetch('https://cdn.example/x.js').then(() => 'reached', () => 'blocked')"
        assert await page.value(reached) == "blocked"
        await page.open("http://cdn.example/")
        await page.until("document.readyState === 'complete'")
    assert "http://cdn.example/" in page.asked


@pytest.mark.nightly
def test_the_bundle_is_what_the_locked_packages_come_to(
    tmp_path: Path, require: Callable[[str], NoReturn]
) -> None:
    """Nobody edited it: built anew it is the same, byte for byte."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        require("node or npm is missing: install Node.js 20 or newer (Debian, Ubuntu: nodejs npm)")
    for file in BUNDLER.iterdir():
        if file.is_file():
            shutil.copyfile(file, tmp_path / file.name)
    (tmp_path / "out").mkdir()
    for command in (["npm", "ci", "--ignore-scripts"], ["node", "build.mjs", "out"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stderr
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (BUNDLED / name).read_bytes(), f"{name}: make ide"


@pytest.mark.usefixtures("sqlite_database")
async def test_it_is_there_for_developers_alone(door: Any) -> None:
    """The page and its files answer in development; elsewhere there is no such address, and no other file ever."""
    for dev, found in ((False, (405, 404)), (True, (200, 200))):
        door.dev = dev
        page = await door.request("GET", "/graphql")
        assert page.status_code == found[0]
        for name in FILES:
            loaded = await door.request("GET", f"/graphql/ide/{name}")
            assert loaded.status_code == found[1]
        for name in ("__init__.py", "..%2Fendpoint.py", "index.html"):
            assert (await door.request("GET", f"/graphql/ide/{name}")).status_code == 404
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "http" not in page.text
