"""What the commands do: serve, one pass, one look, one observation, one action by hand.

Owns the order of opening and closing. Each opens the database itself and closes it whatever happens.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette

from api.app import create_app
from api.database import open_database
from api.graphql.operations import LARGEST_BODY
from api.leadership import leadership
from api.runtime import Pace, Runtime
from api.settings import Settings
from api.sockets import HttpConnection, WebSocketConnection
from billing import audit, audit_seal
from billing.models import Account
from billing.refusal import RefusalError
from reconciler import brakes, outlook, subjects
from reconciler.models import ReconcilerState, Server, SiteState
from reconciler.rules import render
from reconciler.rules.plan import Plan

log = structlog.get_logger(__name__)

#: How soon a process that only answers asks for the lead again.
STANDBY_SECONDS = 5.0


class OperationError(Exception):
    """A command cannot do what it was asked; the message says what to do instead."""


@dataclass(frozen=True, kw_only=True)
class PlanView:
    """A plan as the command line shows it: for people, and as plain data."""

    text: str
    markdown: str
    content: dict[str, object]
    plan: Plan


def listen(address: str) -> socket.socket:
    """Return a socket that listens on `HOST:PORT`, port 0 on a free one. Raises `OperationError` when it is taken."""
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=_family(host), backlog=256)
    except OSError as problem:
        raise OperationError(
            f"ABEYANCE_LISTEN: {address} cannot be listened on ({problem.strerror}); "
            "stop what uses it or name another port, such as 127.0.0.1:8081"
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _Server(uvicorn.Server):
    """Leaves the process's signals to the command that runs it."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@asynccontextmanager
async def answering(
    app: Starlette, listener: socket.socket, *, trusted_proxies: str = "127.0.0.1,::1"
) -> AsyncIterator[str]:
    """Answer HTTP on a listening socket until the end of the block; yields the base URL.

    Requests from `trusted_proxies` (addresses and networks, with commas) come from whom `X-Forwarded-For` names.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        forwarded_allow_ips=trusted_proxies,
        timeout_graceful_shutdown=5,
        http=HttpConnection,
        ws=WebSocketConnection,
        ws_max_size=LARGEST_BODY,
        ws_per_message_deflate=False,  # a small message may inflate to any size
    )
    # asyncio does so only for sockets that name their protocol, and these do not: without it the body of each answer
    # waits until the client has acknowledged the head, on a kept connection some 40 ms. Accepted sockets inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    host, port = listener.getsockname()[:2]
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def opened(
    settings: Settings, pace: Pace | None = None, *, policies_needed: bool = True
) -> AsyncIterator[Runtime]:
    """Open the database and build all parts; everything is closed at the end of the block.

    What rests on no policy does not need them: refused files are then told of, and no pass may be made.
    """
    async with open_database(settings.database_url.get_secret_value()):
        runtime = Runtime(settings, pace=pace, policies_needed=policies_needed)
        if runtime.policies.problems:
            log.warning("policies.refused", problems=list(runtime.policies.problems))
        try:
            async with runtime.changes.shared(settings.database_url.get_secret_value()):
                yield runtime
        finally:
            await runtime.aclose()


def _app(runtime: Runtime) -> Starlette:
    return create_app(
        runtime.ports(),
        health=runtime.health(),
        webhook=runtime.webhook() if runtime.gateway else None,
        dev=runtime.settings.dev,
    )


async def serve(
    settings: Settings, *, ready: Callable[[str], None] | None = None, pace: Pace | None = None
) -> None:
    """Serve until SIGINT or SIGTERM: the API, and the reconciler whenever no other process has that job.

    SIGHUP lets it read the policy files at once.
    `pace` replaces the spans that the settings name.
    """
    listener = listen(settings.listen)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with listener:
        async with (
            opened(settings, pace) as runtime,
            runtime.watching(),
            answering(_app(runtime), listener, trusted_proxies=settings.trusted_proxies) as url,
        ):
            loop.add_signal_handler(signal.SIGHUP, runtime.policy_watch.reload)
            if ready is not None:
                ready(url)
            standby = False
            while not stop.is_set():
                standby = await _take_part(settings, runtime, stop, standby=standby)


async def _take_part(settings: Settings, runtime: Runtime, stop: asyncio.Event, *, standby: bool) -> bool:
    """Reconcile while this process leads; return when it is to stop, was not let, or has lost the lead.

    `standby` is what the last turn returned: whether another process leads. Only a change of it is logged.
    """
    async with leadership(settings.database_url.get_secret_value()) as lead:
        if lead is None:
            if not standby:
                log.info(
                    "reconciler.elsewhere",
                    message="another process reconciles this database; this one answers",
                )
            await _first(stop.wait(), asyncio.sleep(STANDBY_SECONDS))
            return True
        if standby:
            log.info("reconciler.here", message="this process reconciles from now on")
        async with runtime.running():
            await _first(stop.wait(), lead.lost())
        if not stop.is_set():
            log.error("reconciler.lead_lost")
        return False


async def _first(*waits: Coroutine[object, object, object]) -> None:
    """Return when the first of several waits is over, and end the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _alone(settings: Settings, work: Callable[[Runtime], Awaitable[None]]) -> None:
    """Do reconciling work in this process, unless another one has that job now."""
    url = settings.database_url.get_secret_value()
    async with opened(settings) as runtime, leadership(url) as lead:
        if lead is None:
            raise OperationError(
                "another process reconciles this database; ask it by `reconcileRequest`, or stop it first"
            )
        await runtime.recover()
        await work(runtime)
        await runtime.dispatcher.aclose()
        await audit_seal.seal_all(runtime.rng)


async def plan_now(settings: Settings) -> PlanView:
    """Return the plan as of now; nothing is written and nothing is sent."""
    async with opened(settings) as runtime:
        return await _look(runtime)


async def _look(runtime: Runtime) -> PlanView:
    """Return the plan as of now below what holds restrictions back for everybody."""
    seen = await runtime.passes.look()
    plan, names, eased = seen.plan, seen.names, render.eased(seen.eased)
    on = await brakes.standing(stripe=runtime.gateway is not None, now=runtime.clock.now())
    quoted = "".join(f"> {line.strip()}\n\n" for line in [*(one.line for one in on), eased] if line)
    return PlanView(
        text=brakes.text(on) + eased + render.text(plan, names),
        markdown=quoted + render.markdown(plan, names),
        content={"brakes": brakes.content(on), "eased": list(seen.eased), **render.content(plan, names)},
        plan=plan,
    )


async def outlook_of(runtime: Runtime, days: int) -> outlook.Outlook:
    """Return what is ahead of the fleet; nothing is written and nothing is sent."""
    return await outlook.look(
        runtime.policy_map(),
        runtime.site_modes(),
        facts_max_age=runtime.settings.facts_max_age,
        now=runtime.clock.now(),
        days=days,
    )


async def apply_once(settings: Settings, confirm: Callable[[PlanView], bool]) -> PlanView:
    """Observe, show the plan, and if confirmed run passes until nothing is left that can be done now."""
    shown: list[PlanView] = []

    async def work(runtime: Runtime) -> None:
        await runtime.stripe.sweep()
        await runtime.watch.cycle()
        shown.append(await _look(runtime))
        if confirm(shown[0]):
            await settle(runtime)

    await _alone(settings, work)
    return shown[0]


async def settle(runtime: Runtime, *, rounds: int = 50) -> None:
    """Bring the money up to date, then run passes, jobs and deliveries until a round changes nothing, or `rounds`."""
    await runtime.stripe.process_inbox()
    await runtime.money.once()
    for _ in range(rounds):
        await runtime.stripe.process_inbox()
        await runtime.money.settle_touched()
        result = await runtime.passes.run()
        if result.newly_overdue:
            await runtime.money.sweep()
        worked = runtime.dispatcher.busy
        await runtime.dispatcher.idle()
        await runtime.resolve_unknown()
        await runtime.mail.deliver()
        await runtime.trail.send()
        if not result.again and not worked and not result.newly_overdue:
            return


async def observe_now(settings: Settings) -> list[dict[str, Any]]:
    """Observe every site once and return how each stands; where another process does that already, what it read."""
    url = settings.database_url.get_secret_value()
    async with opened(settings, policies_needed=False) as runtime, leadership(url) as lead:
        if lead is not None:
            await runtime.recover()
            await runtime.watch.cycle()
        return [
            {
                "site": row.site,
                "complete_at": row.complete_at.isoformat() if row.complete_at else None,
                "silent_nodes": row.silent_nodes,
                "problem": row.problem,
            }
            for row in await SiteState.all().order_by("site")
        ]


class AppliesAlreadyError(Exception):
    """This database applies since an earlier answer: nobody gets a first notice any more."""

    def __init__(self, since: datetime) -> None:
        super().__init__(
            f"this database applies since {since:%Y-%m-%d %H:%M} UTC; there is nothing to answer"
        )


async def first_apply(settings: Settings, confirm: Callable[[list[str]], bool]) -> list[str]:
    """Show which accounts would get a first notice; if confirmed, let this database apply from now on.

    Raises `AppliesAlreadyError`, having asked nothing, where that was answered before.
    """
    async with opened(settings) as runtime:
        state = await ReconcilerState.get(id=1)
        if state.first_apply_at is not None:
            raise AppliesAlreadyError(state.first_apply_at)
        now = runtime.clock.now()
        due = await Account.all().values_list("id", flat=True)
        found = await subjects.load([int(one) for one in due], runtime.policy_map(), now)  # type: ignore[call-overload]
        names = [subject.name for subject in found if subject.eligibility.stage.rank > subject.admitted.rank]
        if confirm(names):
            await ReconcilerState.filter(id=1, first_apply_at=None).update(first_apply_at=now)
            await audit.record(
                "apply.first",
                ("ReconcilerState", 1),
                at=now,
                actor="operator:cli",
                reason="answered yes to apply --first",
            )
        return names


async def run_action(
    settings: Settings, action: str, server_external_id: str, *, actor: str, reason: str
) -> str:
    """Carry out an undoing action or an observation by hand; anything else is refused and leaves an audit row."""
    async with opened(settings, policies_needed=False) as runtime:
        # Before anything else, and whoever reconciles: a wish that is refused leaves its trace in any case.
        if action not in runtime.by_hand.allowed():
            raise await _refused(runtime, action, server_external_id, actor=actor, reason=reason)
        server = await Server.get_or_none(external_id=server_external_id)
        if server is None:
            raise OperationError(
                f"there is no server {server_external_id}; its external id is wanted, as the control plane gave it"
            )
        try:
            if action == "observe":
                await runtime.by_hand.observe(server.id, actor=actor)
                await runtime.by_hand.idle()
                return "read; `abeyance explain` shows what was found"
            await runtime.by_hand.give_back(action, server.id, reason=reason, actor=actor)
        except RefusalError as refused:
            raise OperationError(str(refused)) from None
        return await _given_back(settings, runtime)


async def _given_back(settings: Settings, runtime: Runtime) -> str:
    """Carry out what was asked for, or leave it to the process that reconciles; return what to tell."""
    async with leadership(settings.database_url.get_secret_value()) as lead:
        if lead is None:
            return (
                "asked for: the process that reconciles does it at its next tick; then see `abeyance explain`"
            )
        if runtime.policies.problems:  # without policies no account can be judged, so no pass is made
            raise OperationError(
                "asked for, but no process reconciles, and nothing is done while the policy files are refused "
                f"({runtime.policies.problems[0]}): mend them, then run this again or start `abeyance serve`"
            )
        await runtime.recover()
        await settle(runtime)
        await runtime.dispatcher.aclose()
        return "done as far as it can be done now; `abeyance explain` shows where it stands"


async def _refused(
    runtime: Runtime, action: str, server_external_id: str, *, actor: str, reason: str
) -> OperationError:
    """Return the refusal of an action that nobody may ask for, after its audit row."""
    server = await Server.get_or_none(external_id=server_external_id)
    await audit.record(
        "action.refused",
        ("Server", server.id if server else _kept(server_external_id, 64)),
        at=runtime.clock.now(),
        actor=actor,
        reason=reason,
        account_id=server.account_id if server else None,
        after={"action": _kept(action, 100)},
    )
    allowed = ", ".join(sorted(runtime.by_hand.allowed()))
    return OperationError(f"{_kept(action, 100)} is refused: by hand there are only {allowed}")


def _kept(text: str, longest: int) -> str:
    """Return a text of the command line as any database can keep it."""
    return text.encode(errors="replace").decode()[:longest]
