"""Whether a webhook really comes from Stripe: signature, age, and nothing else.

Works on the raw bytes of the body; never parses them. docs.stripe.com/webhooks#verify-manually
"""

from collections.abc import Sequence
from datetime import datetime

import stripe

TOLERANCE_SECONDS = 300
"""How far the signed timestamp may lie in the past or in the future."""

_LONGEST_HEADER = 4096


class UnverifiedError(Exception):
    """The request cannot be trusted; the message says why and holds nothing of the body or the secrets."""


def verify(payload: bytes, signature: str | None, secrets: Sequence[str], *, now: datetime) -> None:
    """Return if one of the secrets signed this body at most 300 s before or after `now`; else raise `UnverifiedError`.

    The SDK accepts timestamps from the future and reads the machine's clock, so both limits are checked here. An empty
    secret verifies nothing.
    """
    usable = [secret for secret in secrets if secret.strip()]
    if not usable:
        raise UnverifiedError("no webhook secret is configured")
    if not signature or len(signature) > _LONGEST_HEADER:
        raise UnverifiedError("the Stripe-Signature header is missing or too long")
    signed_at = _timestamp(signature)
    if not any(_signed(payload, signature, secret) for secret in usable):
        raise UnverifiedError("no signature in the header matches the body")
    # The timestamp is part of what was signed: its age is judged only once it is known to be genuine.
    if abs(now.timestamp() - signed_at) > TOLERANCE_SECONDS:
        raise UnverifiedError(f"the signature is more than {TOLERANCE_SECONDS} s away from the present")


def _timestamp(signature: str) -> int:
    """The one `t=`; several could be read differently by the check of the signature and by that of the age."""
    values = [part[2:] for part in signature.split(",") if part.startswith("t=")]
    if len(values) != 1 or not (values[0].isascii() and values[0].isdigit() and len(values[0]) <= 12):
        raise UnverifiedError("the Stripe-Signature header holds no single timestamp")
    return int(values[0])


def _signed(payload: bytes, signature: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(payload, signature, secret, tolerance=None)
    except (stripe.SignatureVerificationError, ValueError, TypeError):
        # ValueError: the body is no UTF-8; TypeError: a signature with characters that cannot be compared.
        return False
    return True
