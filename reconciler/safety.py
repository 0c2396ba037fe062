"""Safe mode: nothing is restricted for money while there is reason to doubt the database, the clock or the readings.

The only writer of `safe_mode_cause`, of its summary in `reconciler_state`, and of the marker that tells a restored
database. Asked after a pass has sent off what is given back: nothing here delays a restore.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from tortoise.transactions import in_transaction

from billing import audit, notices, work_queue
from billing.clock import Clock
from billing.models import Account, StripeMirror
from billing.refusal import RefusalCode, refusal, required_reason
from reconciler.guard_models import SafeModeCause, SafeModeKind
from reconciler.models import ReconcilerState, SiteState

log = structlog.get_logger(__name__)

ACTOR = "system:reconciler"
MARKER = "generation"
#: More than this between two clocks is a jump and not a correction.
JUMP = timedelta(minutes=5)
#: A folder that does not answer keeps a pass waiting no longer.
PATIENCE_SECONDS = 2.0

_STATE = 1
_ITEM = "safe_mode"
_MOST_TOLD = 20
_MOST_DIGITS = 18


#: What to do about a cause, beside waiting for the facts to be read again.
_REMEDY = {
    SafeModeKind.NO_MARKER: "If this database was restored from a backup, call `enforcementPause` now and look at what "
    "happened since. If only the state folder is new, nothing is to be done; next time bring its file `generation` "
    "along, or point ABEYANCE_STATE_DIR at the old folder.",
    SafeModeKind.RESTORED_DATABASE: "Look at what happened since the backup before you release it.",
    SafeModeKind.CLOCK_JUMP: "Set the machine's clock by NTP.",
}
#: The same for a site for which another platform answers.
OTHER_PLATFORM = (
    "If that is not the platform that you mean, correct the address (`site_endpoint`, DNS, `ansible_host`): with the "
    "known one back it ends by itself. If it is, say because it was installed anew, accept it by `safeModeRelease`."
)


def uptime() -> float:
    """Return seconds that pass by themselves, the machine's sleep included; nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(kw_only=True)
class Safety:
    """Looks for what calls for safe mode and for what ends it, once in a pass."""

    clock: Clock
    #: Holds the marker; null: this installation keeps none.
    state_dir: Path | None
    #: What has to be read again before safe mode ends: these sites, and Stripe where it is on.
    sites: frozenset[str]
    stripe: bool
    #: Null: the wall clock is the only one.
    uptime: Callable[[], float] | None = None
    #: What this process has counted itself; null before its first pass.
    _counted: int | None = None
    _last: tuple[datetime, float] | None = None
    _started: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock.now()

    async def check(self) -> None:
        """Enter safe mode where something calls for it; leave it where everything was read again since."""
        await self._check_marker()
        await self._check_clock()
        await review(self.sites, stripe=self.stripe, now=self.clock.now())

    async def _check_marker(self) -> None:
        """Count the pass in the database, and in the folder as far as the database had counted before it.

        The folder is always a pass behind, so that a crash between the two, or the loss of the very last commit, is no
        older database.
        """
        if self.state_dir is None:
            return
        file = self.state_dir / MARKER
        kept = await _patiently(lambda: _read(file))
        state = await ReconcilerState.get(id=_STATE)
        newest = max((mark for mark in (kept, self._counted) if mark is not None), default=None)
        first = self._counted is None
        if newest is None:
            await self._doubt(
                SafeModeKind.NO_MARKER,
                "the state folder holds no marker, so that nobody can tell whether the database is the newest",
                since=self._started,
            )
        elif newest > state.generation:
            await self._doubt(
                SafeModeKind.RESTORED_DATABASE,
                f"the database has counted {state.generation} passes and the state folder {newest}: it was restored",
                since=self._started if first else self.clock.now(),
            )
        counted = max(state.generation, newest or 0)
        await ReconcilerState.filter(id=_STATE).update(generation=counted + 1)
        self._counted = counted + 1
        await _patiently(lambda: _write(file, counted))

    async def _doubt(self, kind: SafeModeKind, reason: str, *, since: datetime) -> None:
        """Enter safe mode about the database; one without an account is new and has nobody to restrict."""
        if await Account.all().exists():
            needs_person = kind is SafeModeKind.RESTORED_DATABASE
            await enter(kind, reason, since=since, needs_person=needs_person, now=self.clock.now())

    async def _check_clock(self) -> None:
        now = self.clock.now()
        state = await ReconcilerState.get(id=_STATE)
        if state.last_pass_at is not None and state.last_pass_at - now > JUMP:
            told = f"the last pass was at {_instant(state.last_pass_at)} and now it is {_instant(now)}"
            await enter(SafeModeKind.CLOCK_JUMP, f"the clock went back: {told}", since=now, now=now)
        if self.uptime is None:
            return
        up = self.uptime()
        if self._last is not None:
            before, up_before = self._last
            drift = (now - before) - timedelta(seconds=up - up_before)
            if abs(drift) > JUMP:
                told = f"it moved by {now - before} while {timedelta(seconds=round(up - up_before))} passed"
                await enter(SafeModeKind.CLOCK_JUMP, f"the clock jumped: {told}", since=now, now=now)
        self._last = (now, up)


async def enter(
    kind: SafeModeKind,
    reason: str,
    *,
    since: datetime,
    now: datetime,
    scope: str = "",
    needs_person: bool = False,
) -> None:
    """Enter safe mode for this cause, or begin it anew: only what is read after `since` counts as read again.

    A release that was given before counts no longer.
    """
    async with in_transaction():
        values: dict[str, Any] = {
            "reason": reason,
            "since": since,
            "needs_person": needs_person,
            "released_at": None,
            "released_by": None,
        }
        standing = SafeModeCause.filter(kind=kind, scope=scope, ended_at=None)
        before = await standing.first()
        if await standing.update(**values):
            if before is None or before.reason == reason or not needs_person:
                await _summarise()
                return
            # What a person would release now is something else than what the item says.
            await work_queue.resolve(_item(kind, scope), at=now, by=ACTOR, resolution="it changed")
        else:
            await SafeModeCause.create(kind=kind, scope=scope, **values)
        await audit.record(
            "safe_mode.entered", ("ReconcilerState", _STATE), at=now, actor=ACTOR, reason=reason
        )
        title = "Safe mode: nothing is restricted for unpaid invoices"
        how = "and an admin has released it (`safeModeRelease`)." if needs_person else "by itself."
        ends = f"{reason}. It ends once every site and Stripe were read again, {how}"
        remedy = OTHER_PLATFORM if kind is SafeModeKind.IDENTITY and scope else _REMEDY.get(kind, "")
        detail = f"{ends} {remedy}".rstrip()
        await notices.queue_staff(
            title, detail, dedupe_key=f"safe_mode:{kind}:{scope}:{now.isoformat()}", now=now
        )
        await work_queue.open_item("safe_mode", _item(kind, scope), at=now, title=title, detail=detail)
        await _summarise()


async def review(sites: frozenset[str], *, stripe: bool, now: datetime) -> None:
    """End every cause since which all facts were read again, and that no person is still needed for."""
    causes = await SafeModeCause.filter(ended_at=None).order_by("id")
    if not causes:
        return
    read = await _last_read(sites, stripe=stripe, now=now)
    over = [
        cause
        for cause in causes
        if read is not None
        and read > cause.since
        and (cause.released_at is not None or not cause.needs_person)
    ]
    for cause in over:
        async with in_transaction():
            # Only as it was judged: one that began anew meanwhile goes on.
            still = SafeModeCause.filter(id=cause.id, since=cause.since, released_at=cause.released_at)
            if not await still.filter(ended_at=None).update(ended_at=now):
                continue
            why = "all facts were read again"
            await audit.record(
                "safe_mode.ended", ("ReconcilerState", _STATE), at=now, actor=ACTOR, reason=why
            )
            await work_queue.resolve(_item(cause.kind, cause.scope), at=now, by=ACTOR, resolution=why)
            await _summarise()


async def release(*, reason: str, actor: str, now: datetime) -> None:
    """Let safe mode end as soon as the facts were read again; refuses when nothing waits for a person."""
    told = required_reason(reason)
    async with in_transaction():
        released = await SafeModeCause.filter(ended_at=None, released_at=None).update(
            released_at=now, released_by=actor
        )
        if not released:
            raise refusal(RefusalCode.CONFLICT, "safe mode is off, or was released and reads the facts again")
        await audit.record(
            "safe_mode.released", ("ReconcilerState", _STATE), at=now, actor=actor, reason=told
        )


async def needs_nobody(kind: SafeModeKind, scope: str) -> None:
    """Let a cause end without a person, as soon as the facts were read again: what called for one is over."""
    await SafeModeCause.filter(kind=kind, scope=scope, ended_at=None, needs_person=True).update(
        needs_person=False
    )


async def was_released(kind: SafeModeKind, scope: str) -> bool:
    """Return whether a person looked at this cause, which is still open, and let work go on."""
    return await SafeModeCause.filter(
        kind=kind, scope=scope, ended_at=None, released_at__isnull=False
    ).exists()


async def _last_read(sites: frozenset[str], *, stripe: bool, now: datetime) -> datetime | None:
    """Return since when every fact has been read; null while something never was, or was read in the future."""
    instants = dict(await SiteState.filter(site__in=list(sites)).values_list("site", "complete_at"))
    read = [instants.get(site) for site in sites]
    if stripe:
        mirror = await StripeMirror.all().first()
        read.append(mirror.last_full_sweep_at if mirror else None)
    known = [instant for instant in read if instant is not None and instant <= now]
    if len(known) < len(read):
        return None
    return min(known, default=now)


def _item(kind: SafeModeKind, scope: str) -> str:
    """Return the key of a cause's work item."""
    return f"{_ITEM}:{kind}:{scope}"


async def _summarise() -> None:
    """Tell in the one row that everybody reads whether safe mode is on, and why."""
    causes = await SafeModeCause.filter(ended_at=None).order_by("since", "id").limit(_MOST_TOLD)
    await ReconcilerState.filter(id=_STATE).update(
        safe_mode_since=causes[0].since if causes else None,
        safe_mode_reason="; ".join(cause.reason for cause in causes) or None,
    )


async def _patiently(work: Callable[[], int | None]) -> int | None:
    """Return what a look into the folder tells; null when it cannot be looked into now."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await asyncio.to_thread(work)
    except (OSError, TimeoutError) as problem:
        log.warning("marker.unavailable", problem=type(problem).__name__)
        return None


def _read(file: Path) -> int | None:
    """Return the marker; null where there is none, or one that nobody wrote like this."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def _write(file: Path, mark: int) -> None:
    """Write the marker whole or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{mark}\n", encoding="ascii")
    fresh.replace(file)


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
