"""A webhook is genuine or refused; the table of what each looks like."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import stripe

from billing.stripe.signature import UnverifiedError, verify
from simulators.stripe import signature

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
AT = int(NOW.timestamp())
SECRET = "whsec_canary_91d2"
OLD = "whsec_of_before"
BODY = b'{"id": "evt_1", "object": "event", "amount": 1.50, "name": "J\xc3\xbcrgen"}'


def signed(*, body: bytes = BODY, secret: str = SECRET, at: int = AT) -> str:
    """A header as Stripe makes it."""
    return signature(body, (secret,), at)


ACCEPTED = {
    "signed now": (signed(), [SECRET]),
    "signed 300 s ago": (signed(at=AT - 300), [SECRET]),
    "signed 300 s ahead": (signed(at=AT + 300), [SECRET]),
    "while the secret is being rotated, with the old one": (signed(secret=OLD), [SECRET, OLD]),
    "while the secret is being rotated, with the new one": (signed(), [OLD, SECRET]),
    "signed with both secrets, of which we know one": (signature(BODY, (OLD, SECRET), AT), [SECRET]),
    "beside an empty secret": (signed(), ["", SECRET]),
    "with a scheme of tomorrow beside it": (signed() + ",v2=0123", [SECRET]),
}

REFUSED = {
    "signed 301 s ago": (signed(at=AT - 301), [SECRET]),
    "signed 301 s ahead": (signed(at=AT + 301), [SECRET]),
    "signed ten years ahead": (signed(at=AT + 315_360_000), [SECRET]),
    "with another secret": (signed(secret="whsec_of_a_stranger"), [SECRET]),
    "with an empty secret": (signed(secret=""), [""]),
    "with a blank secret": (signed(secret=" "), [" ", ""]),
    "without a configured secret": (signed(), []),
    "with the oldest scheme alone": (signed().replace("v1=", "v0="), [SECRET]),
    "of another body": (signed(body=BODY + b" "), [SECRET]),
    "with another timestamp": (signed().replace(str(AT), str(AT - 1)), [SECRET]),
    "with a second timestamp": (f"t={AT}," + signed(at=AT - 86_400), [SECRET]),
    "with a second timestamp behind": (signed(at=AT - 86_400) + f",t={AT}", [SECRET]),
    "without a timestamp": (signed().split(",")[1], [SECRET]),
    "with a timestamp of words": ("t=now," + signed().split(",")[1], [SECRET]),
    "with a timestamp beyond all time": (f"t={'9' * 400}," + signed().split(",")[1], [SECRET]),
    "without a signature": (f"t={AT}", [SECRET]),
    "with an empty signature": (f"t={AT},v1=", [SECRET]),
    "with a signature that is no ASCII": (f"t={AT},v1=é", [SECRET]),
    "without a header": (None, [SECRET]),
    "with an empty header": ("", [SECRET]),
    "with an endless header": (signed() + ",v1=0" * 100_000, [SECRET]),
}


@pytest.mark.parametrize(("header", "secrets"), ACCEPTED.values(), ids=ACCEPTED)
def test_it_accepts_what_stripe_signed(header: str, secrets: list[str]) -> None:
    """Any of the secrets, a little early or late."""
    verify(BODY, header, secrets, now=NOW)


@pytest.mark.parametrize(("header", "secrets"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_everything_else(header: str | None, secrets: list[str]) -> None:
    """And says why without repeating a secret or the body."""
    with pytest.raises(UnverifiedError) as refused:
        verify(BODY, header, secrets, now=NOW)
    assert "whsec" not in str(refused.value)
    assert "evt_1" not in str(refused.value)


def test_it_checks_the_bytes_that_arrived() -> None:
    """The same JSON written anew is another body."""
    with pytest.raises(UnverifiedError):
        verify(json.dumps(json.loads(BODY)).encode(), signed(), [SECRET], now=NOW)


def test_it_refuses_a_body_that_is_no_text() -> None:
    """Bytes that are no UTF-8, though signed."""
    body = b"\xff\xfe" + BODY
    with pytest.raises(UnverifiedError):
        verify(body, signed(body=body), [SECRET], now=NOW)


def test_it_accepts_what_the_sdk_signs() -> None:
    """The library's own signing, by the machine's clock."""
    at = int(time.time())
    header = stripe.WebhookSignature.generate_signature_header(BODY.decode(), SECRET, at)
    verify(BODY, header, [SECRET], now=datetime.fromtimestamp(at, UTC) + timedelta(seconds=2))


def test_the_sdk_alone_accepts_the_future() -> None:
    """Why the age is checked here: should the library ever do it, this says so."""
    header = signed(at=int(time.time()) + 3600)
    assert stripe.WebhookSignature.verify_header(BODY, header, SECRET, tolerance=300)
