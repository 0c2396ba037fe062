"""Who may read and do what: one table, and the rule that checks every operation against it before it is executed.

Owns the rights of roles. A field without an entry is nobody's. Which rows a customer sees is `api.graphql.scope`'s.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from graphql import FieldNode, ValidationContext, ValidationRule
from strawberry.extensions import SchemaExtension

from api.graphql.errors import FORBIDDEN, coded
from api.models import Role

Roles = frozenset[Role]

_C, _S, _A, _I, _K = Role.CUSTOMER, Role.SUPPORT, Role.ADMIN, Role.INFRA, Role.CONTROL
EVERYBODY: Roles = frozenset(Role)
#: Those who may see amounts and what is owed.
MONEY: Roles = frozenset({_C, _S, _A})
#: Those who may see who a customer is.
PEOPLE: Roles = MONEY | {_K}
STAFF: Roles = frozenset({_S, _A})
#: Those who watch the machinery.
MACHINERY: Roles = STAFF | {_I}
_CONTROL: Roles = frozenset({_K})
_ADMIN: Roles = frozenset({_A})
_OPERATORS: Roles = frozenset({_A, _I})

#: Roles by type and field; names that share their roles stand on one line.
RULES: Mapping[str, Mapping[str, Roles]] = {
    "Query": {
        "node viewer policies prices": EVERYBODY,
        "account accounts": PEOPLE,
        "server servers serversByExternalId": EVERYBODY,
        "invoice invoices": MONEY,
        "plan forecast stages run runs reconciler": MACHINERY,
        "policyPreview": _ADMIN,
        "invoice invoices vouchers": MONEY,
        "plan run runs reconciler": MACHINERY,
        "workQueue notices audit approvals": STAFF,
    },
    "Mutation": {
        "serverPowerSet cardSetupBegin cardAdd cardSetDefault cardRemove": frozenset({_C}),
        "balanceTopUp invoicePay": frozenset({_C}),
        "accountUpsert serverRegister serverUpdate serverTransfer serverRetire": _CONTROL,
        "holdPlace holdLift": frozenset({_A, _I, _K}),
        "voucherRedeem": MONEY,
        "paymentRecord": STAFF,
        "invoiceForgive creditGrant ledgerReverse vouchersIssue voucherRevoke priceSet": _ADMIN,
        "overridePlace overrideRevoke workItemResolve noticeMarkDelivered": STAFF,
        "enforcementPause reconcileRequest actionRequest runCancel stepRetry": _OPERATORS,
        "enforcementResume approvalWithdraw": _ADMIN,
        "graceRequest": frozenset({_C}),
        "breakerRelease safeModeRelease policyAssign decommissionApprove": _ADMIN,
    },
    "Subscription": {"accountChanged": PEOPLE, "runProgress": MACHINERY},
    "Node": {"id": EVERYBODY},
    "PageInfo": {"hasNextPage hasPreviousPage startCursor endCursor": EVERYBODY},
    "Viewer": {"role name person accounts account permissions serverTime": EVERYBODY},
    "Account": {
        "id externalId policy standing gate mayDeploy servers explanation": EVERYBODY,
        "name email billingEmails locale currency timeZone freePlan stripeCustomerId": PEOPLE,
        "announcement invoices notices overrides history": MONEY,
        "decommission": MONEY,
        "cards tasks": MONEY,
        "runwayUntil payToRestore": MONEY,
        "balance voucherBalance reserved vouchers ledger": MONEY,
    },
    "Decommission": {
        "requestedAt finalWarningDeliveredAt approvableAt approvedAt voidedAt": MONEY,
        "approval": STAFF,
    },
    "Standing": {
        "stage since effects next reasonCode reason": EVERYBODY,
        "debt": MONEY,
    },
    "StageChange": {"stage at waitingFor": EVERYBODY},
    "Debt": {"amounts oldestOverdueAt anchor invoices": MONEY},
    "Announcement": {
        "id severity code title body action actionLabel actionUrl deadline since stillWorks": MONEY
    },
    # Whoever may read the field that leads to an amount may read it.
    "Money": {"amount currency": EVERYBODY},
    "Rate": {"amount currency": EVERYBODY},
    "Invoice": {
        "id origin status overdueAt overdue": MONEY | {_I},
        "number account total amountPaid amountDue issuedAt dueOn disputed periodStart periodEnd paidAt": MONEY,
        "lines payments payable stripeInvoiceId hostedUrl pdfUrl": MONEY,
    },
    "InvoiceLine": {"description server sku hours unitPrice amount": MONEY},
    "InvoicePayment": {"source amount at card": MONEY},
    "Card": {"id brand last4 expMonth expYear isDefault usable": MONEY},
    "CustomerTask": {"kind message invoice clientSecret expiresAt": MONEY},
    "LedgerEntry": {"id at kind amount toInvoice description invoice voucher": MONEY},
    "Voucher": {"id value state issuedAt expiresAt redeemedAt redeemedBy note": MONEY},
    "Price": {"sku description hourly monthly validFrom": EVERYBODY},
    "Server": {
        "id externalId account name site siteNode kind guest sku free critical deployment": EVERYBODY,
        "status restoring coverage power backups holds inSync gate gates explanation": EVERYBODY,
        "stripeSubscriptionId": PEOPLE,
        "price history": MONEY,
    },
    "PowerState": {"desired observed observedAt": EVERYBODY},
    "BackupState": {"desired observed observedAt": EVERYBODY},
    "Hold": {"cause effects since reason by expiresAt": EVERYBODY},
    "Reason": {"rule text value since until by ref because": EVERYBODY},
    "Gate": {"action allowed code message remedy until checkedAt": EVERYBODY, "missing": MONEY},
    "Policy": {"name stages windows": EVERYBODY},
    "PolicyStage": {"stage after minNotice effects remindEvery": EVERYBODY},
    "Override": {
        "id kind account server reason placedBy placedAt expiresAt revokedAt revokedBy active": MONEY,
    },
    "Notice": {
        "id account subject body recipient error template channel stage state": MONEY,
        "createdAt deliveredAt attempts": MONEY,
    },
    "Plan": {"digest at mode summary text steps": MACHINERY},
    "PlanSummary": {
        "advance stop start lockBackups unlockBackups heldBack drift skipped accounts moneyAtStake": MACHINERY,
    },
    "PlanStep": {
        "id kind state account server toStage reason invoices heldBackBy heldBackReason": MACHINERY,
        "heldBackUntil command": MACHINERY,
    },
    "Forecast": {"at until account server from to servers waitingFor": MACHINERY},
    "StageSummary": {"stage accounts servers debt": MACHINERY},
    "PolicyPreview": {"valid problems changes": _ADMIN},
    "Run": {"id action site startedAt finishedAt state planDigest requestedBy log targets": MACHINERY},
    "RunTarget": {"server outcome message before after at": MACHINERY},
    "GuestState": {"power onboot protection backupsLocked role siteNode": MACHINERY},
    "ReconcilerHealth": {
        "mode paused breakerOpen breakerReason safeMode safeModeReason lastPassAt lastObservedAt": MACHINERY,
        "factsAgeSeconds oldestPendingEventSeconds oldestWaitingRestoreSeconds deadLetters": MACHINERY,
    },
    "Approval": {"id kind subject reason requestedBy requestedAt needs votes state expiresAt": STAFF},
    "ApprovalVote": {"person at reason": STAFF},
    "WorkItem": {"id kind subject title detail since state": STAFF},
    "AuditEntry": {"id at actor kind subject subjectId reason before after hash": MONEY},
    "UserError": {"code message path gate": EVERYBODY},
}

#: Types that only carry others: whoever may read the field that leads to one may read it.
_CARRIERS = ("Connection", "Edge", "Payload")

#: What may be reached by its global id alone.
_BY_ID: Mapping[str, Roles] = {
    "Account": PEOPLE,
    "Server": EVERYBODY,
    "Invoice": MONEY,
    "Card": MONEY,
    "LedgerEntry": MONEY,
    "Voucher": MONEY,
    "Override": MONEY,
    "Notice": MONEY,
    "AuditEntry": MONEY,
    "Run": MACHINERY,
    "PlanStep": MACHINERY,
    "WorkItem": STAFF,
    "Approval": STAFF,
}


@functools.cache
def _by_field() -> Mapping[tuple[str, str], Roles]:
    return {
        (noun, field): roles
        for noun, lines in RULES.items()
        for fields, roles in lines.items()
        for field in fields.split()
    }


def roles_of(noun: str, field: str) -> Roles:
    """Return who may read (or do) this field; nobody when it has no entry."""
    if noun.endswith(_CARRIERS):
        return EVERYBODY
    return _by_field().get((noun, field), frozenset())


@functools.cache
def permitted(role: Role) -> tuple[str, ...]:
    """Return the queries and mutations that a role may ask for."""
    return tuple(
        sorted(
            field
            for (noun, field), roles in _by_field().items()
            if noun in {"Query", "Mutation"} and role in roles
        )
    )


def may_look_up(role: Role, noun: str) -> bool:
    """Return whether a role may reach objects of this type by their global id."""
    return role in _BY_ID.get(noun, frozenset())


class CheckRights(SchemaExtension):
    """Refuse an operation that asks for a field which the caller's role may not have, before any of it is executed."""

    def on_operation(self) -> Iterator[None]:
        """Add the rule of the caller's role to the validation."""
        context = self.execution_context
        context.validation_rules = (*context.validation_rules, _rule(context.context.principal.role))
        yield


@functools.cache
def _rule(role: Role) -> type[ValidationRule]:
    class RightsRule(ValidationRule):
        """Reports every field that the role may not have."""

        def __init__(self, context: ValidationContext) -> None:
            super().__init__(context)
            self.validation = context

        def enter_field(self, node: FieldNode, *_: object) -> None:
            parent = self.validation.get_parent_type()
            name = node.name.value
            if parent is None or name.startswith("__") or parent.name.startswith("__"):
                return  # an unknown type is the other rules' to report; introspection has its own rule
            if role not in roles_of(parent.name, name):
                self.report_error(coded(f"{role} may not ask for {parent.name}.{name}", FORBIDDEN))

    return RightsRule
