"""The tables of the reconciler."""

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from api.migrations._sql import (
    checks,
    indexed_while,
    never_deleted,
    one_of,
    only_row,
    trigrams,
    unique_while,
)

STAGES = "CURRENT PAST_DUE FINAL_NOTICE SUSPENDED RETAINED DECOMMISSION_REVIEW"
MODES = "OFF PLAN APPLY"
LANES = "RESTORE RESTRICT OBSERVE"

SERVER = {
    "external_id_given": "length(NEW.external_id) > 0",
    "kind": one_of("kind", "LXC VM WORKLOAD"),
    "deployment": one_of("deployment", "IN_PROGRESS SUCCEEDED FAILED"),
    "rate": "NEW.rate >= 0",
}
HOLD = {
    "cause": one_of("cause", "BILLING CUSTOMER ABUSE MAINTENANCE ADMIN"),
    "stage": one_of("stage", STAGES),
    "stage_of_billing": "(NEW.cause = 'BILLING') = (NEW.stage IS NOT NULL)",
    "lifted": "(NEW.lifted_at IS NULL) = (NEW.lifted_by IS NULL)",
}
OBSERVATION = {"power": one_of("power", "RUNNING STOPPED UNKNOWN"), "absences": "NEW.absences >= 0"}
RESTORE_PART = {
    "part": one_of("part", "power onboot protection backups backup role"),
    "owner": "NEW.server_id IS NOT NULL OR NEW.account_id IS NOT NULL",
    "volume": "(NEW.part = 'backup') = (NEW.volume <> '')",
    "closed": "(NEW.closed_at IS NULL) = (NEW.closed_because IS NULL)",
}
RUN = {
    "lane": one_of("lane", LANES),
    "state": one_of("state", "RUNNING FINISHED CANCELLED LOST"),
    "finished": "(NEW.state = 'RUNNING') = (NEW.finished_at IS NULL)",
}
STEP = {
    "kind": one_of("kind", "ADVANCE STOP START LOCK_BACKUPS UNLOCK_BACKUPS CLOSE_ACCESS OPEN_ACCESS"),
    "state": one_of("state", "PLANNED HELD_BACK DISPATCHED DONE FAILED UNKNOWN VOID DRIFT SKIPPED"),
    "lane": one_of("lane", LANES),
    "outcome": one_of("outcome", "CHANGED UNCHANGED FAILED UNKNOWN REFUSED"),
    "attempt": "NEW.attempt >= 1",
}
ADMISSION = {"from_stage": one_of("from_stage", STAGES), "to_stage": one_of("to_stage", STAGES)}
RECONCILER_STATE = {
    "only_row": "NEW.id = 1",
    "generation": "NEW.generation >= 0",
    "last_mode": one_of("last_mode", MODES),
    "paused": "(NEW.paused_at IS NULL) = (NEW.paused_by IS NULL)",
}
BUSY = "state IN ('DISPATCHED', 'UNKNOWN')"


class Migration(migrations.Migration):
    dependencies = [("abeyance", "0001_billing")]

    operations = [
        ops.CreateModel(
            name='Admission',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account_id', fields.BigIntField()),
                ('episode_id', fields.BigIntField()),
                ('policy', fields.CharField(max_length=64)),
                ('from_stage', fields.CharField(max_length=32)),
                ('to_stage', fields.CharField(max_length=32)),
                ('larger', fields.BooleanField()),
                ('plan_digest', fields.CharField(max_length=64)),
                ('at', fields.DatetimeField(db_index=True)),
            ],
            options={'table': 'admission', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='PlanSnapshot',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('digest', fields.CharField(db_index=True, max_length=64)),
                ('at', fields.DatetimeField()),
                ('mode', fields.CharField(max_length=32)),
                ('content', fields.JSONField()),
                ('text', fields.TextField()),
            ],
            options={'table': 'plan_snapshot', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='ReconcilerState',
            fields=[
                ('id', fields.IntField(primary_key=True, generated=False)),
                ('generation', fields.BigIntField(default=0)),
                ('first_apply_at', fields.DatetimeField(null=True)),
                ('last_mode', fields.CharField(null=True, max_length=32)),
                ('left_apply_at', fields.DatetimeField(null=True)),
                ('notices_void_before', fields.DatetimeField(null=True)),
                ('paused_at', fields.DatetimeField(null=True)),
                ('paused_by', fields.CharField(null=True, max_length=200)),
                ('paused_reason', fields.TextField(null=True)),
                ('breaker_open_at', fields.DatetimeField(null=True)),
                ('breaker_reason', fields.TextField(null=True)),
                ('safe_mode_since', fields.DatetimeField(null=True)),
                ('safe_mode_reason', fields.TextField(null=True)),
                ('last_pass_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'reconciler_state', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='RestorePart',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('server_id', fields.BigIntField(null=True, db_index=True)),
                ('account_id', fields.BigIntField(null=True, db_index=True)),
                ('site', fields.CharField(max_length=64)),
                ('part', fields.CharField(max_length=32)),
                ('volume', fields.CharField(default='', max_length=255)),
                ('found', fields.TextField()),
                ('step_id', fields.BigIntField()),
                ('taken_at', fields.DatetimeField()),
                ('closed_at', fields.DatetimeField(null=True)),
                ('closed_because', fields.CharField(null=True, max_length=64)),
            ],
            options={'table': 'restore_part', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Run',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('tag', fields.CharField(unique=True, max_length=64)),
                ('action', fields.CharField(max_length=64)),
                ('site', fields.CharField(max_length=64)),
                ('node', fields.CharField(null=True, max_length=100)),
                ('lane', fields.CharField(max_length=32)),
                ('state', fields.CharField(default='RUNNING', max_length=32)),
                ('plan_digest', fields.CharField(max_length=64)),
                ('requested_by', fields.CharField(max_length=200)),
                ('started_at', fields.DatetimeField()),
                ('finished_at', fields.DatetimeField(null=True)),
                ('verified_gone', fields.BooleanField(default=False)),
                ('cancel_wanted_at', fields.DatetimeField(null=True)),
                ('log', fields.TextField(default='')),
                ('problem', fields.TextField(null=True)),
            ],
            options={'table': 'run', 'app': 'abeyance', 'indexes': [Index(fields=['state', 'site']), Index(fields=['action', 'site'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Server',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('external_id', fields.CharField(unique=True, max_length=200)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='servers', on_delete=OnDelete.RESTRICT)),
                ('name', fields.CharField(max_length=300)),
                ('site', fields.CharField(max_length=64)),
                ('site_node', fields.CharField(null=True, max_length=100)),
                ('kind', fields.CharField(max_length=32)),
                ('guest', fields.CharField(null=True, max_length=200)),
                ('sku', fields.CharField(max_length=100)),
                ('rate', fields.BigIntField(default=0)),
                ('free', fields.BooleanField(default=False)),
                ('critical', fields.BooleanField(default=False)),
                ('stripe_subscription_id', fields.CharField(null=True, db_index=True, max_length=64)),
                ('deployment', fields.CharField(max_length=32)),
                ('deployed_at', fields.DatetimeField(null=True)),
                ('retired_at', fields.DatetimeField(null=True)),
                ('marker', fields.CharField(null=True, max_length=200)),
                ('missing_since', fields.DatetimeField(null=True)),
                ('joined_at', fields.DatetimeField()),
                ('start_wanted_at', fields.DatetimeField(null=True)),
                ('created_at', fields.DatetimeField()),
            ],
            options={'table': 'server', 'app': 'abeyance', 'indexes': [Index(fields=['account_id', 'retired_at']), Index(fields=['site', 'site_node']), Index(fields=['deployment']), Index(fields=['missing_since']), Index(fields=['retired_at'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Hold',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('server', fields.ForeignKeyField('abeyance.Server', source_field='server_id', related_name='holds', on_delete=OnDelete.RESTRICT)),
                ('cause', fields.CharField(max_length=32)),
                ('stops_server', fields.BooleanField(default=False)),
                ('locks_backups', fields.BooleanField(default=False)),
                ('locks_account', fields.BooleanField(default=False)),
                ('stage', fields.CharField(null=True, max_length=32)),
                ('reason', fields.TextField()),
                ('placed_by', fields.CharField(max_length=200)),
                ('since', fields.DatetimeField()),
                ('expires_at', fields.DatetimeField(null=True)),
                ('lifted_at', fields.DatetimeField(null=True)),
                ('lifted_by', fields.CharField(null=True, max_length=200)),
            ],
            options={'table': 'hold', 'app': 'abeyance', 'indexes': [Index(fields=['server_id', 'lifted_at'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Observation',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('server', fields.OneToOneField('abeyance.Server', source_field='server_id', related_name='observation', on_delete=OnDelete.RESTRICT)),
                ('observed_at', fields.DatetimeField()),
                ('power', fields.CharField(default='UNKNOWN', max_length=32)),
                ('node', fields.CharField(null=True, max_length=100)),
                ('busy', fields.TextField(null=True)),
                ('absences', fields.IntField(default=0)),
                ('marked_at', fields.DatetimeField(null=True)),
                ('deep_at', fields.DatetimeField(null=True)),
                ('onboot', fields.BooleanField(null=True)),
                ('protection', fields.BooleanField(null=True)),
                ('digest', fields.CharField(null=True, max_length=100)),
                ('protected_backups', fields.JSONField(null=True)),
                ('unprotected_backups', fields.JSONField(null=True)),
            ],
            options={'table': 'observation', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='SiteState',
            fields=[
                ('site', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('attempted_at', fields.DatetimeField(null=True)),
                ('complete_at', fields.DatetimeField(null=True)),
                ('silent_nodes', fields.JSONField(default=list)),
                ('problem', fields.TextField(null=True)),
                ('excess', fields.JSONField(default=list)),
                ('identities', fields.JSONField(default=dict)),
            ],
            options={'table': 'site_state', 'app': 'abeyance', 'pk_attr': 'site'},
        ),
        ops.CreateModel(
            name='Step',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('kind', fields.CharField(max_length=32)),
                ('state', fields.CharField(max_length=32)),
                ('account_id', fields.BigIntField(db_index=True)),
                ('server_id', fields.BigIntField(null=True, db_index=True)),
                ('site', fields.CharField(max_length=64)),
                ('node', fields.CharField(null=True, max_length=100)),
                ('lane', fields.CharField(max_length=32)),
                ('action', fields.CharField(max_length=64)),
                ('reason', fields.TextField()),
                ('requested_by', fields.CharField(max_length=200)),
                ('plan_digest', fields.CharField(max_length=64)),
                ('facts_version', fields.BigIntField()),
                ('expect', fields.JSONField(default=dict)),
                ('run', fields.ForeignKeyField('abeyance.Run', source_field='run_id', null=True, db_index=True, related_name='steps', on_delete=OnDelete.RESTRICT)),
                ('dispatched_at', fields.DatetimeField()),
                ('finished_at', fields.DatetimeField(null=True)),
                ('outcome', fields.CharField(null=True, max_length=32)),
                ('message', fields.TextField(default='')),
                ('before', fields.JSONField(null=True)),
                ('after', fields.JSONField(null=True)),
                ('attempt', fields.IntField(default=1)),
                ('retry_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'step', 'app': 'abeyance', 'indexes': [Index(fields=['state', 'site']), Index(fields=['server_id', 'kind'])], 'pk_attr': 'id'},
        ),
        checks("server", SERVER),
        checks("hold", HOLD),
        checks("observation", OBSERVATION),
        checks("restore_part", RESTORE_PART),
        checks("run", RUN),
        checks("step", STEP),
        checks("plan_snapshot", {"mode": one_of("mode", MODES)}),
        checks("admission", ADMISSION),
        checks("reconciler_state", RECONCILER_STATE),
        # Two servers under one guest would let the debt of one owner stop the other's.
        unique_while(
            "server_of_guest",
            "server",
            "site, guest, COALESCE(site_node, '')",
            "guest IS NOT NULL AND retired_at IS NULL",
        ),
        indexed_while(
            "server_there",
            "server",
            "id",
            "retired_at IS NULL AND missing_since IS NULL AND deployment = 'SUCCEEDED'",
        ),
        trigrams("server_sought", "server", "external_id guest name"),
        indexed_while("hold_stopping", "hold", "server_id, cause, expires_at", "lifted_at IS NULL AND stops_server"),
        indexed_while("hold_locking", "hold", "server_id, expires_at", "lifted_at IS NULL AND locks_backups"),
        indexed_while("observation_off", "observation", "server_id", "power = 'STOPPED'"),
        indexed_while("observation_locked", "observation", "server_id", "unprotected_backups = '[]'"),
        unique_while("hold_open", "hold", "server_id, cause", "lifted_at IS NULL"),
        unique_while(
            "restore_part_of_server",
            "restore_part",
            "server_id, part, volume",
            "closed_at IS NULL AND server_id IS NOT NULL",
        ),
        unique_while(
            "restore_part_of_account",
            "restore_part",
            "account_id, site, part, volume",
            "closed_at IS NULL AND server_id IS NULL",
        ),
        unique_while("run_on_node", "run", "site, node, lane", "state = 'RUNNING' AND node IS NOT NULL"),
        unique_while("step_on_server", "step", "server_id", f"{BUSY} AND server_id IS NOT NULL"),
        unique_while("step_on_account", "step", "account_id, site", f"{BUSY} AND server_id IS NULL"),
        never_deleted("reconciler_state"),
        only_row("reconciler_state", generation=0),
    ]
