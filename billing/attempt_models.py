"""The table of tries with cards: how often each account's customer had one within the last while.

Owns columns and their meaning; no logic. CHECKs live in the migrations.
"""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class AttemptKind(StrEnum):
    """What cards can be tried out with."""

    SETUP = "SETUP"
    ADDING = "ADDING"
    CHARGE = "CHARGE"


class CardAttempt(Model):
    """One try with a card, which may be one of many with stolen ones. Written by `billing.card_attempts`."""

    id = fields.BigIntField(primary_key=True)
    account_id = fields.BigIntField()
    kind = fields.CharEnumField(AttemptKind, max_length=32)
    #: What it became, where that was not known at once; it counts unless that succeeded.
    charge_id = fields.BigIntField(null=True)
    at = fields.DatetimeField()

    class Meta:
        table = "card_attempt"
        indexes = (("account_id", "kind", "at"),)
