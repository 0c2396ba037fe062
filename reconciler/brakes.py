"""What holds restrictions back for everybody now: since when, why, and what ends it.

The one place that words it, for plans, explanations, `doctor` and `/readyz`. Reads only; each brake is written by the
module that puts it on. Giving back has no brake.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from reconciler import freshness
from reconciler.guard_models import SafeModeCause
from reconciler.models import ReconcilerState

#: What a line of a brake begins with, wherever lines of other things follow.
MARK = "!!"


@dataclass(frozen=True, kw_only=True)
class Brake:
    """One thing that holds back whatever the facts support."""

    #: Stable: `safe_mode`, `pause`, `breaker`, `stripe`.
    name: str
    #: Null where nothing says when it began.
    since: datetime | None
    said: str
    remedy: str

    @property
    def line(self) -> str:
        """What it is and what ends it, in one sentence."""
        return f"{self.said[0].upper()}{self.said[1:]}; {self.remedy}."


async def standing(*, stripe: bool, now: datetime) -> tuple[Brake, ...]:
    """Return the brakes that are on, the strongest first; `stripe` tells whether Stripe is switched on at all."""
    state = await ReconcilerState.get_or_none(id=1) or ReconcilerState(id=1)
    found = []
    if state.safe_mode_since is not None:
        found.append(await _safe_mode(state.safe_mode_since, state.safe_mode_reason))
    if state.paused_at is not None:
        found.append(
            Brake(
                name="pause",
                since=state.paused_at,
                said=f"paused since {_instant(state.paused_at)} by {state.paused_by}, {state.paused_reason}: "
                "nothing is restricted for money",
                remedy="`enforcementResume` ends the pause",
            )
        )
    if problem := await freshness.of_everybody(now) if stripe else None:
        remedy = (
            "it ends by itself once `abeyance serve` has read Stripe; `abeyance doctor` asks what keeps it"
        )
        said = f"{problem[1]}: nobody is restricted for money on such facts"
        found.append(Brake(name="stripe", since=None, said=said, remedy=remedy))
    if state.breaker_open_at is not None:
        found.append(
            Brake(
                name="breaker",
                since=state.breaker_open_at,
                said=f"the breaker is open since {_instant(state.breaker_open_at)}, {state.breaker_reason}: "
                "climbs to larger effects wait",
                remedy="read the last pass's plan (`{ plan { digest text } }`); two persons let it go on by "
                "`breakerRelease` of its digest, or of the beginning that its first line shows",
            )
        )
    return tuple(found)


async def _safe_mode(since: datetime, reason: str | None) -> Brake:
    waits = SafeModeCause.filter(ended_at=None, needs_person=True, released_at=None)
    how = " and an admin has released it (`safeModeRelease`)" if await waits.exists() else ", by itself"
    return Brake(
        name="safe_mode",
        since=since,
        said=f"safe mode since {_instant(since)}, {reason}: nothing is restricted for money",
        remedy=f"it ends once every site and Stripe were read again{how}",
    )


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def text(brakes: Iterable[Brake]) -> str:
    """Return a line each, to stand above what is shown; nothing where none is on."""
    return "".join(f"{MARK} {one.line}\n" for one in brakes)


def content(brakes: Iterable[Brake]) -> list[dict[str, object]]:
    """Return the same as plain data."""
    return [
        {"name": one.name, "since": one.since.isoformat() if one.since else None, "text": one.line}
        for one in brakes
    ]
