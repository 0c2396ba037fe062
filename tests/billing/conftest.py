"""A real SMTP server in the test's own process, which answers as it is told, and the outbox that sends to it."""

import asyncio
import random
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

import billing
from billing.mail import SmtpMailer
from billing.notices import deliver_due, known_templates
from billing.policy_reader import read_policy
from billing.rules.policy import Policy
from billing.staff import StaffUnreachableError


class Postbox:
    """What an SMTP server accepted, and how it answers: an address maps to the reply that its RCPT gets."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.replies: dict[str, str] = {}
        self.data_reply = "250 taken"
        self.hangs = False
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Answer for one address."""
        if self.hangs:
            await asyncio.sleep(30)
        reply = self.replies.get(address, "250 fine")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take the letter, or not."""
        if self.data_reply.startswith("250"):
            content: Any = envelope.content
            self.letters.append(message_from_bytes(content, _class=EmailMessage, policy=policy.default))
            self.envelopes.append(envelope)
        return self.data_reply


class _AnyPort(Controller):
    """Listens on the port that the machine gives it; the controller itself would knock at port 0."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


def _serving(box: Postbox, **options: Any) -> Iterator[Postbox]:
    controller = _AnyPort(box, hostname="127.0.0.1", port=0, ready_timeout=60, **options)
    controller.start()
    box.port = controller.port
    yield box
    controller.stop()


@pytest.fixture
def postbox() -> Iterator[Postbox]:
    """A running SMTP server on a port of its own."""
    yield from _serving(Postbox())


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory, require: Any) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        require("the program openssl is missing")
    folder = tmp_path_factory.mktemp("tls")
    wanted = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", folder / "key", "-out", folder / "cert"]
    subprocess.run(
        [openssl, *wanted, *subject, *files],
        check=True,
        capture_output=True,
        timeout=30,
    )
    both = folder / "both.pem"
    both.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return both


@pytest.fixture
def strict_postbox(certificate: Path) -> Iterator[Postbox]:
    """An SMTP server that takes letters only after STARTTLS and a login as `abeyance` with `hunter2`."""

    def authenticate(
        _server: SMTP, _session: Session, _envelope: Envelope, _way: str, given: Any
    ) -> AuthResult:
        return AuthResult(success=(given.login, given.password) == (b"abeyance", b"hunter2"), handled=False)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    yield from _serving(
        Postbox(), tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate
    )


@pytest.fixture
def tls_postbox(certificate: Path) -> Iterator[Postbox]:
    """An SMTP server that speaks TLS from the first byte."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    yield from _serving(Postbox(), ssl_context=context)


@pytest.fixture(scope="session")
def policies() -> dict[str, Policy]:
    """The shipped policies, and one by which a purse pays an invoice whole or not at all."""
    found = {}
    for name in ("standard", "considerate"):
        text = (Path(billing.__file__).parent / "policies" / f"{name}.yaml").read_text("utf-8")
        found[name] = read_policy(name, text, templates=known_templates())
    standard = found["standard"]
    found["whole"] = replace(standard, billing=replace(standard.billing, partial_from_purses=False))
    found["reopening"] = replace(standard, billing=replace(standard.billing, refund_reopens_debt=True))
    return found


class FakeStaff:
    """A chat that is up or down."""

    def __init__(self) -> None:
        self.down = False
        self.told: list[tuple[str, str]] = []

    async def tell(self, subject: str, body: str) -> None:
        """Take the message, or not."""
        if self.down:
            raise StaffUnreachableError("none of the 1 targets took the message")
        self.told.append((subject, body))


class Turn:
    """Sends what is due, with the test's clock, the real mailer and a chat."""

    def __init__(self, clock, postbox):
        self.clock = clock
        self.mailer = SmtpMailer(postbox.url, "Billing <billing@hoster.example>", patience=60)
        self.staff = FakeStaff()

    async def __call__(self, **given):
        return await deliver_due(
            self.clock, given.get("mailer", self.mailer), given.get("staff", self.staff),
            rng=random.Random(1), limit=given.get("limit", 100), still_due=given.get("still_due"),
        )  # fmt: skip


@pytest.fixture
def turn(clock, postbox):
    return Turn(clock, postbox)


@pytest.fixture
async def overdue(database, factory):
    """An account with one overdue invoice."""
    account = await factory.account()
    await factory.invoice(account, number="A-1", hosted_url="https://pay.example/1")
    return account
