"""The languages: what a reader is told in the reader's own words, amounts, dates and times.

Owns the choice of the language, the catalogs (`billing/locales`, gettext) and the formats (Babel). English is the text
itself and has no catalog. Decides nothing about what is said.
"""

import gettext
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time, get_timezone_gmt, get_timezone_name
from babel.numbers import format_currency
from babel.units import format_unit

from billing.rules.money import Money, format_amount
from billing.rules.words import Phrase, Unit, Value, counted, measured, phrase

FOLDER = Path(__file__).parent / "locales"
DOMAIN = "messages"
#: The language of the texts themselves, which everybody reads who has none of the others.
FALLBACK = "en"
#: English without a country would write dates the American way; our words are British.
_BRITISH = "en-GB"
#: Keep together what must not be divided at the end of a line, until `unbound`.
_BOUND = str.maketrans(" ", "\N{NO-BREAK SPACE}")
#: Before a text of somebody else: it stays on the line of the word before it.
_GLUE = "\N{WORD JOINER}"
_UNBOUND = str.maketrans(
    {"\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ", _GLUE: None},
)
#: Babel's names.
_UNITS = {
    Unit.DAYS: "duration-day",
    Unit.HOURS: "duration-hour",
    Unit.MINUTES: "duration-minute",
    Unit.SECONDS: "duration-second",
}
#: Names that one text shows; an account may have thousands of servers.
MOST_NAMES = 20


@cache
def languages() -> frozenset[str]:
    """Return the languages that there are words in."""
    return frozenset({FALLBACK, *(file.parts[-3] for file in FOLDER.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))})


@cache
def catalog(language: str) -> gettext.NullTranslations:
    """Return what a language says; English, and a language without a catalog, say the text itself."""
    return gettext.translation(DOMAIN, FOLDER, [language], fallback=True)


@cache
def _fixed(language: str, text: str) -> str:
    """Return what shows no value and so is always the same, such as the words of a gate."""
    return unbound(catalog(language).gettext(text) % {})


class Words:
    """The language of one reader. An unknown locale reads English, an unknown zone UTC."""

    def __init__(self, locale: str, time_zone: str) -> None:
        found = _locale(locale)
        self.language = found.language if found.language in languages() else FALLBACK
        self._catalog = catalog(self.language)
        self._locale = locale
        self._dates = found if found.language == self.language else _locale(self.language)
        self._zone = _zone(time_zone)

    def say(self, told: Phrase) -> str:
        """Return a phrase as this reader reads it, in one line with plain spaces."""
        if not told.values and told.plural is None:
            return _fixed(self.language, told.text)
        return unbound(self.bound(told))

    def bound(self, told: Phrase) -> str:
        """Return a phrase whose amounts, dates and texts are kept together until `unbound`."""
        if told.plural is None:
            text = self._catalog.gettext(told.text)
        else:
            text = self._catalog.ngettext(told.text, told.plural, told.number)
        return text % {name: self._value(value) for name, value in told.values.items()}

    def amount(self, amount: Money) -> str:
        """Return an amount to the last digit that is owed, whatever the locale's tables think of its currency."""
        return _amount(self._locale, amount.minor, amount.currency)

    def day(self, day: date) -> str:
        """Return a day; of an instant the one that it falls on in the reader's zone."""
        local = day.astimezone(self._zone) if isinstance(day, datetime) else day
        return bind(format_date(local, "long", locale=self._dates))

    def instant(self, at: datetime) -> str:
        """Return an instant in the reader's zone, with the zone's name, or its distance from GMT where it has none."""
        return _instant(self, at)

    def span(self, length: timedelta) -> str:
        """Return a length as people say it: hours up to a week, days from then on, less than an hour as it is."""
        unit, number = measured(length)
        return bind(format_unit(number, _UNITS[unit], "long", locale=self._dates))

    def names(self, names: Sequence[str]) -> str:
        """Return names one after the other, the first few of very many."""
        shown = ", ".join(names[:MOST_NAMES])
        rest = len(names) - MOST_NAMES
        if rest <= 0:
            return shown
        return self.bound(
            counted("%(names)s and %(number)s more", "%(names)s and %(number)s more", rest, names=shown)
        )

    def _instant(self, at: datetime) -> str:
        local = at.astimezone(self._zone)
        zone = get_timezone_name(local, width="short", locale=self._dates)
        if zone.startswith(("+", "-")):
            zone = get_timezone_gmt(local, width="long", locale=self._dates)
        time = format_time(local, "short", locale=self._dates)
        return bind(
            self.bound(phrase("%(day)s, %(time)s %(zone)s", day=self.day(local), time=time, zone=zone))
        )

    def _value(self, value: Value) -> str:
        match value:
            case Phrase():
                return self.bound(value)
            case Money():
                return self.amount(value)
            case datetime():
                return self.instant(value)
            case date():
                return self.day(value)
            case timedelta():
                return self.span(value)
            case _:
                return str(value)


@lru_cache(maxsize=4096)
def _amount(locale: str, minor: int, currency: str) -> str:
    """Prices are few, and each is told again with every page."""
    exact = Decimal(format_amount(minor, currency))
    return format_currency(exact, currency, locale=_locale(locale), decimal_quantization=False)


@lru_cache(maxsize=4096)
def _instant(words: Words, at: datetime) -> str:
    """The same few are told again with every page, and a zone's name is long to find."""
    return words._instant(at)  # noqa: SLF001 - its own


@lru_cache(maxsize=512)
def words_of(locale: str, time_zone: str) -> Words:
    """Return the words of a reader with this locale, such as `de-AT`, in this time zone."""
    return Words(locale, time_zone)


def bind(text: str) -> str:
    """Return a text that is not divided at the end of a line."""
    return text.translate(_BOUND)


def foreign(text: str) -> str:
    """Return somebody else's words so that, where they are more than one, they never begin a line of ours."""
    return f"{_GLUE}{bind(text)}" if " " in text else text


def glued(text: str) -> str:
    """Return our text with what is foreign in it bound to the word before it."""
    return text.replace(f" {_GLUE}", f"\N{NO-BREAK SPACE}{_GLUE}")


def unbound(text: str) -> str:
    """Return a text with plain spaces: what is copied out of it, such as an amount, is pasted as it was typed."""
    return text.translate(_UNBOUND)


def _locale(name: str) -> Locale:
    if name == FALLBACK:
        name = _BRITISH
    try:
        return Locale.parse(name.replace("_", "-"), sep="-")
    except (UnknownLocaleError, ValueError):
        return Locale.parse(_BRITISH, sep="-")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a relative name; a folder of the zone database
        return ZoneInfo("UTC")
