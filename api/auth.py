"""Who asks: from an `Authorization` header to a principal.

Owns authentication only; what a role may do is `api.graphql.permissions`, what it may see is `api.graphql.scope`.
Each way to prove who one is, our own tokens here and a portal's JWT in `api.jwt`, is one `Authenticator`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from api import tokens
from api.models import Role


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks, in which role. `accounts` are the external ids that a customer may see; empty for every other role."""

    role: Role
    name: str
    #: The human being behind it, where one is known; two approvals need two of them.
    person: str | None = None
    accounts: frozenset[str] = frozenset()
    #: From then on the credential proves nothing. No part of who it is: a renewed one is the same principal.
    expires_at: datetime | None = field(default=None, compare=False)

    @property
    def actor(self) -> str:
        """How audit rows name it: the role and the person, else the name of the token."""
        return f"{self.role.lower()}:{self.person or self.name}"


class UndecidedError(Exception):
    """Whether a credential is genuine cannot be found out at present, which is not the credential's fault."""


class Authenticator(Protocol):
    """Turns the text after `Bearer` into a principal, or into nothing when it does not know it."""

    async def authenticate(self, bearer: str, now: datetime) -> Principal | None:
        """Return whom the text stands for at `now`; null for an unknown, expired or revoked one.

        Raises `UndecidedError` where only somebody who does not answer could tell.
        """
        ...


class TokenAuthenticator:
    """Knows our own API tokens."""

    async def authenticate(self, bearer: str, now: datetime) -> Principal | None:
        """Return the principal of a live API token."""
        token = await tokens.find(bearer, now=now)
        if token is None:
            return None
        accounts = (
            frozenset() if token.account_external_id is None else frozenset({token.account_external_id})
        )
        return Principal(
            role=token.role,
            name=token.name,
            person=token.person,
            accounts=accounts,
            expires_at=token.expires_at,
        )


async def principal_of(
    authorization: str | None, authenticators: Sequence[Authenticator], now: datetime
) -> Principal | None:
    """Return who sent this header, asking each authenticator in turn; null for a missing or unknown credential."""
    scheme, _, bearer = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not bearer.strip():
        return None
    for authenticator in authenticators:
        principal = await authenticator.authenticate(bearer.strip(), now)
        if principal is not None:
            return principal
    return None
