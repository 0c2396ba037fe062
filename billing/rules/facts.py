"""The facts that a stage is decided from, as plain values.

Owns shapes only: the loaders that fill them live with the database, the rules that read them beside this module.
Amounts are integer minor units; instants are aware UTC.
"""

from dataclasses import dataclass, field
from datetime import datetime

from billing.rules.terms import OverrideKind, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class InvoiceFact:
    """One open invoice with something left to pay."""

    id: int
    currency: str
    #: What is still to pay, before the disputed part is taken off.
    amount_due: int
    #: What was paid, disputed payments included: at Stripe a disputed charge stays a payment.
    amount_paid: int = 0
    #: What open disputes contest, of the part that was paid first of all.
    disputed_amount: int = 0
    #: Null: not overdue and no instant is known (not attempted yet).
    overdue_at: datetime | None
    #: The later of `overdue_at` and the moment it was first seen open and overdue; null while it is not overdue.
    counts_from: datetime | None
    #: When a mail of ours brought it; null for Stripe's, which Stripe brings.
    announced_at: datetime | None = None

    @property
    def owed(self) -> int:
        """What is debt: what is still to pay, without what is disputed beyond the part that was paid.

        `amount_due` leaves out what was paid, so a dispute over that takes nothing more from it.
        """
        return max(0, self.amount_due - max(0, self.disputed_amount - self.amount_paid))


@dataclass(frozen=True, kw_only=True, slots=True)
class OverrideFact:
    """One override, past or present."""

    kind: OverrideKind
    #: Null: of the whole account.
    server_id: int | None = None
    placed_at: datetime
    #: Null: without end.
    expires_at: datetime | None
    revoked_at: datetime | None = None
    by_customer: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class NoticeFact:
    """One notice to the customer, sent in this episode or before it."""

    #: Null: a notice that belongs to no stage.
    stage: Stage | None
    template: str
    #: When it was queued: the moment whose facts it names.
    sent_at: datetime
    #: Null while it is on its way or was refused.
    delivered_at: datetime | None
    failed: bool = False
    invoice_ids: frozenset[int] = frozenset()
    server_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class DisputeFact:
    """A payment that the customer's bank took into dispute, past or present."""

    #: In the account's currency, minor units.
    amount: int
    opened_at: datetime
    #: Null while it is open.
    closed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeFact:
    """The open episode and the stage that the guard let it reach."""

    started_at: datetime
    admitted: Stage
    admitted_at: datetime
    #: Whether it came to that stage by a fall outside `APPLY`, which calls for no notice by itself.
    fell_silently: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountFacts:
    """Everything that decides the stage of one account."""

    account_id: int
    currency: str
    free_plan: bool = False
    #: Whether there is any address that a notice can go to.
    has_address: bool = True
    invoices: tuple[InvoiceFact, ...] = ()
    #: Account-wide overrides (`server_id` null), ended ones too; those of single servers are left out.
    overrides: tuple[OverrideFact, ...] = ()
    #: Null: no open episode.
    episode: EpisodeFact | None = None
    #: Customer notices of this episode, oldest first.
    notices: tuple[NoticeFact, ...] = ()
    #: When every notice so far stopped counting for climbing (long outside `apply`, a shortened policy).
    notices_void_before: datetime | None = None
    #: Every dispute that was open in this episode, closed ones too.
    disputes: tuple[DisputeFact, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CoverageFacts:
    """Everything that decides the stage of one server whose subscription has ended."""

    server_id: int
    #: The end of the last paid period: its `overdueAt`.
    ended_at: datetime
    #: When we first saw it uncovered; age counts from the later of the two.
    seen_at: datetime
    free: bool = False
    #: Whether there is any address of the account that a notice can go to.
    has_address: bool = True
    #: Those of this server and of its whole account, ended ones too.
    overrides: tuple[OverrideFact, ...] = ()
    episode: EpisodeFact | None = None
    notices: tuple[NoticeFact, ...] = field(default=())
    notices_void_before: datetime | None = None
