"""The tables of the money: ledger, vouchers, cards, charges, prices, usage, parts of invoices, reservations."""

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from api.migrations._sql import (
    after_insert,
    checks,
    currency,
    indexed_while,
    kept,
    never_changed,
    never_deleted,
    one_of,
    refused,
    refused_by_query,
    unique_while,
)

PURSES = "BALANCE VOUCHER BALANCE_RESERVED VOUCHER_RESERVED"
HOUSE = "STRIPE BANK VOUCHERS_ISSUED CREDIT_GRANTED INVOICES_PAID WRITTEN_OFF"

LEDGER_ACCOUNT = {
    "kind": one_of("kind", f"{PURSES} {HOUSE}"),
    "owner": f"(NEW.account_id IS NULL) = ({one_of('kind', HOUSE)})",
    "currency": currency("currency"),
    # The house's accounts have no balance of their own: every payment of every customer would wait for that row.
    "cached": "(NEW.balance IS NULL) = (NEW.account_id IS NULL)",
    "covered": "NEW.balance >= 0",
}
LEDGER_TRANSACTION = {
    "kind": one_of(
        "kind",
        "VOUCHER_REDEEMED TOP_UP PAYMENT_RECORDED CREDIT_GRANTED INVOICE_PAID RESERVED RESERVATION_FREED CARD_CHARGED "
        "OVERPAID REFUNDED REVERSED WRITTEN_OFF",
    ),
    "actor_given": "length(NEW.actor) > 0",
    "source_given": "length(NEW.source) > 0 AND length(NEW.source_id) > 0",
    "of_a_voucher": "(NEW.kind = 'VOUCHER_REDEEMED') = (NEW.voucher_id IS NOT NULL)",
    "reversal": "(NEW.kind = 'REVERSED') = (NEW.reverses_id IS NOT NULL)",
}
LEDGER_TRANSFER = {"amount": "NEW.amount > 0", "two_accounts": "NEW.debit_id <> NEW.credit_id"}
VOUCHER = {
    "code_hash": "length(NEW.code_hash) = 64",
    "value": "NEW.value > 0",
    "currency": currency("currency"),
    "author_given": "length(NEW.issued_by) > 0",
    "expiry": "NEW.expires_at > NEW.issued_at",
    "redeemed": "(NEW.redeemed_at IS NULL) = (NEW.redeemed_by_id IS NULL)",
    "redeemed_in_time": "NEW.redeemed_at < NEW.expires_at",
    "one_end": "NEW.redeemed_at IS NULL OR NEW.revoked_at IS NULL",
}
CARD = {
    "exp_month": "NEW.exp_month BETWEEN 1 AND 12",
    "version": "NEW.version >= 1",
    "default_not_removed": "NOT NEW.is_default OR NEW.removed_at IS NULL",
    "detached_after_removal": "NEW.detached_at IS NULL OR NEW.removed_at IS NOT NULL",
}
CHARGE = {
    "amount": "NEW.amount > 0",
    "currency": currency("currency"),
    "card_version": "NEW.card_version >= 1",
    "occasion_given": "length(NEW.occasion) > 0",
    "state": one_of("state", "INTENDED PROCESSING REQUIRES_ACTION SUCCEEDED FAILED ABANDONED"),
    "known_to_stripe": "NEW.state IN ('INTENDED', 'FAILED', 'ABANDONED') OR NEW.stripe_payment_intent_id IS NOT NULL",
}
PRICE = {
    "sku_given": "length(NEW.sku) > 0",
    "currency": currency("currency"),
    "rate": "NEW.rate >= 0",
}
USAGE_INTERVAL = {
    "currency": currency("currency"),
    "rate": "NEW.rate >= 0",
    "end": "NEW.ended_at >= NEW.started_at",
    "ended": "(NEW.ended_at IS NULL) = (NEW.ended_because IS NULL)",
    "ended_because": one_of("ended_because", "retired resized held missing transferred free subscribed failed"),
}
INVOICED_UNTIL = "(SELECT invoiced_until FROM metered_account WHERE account_id = NEW.account_id)"
INVOICE_LINE = {
    "amount": "NEW.amount >= 0",
    "seconds": "NEW.seconds >= 0",
    "rate": "NEW.rate >= 0",
}
INVOICE_PART = {
    "amount": "NEW.amount > 0",
    "source": one_of("source", "VOUCHER BALANCE CARD OUT_OF_BAND CREDIT_NOTE STRIPE WRITE_OFF"),
    "source_given": "length(NEW.source_id) > 0",
    "of_a_card": "NEW.card_id IS NULL OR NEW.source = 'CARD'",
}
RESERVATION = {
    "amount": "NEW.amount > 0",
    "purse": one_of("purse", "BALANCE VOUCHER"),
    "state": one_of("state", "RESERVED REPORTED BOOKED FREED"),
}

#: What the transfers of a purse add up to.
SUM = """(
    (SELECT COALESCE(SUM(amount), 0) FROM ledger_transfer WHERE credit_id = {id})
    - (SELECT COALESCE(SUM(amount), 0) FROM ledger_transfer WHERE debit_id = {id}))"""
POSTED = (
    f"UPDATE ledger_account SET balance = {SUM.format(id='ledger_account.id')} "
    "WHERE id IN (NEW.debit_id, NEW.credit_id) AND account_id IS NOT NULL;"
)
#: Whoever waited for another posting to the same purse adds up anew afterwards; in one order, so that nobody waits
#: in a circle.
POSTING = (
    "PERFORM 1 FROM ledger_account WHERE id IN (NEW.debit_id, NEW.credit_id) AND account_id IS NOT NULL "
    "ORDER BY id FOR NO KEY UPDATE;"
)
SIDES = "FROM ledger_account d, ledger_account c WHERE d.id = NEW.debit_id AND c.id = NEW.credit_id"


class Migration(migrations.Migration):
    dependencies = [("abeyance", "0003_doors")]

    operations = [
        ops.CreateModel(
            name='Card',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='cards', on_delete=OnDelete.RESTRICT)),
                ('stripe_payment_method_id', fields.CharField(unique=True, max_length=64)),
                ('fingerprint', fields.CharField(max_length=64)),
                ('brand', fields.CharField(max_length=32)),
                ('last4', fields.CharField(max_length=4)),
                ('exp_month', fields.IntField()),
                ('exp_year', fields.IntField()),
                ('is_default', fields.BooleanField(default=False)),
                ('added_at', fields.DatetimeField()),
                ('version', fields.IntField(default=1)),
                ('to_settle', fields.BooleanField(default=True)),
                ('removed_at', fields.DatetimeField(null=True)),
                ('detached_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'card', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='CardAttempt',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account_id', fields.BigIntField()),
                ('kind', fields.CharField(max_length=32)),
                ('charge_id', fields.BigIntField(null=True)),
                ('at', fields.DatetimeField()),
            ],
            options={'table': 'card_attempt', 'app': 'abeyance', 'indexes': [Index(fields=['account_id', 'kind', 'at'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Charge',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='charges', on_delete=OnDelete.RESTRICT)),
                ('invoice_id', fields.BigIntField(null=True, db_index=True)),
                ('card', fields.ForeignKeyField('abeyance.Card', source_field='card_id', related_name='charges', on_delete=OnDelete.RESTRICT)),
                ('card_version', fields.IntField()),
                ('amount', fields.BigIntField()),
                ('currency', fields.CharField(max_length=3)),
                ('on_session', fields.BooleanField()),
                ('occasion', fields.CharField(max_length=100)),
                ('idempotency_key', fields.CharField(unique=True, max_length=200)),
                ('state', fields.CharField(default='INTENDED', max_length=32)),
                ('stripe_payment_intent_id', fields.CharField(null=True, db_index=True, max_length=64)),
                ('decline_code', fields.CharField(null=True, max_length=64)),
                ('hard_decline', fields.BooleanField(default=False)),
                ('created_at', fields.DatetimeField()),
                ('updated_at', fields.DatetimeField()),
                ('next_look_at', fields.DatetimeField(null=True)),
            ],
            options={'table': 'charge', 'app': 'abeyance', 'indexes': [Index(fields=['state', 'next_look_at']), Index(fields=['account_id', 'state'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='InvoiceLine',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('invoice', fields.ForeignKeyField('abeyance.Invoice', source_field='invoice_id', related_name='own_lines', on_delete=OnDelete.RESTRICT)),
                ('server_id', fields.BigIntField(null=True)),
                ('sku', fields.CharField(null=True, max_length=100)),
                ('description', fields.TextField()),
                ('seconds', fields.BigIntField(null=True)),
                ('rate', fields.BigIntField(null=True)),
                ('amount', fields.BigIntField()),
            ],
            options={'table': 'invoice_line', 'app': 'abeyance', 'indexes': [Index(fields=['invoice_id'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='InvoicePart',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('invoice', fields.ForeignKeyField('abeyance.Invoice', source_field='invoice_id', related_name='parts', on_delete=OnDelete.RESTRICT)),
                ('source', fields.CharField(max_length=32)),
                ('source_id', fields.CharField(max_length=255)),
                ('amount', fields.BigIntField()),
                ('at', fields.DatetimeField()),
                ('transaction_id', fields.BigIntField(null=True)),
                ('card_id', fields.BigIntField(null=True)),
            ],
            options={'table': 'invoice_part', 'app': 'abeyance', 'unique_together': (('invoice_id', 'source', 'source_id'),), 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='LedgerAccount',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', null=True, related_name='ledger_accounts', on_delete=OnDelete.RESTRICT)),
                ('kind', fields.CharField(max_length=32)),
                ('currency', fields.CharField(max_length=3)),
                ('balance', fields.BigIntField(null=True)),
            ],
            options={'table': 'ledger_account', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='LedgerTransaction',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='ledger_transactions', on_delete=OnDelete.RESTRICT)),
                ('kind', fields.CharField(max_length=32)),
                ('at', fields.DatetimeField()),
                ('actor', fields.CharField(max_length=200)),
                ('description', fields.TextField()),
                ('source', fields.CharField(max_length=64)),
                ('source_id', fields.CharField(max_length=255)),
                ('invoice_id', fields.BigIntField(null=True, db_index=True)),
                ('voucher_id', fields.BigIntField(null=True, unique=True)),
                ('reverses_id', fields.BigIntField(null=True, unique=True)),
            ],
            options={'table': 'ledger_transaction', 'app': 'abeyance', 'unique_together': (('source', 'source_id'),), 'indexes': [Index(fields=['account_id', 'id'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='LedgerTransfer',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('transaction', fields.ForeignKeyField('abeyance.LedgerTransaction', source_field='transaction_id', related_name='transfers', on_delete=OnDelete.RESTRICT)),
                ('debit', fields.ForeignKeyField('abeyance.LedgerAccount', source_field='debit_id', related_name='debits', on_delete=OnDelete.RESTRICT)),
                ('credit', fields.ForeignKeyField('abeyance.LedgerAccount', source_field='credit_id', related_name='credits', on_delete=OnDelete.RESTRICT)),
                ('amount', fields.BigIntField()),
            ],
            options={'table': 'ledger_transfer', 'app': 'abeyance', 'indexes': [Index(fields=['transaction_id']), Index(fields=['debit_id', 'amount']), Index(fields=['credit_id', 'amount'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='MeteredAccount',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.OneToOneField('abeyance.Account', source_field='account_id', related_name='metering', on_delete=OnDelete.RESTRICT)),
                ('month', fields.DateField()),
                ('invoiced_until', fields.DatetimeField()),
                ('due_at', fields.DatetimeField(db_index=True)),
            ],
            options={'table': 'metered_account', 'app': 'abeyance', 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='NumberSeries',
            fields=[
                ('name', fields.CharField(primary_key=True, max_length=32)),
                ('next', fields.BigIntField()),
            ],
            options={'table': 'number_series', 'app': 'abeyance', 'pk_attr': 'name'},
        ),
        ops.CreateModel(
            name='Price',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('sku', fields.CharField(max_length=100)),
                ('description', fields.TextField(default='')),
                ('currency', fields.CharField(max_length=3)),
                ('rate', fields.BigIntField()),
                ('valid_from', fields.DatetimeField()),
                ('set_by', fields.CharField(max_length=200)),
            ],
            options={'table': 'price', 'app': 'abeyance', 'unique_together': (('sku', 'currency', 'valid_from'),), 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Reservation',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account_id', fields.BigIntField(db_index=True)),
                ('invoice', fields.ForeignKeyField('abeyance.Invoice', source_field='invoice_id', related_name='reservations', on_delete=OnDelete.RESTRICT)),
                ('purse', fields.CharField(max_length=32)),
                ('amount', fields.BigIntField()),
                ('state', fields.CharField(default='RESERVED', max_length=32)),
                ('set_aside', fields.BooleanField(default=False)),
                ('idempotency_key', fields.CharField(unique=True, max_length=200)),
                ('stripe_payment_record_id', fields.CharField(null=True, max_length=64)),
                ('created_at', fields.DatetimeField()),
                ('updated_at', fields.DatetimeField()),
                ('next_look_at', fields.DatetimeField(null=True)),
                ('detail', fields.JSONField(default=dict)),
            ],
            options={'table': 'reservation', 'app': 'abeyance', 'indexes': [Index(fields=['state', 'next_look_at'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='UsageInterval',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account', fields.ForeignKeyField('abeyance.Account', source_field='account_id', related_name='usage', on_delete=OnDelete.RESTRICT)),
                ('server_id', fields.BigIntField(db_index=True)),
                ('server_name', fields.CharField(max_length=300)),
                ('sku', fields.CharField(max_length=100)),
                ('currency', fields.CharField(max_length=3)),
                ('rate', fields.BigIntField()),
                ('started_at', fields.DatetimeField()),
                ('ended_at', fields.DatetimeField(null=True)),
                ('ended_because', fields.CharField(null=True, max_length=32)),
            ],
            options={'table': 'usage_interval', 'app': 'abeyance', 'indexes': [Index(fields=['account_id', 'started_at'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='Voucher',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('code_hash', fields.CharField(unique=True, max_length=64)),
                ('value', fields.BigIntField()),
                ('currency', fields.CharField(max_length=3)),
                ('note', fields.TextField(null=True)),
                ('issued_by', fields.CharField(max_length=200)),
                ('issued_at', fields.DatetimeField()),
                ('expires_at', fields.DatetimeField(null=True)),
                ('revoked_at', fields.DatetimeField(null=True)),
                ('redeemed_at', fields.DatetimeField(null=True)),
                ('redeemed_by', fields.ForeignKeyField('abeyance.Account', source_field='redeemed_by_id', null=True, related_name='vouchers', on_delete=OnDelete.RESTRICT)),
            ],
            options={'table': 'voucher', 'app': 'abeyance', 'indexes': [Index(fields=['redeemed_by_id'])], 'pk_attr': 'id'},
        ),
        ops.CreateModel(
            name='VoucherGuess',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True)),
                ('account_id', fields.BigIntField(null=True)),
                ('address', fields.CharField(null=True, max_length=64)),
                ('at', fields.DatetimeField()),
            ],
            options={'table': 'voucher_guess', 'app': 'abeyance', 'indexes': [Index(fields=['account_id', 'at']), Index(fields=['address', 'at'])], 'pk_attr': 'id'},
        ),
        ops.AddField(model_name='Server', name='resized_at', field=fields.DatetimeField(null=True)),
        ops.AddField(model_name='Observation', name='seen_at', field=fields.DatetimeField(null=True)),
        checks("ledger_account", LEDGER_ACCOUNT),
        checks("ledger_transaction", LEDGER_TRANSACTION),
        checks("ledger_transfer", LEDGER_TRANSFER),
        checks("voucher", VOUCHER),
        checks("voucher_guess", {"of_somebody": "NEW.account_id IS NOT NULL OR NEW.address IS NOT NULL"}),
        checks("card", CARD),
        checks("card_attempt", {"kind": one_of("kind", "SETUP ADDING CHARGE")}),
        checks("charge", CHARGE),
        checks("price", PRICE),
        checks("usage_interval", USAGE_INTERVAL),
        checks("invoice_line", INVOICE_LINE),
        checks("number_series", {"next": "NEW.next >= 1"}),
        checks("invoice_part", INVOICE_PART),
        checks("reservation", RESERVATION),
        unique_while("ledger_account_purse", "ledger_account", "account_id, kind, currency", "account_id IS NOT NULL"),
        unique_while("ledger_account_house", "ledger_account", "kind, currency", "account_id IS NULL"),
        unique_while("card_default", "card", "account_id", "is_default AND removed_at IS NULL"),
        indexed_while("card_to_settle", "card", "account_id", "to_settle AND removed_at IS NULL"),
        indexed_while("voucher_unused", "voucher", "expires_at", "redeemed_at IS NULL AND revoked_at IS NULL"),
        indexed_while("voucher_redeemed", "voucher", "id", "redeemed_at IS NOT NULL"),
        indexed_while("voucher_revoked", "voucher", "id", "redeemed_at IS NULL AND revoked_at IS NOT NULL"),
        unique_while("card_of_account", "card", "account_id, fingerprint", "removed_at IS NULL"),
        unique_while(
            "charge_in_flight", "charge", "invoice_id", "invoice_id IS NOT NULL AND state IN ('INTENDED', 'PROCESSING')"
        ),
        unique_while("charge_occasion", "charge", "invoice_id, card_id, occasion", "invoice_id IS NOT NULL"),
        unique_while("usage_open", "usage_interval", "server_id", "ended_at IS NULL"),
        unique_while("reservation_open", "reservation", "invoice_id, purse", "state IN ('RESERVED', 'REPORTED')"),
        unique_while("invoice_of_month", "invoice", "account_id, period_start", "origin = 'USAGE'"),
        unique_while("invoice_number", "invoice", "number", "origin <> 'STRIPE'"),
        *never_changed("ledger_transaction"),
        *never_changed("ledger_transfer"),
        *never_changed("invoice_line"),
        *never_changed("invoice_part"),
        *never_changed("price"),
        never_deleted("ledger_account"),
        never_deleted("voucher"),
        never_deleted("card"),
        never_deleted("charge"),
        never_deleted("usage_interval"),
        never_deleted("metered_account"),
        never_deleted("number_series"),
        never_deleted("reservation"),
        kept("ledger_account", "id account_id kind currency"),
        kept("voucher", "id code_hash value currency note issued_by issued_at expires_at"),
        kept("card", "id account_id stripe_payment_method_id added_at"),
        kept("charge", "id account_id invoice_id card_id card_version amount currency occasion idempotency_key created_at"),
        kept("usage_interval", "id account_id server_id server_name sku currency rate started_at"),
        kept("reservation", "id account_id invoice_id purse idempotency_key created_at"),
        refused(
            "voucher_ended_once",
            "voucher",
            "UPDATE",
            when="OLD.redeemed_at IS NOT NULL OR OLD.revoked_at IS NOT NULL",
            message="a voucher is redeemed or revoked once",
        ),
        refused(
            "card_removed_once",
            "card",
            "UPDATE",
            when="OLD.removed_at IS NOT NULL AND NOT NEW.removed_at <same> OLD.removed_at",
            message="a removed card never comes back",
        ),
        refused(
            "charge_succeeded_once",
            "charge",
            "UPDATE",
            when="OLD.state = 'SUCCEEDED' AND NEW.state <> 'SUCCEEDED'",
            message="a charge that succeeded stays so",
        ),
        refused(
            "metered_account_moves_on",
            "metered_account",
            "UPDATE",
            when="NEW.account_id <> OLD.account_id OR NEW.invoiced_until < OLD.invoiced_until OR NEW.month < OLD.month",
            message="what was invoiced of an account is never invoiced again",
        ),
        refused_by_query(
            "usage_interval_begins_invoiced",
            "usage_interval",
            "INSERT",
            when=f"NEW.started_at < {INVOICED_UNTIL}",
            message="a usage_interval begins after what is invoiced",
        ),
        refused_by_query(
            "usage_interval_ends_invoiced",
            "usage_interval",
            "UPDATE",
            when=f"NEW.ended_at < {INVOICED_UNTIL}",
            message="a usage_interval ends after what is invoiced",
        ),
        refused(
            "usage_interval_closed_once",
            "usage_interval",
            "UPDATE",
            when="OLD.ended_at IS NOT NULL",
            message="a usage_interval is closed once",
        ),
        refused(
            "reservation_ended_once",
            "reservation",
            "UPDATE",
            when="OLD.state IN ('BOOKED', 'FREED') AND NEW.state <> OLD.state",
            message="a reservation is booked or freed once",
        ),
        refused(
            "number_series_grows",
            "number_series",
            "UPDATE",
            when="NEW.name <> OLD.name OR NEW.next < OLD.next",
            message="a number_series never goes back",
        ),
        refused(
            "ledger_account_opened_empty",
            "ledger_account",
            "INSERT",
            when="NEW.balance <> 0",
            message="a ledger_account begins with nothing",
        ),
        refused_by_query(
            "ledger_account_balance_proven",
            "ledger_account",
            "UPDATE",
            when=f"NEW.balance <> {SUM.format(id='NEW.id')}",
            message="the balance of a ledger_account is the sum of its transfers",
        ),
        refused_by_query(
            "ledger_transfer_one_currency",
            "ledger_transfer",
            "INSERT",
            when=f"EXISTS (SELECT 1 {SIDES} AND d.currency <> c.currency)",
            message="a ledger_transfer stays in one currency",
        ),
        refused_by_query(
            "ledger_transfer_of_one_customer",
            "ledger_transfer",
            "INSERT",
            when=f"EXISTS (SELECT 1 {SIDES} AND EXISTS (SELECT 1 FROM ledger_transaction t WHERE t.id = "
            "NEW.transaction_id AND (d.account_id <> t.account_id OR c.account_id <> t.account_id)))",
            message="a ledger_transfer reaches purses of one account alone",
        ),
        refused_by_query(
            "ledger_transfer_vouchers_apart",
            "ledger_transfer",
            "INSERT",
            when=f"EXISTS (SELECT 1 {SIDES} AND ("
            "c.kind IN ('VOUCHER', 'VOUCHER_RESERVED') "
            "AND d.kind NOT IN ('VOUCHERS_ISSUED', 'VOUCHER', 'VOUCHER_RESERVED', 'INVOICES_PAID') "
            "OR c.kind IN ('BALANCE', 'BALANCE_RESERVED') "
            "AND d.kind IN ('VOUCHERS_ISSUED', 'VOUCHER', 'VOUCHER_RESERVED')))",
            message="voucher money and cash never mix",
        ),
        refused_by_query(
            "account_currency_kept",
            "account",
            "UPDATE",
            when="NEW.currency <> OLD.currency AND EXISTS (SELECT 1 FROM ledger_account WHERE account_id = NEW.id)",
            message="the currency of an account with money is never changed",
        ),
        after_insert("ledger_transfer_posted", "ledger_transfer", POSTED, postgres_first=POSTING),
    ]
