"""The words of the notices, and what a customer's words cannot do to them."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from billing.notice_text import (
    Ahead,
    Content,
    NamedCard,
    NamedInvoice,
    NamedRunway,
    NextStage,
    Reader,
    Templates,
    TemplatesInvalid,
    plain,
    shipped,
)
from billing.rules.terms import Effect, Stage

ADA = Reader(name="Ada Lovelace", locale="en", time_zone="Europe/Berlin")
INVOICE = NamedInvoice(
    number="A-1", amount=123456, currency="EUR", due_on=date(2026, 11, 16), url="https://pay.example/1"
)
FINAL = NextStage(
    stage=Stage.SUSPENDED, at=datetime(2026, 11, 22, 8, 30, tzinfo=UTC), effects=frozenset(Effect)
)
TEMPLATES = (
    "before_due",
    "payment_overdue",
    "final_notice",
    "suspended",
    "retained",
    "final_warning",
    "restored",
    "invoice_issued",
    "funds_low",
    "card_expiring",
    "adjustment_issued",
)
SOON = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)
AHEAD = Ahead(
    card=NamedCard(brand="visa", last4="4242", last_day=date(2026, 11, 30)),
    runway=NamedRunway(until=SOON, ended=False, stopped_at=FINAL.at, reviewed_at=SOON),
    reviewed_at=SOON,
)
ENDED = Ahead(runway=NamedRunway(until=SOON, ended=True))


def test_it_ships_every_template_of_the_standard_policy():
    """One for each stage, one before and one after."""
    assert shipped().names == set(TEMPLATES)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("effects", [frozenset(), frozenset({Effect.LOCK_BACKUPS}), frozenset(Effect)])
@pytest.mark.parametrize("ended", [None, "web-1"])
@pytest.mark.parametrize("upcoming", [None, FINAL])
@pytest.mark.parametrize("ahead", [Ahead(), AHEAD, ENDED])
def test_it_reads_well_in_every_shape(template, effects, ended, upcoming, ahead):
    """A subject, no line too long, no two empty lines in a row, no trace of a template."""
    invoices = () if ended and template != "before_due" else (INVOICE, INVOICE)
    content = Content(
        reader=ADA,
        invoices=invoices,
        servers=("web-1",),
        ended_server=ended,
        effects=effects,
        next_stage=upcoming,
        ahead=ahead,
    )
    text = shipped().render(template, content)
    assert text.subject
    assert "\n" not in text.subject
    assert text.body.startswith("Hello Ada Lovelace,\n\n")
    assert "\n\n\n" not in text.body
    assert not [line for line in text.body.splitlines() if len(line) > 120 or line != line.rstrip()]
    assert not [sign for sign in ("{{", "{%", "None", "Undefined", "  ,") if sign in text.subject + text.body]


def test_it_says_from_when_on_removal_is_reviewed():
    """By people and not before a date; not twice where the review itself comes next."""
    told = "our staff decides whether your servers are removed, not before 1 December 2026"
    content = Content(reader=ADA, invoices=(INVOICE,), next_stage=FINAL, ahead=AHEAD)
    assert told in shipped().render("payment_overdue", content).body
    review = replace(FINAL, stage=Stage.DECOMMISSION_REVIEW)
    assert told not in shipped().render("retained", replace(content, next_stage=review)).body
    assert "decides" not in shipped().render("retained", replace(content, ahead=Ahead())).body


def test_it_tells_what_is_owed_what_holds_and_what_comes():
    """The whole of a final notice."""
    content = Content(
        reader=ADA, invoices=(INVOICE,), effects=frozenset({Effect.LOCK_BACKUPS}), next_stage=FINAL
    )
    text = shipped().render("final_notice", content)
    assert text.subject == "Final notice: €1,234.56 is overdue"
    assert text.body == (
        "Hello Ada Lovelace,\n"
        "\n"
        "We have written to you before.\n"
        "This invoice is overdue:\n"
        "\n"
        "  A-1: €1,234.56, due 16 November 2026\n"
        "    pay it here: https://pay.example/1\n"
        "\n"
        "Your backups are kept and protected. Until the matter is settled you can neither make nor delete any.\n"
        "Nothing is deleted.\n"
        "\n"
        "What comes next, not before Sunday, 22 November 2026, 09:30 (Europe/Berlin):\n"
        "  - your servers are stopped,\n"
        "  - changes to your account are closed; paying is not,\n"
        "  and we write to you then.\n"
        "\n"
        "As soon as the payment arrives, everything is as before: we give back by ourselves what we took.\n"
        "If you have paid already, thank you: this mail crossed your payment. If you cannot pay in time, answer us,"
        " and we look\nfor a way together.\n"
    )


@pytest.mark.parametrize(
    ("locale", "currency", "minor", "shown"),
    [
        ("de-DE", "EUR", 123456, "1.234,56 €"),
        ("en", "USD", 500, "US$5.00"),
        ("en-US", "USD", 500, "$5.00"),
        ("fr-CH", "CHF", 5, "0,05 CHF"),
        ("ja", "JPY", 5000, "5,000"),
        ("de", "KWD", 1234, "1,234 KWD"),
        ("xx-XX", "EUR", 500, "€5.00"),
        ("nonsense", "EUR", 500, "€5.00"),
    ],
)
def test_it_writes_amounts_as_the_reader_does(locale, currency, minor, shown):
    """Exact to the last digit of the currency, in any language that Babel knows, else as in Britain."""
    reader = Reader(name="Ada", locale=locale, time_zone="UTC")
    invoice = NamedInvoice(number="A-1", amount=minor, currency=currency, due_on=None)
    assert shown in shipped().render(
        "before_due", Content(reader=reader, invoices=(invoice,))
    ).subject.replace("\u202f", " ")


def test_it_adds_up_each_currency_on_its_own():
    """Two currencies are never one sum."""
    other = NamedInvoice(number="B-1", amount=100, currency="USD", due_on=None)
    text = shipped().render("payment_overdue", Content(reader=ADA, invoices=(INVOICE, other)))
    assert text.subject == "Payment overdue: €1,234.56 + US$1.00"


def test_it_words_a_notice_for_a_zone_that_it_does_not_know():
    """A wrong zone in an old row must not keep a customer from being told; instants are then UTC."""
    reader = Reader(name="Ada", locale="en", time_zone="Mars/Olympus_Mons")
    content = Content(reader=reader, invoices=(INVOICE,), next_stage=FINAL)
    assert "08:30 (UTC)" in shipped().render("final_notice", content).body


def test_it_names_the_local_day_of_an_invoice_without_a_due_date():
    """23:30 UTC is already tomorrow in Berlin."""
    late = NamedInvoice(
        number="A-2",
        amount=1,
        currency="EUR",
        due_on=None,
        overdue_at=datetime(2026, 11, 16, 23, 30, tzinfo=UTC),
    )
    body = shipped().render("payment_overdue", Content(reader=ADA, invoices=(late,))).body
    assert "due 17 November 2026" in body


HOSTILE = "{{ 7*7 }}{% raw %}\r\nBcc: thief@example.org\n\nYou owe nothing\x00\u202e{{ cycler.__init__ }}"


@pytest.mark.parametrize("template", TEMPLATES)
def test_it_leaves_a_customers_words_inert(template):
    """A name that looks like a template, a header or a paragraph of ours is shown on one line, and nothing more."""
    invoice = NamedInvoice(number=HOSTILE, amount=1, currency="EUR", due_on=None, url=HOSTILE)
    reader = Reader(name=HOSTILE, locale="en", time_zone="UTC")
    content = Content(reader=reader, invoices=(invoice,), servers=(HOSTILE,))
    text = shipped().render(template, content)
    shown = "{{ 7*7 }}{% raw %} Bcc: thief@example.org You owe nothing{{ cycler.__init__ }}"
    assert text.body.startswith(f"Hello {shown},\n")
    assert "49" not in text.body
    assert not [line for line in text.body.splitlines() if line.startswith(("Bcc", "You owe"))]
    assert text.subject.isprintable()


def test_it_keeps_letters_of_every_script():
    """Only what steers the display is dropped."""
    assert plain(" Zoë  Žižek\t日本 \u200b\u202eabc\u0007 ") == "Zoë Žižek 日本 abc"


def test_it_falls_back_to_english_template_by_template(tmp_path):
    """A language may have some of the templates."""
    for language, subject in (("en", "Pay"), ("de", "Zahlen")):
        (tmp_path / language).mkdir()
        (tmp_path / language / "payment_overdue.txt").write_text(f"Subject: {subject}\n{{{{ total }}}}\n")
    (tmp_path / "en" / "suspended.txt").write_text("Subject: Stopped\nx\n")
    templates = Templates(tmp_path)
    german = Content(reader=Reader(name="Ada", locale="de-AT", time_zone="UTC"), invoices=(INVOICE,))
    assert templates.render("payment_overdue", german).subject == "Zahlen"
    assert templates.render("suspended", german).subject == "Stopped"
    french = Content(reader=Reader(name="Ada", locale="fr", time_zone="UTC"), invoices=(INVOICE,))
    assert templates.render("payment_overdue", french).subject == "Pay"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Hello\n", r"bad\.txt, line 1: must be `Subject: `"),
        ("Subject: \nHello\n", r"bad\.txt, line 1"),
        ("Subject: x\n{% if %}\n", r"bad\.txt, line 2"),
        ("Subject: x\n{{ password }}\n", r"bad\.txt: 'password' is undefined"),
        ("Subject: x\n{{ next.sooner }}\n", r"bad\.txt: .*sooner"),
        ("Subject: x\n{{ ''.__class__.__mro__ }}\n", r"bad\.txt: .*unsafe"),
        ("Subject: x\n{% include 'en/_gone.txt' %}\n", r"bad\.txt: .*_gone"),
    ],
)
def test_it_refuses_a_broken_template_when_it_is_loaded(tmp_path, text, fault):
    """Long before a customer should get it, with the file and the fault."""
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "bad.txt").write_text(text)
    with pytest.raises(TemplatesInvalid, match=fault):
        Templates(tmp_path)


def test_it_says_which_templates_there_are():
    """A name without a file is refused with the names that have one."""
    with pytest.raises(TemplatesInvalid, match="payment_overdue"):
        shipped().render("invented", Content(reader=ADA))
