"""Tables of the doors: API tokens (hashed) and idempotency keys.

Owns columns only. A token's secret is never stored, only its SHA-256.
"""

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model

from billing.stored import Stored


class Role(StrEnum):
    """Who may do what; everything not granted is denied."""

    CUSTOMER = "CUSTOMER"
    SUPPORT = "SUPPORT"
    ADMIN = "ADMIN"
    INFRA = "INFRA"
    CONTROL = "CONTROL"


class ApiToken(Stored):
    """A bearer token of a person or a program. Written by `api.tokens`."""

    id = fields.BigIntField(primary_key=True)
    name = fields.CharField(max_length=200)
    role = fields.CharEnumField(Role, max_length=32)
    person = fields.CharField(max_length=200, null=True)
    #: The only account of a `CUSTOMER` token, by external id.
    account_external_id = fields.CharField(max_length=200, null=True)
    hash = fields.CharField(max_length=64, unique=True)
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField(null=True)
    revoked_at = fields.DatetimeField(null=True)

    class Meta:
        table = "api_token"


class IdempotencyKey(Model):
    """The first answer to a request that must happen once; a second with another body is refused."""

    id = fields.BigIntField(primary_key=True)
    actor = fields.CharField(max_length=200)
    operation = fields.CharField(max_length=64)
    key = fields.CharField(max_length=200)
    request_hash = fields.CharField(max_length=64)
    result: Any = fields.JSONField(null=True)
    created_at = fields.DatetimeField()

    class Meta:
        table = "idempotency_key"
        unique_together = (("actor", "operation", "key"),)
