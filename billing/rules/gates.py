"""May this customer do this now? The table of gates, and the words of each refusal.

Pure. Answers for the customer from standing and holds; funds, and who may ask, are its callers' part.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from billing.rules.money import Money
from billing.rules.plain_words import HOLDS
from billing.rules.terms import Effect, GateAction, GateCode, HoldCause, Stage
from billing.rules.words import Phrase, phrase

_NO_EFFECTS: frozenset[Effect] = frozenset()


@dataclass(frozen=True, kw_only=True)
class GateHold:
    """One hold on the server that stands now."""

    cause: HoldCause
    #: For a billing hold those of the stage that placed it.
    effects: frozenset[Effect]
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class GateQuestion:
    """One action with everything that its answer rests on. `DEPLOY` and `EDIT_ACCOUNT` are asked of the account."""

    action: GateAction
    #: The account's standing: never the eligible stage.
    stage: Stage = Stage.CURRENT
    effects: frozenset[Effect] = _NO_EFFECTS
    holds: tuple[GateHold, ...] = ()
    #: The standing of this server alone when its subscription ended; null while it is covered.
    coverage_stage: Stage | None = None
    #: Whether an `EXEMPT` of the account or of this server is active: no billing rule closes anything.
    exempt: bool = False
    #: Whether an `ALLOW_BACKUPS` of the account or of this server is active, and until when.
    allow_backups: bool = False
    allow_backups_until: datetime | None = None
    #: Whether the server is `DELETED` or `MISSING`.
    gone: bool = False
    #: Whether an uncollectible invoice was never paid; closes `DEPLOY` alone.
    uncollected: bool = False


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The answer: programs branch on the code, people read the message and the remedy."""

    action: GateAction
    allowed: bool
    code: GateCode
    message: Phrase
    #: What the customer can do about it; null when there is nothing to do.
    remedy: Phrase | None = None
    #: When the answer changes by itself; null: not known.
    until: datetime | None = None
    #: The money whose lack is the reason; null for every other reason.
    missing: Money | None = None


_A = GateAction
_C = GateCode
_BACKUPS = (_A.CREATE_BACKUP, _A.EXPORT_BACKUP, _A.RESTORE_BACKUP, _A.DELETE_BACKUP, _A.PRUNE_BACKUP)
#: What an `ALLOW_BACKUPS` opens; deleting stays locked.
_OPENED = frozenset({_A.CREATE_BACKUP, _A.EXPORT_BACKUP})
_OF_ACCOUNT = frozenset({_A.DEPLOY, _A.EDIT_ACCOUNT})

#: Actions that are closed while anything is overdue.
_OVERDUE = frozenset({_A.DEPLOY, _A.RESIZE})
#: The code by which an effect of billing closes an action.
_BILLING: Mapping[Effect, Mapping[GateAction, GateCode]] = {
    Effect.LOCK_BACKUPS: {
        _A.REINSTALL: _C.BACKUPS_LOCKED,
        **dict.fromkeys(_BACKUPS, _C.BACKUPS_LOCKED),
    },
    Effect.STOP_SERVERS: {
        **dict.fromkeys((_A.START, _A.RESTART, _A.RESIZE, _A.REINSTALL, _A.REPAIR), _C.ACCOUNT_SUSPENDED),
        **dict.fromkeys(_BACKUPS, _C.BACKUPS_LOCKED),
    },
    Effect.LOCK_ACCOUNT: {
        _A.DEPLOY: _C.ACCOUNT_SUSPENDED,
        **dict.fromkeys((_A.DELETE_SERVER, _A.WRITE_FILES, _A.EDIT_ACCOUNT), _C.ACCOUNT_LOCKED),
        **dict.fromkeys(_BACKUPS, _C.BACKUPS_LOCKED),
    },
}
_POWERED = frozenset({_A.START, _A.RESTART, _A.RESIZE, _A.REINSTALL, _A.REPAIR})
_COVERED_BY_EFFECT = {Effect.STOP_SERVERS: _POWERED, Effect.LOCK_BACKUPS: frozenset(_BACKUPS)}
#: What holds of other causes close beside what `_COVERED_BY_EFFECT` says: `None` for a hold with any effect.
_BESIDE: Mapping[HoldCause, Mapping[GateAction, Effect | None]] = {
    HoldCause.ABUSE: dict.fromkeys((_A.READ_FILES, _A.WRITE_FILES, _A.DELETE_SERVER)),
    HoldCause.ADMIN: dict.fromkeys((_A.WRITE_FILES, _A.DELETE_SERVER), Effect.STOP_SERVERS),
}
#: The columns of the table from the right: the first that refuses gives the answer.
_COLUMNS = ((HoldCause.ABUSE, HoldCause.ADMIN), (HoldCause.MAINTENANCE,), (HoldCause.CUSTOMER,))

_HELD_BY = {
    HoldCause.ABUSE: (
        HOLDS[HoldCause.ABUSE],
        phrase("Answer the report, or contact support."),
    ),
    HoldCause.ADMIN: (HOLDS[HoldCause.ADMIN], phrase("Contact support.")),
    HoldCause.MAINTENANCE: (
        HOLDS[HoldCause.MAINTENANCE],
        phrase("There is nothing to do; it opens again after the maintenance."),
    ),
    HoldCause.CUSTOMER: (
        phrase("You switched this server off, so it is not repaired."),
        phrase("Start the server first."),
    ),
}
_PAY = phrase("Pay what is overdue; everything opens again by itself.")
_RENEW = phrase(
    "Renew the subscription, or put the server on another one; then everything opens again by itself."
)
_MESSAGES = {
    _C.ACCOUNT_SUSPENDED: phrase("The account is suspended because a payment is overdue."),
    _C.BACKUPS_LOCKED: phrase("The backups are kept and locked because a payment is overdue."),
}
#: Where an action is not what its code is named after, or is closed for itself: what of it is closed.
_OF_ACTION = {
    (_C.PAYMENT_OVERDUE, _A.DEPLOY): phrase("New servers have to wait because a payment is overdue."),
    (_C.PAYMENT_OVERDUE, _A.RESIZE): phrase("Changes of size have to wait because a payment is overdue."),
    (_C.BACKUPS_LOCKED, _A.REINSTALL): phrase(
        "A server whose backups are locked because a payment is overdue cannot be reinstalled."
    ),
    (_C.ACCOUNT_LOCKED, _A.DELETE_SERVER): phrase(
        "While the account is suspended because of an overdue payment, servers cannot be deleted."
    ),
    (_C.ACCOUNT_LOCKED, _A.WRITE_FILES): phrase(
        "While the account is suspended because of an overdue payment, files can be read and downloaded,"
        " but not changed."
    ),
    (_C.ACCOUNT_LOCKED, _A.EDIT_ACCOUNT): phrase(
        "While the account is suspended because of an overdue payment, its data cannot be changed;"
        " paying, cards and vouchers stay open."
    ),
}
_ENDED = {
    _C.ACCOUNT_SUSPENDED: phrase(
        "This server is suspended because the subscription that paid for it has ended."
    ),
    _C.BACKUPS_LOCKED: phrase(
        "The backups are kept and locked because the subscription that paid for this server has ended."
    ),
}
_ENDED_OF_ACTION = {
    (_C.PAYMENT_OVERDUE, _A.RESIZE): phrase(
        "Its size cannot be changed because the subscription that paid for this server has ended."
    ),
    (_C.BACKUPS_LOCKED, _A.REINSTALL): phrase(
        "It cannot be reinstalled: its backups are locked because the subscription that paid for it has ended."
    ),
}
_OPEN = phrase("This is possible.")


def gate(question: GateQuestion) -> Gate:
    """Return the answer to one question: `SERVER_GONE` first, then the table's first refusing column from the right."""
    action = question.action
    if question.gone and action not in _OF_ACCOUNT:
        message = phrase("This server does not exist any more, or cannot be found at present.")
        return _refusal(action, _C.SERVER_GONE, message, remedy=phrase("Contact support if you miss it."))
    if action not in _OF_ACCOUNT and (held := _held(question)):
        return held
    if not question.exempt and (closed := _closed_by_billing(question)):
        return closed
    if action is _A.DEPLOY and question.uncollected:
        message = phrase("An earlier invoice was never paid.")
        return _refusal(action, _C.PAYMENT_OVERDUE, message, remedy=phrase("Contact support to pay it."))
    until = question.allow_backups_until if action in _OPENED and question.allow_backups else None
    return Gate(action=action, allowed=True, code=_C.OK, message=_OPEN, until=until)


def _held(question: GateQuestion) -> Gate | None:
    """Return the refusal of the first column of other causes whose holds cover the action."""
    for causes in _COLUMNS if question.holds else ():
        refusing = [
            hold for hold in question.holds if hold.cause in causes and _covers(hold, question.action)
        ]
        if refusing:
            first = min(refusing, key=lambda hold: causes.index(hold.cause))
            ends = [hold.expires_at for hold in refusing if hold.expires_at]
            message, remedy = _HELD_BY[first.cause]
            until = max(ends) if len(ends) == len(refusing) else None
            return _refusal(question.action, _C.SERVER_HELD, message, remedy=remedy, until=until)
    return None


def _covers(hold: GateHold, action: GateAction) -> bool:
    """Return whether a hold of another cause than billing refuses an action."""
    if hold.cause is HoldCause.CUSTOMER:  # its own owner's wish: only our repairs respect it
        return action is _A.REPAIR and Effect.STOP_SERVERS in hold.effects
    beside = _BESIDE.get(hold.cause, {})
    if action in beside and (beside[action] is None or beside[action] in hold.effects):
        return True
    return any(action in _COVERED_BY_EFFECT.get(effect, ()) for effect in hold.effects)


def _closed_by_billing(question: GateQuestion) -> Gate | None:
    """Return the refusal of what is overdue, the strongest effect first."""
    action = question.action
    if question.allow_backups and action in _OPENED:
        return None
    of_account = action in _OF_ACCOUNT
    effects = question.effects if of_account else frozenset().union(*_billing_effects(question))
    for effect in (Effect.LOCK_ACCOUNT, Effect.STOP_SERVERS, Effect.LOCK_BACKUPS):
        if effect in effects and (code := _BILLING[effect].get(action)):
            return _closed(question, code, by_account=of_account or effect in question.effects)
    overdue = question.stage is not Stage.CURRENT
    uncovered = question.coverage_stage not in (None, Stage.CURRENT) and not of_account
    if action in _OVERDUE and (overdue or uncovered):
        return _closed(question, _C.PAYMENT_OVERDUE, by_account=overdue)
    return None


def _billing_effects(question: GateQuestion) -> Iterator[frozenset[Effect]]:
    return (hold.effects for hold in question.holds if hold.cause is HoldCause.BILLING)


def _closed(question: GateQuestion, code: GateCode, *, by_account: bool) -> Gate:
    """Return a refusal of billing; at an uncovered server's own stage the words name the ended subscription."""
    action, ended = question.action, not by_account and question.coverage_stage is not None
    message = (_ENDED_OF_ACTION if ended else _OF_ACTION).get((code, action))
    if message is None:
        message = (_ENDED if ended else _MESSAGES)[code]
    return _refusal(action, code, message, remedy=_RENEW if ended else _PAY)


def _refusal(
    action: GateAction, code: GateCode, message: Phrase, *, remedy: Phrase, until: datetime | None = None
) -> Gate:
    return Gate(action=action, allowed=False, code=code, message=message, remedy=remedy, until=until)
