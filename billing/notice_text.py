"""The words of the notices: templates, and the values that they may show.

Owns rendering. A template is English, and each of its sentences is looked up in the reader's language. A customer's
words are values and never template text: they are put on one line, without control characters, before a template sees
them. Decides nothing: what is due to whom is `billing.rules.notices`.
"""

import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from billing.rules.announcements import still_works
from billing.rules.money import Money
from billing.rules.terms import Effect, Stage
from billing.rules.words import phrase
from billing.words import Words, catalog, foreign, glued, languages, unbound, words_of

FOLDER = Path(__file__).parent / "templates"
SUBJECT = "Subject: "
LONGEST_SUBJECT = 200
#: Characters of a line, where words allow it.
WIDTH = 76


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

    id: int = 0
    #: Null: it has none, and is called by its id.
    number: str | None
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
    #: Names of servers that somebody else keeps restricted, whatever is paid.
    kept: tuple[str, ...] = ()
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
    """The templates of one folder, each tried on samples in every language when it is loaded.

    Raises `TemplatesInvalid` for a template that does not parse, has no subject, or shows what no notice has.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.names = frozenset(file.stem for file in folder.glob("*.txt") if not file.name.startswith("_"))
        self._environments = {language: _environment(folder, language) for language in languages()}
        for name in sorted(self.names):
            self._try(name)

    def render(self, template: str, content: Content) -> Text:
        """Return a notice in the reader's language, or in English where there are no words in it."""
        if template not in self.names:
            known = ", ".join(sorted(self.names))
            raise TemplatesInvalid(f"there is no template {template}.txt; there are: {known}")
        words = words_of(content.reader.locale, content.reader.time_zone)
        wanted = self._environments[words.language].get_template(f"{template}.txt")
        first, _, rest = wanted.render(_values(content, words)).partition("\n")
        if not first.startswith(SUBJECT) or not first.removeprefix(SUBJECT).strip():
            raise TemplatesInvalid(f"{template}.txt, line 1: must be `{SUBJECT}` followed by the subject")
        subject = unbound(first.removeprefix(SUBJECT)).strip()
        return Text(subject=subject[:LONGEST_SUBJECT], body=_set(rest))

    def _try(self, name: str) -> None:
        for sample in (one for language in sorted(languages()) for one in _samples(language)):
            try:
                self.render(name, sample)
            except TemplateSyntaxError as error:
                raise TemplatesInvalid(
                    f"{error.name or name}, line {error.lineno}: {error.message}"
                ) from error
            except TemplateError as error:
                raise TemplatesInvalid(f"{name}.txt: {error.message}") from error
            except (KeyError, TypeError, ValueError) as error:  # a sentence that is filled in wrongly
                raise TemplatesInvalid(f"{name}.txt: {error!r}") from error


@cache
def shipped() -> Templates:
    """Return the templates that the product ships with, loaded once."""
    return Templates()


def plain(text: str) -> str:
    """Return customers' words on one line, without control, formatting or direction characters."""
    kept = (" " if character.isspace() else character for character in text)
    return " ".join("".join(c for c in kept if unicodedata.category(c) not in {"Cc", "Cf", "Cs"}).split())


def _environment(folder: Path, language: str) -> Environment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(folder),
        extensions=["jinja2.ext.i18n"],
        autoescape=False,  # plain text, never HTML
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Added by the extension, https://jinja.palletsprojects.com/en/stable/extensions/#i18n-extension
    environment.install_gettext_translations(catalog(language), newstyle=True)  # type: ignore[attr-defined]
    return environment


def _values(content: Content, words: Words) -> Mapping[str, object]:
    upcoming = content.next_stage
    return {
        "name": _own(content.reader.name),
        "servers": words.names([_own(server) for server in content.servers]),
        "how_many": len(content.servers),
        "kept": words.names([_own(server) for server in content.kept]) if content.kept else None,
        "how_many_kept": len(content.kept),
        "ended_server": _own(content.ended_server) if content.ended_server else None,
        "invoices": [_invoice(invoice, words) for invoice in content.invoices],
        "total": _total(content.invoices, words),
        "effects": _flags(content.effects),
        "works": [words.bound(one) for one in still_works(content.effects)],
        "next": upcoming
        and {
            # Only what is new: a reader must not think that something is taken twice.
            **_flags(upcoming.effects - content.effects),
            "at": words.instant(upcoming.at),
            "review": upcoming.stage is Stage.DECOMMISSION_REVIEW,
        },
        **_ahead(content.ahead, words),
    }


def _own(text: str) -> str:
    """Return a customer's words as they may stand in a line of ours."""
    return foreign(plain(text))


def _invoice(invoice: NamedInvoice, words: Words) -> Mapping[str, str | None]:
    number = _own(invoice.number) if invoice.number else words.bound(phrase("Invoice %(id)s", id=invoice.id))
    amount = words.amount(Money(invoice.amount, invoice.currency))
    due = invoice.due_on or invoice.overdue_at
    if due is None:
        line = phrase("%(number)s: %(amount)s, due now", number=number, amount=amount)
    else:
        line = phrase("%(number)s: %(amount)s, due %(day)s", number=number, amount=amount, day=words.day(due))
    return {"number": number, "line": words.bound(line), "url": _own(invoice.url) if invoice.url else None}


def _ahead(ahead: Ahead, words: Words) -> Mapping[str, object]:
    def day(at: datetime | None) -> str | None:
        return words.day(at) if at else None

    card, runway = ahead.card, ahead.runway
    return {
        "card": card
        and {
            "brand": _own(card.brand).title(),
            "last4": _own(card.last4),
            "last_day": words.day(card.last_day),
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


def _total(invoices: tuple[NamedInvoice, ...], words: Words) -> str:
    sums: dict[str, int] = {}
    for invoice in invoices:
        sums[invoice.currency] = sums.get(invoice.currency, 0) + invoice.amount
    return " + ".join(words.amount(Money(minor, currency)) for currency, minor in sums.items())


def _set(body: str) -> str:
    """Return the text in lines that are easy to read, with never two empty ones in a row."""
    lines: list[str] = []
    for line in (line.rstrip() for line in glued(body).strip().splitlines()):
        if line:
            indent = " " * (len(line) - len(line.lstrip(" -")))
            lines += textwrap.wrap(
                line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )
        elif lines and lines[-1]:
            lines.append("")
    return unbound("\n".join(lines)) + "\n"


def _samples(language: str) -> tuple[Content, ...]:
    """Return one content of each shape, so that every branch of a template is tried."""
    at = datetime(2026, 11, 20, 9, tzinfo=UTC)
    reader = Reader(name="Ada", locale=language, time_zone="Europe/Vienna")
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
        kept=("shop",),
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
