"""The walk through a procedure on a platform made for the purpose: its clock, its faults and its width are ours."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from abeyance_platforms.compare import Changes
from abeyance_platforms.permit import Permit
from abeyance_platforms.procedure import Pace, Procedure, order_for
from abeyance_platforms.reports import PlatformError, Refusal, Report, Retry, State, StillRunningError
from abeyance_platforms.targets import BadInputError, Target

STOP = {
    "parts": ["power", "onboot"],
    "want": {"power": "stopped", "onboot": False},
    "procedure": ["read", "compare", "configure", "shut_down", "read_back"],
}
START = {
    "parts": ["power", "onboot"],
    "give_back": ["onboot", "power"],
    "procedure": ["read", "compare", "configure", "start", "read_back"],
}
RUNNING = State(power="running", onboot=True)


@dataclass
class Platform:
    """Guests in a dictionary; `on_call` happens before every call and may raise."""

    guests: dict[str, State]
    now: float = 0.0
    on_call: Callable[[str, str], None] = lambda _name, _guest: None
    calls: list[tuple[str, str]] = field(default_factory=list)
    working: int = 0
    most: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def _call(self, name: str, guest: str) -> None:
        self.calls.append((name, guest))
        self.on_call(name, guest)

    def prepare(self, targets: Sequence[Target]) -> None:
        """Nothing is shared."""
        self._call("prepare", "")

    def read(self, target: Target, parts: Sequence[str], *, restricts: bool) -> State:
        """Return the guest as it is."""
        self._call("read", target.guest)
        return self.guests[target.guest]

    def configure(self, target: Target, now: State, changes: Changes) -> None:
        """Set onboot."""
        self._call("configure", target.guest)
        self._set(target, onboot=changes.onboot)

    def shut_down(self, target: Target, now: State, grace_seconds: float) -> None:
        """Stop the guest, and note how many are being stopped at once."""
        with self.lock:
            self.working += 1
            self.most = max(self.most, self.working)
        self._call("shut_down", target.guest)
        self._set(target, power="stopped")
        with self.lock:
            self.working -= 1

    def start(self, target: Target, now: State) -> None:
        """Start the guest."""
        self._call("start", target.guest)
        self._set(target, power="running")

    def protect(self, target: Target, now: State, volid: str, *, protected: bool) -> None:
        """There are no backups."""
        raise AssertionError

    def swap_role(self, target: Target, now: State, role: str) -> None:
        """There are no roles."""
        raise AssertionError

    def _set(self, target: Target, **parts: Any) -> None:
        self.guests[target.guest] = replace(self.guests[target.guest], **parts)


def _walk(
    platform: Platform, spec: dict[str, Any], *, permit: Path | None = None, **more: Any
) -> list[Report]:
    def sleep(seconds: float) -> None:
        platform.now += seconds

    procedure = Procedure(
        platform,
        order_for(spec, check_mode=more.get("check", False)),
        permit=Permit(path=permit, boottime=lambda: platform.now),
        pace=Pace(more.get("per_minute", 1e9), monotonic=lambda: platform.now, sleep=sleep),
        width=more.get("width", 1),
    )
    expect = {"power": "running", "onboot": True}
    return procedure.run(
        [Target(id=f"id-{g}", kind="lxc", guest=g, step=f"step-{g}", expect=expect) for g in platform.guests]
    )


def _ends(reports: list[Report]) -> list[str]:
    return ["/".join(filter(None, (report.outcome, report.retry))) for report in reports]


def test_it_looks_at_the_permit_again_before_every_act(tmp_path: Path) -> None:
    """A payment between configuring and shutting down keeps the guest running, and the report says what was done."""
    path = tmp_path / "permit"
    path.write_text(json.dumps({"at": 0, "void": []}))

    def pay(name: str, _guest: str) -> None:
        if name == "configure":
            path.write_text(json.dumps({"at": 0, "void": ["step-a"]}))

    platform = Platform({"a": RUNNING}, on_call=pay)
    (report,) = _walk(platform, STOP, permit=path)
    assert _ends([report]) == ["failed/later"]
    assert platform.guests["a"] == State(power="running", onboot=False)
    assert report.after == platform.guests["a"]


def test_it_stops_acting_when_the_permit_grows_old(tmp_path: Path) -> None:
    """Whoever renews the permit is gone: the guests that are left are refused, untouched."""
    path = tmp_path / "permit"
    path.write_text(json.dumps({"at": 0, "void": []}))
    platform = Platform(dict.fromkeys("abc", RUNNING))

    def slow(name: str, guest: str) -> None:
        if (name, guest) == ("shut_down", "a"):
            platform.now += 10

    platform.on_call = slow
    assert _ends(_walk(platform, STOP, permit=path)) == ["changed", "refused/later", "refused/later"]
    assert platform.guests["b"] == platform.guests["c"] == RUNNING


def test_checking_changes_nothing_and_needs_no_permit(tmp_path: Path) -> None:
    """A prediction is read from the platform and acts on nothing."""
    platform = Platform({"a": RUNNING, "b": State(power="stopped", onboot=False)})
    assert _ends(_walk(platform, STOP, permit=tmp_path / "none", check=True)) == ["changed", "unchanged"]
    assert {name for name, _ in platform.calls} == {"prepare", "read"}


@pytest.mark.parametrize(
    ("step", "problem", "ended"),
    [
        ("prepare", PlatformError("silence", Retry.LATER), "failed/later"),
        ("read", PlatformError("forbidden", Retry.NEVER), "failed/never"),
        ("read", Refusal("moved", Retry.LATER), "refused/later"),
        ("configure", PlatformError("odd"), "failed"),
        ("shut_down", PlatformError("locked", Retry.LATER), "failed/later"),
        ("shut_down", StillRunningError("slow"), "unknown"),
        ("shut_down", ZeroDivisionError(), "unknown"),
    ],
)
def test_it_names_what_went_wrong(step: str, problem: Exception, ended: str) -> None:
    """Each kind of trouble has its outcome; a fault of our own makes the guest unknown and spares the others."""

    def trouble(name: str, guest: str) -> None:
        if name == step and guest in ("a", ""):
            raise problem

    platform = Platform({"a": RUNNING, "b": RUNNING}, on_call=trouble)
    first, second = _ends(_walk(platform, STOP))
    assert first == ended
    assert second == (ended if step == "prepare" else "changed")


def test_what_cannot_be_read_back_is_unknown() -> None:
    """After an act, no answer is no proof of anything."""

    def silent(name: str, _guest: str) -> None:
        if name == "read" and ("shut_down", "a") in platform.calls:
            raise PlatformError("silence", Retry.LATER)

    platform = Platform({"a": RUNNING})
    platform.on_call = silent
    (report,) = _walk(platform, STOP)
    assert _ends([report]) == ["unknown"]
    assert report.after is None


def test_it_works_on_so_many_guests_at_once() -> None:
    """Guests go side by side, never more than the node's width."""
    meet = threading.Barrier(3, timeout=60)

    def together(name: str, _guest: str) -> None:
        if name == "shut_down":
            meet.wait()

    platform = Platform(dict.fromkeys("abcdef", RUNNING), on_call=together)
    assert set(_ends(_walk(platform, STOP, width=3))) == {"changed"}
    assert platform.most == 3


def test_only_restrictions_are_slowed_down() -> None:
    """The rate limit spreads what is taken away; giving back never waits for it."""
    stopping = Platform(dict.fromkeys("abcd", RUNNING))
    _walk(stopping, STOP, per_minute=60)
    assert stopping.now == pytest.approx(3.0)
    starting = Platform(dict.fromkeys("abcd", State(power="stopped", onboot=False)))
    assert set(_ends(_walk(starting, START, per_minute=60))) == {"changed"}
    assert starting.now == 0.0


@pytest.mark.parametrize(
    "spec",
    [
        {**STOP, "procedure": ["read", "configure", "read_back"]},
        {**STOP, "procedure": ["compare", "read", "configure", "read_back"]},
        {**STOP, "procedure": ["read", "shut_down", "compare", "read_back"]},
        {**STOP, "procedure": ["read", "compare", "shut_down"]},
        {**STOP, "procedure": ["read", "compare", "destroy", "read_back"]},
        {**STOP, "procedure": "read"},
        {**STOP, "give_back": ["power"]},
        {**STOP, "want": {}},
        {**STOP, "want": {"disk": "gone"}},
        {**STOP, "grace_seconds": 0},
        {**STOP, "grace_seconds": "120"},
        {**STOP, "parts": ["disk"]},
        {},
    ],
)
def test_it_refuses_a_procedure_that_could_act_blindly(spec: dict[str, Any]) -> None:
    """What acts comes after read and compare, ends with read_back, and consists of known steps."""
    with pytest.raises(BadInputError):
        order_for(spec, check_mode=False)
