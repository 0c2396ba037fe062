"""The composition root: builds every part from the settings and joins them.

Owns the wiring and nothing else. Clock, random source and pace are arguments, so that a test or the demo
can pass its own.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from api import parts
from api.background import Worker
from api.changes import Changes
from api.health import Health
from api.mail_turns import MailTurns
from api.money_turns import MoneyTurns
from api.policy_watch import SETTLED_SECONDS, PolicyWatch
from api.ports import Ports
from api.settings import Settings
from api.stripe_turns import StripeTurns
from api.traffic import Traffic
from api.trail import Trail
from api.webhooks import StripeWebhook
from billing import notices
from billing.clock import Clock, SystemClock
from billing.mail import SmtpMailer
from billing.policy_files import PolicyBook
from billing.rules.policy import Policy
from billing.stripe.card_gateway import CardGateway
from billing.stripe.settle_gateway import SettleGateway
from reconciler import modes, unknown
from reconciler.actions import Actions
from reconciler.backoff import Backoff
from reconciler.by_hand import ByHand
from reconciler.catalogue import load_catalogue
from reconciler.dispatch import Dispatcher
from reconciler.freshness import Freshness
from reconciler.inventory import load_inventory
from reconciler.loop import Loop
from reconciler.models import Step
from reconciler.passes import Passes, PassResult
from reconciler.rules.terms import Mode, StepState
from reconciler.runs.execution import Execution, sweep_leftovers
from reconciler.safety import Safety, uptime
from reconciler.schedule import Schedule
from reconciler.watch import Watch

log = structlog.get_logger(__name__)

#: After so many spans without a complete observation of a site, `/readyz` names it.
OBSERVATIONS_MISSED = 10
#: Whoever asks for the health within this time is given the same answer: strangers may ask as often as they like.
HEALTH_REST = timedelta(seconds=2)
#: How often steps of unknown outcome are looked at again while there are any.
UNKNOWN_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The spans of the ticks in seconds. `scale` divides back-offs and settling times; the demo runs compressed."""

    tick: float
    observe: float
    sweep: float
    scale: float = 1.0

    @classmethod
    def of(cls, settings: Settings) -> "Pace":
        """Return the spans that the settings name."""
        return cls(tick=settings.tick_seconds, observe=settings.observe_seconds, sweep=settings.sweep_seconds)


class Runtime:
    """All parts of one process, joined; the database must be open.

    Raises the clear errors of settings, policies, inventory and catalogue. Starts nothing before `running`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        pace: Pace | None = None,
        policies_needed: bool = True,
    ) -> None:
        parts.usable_folder(settings.state_dir)
        self.settings = settings
        self.clock = clock or SystemClock()
        self.rng = rng or random.SystemRandom()
        self.pace = pace or Pace.of(settings)
        self.policies = PolicyBook(
            settings.policies, templates=notices.known_templates(), needed=policies_needed
        )
        self.gateway = parts.stripe_gateway(settings)
        self.cards = CardGateway(self.gateway) if self.gateway else None
        self.invoices = SettleGateway(self.gateway) if self.gateway else None
        self.jwks = parts.key_set(settings)
        self.changes = Changes()
        self.traffic = Traffic()
        self.loop = Loop(clock=self.clock, run_pass=self._pass, heard=self.heard)
        self.policy_watch = PolicyWatch(
            self.policies,
            clock=self.clock,
            every=self.pace.tick,
            settled=SETTLED_SECONDS / self.pace.scale,
            changed=self.wake,
        )
        self.unknown = Worker(name="unknown", turn=self.resolve_unknown)
        self.trail = Trail(settings, clock=self.clock, rng=self.rng)
        self.money = MoneyTurns(
            clock=self.clock,
            means=lambda: self.ports().means(),
            cards=self.cards,
            mode=lambda: modes.in_force(settings.mode),
            wake=self.loop.wake,
        )
        self.stripe = StripeTurns(
            clock=self.clock,
            gateway=self.gateway,
            account=settings.stripe_account,
            money=self.money,
            wake=self.loop.wake,
        )
        self.mail = MailTurns(
            clock=self.clock,
            rng=self.rng,
            mailer=SmtpMailer.of(settings),
            staff=parts.staff_channel(settings),
            mode=lambda: modes.in_force(settings.mode),
            means=self.money.means,
            wake=self.loop.wake,
        )
        self._build_reconciler(settings)

    def _build_reconciler(self, settings: Settings) -> None:
        backoff = Backoff(scale=self.pace.scale)
        self.actions = Actions(
            execution=Execution(settings.state_dir, self.clock),
            catalogue=load_catalogue(settings.playbooks),
            inventory=load_inventory(settings.inventory),
            playbooks=settings.playbooks,
            inventory_folder=settings.inventory,
        )
        self.watch = Watch(
            clock=self.clock,
            actions=self.actions,
            backoff=backoff,
            scale=self.pace.scale,
            believed=lambda: self.policies.guard.max_new_per_pass,
        )
        self.dispatcher = Dispatcher(
            clock=self.clock, actions=self.actions, backoff=backoff, wake=self.loop.wake
        )
        self.by_hand = ByHand(clock=self.clock, actions=self.actions, wake=self.loop.wake)
        self.passes = Passes(
            clock=self.clock,
            mode=settings.mode,
            policies=self.policy_map,
            inventory=self.actions.inventory,
            dispatcher=self.dispatcher,
            freshness=Freshness(stripe=self.gateway is not None, facts_max_age=settings.facts_max_age),
            refetch=self.stripe.refetch if self.gateway else None,
            wake=self.loop.wake,
            second_person=settings.approval_rule,
            safety=Safety(
                clock=self.clock,
                state_dir=settings.state_dir,
                sites=frozenset(site.name for site in self.actions.inventory.sites),
                stripe=self.gateway is not None,
                uptime=uptime if isinstance(self.clock, SystemClock) else None,
            ),
        )

    async def _pass(self) -> PassResult:
        return await self.passes.run(hurry=self.loop.woken)

    # -- the doors' side ------------------------------------------------------------------------------------------

    def wake(self, account_id: int | None = None) -> None:
        """Ask for a pass; what to look at is in the database already."""
        self.loop.wake()
        self.changes.ring()

    def ports(self) -> Ports:
        """Return what the doors are given."""
        return Ports(
            clock=self.clock,
            wake=self.wake,
            policies=self.policy_map,
            platforms=lambda: {site.name: str(site.platform) for site in self.actions.inventory.sites},
            actions=self.by_hand,
            site_modes=self.site_modes,
            facts_max_age=self.settings.facts_max_age,
            cards=self.cards,
            invoices=self.invoices,
            adopt_customer=self.stripe.adopt if self.gateway else None,
            mode=self.settings.mode,
            authenticators=parts.authenticators(self.settings, self.jwks),
            second_person=self.settings.approval_rule,
            changes=self.changes,
            traffic=self.traffic,
        )

    def site_modes(self) -> Mapping[str, Mode]:
        """Return the mode of each site of the inventory."""
        return {site.name: Mode(site.mode.upper()) for site in self.actions.inventory.sites}

    def webhook(self) -> StripeWebhook:
        """Return the door of Stripe's webhooks; without a secret it refuses everything."""
        return StripeWebhook(
            secrets=self.settings.stripe_webhook_secrets,
            live=self.gateway.live if self.gateway else False,
            account_id=self.settings.stripe_account,
            clock=self.clock,
            wake=self.stripe.inbox.wake,
        )

    def health(self) -> Health:
        """Return what answers whether this process is able to serve."""
        return Health(
            clock=self.clock,
            policies=self.policy_map,
            policy_problem=lambda: "; ".join(self.policies.problems) or None,
            mode=self.settings.mode,
            stripe=self.gateway is not None,
            state_dir=self.settings.state_dir,
            sites=frozenset(site.name for site in self.actions.inventory.sites),
            observation_max_age=timedelta(seconds=OBSERVATIONS_MISSED * self.pace.observe),
            key_trouble=self.jwks.trouble if self.jwks is not None else None,
            traffic=self.traffic,
            rest=HEALTH_REST,
        )

    def policy_map(self) -> Mapping[str, Policy]:
        """Return the policies in force by name."""
        return self.policies.all

    # -- the work -------------------------------------------------------------------------------------------------

    async def _warn(self) -> None:
        """Say what is set and does not work as one could think."""
        if await modes.in_force(self.settings.mode) is not self.settings.mode:
            log.warning(
                "mode.plan_until_first_apply",
                message="run `abeyance apply --first` to let this database apply",
            )

    async def recover(self) -> None:
        """End what an earlier life left running, and mark its steps unknown; before anything else is started."""
        left = await sweep_leftovers(self.settings.state_dir)
        if left.alive:
            log.error("runs.still_alive", runs=left.alive)
        lost = await unknown.mark_lost(self.clock.now(), alive=left.alive)
        log.info("recovered", swept=len(left.swept), unknown_steps=lost)

    async def resolve_unknown(self) -> float | None:
        """Look at steps of unknown outcome; returns when to look again."""
        if await self.watch.resolve_unknown():
            self.loop.wake()
        left = await Step.filter(state=StepState.UNKNOWN).exists()
        return UNKNOWN_SECONDS / self.pace.scale if left else None

    async def observe(self) -> None:
        """Observe every site once; in `OFF` nothing is asked of anybody."""
        if self.settings.mode is Mode.OFF:
            return
        await self.watch.cycle()
        self.loop.wake()

    def heard(self, result: PassResult) -> None:
        """After each pass: send what it queued, look at what is unknown, settle what is overdue, tell who watches."""
        self.changes.ring()
        self.mail.outbox.wake()
        self.unknown.wake()
        self.trail.passed()
        if result.newly_overdue:
            self.money.sweeping.wake()

    async def tick(self) -> None:
        """Wake everything that could have something to do."""
        for worker in (self.stripe.inbox, self.mail.outbox, self.unknown):
            worker.wake()
        self.trail.wake()
        self.loop.wake()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow the policy files until the end of the block, whether or not this process reconciles."""
        task = asyncio.create_task(self.policy_watch.looking.run(), name="policies")
        self.policy_watch.looking.wake()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reconcile until the end of the block; what runs then is stopped and its outcome written down."""
        await self.recover()
        await self._warn()
        ticks = {
            "tick": (self.pace.tick, self.tick),
            "observe": (self.pace.observe, self.observe),
            "sweep": (self.pace.sweep, self.stripe.sweep),
            **self.money.ticks(sweep=self.pace.sweep),
        }
        schedule = Schedule(ticks)
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("loop", self.loop.run()),
                ("inbox", self.stripe.inbox.run()),
                ("outbox", self.mail.outbox.run()),
                ("unknown", self.unknown.run()),
                ("policy trouble", self.policy_watch.telling.run()),
                *((worker.name, worker.run()) for worker in self.trail.workers),
                *((worker.name, worker.run()) for worker in self.money.workers),
                # Facts first: nothing restricts before a sweep and an observation, and restores need not wait a tick.
                ("first sweep", self.stripe.sweep()),
                ("first observation", self.observe()),
            )
        ]
        schedule.start()
        await self.tick()
        self.money.wake_all()
        self.policy_watch.telling.wake()
        try:
            yield
        finally:
            schedule.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.dispatcher.aclose()

    async def aclose(self) -> None:
        """Close what `assemble` opened."""
        if self.jwks is not None:
            await self.jwks.aclose()
        await self.actions.execution.aclose()
        await self.trail.aclose()
        if self.gateway is not None:
            await self.gateway.close()
