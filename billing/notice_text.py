"""The words of the notices: templates, and the values that they may show.

Owns rendering. A customer's words are values and never template text: they are put on one line, without control
characters, before a template sees them. Decides nothing: what is due to whom is `billing.rules.notices`.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time
from babel.numbers import format_currency
from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from billing.rules.money import format_amount
from billing.rules.terms import Effect, Stage

FOLDER = Path(__file__).parent / "templates"
#: The language that has every template; another one may have some.
FALLBACK = "en"
SUBJECT = "Subject: "
LONGEST_SUBJECT = 200


class TemplatesInvalid(Exception):  # noqa: N818 - it says what is wrong with the folder
    """A template cannot be used; the message names the file, the line where known, and the fault."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Whom a notice speaks to, and how that reader writes amounts and instants."""

    name: str
    locale: str
    time_zone: str


@dataclass(frozen=True, kw_only=True)
class NamedInvoice:
    """One invoice that a notice names."""

    number: str
    #: What is still to pay, in minor units.
    amount: int
    currency: str
    #: The local day that it is due on, or null for one without a due date.
    due_on: date | None
    overdue_at: datetime | None = None
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class NextStage:
    """What comes next when nothing changes, and the earliest instant of it."""

    stage: Stage
    at: datetime
    effects: frozenset[Effect] = frozenset()


@dataclass(frozen=True, kw_only=True)
class NamedCard:
    """One card that a notice names, and the last local day on which it can be charged."""

    brand: str
    last4: str
    last_day: date


@dataclass(frozen=True, kw_only=True)
class NamedRunway:
    """Until when money pays for servers, and what follows at the earliest where it follows at all."""

    until: datetime
    #: Whether that is past.
    ended: bool
    stopped_at: datetime | None = None
    reviewed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What a notice tells of a time to come, beside the next stage."""

    card: NamedCard | None = None
    runway: NamedRunway | None = None
    #: From when on staff may decide that servers are removed, if nothing is paid.
    reviewed_at: datetime | None = None


NOTHING_AHEAD = Ahead()


@dataclass(frozen=True, kw_only=True)
class Content:
    """Everything that a template may show."""

    reader: Reader
    invoices: tuple[NamedInvoice, ...] = ()
    #: Names of the servers that the notice is about.
    servers: tuple[str, ...] = ()
    #: The one server whose subscription has ended, when that is the reason.
    ended_server: str | None = None
    effects: frozenset[Effect] = frozenset()
    next_stage: NextStage | None = None
    ahead: Ahead = NOTHING_AHEAD


@dataclass(frozen=True, kw_only=True)
class Text:
    """A rendered notice."""

    subject: str
    body: str


class Templates:
    """The templates of one folder, each tried on samples when it is loaded.

    Raises `TemplatesInvalid` for a template that does not parse, has no subject, or shows what no notice has.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(folder),
            autoescape=False,  # plain text, never HTML
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._files = frozenset(
            f"{file.parent.name}/{file.stem}"
            for file in folder.glob("*/*.txt")
            if not file.name.startswith("_")
        )
        self.names = frozenset(name.split("/")[1] for name in self._files if name.startswith(f"{FALLBACK}/"))
        for name in sorted(self._files):
            self._try(name)

    def render(self, template: str, content: Content) -> Text:
        """Return a notice in the reader's language, or in English where that language lacks the template."""
        return self._render(f"{self._language(template, content.reader.locale)}/{template}", content)

    def _language(self, template: str, locale: str) -> str:
        language = locale.replace("_", "-").split("-")[0].lower()
        return language if f"{language}/{template}" in self._files else FALLBACK

    def _render(self, name: str, content: Content) -> Text:
        if name not in self._files:
            known = ", ".join(sorted(self.names))
            raise TemplatesInvalid(f"there is no template {name}.txt; there are: {known}")
        values = _values(content, name.partition("/")[0])
        first, _, rest = self._environment.get_template(f"{name}.txt").render(values).partition("\n")
        if not first.startswith(SUBJECT) or not first.removeprefix(SUBJECT).strip():
            raise TemplatesInvalid(f"{name}.txt, line 1: must be `{SUBJECT}` followed by the subject")
        return Text(subject=first.removeprefix(SUBJECT).strip()[:LONGEST_SUBJECT], body=_tidy(rest))

    def _try(self, name: str) -> None:
        for sample in _samples():
            try:
                self._render(name, sample)
            except TemplateSyntaxError as error:
                raise TemplatesInvalid(
                    f"{error.name or name}, line {error.lineno}: {error.message}"
                ) from error
            except TemplateError as error:
                raise TemplatesInvalid(f"{name}.txt: {error.message}") from error


@cache
def shipped() -> Templates:
    """Return the templates that the product ships with, loaded once."""
    return Templates()


def plain(text: str) -> str:
    """Return customers' words on one line, without control, formatting or direction characters."""
    kept = (" " if character.isspace() else character for character in text)
    return " ".join("".join(c for c in kept if unicodedata.category(c) not in {"Cc", "Cf", "Cs"}).split())


def _values(content: Content, language: str) -> Mapping[str, object]:
    reader = content.reader
    locale = _locale(reader.locale)
    amounts = [_amount(invoice.amount, invoice.currency, locale) for invoice in content.invoices]
    zone = _zone(reader.time_zone)
    words = locale if locale.language == language else _locale(language)
    upcoming = content.next_stage
    return {
        "name": plain(reader.name),
        "servers": [plain(server) for server in content.servers],
        "ended_server": plain(content.ended_server) if content.ended_server else None,
        "invoices": [
            {
                "number": plain(invoice.number),
                "amount": amount,
                "due": _due(invoice, zone, words),
                "url": plain(invoice.url) if invoice.url else None,
            }
            for invoice, amount in zip(content.invoices, amounts, strict=True)
        ],
        "total": _total(content.invoices, locale),
        "effects": _flags(content.effects),
        "next": upcoming
        and {
            # Only what is new: a reader must not think that something is taken twice.
            **_flags(upcoming.effects - content.effects),
            "at": _instant(upcoming.at, zone, words),
            "review": upcoming.stage is Stage.DECOMMISSION_REVIEW,
        },
        **_ahead(content.ahead, zone, words),
    }


def _ahead(ahead: Ahead, zone: ZoneInfo, words: Locale) -> Mapping[str, object]:
    def day(at: datetime | None) -> str | None:
        return format_date(at.astimezone(zone), "long", locale=words) if at else None

    card, runway = ahead.card, ahead.runway
    return {
        "card": card
        and {
            "brand": plain(card.brand),
            "last4": plain(card.last4),
            "last_day": format_date(card.last_day, "long", locale=words),
        },
        "runway": runway
        and {
            "until": day(runway.until),
            "ended": runway.ended,
            "stopped": day(runway.stopped_at),
            "reviewed": day(runway.reviewed_at),
        },
        "reviewed": day(ahead.reviewed_at),
    }


def _flags(effects: frozenset[Effect]) -> dict[str, bool]:
    return {effect.value.lower(): effect in effects for effect in Effect}


def _locale(name: str) -> Locale:
    # English without a country would write dates the American way; our words are British.
    if name in {"en", FALLBACK}:
        name = "en-GB"
    try:
        return Locale.parse(name.replace("_", "-"), sep="-")
    except (UnknownLocaleError, ValueError):
        return Locale.parse("en-GB", sep="-")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a relative name; a folder of the zone database
        return ZoneInfo("UTC")


def _amount(minor: int, currency: str, locale: Locale) -> str:
    # Not rounded to what the locale's tables think of a currency: what is owed is shown to the last digit.
    exact = Decimal(format_amount(minor, currency))
    return format_currency(exact, currency, locale=locale, decimal_quantization=False).replace("\xa0", " ")


def _total(invoices: tuple[NamedInvoice, ...], locale: Locale) -> str:
    sums: dict[str, int] = {}
    for invoice in invoices:
        sums[invoice.currency] = sums.get(invoice.currency, 0) + invoice.amount
    return " + ".join(_amount(minor, currency, locale) for currency, minor in sums.items())


def _due(invoice: NamedInvoice, zone: ZoneInfo, locale: Locale) -> str:
    if invoice.due_on is not None:
        return format_date(invoice.due_on, "long", locale=locale)
    if invoice.overdue_at is not None:
        return format_date(invoice.overdue_at.astimezone(zone), "long", locale=locale)
    return "now"


def _instant(at: datetime, zone: ZoneInfo, locale: Locale) -> str:
    local = at.astimezone(zone)
    time = format_time(local, "short", locale=locale)
    return f"{format_date(local, 'full', locale=locale)}, {time} ({zone.key})"


def _tidy(body: str) -> str:
    """Return the lines without blanks at their ends, and never two empty ones in a row."""
    lines: list[str] = []
    for line in (line.rstrip() for line in body.strip().splitlines()):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines) + "\n"


def _samples() -> tuple[Content, ...]:
    """Return one content of each shape, so that every branch of a template is tried."""
    at = datetime(2026, 11, 20, 9, tzinfo=UTC)
    reader = Reader(name="Ada", locale="de-AT", time_zone="Europe/Vienna")
    invoice = NamedInvoice(
        number="A-1", amount=500, currency="EUR", due_on=at.date(), url="https://pay.example/1"
    )
    upcoming = NextStage(
        stage=Stage.DECOMMISSION_REVIEW, at=at + timedelta(days=2), effects=frozenset(Effect)
    )
    every = Content(
        reader=reader,
        invoices=(invoice, invoice),
        servers=("web",),
        effects=frozenset(Effect),
        next_stage=upcoming,
        ahead=Ahead(
            card=NamedCard(brand="visa", last4="4242", last_day=at.date()),
            runway=NamedRunway(until=at, ended=False, stopped_at=at, reviewed_at=at),
            reviewed_at=at,
        ),
    )
    least = Content(reader=reader, invoices=(invoice,), next_stage=NextStage(stage=Stage.RETAINED, at=at))
    used_up = Content(reader=reader, ahead=Ahead(runway=NamedRunway(until=at, ended=True)))
    ended = Content(reader=reader, ended_server="web", effects=frozenset({Effect.STOP_SERVERS}))
    return every, least, used_up, ended
