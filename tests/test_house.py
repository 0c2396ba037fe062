"""The rules of the house that no tool checks: sizes, opening words, and what must never be committed."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

# One process reads all files once.
pytestmark = pytest.mark.xdist_group("house")
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("api", "billing", "clients", "reconciler", "simulators")
LINES, LINES_OF_A_TEST, LINES_OF_A_FUNCTION = 400, 700, 60
#: Written by a tool, from beginning to end.
GENERATED = (
    "api/graphql/ide/graphiql",
    "api/graphql/ide/LICENSES.txt",
    "api/migrations/",
    "clients/operations/",
    "clients/python/abeyance_client/",
    "clients/typescript/abeyance.ts",
    "requirements",
)
#: May ask what time it is; everything else is given a clock.
CLOCKS = ("billing/clock.py", "simulators/", "tests/", "api/cli/certificate.py")
_UNFINISHED = re.compile(r"\b(?:TODO|FIXME)\b|NotImplementedError")
_OF_A_MACHINE = re.compile(
    r"/(?:home|Users)/[a-z][a-z0-9_-]*/|/root/(?!\.)|/work/|[a-z]:\\Users", re.IGNORECASE
)
_AN_INDEX = re.compile(
    r"--(?:extra-)?index-url|--find-links|https?://[^\s\"'`)]*/simple\b|\b(?:files\.)?pythonhosted\.org"
)
_NOW = re.compile(r"\b(?:datetime\.(?:now|utcnow|today)|date\.today|time\.time)\(")
#: Tells how fast this machine is at this moment.
_A_SPEED = re.compile(r"\b(?:perf_counter|process_time|thread_time|getrusage)(?:_ns)?\(")


@cache
def _tracked() -> tuple[str, ...]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so what belongs to it is not known")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    return tuple(sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file()))


@cache
def _trees() -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in _texts(code=True)}


def _texts(*, code: bool = False) -> Iterator[tuple[str, str]]:
    for name in _tracked():
        if name.startswith(GENERATED) or (code and not name.endswith(".py")):
            continue
        try:
            yield name, (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def _found(pattern: re.Pattern[str], *, code: bool = False, except_in: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in _texts(code=code)
        if not name.startswith(except_in)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_is_too_long() -> None:
    """What does not fit is two things."""
    sizes = {name: text.count("\n") for name, text in _texts(code=True)}
    limits = {name: LINES_OF_A_TEST if name.startswith("tests/") else LINES for name in sizes}
    assert {name: size for name, size in sizes.items() if size > limits[name]} == {}


def test_no_function_is_too_long() -> None:
    """A function is read without scrolling."""
    long = [
        f"{name}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for name, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 > LINES_OF_A_FUNCTION
    ]
    assert long == []


def test_every_module_says_what_it_owns() -> None:
    """Each opens with a docstring."""
    missing = [name for name, tree in _trees().items() if tree.body and not ast.get_docstring(tree)]
    assert missing == []


def test_every_test_says_what_it_shows() -> None:
    """Each has a sentence of its own."""
    missing = [
        f"{name}:{node.lineno}: {node.name}"
        for name, tree in _trees().items()
        if name.startswith("tests/")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert missing == []


def test_nothing_is_left_unfinished() -> None:
    """No mark of work that somebody meant to do later."""
    assert _found(_UNFINISHED, code=True, except_in=("tests/test_house.py",)) == []


def test_only_the_clock_knows_what_time_it_is() -> None:
    """Everything that decides is given its instant, so that a test can move it."""
    assert _found(_NOW, code=True, except_in=CLOCKS) == []


def test_no_test_measures_the_machine() -> None:
    """A slow or busy one makes no test red; how fast something is, the benchmarks tell."""
    assert [one for one in _found(_A_SPEED, code=True) if one.startswith("tests/")] == []


def test_nothing_speaks_of_a_machine() -> None:
    """No path of a developer's own folder, no package index: a checkout is the same everywhere."""
    # The set-up's tests name an index that does not answer, and this file the patterns themselves.
    assert _found(_OF_A_MACHINE, except_in=("tests/test_house.py",)) == []
    assert _found(_AN_INDEX, except_in=("tests/test_house.py", "tests/commands/")) == []


def test_no_generated_file_is_committed() -> None:
    """What is made from the rest stays out."""
    made = re.compile(
        r"(?:^|/)(?:__pycache__|\.venv|\.abeyance|[^/]*\.egg-info)(?:/|$)|\.pyc$|\.db$|(?:^|/)abeyance\.toml$"
    )
    assert [name for name in _tracked() if made.search(name)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_rules_are_about_something(package: str) -> None:
    """Each package has files that these tests read."""
    assert [name for name, _ in _texts(code=True) if name.startswith(f"{package}/")]
