"""What a service answers when the business says no: a stable code, a sentence, the field.

Owns the codes of the contract and the exception that carries them. Faults of the machine are never refusals.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from billing.rules.gates import Gate
from billing.rules.words import Phrase, english


class RefusalCode(StrEnum):
    """Stable codes that programs branch on; people read the message."""

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


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One reason for a refusal. `path` names the field of the request as the caller wrote it."""

    code: RefusalCode
    #: A phrase where customers read it, in their language; what only staff and programs get is English.
    message: str | Phrase
    path: tuple[str, ...] = ()
    #: The gate that said no, with `GATE_REFUSED`.
    gate: Gate | None = None

    @property
    def english(self) -> str:
        """The message in English."""
        return self.message if isinstance(self.message, str) else english(self.message)


class RefusalError(Exception):
    """The request was understood and refused; nothing was changed."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.english for problem in problems))
        self.problems = problems


class TooOftenError(RefusalError):
    """Something was tried too often: it is not done before `retry_at`, not even if it would be right now."""

    def __init__(self, message: Phrase, *path: str, retry_at: datetime) -> None:
        """`message` may name the instant as `%(retry)s`."""
        told = replace(message, values={**message.values, "retry": retry_at})
        super().__init__(Problem(code=RefusalCode.FORBIDDEN, message=told, path=path))
        self.message = told
        self.retry_at = retry_at


def refusal(code: RefusalCode, message: str | Phrase, *path: str) -> RefusalError:
    """Return the refusal with this one problem, ready to be raised."""
    return RefusalError(Problem(code=code, message=message, path=path))


def required_reason(reason: str) -> str:
    """Return the reason without blanks around it; one that says nothing is refused."""
    told = reason.strip()
    if not told:
        raise refusal(RefusalCode.REASON_REQUIRED, "say why, for those who read it later", "reason")
    return told
