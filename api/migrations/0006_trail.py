"""The tables of what the control plane is told."""

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from api.migrations._sql import checks, indexed_while, one_of

STAGES = "CURRENT PAST_DUE FINAL_NOTICE SUSPENDED RETAINED DECOMMISSION_REVIEW"

OUTGOING_EVENT = {
    "type": one_of("type", "standing.changed server.held server.restored"),
    "stage": one_of("stage", STAGES),
    "about": "NEW.type = 'standing.changed' OR NEW.server IS NOT NULL",
}
OUTGOING_DELIVERY = {
    "state": one_of("state", "PENDING DELIVERED GIVEN_UP"),
    "finished": "(NEW.state = 'PENDING') = (NEW.finished_at IS NULL)",
    "attempts": "NEW.attempts >= 0",
}


class Migration(migrations.Migration):
    dependencies = [("abeyance", "0005_guard")]

    operations = [
        ops.CreateModel(
            name='OutgoingEvent',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('type', fields.CharField(max_length=32)),
                ('at', fields.DatetimeField(db_index=True)),
                ('account', fields.CharField(max_length=200)),
                ('server', fields.CharField(null=True, max_length=200)),
                ('stage', fields.CharField(max_length=32)),
                ('effects', fields.JSONField(default=list)),
                ('gives_back', fields.BooleanField()),
                ('event_id', fields.CharField(null=True, unique=True, max_length=40)),
            ],
            options={'table': 'outgoing_event', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='OutgoingDelivery',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('event', fields.ForeignKeyField('abeyance.OutgoingEvent', source_field='event_id', related_name='deliveries', on_delete=OnDelete.RESTRICT)),
                ('receiver', fields.CharField(max_length=16)),
                ('state', fields.CharField(default='PENDING', max_length=32)),
                ('attempts', fields.IntField(default=0)),
                ('next_attempt_at', fields.DatetimeField()),
                ('finished_at', fields.DatetimeField(null=True)),
                ('error', fields.TextField(null=True)),
            ],
            options={'table': 'outgoing_delivery', 'app': 'abeyance', 'unique_together': (('event_id', 'receiver'),), 'indexes': [Index(fields=['receiver', 'state', 'next_attempt_at'])], 'pk_attr': 'id'},
        ),
        checks("outgoing_event", OUTGOING_EVENT),
        checks("outgoing_delivery", OUTGOING_DELIVERY),
        indexed_while("outgoing_event_fresh", "outgoing_event", "id", "event_id IS NULL"),
    ]
