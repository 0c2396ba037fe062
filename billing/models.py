"""Tables of billing: accounts, invoices, the Stripe inbox, overrides, episodes, notices, work items, the audit trail.

Owns columns and their meaning; no logic. Every CHECK, partial unique index and trigger lives in the migrations, because
the ORM records such constraints and does not create them. Instants are aware UTC, money is integer minor units.
"""

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model

from billing.rules.terms import InvoiceOrigin, InvoiceStatus, NoticeState, OverrideKind, Stage
from billing.stored import Stored


class EventState(StrEnum):
    """Where a stored Stripe event is: waiting, applied, of no interest, or given up and shown to a person."""

    PENDING = "PENDING"
    DONE = "DONE"
    IGNORED = "IGNORED"
    DEAD = "DEAD"


class WorkState(StrEnum):
    """Where a work item is."""

    OPEN = "OPEN"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


class Account(Stored):
    """Who is billed. Written by `billing.accounts` and the Stripe mirror."""

    id = fields.BigIntField(primary_key=True)
    external_id = fields.CharField(max_length=200, unique=True)
    name = fields.CharField(max_length=300)
    email = fields.CharField(max_length=320, null=True)
    billing_emails: Any = fields.JSONField(default=list)  # list[str]
    locale = fields.CharField(max_length=20, default="en")
    currency = fields.CharField(max_length=3)
    time_zone = fields.CharField(max_length=64, default="UTC")
    policy = fields.CharField(max_length=64, default="standard")
    #: Notices sent before this instant open no stage: the account's ladder was shortened then.
    notices_void_before = fields.DatetimeField(null=True)
    free_plan = fields.BooleanField(default=False)
    stripe_customer_id = fields.CharField(max_length=64, null=True, unique=True)
    #: When the Stripe customer was last re-fetched; null while it never was.
    stripe_fetched_at = fields.DatetimeField(null=True)
    stripe_deleted = fields.BooleanField(default=False)
    #: Raised by one with every fact about this account; plans and dispatches are bound to it.
    facts_version = fields.BigIntField(default=1)
    #: The version that the standing, the holds and the notices last followed; nothing is restricted while it lags.
    settled_version = fields.BigIntField(default=0)
    #: When a pass has to look at this account again; null: never, until a fact sets it.
    next_change_at = fields.DatetimeField(null=True, db_index=True)
    created_at = fields.DatetimeField()

    class Meta:
        table = "account"
        indexes = (("policy",),)


class Invoice(Stored):
    """What is owed. Stripe's are written by the Stripe mirror alone, ours by `billing.invoices`."""

    id = fields.BigIntField(primary_key=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="invoices", on_delete=fields.RESTRICT
    )
    account_id: int
    origin = fields.CharEnumField(InvoiceOrigin, max_length=32)
    status = fields.CharEnumField(InvoiceStatus, max_length=32)
    number = fields.CharField(max_length=100, null=True)
    currency = fields.CharField(max_length=3)
    total = fields.BigIntField()
    amount_paid = fields.BigIntField(default=0)
    #: What is still to pay; 0 for everything that is not open.
    amount_due = fields.BigIntField()
    #: The part of the amount due that an open dispute keeps out of the debt.
    disputed_amount = fields.BigIntField(default=0)
    issued_at = fields.DatetimeField()
    due_on = fields.DateField(null=True)
    #: The zone that the due day is counted in, kept as it was when the invoice was first seen.
    due_zone = fields.CharField(max_length=64, default="UTC")
    overdue_at = fields.DatetimeField(null=True, db_index=True)
    #: When we first saw it open and overdue, anew after a reopening; debt counts from the later of this and
    #: `overdue_at`.
    overdue_seen_at = fields.DatetimeField(null=True)
    period_start = fields.DatetimeField(null=True)
    period_end = fields.DatetimeField(null=True)
    paid_at = fields.DatetimeField(null=True)
    stripe_invoice_id = fields.CharField(max_length=64, null=True, unique=True)
    stripe_subscription_id = fields.CharField(max_length=64, null=True)
    collection_method = fields.CharField(max_length=32, null=True)
    #: Stripe's own next attempt at charging; null when it has none planned.
    next_attempt_at = fields.DatetimeField(null=True)
    hosted_url = fields.TextField(null=True)
    pdf_url = fields.TextField(null=True)
    #: list of {description, quantity, amount} and list of {source, amount, at} in minor units and ISO instants.
    lines: Any = fields.JSONField(default=list)
    payments: Any = fields.JSONField(default=list)
    #: When it was last re-fetched from Stripe and found equal to this row or written to it; null for ours.
    fetched_at = fields.DatetimeField(null=True)

    class Meta:
        table = "invoice"
        # The last three for staff's lists.
        indexes = (("account_id", "status"), ("status", "id"), ("origin",), ("due_on",))


class Dispute(Model):
    """A payment towards an invoice that the customer's bank took into dispute. Written by `billing.stripe.disputes`."""

    id = fields.BigIntField(primary_key=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="disputes", on_delete=fields.RESTRICT
    )
    account_id: int
    invoice: fields.ForeignKeyRelation[Invoice] = fields.ForeignKeyField(
        "abeyance.Invoice", related_name="disputes", on_delete=fields.RESTRICT
    )
    invoice_id: int
    stripe_dispute_id = fields.CharField(max_length=64, unique=True)
    amount = fields.BigIntField()
    #: Stripe's own instant, whenever we heard of it.
    opened_at = fields.DatetimeField()
    #: When it was first read as over, since Stripe does not say; null while it is open.
    closed_at = fields.DatetimeField(null=True)

    class Meta:
        table = "dispute"
        indexes = (("account_id", "closed_at"),)


class Subscription(Model):
    """A Stripe subscription that some server names; only whether it covers, never its payment status."""

    id = fields.BigIntField(primary_key=True)
    stripe_subscription_id = fields.CharField(max_length=64, unique=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="subscriptions", on_delete=fields.RESTRICT
    )
    account_id: int
    status = fields.CharField(max_length=32)
    current_period_end = fields.DatetimeField(null=True)
    #: The instant from which it covers nothing any more; null while it is alive.
    ended_at = fields.DatetimeField(null=True)
    fetched_at = fields.DatetimeField()

    class Meta:
        table = "subscription"


class StripeEvent(Model):
    """The inbox: each event of Stripe once, by its id. Events wake; they never carry a decision."""

    id = fields.BigIntField(primary_key=True)
    event_id = fields.CharField(max_length=255, unique=True)
    type = fields.CharField(max_length=100)
    api_version = fields.CharField(max_length=64, null=True)
    created_at = fields.DatetimeField()
    received_at = fields.DatetimeField()
    #: "webhook" or "sweep".
    source = fields.CharField(max_length=16)
    object_type = fields.CharField(max_length=64, null=True)
    object_id = fields.CharField(max_length=255, null=True)
    stripe_customer_id = fields.CharField(max_length=64, null=True, db_index=True)
    payload: Any = fields.JSONField()
    state = fields.CharEnumField(EventState, max_length=32, default=EventState.PENDING)
    attempts = fields.IntField(default=0)
    next_attempt_at = fields.DatetimeField()
    processed_at = fields.DatetimeField(null=True)
    error = fields.TextField(null=True)

    class Meta:
        table = "stripe_event"
        indexes = (("state", "next_attempt_at"),)


class StripeMirror(Model):
    """One row: how far the mirror of Stripe has come, and which Stripe account it is of."""

    id = fields.IntField(primary_key=True, generated=False)
    stripe_account_id = fields.CharField(max_length=64, null=True)
    #: Events created before this instant were all read by a sweep.
    events_until = fields.DatetimeField(null=True)
    last_full_sweep_at = fields.DatetimeField(null=True)
    last_webhook_at = fields.DatetimeField(null=True)
    problem = fields.TextField(null=True)

    class Meta:
        table = "stripe_mirror"


class Override(Stored):
    """A recorded decision of staff. Written by `billing.overrides`."""

    id = fields.BigIntField(primary_key=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="overrides", on_delete=fields.RESTRICT
    )
    account_id: int
    server_id = fields.BigIntField(null=True)
    kind = fields.CharEnumField(OverrideKind, max_length=32)
    reason = fields.TextField()
    placed_by = fields.CharField(max_length=200)
    by_customer = fields.BooleanField(default=False)
    placed_at = fields.DatetimeField()
    expires_at = fields.DatetimeField(null=True)
    revoked_at = fields.DatetimeField(null=True)
    revoked_by = fields.CharField(max_length=200, null=True)

    class Meta:
        table = "override"
        indexes = (("account_id", "kind"),)


class Episode(Stored):
    """From the moment a debt exceeds the tolerance until it is within it again, and the stage admitted in it.

    Of an account (`server_id` null) or of one uncovered server. At most one open per account and per server, by a
    partial unique index. Written by `reconciler.standing` alone.
    """

    id = fields.BigIntField(primary_key=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="episodes", on_delete=fields.RESTRICT
    )
    account_id: int
    server_id = fields.BigIntField(null=True)
    started_at = fields.DatetimeField()
    ended_at = fields.DatetimeField(null=True)
    admitted = fields.CharEnumField(Stage, max_length=32, default=Stage.CURRENT)
    admitted_at = fields.DatetimeField()
    #: Whether it came to that stage by a fall outside `APPLY`: nobody is told of that later either.
    fell_silently = fields.BooleanField(default=False)
    #: What the admitted stage does by the policy that it was admitted under: names of effects, sorted, with blanks
    #: between; null: as the policy says. A policy that does more since does it at the next climb, not behind its back.
    granted = fields.CharField(max_length=255, null=True)
    #: The last stage with larger effects that it was seen eligible for, and since when that counts for the breaker;
    #: null: none. Written by `reconciler.breaker` too.
    awaits = fields.CharEnumField(Stage, max_length=32, null=True)
    awaits_since = fields.DatetimeField(null=True, db_index=True)
    #: For how many seconds unfinished payments alone held something back, and since when they do
    #: again; these two are written by `reconciler.payment_shield`.
    shielded_for = fields.IntField(default=0)
    shielded_since = fields.DatetimeField(null=True)

    class Meta:
        table = "episode"
        indexes = (("account_id", "ended_at"),)


class Notice(Stored):
    """The outbox: a message to a customer or to staff. Queued in the transaction of its cause, sent afterwards.

    Written by `billing.notices`. `dedupe_key` is unique: the same cause never queues twice.
    """

    id = fields.BigIntField(primary_key=True)
    account: fields.ForeignKeyNullableRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="notices", on_delete=fields.RESTRICT, null=True
    )
    account_id: int | None
    episode_id = fields.BigIntField(null=True)
    server_id = fields.BigIntField(null=True)
    #: "mail" or "staff".
    channel = fields.CharField(max_length=16)
    template = fields.CharField(max_length=64)
    stage = fields.CharEnumField(Stage, max_length=32, null=True)
    #: Ids of the overdue invoices and of the servers that it names.
    invoice_ids: Any = fields.JSONField(default=list)
    server_ids: Any = fields.JSONField(default=list)
    recipient = fields.TextField(null=True)
    subject = fields.TextField()
    body = fields.TextField()
    state = fields.CharEnumField(NoticeState, max_length=32, default=NoticeState.PENDING)
    created_at = fields.DatetimeField()
    delivered_at = fields.DatetimeField(null=True)
    attempts = fields.IntField(default=0)
    next_attempt_at = fields.DatetimeField()
    error = fields.TextField(null=True)
    dedupe_key = fields.CharField(max_length=200, unique=True)

    class Meta:
        table = "notice"
        indexes = (("state", "next_attempt_at"), ("account_id", "episode_id"))


class WorkItem(Model):
    """Anything that waits for a person. Written by `billing.work_queue`; one open item per `dedupe_key`."""

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharField(max_length=64)
    account_id = fields.BigIntField(null=True)
    server_id = fields.BigIntField(null=True)
    title = fields.TextField()
    detail = fields.TextField()
    state = fields.CharEnumField(WorkState, max_length=32, default=WorkState.OPEN)
    since = fields.DatetimeField()
    #: When a message to staff named it; null until then.
    told_at = fields.DatetimeField(null=True)
    dedupe_key = fields.CharField(max_length=200)
    resolved_at = fields.DatetimeField(null=True)
    resolved_by = fields.CharField(max_length=200, null=True)
    resolution = fields.TextField(null=True)

    class Meta:
        table = "work_item"
        indexes = (("state", "kind"),)


class AuditEntry(Model):
    """The audit trail: append-only by trigger. Only `billing.audit_seal` fills the seal, and empties what is erased."""

    id = fields.BigIntField(primary_key=True)
    at = fields.DatetimeField()
    actor = fields.CharField(max_length=200)
    kind = fields.CharField(max_length=64)
    account_id = fields.BigIntField(null=True, db_index=True)
    subject_type = fields.CharField(max_length=32)
    subject_id = fields.CharField(max_length=64)
    reason = fields.TextField()
    before = fields.TextField(null=True)
    after = fields.TextField(null=True)
    facts_version = fields.BigIntField(null=True)
    #: The seal: the place in the chain, the hash over the row and the hash before it, and the digest of what an erasure
    #: may take away, with its salt; null until sealed. An erased row has lost its salt.
    position = fields.BigIntField(null=True, unique=True)
    hash = fields.CharField(max_length=64, null=True)
    salt = fields.CharField(max_length=32, null=True)
    digest = fields.CharField(max_length=64, null=True)
    erased_at = fields.DatetimeField(null=True)

    class Meta:
        table = "audit_entry"
        indexes = (("subject_type", "subject_id"),)
