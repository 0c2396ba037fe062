"""Tables of the guard: what a release of the breaker covers, why safe mode is on, the ladders as they were last read.

Owns columns and their meaning; no logic. Partial unique indexes and CHECKs live in the migrations.
"""

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model

from billing.approval_models import Approval


class SafeModeKind(StrEnum):
    """Why nothing is restricted for money."""

    #: The marker in the state folder is newer than the database.
    RESTORED_DATABASE = "RESTORED_DATABASE"
    #: No marker is in the state folder, so that nobody can tell whether the database is the newest.
    NO_MARKER = "NO_MARKER"
    CLOCK_JUMP = "CLOCK_JUMP"
    #: Stripe answers as another account than the one that is pinned, or a site (its scope) as another platform.
    IDENTITY = "IDENTITY"
    #: More guests of a site went missing at once than the blast radius allows.
    GUESTS_MISSING = "GUESTS_MISSING"


class BreakerCover(Model):
    """One account, or uncovered server, that a release of the breaker covers. Written by `reconciler.breaker`.

    In force while its approval is `GIVEN` and younger than the release lasts.
    """

    id = fields.BigIntField(primary_key=True)
    approval: fields.ForeignKeyRelation[Approval] = fields.ForeignKeyField(
        "abeyance.Approval", related_name="covers", on_delete=fields.RESTRICT
    )
    approval_id: int
    account_id = fields.BigIntField(db_index=True)
    server_id = fields.BigIntField(null=True)
    #: The episode and the overdue invoices for which it was held back: the reasons that were looked at.
    episode_id = fields.BigIntField()
    invoice_ids: Any = fields.JSONField(default=list)

    class Meta:
        table = "breaker_cover"


class SafeModeCause(Model):
    """One reason for safe mode, open until `ended_at`. At most one open per kind and scope.

    Written by `reconciler.safety`, which keeps the summary in `reconciler_state` as well.
    """

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharEnumField(SafeModeKind, max_length=32)
    #: The site that it is about; empty: everything.
    scope = fields.CharField(max_length=64, default="")
    reason = fields.TextField()
    since = fields.DatetimeField()
    #: Whether facts that were read again are not enough: a person has to release it.
    needs_person = fields.BooleanField()
    released_at = fields.DatetimeField(null=True)
    released_by = fields.CharField(max_length=200, null=True)
    ended_at = fields.DatetimeField(null=True)

    class Meta:
        table = "safe_mode_cause"
        indexes = (("ended_at",),)


class LadderInForce(Model):
    """One policy as the last pass read it. Written by `reconciler.policy_changes`."""

    name = fields.CharField(max_length=64, primary_key=True)
    #: list of [stage, `after` in seconds, `min_notice` in seconds].
    rungs: Any = fields.JSONField()
    #: Everything that it says, by key, as text.
    says: Any = fields.JSONField()
    since = fields.DatetimeField()

    class Meta:
        table = "ladder_in_force"
