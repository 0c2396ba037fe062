"""The languages: complete, with the same values in each, and each reader's amounts, days and times."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from billing.rules.money import Money
from billing.rules.words import Phrase, counted, english, phrase
from billing.words import FOLDER, languages, words_of

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 11, 20, 13, tzinfo=UTC)
PLACEHOLDER = re.compile(r"%\((\w+)\)s|%(.)")
TRANSLATED = sorted(languages() - {"en"})


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Every sentence that is marked in the sources, as `make words` collects them."""
    file = tmp_path_factory.mktemp("words") / "found.pot"
    wanted = ["-q", "extract", "-F", "pyproject.toml", "-o", str(file), "api", "billing", "reconciler"]
    pybabel = [sys.executable, "-c", "from babel.messages.frontend import main; main()"]
    done = subprocess.run(
        [*pybabel, *wanted], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    with file.open("rb") as opened:
        return read_po(opened)


@cache
def catalog(language: str) -> Catalog:
    """What one language says."""
    with (FOLDER / language / "LC_MESSAGES" / "messages.po").open("rb") as opened:
        return read_po(opened, locale=language, abort_invalid=True)


def keys(found: Catalog) -> set[str]:
    """Return the English of every sentence."""
    return {text for text, _ in _pairs(found)}


def _pairs(found: Catalog) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every sentence with what is said for it, in each of its numbers."""
    for message in found:
        if message.id:
            one = message.id if isinstance(message.id, str) else message.id[0]
            said = (message.string,) if isinstance(message.string, str) else tuple(message.string or ())
            yield one, said


def values(text: str) -> set[str]:
    """Return the names of the values that a text shows; anything else behind a percent sign is a fault."""
    found = [(name, other) for name, other in PLACEHOLDER.findall(text)]
    assert all(name or other == "%" for name, other in found), text
    return {name for name, _ in found if name}


def test_german_is_shipped() -> None:
    """Beside the English of the texts themselves."""
    assert "de" in TRANSLATED


def test_every_sentence_is_collected(sentences: Catalog) -> None:
    """From the rules, from a template, from the API, and both of one that counts."""
    expected = {
        "Your account is suspended",
        "There is nothing to do; it opens again after the maintenance.",
        "Nothing is restricted.",
        "We keep your data for you.",
        "This invoice is overdue:",
    }
    assert expected <= keys(sentences)
    assert any(
        message.id == ("This invoice is overdue:", "These invoices are overdue:") for message in sentences
    )


def test_every_sentence_is_written_out_where_it_is_marked() -> None:
    """What is put together elsewhere would never be collected."""
    files = [file for package in ("api", "billing", "reconciler") for file in (ROOT / package).rglob("*.py")]
    marked, hidden = 0, []
    for file in files:
        text = file.read_text()
        if "phrase(" not in text and "counted(" not in text:
            continue
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                texts = {"phrase": call.args[:1], "counted": call.args[:2]}.get(call.func.id, [])
                marked += len(texts)
                written = all(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in texts)
                hidden += [] if written else [f"{file.relative_to(ROOT)}:{call.lineno}"]
    assert marked > 100
    assert hidden == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_nothing_is_left_untranslated(sentences: Catalog, language: str) -> None:
    """A sentence that is new has no translation yet, one that is gone needs none: `make words` says which."""
    said = dict(_pairs(catalog(language)))
    lacking = {text for text in keys(sentences) if not said.get(text) or not all(said[text])}
    assert not lacking, f"not said in {language}: {sorted(lacking)}; run `make words` and translate them"
    assert not said.keys() - keys(sentences), "run `make words`: some sentences are said no more"
    unsure = [message.id for message in catalog(language) if message.id and message.fuzzy]
    assert not unsure, "a person has to look at what is marked fuzzy"


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_language_shows_the_same_values(language: str) -> None:
    """None is left out, none is invented, and each number has its own words."""
    numbers = catalog(language).num_plurals
    for message in catalog(language):
        if not message.id:
            continue
        both = (message.id,) if isinstance(message.id, str) else message.id
        said = (message.string,) if isinstance(message.string, str) else message.string
        assert len(said) == (1 if isinstance(message.id, str) else numbers), message.id
        for text in said:
            # What counts one thing may leave the number out, in any language.
            assert values(text) | {"number"} == values(both[-1]) | {"number"}, text
            assert (text[-1] in ".:,?") is (both[0][-1] in ".:,?"), text
            assert text.strip() == text


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_compiled_catalog_is_that_of_its_source(language: str) -> None:
    """What customers read is what translators wrote: `make words` compiles it."""
    compiled = BytesIO()
    write_mo(compiled, catalog(language))
    assert (FOLDER / language / "LC_MESSAGES" / "messages.mo").read_bytes() == compiled.getvalue()


def test_german_addresses_nobody_by_their_first_name() -> None:
    """Formal, and with the typography of the language."""
    for text, said in _pairs(catalog("de")):
        whole = " ".join(said)
        assert not re.search(r"\b([Dd]u|[Dd]ein\w*|[Dd]ir|[Dd]ich)\b", whole), whole
        assert not re.search(r"\.\.\.|\"|'|\s[.,:;?]| - ", whole), whole
        assert whole != text, whole


GERMAN = "Ihr Guthaben und Ihre Gutscheine, zusammen {}, bezahlen Ihre Server bis zum {}."
ENGLISH = "Your balance and vouchers, {}, pay for your servers until {}."


@pytest.mark.parametrize(
    ("locale", "zone", "text", "amount", "instant"),
    [
        ("de", "Europe/Berlin", GERMAN, "12.345,60 €", "20. November 2026, 14:00 Uhr MEZ"),
        ("de-AT", "Europe/Vienna", GERMAN, "€ 12.345,60", "20. November 2026, 14:00 Uhr MEZ"),
        ("de_CH", "Asia/Kolkata", GERMAN, "EUR 12’345.60", "20. November 2026, 18:30 Uhr GMT+05:30"),
        ("en", "Europe/Berlin", ENGLISH, "€12,345.60", "20 November 2026, 14:00 CET"),
        ("en-US", "America/New_York", ENGLISH, "€12,345.60", "November 20, 2026, 8:00 AM EST"),
        # Another language reads English, with its own amounts.
        ("fo-FO", "UTC", ENGLISH, "12.345,60 €", "20 November 2026, 13:00 UTC"),
        ("xx", "Mars/Olympus_Mons", ENGLISH, "€12,345.60", "20 November 2026, 13:00 UTC"),
        ("", "", ENGLISH, "€12,345.60", "20 November 2026, 13:00 UTC"),
        ("../../etc", "../../etc", ENGLISH, "€12,345.60", "20 November 2026, 13:00 UTC"),
    ],
)
def test_it_writes_amounts_and_instants_as_the_reader_does(
    locale: str, zone: str, text: str, amount: str, instant: str
) -> None:
    """In the reader's language and zone; what is unknown is British and UTC."""
    told = phrase(
        "Your balance and vouchers, %(money)s, pay for your servers until %(until)s.",
        money=Money(1234560, "EUR"),
        until=NOON,
    )
    assert words_of(locale, zone).say(told) == text.format(amount, instant)


def test_it_knows_summer() -> None:
    """The zone's name follows the season of the day that is named."""
    summer = NOON - timedelta(days=120)
    assert words_of("de", "Europe/Berlin").say(phrase("Overdue since %(since)s.", since=summer)) == (
        "Überfällig seit dem 23. Juli 2026, 15:00 Uhr MESZ."
    )


@pytest.mark.parametrize(
    ("hours", "german", "plain"),
    [
        (1, "1 Stunde", "1 h"),
        (72, "72 Stunden", "72 h"),
        (1.5, "1,5 Stunden", "1.5 h"),
        (168, "7 Tage", "7 days"),
        (5 / 6, "50 Minuten", "50 min"),
        (1 / 72, "50 Sekunden", "50 s"),
        (0.5 / 3600, "0,5 Sekunden", "0.5 s"),
    ],
)
def test_it_says_how_long(hours: float, german: str, plain: str) -> None:
    """Hours up to a week, days from then on; what is shorter as people say it, as in a demo's ladder."""
    told = Phrase(text="%(span)s", values={"span": timedelta(hours=hours)})
    assert (words_of("de", "UTC").say(told), english(told)) == (german, plain)


def test_it_names_the_local_day() -> None:
    """Half past eleven in the evening is tomorrow further east; a day without a time is the same everywhere."""
    late = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    assert words_of("de-AT", "Europe/Vienna").day(late).replace("\xa0", " ") == "1. Jänner 2027"
    assert words_of("en", "Asia/Tokyo").day(date(2026, 12, 31)).replace("\xa0", " ") == "31 December 2026"


@pytest.mark.parametrize(
    ("locale", "number", "said"),
    [
        ("en", 1, "The subscription of one of your servers has ended."),
        ("en", 2, "The subscriptions of 2 of your servers have ended."),
        ("de", 1, "Das Abonnement für einen Ihrer Server ist beendet."),
        ("de", 2, "Die Abonnements für 2 Ihrer Server sind beendet."),
        ("de", 0, "Die Abonnements für 0 Ihrer Server sind beendet."),
    ],
)
def test_it_counts(locale: str, number: int, said: str) -> None:
    """One thing is told in other words than several."""
    told = counted(
        "The subscription of one of your servers has ended.",
        "The subscriptions of %(number)s of your servers have ended.",
        number,
    )
    assert words_of(locale, "UTC").say(told) == said


def test_a_value_is_never_read_as_words_of_ours() -> None:
    """What a customer typed is shown and neither translated nor filled in."""
    hostile = "%(since)s {0} {{ 7*7 }} Nothing is overdue."
    told = Phrase(text="Invoice %(id)s", values={"id": hostile})
    assert words_of("de", "UTC").say(told) == f"Rechnung {hostile}"
    assert english(told) == f"Invoice {hostile}"


def test_staff_reads_plain_english() -> None:
    """Instants in UTC and amounts with their code, as everywhere in what staff reads."""
    told = phrase("%(a)s %(b)s %(c)s %(d)s", a=NOON, b=NOON.date(), c=Money(1250, "EUR"), d=3)
    assert english(told) == "2026-11-20 13:00 UTC 2026-11-20 12.50 EUR 3"
    assert english(counted("one", "%(number)s things", 3)) == "3 things"


def test_a_sentence_may_stand_within_another() -> None:
    """Each in the reader's language."""
    inner = phrase("Cards are charged in steps of %(step)s.", step=Money(10, "KWD"))
    outer = Phrase(text="It was told: %(why)s", values={"why": inner})
    assert (
        words_of("de", "UTC").say(outer) == "It was told: Karten werden in Schritten von 0,010 KWD belastet."
    )
    assert english(outer) == "It was told: Cards are charged in steps of 0.010 KWD."
