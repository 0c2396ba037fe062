"""The demo's compressed time: days of the ladder pass in seconds of the real clock.

Owns the arithmetic of `--speed` and the demo's policies. Nothing else knows that time is compressed.
"""

import re
from dataclasses import dataclass
from datetime import timedelta

import yaml

from api.runtime import Pace
from billing.rules.durations import parse_duration

#: At the default, the 120 hours until suspension take 50 seconds.
DEFAULT_SPEED = "72h=30s"
ONCE_SPEED = "72h=6s"
_SIDE = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class BadSpeedError(ValueError):
    """`--speed` is not of the form `72h=30s`."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How many seconds of the ladder pass in one real second."""

    factor: float

    @classmethod
    def parse(cls, text: str) -> "Speed":
        """Return the speed that a text such as `72h=30s` asks for; the right side is real time."""
        left, _, right = text.partition("=")
        sides = [_SIDE.fullmatch(side.strip()) for side in (left, right)]
        if sides[0] is None or sides[1] is None:
            raise BadSpeedError(f"--speed {text}: say what becomes what, such as 72h=30s")
        asked, real = (int(side[1]) * _UNITS[side[2]] for side in (sides[0], sides[1]))
        if real == 0 or asked < real:
            raise BadSpeedError(
                f"--speed {text}: the right side must be more than 0 and at most the left side"
            )
        return cls(factor=asked / real)

    def real(self, span: timedelta) -> timedelta:
        """Return how long a span of the ladder takes on the real clock, to the millisecond, at least one."""
        return max(
            timedelta(milliseconds=1),
            timedelta(milliseconds=round(span / self.factor / timedelta(milliseconds=1))),
        )

    @property
    def pace(self) -> Pace:
        """Return the ticks: compressed, but never so fast that looking is all the machine does."""
        return Pace(
            tick=max(1.0, 60 / self.factor),
            observe=max(4.0, 60 / self.factor),
            sweep=max(3.0, 300 / self.factor),
            scale=20.0,
        )


#: The standard ladder's spans: stage, after, min_notice, effects, notice.
_RUNGS: tuple[tuple[str, str, str | None, list[str], str], ...] = (
    ("past_due", "PT0S", None, [], "payment_overdue"),
    ("final_notice", "PT72H", "PT48H", ["lock_backups"], "final_notice"),
    ("suspended", "PT120H", "PT24H", ["lock_backups", "stop_servers", "lock_account"], "suspended"),
    ("retained", "P30D", "P7D", ["lock_backups", "stop_servers", "lock_account"], "retained"),
    (
        "decommission_review",
        "P90D",
        "P14D",
        ["lock_backups", "stop_servers", "lock_account"],
        "final_warning",
    ),
)
#: Policies of sample accounts that stay where the demo shows them: what comes after that comes in its real time.
STAYING = {
    "stays_past_due": "past_due",
    "stays_final_notice": "final_notice",
    "stays_suspended": "suspended",
    "stays_retained": "retained",
    "stays_review": "decommission_review",
}
#: The last stages' spans for the samples that show them: 30 and 90 days would be minutes even when compressed.
_SOON = {"retained": ("PT144H", "PT12H"), "decommission_review": ("PT168H", "PT12H")}


def policies(speed: Speed) -> dict[str, str]:
    """Return the demo's policy files by name: the standard ladder compressed, and ladders that end at a stage."""
    files = {"standard": _policy(speed, last=None)}
    return files | {name: _policy(speed, last=stage) for name, stage in STAYING.items()}


def _policy(speed: Speed, *, last: str | None) -> str:
    stages: dict[str, dict[str, object]] = {}
    ended = False
    for number, (name, usual_after, usual_notice, effects, notice) in enumerate(_RUNGS):
        usual = (usual_after, usual_notice)
        after, min_notice = _SOON.get(name, usual) if last in _SOON and not ended else usual
        pace = Speed(factor=1) if ended else speed
        span = pace.real(parse_duration(after)) if number else timedelta(0)
        stage: dict[str, object] = {"after": _iso(span), "notice": notice}
        if min_notice is not None:
            stage["min_notice"] = _iso(pace.real(parse_duration(min_notice)))
        if effects:
            stage["effects"] = effects
        stage |= {"remind_every": _iso(speed.real(timedelta(days=7)))} if number == 0 else {}
        stage |= (
            {"approve_after": _iso(speed.real(timedelta(days=14)))} if name == "decommission_review" else {}
        )
        stages[name] = stage
        ended = ended or name == last
    # Else a fresh notice, such as after an extension that staff took back, would take a day of the real clock.
    notices = {"repeat_every": _iso(speed.real(timedelta(days=1)))}
    return yaml.safe_dump({"notices": notices, "stages": stages}, sort_keys=False)


def _iso(span: timedelta) -> str:
    return f"PT{span / timedelta(seconds=1):g}S" if span < timedelta(days=1) else f"P{span.days}D"
