"""The tables of billing, and the function that refuses on PostgreSQL."""

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from api.migrations._sql import (
    checks,
    currency,
    indexed_while,
    never_deleted,
    one_of,
    only_row,
    REFUSAL_FUNCTION,
    refused,
    trigrams,
    unique_while,
)

STAGES = "CURRENT PAST_DUE FINAL_NOTICE SUSPENDED RETAINED DECOMMISSION_REVIEW"

ACCOUNT = {
    "currency": currency("currency"),
    "external_id_given": "length(NEW.external_id) > 0",
    "facts_version": "NEW.facts_version >= 1",
}
INVOICE = {
    "currency": currency("currency"),
    "origin": one_of("origin", "STRIPE USAGE ADJUSTMENT"),
    "status": one_of("status", "DRAFT OPEN PAID VOID UNCOLLECTIBLE"),
    # Stripe's own totals can be negative (a proration in the customer's favour); what is due never is.
    "total": "NEW.total >= 0 OR NEW.origin = 'STRIPE'",
    "amount_paid": "NEW.amount_paid >= 0",
    "amount_due": "NEW.amount_due >= 0",
    "disputed_amount": "NEW.disputed_amount >= 0",
    "due_only_while_open": "NEW.amount_due = 0 OR NEW.status = 'OPEN'",
    "stripe_id": "(NEW.origin = 'STRIPE') = (NEW.stripe_invoice_id IS NOT NULL)",
}
DISPUTE = {
    "amount": "NEW.amount >= 0",
    "end": "NEW.closed_at >= NEW.opened_at",
}
STRIPE_EVENT = {
    "state": one_of("state", "PENDING DONE IGNORED DEAD"),
    "source": one_of("source", "webhook sweep"),
    "attempts": "NEW.attempts >= 0",
}
OVERRIDE = {
    "kind": one_of("kind", "EXEMPT EXTEND_GRACE FREEZE ALLOW_BACKUPS SUSPEND_NOW"),
    "reason_given": "length(NEW.reason) > 0",
    "author_given": "length(NEW.placed_by) > 0",
    "of_a_server": "NEW.server_id IS NULL OR NEW.kind IN ('EXEMPT', 'ALLOW_BACKUPS')",
    "expiry": "NEW.expires_at > NEW.placed_at",
    "revoked": "(NEW.revoked_at IS NULL) = (NEW.revoked_by IS NULL)",
}
EPISODE = {
    "admitted": one_of("admitted", STAGES),
    "end": "NEW.ended_at >= NEW.started_at",
    "awaits": one_of("awaits", STAGES),
    "awaits_since": "(NEW.awaits IS NULL) = (NEW.awaits_since IS NULL)",
}
NOTICE = {
    "channel": one_of("channel", "mail staff"),
    "stage": one_of("stage", STAGES),
    "state": one_of("state", "PENDING DELIVERED FAILED"),
    "attempts": "NEW.attempts >= 0",
    "delivery": "(NEW.state = 'DELIVERED') = (NEW.delivered_at IS NOT NULL)",
    "mail_has_account": "NEW.channel <> 'mail' OR NEW.account_id IS NOT NULL",
}
WORK_ITEM = {
    "state": one_of("state", "OPEN ACKNOWLEDGED RESOLVED"),
    "resolution": "(NEW.state = 'RESOLVED') = (NEW.resolved_at IS NOT NULL)",
}
AUDIT_ENTRY = {
    "sealed_whole": "(NEW.position IS NULL) = (NEW.hash IS NULL) AND (NEW.position IS NULL) = (NEW.digest IS NULL)",
    "salted": "(NEW.salt IS NULL) = (NEW.position IS NULL OR NEW.erased_at IS NOT NULL)",
    "position": "NEW.position >= 1",
}


def same(columns: str) -> str:
    return " AND ".join(f'NEW."{column}" <same> OLD."{column}"' for column in columns.split())


#: Of an audit row two things may change, each once: the seal, from nothing to something; and, of a sealed row, what it
#: says about a person, to nothing.
LASTING = "id at kind account_id subject_type subject_id facts_version"
ERASABLE = "actor reason before after"
SEALED = (
    "OLD.position IS NULL AND NEW.position IS NOT NULL AND NEW.hash IS NOT NULL AND NEW.digest IS NOT NULL"
    f" AND NEW.salt IS NOT NULL AND NEW.erased_at IS NULL AND {same(LASTING)} AND {same(ERASABLE)}"
)
ERASED = (
    "OLD.position IS NOT NULL AND OLD.erased_at IS NULL AND NEW.erased_at IS NOT NULL AND NEW.salt IS NULL"
    " AND NEW.reason = '(erased)' AND NEW.before IS NULL AND NEW.after IS NULL AND (NEW.actor = OLD.actor"
    f" OR (OLD.actor LIKE 'customer:%' AND NEW.actor = 'customer:erased')) AND {same(LASTING)}"
    f" AND {same('position hash digest')}"
)


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name='Account',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('external_id', fields.CharField(unique=True, max_length=200)),
                ('name', fields.CharField(max_length=300)),
                ('email', fields.CharField(null=True, max_length=320)),
                ('billing_emails', fields.JSONField(default=list)),
                ('locale', fields.CharField(default='en', max_length=20)),
                ('currency', fields.CharField(max_length=3)),
                ('time_zone', fields.CharField(default='UTC', max_length=64)),
                ('policy', fields.CharField(default='standard', max_length=64)),
                ('notices_void_before', fields.DatetimeField(null=True)),
                ('free_plan', fields.BooleanField(default=False)),
                ('stripe_customer_id', fields.CharField(null=True, unique=True, max_length=64)),
                ('stripe_fetched_at', fields.DatetimeField(null=True)),
                ('stripe_deleted', fields.BooleanField(default=False)),
                ('facts_version', fields.BigIntField(default=1)),
                ('settled_version', fields.BigIntField(default=0)),
                ('next_change_at', fields.DatetimeField(null=True, db_index=True)),
                ('created_at', fields.DatetimeField()),
            ],
            options={'table': 'account', 'app': 'abeyance', 'indexes': [Index(fields=['policy'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('at', fields.DatetimeField()),
                ('actor', fields.CharField(max_length=200)),
                ('kind', fields.CharField(max_length=64)),
                ('account_id', fields.BigIntField(null=True, db_index=True)),
                ('subject_type', fields.CharField(max_length=32)),
                ('subject_id', fields.CharField(max_length=64)),
                ('reason', fields.TextField()),
                ('before', fields.TextField(null=True)),
                ('after', fields.TextField(null=True)),
                ('facts_version', fields.BigIntField(null=True)),
                ('position', fields.BigIntField(null=True, unique=True)),
                ('hash', fields.CharField(null=True, max_length=64)),
                ('salt', fields.CharField(null=True, max_length=32)),
                ('digest', fields.CharField(null=True, max_length=64)),
                ('erased_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'audit_entry', 'app': 'abeyance', 'indexes': [Index(fields=['subject_type', 'subject_id'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Episode',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='episodes', on_delete=OnDelete.RESTRICT)),
                ('server_id', fields.BigIntField(null=True)),
                ('started_at', fields.DatetimeField()),
                ('ended_at', fields.DatetimeField(null=True)),
                ('admitted', fields.CharField(default='CURRENT', max_length=32)),
                ('admitted_at', fields.DatetimeField()),
                ('fell_silently', fields.BooleanField(default=False)),
                ('granted', fields.CharField(null=True, max_length=255)),
                ('awaits', fields.CharField(null=True, max_length=32)),
                ('awaits_since', fields.DatetimeField(null=True, db_index=True)),
                ('shielded_for', fields.IntField(default=0)),
                ('shielded_since', fields.DatetimeField(null=True)),
            ],
            options={'table': 'episode', 'app': 'abeyance', 'indexes': [Index(fields=['account_id', 'ended_at'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Invoice',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='invoices', on_delete=OnDelete.RESTRICT)),
                ('origin', fields.CharField(max_length=32)),
                ('status', fields.CharField(max_length=32)),
                ('number', fields.CharField(null=True, max_length=100)),
                ('currency', fields.CharField(max_length=3)),
                ('total', fields.BigIntField()),
                ('amount_paid', fields.BigIntField(default=0)),
                ('amount_due', fields.BigIntField()),
                ('disputed_amount', fields.BigIntField(default=0)),
                ('issued_at', fields.DatetimeField()),
                ('due_on', fields.DateField(null=True)),
                ('due_zone', fields.CharField(default='UTC', max_length=64)),
                ('overdue_at', fields.DatetimeField(null=True, db_index=True)),
                ('overdue_seen_at', fields.DatetimeField(null=True)),
                ('period_start', fields.DatetimeField(null=True)),
                ('period_end', fields.DatetimeField(null=True)),
                ('paid_at', fields.DatetimeField(null=True)),
                ('stripe_invoice_id', fields.CharField(null=True, unique=True, max_length=64)),
                ('stripe_subscription_id', fields.CharField(null=True, max_length=64)),
                ('collection_method', fields.CharField(null=True, max_length=32)),
                ('next_attempt_at', fields.DatetimeField(null=True)),
                ('hosted_url', fields.TextField(null=True)),
                ('pdf_url', fields.TextField(null=True)),
                ('lines', fields.JSONField(default=list)),
                ('payments', fields.JSONField(default=list)),
                ('fetched_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'invoice', 'app': 'abeyance', 'indexes': [Index(fields=['account_id', 'status']), Index(fields=['status', 'id']), Index(fields=['origin']), Index(fields=['due_on'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Dispute',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='disputes', on_delete=OnDelete.RESTRICT)),
                ('invoice', fields.ForeignKeyField('abeyance.Invoice', source_field='invoice_id', related_name='disputes', on_delete=OnDelete.RESTRICT)),
                ('stripe_dispute_id', fields.CharField(unique=True, max_length=64)),
                ('amount', fields.BigIntField()),
                ('opened_at', fields.DatetimeField()),
                ('closed_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'dispute', 'app': 'abeyance', 'indexes': [Index(fields=['account_id', 'closed_at'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Notice',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', null=True, related_name='notices', on_delete=OnDelete.RESTRICT)),
                ('episode_id', fields.BigIntField(null=True)),
                ('server_id', fields.BigIntField(null=True)),
                ('channel', fields.CharField(max_length=16)),
                ('template', fields.CharField(max_length=64)),
                ('stage', fields.CharField(null=True, max_length=32)),
                ('invoice_ids', fields.JSONField(default=list)),
                ('server_ids', fields.JSONField(default=list)),
                ('recipient', fields.TextField(null=True)),
                ('subject', fields.TextField()),
                ('body', fields.TextField()),
                ('state', fields.CharField(default='PENDING', max_length=32)),
                ('created_at', fields.DatetimeField()),
                ('delivered_at', fields.DatetimeField(null=True)),
                ('attempts', fields.IntField(default=0)),
                ('next_attempt_at', fields.DatetimeField()),
                ('error', fields.TextField(null=True)),
                ('dedupe_key', fields.CharField(unique=True, max_length=200)),
            ],
            options={'table': 'notice', 'app': 'abeyance', 'indexes': [Index(fields=['state', 'next_attempt_at']), Index(fields=['account_id', 'episode_id'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Override',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='overrides', on_delete=OnDelete.RESTRICT)),
                ('server_id', fields.BigIntField(null=True)),
                ('kind', fields.CharField(max_length=32)),
                ('reason', fields.TextField()),
                ('placed_by', fields.CharField(max_length=200)),
                ('by_customer', fields.BooleanField(default=False)),
                ('placed_at', fields.DatetimeField()),
                ('expires_at', fields.DatetimeField(null=True)),
                ('revoked_at', fields.DatetimeField(null=True)),
                ('revoked_by', fields.CharField(null=True, max_length=200)),
            ],
            options={'table': 'override', 'app': 'abeyance', 'indexes': [Index(fields=['account_id', 'kind'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='StripeEvent',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('event_id', fields.CharField(unique=True, max_length=255)),
                ('type', fields.CharField(max_length=100)),
                ('api_version', fields.CharField(null=True, max_length=64)),
                ('created_at', fields.DatetimeField()),
                ('received_at', fields.DatetimeField()),
                ('source', fields.CharField(max_length=16)),
                ('object_type', fields.CharField(null=True, max_length=64)),
                ('object_id', fields.CharField(null=True, max_length=255)),
                ('stripe_customer_id', fields.CharField(null=True, db_index=True, max_length=64)),
                ('payload', fields.JSONField()),
                ('state', fields.CharField(default='PENDING', max_length=32)),
                ('attempts', fields.IntField(default=0)),
                ('next_attempt_at', fields.DatetimeField()),
                ('processed_at', fields.DatetimeField(null=True)),
                ('error', fields.TextField(null=True)),
            ],
            options={'table': 'stripe_event', 'app': 'abeyance', 'indexes': [Index(fields=['state', 'next_attempt_at'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='StripeMirror',
            fields=[
                ('id', fields.IntField(primary_key=True, generated=False)),
                ('stripe_account_id', fields.CharField(null=True, max_length=64)),
                ('events_until', fields.DatetimeField(null=True)),
                ('last_full_sweep_at', fields.DatetimeField(null=True)),
                ('last_webhook_at', fields.DatetimeField(null=True)),
                ('problem', fields.TextField(null=True)),
            ],
            options={'table': 'stripe_mirror', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Subscription',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('stripe_subscription_id', fields.CharField(unique=True, max_length=64)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='subscriptions', on_delete=OnDelete.RESTRICT)),
                ('status', fields.CharField(max_length=32)),
                ('current_period_end', fields.DatetimeField(null=True)),
                ('ended_at', fields.DatetimeField(null=True)),
                ('fetched_at', fields.DatetimeField()),
            ],
            options={'table': 'subscription', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='WorkItem',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('kind', fields.CharField(max_length=64)),
                ('account_id', fields.BigIntField(null=True)),
                ('server_id', fields.BigIntField(null=True)),
                ('title', fields.TextField()),
                ('detail', fields.TextField()),
                ('state', fields.CharField(default='OPEN', max_length=32)),
                ('since', fields.DatetimeField()),
                ('told_at', fields.DatetimeField(null=True)),
                ('dedupe_key', fields.CharField(max_length=200)),
                ('resolved_at', fields.DatetimeField(null=True)),
                ('resolved_by', fields.CharField(null=True, max_length=200)),
                ('resolution', fields.TextField(null=True)),
            ],
            options={'table': 'work_item', 'app': 'abeyance', 'indexes': [Index(fields=['state', 'kind'])], 'pk_attr': 'id'},
        ),
        REFUSAL_FUNCTION,
        checks("account", ACCOUNT),
        checks("invoice", INVOICE),
        checks("dispute", DISPUTE),
        checks("stripe_event", STRIPE_EVENT),
        checks("stripe_mirror", {"only_row": "NEW.id = 1"}),
        checks("override", OVERRIDE),
        checks("episode", EPISODE),
        checks("notice", NOTICE),
        checks("work_item", WORK_ITEM),
        checks("audit_entry", AUDIT_ENTRY),
        unique_while("episode_open_account", "episode", "account_id", "ended_at IS NULL AND server_id IS NULL"),
        unique_while("episode_open_server", "episode", "server_id", "ended_at IS NULL AND server_id IS NOT NULL"),
        unique_while("work_item_open", "work_item", "dedupe_key", "state <> 'RESOLVED'"),
        indexed_while("episode_shielded", "episode", "id", "shielded_since IS NOT NULL"),
        indexed_while("invoice_owed", "invoice", "id, overdue_at, account_id", "status = 'OPEN' AND amount_due > 0"),
        indexed_while("override_standing", "override", "account_id, expires_at", "revoked_at IS NULL"),
        indexed_while("notice_about_account", "notice", "state", "account_id IS NOT NULL"),
        trigrams("account_sought", "account", "external_id name email"),
        indexed_while("audit_entry_unsealed", "audit_entry", "id", "position IS NULL"),
        never_deleted("stripe_event"),
        never_deleted("stripe_mirror"),
        never_deleted("notice"),
        never_deleted("audit_entry"),
        refused(
            "audit_entry_appended_unsealed",
            "audit_entry",
            "INSERT",
            when="NEW.position IS NOT NULL OR NEW.salt IS NOT NULL OR NEW.erased_at IS NOT NULL",
            message="a row of audit_entry is sealed after it was written",
        ),
        refused(
            "audit_entry_only_sealed",
            "audit_entry",
            "UPDATE",
            when=f"NOT (({SEALED}) OR ({ERASED}))",
            message="a row of audit_entry is never changed",
        ),
        only_row("stripe_mirror"),
    ]
