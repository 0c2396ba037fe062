from enum import Enum


class AnnouncementAction(str, Enum):
    PAY = "PAY"
    RENEW = "RENEW"
    ADD_MONEY = "ADD_MONEY"
    ADD_CARD = "ADD_CARD"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "AnnouncementAction":
        return cls.OTHER


class Effect(str, Enum):
    LOCK_BACKUPS = "LOCK_BACKUPS"
    STOP_SERVERS = "STOP_SERVERS"
    LOCK_ACCOUNT = "LOCK_ACCOUNT"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "Effect":
        return cls.OTHER


class ErrorCode(str, Enum):
    NOT_FOUND = "NOT_FOUND"
    FORBIDDEN = "FORBIDDEN"
    INVALID = "INVALID"
    CONFLICT = "CONFLICT"
    IDEMPOTENCY_MISMATCH = "IDEMPOTENCY_MISMATCH"
    GATE_REFUSED = "GATE_REFUSED"
    VOUCHER_UNKNOWN = "VOUCHER_UNKNOWN"
    VOUCHER_USED = "VOUCHER_USED"
    VOUCHER_EXPIRED = "VOUCHER_EXPIRED"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    CARD_DECLINED = "CARD_DECLINED"
    CARD_DUPLICATE = "CARD_DUPLICATE"
    CARD_LAST_IN_USE = "CARD_LAST_IN_USE"
    AUTHENTICATION_REQUIRED = "AUTHENTICATION_REQUIRED"
    INVOICE_NOT_OPEN = "INVOICE_NOT_OPEN"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    REASON_REQUIRED = "REASON_REQUIRED"
    EXPIRY_REQUIRED = "EXPIRY_REQUIRED"
    EXPIRY_IN_PAST = "EXPIRY_IN_PAST"
    EXPIRY_TOO_LATE = "EXPIRY_TOO_LATE"
    SAME_PERSON = "SAME_PERSON"
    DESTRUCTIVE_REFUSED = "DESTRUCTIVE_REFUSED"
    STALE_PLAN = "STALE_PLAN"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "ErrorCode":
        return cls.OTHER


class GateAction(str, Enum):
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
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "GateAction":
        return cls.OTHER


class GateCode(str, Enum):
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
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "GateCode":
        return cls.OTHER


class InvoiceStatus(str, Enum):
    DRAFT = "DRAFT"
    OPEN = "OPEN"
    PAID = "PAID"
    VOID = "VOID"
    UNCOLLECTIBLE = "UNCOLLECTIBLE"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "InvoiceStatus":
        return cls.OTHER


class PayWith(str, Enum):
    VOUCHER = "VOUCHER"
    BALANCE = "BALANCE"
    CARD = "CARD"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "PayWith":
        return cls.OTHER


class PaymentSource(str, Enum):
    VOUCHER = "VOUCHER"
    BALANCE = "BALANCE"
    CARD = "CARD"
    OUT_OF_BAND = "OUT_OF_BAND"
    CREDIT_NOTE = "CREDIT_NOTE"
    STRIPE = "STRIPE"
    WRITE_OFF = "WRITE_OFF"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "PaymentSource":
        return cls.OTHER


class PaymentState(str, Enum):
    SUCCEEDED = "SUCCEEDED"
    PROCESSING = "PROCESSING"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    FAILED = "FAILED"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "PaymentState":
        return cls.OTHER


class Role(str, Enum):
    CUSTOMER = "CUSTOMER"
    SUPPORT = "SUPPORT"
    ADMIN = "ADMIN"
    INFRA = "INFRA"
    CONTROL = "CONTROL"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "Role":
        return cls.OTHER


class ServerStatus(str, Enum):
    PROVISIONING = "PROVISIONING"
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    DELINQUENT = "DELINQUENT"
    HELD = "HELD"
    MISSING = "MISSING"
    FAILED = "FAILED"
    DELETED = "DELETED"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "ServerStatus":
        return cls.OTHER


class Severity(str, Enum):
    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "Severity":
        return cls.OTHER


class Stage(str, Enum):
    CURRENT = "CURRENT"
    PAST_DUE = "PAST_DUE"
    FINAL_NOTICE = "FINAL_NOTICE"
    SUSPENDED = "SUSPENDED"
    RETAINED = "RETAINED"
    DECOMMISSION_REVIEW = "DECOMMISSION_REVIEW"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "Stage":
        return cls.OTHER
