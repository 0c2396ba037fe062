"""API tokens: made, looked up and revoked.

The only writer of `api_token`. A token is 256 random bits; only its SHA-256 is stored, and it is shown once.
"""

import base64
import functools
import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import datetime

from tortoise.connection import get_connection
from tortoise.expressions import Q
from tortoise.queryset import QuerySet
from tortoise.transactions import in_transaction

from api.models import ApiToken, Role
from billing.audit import record
from billing.refusal import RefusalCode, refusal

PREFIX = "abey_"
_SHAPE = re.compile(r"abey_[A-Za-z0-9_-]{43}\Z")
_BYTES = 32


async def create(
    name: str,
    role: Role,
    *,
    now: datetime,
    actor: str,
    person: str | None = None,
    account_external_id: str | None = None,
    expires_at: datetime | None = None,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> str:
    """Store a new token's hash and return its text, which nobody can read again.

    A customer's token is bound to one account; no other role has one. Refuses a name that a live token has: it is what
    `revoke` is given.
    """
    if not name.strip() or not name.isprintable():
        raise refusal(RefusalCode.INVALID, "give the token a name such as `portal`", "name")
    if (role is Role.CUSTOMER) != (account_external_id is not None):
        raise refusal(
            RefusalCode.INVALID, "a CUSTOMER token names its account, and no other role's does", "account"
        )
    if expires_at is not None and expires_at <= now:
        raise refusal(RefusalCode.EXPIRY_IN_PAST, "give an instant in the future", "expires")
    text = PREFIX + base64.urlsafe_b64encode(random_bytes(_BYTES)).rstrip(b"=").decode()
    async with in_transaction():
        if await _live(now).filter(name=name).exists():
            raise refusal(RefusalCode.CONFLICT, f"a live token is called {name} already", "name")
        token = await ApiToken.create(
            name=name,
            role=role,
            person=person,
            account_external_id=account_external_id,
            hash=digest(text),
            created_at=now,
            expires_at=expires_at,
        )
        await record(
            "token.created",
            ("ApiToken", token.id),
            at=now,
            actor=actor,
            reason=f"token {name}",
            after={"role": role, "person": person, "account": account_external_id, "expires_at": expires_at},
        )
    return text


async def revoke(name: str, *, now: datetime, actor: str) -> int:
    """End every live token of this name at once and return how many there were."""
    async with in_transaction():
        live = await _live(now).filter(name=name)
        for token in live:
            await ApiToken.filter(id=token.id).update(revoked_at=now)
            await record("token.revoked", ("ApiToken", token.id), at=now, actor=actor, reason=f"token {name}")
    return len(live)


async def find(text: str, *, now: datetime) -> ApiToken | None:
    """Return the live token of this text. Looked up by hash, so that nothing secret is compared byte by byte."""
    if not _SHAPE.match(text):
        return None
    # Asked with every request: as few conditions as the database needs, and no text written anew.
    connection = get_connection("default")
    mark = "?" if connection.capabilities.dialect == "sqlite" else "$1"
    _, rows = await connection.execute_query(_find(mark), [digest(text)])
    token = ApiToken.of_row(rows[0]) if rows else None
    return token if token is not None and (token.expires_at is None or token.expires_at > now) else None


@functools.cache
def _find(mark: str) -> str:
    columns = ", ".join(f'"{name}"' for name in ApiToken.columns())
    return f"SELECT {columns} FROM api_token WHERE hash = {mark} AND revoked_at IS NULL"  # noqa: S608 - all ours


def digest(text: str) -> str:
    """Return the SHA-256 of a token's text; with 256 random bits no salt and no slow hash is needed."""
    return hashlib.sha256(text.encode()).hexdigest()


def _live(now: datetime) -> QuerySet[ApiToken]:
    return ApiToken.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)
