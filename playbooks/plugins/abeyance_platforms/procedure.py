"""Walks each guest through the steps that a platform's file lists, several guests side by side.

Owns the order read, compare, permit, act, read back, and what outcome that amounts to. Knows no platform: a driver
does the talking, and clocks are handed in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from .compare import Changes, restriction, undoing
from .permit import Permit
from .reports import Outcome, PlatformError, Refusal, Report, Retry, State, StillRunningError
from .targets import BadInputError, Target

#: The steps that change something. Each looks at the permit first.
ACTING = ("configure", "shut_down", "start", "protect", "swap_role")
STEPS = ("read", "compare", *ACTING, "read_back")
PARTS = ("power", "onboot", "protection", "tag", "marker", "backups", "role", "identity")


class Driver(Protocol):
    """What a platform has to offer. Every method may raise `PlatformError` or `Refusal`."""

    def prepare(self, targets: Sequence[Target]) -> None:
        """Read once what all targets share, such as the map of the cluster."""

    def read(self, target: Target, parts: Sequence[str], *, restricts: bool) -> State:
        """Read the target's `parts` from the platform, now."""

    def configure(self, target: Target, now: State, changes: Changes) -> None:
        """Set onboot, protection and tags as `changes` says."""

    def shut_down(self, target: Target, now: State, grace_seconds: float) -> None:
        """Ask the guest to end, stop it when `grace_seconds` are over, and wait for the end."""

    def start(self, target: Target, now: State) -> None:
        """Start the guest and wait for it."""

    def protect(self, target: Target, now: State, volid: str, *, protected: bool) -> None:
        """Protect one backup, or take its protection away."""

    def swap_role(self, target: Target, now: State, role: str) -> None:
        """Give everybody who holds a customer's role on the target's pool `role` instead."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a platform's file asks for: the `steps`, and either what to `want` or what to `give_back`.

    With neither, the guests are only read. `left` are the marks by which a state is known as left by us.
    """

    steps: tuple[str, ...]
    parts: tuple[str, ...]
    want: Mapping[str, object] = field(default_factory=dict)
    give_back: tuple[str, ...] = ()
    left: Mapping[str, object] = field(default_factory=dict)
    grace_seconds: float = 120.0
    check_mode: bool = False

    def __post_init__(self) -> None:
        for name, given, known in (
            ("procedure", self.steps, STEPS),
            ("parts", self.parts, PARTS),
            ("want", tuple(self.want), PARTS),
            ("give_back", self.give_back, PARTS),
        ):
            if unknown := [entry for entry in given if entry not in known]:
                raise BadInputError(f"{name}: unknown {unknown[0]!r}; known are {', '.join(known)}")
        if self.want and self.give_back:
            raise BadInputError("want and give_back exclude each other")
        acting = [step for step in self.steps if step in ACTING]
        if self.steps[:1] != ("read",):
            raise BadInputError("procedure: must begin with read")
        if acting and (
            self.steps[1] != "compare" or self.steps[-1] != "read_back" or self.steps.count("compare") != 1
        ):
            raise BadInputError(
                "procedure: a step that acts comes after read and compare, and read_back ends the list"
            )
        if acting and not (self.want or self.give_back):
            raise BadInputError("procedure: a step that acts needs want or give_back")

    @property
    def restricts(self) -> bool:
        """Whether the order takes something away."""
        return bool(self.want)


@dataclass
class _Case:
    """One guest on its way through the steps."""

    target: Target
    before: State | None = None
    changes: Changes = field(default_factory=Changes)
    acted: bool = False
    trouble: PlatformError | Refusal | None = None


class Pace:
    """Lets restrictions begin at most `per_minute` times a minute; giving back never waits for it."""

    def __init__(
        self, per_minute: float, *, monotonic: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._gap = 60.0 / per_minute
        self._monotonic, self._sleep = monotonic, sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next restriction may begin."""
        with self._lock:
            now = self._monotonic()
            begin = max(now, self._next)
            self._next = begin + self._gap
        if begin > now:
            self._sleep(begin - now)


class Procedure:
    """Runs one `Order` over targets and returns one report for each, in their order."""

    def __init__(self, driver: Driver, order: Order, *, permit: Permit, pace: Pace, width: int) -> None:
        self._driver = driver
        self._order = order
        self._permit = permit
        self._pace = pace
        self._width = max(1, width)

    def run(self, targets: Sequence[Target]) -> list[Report]:
        """Take every target through the steps, at most `width` of them at a time."""
        try:
            self._driver.prepare(targets)
        except PlatformError as error:
            return [_ended(_Case(target), error) for target in targets]
        with ThreadPoolExecutor(max_workers=self._width) as pool:
            futures = [pool.submit(self._walk, target) for target in targets]
        return [_report_of(target, future) for target, future in zip(targets, futures, strict=True)]

    def _walk(self, target: Target) -> Report:
        case = _Case(target)
        order = self._order
        try:
            if order.restricts and not order.check_mode:
                self._pace.wait()
            self._allowed(case)
            case.before = self._driver.read(target, order.parts, restricts=order.restricts)
            if "compare" not in order.steps:
                return Report(id=target.id, outcome=Outcome.UNCHANGED, before=case.before, after=case.before)
            case.changes = self._compare(case.target, case.before)
        except (PlatformError, Refusal) as trouble:
            return _ended(case, trouble)
        if order.check_mode or not case.changes.anything:
            return _settled(case)
        self._act(case)
        return self._read_back(case)

    def _compare(self, target: Target, now: State) -> Changes:
        order = self._order
        record = {**target.expect, "role": target.role} if target.role else target.expect
        if order.restricts:
            want = {**order.want, "role": target.role} if target.role and "role" in order.want else order.want
            changes = restriction(want, target.expect, now)
        else:
            changes = undoing(order.give_back, record, now, left=order.left)
        busy_matters = changes.configures or changes.power is not None
        if now.busy and busy_matters:
            raise Refusal(f"the guest is busy: {now.busy}", Retry.LATER)
        return changes

    def _allowed(self, case: _Case) -> None:
        if not self._order.check_mode:
            self._permit.check(case.target.step, restricts=self._order.restricts)

    def _act(self, case: _Case) -> None:
        target, now, changes = case.target, case.before, case.changes
        assert now is not None  # noqa: S101 - read before anything is compared
        try:
            for step in self._order.steps:
                if step == "configure" and changes.configures:
                    self._begin(case)
                    self._driver.configure(target, now, changes)
                elif step == "shut_down" and changes.power == "stopped":
                    self._begin(case)
                    self._driver.shut_down(target, now, self._order.grace_seconds)
                elif step == "start" and changes.power == "running":
                    self._begin(case)
                    self._driver.start(target, now)
                elif step == "protect":
                    for volid, protected in (changes.backups or {}).items():
                        self._begin(case)
                        self._driver.protect(target, now, volid, protected=protected)
                elif step == "swap_role" and changes.role is not None:
                    self._begin(case)
                    self._driver.swap_role(target, now, changes.role)
        except (PlatformError, Refusal) as trouble:
            case.trouble = trouble

    def _begin(self, case: _Case) -> None:
        self._allowed(case)
        case.acted = True

    def _read_back(self, case: _Case) -> Report:
        if not case.acted:
            assert case.trouble is not None  # noqa: S101 - only a refusal ends a case that has changes
            return _ended(case, case.trouble)
        try:
            after = self._driver.read(case.target, self._order.parts, restricts=False)
        except (PlatformError, Refusal) as error:
            message = f"{case.trouble or 'acted'}; the state could not be read back: {error}"
            return Report(id=case.target.id, outcome=Outcome.UNKNOWN, before=case.before, message=message)
        return _concluded(case, after)


def _concluded(case: _Case, after: State) -> Report:
    """Judge by what was read back; what went wrong on the way only explains it."""
    known = {"id": case.target.id, "before": case.before, "after": after}
    unmet = case.changes.unmet(after)
    if not unmet:
        message = "; ".join(case.changes.notes)
        return Report(**known, outcome=Outcome.CHANGED, message=message)  # type: ignore[arg-type]
    trouble = case.trouble
    message = f"read back, not as it should be: {', '.join(unmet)}"
    if trouble is None:
        return Report(**known, outcome=Outcome.FAILED, message=message)  # type: ignore[arg-type]
    message = f"{trouble} ({message})"
    if isinstance(trouble, StillRunningError):
        return Report(**known, outcome=Outcome.UNKNOWN, message=message)  # type: ignore[arg-type]
    return Report(**known, outcome=Outcome.FAILED, message=message, retry=trouble.retry)  # type: ignore[arg-type]


def _settled(case: _Case) -> Report:
    """Report a guest that needs nothing, or in check mode what would become of it."""
    outcome = Outcome.CHANGED if case.changes.anything else Outcome.UNCHANGED
    message = "; ".join(case.changes.notes)
    return Report(id=case.target.id, outcome=outcome, before=case.before, after=case.before, message=message)


def _ended(case: _Case, trouble: PlatformError | Refusal) -> Report:
    """Report a guest to which nothing was done."""
    outcome = Outcome.REFUSED if isinstance(trouble, Refusal) else Outcome.FAILED
    return Report(
        id=case.target.id,
        outcome=outcome,
        before=case.before,
        after=case.before,
        message=str(trouble),
        retry=trouble.retry,
    )


def _report_of(target: Target, future: Future[Report]) -> Report:
    """Return the report of a walk; a fault of our own leaves the guest unknown, and says no more than its kind."""
    error = future.exception()
    if error is None:
        return future.result()
    return Report(
        id=target.id, outcome=Outcome.UNKNOWN, message=f"fault in the plugin: {type(error).__name__}"
    )


def order_for(spec: Mapping[str, object], *, check_mode: bool) -> Order:
    """Return the order that a task's arguments describe; raise `BadInputError` for anything else."""
    want, give_back, left = spec.get("want") or {}, spec.get("give_back") or [], spec.get("left") or {}
    steps, parts = spec.get("procedure") or [], spec.get("parts") or []
    if not isinstance(want, Mapping) or not isinstance(left, Mapping):
        raise BadInputError("want and left must be mappings")
    for name, value in (("procedure", steps), ("parts", parts), ("give_back", give_back)):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise BadInputError(f"{name}: must be a list")
    grace = spec.get("grace_seconds", 120)
    if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 < grace <= 3600:
        raise BadInputError("grace_seconds: must be a number from 1 to 3600")
    order = Order(
        steps=tuple(str(step) for step in steps),  # type: ignore[attr-defined]
        parts=tuple(str(part) for part in parts),  # type: ignore[attr-defined]
        want={str(key): value for key, value in want.items()},
        give_back=tuple(str(part) for part in give_back),  # type: ignore[attr-defined]
        left={str(key): value for key, value in left.items()},
        grace_seconds=float(grace),
    )
    return replace(order, check_mode=check_mode)
