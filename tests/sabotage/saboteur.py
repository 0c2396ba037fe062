"""Takes guards out of the running code, one at a time, and sees whether the test that is to notice does.

Owns the cutting and the reporting; which guards there are, and who notices, is the table's word. Runs as a program of
its own, so that nothing of it ever reaches another test.
"""

import __future__

import ast
import importlib
import inspect
import json
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Marks that leave no test out, whatever the settings say.
ANY = "nightly or not nightly"


@dataclass(frozen=True, kw_only=True)
class Guard:
    """One guard: what it is called, where it stands, what is put in its place, and the test that must turn red."""

    name: str
    #: `module:function` or `module:Class.method`; or a file of the playbooks, which are copied for it and played.
    where: str
    #: A piece of the function that occurs once, and what it becomes.
    cut: str
    put: str
    #: `file::test` below tests/.
    noticed_by: str


class BlindTableError(Exception):
    """The table names something that is not there (any more)."""


def found(guard: Guard) -> FunctionType:
    """Return the function in which a guard stands."""
    module, _, path = guard.where.partition(":")
    owner: Any = importlib.import_module(module)
    for part in path.split("."):
        owner = getattr(owner, part)
    function = inspect.unwrap(getattr(owner, "__func__", owner))
    if not isinstance(function, FunctionType):
        raise BlindTableError(f"{guard.name}: {guard.where} is no function")
    return function


def without(guard: Guard) -> CodeType:
    """Return the code of the function with the guard taken out; raises `BlindTableError` where it does not stand."""
    function = found(guard)
    source = textwrap.dedent(inspect.getsource(function))
    if (times := source.count(guard.cut)) != 1:
        raise BlindTableError(f"{guard.name}: {guard.cut!r} occurs {times} times in {guard.where}")
    tree = ast.parse(source.replace(guard.cut, guard.put))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
    definition.decorator_list = []
    flags = function.__code__.co_flags & __future__.annotations.compiler_flag
    whole = compile(tree, f"<without {guard.name}>", "exec", flags=flags, dont_inherit=True)
    made = next(
        one for one in whole.co_consts if isinstance(one, CodeType) and one.co_name == function.__name__
    )
    if made.co_freevars != function.__code__.co_freevars:
        raise BlindTableError(f"{guard.name}: {guard.where} closes over something")
    return made


def mutilated(guard: Guard) -> str:
    """Return the text of a file of the playbooks with the guard taken out; raises where it does not stand."""
    text = (ROOT / guard.where).read_text(encoding="utf-8")
    if (times := text.count(guard.cut)) != 1:
        raise BlindTableError(f"{guard.name}: {guard.cut!r} occurs {times} times in {guard.where}")
    return text.replace(guard.cut, guard.put)


@contextmanager
def played_without(guard: Guard, play: Any) -> Iterator[None]:
    """Let plays be those of a copy without the guard until the end of the block."""
    known = type(play).__call__.__globals__
    with tempfile.TemporaryDirectory(prefix="abeyance-sabotage-") as folder:
        copy = Path(folder) / "playbooks"
        shutil.copytree(ROOT / "playbooks", copy, ignore=shutil.ignore_patterns("__pycache__"))
        (Path(folder) / guard.where).write_text(mutilated(guard), encoding="utf-8")
        known["PLAYBOOKS"] = copy
        try:
            yield
        finally:
            known["PLAYBOOKS"] = ROOT / "playbooks"


@contextmanager
def taken_out(guard: Guard) -> Iterator[None]:
    """Let the code run without a guard until the end of the block."""
    function, whole = found(guard), found(guard).__code__
    function.__code__ = without(guard)
    try:
        yield
    finally:
        function.__code__ = whole


@dataclass(eq=False)
class Watcher:
    """Runs each test under its sabotage. Only an assertion that fails counts as noticing, not some other error."""

    guards: dict[str, Guard]
    noticed: set[str] = field(default_factory=set)
    ran: set[str] = field(default_factory=set)
    instead: dict[str, str] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave what needs another database to others."""
        items[:] = [one for one in items if "postgres" not in one.name]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave the other cases of a test out once one of them has turned red."""
        if self.guards[_test_of(item)].name in self.noticed:
            pytest.skip("another case of it has noticed")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        """Take the guard out while the test itself runs."""
        guard = self.guards[_test_of(item)]
        site = getattr(item, "funcargs", {}).get("site")
        with taken_out(guard) if ":" in guard.where else played_without(guard, site.play):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Note whether the test turned red, and by what."""
        report = yield
        guard = self.guards[_test_of(item)]
        if call.excinfo is not None and call.excinfo.errisinstance((AssertionError, pytest.fail.Exception)):
            self.noticed.add(guard.name)
        elif call.excinfo is not None:
            self.instead[guard.name] = f"{call.when}: {call.excinfo.exconly()}"[:300]
        if call.when == "call":
            self.ran.add(guard.name)
        return report


def _test_of(item: pytest.Item) -> str:
    return f"{item.path.relative_to(ROOT / 'tests')}::{item.name.partition('[')[0]}"


def rounds(guards: Sequence[Guard]) -> list[dict[str, Guard]]:
    """Return the guards in as few rounds as go, no test twice in one of them."""
    made: list[dict[str, Guard]] = []
    for guard in guards:
        free = next((one for one in made if guard.noticed_by not in one), None)
        if free is None:
            made.append(free := {})
        free[guard.noticed_by] = guard
    return made


def main(table: Sequence[Guard], out: Path) -> None:
    """Take every guard out in turn, and write down for each what came of it: nothing, where its test turned red."""
    told: dict[str, str | None] = {}
    sighted = []
    for guard in table:
        try:
            (without if ":" in guard.where else mutilated)(guard)
            sighted.append(guard)
        except (BlindTableError, AttributeError, ImportError, OSError, SyntaxError) as problem:
            told[guard.name] = f"{type(problem).__name__}: {problem}"
    for one in rounds(sighted):
        watcher = Watcher(one)
        tests = [str(ROOT / "tests" / test) for test in one]
        options = ["-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", ANY]
        pytest.main([*options, *tests], plugins=[watcher])
        for guard in one.values():
            if guard.name in watcher.noticed:
                told[guard.name] = None
            elif guard.name not in watcher.ran:
                told[guard.name] = f"{guard.noticed_by} did not run"
            else:
                told[guard.name] = watcher.instead.get(guard.name, f"{guard.noticed_by} stays green")
    out.write_text(json.dumps(told))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "playbooks/plugins"), str(Path(__file__).parent)]
    import guards  # type: ignore[import-not-found,unused-ignore]

    table = [
        Guard(**dict(zip(("name", "where", "cut", "put", "noticed_by"), row, strict=True)))
        for row in getattr(guards, sys.argv[2])
    ]
    main(table, Path(sys.argv[1]))
