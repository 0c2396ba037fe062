"""Single parts of a process, built from the settings.

Owns which settings each needs and the clear error where one cannot be built of them; joining the parts is
`api.runtime`'s.
"""

import os
from pathlib import Path

from api.auth import Authenticator, TokenAuthenticator
from api.jwks import KeySet, from_url
from api.jwt import JwtAuthenticator
from api.settings import EXAMPLES, Settings, SettingsError
from billing.staff import StaffChannel
from billing.stripe.gateway import StripeGateway


def usable_folder(state_dir: Path) -> None:
    """Make the folder for runs, or refuse it: rights alone do not tell, since root seems to have them everywhere."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = None if os.access(state_dir, os.W_OK | os.X_OK) else "cannot be written by this user"
    except OSError as fault:
        problem = f"is not a folder and cannot be made one: {fault.strerror}"
    if problem:
        raise SettingsError([f"ABEYANCE_STATE_DIR: {state_dir} {problem}; example: {EXAMPLES['state_dir']}"])


def staff_channel(settings: Settings) -> StaffChannel | None:
    """Return the way to tell the staff something; null when none is named."""
    try:
        return StaffChannel.of(settings)
    except ValueError as problem:  # it names the variable and never the URL, which is a secret
        raise SettingsError([f"{problem}; example: {EXAMPLES['staff_notify']}"]) from None


def stripe_gateway(settings: Settings) -> StripeGateway | None:
    """Return the way to Stripe; null while there is no key, and Stripe is off."""
    if settings.stripe_api_key is None:
        return None
    return StripeGateway(settings.stripe_api_key.get_secret_value(), api_base=settings.stripe_api_base)


def key_set(settings: Settings) -> KeySet | None:
    """Return the keys of the portal's identity provider; null when none is named."""
    return KeySet(from_url(settings.jwt_jwks)) if settings.jwt_jwks else None


def authenticators(settings: Settings, keys: KeySet | None) -> tuple[Authenticator, ...]:
    """Return who knows the credentials of requests: our tokens, and the portal's where its provider is named."""
    if keys is None or settings.jwt_issuer is None or settings.jwt_audience is None:
        return (TokenAuthenticator(),)
    customers = JwtAuthenticator(
        keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        account_claim=settings.jwt_account_claim,
    )
    return (TokenAuthenticator(), customers)
