"""What customers read where the staff, or a machine, has written down its own reason: one plain sentence for each kind.

Pure. A reason that somebody typed is for colleagues. Owns the sentences about overrides, holds and what is recorded in
the audit trail; who reads which is the doors' part.
"""

from collections.abc import Mapping

from billing.rules.terms import HoldCause, OverrideKind
from billing.rules.words import Phrase, phrase

OVERRIDES: Mapping[OverrideKind, Phrase] = {
    OverrideKind.EXEMPT: phrase("Our staff has set restrictions because of open payments aside."),
    OverrideKind.EXTEND_GRACE: phrase("Our staff has given you more time to pay."),
    OverrideKind.FREEZE: phrase("Our staff holds further steps back for the time being."),
    OverrideKind.ALLOW_BACKUPS: phrase("Our staff has opened creating and exporting backups."),
    OverrideKind.SUSPEND_NOW: phrase("Our staff has decided to suspend the account without waiting longer."),
}
#: What a customer gave itself without saying why.
PROMISED = phrase("You promised to pay, and have more time until then.")

HOLDS: Mapping[HoldCause, Phrase] = {
    HoldCause.BILLING: phrase("This server is restricted because it is not paid for."),
    HoldCause.CUSTOMER: phrase("This server was switched off by its owner."),
    HoldCause.ABUSE: phrase("This server is held because of a report of abuse."),
    HoldCause.MAINTENANCE: phrase("This server is under maintenance."),
    HoldCause.ADMIN: phrase("This server is held by our staff."),
}

NOT_DELIVERED = phrase("This message did not reach you.")

_RECORDED = phrase("Something about the account was recorded.")
#: By kind of the row, or by what stands before its dot.
_HISTORY: Mapping[str, Phrase] = {
    "account": phrase("The account's data was changed."),
    "account.created": phrase("The account was opened."),
    "account.policy_assigned": phrase("Other rules for late payments apply to the account."),
    "action": phrase("Our staff asked for an action on the server."),
    "action.refused": phrase("An action on the server was refused."),
    "adjustment": phrase("Money of a payment was taken back from us."),
    "approval": phrase("Our staff is deciding something about the account."),
    "audit": phrase("Personal data was erased."),
    "card": phrase("A card was changed."),
    "card.added": phrase("A card was added."),
    "card.default": phrase("Another card became the default."),
    "card.many_attempts": phrase("Too many tries with cards: no other one for a while."),
    "card.removed": phrase("A card was removed."),
    "charge": phrase("A payment by card made progress."),
    "charge.intended": phrase("A payment by card was begun."),
    "credit": phrase("We gave you credit."),
    "decommission": phrase("Our staff decided about the servers of the account."),
    "episode.began": phrase("A payment became overdue, or a subscription ended."),
    "episode.ended": phrase("Nothing is overdue any more."),
    "hold": phrase("What restricts the server was changed."),
    "hold.expired": phrase("A restriction of the server ended by itself."),
    "hold.lifted": phrase("A restriction of the server was lifted."),
    "hold.placed": phrase("The server was restricted."),
    "invoice": phrase("An invoice was brought up to date."),
    "invoice.forgiven": phrase("We let you off what was open of an invoice."),
    "invoice.forgiving": phrase("We are letting you off what is open of an invoice."),
    "invoice.issued": phrase("An invoice was issued."),
    "invoice.paid_in_part": phrase("A part of an invoice was paid."),
    "invoice.settled": phrase("An invoice was paid."),
    "invoice.voided": phrase("An invoice was withdrawn."),
    "ledger": phrase("A booking was taken back."),
    "notice.delivered": phrase("We told you something."),
    "notice.failed": phrase("A message to you was given up."),
    "override": phrase("Our staff recorded a decision."),
    "override.revoked": phrase("A decision of our staff was ended."),
    "payment": phrase("A payment of yours was recorded."),
    "reservation": phrase("Money was set aside for an invoice, used for it, or given back."),
    "server": phrase("The server's data was changed."),
    "server.back": phrase("The server was found again."),
    "server.missing": phrase("The server could not be found."),
    "server.received": phrase("The server came to this account."),
    "server.registered": phrase("The server was added."),
    "server.retired": phrase("The server was removed."),
    "server.start_wanted": phrase("The server was switched on."),
    "server.transferred": phrase("The server went to another account."),
    "stage.admitted": phrase("The next step because of an overdue payment was taken."),
    "stage.fell": phrase("Restrictions because of an overdue payment were eased."),
    "step": phrase("A change of the server was tried."),
    "step.dispatched": phrase("A change of the server was begun."),
    "step.done": phrase("A change of the server was carried out."),
    "subscription": phrase("A subscription was brought up to date."),
    "voucher": phrase("A voucher was redeemed."),
    "voucher.guessing": phrase("Too many wrong codes: no code is taken for a while."),
    "work": phrase("Our staff has looked into something."),
}


def recorded(kind: str) -> Phrase:
    """Return what customers read of a row of the audit trail of this kind, such as `stage.admitted`."""
    return _HISTORY.get(kind) or _HISTORY.get(kind.partition(".")[0]) or _RECORDED
