"""What the planner is shown: servers, access roles and sites as plain values.

Owns shapes only. Filled from the database by `reconciler.world`; instants are aware UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from billing.rules.terms import HoldCause, Stage
from reconciler.rules.terms import GuestKind, Mode, Power, StepKind


@dataclass(frozen=True, kw_only=True)
class HoldView:
    """One open hold on a server."""

    cause: HoldCause
    stops_server: bool
    locks_backups: bool
    locks_account: bool
    stage: Stage | None = None
    reason: str = ""
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ObservedView:
    """The last reading of a guest."""

    power: Power
    node: str | None
    observed_at: datetime
    #: What keeps the guest busy (a lock, a backup that makes it look running); null when nothing does.
    busy: str | None = None
    absences: int = 0


@dataclass(frozen=True, kw_only=True)
class RecordView:
    """What we took and have not given back: the open parts of the restore record, by what was found."""

    power: Power | None = None
    onboot: bool | None = None
    protection: bool | None = None
    #: Whether backups were locked by us; the volumes are those that we protected and nobody else had.
    backups_locked: bool = False
    volumes: tuple[str, ...] = ()
    role: str | None = None

    @property
    def stopped_by_us(self) -> bool:
        """Whether a stop of ours stands: any part of it was taken and not given back."""
        return self.power is not None or self.onboot is not None or self.protection is not None


NOTHING_TAKEN = RecordView()


@dataclass(frozen=True, kw_only=True)
class OpenStep:
    """The step that is under way on a server or an access role, or whose end is not known."""

    kind: StepKind
    unknown: bool
    since: datetime


@dataclass(frozen=True, kw_only=True)
class ServerView:
    """One live server, deployed to a guest."""

    id: int
    external_id: str
    account_id: int
    site: str
    node: str | None
    kind: GuestKind
    guest: str
    critical: bool = False
    missing: bool = False
    holds: tuple[HoldView, ...] = ()
    observed: ObservedView | None = None
    record: RecordView = NOTHING_TAKEN
    #: Whether `serverPowerSet(RUNNING)` asked for a start that no record covers.
    start_wanted: bool = False
    #: The step on it that is dispatched or unknown; no other one comes beside it.
    open_step: OpenStep | None = None
    #: Whether the last stop of it was done: a running guest is then drift and not an unfinished stop.
    stop_done: bool = False
    #: No step of this kind before this instant (back-off after a refusal or failure).
    retry_at: Mapping[StepKind, datetime] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AccessView:
    """The role of one account's people on its pool of one site."""

    account_id: int
    site: str
    pool: str
    #: A node that can be asked; any node of the site that answers.
    node: str | None
    wanted_closed: bool
    record: RecordView = NOTHING_TAKEN
    open_step: OpenStep | None = None
    retry_at: Mapping[StepKind, datetime] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """One live server that no stop of its account reaches."""

    server_id: int
    account_id: int
    site: str
    node: str | None
    #: The stage that stops the account's other servers, or would.
    stage: Stage
    #: Free of charge; else it is exempt by itself.
    free: bool
    #: When its exemption ends; null: never, or it has none.
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class SiteView:
    """One site as the inventory and the last observation show it."""

    name: str
    mode: Mode
    silent_nodes: frozenset[str] = frozenset()
    #: With what the site's token could destroy something; empty is as it should be.
    excess: tuple[str, ...] = ()
    #: That another platform answers than the known one, in a sentence; null is as it should be.
    stranger: str | None = None


@dataclass(frozen=True, kw_only=True)
class Climb:
    """An account, or one uncovered server of it, that facts and time let climb one stage."""

    account_id: int
    #: Null: the account itself.
    server_id: int | None = None
    #: Null: its episode has not begun yet.
    episode_id: int | None = None
    policy: str
    to_stage: Stage
    eligible_since: datetime
    reason: str
    invoice_ids: tuple[int, ...]
    time_zone: str
    #: Whether the new stage has effects that the old one has not.
    larger: bool
    #: Why its facts are not fresh enough to restrict (a stable code and a sentence); null when they are.
    stale: tuple[str, str] | None
    #: Why an unfinished payment keeps it from climbing; null when none does.
    shielded: tuple[str, str] | None = None
    #: Which of the servers that it would restrict was not read lately (a sentence); null: all were.
    unread: str | None = None
    #: The sites of the live servers that it would restrict.
    sites: frozenset[str]
    #: Whether two persons decided it: past windows, and past no other check.
    forced: bool = False


@dataclass(frozen=True, kw_only=True)
class AccountView:
    """What the plan has to know of an account beside its climb."""

    id: int
    external_id: str
    facts_version: int
    #: The open invoices that are overdue.
    invoice_ids: tuple[int, ...] = ()
    #: Why its facts are not fresh enough to restrict it; null when they are.
    stale: tuple[str, str] | None = None
    #: Why an unfinished payment keeps it from being restricted; null when none does.
    shielded: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that one pass plans from."""

    now: datetime
    mode: Mode
    accounts: Mapping[int, AccountView]
    climbs: tuple[Climb, ...]
    servers: tuple[ServerView, ...]
    access: tuple[AccessView, ...]
    sites: Mapping[str, SiteView]
    passed_over: tuple[PassedOver, ...] = ()
