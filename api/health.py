"""Is it alive, is it able to serve, how does it stand: for load balancers, people and Prometheus.

Owns the checks and the metrics. Reads the database, tries to write into the folder of the runs and leaves nothing
there; needs no token.
"""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from tortoise import connections

from api.database import known_migrations
from api.latest import Latest
from api.traffic import Traffic
from billing import books
from billing.charge_rows import UNFINISHED
from billing.clock import Clock
from billing.models import (
    Account,
    Episode,
    EventState,
    Invoice,
    Notice,
    StripeEvent,
    StripeMirror,
    WorkItem,
    WorkState,
)
from billing.money_models import Charge, Reservation
from billing.reservations import OPEN
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceStatus, NoticeState, Stage
from reconciler import brakes, identity, modes, stray
from reconciler.models import ReconcilerState, Server, SiteState, Step
from reconciler.rules.terms import Mode, StepState

log = structlog.get_logger("abeyance.health")

#: Checks that are shown and do not make the process unready.
_TOLD_ONLY = frozenset(
    {
        "brakes",
        "last_pass",
        "policy_files",
        "state_folder",
        "observation",
        "ledger",
        "site_tokens",
        "site_identities",
        "identity_keys",
    }
)
#: No check may keep a prober waiting longer.
PATIENCE = timedelta(seconds=2)
#: What a run needs at least in its folder.
_ROOM = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Check:
    """One answer: whether it is well, and what it is, for people."""

    ok: bool
    said: str


@dataclass(kw_only=True, eq=False)
class Health:
    """The three answers; mount `alive`, `ready` and `metrics`."""

    clock: Clock
    policies: Callable[[], Mapping[str, Policy]]
    #: What is wrong with the policy files on disk while the last good ones stay in force; null: nothing.
    policy_problem: Callable[[], str | None] = lambda: None
    mode: Mode = Mode.PLAN
    #: A pass older than this means that the loop stands still; null where this process runs none.
    pass_max_age: timedelta | None = timedelta(minutes=5)
    #: Whether Stripe is switched on at all.
    stripe: bool = False
    #: Where runs keep their records; null where this process starts none.
    state_dir: Path | None = None
    #: The sites to be observed, and how old the last complete observation of each may be.
    sites: frozenset[str] = frozenset()
    observation_max_age: timedelta = timedelta(minutes=10)
    #: What is wrong with the keys by which customers get in; null where no identity provider is set up.
    key_trouble: Callable[[datetime], str | None] | None = None
    #: What this process was asked at its API; null where it has none.
    traffic: Traffic | None = None
    #: Whoever asks this soon after somebody else is given the same answer.
    rest: timedelta = timedelta()

    def __post_init__(self) -> None:
        seconds = self.rest.total_seconds()
        self._latest_checks = Latest(make=self._checked, seconds=seconds)
        self._latest_figures = Latest(make=self._measured_in_time, seconds=seconds)

    async def alive(self, _: Request) -> Response:
        """Answer that the process answers."""
        return PlainTextResponse("ok\n")

    async def ready(self, _: Request) -> Response:
        """Answer each check; 503 when one fails that serving rests on. Texts name no secret and no address.

        A loop that stands still, a site that does not answer or is another one, an identity provider whose keys cannot
        be read, a full state folder, policy files that are refused while the last good ones stay in force, or a ledger
        that does not add up is trouble for people and no reason to turn away customers who want to pay, or webhooks.
        """
        checks = await self._latest_checks.get()
        ready = all(check.ok for name, check in checks.items() if name not in _TOLD_ONLY)
        shown = {name: {"ok": check.ok, "detail": check.said} for name, check in checks.items()}
        return JSONResponse({"ready": ready, "checks": shown}, 200 if ready else 503)

    async def _checked(self) -> Mapping[str, Check]:
        return {
            "database": await self._asked(self._database),
            "schema": await self._asked(self._schema),
            "policies": await self._asked(self._policies),
            "policy_files": await self._asked(self._policy_files),
            "brakes": await self._asked(self._brakes),
            "last_pass": await self._asked(self._last_pass),
            "state_folder": await self._asked(self._state_folder),
            "observation": await self._asked(self._observation),
            "ledger": await self._asked(self._ledger),
            "site_tokens": await self._asked(self._site_tokens),
            "site_identities": await self._asked(self._site_identities),
            "identity_keys": await self._asked(self._identity_keys),
        }

    async def metrics(self, _: Request) -> Response:
        """Answer in Prometheus' text format; 503 when the database does not."""
        figures = await self._latest_figures.get()
        if figures is None:
            return PlainTextResponse("the figures cannot be read now\n", 503)
        traffic = generate_latest(self.traffic.registry) if self.traffic is not None else b""
        return Response(figures + traffic, media_type=CONTENT_TYPE_LATEST)

    async def _measured_in_time(self) -> bytes | None:
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                return generate_latest(await self._measured())
        except Exception:  # a prober is told that there are no figures, whatever the reason
            log.warning("metrics.unavailable", exc_info=True)
            return None

    async def _asked(self, check: Callable[[], Awaitable[Check]]) -> Check:
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                return await check()
        except Exception as problem:  # noqa: BLE001  # a check that fails in any way has failed
            log.warning("check.failed", check=check.__name__, problem=type(problem).__name__)
            return Check(ok=False, said=f"no answer ({type(problem).__name__})")

    async def _database(self) -> Check:
        await connections.get("default").execute_query("SELECT 1")
        return Check(ok=True, said="answers")

    async def _schema(self) -> Check:
        known = known_migrations()[-1]
        present = await applied_version()
        if known == present:
            return Check(ok=True, said=known)
        return Check(ok=False, said=f"the code knows {known}, the database has {present or 'none'}")

    async def _policies(self) -> Check:
        loaded = self.policies()
        return Check(ok="standard" in loaded, said=", ".join(sorted(loaded)))

    async def _policy_files(self) -> Check:
        problem = self.policy_problem()
        return Check(ok=problem is None, said=f"refused: {problem}" if problem else "are in force")

    async def _brakes(self) -> Check:
        on = await brakes.standing(stripe=self.stripe, now=self.clock.now())
        return Check(ok=not on, said="; ".join(one.said for one in on) or "none is on")

    async def _last_pass(self) -> Check:
        if self.pass_max_age is None:
            return Check(ok=True, said="this process makes none")
        state = await ReconcilerState.get_or_none(id=1)
        if state is None or state.last_pass_at is None:
            return Check(ok=False, said="no pass has been made yet")
        age = self.clock.now() - state.last_pass_at
        return Check(ok=age <= self.pass_max_age, said=f"{int(age.total_seconds())} s ago")

    async def _state_folder(self) -> Check:
        if self.state_dir is None:
            return Check(ok=True, said="this process starts no runs")
        problem = await asyncio.to_thread(_unwritable, self.state_dir)
        return Check(ok=problem is None, said=problem or "can be written")

    async def _observation(self) -> Check:
        if self.mode is Mode.OFF:
            return Check(ok=True, said="nothing is observed")
        if unknown := await stray.servers_by_site(self.sites):
            return Check(ok=False, said=f"the inventory does not have: {stray.said(unknown)}")
        if not self.sites:
            return Check(ok=True, said="nothing is observed")
        seen = {row.site: row.complete_at for row in await SiteState.filter(site__in=list(self.sites))}
        ages = {site: _age(self.clock.now(), seen.get(site)) for site in sorted(self.sites)}
        if never := [site for site, age in ages.items() if age is None]:
            return Check(ok=False, said=f"never seen as a whole: {', '.join(never)}")
        site, oldest = max(((site, age or 0.0) for site, age in ages.items()), key=lambda one: one[1])
        ok = oldest <= self.observation_max_age.total_seconds()
        return Check(ok=ok, said=f"the oldest, of {site}, {int(oldest)} s ago")

    async def _ledger(self) -> Check:
        item = await books.in_doubt()
        said = f"does not add up, as seen at {item.since:%Y-%m-%d %H:%M} UTC" if item else "adds up"
        return Check(ok=item is None, said=said)

    async def _site_tokens(self) -> Check:
        strong = [
            row.site
            for row in await SiteState.filter(site__in=list(self.sites)).order_by("site")
            if row.excess
        ]
        return Check(
            ok=not strong, said=f"could destroy: {', '.join(strong)}" if strong else "cannot destroy"
        )

    async def _site_identities(self) -> Check:
        strange = await identity.strangers(self.sites)
        return Check(ok=not strange, said="; ".join(strange.values()) or "are the known ones")

    async def _identity_keys(self) -> Check:
        if self.key_trouble is None:
            return Check(ok=True, said="no identity provider is set up")
        trouble = self.key_trouble(self.clock.now())
        return Check(ok=trouble is None, said=trouble or "nothing is known against them")

    async def _measured(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        now = self.clock.now()
        for name, (text, value) in (await _figures(now)).items():
            if value is not None:
                Gauge(f"abeyance_{name}", text, registry=registry).set(value)
        mode = Gauge("abeyance_mode", "1 for the mode in force.", ["mode"], registry=registry)
        in_force = await modes.in_force(self.mode)
        for one in Mode:
            mode.labels(one.lower()).set(one is in_force)
        stages = Gauge(
            "abeyance_accounts", "Accounts by standing as of the last pass.", ["stage"], registry=registry
        )
        for stage, count in (await _by_stage()).items():
            stages.labels(stage.lower()).set(count)
        return registry


def _unwritable(folder: Path) -> str | None:
    """Return why no run could keep anything in this folder; one that is not there yet is made by the first run."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return "cannot be written"
    try:
        if there == folder:
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(_ROOM))
                probe.flush()
    except OSError as problem:
        return f"cannot be written ({problem.strerror or type(problem).__name__})"
    return None


async def applied_version() -> str | None:
    """Return the newest migration of the open database; null when there is none."""
    newest = "SELECT max(name) AS name FROM tortoise_migrations WHERE app = 'abeyance'"
    rows = await connections.get("default").execute_query_dict(newest)
    return rows[0]["name"] if rows else None


async def _figures(now: datetime) -> Mapping[str, tuple[str, float | None]]:
    state = await ReconcilerState.get_or_none(id=1) or ReconcilerState(id=1)
    mirror = await StripeMirror.all().first()
    oldest = await SiteState.filter(complete_at__isnull=False).order_by("complete_at").first()
    dead = await StripeEvent.filter(state=EventState.DEAD).count()
    open_invoices = Invoice.filter(status=InvoiceStatus.OPEN, amount_due__gt=0, overdue_at__lte=now)
    return {
        "last_pass_age_seconds": ("Since the last pass.", _age(now, state.last_pass_at)),
        "stripe_sweep_age_seconds": (
            "Since the last full sweep of Stripe.",
            _age(now, mirror.last_full_sweep_at if mirror else None),
        ),
        "observation_age_seconds": (
            "Since the oldest complete observation of a site.",
            _age(now, oldest.complete_at if oldest else None),
        ),
        "paused": ("1 while enforcement is paused.", state.paused_at is not None),
        "breaker_open": ("1 while the breaker is open.", state.breaker_open_at is not None),
        "safe_mode": ("1 while in safe mode.", state.safe_mode_since is not None),
        "events_pending": (
            "Stripe events that wait.",
            await StripeEvent.filter(state=EventState.PENDING).count(),
        ),
        "events_dead": ("Stripe events given up.", dead),
        "notices_pending": ("Notices that wait.", await Notice.filter(state=NoticeState.PENDING).count()),
        "steps_dispatched": ("Steps under way.", await Step.filter(state=StepState.DISPATCHED).count()),
        "steps_unknown": ("Steps whose end is unknown.", await Step.filter(state=StepState.UNKNOWN).count()),
        "work_items_open": (
            "Items that wait for a person.",
            await WorkItem.filter(state=WorkState.OPEN).count(),
        ),
        "charges_unfinished": (
            "Charges of cards whose end is not known.",
            await Charge.filter(state__in=UNFINISHED).count(),
        ),
        "reservations_open": (
            "Parts of purses on their way to an invoice, or set aside for one.",
            await Reservation.filter(state__in=OPEN).count(),
        ),
        "ledger_in_doubt": ("1 while the ledger does not add up.", await books.in_doubt() is not None),
        "servers": ("Servers that are not retired.", await Server.filter(retired_at__isnull=True).count()),
        "invoices_overdue": ("Open invoices that are overdue.", await open_invoices.count()),
    }


async def _by_stage() -> Mapping[Stage, int]:
    open_episodes = Episode.filter(ended_at__isnull=True, server_id__isnull=True)
    counts = {stage: await open_episodes.filter(admitted=stage).count() for stage in Stage}
    raised = sum(count for stage, count in counts.items() if stage is not Stage.CURRENT)
    return counts | {Stage.CURRENT: await Account.all().count() - raised}


def _age(now: datetime, instant: datetime | None) -> float | None:
    return (now - instant).total_seconds() if instant is not None else None
