"""Commands about the database: migrate it, compare it with what it should be."""

import typer

from api.cli.terminal import Refused, command, now_running, say


def add_to(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    db = typer.Typer(help="The database.", no_args_is_help=True, rich_markup_mode=None)
    db.command("upgrade")(upgrade)
    db.command("check")(check)
    app.add_typer(db, name="db")


@command
def upgrade() -> None:
    """Apply every waiting migration."""
    from api import database

    report = now_running(database.upgrade(_url()))
    for name in report.applied:
        say(f"applied {name}")
    say(f"the database is at {report.version}")


@command
def check() -> None:
    """Compare the real catalog of the database with the expected one."""
    from api import catalog

    differences = now_running(catalog.check(_url()))
    if differences:
        raise Refused("\n".join(differences))
    say("the database is as it should be")


def _url() -> str:
    from api.settings import load

    return load().database_url.get_secret_value()
