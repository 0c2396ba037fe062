"""The words of the ladder as enums: stages, effects, causes, overrides, gates.

Owns the vocabulary and the order of the stages. Values are stored and sent on the wire: never rename one.
"""

from enum import StrEnum


class Stage(StrEnum):
    """The rungs of the ladder, mildest first."""

    CURRENT = "CURRENT"
    PAST_DUE = "PAST_DUE"
    FINAL_NOTICE = "FINAL_NOTICE"
    SUSPENDED = "SUSPENDED"
    RETAINED = "RETAINED"
    DECOMMISSION_REVIEW = "DECOMMISSION_REVIEW"

    @property
    def rank(self) -> int:
        """Its place on the ladder: 0 for `CURRENT`, rising with severity. Compare stages by this, never by text."""
        return _RANKS[self]


_RANKS = {stage: rank for rank, stage in enumerate(Stage)}


def milder(first: Stage, second: Stage) -> Stage:
    """Return the lower of two stages."""
    return first if first.rank <= second.rank else second


class Effect(StrEnum):
    """What a stage or a hold does."""

    LOCK_BACKUPS = "LOCK_BACKUPS"
    STOP_SERVERS = "STOP_SERVERS"
    LOCK_ACCOUNT = "LOCK_ACCOUNT"


class HoldCause(StrEnum):
    """Who restricted a server; a payment lifts `BILLING` and nothing else."""

    BILLING = "BILLING"
    CUSTOMER = "CUSTOMER"
    ABUSE = "ABUSE"
    MAINTENANCE = "MAINTENANCE"
    ADMIN = "ADMIN"


class OverrideKind(StrEnum):
    """Recorded decisions of staff, the most merciful first."""

    EXEMPT = "EXEMPT"
    EXTEND_GRACE = "EXTEND_GRACE"
    FREEZE = "FREEZE"
    ALLOW_BACKUPS = "ALLOW_BACKUPS"
    SUSPEND_NOW = "SUSPEND_NOW"


class InvoiceStatus(StrEnum):
    """Where an invoice is in its life."""

    DRAFT = "DRAFT"
    OPEN = "OPEN"
    PAID = "PAID"
    VOID = "VOID"
    UNCOLLECTIBLE = "UNCOLLECTIBLE"


class InvoiceOrigin(StrEnum):
    """Who issued an invoice: Stripe, our monthly usage, or money that was taken back."""

    STRIPE = "STRIPE"
    USAGE = "USAGE"
    ADJUSTMENT = "ADJUSTMENT"


class NoticeState(StrEnum):
    """A notice is delivered when the first mail hop of one of the account's addresses accepted it."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


class Severity(StrEnum):
    """How loudly the portal shows an announcement."""

    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class AnnouncementAction(StrEnum):
    """What a customer can do about an announcement; the portal knows which of its pages that is."""

    PAY = "PAY"
    RENEW = "RENEW"
    ADD_MONEY = "ADD_MONEY"
    ADD_CARD = "ADD_CARD"


class GateAction(StrEnum):
    """What a customer may ask to do."""

    START = "START"
    RESTART = "RESTART"
    STOP = "STOP"
    DEPLOY = "DEPLOY"
    RESIZE = "RESIZE"
    REINSTALL = "REINSTALL"
    DELETE_SERVER = "DELETE_SERVER"
    EDIT_ACCOUNT = "EDIT_ACCOUNT"
    REPAIR = "REPAIR"
    CREATE_BACKUP = "CREATE_BACKUP"
    RESTORE_BACKUP = "RESTORE_BACKUP"
    DELETE_BACKUP = "DELETE_BACKUP"
    PRUNE_BACKUP = "PRUNE_BACKUP"
    EXPORT_BACKUP = "EXPORT_BACKUP"
    READ_FILES = "READ_FILES"
    WRITE_FILES = "WRITE_FILES"


class GateCode(StrEnum):
    """The stable answer of a gate; programs branch on this, people read the message."""

    OK = "OK"
    PAYMENT_OVERDUE = "PAYMENT_OVERDUE"
    ACCOUNT_SUSPENDED = "ACCOUNT_SUSPENDED"
    ACCOUNT_LOCKED = "ACCOUNT_LOCKED"
    BACKUPS_LOCKED = "BACKUPS_LOCKED"
    SERVER_HELD = "SERVER_HELD"
    NO_PAYMENT_METHOD = "NO_PAYMENT_METHOD"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    UNKNOWN_SKU = "UNKNOWN_SKU"
    SERVER_GONE = "SERVER_GONE"
