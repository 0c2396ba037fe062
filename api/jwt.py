"""Customers of the portal: from a JWT of its identity provider to a principal.

Owns the checks of one token. It makes customers and nothing else, whatever a token claims; which keys may have signed
is `api.jwks`'s.
"""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError

from api.auth import Principal, UndecidedError
from api.jwks import KeySet
from api.models import Role

#: What the clocks of the two sides may differ by.
LEEWAY = timedelta(seconds=30)
LONGEST_TOKEN = 16 * 1024
#: Accounts of one token.
MOST_ACCOUNTS = 100
#: Of an external id, as its column keeps it.
_LONGEST_ACCOUNT = 200
#: Of a subject; OpenID Connect Core 1.0, 2 allows 255 characters.
_LONGEST_SUBJECT = 255
#: Longer subjects are named by their digest, so that a role and a name still fit into an actor.
_LONGEST_NAME = 150
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
#: RFC 8725, 3.11: a token of another kind, such as a logout token, is none for us.
_KINDS = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})


class _UnfitError(Exception):
    """The token stands for nobody here."""


class JwtAuthenticator:
    """Knows the customers of one issuer, in tokens made for one audience.

    `account_claim` names the claim with the external id of the account, or with a list of several.
    """

    def __init__(self, keys: KeySet, *, issuer: str, audience: str, account_claim: str = "sub") -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._account_claim = account_claim

    async def authenticate(self, bearer: str, now: datetime) -> Principal | None:
        """Return the customer of a token that is valid at `now`; null for any other text.

        Raises `UndecidedError` for one whose key is not known while the keys cannot be read.
        """
        if len(bearer) > LONGEST_TOKEN or not _SHAPE.fullmatch(bearer):
            return None
        try:
            return await self._principal(bearer, now)
        except (_UnfitError, JoseError, ValueError, RecursionError):
            return None

    async def _principal(self, bearer: str, now: datetime) -> Principal:
        key = await self._keys.find(_key_id(bearer), now)
        if key is None and self._keys.unread:
            raise UndecidedError("the keys of the identity provider cannot be read")
        if key is None:
            raise _UnfitError
        claims = jwt.decode(bearer, key.key, registry=key.registry).claims
        jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=int(LEEWAY.total_seconds()),
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
            sub={"essential": True},
        ).validate(claims)
        subject = _text(claims["sub"], _LONGEST_SUBJECT)
        name = subject if len(subject) <= _LONGEST_NAME else _digest(subject)
        return Principal(
            role=Role.CUSTOMER,
            name=name,
            person=name,
            accounts=_accounts(claims.get(self._account_claim)),
            expires_at=_instant(claims["exp"]) + LEEWAY,
        )


def _key_id(bearer: str) -> str | None:
    """Return the id of the key that is said to have signed. Nothing else of the header is believed."""
    encoded = bearer.partition(".")[0]
    header = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    if not isinstance(header, dict):
        raise _UnfitError
    kind, kid = header.get("typ", "JWT"), header.get("kid")
    if not isinstance(kind, str) or kind.lower() not in _KINDS or not isinstance(kid, str | None):
        raise _UnfitError
    return kid


def _accounts(told: Any) -> frozenset[str]:
    """Return the accounts that a claim names; a customer who has none yet has an empty list."""
    names = [told] if isinstance(told, str) else told
    if not isinstance(names, list) or len(names) > MOST_ACCOUNTS:
        raise _UnfitError
    return frozenset(_text(name, _LONGEST_ACCOUNT) for name in names)


def _text(told: Any, longest: int) -> str:
    if not isinstance(told, str) or not 0 < len(told) <= longest or not told.isprintable():
        raise _UnfitError
    return told


def _instant(told: float) -> datetime:
    try:
        return datetime.fromtimestamp(told, UTC)
    except (OverflowError, OSError):
        raise _UnfitError from None


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
