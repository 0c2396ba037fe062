"""Tables of the money: the ledger, vouchers, cards, charges, prices, usage, and how invoices of ours are paid.

Owns columns and their meaning; no logic. CHECKs, partial unique indexes and triggers live in the migrations. Amounts
are integers of minor units, rates integers of 10^-6 minor units per hour; instants are aware UTC.
"""

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model

from billing.models import Account, Invoice


class LedgerKind(StrEnum):
    """What a ledger account stands for. The first four belong to one customer and never go below zero."""

    #: The customer's cash with us.
    BALANCE = "BALANCE"
    #: What vouchers brought; filled by vouchers alone.
    VOUCHER = "VOUCHER"
    #: Money of either purse that is on its way to one invoice.
    BALANCE_RESERVED = "BALANCE_RESERVED"
    VOUCHER_RESERVED = "VOUCHER_RESERVED"
    #: Where money comes from and goes to; one each per currency, of no customer.
    STRIPE = "STRIPE"
    BANK = "BANK"
    VOUCHERS_ISSUED = "VOUCHERS_ISSUED"
    CREDIT_GRANTED = "CREDIT_GRANTED"
    INVOICES_PAID = "INVOICES_PAID"
    WRITTEN_OFF = "WRITTEN_OFF"


class TransactionKind(StrEnum):
    """Which fact a ledger transaction books."""

    VOUCHER_REDEEMED = "VOUCHER_REDEEMED"
    TOP_UP = "TOP_UP"
    PAYMENT_RECORDED = "PAYMENT_RECORDED"
    CREDIT_GRANTED = "CREDIT_GRANTED"
    INVOICE_PAID = "INVOICE_PAID"
    RESERVED = "RESERVED"
    RESERVATION_FREED = "RESERVATION_FREED"
    CARD_CHARGED = "CARD_CHARGED"
    OVERPAID = "OVERPAID"
    REFUNDED = "REFUNDED"
    REVERSED = "REVERSED"
    WRITTEN_OFF = "WRITTEN_OFF"


class LedgerAccount(Model):
    """One account of the ledger. Written by `billing.ledger`; a trigger keeps the balance of a customer's."""

    id = fields.BigIntField(primary_key=True)
    #: Null: of the house.
    account: fields.ForeignKeyNullableRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="ledger_accounts", on_delete=fields.RESTRICT, null=True
    )
    account_id: int | None
    kind = fields.CharEnumField(LedgerKind, max_length=32)
    currency = fields.CharField(max_length=3)
    #: The sum of its transfers, by a trigger; null for the house's, whose sums are taken when somebody asks.
    balance = fields.BigIntField(null=True)

    class Meta:
        table = "ledger_account"


class LedgerTransaction(Model):
    """One business fact; its transfers are written with it, in one database transaction. Append-only.

    `source` and `source_id` name the fact (a voucher, a Stripe payment, a bank reference, an idempotency key): unique
    together, so that no fact is booked twice.
    """

    id = fields.BigIntField(primary_key=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="ledger_transactions", on_delete=fields.RESTRICT
    )
    account_id: int
    kind = fields.CharEnumField(TransactionKind, max_length=32)
    at = fields.DatetimeField()
    actor = fields.CharField(max_length=200)
    description = fields.TextField()
    source = fields.CharField(max_length=64)
    source_id = fields.CharField(max_length=255)
    invoice_id = fields.BigIntField(null=True, db_index=True)
    voucher_id = fields.BigIntField(null=True, unique=True)
    #: The transaction that this one takes back; each can be taken back once.
    reverses_id = fields.BigIntField(null=True, unique=True)

    class Meta:
        table = "ledger_transaction"
        unique_together = (("source", "source_id"),)
        indexes = (("account_id", "id"),)


class LedgerTransfer(Model):
    """Double entry by construction: the same amount leaves one ledger account and reaches another. Append-only."""

    id = fields.BigIntField(primary_key=True)
    transaction: fields.ForeignKeyRelation[LedgerTransaction] = fields.ForeignKeyField(
        "abeyance.LedgerTransaction", related_name="transfers", on_delete=fields.RESTRICT
    )
    transaction_id: int
    debit: fields.ForeignKeyRelation[LedgerAccount] = fields.ForeignKeyField(
        "abeyance.LedgerAccount", related_name="debits", on_delete=fields.RESTRICT
    )
    debit_id: int
    credit: fields.ForeignKeyRelation[LedgerAccount] = fields.ForeignKeyField(
        "abeyance.LedgerAccount", related_name="credits", on_delete=fields.RESTRICT
    )
    credit_id: int
    #: More than 0, in the currency of both accounts.
    amount = fields.BigIntField()

    class Meta:
        table = "ledger_transfer"
        indexes = (("transaction_id",), ("debit_id", "amount"), ("credit_id", "amount"))


class Voucher(Model):
    """A code worth money, stored as the hash of its code; redeemed at most once. Written by `billing.vouchers`."""

    id = fields.BigIntField(primary_key=True)
    code_hash = fields.CharField(max_length=64, unique=True)
    value = fields.BigIntField()
    currency = fields.CharField(max_length=3)
    note = fields.TextField(null=True)
    issued_by = fields.CharField(max_length=200)
    issued_at = fields.DatetimeField()
    expires_at = fields.DatetimeField(null=True)
    revoked_at = fields.DatetimeField(null=True)
    redeemed_at = fields.DatetimeField(null=True)
    redeemed_by: fields.ForeignKeyNullableRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="vouchers", on_delete=fields.RESTRICT, null=True
    )
    redeemed_by_id: int | None

    class Meta:
        table = "voucher"
        indexes = (("redeemed_by_id",),)


class VoucherGuess(Model):
    """One wrong code; too many by one account or from one address in a while close the door for a while."""

    id = fields.BigIntField(primary_key=True)
    account_id = fields.BigIntField(null=True)
    address = fields.CharField(max_length=64, null=True)
    at = fields.DatetimeField()

    class Meta:
        table = "voucher_guess"
        indexes = (("account_id", "at"), ("address", "at"))


class Card(Model):
    """A saved Stripe payment method; unique per account by fingerprint. Written by `billing.cards`."""

    id = fields.BigIntField(primary_key=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="cards", on_delete=fields.RESTRICT
    )
    account_id: int
    stripe_payment_method_id = fields.CharField(max_length=64, unique=True)
    fingerprint = fields.CharField(max_length=64)
    brand = fields.CharField(max_length=32)
    last4 = fields.CharField(max_length=4)
    exp_month = fields.IntField()
    exp_year = fields.IntField()
    is_default = fields.BooleanField(default=False)
    added_at = fields.DatetimeField()
    #: Raised by every change of the card at Stripe; a hard decline holds for one version only.
    version = fields.IntField(default=1)
    #: Whether open invoices have still to be settled because it was added or changed.
    to_settle = fields.BooleanField(default=True)
    removed_at = fields.DatetimeField(null=True)
    #: When Stripe was seen to have let go of it; null on a removed card: a sweep has still to see to it.
    detached_at = fields.DatetimeField(null=True)

    class Meta:
        table = "card"


class ChargeState(StrEnum):
    """Where one attempt at charging a card is."""

    INTENDED = "INTENDED"
    PROCESSING = "PROCESSING"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABANDONED = "ABANDONED"


class Charge(Model):
    """One intent to charge a card, committed before Stripe is called. Written by `billing.charges`."""

    id = fields.BigIntField(primary_key=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="charges", on_delete=fields.RESTRICT
    )
    account_id: int
    #: Null: a top-up of the balance.
    invoice_id = fields.BigIntField(null=True, db_index=True)
    card: fields.ForeignKeyRelation[Card] = fields.ForeignKeyField(
        "abeyance.Card", related_name="charges", on_delete=fields.RESTRICT
    )
    card_id: int
    card_version = fields.IntField()
    amount = fields.BigIntField()
    currency = fields.CharField(max_length=3)
    #: Whether the customer is there to confirm it.
    on_session = fields.BooleanField()
    #: What made it: a fact that could help, or an occasion of the schedule. Unique with invoice and card.
    occasion = fields.CharField(max_length=100)
    idempotency_key = fields.CharField(max_length=200, unique=True)
    state = fields.CharEnumField(ChargeState, max_length=32, default=ChargeState.INTENDED)
    #: Not unique: every attempt at an invoice of Stripe goes through the one intent of that invoice.
    stripe_payment_intent_id = fields.CharField(max_length=64, null=True, db_index=True)
    decline_code = fields.CharField(max_length=64, null=True)
    #: A decline that only a change of the card could turn.
    hard_decline = fields.BooleanField(default=False)
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()
    next_look_at = fields.DatetimeField(null=True)

    class Meta:
        table = "charge"
        indexes = (("state", "next_look_at"), ("account_id", "state"))


class Price(Model):
    """What an hour of a SKU costs from an instant on. Written by `billing.prices`; never changed, only followed."""

    id = fields.BigIntField(primary_key=True)
    sku = fields.CharField(max_length=100)
    description = fields.TextField(default="")
    currency = fields.CharField(max_length=3)
    rate = fields.BigIntField()
    valid_from = fields.DatetimeField()
    set_by = fields.CharField(max_length=200)

    class Meta:
        table = "price"
        unique_together = (("sku", "currency", "valid_from"),)


class UsageInterval(Model):
    """A span in which one server cost its account one rate. At most one open per server. Written by `billing.usage`."""

    id = fields.BigIntField(primary_key=True)
    account: fields.ForeignKeyRelation[Account] = fields.ForeignKeyField(
        "abeyance.Account", related_name="usage", on_delete=fields.RESTRICT
    )
    account_id: int
    server_id = fields.BigIntField(db_index=True)
    #: What the server was called when the interval began: an invoice says it for ever.
    server_name = fields.CharField(max_length=300)
    sku = fields.CharField(max_length=100)
    currency = fields.CharField(max_length=3)
    rate = fields.BigIntField()
    started_at = fields.DatetimeField()
    ended_at = fields.DatetimeField(null=True)
    #: "retired", "resized", "held", "missing", "transferred", "free", "subscribed", "failed".
    ended_because = fields.CharField(max_length=32, null=True)

    class Meta:
        table = "usage_interval"
        indexes = (("account_id", "started_at"),)


class MeteredAccount(Model):
    """How far the usage of one account is invoiced; a row from its first interval on.

    Begun by `billing.usage`, moved on by `billing.issuing`. Usage before `invoiced_until` never changes any more.
    """

    id = fields.BigIntField(primary_key=True)
    account: fields.OneToOneRelation[Account] = fields.OneToOneField(
        "abeyance.Account", related_name="metering", on_delete=fields.RESTRICT
    )
    account_id: int
    #: The first day of the account's local month that is invoiced next.
    month = fields.DateField()
    invoiced_until = fields.DatetimeField()
    #: When that month has ended, or when to try again.
    due_at = fields.DatetimeField(db_index=True)

    class Meta:
        table = "metered_account"


class InvoiceLine(Model):
    """One line of an invoice of ours. Written with it, never changed."""

    id = fields.BigIntField(primary_key=True)
    invoice: fields.ForeignKeyRelation[Invoice] = fields.ForeignKeyField(
        "abeyance.Invoice", related_name="own_lines", on_delete=fields.RESTRICT
    )
    invoice_id: int
    server_id = fields.BigIntField(null=True)
    sku = fields.CharField(max_length=100, null=True)
    description = fields.TextField()
    seconds = fields.BigIntField(null=True)
    rate = fields.BigIntField(null=True)
    amount = fields.BigIntField()

    class Meta:
        table = "invoice_line"
        indexes = (("invoice_id",),)


class NumberSeries(Model):
    """The next number of invoices of ours; taken in the transaction that issues one, so that there is no gap."""

    name = fields.CharField(max_length=32, primary_key=True)
    next = fields.BigIntField()

    class Meta:
        table = "number_series"


class PartSource(StrEnum):
    """What paid a part of an invoice."""

    VOUCHER = "VOUCHER"
    BALANCE = "BALANCE"
    CARD = "CARD"
    OUT_OF_BAND = "OUT_OF_BAND"
    CREDIT_NOTE = "CREDIT_NOTE"
    STRIPE = "STRIPE"
    WRITE_OFF = "WRITE_OFF"


class InvoicePart(Model):
    """One part of an invoice that was paid or written off. The same fact pays once: unique by invoice and source."""

    id = fields.BigIntField(primary_key=True)
    invoice: fields.ForeignKeyRelation[Invoice] = fields.ForeignKeyField(
        "abeyance.Invoice", related_name="parts", on_delete=fields.RESTRICT
    )
    invoice_id: int
    source = fields.CharEnumField(PartSource, max_length=32)
    source_id = fields.CharField(max_length=255)
    amount = fields.BigIntField()
    at = fields.DatetimeField()
    transaction_id = fields.BigIntField(null=True)
    card_id = fields.BigIntField(null=True)

    class Meta:
        table = "invoice_part"
        unique_together = (("invoice_id", "source", "source_id"),)


class ReservationState(StrEnum):
    """Where purse money for a Stripe invoice is."""

    RESERVED = "RESERVED"
    REPORTED = "REPORTED"
    BOOKED = "BOOKED"
    FREED = "FREED"


class Reservation(Model):
    """Purse money on its way to one Stripe invoice, or set aside until the whole is together.

    Committed before Stripe is told; a sweep finishes or frees what a crash left. Written by `billing.settling`.
    """

    id = fields.BigIntField(primary_key=True)
    account_id = fields.BigIntField(db_index=True)
    invoice: fields.ForeignKeyRelation[Invoice] = fields.ForeignKeyField(
        "abeyance.Invoice", related_name="reservations", on_delete=fields.RESTRICT
    )
    invoice_id: int
    purse = fields.CharEnumField(LedgerKind, max_length=32)
    amount = fields.BigIntField()
    state = fields.CharEnumField(ReservationState, max_length=32, default=ReservationState.RESERVED)
    #: Whether it waits until the whole remainder of the invoice is together.
    set_aside = fields.BooleanField(default=False)
    idempotency_key = fields.CharField(max_length=200, unique=True)
    stripe_payment_record_id = fields.CharField(max_length=64, null=True)
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()
    next_look_at = fields.DatetimeField(null=True)
    detail: Any = fields.JSONField(default=dict)

    class Meta:
        table = "reservation"
        indexes = (("state", "next_look_at"),)
