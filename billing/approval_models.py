"""Tables of what takes two persons: the request and the votes.

Owns columns and their meaning; no logic. The partial unique index and the CHECKs live in the migrations.
"""

from typing import Any

from tortoise import fields
from tortoise.models import Model

from billing.rules.approvals import ApprovalKind, ApprovalState


class Approval(Model):
    """One thing that needs two persons. At most one `PENDING` per kind and subject. Written by `billing.approvals`."""

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharEnumField(ApprovalKind, max_length=32)
    #: The GraphQL type and key of what it is about, such as "Account" and "7"; of a plan, its digest.
    subject_type = fields.CharField(max_length=32)
    subject_id = fields.CharField(max_length=64)
    account_id = fields.BigIntField(null=True, db_index=True)
    #: The facts that were voted on, and SHA-256 over them: a vote on others begins anew.
    about: Any = fields.JSONField(default=dict)
    digest = fields.CharField(max_length=64)
    reason = fields.TextField()
    #: The actor, as audit rows name it.
    requested_by = fields.CharField(max_length=200)
    requested_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    #: When it counts without a second person; null: never.
    alone_at = fields.DatetimeField(null=True)
    state = fields.CharEnumField(ApprovalState, max_length=32, default=ApprovalState.PENDING)
    #: When it was given; kept when it is withdrawn or void afterwards.
    given_at = fields.DatetimeField(null=True)
    ended_at = fields.DatetimeField(null=True)

    class Meta:
        table = "approval"
        indexes = (("state", "kind"),)


class ApprovalVote(Model):
    """One person's vote, once. Append-only. Written by `billing.approvals`."""

    id = fields.BigIntField(primary_key=True)
    approval: fields.ForeignKeyRelation[Approval] = fields.ForeignKeyField(
        "abeyance.Approval", related_name="votes", on_delete=fields.RESTRICT
    )
    approval_id: int
    person = fields.CharField(max_length=200)
    actor = fields.CharField(max_length=200)
    reason = fields.TextField()
    at = fields.DatetimeField()

    class Meta:
        table = "approval_vote"
        unique_together = (("approval_id", "person"),)
