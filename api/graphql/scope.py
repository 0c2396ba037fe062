"""What a principal may see: the only way from a query to the rows.

Owns the tenant filter. Every read of a customer's objects begins here, so that another customer's object is answered by
the very statement that finds nothing for one that does not exist.
"""

from dataclasses import dataclass

from tortoise.expressions import Q, Subquery
from tortoise.queryset import QuerySet

from api.auth import Principal
from api.models import Role
from billing.approval_models import Approval
from billing.models import Account, AuditEntry, Invoice, Notice, Override, WorkItem
from billing.money_models import Card, LedgerTransaction, Voucher
from billing.rules.terms import InvoiceStatus
from reconciler.models import Run, Server


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The rows that one principal may see."""

    principal: Principal

    @property
    def is_customer(self) -> bool:
        """Whether only its own accounts are to be seen."""
        return self.principal.role is Role.CUSTOMER

    def accounts(self) -> QuerySet[Account]:
        """Its own accounts, or all."""
        if self.is_customer:
            return Account.filter(external_id__in=sorted(self.principal.accounts))
        return Account.all()

    def servers(self) -> QuerySet[Server]:
        """Servers of these accounts, retired ones too."""
        return Server.filter(self._own())

    def invoices(self) -> QuerySet[Invoice]:
        """Invoices of these accounts; a customer sees none that is still a draft."""
        seen = Invoice.filter(self._own())
        return seen.exclude(status=InvoiceStatus.DRAFT) if self.is_customer else seen

    def cards(self) -> QuerySet[Card]:
        """Cards of these accounts, removed ones too."""
        return Card.filter(self._own())

    def ledger(self) -> QuerySet[LedgerTransaction]:
        """What was booked for these accounts."""
        return LedgerTransaction.filter(self._own())

    def vouchers(self) -> QuerySet[Voucher]:
        """Vouchers; a customer sees those that its accounts redeemed."""
        if self.is_customer:
            return Voucher.filter(redeemed_by_id__in=Subquery(self.accounts().values("id")))
        return Voucher.all()

    def overrides(self) -> QuerySet[Override]:
        """Overrides on these accounts."""
        return Override.filter(self._own())

    def notices(self) -> QuerySet[Notice]:
        """Notices; a customer sees the mails to its accounts, never a message to staff."""
        return Notice.filter(self._own(), channel="mail") if self.is_customer else Notice.all()

    def audit(self) -> QuerySet[AuditEntry]:
        """Audit rows about these accounts."""
        return AuditEntry.filter(self._own()) if self.is_customer else AuditEntry.all()

    def work_items(self) -> QuerySet[WorkItem]:
        """The work queue: staff's alone."""
        return WorkItem.filter(id=0) if self.is_customer else WorkItem.all()

    def approvals(self) -> QuerySet[Approval]:
        """What takes two persons: staff's alone."""
        return Approval.filter(id=0) if self.is_customer else Approval.all()

    def runs(self) -> QuerySet[Run]:
        """Runs: staff's alone."""
        return Run.filter(id=0) if self.is_customer else Run.all()

    def _own(self) -> Q:
        if self.is_customer:
            return Q(account_id__in=Subquery(self.accounts().values("id")))
        return Q()
