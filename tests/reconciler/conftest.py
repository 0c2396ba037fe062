"""A platform in memory behind the port of runs, and a reconciler joined to it.

The catalogue, the inventory's types, the checks of a request and everything above them are the product's own; only the
supervisor and what it talks to are replaced, by plays that keep the contract of `playbooks/README.md`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from billing.accounts import note_fact
from billing.clock import ManualClock
from billing.models import Account, Invoice, Notice
from billing.notices import known_templates
from billing.policy_files import PolicyBook
from billing.rules.policy import Policy
from billing.rules.terms import InvoiceStatus, NoticeState, Stage
from reconciler import standing, subjects
from reconciler.actions import Actions
from reconciler.attended import Attendant
from reconciler.backoff import Backoff
from reconciler.catalogue import load_catalogue
from reconciler.dispatch import Dispatcher
from reconciler.freshness import Freshness
from reconciler.inventory import Inventory, Node, Platform, Site, SiteMode
from reconciler.models import ReconcilerState, RestorePart, Server, Step
from reconciler.passes import Passes, PassResult
from reconciler.rules.outcome import Outcome, Retry, TargetReport, fold
from reconciler.rules.terms import Mode, Power, RunState, StepKind, StepState
from reconciler.runs.execution import NodeObservation, RunVerdict
from reconciler.runs.request import Depth, RunRequest, checked
from reconciler.watch import Watch

ROOT = Path(__file__).parents[2]
TAG = "abeyance-suspended"


@dataclass
class Guest:
    """One guest of the platform in memory."""

    power: str = "running"
    onboot: bool = True
    protection: bool = False
    marker: str | None = "hwaddr:BC:24:11:00:00:01"
    busy: str | None = None
    node: str = "node1"
    tags: tuple[str, ...] = ()
    #: Volume to whether it is protected.
    backups: dict[str, bool] = field(default_factory=lambda: {"pbs:backup/a": False, "pbs:backup/b": True})

    def reading(self) -> dict[str, object]:
        """Return what a play reads of it."""
        return {
            "power": self.power,
            "onboot": self.onboot,
            "protection": self.protection,
            "tags": list(self.tags),
            "node": self.node,
            "digest": f"{hash((self.onboot, self.protection, self.tags)) & 0xFFFF:x}",
            "marker": self.marker,
            "busy": self.busy,
            "protected_backups": [volume for volume, kept in self.backups.items() if kept],
            "unprotected_backups": [volume for volume, kept in self.backups.items() if not kept],
            "role": None,
        }


Before = Callable[[str, str], Awaitable[None]]


@dataclass
class PlatformInMemory:
    """Guests and pools, with the knobs that make a play go wrong.

    `fates` maps (action, guest) to what befalls it once: "failed", "later", "never", "unknown", "half" (configured,
    then silent), "done in silence", "lost" (the whole run) or "lie" (reported as changed, nothing done).
    """

    guests: dict[str, Guest] = field(default_factory=dict)
    pools: dict[str, str | None] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    fates: dict[tuple[str, str], str] = field(default_factory=dict)
    #: What was done to whom, in order: the one list that says whether anything was done twice.
    done: list[tuple[str, str]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    #: Called right before a play touches a target; permits that were asked for afterwards are then awaited.
    before: Before | None = None
    #: How long a play waits for a permit; a real one is too old after 5 s.
    patience: float = 60.0
    #: Whether an overview shows every guest there is.
    complete: bool = True
    #: Who the platform says that it is; None: it does not say.
    identity: str | None = None
    observation: list[dict[str, Any]] | None = None
    verified_gone: bool = True
    #: What runs say of themselves; with `began` false, nothing was started.
    problem: str | None = None
    began: bool = True
    #: Guests that a play reports twice in one breath.
    twice: set[str] = field(default_factory=set)

    def count(self, action: str) -> int:
        """Return how often something was done."""
        return sum(done == action for done, _ in self.done)


class HandleInMemory:
    """A run of the platform in memory, as `RunHandle` shows it."""

    def __init__(self, request: RunRequest, platform: PlatformInMemory, clock: ManualClock) -> None:
        self.request, self._platform, self._clock = request, platform, clock
        self.run_id = request.run_id
        self._permit = asyncio.Event()
        self._void: frozenset[str] = frozenset()
        self._cancelled = False
        self._news: asyncio.Queue[TargetReport | None] = asyncio.Queue()
        self._work = asyncio.create_task(self._play())

    def permit(self, void: Any = ()) -> None:
        """Renew the permit."""
        self._void = frozenset(void)
        self._permit.set()

    def cancel(self) -> None:
        """Stop before the next target."""
        self._cancelled = True

    async def reports(self) -> AsyncIterator[TargetReport]:
        """Yield reports as they come."""
        while (report := await self._news.get()) is not None:
            yield report

    async def wait(self) -> RunVerdict:
        """Return the verdict."""
        return await asyncio.shield(self._work)

    async def _play(self) -> RunVerdict:
        try:
            return await self._run()
        finally:
            self._news.put_nowait(None)

    async def _run(self) -> RunVerdict:
        action, platform = self.request.playbook.stem, self._platform
        platform.runs.append(action)
        targets = [str(guest["id"]) for guest in self.request.guests]
        said: dict[str, list[TargetReport]] = {target: [] for target in targets}
        observed: tuple[NodeObservation, ...] = ()
        state = RunState.FINISHED
        if self.request.depth is Depth.SHALLOW:
            observed = self._overview()
        if not platform.began:
            state = RunState.LOST
        for guest in self.request.guests if platform.began else ():
            name = str(guest.get("guest") or guest.get("pool"))
            if self._cancelled:
                state = RunState.CANCELLED
                break
            if platform.fates.get((action, name)) == "lost":
                platform.fates.pop((action, name))
                said, state = {target: [] for target in targets}, RunState.LOST
                break
            report = await self._one(action, name, guest)
            if report is not None:
                for one in [report] * (2 if action != "observe" and name in platform.twice else 1):
                    said[one.id].append(one)
                    self._news.put_nowait(one)
        return RunVerdict(
            state=state,
            reports=tuple(fold(target, said[target]) for target in targets),
            observation=observed,
            log="",
            started_at=self._clock.now(),
            finished_at=self._clock.now(),
            verified_gone=platform.verified_gone,
            problem=platform.problem,
            began=platform.began,
        )

    def _overview(self) -> tuple[NodeObservation, ...]:
        platform = self._platform
        if platform.observation is not None:
            return tuple(NodeObservation(node=str(raw["on"]), facts=raw) for raw in platform.observation)
        guests = [
            {
                "guest": name,
                "kind": "lxc",
                "node": guest.node,
                "power": guest.power,
                "tags": list(guest.tags),
                "busy": guest.busy,
            }
            for name, guest in platform.guests.items()
            if guest.node not in platform.silent
        ]
        facts = {
            "guests": guests,
            "silent_nodes": sorted(platform.silent),
            "complete": platform.complete and not platform.silent,
            "identity": platform.identity,
        }
        return (NodeObservation(node="node1", facts=facts),)

    async def _one(self, action: str, name: str, target: Any) -> TargetReport | None:
        platform, ident = self._platform, str(target["id"])
        if target.get("kind") == "pool":
            return await self._pool(action, name, target)
        guest = platform.guests.get(name)
        if guest is None:
            return TargetReport(id=ident, outcome=Outcome.REFUSED, message="gone", retry=Retry.NEVER)
        if guest.node in platform.silent:
            return TargetReport(id=ident, outcome=Outcome.REFUSED, message="no answer", retry=Retry.LATER)
        if action == "observe":
            after = {**guest.reading(), "identity": platform.identity}
            return TargetReport(id=ident, outcome=Outcome.UNCHANGED, after=after)
        before = {**guest.reading(), "identity": platform.identity}
        refusal = await self._refusal(action, target, before)
        if refusal:
            return TargetReport(id=ident, outcome=Outcome.REFUSED, message=refusal, retry=Retry.LATER)
        fate = platform.fates.pop((action, name), None)
        if fate in {"failed", "later", "never", "unknown"}:
            return _fated(ident, fate, before)
        if fate == "lie":
            return TargetReport(id=ident, outcome=Outcome.CHANGED, before=before, after=before)
        note = _act(action, guest, dict(target["expect"]), half=fate == "half")
        after = {**guest.reading(), "identity": platform.identity}
        if after != before:
            platform.done.append((action, name))
        if fate in {"half", "done in silence"}:
            return None
        outcome = Outcome.UNCHANGED if after == before else Outcome.CHANGED
        return TargetReport(id=ident, outcome=outcome, before=before, after=after, message=note)

    async def _pool(self, action: str, name: str, target: Any) -> TargetReport | None:
        platform, ident = self._platform, str(target["id"])
        role = platform.pools.get(name)
        if action == "observe":
            after = {"role": role, "node": "node1", "identity": platform.identity}
            return TargetReport(id=ident, outcome=Outcome.UNCHANGED, after=after)
        refusal = await self._refusal(action, target, {"role": role, "identity": platform.identity})
        if refusal:
            return TargetReport(id=ident, outcome=Outcome.REFUSED, message=refusal, retry=Retry.LATER)
        fate = platform.fates.pop((action, name), None)
        if fate in {"failed", "later", "never", "unknown"}:
            return _fated(ident, fate, {"role": role})
        wanted = "Suspended" if action == "close_access" else target["expect"].get("role", role)
        platform.pools[name] = wanted
        if wanted != role:
            platform.done.append((action, name))
        if fate == "done in silence":
            return None
        outcome = Outcome.UNCHANGED if wanted == role else Outcome.CHANGED
        return TargetReport(id=ident, outcome=outcome, before={"role": role}, after={"role": wanted})

    async def _refusal(self, action: str, target: Any, before: dict[str, object]) -> str | None:
        """The look at the permit, and for a restriction the comparison with what was committed."""
        permits = 1
        if self._platform.before is not None:
            await self._platform.before(action, str(target.get("guest") or target.get("pool")))
            permits = 2  # the facts of the first may have been read before
        restricts = action in {"stop_guests", "lock_backups", "close_access"}
        try:
            async with asyncio.timeout(self._platform.patience):
                for _ in range(permits):
                    self._permit.clear()
                    await self._permit.wait()
        except TimeoutError:
            if restricts:
                return "the permit is too old"
        if target["step"] in self._void:
            return "the step is void"
        expect = dict(target["expect"])
        if expect.get("marker") not in {None, before.get("marker")}:
            return "another guest has this number"
        for part, value in expect.items() if restricts else ():
            if before.get(part) != value:
                return f"{part} is {before.get(part)} and was {value}"
        return None


def _fated(ident: str, fate: str, before: dict[str, object]) -> TargetReport | None:
    if fate == "unknown":
        return None
    retry = {"later": Retry.LATER, "never": Retry.NEVER}.get(fate)
    return TargetReport(
        id=ident, outcome=Outcome.FAILED, before=before, after=before, message=fate, retry=retry
    )


def _act(action: str, guest: Guest, expect: dict[str, Any], *, half: bool) -> str:
    """Do what a play does; return what it says beside."""
    match action:
        case "stop_guests":
            guest.onboot, guest.protection, guest.tags = False, True, (TAG,)
            if not half:
                guest.power = "stopped"
        case "lock_backups":
            guest.backups |= dict.fromkeys(expect["unprotected_backups"], True)
        case "unlock_backups":
            guest.backups |= {name: False for name in expect["unprotected_backups"] if name in guest.backups}
        case "start_guests":
            return _give_back(guest, expect, half=half)
    return ""


def _give_back(guest: Guest, expect: dict[str, Any], *, half: bool) -> str:
    said = []
    for part, left in (("onboot", False), ("protection", True), ("power", "stopped")):
        now, recorded = getattr(guest, part), expect.get(part)
        if recorded is None or recorded == now or (half and part == "power"):
            continue
        if now == left:
            setattr(guest, part, recorded)
        else:
            said.append(f"{part} is {now} since: left alone")
    guest.tags = tuple(tag for tag in guest.tags if tag != TAG)
    return "; ".join(said)


class ExecutionInMemory:
    """Starts runs on the platform in memory, after the checks that every request passes."""

    def __init__(self, platform: PlatformInMemory, clock: ManualClock) -> None:
        self._platform, self._clock = platform, clock
        self._handles: list[HandleInMemory] = []
        #: Raised instead of starting a run, while it is set.
        self.broken: Exception | None = None
        #: Whether what a lost run left can be ended.
        self.clears = True

    async def start(self, request: RunRequest) -> HandleInMemory:
        """Start a run."""
        if self.broken is not None:
            raise self.broken
        handle = HandleInMemory(checked(request), self._platform, self._clock)
        self._handles.append(handle)
        return handle

    async def clear(self, run_id: str) -> bool:
        """End what is left of a run."""
        return self.clears

    async def aclose(self) -> None:
        """Cancel every run."""
        for handle in self._handles:
            handle.cancel()
            await handle.wait()


def site_of(**changes: Any) -> Site:
    """A Proxmox site `demo` with two nodes, in mode apply, where customers have a login."""
    values: dict[str, Any] = {
        "name": "demo",
        "platform": Platform.PROXMOX,
        "mode": SiteMode.APPLY,
        "nodes": (Node(name="node1"), Node(name="node2")),
        "where": Path("hosts.yml"),
        "endpoint": "https://pve.example:8006",
        "pool_pattern": "customer-{account}",
        "customer_role": "Customer",
        "suspended_role": "Suspended",
    }
    return Site(**(values | changes))


@dataclass
class Stand:
    """A whole reconciler over the platform in memory: what tests turn and look at."""

    clock: ManualClock
    platform: PlatformInMemory
    execution: ExecutionInMemory
    policies: dict[str, Policy]
    site: Site = field(default_factory=site_of)
    mode: Mode = Mode.APPLY
    freshness: Freshness = field(
        default_factory=lambda: Freshness(stripe=False, facts_max_age=timedelta(minutes=15))
    )
    refetch: Any = None
    scale: float = 1.0
    woken: int = 0
    #: Set while another pass is asked for, as the loop's.
    hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.actions = Actions(
            execution=self.execution,  # type: ignore[arg-type]
            catalogue=load_catalogue(ROOT / "playbooks"),
            inventory=Inventory(folder=ROOT / "inventory/demo", sites=(self.site,)),
            playbooks=ROOT / "playbooks",
            inventory_folder=ROOT / "inventory/demo",
        )
        self.backoff = Backoff()
        self.watch = Watch(clock=self.clock, actions=self.actions, backoff=self.backoff)
        self.dispatcher = self.another_dispatcher()
        self.passes = self.another(self.dispatcher)

    def another_dispatcher(self) -> Dispatcher:
        """A dispatcher as a second process would have it."""
        attendant = Attendant(clock=self.clock, actions=self.actions, permit_seconds=0.01)
        return Dispatcher(
            clock=self.clock,
            actions=self.actions,
            backoff=self.backoff,
            wake=self._wake,
            idle_job_seconds=0.02,
            attendant=attendant,
        )

    def another(self, dispatcher: Dispatcher) -> Passes:
        """The passes of a process of its own."""
        return Passes(
            clock=self.clock,
            mode=self.mode,
            policies=lambda: dict(self.policies),
            inventory=self.actions.inventory,
            dispatcher=dispatcher,
            freshness=self.freshness,
            refetch=self.refetch,
            wake=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1
        self.hurry.set()

    async def turn(self) -> PassResult:
        """Observe, run one pass and wait for its jobs."""
        await self.watch.cycle()
        return await self.act()

    async def act(self) -> PassResult:
        """Run one pass and wait for its jobs."""
        self.hurry.clear()
        result = await self.passes.run(hurry=self.hurry)
        await self.dispatcher.idle()
        await asyncio.sleep(0)
        self.last = result
        return result

    async def settle(self, rounds: int = 12) -> None:
        """Turn until the platform and the rows rest."""
        for _ in range(rounds):
            before = (len(self.platform.runs), await Step.all().count())
            result = await self.turn()
            await self.deliver()
            quiet = (len(self.platform.runs) - before[0] <= 1, before[1] == await Step.all().count())
            if all(quiet) and not result.again and not await self.due():
                return
            await asyncio.sleep(0.03)  # a job of which nothing came lets its node rest

    async def due(self) -> bool:
        """Whether a fact is younger than the last pass."""
        climbing = {step.account_id for step in self.last.plan.steps if step.kind is StepKind.ADVANCE}
        waits = Account.filter(next_change_at__lte=self.clock.now()).exclude(id__in=list(climbing))
        return await waits.exists()

    async def deliver(self) -> None:
        """Let every waiting mail arrive now, as the outbox would record it."""
        for notice in await Notice.filter(state=NoticeState.PENDING):
            await Notice.filter(id=notice.id).update(
                state=NoticeState.DELIVERED, delivered_at=self.clock.now()
            )
            if notice.account_id is not None:
                await note_fact(notice.account_id, now=self.clock.now())

    async def climb_to_suspension(self) -> None:
        """Let six days pass, with everything delivered on the way."""
        for _ in range(7):
            await self.settle()
            self.clock.advance(timedelta(hours=24))
        await self.settle()

    async def pay(self, invoice: Invoice) -> None:
        """Record that an invoice was paid, as the mirror would."""
        await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)
        await note_fact(invoice.account_id, now=self.clock.now())

    async def open_steps(self) -> list[Step]:
        """Return the steps that are dispatched or unknown."""
        return await Step.filter(state__in=[StepState.DISPATCHED, StepState.UNKNOWN]).order_by("id")


@pytest.fixture
def policies() -> dict[str, Policy]:
    """The shipped policies."""
    book = PolicyBook.of_folder(ROOT / "billing/policies", templates=known_templates())
    return {name: book.get(name) for name in book.names}


@pytest.fixture
def platform() -> PlatformInMemory:
    """A platform without a guest."""
    return PlatformInMemory()


@pytest.fixture
async def stand(
    database: str, clock: ManualClock, platform: PlatformInMemory, policies: dict[str, Policy]
) -> Any:
    """A reconciler in mode `APPLY`, on SQLite and on PostgreSQL."""
    await ReconcilerState.filter(id=1).update(first_apply_at=clock.now())
    made = Stand(
        clock=clock, platform=platform, execution=ExecutionInMemory(platform, clock), policies=policies
    )
    yield made
    await made.dispatcher.aclose()


@pytest.fixture
async def lite(
    sqlite_database: str, clock: ManualClock, platform: PlatformInMemory, policies: dict[str, Policy]
) -> Any:
    """The same on SQLite alone, for what no database could change."""
    await ReconcilerState.filter(id=1).update(first_apply_at=clock.now())
    made = Stand(
        clock=clock, platform=platform, execution=ExecutionInMemory(platform, clock), policies=policies
    )
    yield made
    await made.dispatcher.aclose()


@pytest.fixture
def make_stand(clock: ManualClock, platform: PlatformInMemory, policies: dict[str, Policy]) -> Any:
    """Makes a reconciler with other settings than the usual ones; the database is the test's own."""

    def make(platform_of_site: Platform = Platform.PROXMOX, **changes: Any) -> Stand:
        site = site_of(platform=platform_of_site)
        if platform_of_site is Platform.LXC:
            site = site_of(platform=platform_of_site, endpoint=None, pool_pattern=None)
        values: dict[str, Any] = {
            "clock": clock,
            "platform": platform,
            "execution": ExecutionInMemory(platform, clock),
            "policies": policies,
            "site": site,
        }
        return Stand(**(values | changes))

    return make


@pytest.fixture
def debtor(factory: Any, platform: PlatformInMemory) -> Any:
    """Makes an account with an overdue invoice and servers whose guests run; returns (account, invoice, servers)."""

    async def make(servers: int = 1, **given: Any) -> tuple[Any, Invoice, list[Server]]:
        account = await factory.account(**given)
        invoice = await factory.invoice(account)
        rows = []
        for _ in range(servers):
            server = await factory.server(account)
            platform.guests[str(server.guest)] = Guest(marker=f"hwaddr:{server.id}")
            rows.append(server)
        platform.pools[f"customer-{account.external_id}"] = "Customer"
        await note_fact(account.id, now=account.created_at)
        return await type(account).get(id=account.id), invoice, rows

    return make


@pytest.fixture
def delinquent(debtor: Any, factory: Any, clock: ManualClock) -> Any:
    """Makes a debtor whose account was admitted to `SUSPENDED` after every warning; nothing was done to a guest yet."""

    async def make(servers: int = 1, **given: Any) -> tuple[Any, Invoice, list[Server]]:
        account, invoice, rows = await debtor(servers, **given)
        began = clock.now() - timedelta(days=6)
        await Invoice.filter(id=invoice.id).update(overdue_at=began, overdue_seen_at=began)
        await Server.filter(account_id=account.id).update(joined_at=began - timedelta(days=30))
        episode = await factory.episode(
            account, started_at=began, admitted=Stage.SUSPENDED, admitted_at=clock.now() - timedelta(hours=1)
        )
        for stage, days in ((Stage.PAST_DUE, 6), (Stage.FINAL_NOTICE, 3), (Stage.SUSPENDED, 0)):
            at = clock.now() - timedelta(days=days)
            await factory.notice(
                account,
                stage=stage,
                episode_id=episode.id,
                invoice_ids=[invoice.id],
                server_ids=[row.id for row in rows],
                created_at=at,
                state=NoticeState.DELIVERED,
                delivered_at=at,
            )
        await note_fact(account.id, now=clock.now())
        return await type(account).get(id=account.id), invoice, rows

    return make


@pytest.fixture
def known_off(factory: Any, clock: ManualClock) -> Any:
    """Lets it be known, in one of three ways, that a server was off before anything was stopped, and another ran."""

    async def make(known_by: str, off: Server, *, ran: Server) -> None:
        if known_by == "its owner's switch":
            await factory.hold(off, cause="CUSTOMER", stops_server=True, locks_backups=False)
        elif known_by == "what we found":
            for server, power in ((ran, Power.RUNNING), (off, Power.STOPPED)):
                await factory.observation(server, power=Power.STOPPED)
                taken = {"server_id": server.id, "site": server.site, "step_id": 1, "taken_at": clock.now()}
                await RestorePart.create(part="power", found=power.value, **taken)
        else:
            await factory.observation(ran)
            await factory.observation(off, power=Power.STOPPED)

    return make


@pytest.fixture
def settle(policies: dict[str, Policy], clock: ManualClock) -> Any:
    """Reads and settles an account."""

    async def go(account: Account, mode: Mode = Mode.APPLY) -> None:
        own = await subjects.load([account.id], policies, clock.now())
        assert await standing.settle(own, mode=mode, now=clock.now())

    return go


@pytest.fixture
def newest() -> Any:
    """Returns the newest letter with its body on one line."""

    async def read() -> Notice:
        letter = await Notice.all().order_by("-id").first()
        assert letter is not None
        letter.body = " ".join(letter.body.split())
        return letter

    return read


@pytest.fixture
def uncover(factory: Any) -> Any:
    """Lets a server's subscription have ended: see `Factory.uncovered`."""

    return factory.uncovered
