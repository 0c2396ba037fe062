"""Exact ISO 8601 durations: text to `timedelta` and back.

Owns the grammar alone. A day is 24 hours of real time; months and years have no exact length and are refused.
"""

import re
from datetime import timedelta

_DURATION = re.compile(
    r"P(?:(?P<weeks>[0-9]{1,6})W"
    r"|(?:(?P<days>[0-9]{1,6})D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]{1,8})H)?(?:(?P<minutes>[0-9]{1,9})M)?(?:(?P<seconds>[0-9]{1,10}(?:\.[0-9]{1,6})?)S)?)?)",
    re.ASCII,
)
_CALENDAR = re.compile(r"P[0-9]+Y.*|P(?:[0-9]+Y)?[0-9]+M.*", re.ASCII)
_EXAMPLE = "such as PT72H, P7D or PT2S"


class DurationError(ValueError):
    """A text that is no exact duration; the message says what would be right."""


def parse_duration(text: str) -> timedelta:
    """Return the length of an ISO 8601 duration, 0 or more; `P1D` is 24 hours.

    Raises `DurationError` for blank text, signs, months, years and anything else without an exact length.
    """
    if not text.strip():
        raise DurationError(f"is blank; write an ISO 8601 duration {_EXAMPLE}")
    if text.startswith(("-", "P-", "PT-")):
        raise DurationError(f"{text[:40]} is negative; write 0 (PT0S) or more, {_EXAMPLE}")
    if _CALENDAR.fullmatch(text):
        raise DurationError(f"{text[:40]} has no exact length; write months and years as days, such as P30D")
    match = _DURATION.fullmatch(text)
    if not match or not any(match.groups()):
        raise DurationError(f"{text[:40]!r} is not an ISO 8601 duration; write one {_EXAMPLE}")
    parts = {unit: value for unit, value in match.groupdict().items() if value}
    whole, _, fraction = parts.pop("seconds", "0").partition(".")
    units = {unit: int(value) for unit, value in parts.items()}
    return timedelta(**units, seconds=int(whole), microseconds=int(fraction.ljust(6, "0")))


def format_duration(length: timedelta) -> str:
    """Return the ISO 8601 text of a length of 0 or more: hours up to a week (`PT72H`), days from then on (`P7D`)."""
    if length < timedelta(0):
        raise DurationError("a negative length has no text; only lengths of 0 or more are written")
    days = length.days if length >= timedelta(days=7) else 0
    minutes, seconds = divmod(length // timedelta(seconds=1) - days * 86_400, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{length.microseconds:06d}".rstrip("0") if length.microseconds else ""
    time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or fraction or not (days or time):
        time += f"{seconds}{fraction}S"
    return "P" + (f"{days}D" if days else "") + (f"T{time}" if time else "")
