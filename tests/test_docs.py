"""The documents say what there is: every command, option, setting, target, action and policy key; and nothing else."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from graphql import build_schema, parse, validate

from api.cli.commands import app
from api.graphql.schema import SDL_FILE
from api.settings import EXAMPLES, PREFIX
from billing.notices import known_templates
from billing.policy_reader import read_policy
from billing.policy_yaml import FileRefused
from billing.rules.policy_table import table
from billing.stripe import inbox
from reconciler.catalogue import load_catalogue

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "playbooks").glob("*.md")])
SHELL = {"sh", "bash", "shell", "console"}
#: A policy with a key that nobody knows in each of its sections, so that every section tells which ones it knows.
PROBE = yaml.safe_dump(
    {
        "tolerance": {"EUR": 1},
        "notices": {"zzz": 1},
        "stages": {
            "past_due": {"after": "PT0S", "zzz": 1},
            "suspended": {"after": "PT1H", "zzz": 1},
            "decommission_review": {"after": "PT2H", "zzz": 1},
            "zzz": 1,
        },
        "guard": {"max_new_per_pass": {"zzz": 1}, "zzz": 1},
        "billing": {"self_service_extension": {"up_to": "P1D", "once_per": "P9D", "zzz": 1}, "zzz": 1},
        "windows": {"allow": ["mon 09:00-10:00"], "zzz": 1},
        "zzz": 1,
    },
    sort_keys=False,
)


@cache
def _text() -> str:
    return "\n".join(file.read_text() for file in DOCUMENTS)


def _commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with its path below `abeyance`."""
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from _commands(child, (*path, name))


COMMANDS = dict(_commands())
OPTIONS = [
    (path, option)
    for path, command in COMMANDS.items()
    for parameter in command.params
    for option in (*parameter.opts, *parameter.secondary_opts)
    if option.startswith("--") and option != "--help"
]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_is_told(path: tuple[str, ...]) -> None:
    """It stands in a document as it is typed."""
    assert re.search(rf"abeyance {' '.join(path)}\b|`{' '.join(path)}\b", _text()), path


@pytest.mark.parametrize(
    ("path", "option"), OPTIONS, ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_every_option_is_told(path: tuple[str, ...], option: str) -> None:
    """It stands in a paragraph that speaks of its command."""
    speaking = [line for line in _text().splitlines() if path[-1] in line or path[0] in line]
    assert any(re.search(rf"{option}(?![a-z-])", line) for line in speaking), (path, option)


@pytest.mark.parametrize("key", EXAMPLES)
def test_every_setting_is_told(key: str) -> None:
    """It stands in a document by the name of its variable."""
    assert re.search(rf"{PREFIX}{key.upper()}(?![A-Z_])", _text()), key


def test_they_name_every_event_of_stripe_that_is_acted_on() -> None:
    """What an operator has to subscribe the endpoint to, and nothing else."""
    told = (ROOT / "docs/operations.md").read_text().partition("## Stripe's side")[2].partition("\n## ")[0]
    named = {event.removesuffix("*") for event in re.findall(r"`([a-z_]+\.[a-z_.]*\*?)`", told)}
    assert named == {prefix for prefix, _ in inbox._SUBJECTS}


def test_no_setting_is_told_that_does_not_exist() -> None:
    """Whatever is written like a variable of ours is one."""
    named = set(re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", _text()))
    ours = {name for name in named if not name.startswith((f"{PREFIX}TEST_", f"{PREFIX}DEMO_"))}
    # A token's variable is named by the operator, after a site.
    unknown = {
        name
        for name in ours
        if name.removeprefix(PREFIX).lower() not in EXAMPLES and not name.endswith("_TOKEN")
    }
    assert unknown == set()


def _targets() -> list[str]:
    return re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("target", _targets())
def test_every_target_is_told(target: str) -> None:
    """It stands in a document as it is typed; `make` alone is the list of them."""
    assert target == "help" or re.search(rf"make {target}(?![a-z-])", _text()), target


@pytest.mark.parametrize("action", [action.name for action in load_catalogue(ROOT / "playbooks").actions])
def test_every_action_is_told(action: str) -> None:
    """It stands in a document by its name."""
    assert f"`{action}`" in _text(), action


def _policy_keys() -> list[str]:
    with pytest.raises(FileRefused) as refused:
        read_policy("standard", PROBE, templates={"past_due", "suspended", "decommission_review"})
    told = [str(problem).partition("known here: ")[2] for problem in refused.value.problems]
    return sorted({key for keys in told for key in keys.split(", ") if key})


@pytest.mark.parametrize("key", _policy_keys())
def test_every_policy_key_is_told(key: str) -> None:
    """It stands in the guide of policies or in the shipped, commented files."""
    files = [ROOT / "docs/policy.md", *(ROOT / "billing/policies").glob("*.yaml")]
    assert any(re.search(rf"\b{key}\b", file.read_text()) for file in files), key


def test_the_table_of_the_standard_policy_is_the_policy() -> None:
    """It is what `make docs` writes from the shipped file, the gates and the announcements."""
    text = (ROOT / "billing/policies/standard.yaml").read_text()
    shipped = table(read_policy("standard", text, templates=known_templates()))
    told = (ROOT / "docs/policy.md").read_text().partition("<!-- table of standard.yaml -->")[2]
    assert told.partition("<!-- end of table -->")[0].strip() == shipped.strip()


def _blocks(file: Path) -> Iterator[tuple[str, str]]:
    yield from re.findall(r"^ *```([a-z]*)\n(.*?)^ *```", file.read_text(), re.MULTILINE | re.DOTALL)


def _typed() -> list[tuple[str, str]]:
    """Return each command line of a shell block that begins with `abeyance` or `make`, with its document."""
    found = []
    for file in DOCUMENTS:
        for language, body in _blocks(file):
            for line in body.replace("\\\n", " ").splitlines() if language in SHELL or not language else ():
                command = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
                if command.startswith(("abeyance ", "make ")):
                    found.append((file.name, command))
    return found


@pytest.mark.parametrize(("document", "line"), _typed())
def test_every_command_shown_can_be_typed(document: str, line: str) -> None:
    """The program or the Makefile knows it, with the options and arguments that are shown."""
    words = shlex.split(line, comments=True)
    ends = [number for number, word in enumerate(words) if word in {"|", ">", "&&", ";", "<", "&"}]
    program, *rest = words[: ends[0]] if ends else words
    if program == "make":
        targets = [word for word in rest if "=" not in word]
        assert set(targets) <= set(_targets()), line
        return
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert rest, line
        assert rest[0] in command.commands, line
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest).close()


def _operations() -> list[tuple[str, str]]:
    return [
        (file.name, body) for file in DOCUMENTS for language, body in _blocks(file) if language == "graphql"
    ]


@pytest.mark.parametrize(("document", "operation"), _operations())
def test_every_operation_shown_can_be_asked(document: str, operation: str) -> None:
    """The schema has every field, argument and type of it."""
    assert validate(build_schema(SDL_FILE.read_text()), parse(operation)) == []


def _anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _links() -> list[tuple[Path, str]]:
    return [
        (file, link)
        for file in DOCUMENTS
        for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", file.read_text())
        if not link.startswith(("http://", "https://", "mailto:"))
    ]


@pytest.mark.parametrize(
    ("file", "link"), _links(), ids=lambda part: part if isinstance(part, str) else part.name
)
def test_every_link_leads_somewhere(file: Path, link: str) -> None:
    """To a file that is there, and to a heading in it."""
    name, _, anchor = link.partition("#")
    target = (file.parent / name).resolve() if name else file
    assert target.exists(), link
    if anchor:
        assert anchor in _anchors(target), link


def _paths() -> list[tuple[str, str]]:
    """Return the paths of the repository that the documents name in backticks."""
    folders = "|".join(
        sorted(entry.name for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    )
    pattern = re.compile(rf"`((?:{folders})/[A-Za-z0-9_./-]*)`")
    return sorted({(file.name, path) for file in DOCUMENTS for path in pattern.findall(file.read_text())})


#: What an operator writes, and what is made.
_NOT_SHIPPED = {"inventory/hosts.yml", "inventory/group_vars/", "inventory/host_vars/"}


@pytest.mark.parametrize(("document", "path"), _paths())
def test_every_file_named_exists(document: str, path: str) -> None:
    """A path in backticks leads to a file, a folder or a module of the repository."""
    assert path in _NOT_SHIPPED or (ROOT / path).exists() or (ROOT / f"{path}.py").is_file(), document
