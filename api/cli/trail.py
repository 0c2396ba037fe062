"""Commands about the audit trail: verify its chain, and erase what is kept about a person, there and elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.terminal import Refused, command, confirmed, now_running, say, tell

if TYPE_CHECKING:
    from billing.audit_chain import Head
    from billing.audit_verify import Verified
    from billing.erasing import Erased


def add_to(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    audit = typer.Typer(help="The audit trail.", no_args_is_help=True, rich_markup_mode=None)
    audit.command("verify")(verify)
    audit.command("erase")(erase)
    app.add_typer(audit, name="audit")


@command
def verify(
    *,
    head: Annotated[
        Path | None,
        typer.Option(
            help="A file of heads noted earlier, one a line: the trail must have gone through each."
        ),
    ] = None,
) -> None:
    """Verify the whole chain of the audit trail and print its head; keep that somewhere else."""
    from billing.audit_verify import ChainBrokenError

    noted = _noted(head) if head is not None else ()
    try:
        found = now_running(_verified(noted))
    except ChainBrokenError as broken:
        raise Refused(f"the audit trail is broken: {broken}") from None
    say(str(found.head))
    tell(f"{found.head.position} rows are as they were sealed, {found.erased} of them erased")
    if found.unsealed:
        tell(f"{found.unsealed} rows are not sealed yet; the process that reconciles does it every second")


@command
def erase(
    account: Annotated[str, typer.Argument(help="The external id of an account.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase for good what is kept about a customer beside the account: in the audit trail, letters, Stripe's events.

    The chain of the trail stays whole. Name and addresses of the account itself are the control plane's to change.
    """
    if not (yes or confirmed(f"Erase what is kept about {account}? It cannot be undone.")):
        raise Refused("nothing was erased")
    erased, unsealed = now_running(_erased(account, reason))
    say(
        f"erased: {erased.audit_rows} rows of the audit trail, {erased.letters} letters, {erased.events} events, "
        f"{erased.work_items} work items"
    )
    if unsealed:
        tell(f"{unsealed} rows of this account are too new to be erased; repeat it in a few seconds")
    if erased.left:
        tell(f"{erased.left} letters, events or work items are still needed; repeat it when they are done")


def _noted(file: Path) -> "tuple[Head, ...]":
    from billing.audit_verify import read_heads

    try:
        return read_heads(file.read_text(encoding="ascii"))
    except ValueError as problem:  # text that is not ASCII, too
        said = "it is not text" if isinstance(problem, UnicodeDecodeError) else problem
        raise Refused(f"{file}: {said}; give a file with what `abeyance audit verify` printed") from None
    except OSError as problem:
        raise Refused(f"{file}: cannot be read: {problem.strerror}") from None


async def _verified(noted: "tuple[Head, ...]") -> "Verified":
    from api.database import open_database
    from api.settings import load
    from billing.audit_verify import verify as verified

    async with open_database(load().database_url.get_secret_value()):
        return await verified(noted)


async def _erased(account: str, reason: str) -> "tuple[Erased, int]":
    from api.database import open_database
    from api.settings import load
    from billing import audit_seal, erasing
    from billing.clock import SystemClock
    from billing.models import Account, AuditEntry

    async with open_database(load().database_url.get_secret_value()):
        now = SystemClock().now()
        erased = await erasing.erase(account, reason=reason, actor="operator:cli", now=now)
        owner = await Account.get(external_id=account)
        left = AuditEntry.filter(account_id=owner.id, position=None).exclude(kind=audit_seal.KIND_ERASED)
        return erased, await left.count()
