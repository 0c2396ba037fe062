"""The words of the notices: templates, and the values that they may show.

Owns rendering. A template is English, and each of its sentences is looked up in the reader's language. A customer's
words are values and never template text: they are put on one line, without control characters, before a template sees
them. Decides nothing: what is due to whom is `billing.rules.notices`.
"""

import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from billing.notice_content import (
    Ahead,
    Content,
    NamedCard,
    NamedInvoice,
    NamedRunway,
    NextStage,
    Reader,
    Relief,
    ReliefReason,
    ServersTold,
)
from billing.rules.announcements import still_works
from billing.rules.money import Money
from billing.rules.terms import Effect, Stage
from billing.rules.words import Phrase, phrase
from billing.words import Words, catalog, foreign, glued, languages, unbound, words_of

FOLDER = Path(__file__).parent / "templates"
SUBJECT = "Subject: "
LONGEST_SUBJECT = 200
#: Characters of a line, where words allow it.
WIDTH = 76


class TemplatesInvalid(Exception):  # noqa: N818 - it says what is wrong with the folder
    """A template cannot be used; the message names the file, the line where known, and the fault."""


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
        **_told(content, words),
        "ended_server": _own(content.ended_server) if content.ended_server else None,
        "invoices": [_invoice(invoice, words) for invoice in content.invoices],
        "total": _total(content.invoices, words),
        "effects": _flags(content.effects),
        "works": [words.bound(one) for one in _works(content)],
        "relief": {
            "why": content.relief.why.value.lower(),
            "until": words.instant(content.relief.until) if content.relief.until else None,
            **_flags(content.relief.returned),
        },
        "next": upcoming
        and {
            # Only what is new: a reader must not think that something is taken twice.
            **_flags(upcoming.effects - content.effects),
            "at": words.instant(upcoming.at),
            "disputed": upcoming.disputed,
            "review": upcoming.stage is Stage.DECOMMISSION_REVIEW,
            "backups_open": _open_at(content.told, upcoming.at),
        },
        **_ahead(content.ahead, words),
    }


def _told(content: Content, words: Words) -> Mapping[str, object]:
    """Return what is so of single servers: of each kind the names, empty without any, and how many there are."""
    told, values = content.told, dict[str, object]()
    for kind in ("named", "stopped", "off", "later", "kept", "uncovered", "owing", "backups_open"):
        names = getattr(told, kind)
        values[kind] = words.names([_own(name) for name in names])
        values[f"how_many_{kind}"] = len(names)
    return values | {
        "later_at": told.later_at and words.instant(told.later_at),
        "all_backups_open": told.all_backups_open,
        "backups_open_until": told.backups_open_until and words.instant(told.backups_open_until),
        "has_servers": told.exist,
    }


def _works(content: Content) -> tuple[Phrase, ...]:
    return still_works(
        content.effects, servers=content.told.exist, backups_open=content.told.all_backups_open
    )


def _open_at(told: ServersTold, at: datetime) -> bool:
    """Return whether backups of all servers can still be made when they are locked."""
    return told.all_backups_open and (told.backups_open_until is None or told.backups_open_until > at)


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
        told=_each(at),
        effects=frozenset(Effect),
        next_stage=upcoming,
        ahead=Ahead(
            card=NamedCard(brand="visa", last4="4242", last_day=at.date()),
            runway=NamedRunway(until=at, ended=False, stopped_at=at, reviewed_at=at),
            reviewed_at=at,
        ),
        relief=Relief(why=ReliefReason.EXTENDED, until=at, returned=frozenset(Effect)),
    )
    least = Content(reader=reader, invoices=(invoice,), next_stage=NextStage(stage=Stage.RETAINED, at=at))
    disputed = replace(every, effects=frozenset(), next_stage=replace(upcoming, disputed=True))
    used_up = Content(reader=reader, ahead=Ahead(runway=NamedRunway(until=at, ended=True)))
    ended = Content(reader=reader, ended_server="web", effects=frozenset({Effect.STOP_SERVERS}))
    reasons = tuple(
        replace(one, relief=Relief(why=why, until=until))
        for one in (least, ended)
        for why in ReliefReason
        for until in (None, at)
    )
    single = replace(ended, told=replace(_each(at), all_backups_open=True))
    landlord = replace(every, told=ServersTold(exist=False), effects=frozenset({Effect.LOCK_ACCOUNT}))
    return every, least, disputed, used_up, ended, single, landlord, *reasons


def _each(at: datetime) -> ServersTold:
    return ServersTold(
        named=("web", "mail"),
        stopped=("web",),
        off=("mail",),
        later=("new",),
        later_at=at,
        kept=("shop",),
        uncovered=("blog",),
        owing=("files",),
        backups_open=("db",),
        backups_open_until=at,
    )
