"""Commands that check files against their contract: policies, actions, the schema."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.ahead import try_policy
from api.cli.terminal import Refused, command, say, say_json


def add_to(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    policies = typer.Typer(help="Policies, the ladders.", no_args_is_help=True, rich_markup_mode=None)
    policies.command("check")(check_policy)
    policies.command("try")(try_policy)
    policies.command("table")(show_policy)
    app.add_typer(policies, name="policy")
    actions = typer.Typer(help="Actions, the playbooks' verbs.", no_args_is_help=True, rich_markup_mode=None)
    actions.command("list")(list_actions)
    actions.command("check")(check_actions)
    app.add_typer(actions, name="actions")
    app.command()(schema)


@command
def check_policy(file: Annotated[Path, typer.Argument(help="A policy file; its stem is its name.")]) -> None:
    """Check a policy file; a policy beside a standard.yaml inherits its guard."""
    from billing.notices import known_templates
    from billing.policy_files import STANDARD
    from billing.policy_reader import read_policy

    templates = known_templates()
    standard = file.with_name(f"{STANDARD}.yaml")
    guard = None
    if file.stem != STANDARD and standard.is_file():
        guard = read_policy(STANDARD, text_of(standard), templates=templates, file=str(standard)).guard
    policy = read_policy(file.stem, text_of(file), templates=templates, guard=guard, file=str(file))
    stages = ", ".join(rung.stage.lower() for rung in policy.stages)
    say(f"{file}: valid; policy {policy.name} with the stages {stages}")


@command
def show_policy(
    file: Annotated[Path, typer.Argument(help="A policy file.")],
    *,
    into: Annotated[
        Path | None, typer.Option("--into", help="Write it between the marks of this Markdown file instead.")
    ] = None,
) -> None:
    """Print a policy as a table: each stage, when it comes, what is closed and what stays open."""
    from billing.notices import known_templates
    from billing.policy_reader import read_policy
    from billing.rules.policy_table import table

    shown = table(read_policy(file.stem, text_of(file), templates=known_templates(), file=str(file)))
    if into is None:
        say(shown.rstrip())
        return
    begin, end = f"<!-- table of {file.name} -->\n", "<!-- end of table -->"
    text = text_of(into)
    before, mark, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    if not (mark and closing):
        raise Refused(f"{into}: has no place for the table; add the lines {begin.strip()} and {end}")
    into.write_text(f"{before}{begin}\n{shown}\n{end}{after}", encoding="utf-8")
    say(f"{into}: the table of {file.name} is written")


@command
def list_actions(*, json: Annotated[bool, typer.Option("--json", help="Print plain data.")] = False) -> None:
    """Print the catalogue of actions."""
    from api.settings import load
    from reconciler.catalogue import load_catalogue

    actions = sorted(load_catalogue(load().playbooks).actions, key=lambda one: one.name)
    if json:
        say_json(
            [
                {
                    "name": one.name,
                    "summary": one.summary,
                    "satisfies": dict(one.satisfies),
                    "platforms": list(one.platforms),
                    "timeout_seconds": one.timeout_seconds,
                    "restricts": one.restricts,
                }
                for one in actions
            ]
        )
        return
    for one in actions:
        say(f"{one.name:16} {', '.join(one.platforms):24} {one.summary}")


@command
def check_actions() -> None:
    """Check every action against its contract, and that none can destroy."""
    from api.settings import load
    from reconciler import catalogue

    findings = catalogue.check_actions(load().playbooks)
    if findings:
        raise Refused("\n".join(map(str, findings)))
    say("every action keeps its contract")


@command
def schema() -> None:
    """Print the GraphQL schema."""
    from api.graphql.schema import sdl

    say(sdl().rstrip())


def text_of(file: Path) -> str:
    """Return the text of a policy file; `Refused` when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise Refused(f"{file}: cannot be read: {reason}; name a file such as standard.yaml") from None
