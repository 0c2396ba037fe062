"""The audit trail: one row for every change of a fact, decision, refusal, act and read-back.

The only writer of `audit_entry`. Call it inside the transaction of the change that it records; it never opens its own.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from billing.models import AuditEntry

Subject = tuple[str, int | str]


async def record(
    kind: str,
    subject: Subject,
    *,
    at: datetime,
    actor: str,
    reason: str,
    account_id: int | None = None,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
    facts_version: int | None = None,
) -> None:
    """Append one row.

    `subject` is the GraphQL type and id of what it is about, such as `("Server", 7)`; `kind` is a stable dotted name
    such as `stage.admitted`; `before` and `after` are stored as JSON and must hold no secret.
    """
    await AuditEntry.create(
        at=at,
        actor=actor,
        kind=kind,
        account_id=account_id,
        subject_type=subject[0],
        subject_id=str(subject[1]),
        reason=reason,
        before=_as_json(before),
        after=_as_json(after),
        facts_version=facts_version,
    )


def _as_json(value: Mapping[str, object] | None) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
