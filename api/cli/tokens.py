"""Commands about API tokens: make one, revoke one."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from api.cli.terminal import Refused, command, now_running, say, tell

_ACTOR = "operator:cli"


class RoleName(StrEnum):
    """The roles, as they are written on the command line."""

    CUSTOMER = "CUSTOMER"
    SUPPORT = "SUPPORT"
    ADMIN = "ADMIN"
    INFRA = "INFRA"
    CONTROL = "CONTROL"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    token = typer.Typer(help="API tokens.", no_args_is_help=True, rich_markup_mode=None)
    token.command("create")(create)
    token.command("revoke")(revoke)
    app.add_typer(token, name="token")


@command
def create(
    *,
    role: Annotated[RoleName, typer.Option("--role", case_sensitive=False)],
    name: Annotated[str, typer.Option("--name", help="What `token revoke` is given.")],
    person: Annotated[str | None, typer.Option("--person", help="Whose it is; approvals need it.")] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="A CUSTOMER's account: its external id.")
    ] = None,
    lasts: Annotated[
        str | None, typer.Option("--lasts", help="How long, such as P90D; else until revoked.")
    ] = None,
) -> None:
    """Make a token. It is printed alone on standard output, once; only its hash is kept."""
    say(now_running(_create(role, name, person, account, lasts)))


async def _create(
    role: RoleName, name: str, person: str | None, account: str | None, lasts: str | None
) -> str:
    from api import tokens
    from api.database import open_database
    from api.models import Role
    from billing.clock import SystemClock
    from billing.models import Account

    now = SystemClock().now()
    async with open_database(_url()):
        text = await tokens.create(
            name,
            Role(role.value),
            now=now,
            actor=_ACTOR,
            person=person,
            account_external_id=account,
            expires_at=now + _span(lasts) if lasts is not None else None,
        )
        # No refusal: a portal may have its tokens before the control plane names its accounts.
        if account is not None and not await Account.filter(external_id=account).exists():
            tell(f"There is no account {account} yet: until there is one, this token sees nothing.")
        return text


@command
def revoke(*, name: Annotated[str, typer.Option("--name", help="The token's name.")]) -> None:
    """Revoke a token, at once."""
    if not now_running(_revoke(name)):
        raise Refused(f"no live token is called {name}")
    tell(f"{name} is revoked")


async def _revoke(name: str) -> int:
    from api import tokens
    from api.database import open_database
    from billing.clock import SystemClock

    async with open_database(_url()):
        return await tokens.revoke(name, now=SystemClock().now(), actor=_ACTOR)


def _span(text: str) -> timedelta:
    from billing.rules.durations import DurationError, parse_duration

    try:
        return parse_duration(text)
    except DurationError as problem:
        raise Refused(f"--lasts: {problem}") from None


def _url() -> str:
    from api.settings import load

    return load().database_url.get_secret_value()
