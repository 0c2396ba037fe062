"""The interface of everything that has a global id, and the enums of the contract.

Owns the mapping from the product's vocabulary to the names on the wire; the values are the same.
"""

from enum import StrEnum

import strawberry

from api.models import Role
from billing.models import WorkState
from billing.paying import PaymentState
from billing.refusal import RefusalCode
from billing.rules.approvals import ApprovalState
from billing.rules.terms import (
    AnnouncementAction,
    Effect,
    GateAction,
    GateCode,
    HoldCause,
    InvoiceOrigin,
    InvoiceStatus,
    NoticeState,
    OverrideKind,
    Severity,
    Stage,
)
from billing.vouchers import VoucherState
from reconciler.rules.outcome import Outcome
from reconciler.rules.terms import (
    Deployment,
    GuestKind,
    Mode,
    Power,
    RunState,
    ServerStatus,
    StepKind,
    StepState,
)

__all__ = [
    "AnnouncementAction",
    "ApprovalState",
    "BackupAccess",
    "Deployment",
    "Effect",
    "GateAction",
    "GateCode",
    "GuestKind",
    "HoldCause",
    "InvoiceOrigin",
    "InvoiceStatus",
    "Mode",
    "Node",
    "NoticeState",
    "Outcome",
    "OverrideKind",
    "PayWith",
    "PaymentSource",
    "PaymentState",
    "PlaceableCause",
    "PlaceableEffect",
    "Power",
    "PowerWish",
    "Role",
    "RunState",
    "ServerStatus",
    "Severity",
    "Stage",
    "StepKind",
    "StepState",
    "VoucherState",
    "WorkResolution",
    "WorkState",
]

#: The product's own vocabulary, told to Strawberry once; resolvers are annotated with the enums themselves.
_SHARED = (
    Role,
    Stage,
    Effect,
    Severity,
    InvoiceStatus,
    InvoiceOrigin,
    HoldCause,
    GateAction,
    GateCode,
    OverrideKind,
    NoticeState,
    ServerStatus,
    Deployment,
    GuestKind,
    Power,
    StepState,
    StepKind,
    Mode,
    RunState,
    Outcome,
    WorkState,
    ApprovalState,
    VoucherState,
    PaymentState,
)
for _vocabulary in _SHARED:
    strawberry.enum(_vocabulary)
strawberry.enum(RefusalCode, name="ErrorCode")


@strawberry.enum
class PaymentSource(StrEnum):
    """Where the money of one payment came from."""

    VOUCHER = "VOUCHER"
    BALANCE = "BALANCE"
    CARD = "CARD"
    OUT_OF_BAND = "OUT_OF_BAND"
    CREDIT_NOTE = "CREDIT_NOTE"
    STRIPE = "STRIPE"
    WRITE_OFF = "WRITE_OFF"


@strawberry.enum
class PayWith(StrEnum):
    """What a customer may pay an invoice with, in the order in which it is spent."""

    VOUCHER = "VOUCHER"
    BALANCE = "BALANCE"
    CARD = "CARD"


@strawberry.enum
class PowerWish(StrEnum):
    """What an owner may ask of a server's power."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"


@strawberry.enum
class BackupAccess(StrEnum):
    """Whether backups may be deleted on the platform."""

    OPEN = "OPEN"
    LOCKED = "LOCKED"
    UNKNOWN = "UNKNOWN"


@strawberry.enum
class PlaceableCause(StrEnum):
    """The causes of holds that people place by hand."""

    ABUSE = "ABUSE"
    MAINTENANCE = "MAINTENANCE"
    ADMIN = "ADMIN"


@strawberry.enum
class PlaceableEffect(StrEnum):
    """What a hold placed by hand may do."""

    STOP_SERVERS = "STOP_SERVERS"
    LOCK_BACKUPS = "LOCK_BACKUPS"


@strawberry.enum
class WorkResolution(StrEnum):
    """What a person decided about a work item."""

    RETRY = "RETRY"
    ACKNOWLEDGE = "ACKNOWLEDGE"
    DISMISS = "DISMISS"


@strawberry.interface
class Node:
    """Anything that has a global id."""

    id: strawberry.ID
