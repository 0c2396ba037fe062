"""How commands speak: results on standard output, everything else on standard error, one line for a fault.

Owns the turning of expected faults into exit code 1. An unexpected one keeps its traceback: it is a bug to be reported.
"""

import asyncio
import functools
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TextIO, TypeVar, cast

import structlog
import typer

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def command(run: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Make a command end with exit code 1 and a message for every fault that people can mend."""

    @functools.wraps(run)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        _speak_plainly()
        try:
            run(*args, **kwargs)
        except _expected() as fault:
            for line in str(fault).splitlines() or [type(fault).__name__]:
                tell(f"abeyance: {line}")
            raise typer.Exit(1) from None
        except _of_the_database() as fault:
            if not _is_outside(fault):
                raise
            tell(f"abeyance: the database cannot do this now: {fault}; see its disk, its rights and its log")
            raise typer.Exit(1) from None
        except BrokenPipeError:  # whoever read our output has seen enough
            sys.stderr.close()
            raise typer.Exit(1) from None

    return guarded


def now_running(work: Coroutine[Any, Any, Result]) -> Result:
    """Run asynchronous work to its end."""
    return asyncio.run(work)


def say(text: str) -> None:
    """Print a result."""
    typer.echo(text)


def say_json(value: object) -> None:
    """Print a result for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def tell(text: str) -> None:
    """Print something for people that is no result."""
    typer.echo(text, err=True)


def confirmed(question: str) -> bool:
    """Ask a person; without a terminal the answer is no, because nobody was asked."""
    if sys.stdin is None or not sys.stdin.isatty():  # it is None where the shell closed it
        tell(f"{question} Nobody is there to answer, so nothing was done; `--yes` answers.")
        return False
    return bool(typer.confirm(question, err=True))


def _expected() -> tuple[type[BaseException], ...]:
    """The faults that people can mend. Imported only now, so that `--help` stays quick."""
    from api.database import DatabaseProblem
    from api.demo.pace import BadSpeedError
    from api.operations import OperationError
    from api.settings import SettingsError
    from billing.policy_files import PoliciesRefused
    from billing.policy_yaml import FileRefused
    from billing.refusal import RefusalError
    from reconciler.catalogue import CatalogueError
    from reconciler.inventory_files import InventoryError

    return (
        SettingsError,
        DatabaseProblem,
        BadSpeedError,
        OperationError,
        PoliciesRefused,
        FileRefused,
        RefusalError,
        CatalogueError,
        InventoryError,
        Refused,
    )


def _of_the_database() -> tuple[type[BaseException], ...]:
    import sqlite3

    import asyncpg
    from tortoise.exceptions import BaseORMException

    return (sqlite3.OperationalError, asyncpg.PostgresError, BaseORMException)


def _is_outside(fault: BaseException) -> bool:
    """Return whether this is a full disk, a lock or a lost connection, and no fault in a statement of ours."""
    import sqlite3

    import asyncpg

    said = fault.args[0] if fault.args and isinstance(fault.args[0], Exception) else fault
    if isinstance(said, sqlite3.OperationalError):
        # The low byte is the primary code: https://www.sqlite.org/rescode.html. Some faults of the driver have none.
        return getattr(said, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF != sqlite3.SQLITE_ERROR
    outside = (
        asyncpg.PostgresConnectionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.OperatorInterventionError,
        asyncpg.PostgresSystemError,
        asyncpg.ReadOnlySQLTransactionError,
    )
    return isinstance(said, outside)


class _StandardError(io.TextIOBase):
    """Whatever standard error is at the moment of writing: a test may replace it, and a shell may have closed it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text) if sys.stderr is not None else len(text)

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()


class Refused(Exception):  # noqa: N818 - it says what happened to the command
    """A command cannot do what it was asked; the message says what to do instead."""


def only_warnings() -> None:
    """Leave out log lines that tell of nothing wrong, for a command that tells of everything itself."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def _speak_plainly() -> None:
    """Send log lines to standard error, since standard output is for results: plain on a terminal, else key=value."""
    stamped: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if terminal:
        # Without the variables of each frame, among which there could be a secret.
        plain, colours = structlog.dev.plain_traceback, not os.environ.get("NO_COLOR")
        shown: list[Any] = [
            structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0, exception_formatter=plain)
        ]
    else:
        first = ["timestamp", "level", "event"]
        logfmt = structlog.processors.LogfmtRenderer(key_order=first, drop_missing=True, bool_as_flag=False)
        shown = [structlog.processors.format_exc_info, logfmt]
    structlog.configure(
        processors=[*stamped, *shown],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
    )
    # Libraries log in their own way; theirs are the same lines.
    handler = logging.StreamHandler(_StandardError())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*stamped, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shown],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
