"""The tree of commands. Each imports what it needs when it runs, so that `--help` answers at once."""

import typer

from api.cli import ahead, checks, databases, operating, simulated, tokens, trail

app = typer.Typer(
    name="abeyance",
    help="Keeps servers in step with what their owners paid for. It never destroys anything.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _part in (operating, ahead, checks, databases, tokens, trail, simulated):
    _part.add_to(app)
