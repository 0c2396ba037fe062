"""Tables of the events for the control plane: what there is to tell, and how the telling stands for each receiver.

Owns columns and their meaning; no logic. CHECKs live in the migration.
"""

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model

from billing.rules.terms import Stage


class EventType(StrEnum):
    """What the control plane is told."""

    STANDING_CHANGED = "standing.changed"
    SERVER_HELD = "server.held"
    SERVER_RESTORED = "server.restored"


class DeliveryState(StrEnum):
    """How the telling of one event to one receiver stands."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    GIVEN_UP = "GIVEN_UP"


class OutgoingEvent(Model):
    """One thing to tell, written in the transaction in which it came true. Written by `reconciler.outgoing`."""

    id = fields.BigIntField(primary_key=True)
    type = fields.CharEnumField(EventType, max_length=32)
    at = fields.DatetimeField(db_index=True)
    #: External ids, as the control plane gave them; no server where it is about the account.
    account = fields.CharField(max_length=200)
    server = fields.CharField(max_length=200, null=True)
    stage = fields.CharEnumField(Stage, max_length=32)
    #: list[str], sorted
    effects: Any = fields.JSONField(default=list)
    #: Whether it tells of something given back; in mode `PLAN` nothing else is told.
    gives_back = fields.BooleanField()
    #: The `id` that receivers see, the same for every attempt; null until deliveries were made of it.
    event_id = fields.CharField(max_length=40, null=True, unique=True)

    class Meta:
        table = "outgoing_event"


class OutgoingDelivery(Model):
    """One event for one receiver. Written by `reconciler.outgoing_delivery`."""

    id = fields.BigIntField(primary_key=True)
    event: fields.ForeignKeyRelation[OutgoingEvent] = fields.ForeignKeyField(
        "abeyance.OutgoingEvent", related_name="deliveries", on_delete=fields.RESTRICT
    )
    event_id: int
    #: The beginning of the hash of the receiver's URL, which may be a secret.
    receiver = fields.CharField(max_length=16)
    state = fields.CharEnumField(DeliveryState, max_length=32, default=DeliveryState.PENDING)
    attempts = fields.IntField(default=0)
    next_attempt_at = fields.DatetimeField()
    finished_at = fields.DatetimeField(null=True)
    error = fields.TextField(null=True)

    class Meta:
        table = "outgoing_delivery"
        unique_together = (("event_id", "receiver"),)
        indexes = (("receiver", "state", "next_attempt_at"),)
