"""The tables of the guard: approvals and their votes, what a release covers, safe mode, the ladders in force."""

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from api.migrations._sql import checks, kept, never_changed, never_deleted, one_of, refused, unique_while

APPROVAL = {
    "kind": one_of("kind", "SUSPEND_NOW BREAKER_RELEASE DECOMMISSION"),
    "state": one_of("state", "PENDING GIVEN WITHDRAWN EXPIRED VOID"),
    "subject_given": "length(NEW.subject_id) > 0",
    "digest": "length(NEW.digest) = 64",
    "reason_given": "length(NEW.reason) > 0",
    "author_given": "length(NEW.requested_by) > 0",
    "expiry": "NEW.expires_at > NEW.requested_at",
    "given": "NEW.state <> 'GIVEN' OR NEW.given_at IS NOT NULL",
    "ended": "(NEW.state IN ('PENDING', 'GIVEN')) = (NEW.ended_at IS NULL)",
}
APPROVAL_VOTE = {"person_given": "length(NEW.person) > 0", "reason_given": "length(NEW.reason) > 0"}
SAFE_MODE_CAUSE = {
    "kind": one_of("kind", "RESTORED_DATABASE NO_MARKER CLOCK_JUMP IDENTITY GUESTS_MISSING"),
    "reason_given": "length(NEW.reason) > 0",
    "end": "NEW.ended_at >= NEW.since",
    "released": "(NEW.released_at IS NULL) = (NEW.released_by IS NULL)",
}
AGREED = "id kind subject_type subject_id account_id digest requested_by requested_at expires_at alone_at"


class Migration(migrations.Migration):
    dependencies = [("abeyance", "0004_money")]

    operations = [
        ops.CreateModel(
            name='Approval',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('kind', fields.CharField(max_length=32)),
                ('subject_type', fields.CharField(max_length=32)),
                ('subject_id', fields.CharField(max_length=64)),
                ('account_id', fields.BigIntField(null=True, db_index=True)),
                ('about', fields.JSONField(default=dict)),
                ('digest', fields.CharField(max_length=64)),
                ('reason', fields.TextField()),
                ('requested_by', fields.CharField(max_length=200)),
                ('requested_at', fields.DatetimeField()),
                ('expires_at', fields.DatetimeField()),
                ('alone_at', fields.DatetimeField(null=True)),
                ('state', fields.CharField(default='PENDING', max_length=32)),
                ('given_at', fields.DatetimeField(null=True)),
                ('ended_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'approval', 'app': 'abeyance', 'indexes': [Index(fields=['state', 'kind'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='ApprovalVote',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('approval', fields.ForeignKeyField('abeyance.Approval', source_field='approval_id', related_name='votes', on_delete=OnDelete.RESTRICT)),
                ('person', fields.CharField(max_length=200)),
                ('actor', fields.CharField(max_length=200)),
                ('reason', fields.TextField()),
                ('at', fields.DatetimeField()),
            ],
            options={'table': 'approval_vote', 'app': 'abeyance', 'unique_together': (('approval_id', 'person'),), 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='BreakerCover',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('approval', fields.ForeignKeyField('abeyance.Approval', source_field='approval_id', related_name='covers', on_delete=OnDelete.RESTRICT)),
                ('account_id', fields.BigIntField(db_index=True)),
                ('server_id', fields.BigIntField(null=True)),
                ('episode_id', fields.BigIntField()),
                ('invoice_ids', fields.JSONField(default=list)),
            ],
            options={'table': 'breaker_cover', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='LadderInForce',
            fields=[
                ('name', fields.CharField(primary_key=True, max_length=64)),
                ('rungs', fields.JSONField()),
                ('says', fields.JSONField()),
                ('since', fields.DatetimeField()),
            ],
            options={'table': 'ladder_in_force', 'app': 'abeyance', 'pk_attr': 'name'},
        ),
        ops.CreateModel(
            name='SafeModeCause',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('kind', fields.CharField(max_length=32)),
                ('scope', fields.CharField(default='', max_length=64)),
                ('reason', fields.TextField()),
                ('since', fields.DatetimeField()),
                ('needs_person', fields.BooleanField()),
                ('released_at', fields.DatetimeField(null=True)),
                ('released_by', fields.CharField(null=True, max_length=200)),
                ('ended_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'safe_mode_cause', 'app': 'abeyance', 'indexes': [Index(fields=['ended_at'])], 'pk_attr': 'id'},
        ),
        checks("approval", APPROVAL),
        unique_while("approval_pending", "approval", "kind, subject_type, subject_id", "state = 'PENDING'"),
        kept("approval", AGREED),
        never_deleted("approval"),
        refused(
            "approval_ended_once",
            "approval",
            "UPDATE",
            when="OLD.ended_at IS NOT NULL OR (OLD.state = 'GIVEN' AND NEW.state = 'PENDING')",
            message="an approval that ended never goes back",
        ),
        checks("approval_vote", APPROVAL_VOTE),
        *never_changed("approval_vote"),
        *never_changed("breaker_cover"),
        checks("safe_mode_cause", SAFE_MODE_CAUSE),
        unique_while("safe_mode_cause_open", "safe_mode_cause", "kind, scope", "ended_at IS NULL"),
        never_deleted("safe_mode_cause"),
    ]
