"""Commands that operate an installation: serve, look, act, explain."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.terminal import Refused, command, confirmed, now_running, only_warnings, say, say_json, tell

if TYPE_CHECKING:
    from api.operations import PlanView
    from api.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print plain data.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    app.command()(serve)
    app.command()(plan)
    app.command()(apply)
    app.command()(observe)
    app.command()(doctor)
    app.command()(explain)
    app.command()(action)
    app.command()(demo)


@command
def serve() -> None:
    """Serve the API, the scheduler and the reconciler until Ctrl-C."""
    from api import operations
    from api.long_lived import keep_what_is_loaded

    def ready(url: str) -> None:
        keep_what_is_loaded()
        tell(f"Abeyance answers at {url}")

    now_running(operations.serve(_settings(), ready=ready))


@command
def plan(
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it for a ticket or a chat.")] = False,
    json: Json = False,
) -> None:
    """Print the plan as it is now. Nothing is changed."""
    from api import operations

    view = now_running(operations.plan_now(_settings()))
    if markdown and not json:
        say(view.markdown.rstrip())
    else:
        _show(view, json=json)


@command
def apply(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Answer yes to the question.")] = False,
    first: Annotated[
        bool, typer.Option("--first", help="Before the first apply: who would get a first notice; asks.")
    ] = False,
) -> None:
    """Make one pass for real, after showing its plan and asking."""
    from api import operations

    answers: list[bool] = []

    def ask(question: str) -> bool:
        answers.append(yes or confirmed(question))
        return answers[-1]

    def ask_first(names: list[str]) -> bool:
        for name in names:
            say(name)
        say(f"{len(names)} would get a first notice.")
        return ask("Apply from now on?")

    def ask_plan(view: "PlanView") -> bool:
        _show(view, json=False)
        return ask("Do this?")

    if first:
        try:
            now_running(operations.first_apply(_settings(), ask_first))
        except operations.AppliesAlreadyError as already:
            tell(f"abeyance: {already}")
    else:
        now_running(operations.apply_once(_settings(), ask_plan))
    if not all(answers):
        raise Refused("nothing was done")


@command
def observe(*, json: Json = False) -> None:
    """Read every site once."""
    from api import operations

    sites = now_running(operations.observe_now(_settings()))
    if json:
        say_json(sites)
    elif not sites:
        tell("There are no sites: write inventory/hosts.yml; inventory/example shows how.")
    for site in [] if json else sites:
        silent = ", ".join(site["silent_nodes"])
        read = f"no answer from {silent}" if silent else f"complete at {site['complete_at']}"
        say(f"{site['site']}: {site['problem'] or read}")
    if any(site["problem"] for site in sites):
        raise Refused("not every site could be read; what was said of each says why")


@command
def doctor(*, json: Json = False) -> None:
    """Ask every part what is wrong, and say how to mend it. Changes nothing."""
    from api.doctor import Verdict, examine
    from billing.clock import SystemClock

    findings = now_running(examine(_settings(), SystemClock()))
    if json:
        say_json([asdict(one) for one in findings])
    for one in [] if json else findings:
        say(f"{one.verdict.lower():5} {one.part}: {one.said}{f'; {one.remedy}' if one.remedy else ''}")
    wrong = sum(one.verdict is Verdict.WRONG for one in findings)
    if wrong:
        raise Refused(f"{wrong} of these {len(findings)} lines have to be mended")


@command
def explain(
    server: Annotated[str, typer.Argument(help="The server's external id.")], *, json: Json = False
) -> None:
    """Say why a server is in its state."""
    from api.cli.explaining import explained
    from reconciler.brakes import MARK

    told = now_running(explained(_settings(), server))
    if json:
        say_json(told)
        return
    for brake in told["brakes"]:
        say(f"{MARK} {brake['text']}")
    say(f"{told['server']} of {told['account']} is {told['status']}; the account stands at {told['stage']}.")
    say(told["text"])


@command
def action(
    name: Annotated[str, typer.Argument(metavar="ACTION", help="observe, or an action that gives back.")],
    server: Annotated[str, typer.Argument(help="The server's external id.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit trail.")] = "asked for by hand",
) -> None:
    """Carry out an action by hand. Whatever restricts or destroys is refused and audited."""
    from api import operations

    say(now_running(operations.run_action(_settings(), name, server, actor="operator:cli", reason=reason)))


@command
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Tell one whole story and end.")] = False,
    speed: Annotated[
        str | None, typer.Option("--speed", help="How fast the ladder's time passes, such as 72h=30s.")
    ] = None,
) -> None:
    """Run the whole product on simulators, in a folder of its own."""
    from api.demo import run
    from api.demo.pace import DEFAULT_SPEED, ONCE_SPEED

    only_warnings()
    if not once:
        now_running(run.show(say, speed=speed or DEFAULT_SPEED))
    elif not now_running(run.once(say, speed=speed or ONCE_SPEED)):
        raise Refused("the story did not end as it should; the lines above say where")


def _settings() -> "Settings":
    from api.settings import load

    return load()


def _show(view: "PlanView", *, json: bool) -> None:
    if json:
        say_json(view.content)
    else:
        say(view.text.rstrip())
