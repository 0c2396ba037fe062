"""The demo's mail server: a real SMTP server on a free port that keeps what it is sent.

Owns the letters that arrived. It sends nothing on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One letter as it arrived."""

    to: tuple[str, ...]
    subject: str
    body: str


@dataclass(kw_only=True)
class Mailbox:
    """A running mail server and the letters that arrived, oldest first."""

    url: str = ""
    #: What it answers instead of taking a letter, such as `550 no such user`; null: it takes everything.
    refusal: str | None = None
    letters: list[Letter] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator["Mailbox"]:
        """Listen on a free port of the loopback until the end of the block."""
        mailbox = cls()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(mailbox, hostname="demo", loop=loop), host="127.0.0.1", port=0
        )
        try:
            mailbox.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield mailbox
        finally:
            server.close()
            await server.wait_closed()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep a letter and say yes, unless it is to refuse everything."""
        if self.refusal is not None:
            return self.refusal
        message = message_from_bytes(
            envelope.original_content or b"", _class=EmailMessage, policy=policy.default
        )
        self.letters.append(
            Letter(to=tuple(envelope.rcpt_tos), subject=str(message["subject"]), body=message.get_content())
        )
        return "250 kept"

    def to(self, address: str) -> list[Letter]:
        """Return the letters to one address."""
        return [letter for letter in self.letters if address in letter.to]
