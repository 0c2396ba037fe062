"""Words for customers: English text that every language says in its own way, with the values that it speaks of.

Pure. Owns the shape of a phrase and how its text is marked, so that the catalogs can be kept complete. Languages, and
the way in which each writes amounts and instants, are `billing.words`'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Union

from billing.rules.money import Money

#: What a phrase may speak of, another sentence included. A text is shown as it is and never read as words of ours.
Value = Union[str, int, Money, date, datetime, timedelta, "Phrase"]


class Unit(Enum):
    """In what a length is told, the largest first; the value is from when on and how long one is."""

    DAYS = (timedelta(days=7), timedelta(days=1))
    HOURS = (timedelta(hours=1), timedelta(hours=1))
    MINUTES = (timedelta(minutes=1), timedelta(minutes=1))
    SECONDS = (timedelta(0), timedelta(seconds=1))


def measured(length: timedelta) -> tuple[Unit, float]:
    """Return a length as people say it, with at most two digits after the point: hours up to a week, then days."""
    unit = next(one for one in Unit if length >= one.value[0] or one is Unit.SECONDS)
    return unit, round(length / unit.value[1], 2)


_SHORT = {Unit.DAYS: "days", Unit.HOURS: "h", Unit.MINUTES: "min", Unit.SECONDS: "s"}


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """A text for people, by which the catalogs find what another language says; `%(name)s` stands for a value."""

    text: str
    #: What English says for every `number` but one; null where nothing is counted.
    plural: str | None = None
    number: int = 1
    values: Mapping[str, Value] = field(default_factory=dict)


def phrase(text: str, **values: Value) -> Phrase:
    """Return a phrase. The text has to be written out at the call: that is where the catalogs are filled from."""
    return Phrase(text=text, values=values)


def counted(one: str, many: str, number: int, **values: Value) -> Phrase:
    """Return a phrase about `number` things, shown as `%(number)s`; both texts are written out at the call."""
    return Phrase(text=one, plural=many, number=number, values={"number": number, **values})


def english(told: Phrase) -> str:
    """Return the phrase in English for staff and logs: instants in UTC, amounts with their currency's code."""
    text = told.text if told.plural is None or told.number == 1 else told.plural
    return text % {name: _written(value) for name, value in told.values.items()}


def _written(value: Value) -> str:
    if isinstance(value, Phrase):
        return english(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    if isinstance(value, timedelta):
        unit, number = measured(value)
        return f"{number:g} {_SHORT[unit]}"
    return value.isoformat() if isinstance(value, date) else str(value)
