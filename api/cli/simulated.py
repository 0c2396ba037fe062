"""Commands that run the simulators alone, for developing against them."""

import asyncio
import random
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.terminal import Refused, command, now_running, say, tell

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the tree."""
    simulator = typer.Typer(help="The simulators alone.", no_args_is_help=True, rich_markup_mode=None)
    simulator.command("proxmox")(proxmox)
    simulator.command("stripe")(stripe)
    app.add_typer(simulator, name="simulator")


@command
def proxmox(
    *,
    port: Port = 0,
    tls: Annotated[bool, typer.Option("--tls", help="Serve https with a certificate made now.")] = False,
) -> None:
    """Serve a Proxmox VE cluster to develop against, until Ctrl-C."""
    from billing.clock import SystemClock
    from simulators.proxmox import Tls, sample, serve

    cluster = sample.sample_cluster(clock=SystemClock(), rng=random.Random())  # noqa: S311  # a simulator's whims

    def ready(url: str) -> None:
        say(url)
        tell(f"token: {sample.TOKEN_ID}={sample.TOKEN_SECRET}")

    with tempfile.TemporaryDirectory(prefix="abeyance-simulator-") as folder:
        files = None
        if tls:
            from api.cli.certificate import make

            certificate, key = make(Path(folder))
            tell(f"certificate to trust: {certificate}")
            files = Tls(certificate=certificate, key=key)
        _until_interrupted(serve(cluster, port=port, tls=files, ready=ready), port)


@command
def stripe(*, port: Port = 0) -> None:
    """Serve a Stripe account to develop against, until Ctrl-C."""
    from simulators.stripe import Account, serve

    account = Account(rng=random.Random())  # noqa: S311  # a simulator's whims

    async def serving() -> None:
        async with serve(account, port=port) as url:
            say(url)
            tell(f"key: {account.api_key}")
            await asyncio.Event().wait()

    _until_interrupted(serving(), port)


def _until_interrupted(work: Coroutine[Any, Any, None], port: int) -> None:
    try:
        now_running(work)
    except KeyboardInterrupt:
        tell("ended")
    except OSError as problem:
        raise Refused(f"port {port} cannot be listened on ({problem.strerror}); name another, or 0") from None
