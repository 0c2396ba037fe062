"""The tables of the doors."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from api.migrations._sql import (
    checks,
    one_of,
)

API_TOKEN = {
    "role": one_of("role", "CUSTOMER SUPPORT ADMIN INFRA CONTROL"),
    "customer_has_account": "NEW.role <> 'CUSTOMER' OR NEW.account_external_id IS NOT NULL",
    "hash": "length(NEW.hash) = 64",
}


class Migration(migrations.Migration):
    dependencies = [("abeyance", "0002_reconciler")]

    operations = [
        ops.CreateModel(
            name='ApiToken',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('name', fields.CharField(max_length=200)),
                ('role', fields.CharField(max_length=32)),
                ('person', fields.CharField(null=True, max_length=200)),
                ('account_external_id', fields.CharField(null=True, max_length=200)),
                ('hash', fields.CharField(unique=True, max_length=64)),
                ('created_at', fields.DatetimeField()),
                ('expires_at', fields.DatetimeField(null=True)),
                ('revoked_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'api_token', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='IdempotencyKey',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('actor', fields.CharField(max_length=200)),
                ('operation', fields.CharField(max_length=64)),
                ('key', fields.CharField(max_length=200)),
                ('request_hash', fields.CharField(max_length=64)),
                ('result', fields.JSONField(null=True)),
                ('created_at', fields.DatetimeField()),
            ],
            options={'table': 'idempotency_key', 'app': 'abeyance', 'unique_together': (('actor', 'operation', 'key'),), 'pk_attr': 'id'},
        ),
        checks("api_token", API_TOKEN),
    ]
