"""The command line: `abeyance`.

Owns arguments, what is printed and exit codes: 0 done, 1 refused or failed with what to do, 2 usage. Commands call the
operations of the product and hold no logic of their own.
"""

from api.cli.commands import app
from api.long_lived import collect_less_often


def main() -> None:
    """Run the command that the arguments name."""
    collect_less_often()
    app()
