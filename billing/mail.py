"""Mail to customers: the letter as it travels, and the one way out, SMTP.

Owns the message's headers and the meaning of a server's answer. Knows no table and decides nothing about notices.
"""

import asyncio
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib

#: How long one server may take for one letter, all steps together.
PATIENCE_SECONDS = 30.0
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#: A dot-atom at a host name (https://www.rfc-editor.org/rfc/rfc5322#section-3.4.1). What reads like an encoded word is
#: left out: headers decode it.
_ADDRESS = re.compile(rf"(?!.*=\?){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*")
#: https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.1.3, which counts the brackets around it.
_LONGEST_ADDRESS = 254


class MailRefusedError(Exception):
    """The server will never take this letter for any of its addresses; sending it again is useless."""


class MailDelayedError(Exception):
    """The letter was not taken now; it may be later."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One message to the addresses of one account. `key` is the same for every attempt, and only for these."""

    key: str
    to: tuple[str, ...]
    subject: str
    body: str
    at: datetime


class Mailer(Protocol):
    """A way out for letters."""

    async def send(self, letter: Letter) -> tuple[str, ...]:
        """Hand a letter to the first hop; return the addresses that it accepted, at least one.

        Raises `MailRefusedError` or `MailDelayedError` when it accepted none.
        """
        ...


class _Secret(Protocol):
    def get_secret_value(self) -> str: ...


class MailSettings(Protocol):
    """The settings that mail needs."""

    @property
    def smtp_url(self) -> _Secret | None:
        """`smtp://`, `smtps://` or `smtp+starttls://`, with user and password where the server asks for them."""
        ...

    @property
    def mail_from(self) -> str | None:
        """The sender, such as `Billing <billing@hoster.example>`."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Server:
    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool
    starttls: bool


class SmtpMailer:
    """Sends letters through one SMTP server, a connection each.

    `tls` replaces the machine's trusted certificates. Raises `ValueError` for a URL or sender that cannot be used.
    """

    def __init__(
        self, url: str, sender: str, *, patience: float = PATIENCE_SECONDS, tls: ssl.SSLContext | None = None
    ) -> None:
        self._server = _server(url)
        name, address = parseaddr(sender)
        if not can_be_used(address) or not sender.isprintable():
            raise ValueError("the sender is not an address such as Billing <billing@hoster.example>")
        self._sender = Address(display_name=name, addr_spec=address)
        self._patience = patience
        self._tls = tls

    @classmethod
    def of(cls, settings: MailSettings) -> "SmtpMailer | None":
        """Return the mailer that the settings name; null when mail is not set up."""
        if settings.smtp_url is None or settings.mail_from is None:
            return None
        return cls(settings.smtp_url.get_secret_value(), settings.mail_from)

    async def greet(self) -> str:
        """Connect and log in as for a letter, send none, and return the server's name; raise `MailDelayedError`."""
        client = aiosmtplib.SMTP(**self._connection())
        try:
            async with asyncio.timeout(self._patience), client:
                await client.noop()
        except TimeoutError as error:
            raise self._silent() from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise self._unusable(error) from error
        return f"{self._server.host}:{self._server.port}"

    async def send(self, letter: Letter) -> tuple[str, ...]:
        """Hand a letter to the server: see `Mailer.send`."""
        to = usable(letter.to)
        if not to:
            raise MailRefusedError("none of the addresses is one that mail can be sent to")
        message = self._message(letter, to)
        try:
            async with asyncio.timeout(self._patience):
                refused, _ = await aiosmtplib.send(
                    message,
                    sender=self._sender.addr_spec,
                    recipients=to,
                    **self._connection(),
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refusal([(one.recipient, one.code, one.message) for one in error.recipients]) from error
        except aiosmtplib.SMTPDataError as error:
            raise _refusal([("the letter", error.code, error.message)]) from error
        except TimeoutError as error:
            raise self._silent() from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise self._unusable(error) from error
        return tuple(address for address in to if address not in refused)

    def _connection(self) -> dict[str, Any]:
        server = self._server
        return {
            "hostname": server.host,
            "port": server.port,
            "username": server.user,
            "password": server.password,
            "use_tls": server.tls,
            "start_tls": server.starttls,
            "tls_context": self._tls,
            "timeout": self._patience,
        }

    def _silent(self) -> MailDelayedError:
        return MailDelayedError(f"{self._server.host} did not answer within {self._patience:g} seconds")

    def _unusable(self, error: Exception) -> MailDelayedError:
        return MailDelayedError(f"{self._server.host}: {_one_line(str(error)) or type(error).__name__}")

    def _message(self, letter: Letter, to: Iterable[str]) -> EmailMessage:
        try:
            message = self._written(letter, to)
            message.as_bytes(policy=SMTP)
        except (ValueError, LookupError, MessageError) as error:
            # It is the same at every attempt, so waiting would only hide it.
            raise MailRefusedError(f"the letter cannot be written: {_one_line(str(error))}") from error
        return message

    def _written(self, letter: Letter, to: Iterable[str]) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = [Address(addr_spec=address) for address in to]
        message["Subject"] = _one_line(letter.subject)
        message["Date"] = format_datetime(letter.at)
        # The same for every attempt, so that a copy sent twice is recognised as one.
        message["Message-ID"] = f"<{letter.key}@{self._sender.domain}>"
        # Keeps holiday replies away: https://www.rfc-editor.org/rfc/rfc3834#section-5
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.body, subtype="plain", charset="utf-8", cte="quoted-printable")
        return message


def can_be_used(address: str) -> bool:
    """Return whether a letter can carry this address at all; one that it cannot would spoil it for all the others.

    Outside ASCII nothing can: not every server takes such a letter. A domain has its `xn--` form for that.
    """
    return len(address) <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(address) is not None


def usable(addresses: Iterable[str]) -> list[str]:
    """Return the addresses that a letter can be sent to, each once, in order."""
    found = dict.fromkeys(address.strip() for address in addresses)
    return [address for address in found if can_be_used(address)]


def _refusal(answers: list[tuple[str, int, str]]) -> MailRefusedError | MailDelayedError:
    said = "; ".join(f"{who}: {code} {_one_line(message)}" for who, code, message in answers)
    # 5xx is final for this letter, 4xx is not: https://www.rfc-editor.org/rfc/rfc5321#section-4.2.1
    final = all(500 <= code < 600 for _, code, _ in answers)
    return MailRefusedError(said) if final else MailDelayedError(said)


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _server(url: str) -> _Server:
    parts = urlsplit(url)
    ports = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
    if parts.scheme not in ports or not parts.hostname:
        raise ValueError("the mail server is not an smtp, smtps or smtp+starttls URL")
    if parts.scheme == "smtp" and parts.password and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise ValueError("a password over smtp would travel in clear: use smtps or smtp+starttls")
    return _Server(
        host=parts.hostname,
        port=parts.port or ports[parts.scheme],
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme == "smtps",
        starttls=parts.scheme == "smtp+starttls",
    )
