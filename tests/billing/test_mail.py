"""Letters, handed to a real SMTP server."""

import asyncio
import ssl
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from billing.mail import Letter, MailDelayedError, MailRefusedError, SmtpMailer, usable

SENDER = "Billing of Höster <billing@hoster.example>"
LETTER = Letter(
    key="notice-7-abc",
    to=("ada@example.org", "office@example.org"),
    subject="Überfällig: 5,00 €",
    body="Grüß Gott,\n\nbitte zahlen.\n.\nEin einzelner Punkt oben.\n" + "x" * 2000 + "\n",
    at=datetime(2026, 11, 20, 9, tzinfo=UTC),
)


def _letter(**given: object) -> Letter:
    return Letter(**({name: getattr(LETTER, name) for name in LETTER.__dataclass_fields__} | given))


async def test_it_hands_over_a_whole_letter(postbox):
    """Headers, umlauts, a lone dot and very long lines arrive as they were."""
    assert await SmtpMailer(postbox.url, SENDER).send(LETTER) == LETTER.to
    [letter] = postbox.letters
    assert letter["From"] == "Billing of Höster <billing@hoster.example>"
    assert letter["To"] == "ada@example.org, office@example.org"
    assert letter["Subject"] == "Überfällig: 5,00 €"
    assert letter["Date"].datetime == LETTER.at
    assert letter["Message-ID"] == "<notice-7-abc@hoster.example>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter.get_content_type() == "text/plain"
    assert letter.get_content().replace("\r\n", "\n") == LETTER.body
    assert postbox.envelopes[0].mail_from == "billing@hoster.example"


async def test_it_is_delivered_when_one_address_accepts(postbox):
    """The answer names the addresses that took it."""
    postbox.replies["ada@example.org"] = "550 no such person"
    assert await SmtpMailer(postbox.url, SENDER).send(LETTER) == ("office@example.org",)
    assert postbox.envelopes[0].rcpt_tos == ["office@example.org"]


async def test_it_is_refused_when_every_address_is_for_ever(postbox):
    """The answers of the server are the reason."""
    postbox.replies |= dict.fromkeys(LETTER.to, "550 no such person")
    with pytest.raises(
        MailRefusedError, match=r"ada@example\.org: 550 no such person; office@example\.org: 550"
    ):
        await SmtpMailer(postbox.url, SENDER).send(LETTER)
    assert postbox.letters == []


async def test_it_is_delayed_when_one_address_may_accept_later(postbox):
    """One 4xx among 5xx is worth another attempt."""
    postbox.replies |= {"ada@example.org": "550 no such person", "office@example.org": "451 greylisted"}
    with pytest.raises(MailDelayedError, match="451 greylisted"):
        await SmtpMailer(postbox.url, SENDER).send(LETTER)


@pytest.mark.parametrize(("reply", "error"), [("554 spam", MailRefusedError), ("452 full", MailDelayedError)])
async def test_it_reads_the_answer_to_the_letter_itself(postbox, reply, error):
    """A server may accept the addresses and still not the letter."""
    postbox.data_reply = reply
    with pytest.raises(error, match=reply):
        await SmtpMailer(postbox.url, SENDER).send(LETTER)


async def test_it_is_delayed_by_a_server_that_hangs(postbox):
    """The wait has an end."""
    postbox.hangs = True
    async with asyncio.timeout(60):
        with pytest.raises(MailDelayedError, match=r"did not answer within 0\.3 seconds"):
            await SmtpMailer(postbox.url, SENDER, patience=0.3).send(LETTER)


async def test_it_is_delayed_when_nothing_listens():
    """A server that is down says nothing about the address."""
    with pytest.raises(MailDelayedError, match=r"127\.0\.0\.1"):
        await SmtpMailer("smtp://127.0.0.1:1", SENDER).send(LETTER)


async def test_it_is_delayed_when_the_server_cannot_encrypt(postbox):
    """With starttls nothing is sent in clear, and the password stays out of the message."""
    url = postbox.url.replace("smtp://", "smtp+starttls://user:hunter2@")
    with pytest.raises(MailDelayedError) as caught:
        await SmtpMailer(url, SENDER).send(LETTER)
    assert "hunter2" not in str(caught.value)
    assert postbox.letters == []


async def test_it_logs_in_after_starttls(strict_postbox, certificate):
    """The password travels encrypted, percent-decoded, and a wrong one is worth another attempt."""
    trusted = ssl.create_default_context(cafile=str(certificate))
    url = f"smtp+starttls://abeyance:{{}}@127.0.0.1:{strict_postbox.port}"
    await SmtpMailer(url.format("%68unter2"), SENDER, tls=trusted).send(LETTER)
    assert len(strict_postbox.letters) == 1
    with pytest.raises(MailDelayedError) as caught:
        await SmtpMailer(url.format("hunter3"), SENDER, tls=trusted).send(LETTER)
    assert "hunter3" not in str(caught.value)
    assert len(strict_postbox.letters) == 1


async def test_it_speaks_tls_from_the_first_byte(tls_postbox, certificate):
    """`smtps` works with a trusted certificate, and with no other."""
    url = f"smtps://127.0.0.1:{tls_postbox.port}"
    with pytest.raises(MailDelayedError, match="certificate"):
        await SmtpMailer(url, SENDER).send(LETTER)
    assert tls_postbox.letters == []
    await SmtpMailer(url, SENDER, tls=ssl.create_default_context(cafile=str(certificate))).send(LETTER)
    assert len(tls_postbox.letters) == 1


@pytest.mark.parametrize(
    "subject",
    ["Hello\r\nBcc: thief@example.org", "Hello\nBcc: thief@example.org", "Hello\x00\x85\u2028Bcc: x"],
)
async def test_it_lets_no_header_be_injected_by_a_subject(postbox, subject):
    """Line breaks of every kind become blanks."""
    await SmtpMailer(postbox.url, SENDER).send(_letter(subject=subject))
    [letter] = postbox.letters
    assert letter["Bcc"] is None
    assert letter["Subject"].startswith("Hello Bcc: ")


async def test_it_lets_no_recipient_be_injected_by_an_address(postbox):
    """What is not exactly one address gets nothing."""
    to = (
        "ada@example.org\r\nBcc: thief@example.org",
        "a@b.example, thief@example.org",
        "ada@example.org",
        "x",
    )
    assert await SmtpMailer(postbox.url, SENDER).send(_letter(to=to)) == ("ada@example.org",)
    assert postbox.envelopes[0].rcpt_tos == ["ada@example.org"]
    assert "thief" not in str(postbox.letters[0]["To"])
    with pytest.raises(MailRefusedError):
        await SmtpMailer(postbox.url, SENDER).send(_letter(to=to[:2]))


BROKEN = (
    "a..b@x.example",
    ".a@x.example",
    "ü@x.example",
    "=?utf-8?q?a?=@x.example",
    "a@x..example",
    "a@-x.example",
)


@pytest.mark.parametrize("broken", BROKEN)
async def test_it_lets_no_broken_address_spoil_the_others(postbox, broken):
    """One that no letter can carry is left out; alone it is refused at once, not put off."""
    assert await SmtpMailer(postbox.url, SENDER).send(_letter(to=("ada@example.org", broken))) == (
        "ada@example.org",
    )
    assert postbox.envelopes[0].rcpt_tos == ["ada@example.org"]
    with pytest.raises(MailRefusedError):
        await SmtpMailer(postbox.url, SENDER).send(_letter(to=(broken,)))


async def test_it_refuses_a_letter_that_cannot_be_written(postbox):
    """It would be the same at every attempt, so a person has to see it now."""
    with pytest.raises(MailRefusedError, match="cannot be written"):
        await SmtpMailer(postbox.url, SENDER).send(_letter(body="half a character: \ud800"))
    assert postbox.envelopes == []


_CHARACTERS = st.sampled_from(
    [*"abZ09.@-_+'=?!#%{|}~/`^&*$\"\\()<>[]:;, \t\n", "ü", "\u200b", "=?utf-8?q?a?="]
)


@given(st.lists(_CHARACTERS, max_size=12).map("".join), st.lists(_CHARACTERS, max_size=6).map("".join))
def test_it_can_write_a_letter_to_every_address_that_it_uses(local, domain):
    """Whatever passes is in the header exactly as it was given, alone."""
    for address in usable([f"{local}@{domain}", f"{local}@x.example", f"a@{domain}", local]):
        message = EmailMessage(policy=SMTP)
        message["To"] = [Address(addr_spec=address)]
        assert message.as_bytes().split() == [b"To:", address.encode("ascii")]
        assert [one.addr_spec for one in message["To"].addresses] == [address]
        assert not message["To"].defects


@pytest.mark.parametrize(
    "address",
    ["o'neil+tag=1@sub.example.org", "a@xn--mller-kva.example", "root@localhost", "a_b-c@1and1.example"],
)
def test_it_uses_what_is_rare_and_right(address):
    """Being careful costs nobody a letter."""
    assert usable([address]) == [address]


def test_it_uses_each_address_once():
    """Blanks around an address and repetitions do not matter."""
    assert usable([" a@b.example", "a@b.example", "", "nobody", "c@d.example"]) == [
        "a@b.example",
        "c@d.example",
    ]


@pytest.mark.parametrize(
    ("url", "sender", "fault"),
    [
        ("http://mail.example", SENDER, "not an smtp"),
        ("smtp://", SENDER, "not an smtp"),
        ("smtp://user:hunter2@mail.example", SENDER, "in clear"),
        ("smtp://mail.example", "nobody", "not an address"),
        ("smtp://mail.example", "A <a@b.example\r\nBcc: x@y.example>", "not an address"),
    ],
)
def test_it_refuses_settings_that_cannot_work(url, sender, fault):
    """The fault is named, the password is not."""
    with pytest.raises(ValueError, match=fault) as caught:
        SmtpMailer(url, sender)
    assert "hunter2" not in str(caught.value)


def test_it_is_absent_when_mail_is_not_set_up():
    """No URL, no mailer."""
    assert SmtpMailer.of(SimpleNamespace(smtp_url=None, mail_from=None)) is None
    assert (
        SmtpMailer.of(SimpleNamespace(smtp_url=SecretStr("smtp://127.0.0.1"), mail_from=SENDER)) is not None
    )
