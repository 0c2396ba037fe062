"""Commands that look ahead: the forecast, and a policy on trial."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.terminal import Refused, command, now_running, say, say_json

if TYPE_CHECKING:
    from api.settings import Settings
    from reconciler.outlook import Outlook
    from reconciler.rules.compare import Difference
    from reconciler.rules.forecast import Ahead

Json = Annotated[bool, typer.Option("--json", help="Print plain data.")]
Days = Annotated[int, typer.Option("--days", min=1, max=366, help="How far ahead, in days.")]


def add_to(app: typer.Typer) -> None:
    """Add the command that stands alone to the tree; `try` belongs to the policies."""
    app.command()(forecast)


@command
def forecast(
    *,
    days: Days,
    account: Annotated[str | None, typer.Option("--account", help="One account, by its external id.")] = None,
    json: Json = False,
) -> None:
    """Say who reaches which stage when, if nothing is paid. Nothing is changed."""
    from billing.rules.terms import Stage

    rows = now_running(_forecast(_settings(), days, account))
    if json:
        say_json(rows)
        return
    for row in rows:
        say(_line(row, "from"))
    reached = Counter(row["to"] for row in rows)
    told = ", ".join(f"{reached[stage]} to {stage}" for stage in Stage if reached[stage])
    say(f"In the next {days} days, if nothing is paid: {told or 'nobody changes a stage'}.")


@command
def try_policy(
    file: Annotated[Path, typer.Argument(help="A policy file.")],
    *,
    days: Days,
    instead_of: Annotated[
        str | None,
        typer.Option(
            "--instead-of",
            help="The policy in force whose place it takes; by default the one of its name, else standard.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say what a policy would do otherwise than today's, on the real data. Nothing is changed."""
    settings = _settings()
    replaced, rows = now_running(_try(settings, file, days, instead_of))
    if json:
        say_json(rows)
        return
    for row in rows:
        say(_line(row, "today's policy"))
    number = len({(row["account"], row["server"]) for row in rows})
    whom = (
        "nobody"
        if not rows
        else f"{number} account{'s' if number > 1 else ''} or server{'s' if number > 1 else ''}"
    )
    say(f"{file} instead of {replaced}: in the next {days} days {whom} would stand elsewhere.")


async def _forecast(settings: "Settings", days: int, account: str | None) -> list[dict[str, object]]:
    from api import operations
    from billing.models import Account

    async with operations.opened(settings) as runtime:
        if account is not None and not await Account.filter(external_id=account).exists():
            raise Refused(f"there is no account {account}; its external id is wanted")
        seen = await operations.outlook_of(runtime, days)
        rows = _told(await seen.ahead(), seen)
        return [row for row in rows if account is None or row["account"] == account]


async def _try(
    settings: "Settings", file: Path, days: int, instead_of: str | None
) -> tuple[str, list[dict[str, object]]]:
    from api import operations
    from api.cli.checks import text_of
    from billing.notices import known_templates
    from billing.policy_files import STANDARD
    from billing.policy_reader import read_policy

    async with operations.opened(settings) as runtime:
        policies = runtime.policy_map()
        replaced = instead_of or (file.stem if file.stem in policies else STANDARD)
        if replaced not in policies:
            raise Refused(f"no policy {replaced} is in force; use one of: {', '.join(sorted(policies))}")
        guard = None if replaced == STANDARD else policies[STANDARD].guard
        tried = read_policy(replaced, text_of(file), templates=known_templates(), guard=guard, file=str(file))
        seen = await operations.outlook_of(runtime, days)
        return replaced, _told(await seen.differences(tried, instead_of=replaced), seen)


def _told(rows: "Sequence[Ahead | Difference]", seen: "Outlook") -> list[dict[str, object]]:
    from reconciler.rules.compare import Difference

    names = seen.names()
    return [
        {
            "at": row.at.isoformat(),
            "account": names[row.account_id, row.server_id][0],
            "server": names[row.account_id, row.server_id][1],
            "from": str(row.from_stage),
            "to": str(row.to_stage),
            "servers": row.servers,
            "waiting_for": row.waiting_for,
            **({"until": row.until and row.until.isoformat()} if isinstance(row, Difference) else {}),
        }
        for row in rows
    ]


def _line(row: Mapping[str, object], before: str) -> str:
    whom = f"{row['account']}/{row['server']}" if row["server"] else f"{row['account']}"
    number = f"{row['servers']} server{'' if row['servers'] == 1 else 's'}"
    waits = f", waits for {row['waiting_for']}" if row["waiting_for"] else ""
    until = f" until {_instant(row['until'])}" if row.get("until") else ""
    return f"{_instant(row['at'])}  {whom}: {row['to']}{until} ({before} {row['from']}; {number}{waits})"


def _instant(told: object) -> str:
    return f"{str(told)[:16].replace('T', ' ')} UTC"


def _settings() -> "Settings":
    from api.settings import load

    return load()
