"""The words of the notices, and what a customer's words cannot do to them."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import product

import pytest

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
from billing.notice_text import FOLDER, Templates, TemplatesInvalid, plain, shipped
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
    "given_back",
    "server_given_back",
    "invoice_issued",
    "funds_low",
    "card_expiring",
    "adjustment_issued",
)
EACH = ServersTold(
    named=("web-1", "mail"),
    stopped=("web-1",),
    off=("mail",),
    later=("new",),
    later_at=FINAL.at,
    kept=("shop", "shop-2"),
    uncovered=("blog",),
    owing=("files",),
    backups_open=("db",),
    backups_open_until=FINAL.at,
)
HELLO = {"en": "Hello", "de-AT": "Guten Tag"}
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
@pytest.mark.parametrize("locale", HELLO)
def test_it_reads_well_in_every_shape(template, effects, ended, upcoming, ahead, locale):
    """A subject, no line too long, no two empty lines in a row, no trace of a template."""
    invoices = () if ended and template != "before_due" else (INVOICE, INVOICE)
    content = Content(
        reader=replace(ADA, locale=locale),
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
    assert text.body.startswith(f"{HELLO[locale]} Ada Lovelace,\n\n")
    assert "\n\n\n" not in text.body
    assert not [line for line in text.body.splitlines() if len(line) > 76 or line != line.rstrip()]
    assert not [
        sign
        for sign in ("{{", "{%", "None", "Undefined", "  ,", "%", "\xa0", "\u202f")
        if sign in text.subject + text.body
    ]


@pytest.mark.parametrize("template", ["suspended", "given_back", "server_given_back", "restored"])
@pytest.mark.parametrize("told", [EACH, replace(EACH, all_backups_open=True), ServersTold(exist=False)])
@pytest.mark.parametrize("ended", [None, "web-1"])
@pytest.mark.parametrize("locale", HELLO)
def test_it_reads_well_whatever_becomes_of_servers(template, told, ended, locale):
    """The same of every fate of a server, and of every reason for which something comes back."""
    content = Content(
        reader=replace(ADA, locale=locale),
        invoices=() if ended else (INVOICE,),
        servers=() if ended else ("web-1",),
        told=told,
        ended_server=ended,
        effects=frozenset(Effect),
        next_stage=FINAL,
    )
    for why, until in product(ReliefReason, (None, SOON)):
        relief = Relief(why=why, until=until, returned=frozenset(Effect))
        text = shipped().render(template, replace(content, relief=relief))
        whole = text.subject + "\n" + text.body
        assert "\n\n\n" not in text.body
        assert not [line for line in text.body.splitlines() if len(line) > 76 or line != line.rstrip()]
        assert not [sign for sign in ("{{", "{%", "None", "Undefined", "  ,", "%", "\xa0") if sign in whole]


def test_it_says_from_when_on_removal_is_reviewed():
    """By people and not before a date; not twice where the review itself comes next."""
    told = "our staff decides whether your servers are removed, not\nbefore 1 December 2026"
    content = Content(reader=ADA, invoices=(INVOICE,), next_stage=FINAL, ahead=AHEAD)
    assert told in shipped().render("payment_overdue", content).body
    review = replace(FINAL, stage=Stage.DECOMMISSION_REVIEW)
    assert told not in shipped().render("retained", replace(content, next_stage=review)).body
    assert "decides" not in shipped().render("retained", replace(content, ahead=Ahead())).body


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.txt")), ids=lambda file: file.stem)
def test_it_says_nothing_that_no_language_can_translate(file):
    """All words of a template are in sentences that the catalogs know."""
    bare = re.sub(r"{%.*?%}|{{.*?}}", "", file.read_text(), flags=re.DOTALL)
    assert not re.search(r"[^\W\d_]", bare.replace("Subject: ", "")), bare


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
        "This is our last notice before your servers are stopped.\n"
        "\n"
        "This invoice is overdue:\n"
        "\n"
        "  A-1: €1,234.56, due 16 November 2026\n"
        "    Pay it here: https://pay.example/1\n"
        "\n"
        "Your backups are kept safe; until this is settled you cannot make, restore,\n"
        "export or delete any.\n"
        "Nothing is deleted.\n"
        "\n"
        "What goes on working:\n"
        "  - Paying, cards, vouchers and topping up\n"
        "  - Reading and downloading your files\n"
        "  - Your running servers keep running\n"
        "  - Your backups are kept\n"
        "  - Changing your account and your servers' files\n"
        "\n"
        "If this is not settled, this comes next, not before\n"
        "22 November 2026, 09:30 CET:\n"
        "  - Your servers will be stopped.\n"
        "  - Changes to your account, your servers and their files will be closed.\n"
        "    Paying stays open.\n"
        "We write to you when it happens.\n"
        "\n"
        "As soon as the payment arrives, everything comes back by itself; there is\n"
        "nothing else for you to do.\n"
        "\n"
        "If you have paid already, thank you: this mail and your payment have\n"
        "crossed. If you cannot pay in time, answer this mail, and we look for a way\n"
        "together.\n"
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


@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "Server s0 stays restricted for another"), (2, "Servers s0, s1 stay restricted for another")],
)
def test_it_counts_what_others_keep(number, said):
    """In the good news, and wherever something is said to come back."""
    told = ServersTold(kept=tuple(f"s{each}" for each in range(number)))
    content = Content(reader=ADA, invoices=(INVOICE,), told=told, effects=frozenset(Effect))
    for template in ("suspended", "given_back", "restored"):
        assert said in " ".join(shipped().render(template, content).body.split()), template


def test_it_adds_up_each_currency_on_its_own():
    """Two currencies are never one sum."""
    other = NamedInvoice(number="B-1", amount=100, currency="USD", due_on=None)
    text = shipped().render("payment_overdue", Content(reader=ADA, invoices=(INVOICE, other)))
    assert text.subject == "Payment overdue: €1,234.56 + US$1.00"


def test_it_words_a_notice_for_a_zone_that_it_does_not_know():
    """A wrong zone in an old row must not keep a customer from being told; instants are then UTC."""
    reader = Reader(name="Ada", locale="en", time_zone="Mars/Olympus_Mons")
    content = Content(reader=reader, invoices=(INVOICE,), next_stage=FINAL)
    assert "08:30 UTC" in shipped().render("final_notice", content).body


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


HOSTILE = (
    "%(total)s %s {name} {{ 7*7 }}{% raw %}\r\nBcc: thief@example.org\n\n"
    "You owe nothing\x00\u202e{{ cycler.__init__ }}"
)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("locale", HELLO)
def test_it_leaves_a_customers_words_inert(template, locale):
    """A name that looks like a template, a header or a paragraph of ours is shown on one line, and nothing more."""
    invoice = NamedInvoice(number=f"A-1 {HOSTILE}", amount=1, currency="EUR", due_on=None, url=HOSTILE)
    reader = Reader(name=HOSTILE, locale=locale, time_zone="UTC")
    content = Content(reader=reader, invoices=(invoice,), servers=(HOSTILE, "web"))
    text = shipped().render(template, content)
    shown = (
        "%(total)s %s {name} {{ 7*7 }}{% raw %} Bcc: thief@example.org You owe nothing{{ cycler.__init__ }}"
    )
    assert " ".join(text.body.split()).startswith(f"{HELLO[locale]} {shown}, ")
    assert "49" not in text.body
    words = ("%(total)s", "Bcc", "You owe", "nothing{{")
    assert not [line for line in text.body.splitlines() if line.lstrip().startswith(words)]
    assert text.subject.isprintable()


def test_it_keeps_letters_of_every_script():
    """Only what steers the display is dropped."""
    assert plain(" Zoë  Žižek\t日本 \u200b\u202eabc\u0007 ") == "Zoë Žižek 日本 abc"


def test_it_says_what_one_language_lacks_in_english(tmp_path):
    """A sentence without a translation is better read in English than not at all; another language reads English."""
    (tmp_path / "odd.txt").write_text(
        'Subject: {{ _("Nothing is deleted.") }}\n{{ _("Nobody has translated this.") }}\n'
    )
    templates = Templates(tmp_path)
    for locale, subject in (
        ("de-AT", "Nichts wird gelöscht."),
        ("fo", "Nothing is deleted."),
        ("?", "Nothing is deleted."),
    ):
        text = templates.render("odd", Content(reader=replace(ADA, locale=locale)))
        assert (text.subject, text.body) == (subject, "Nobody has translated this.\n")


def test_it_speaks_german():
    """The whole of a notice about an ended subscription, with the reader's dates."""
    content = Content(
        reader=replace(ADA, locale="de-AT"),
        ended_server="db-1",
        effects=frozenset({Effect.LOCK_BACKUPS}),
        next_stage=replace(FINAL, effects=frozenset({Effect.LOCK_BACKUPS, Effect.STOP_SERVERS})),
    )
    text = shipped().render("final_notice", content)
    assert text.subject == "Letzte Erinnerung zu db-1: Das Abonnement ist beendet"
    assert text.body == (
        "Guten Tag Ada Lovelace,\n"
        "\n"
        "Dies ist unsere letzte Erinnerung, bevor der Server angehalten wird.\n"
        "\n"
        "Das Abonnement, das Ihren Server db-1 bezahlt hat, ist beendet.\n"
        "\n"
        "Seine Backups bleiben sicher erhalten; bis die Sache erledigt ist, können\n"
        "Sie keine anlegen, wiederherstellen, exportieren oder löschen.\n"
        "Nichts wird gelöscht.\n"
        "\n"
        "Ihr Konto und Ihre anderen Server betrifft das nicht.\n"
        "\n"
        "Wenn die Sache offen bleibt, folgt als Nächstes, nicht vor dem\n"
        "22. November 2026, 09:30 Uhr MEZ:\n"
        "  - Der Server wird angehalten.\n"
        "Wir schreiben Ihnen, wenn es so weit ist.\n"
        "\n"
        "Sobald der Server wieder ein Abonnement hat, kommt alles von selbst zurück;\n"
        "mehr müssen Sie nicht tun.\n"
        "Wenn Sie den Server nicht mehr brauchen, sichern Sie, was Sie behalten\n"
        "möchten, und löschen Sie ihn in Ihrem Konto.\n"
        "\n"
        "Haben Sie Fragen? Antworten Sie einfach auf diese E-Mail.\n"
    )


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "This server is stopped: s0."),
        (3, "These servers are stopped: s0, s1, s2."),
        (21, "s19 and 1 more."),
        (5000, "s19 and 4980 more."),
    ],
)
def test_it_counts_servers_and_names_the_first(number, said):
    """One, a few, and more than anybody wants to read in a mail."""
    servers = tuple(f"s{each}" for each in range(number))
    told = ServersTold(stopped=servers)
    content = Content(reader=ADA, invoices=(INVOICE,), told=told, effects=frozenset(Effect))
    assert said in " ".join(shipped().render("suspended", content).body.split())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Hello\n", r"bad\.txt, line 1: must be `Subject: `"),
        ("Subject: \nHello\n", r"bad\.txt, line 1"),
        ("Subject: x\n{% if %}\n", r"bad\.txt, line 2"),
        ("Subject: x\n{{ password }}\n", r"bad\.txt: 'password' is undefined"),
        ("Subject: x\n{{ next.sooner }}\n", r"bad\.txt: .*sooner"),
        ('Subject: x\n{{ _("from %(whom)s", who=name) }}\n', r"bad\.txt: .*whom"),
        ("Subject: x\n{{ ''.__class__.__mro__ }}\n", r"bad\.txt: .*unsafe"),
        ("Subject: x\n{% include '_gone.txt' %}\n", r"bad\.txt: .*_gone"),
    ],
)
def test_it_refuses_a_broken_template_when_it_is_loaded(tmp_path, text, fault):
    """Long before a customer should get it, with the file and the fault."""
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(TemplatesInvalid, match=fault):
        Templates(tmp_path)


def test_it_says_which_templates_there_are():
    """A name without a file is refused with the names that have one."""
    with pytest.raises(TemplatesInvalid, match="payment_overdue"):
        shipped().render("invented", Content(reader=ADA))
