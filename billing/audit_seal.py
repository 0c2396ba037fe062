"""The sealer of the audit trail, and the erasing of what a row says about a person.

The only writer of a row's `position`, `hash`, `salt` and `digest`, and of `erased_at`. Sealing runs in the one process
that reconciles; it takes rows that are committed, so that no transaction ever waits for the chain.
"""

from datetime import datetime

from tortoise.transactions import in_transaction

from billing import audit
from billing.audit_chain import ERASED_ACTOR, ERASED_REASON, ORIGIN, Random, erasable_digest, link, new_salt
from billing.models import Account, AuditEntry
from billing.refusal import RefusalCode, refusal, required_reason

#: Rows in one transaction: few enough that nobody waits long for SQLite's write lock.
BATCH = 500
KIND_ERASED = "audit.erased"


async def seal(rng: Random, *, limit: int = BATCH) -> int:
    """Chain at most `limit` rows that are committed and not sealed yet; return how many.

    What waits is found by its missing seal and never by an id: on PostgreSQL a row may be committed after rows with
    higher ids, and is then sealed with the next ones. A row is thus sealed after every row of earlier calls, and within
    one call in the order of ids, in which an effect comes after its cause. Two sealers at once, which only a lost lead
    can make, meet at the same positions: one of them fails and has written nothing.
    """
    if not await AuditEntry.filter(position=None).exists():
        return 0
    async with in_transaction():
        rows = await AuditEntry.filter(position=None).order_by("id").limit(limit)
        last = await AuditEntry.filter(position__isnull=False).order_by("-position").first()
        position, previous = (last.position or 0, last.hash or "") if last else (0, ORIGIN)
        for row in rows:
            position += 1
            row.salt = new_salt(rng)
            row.digest = erasable_digest(row, row.salt)
            row.position = position
            row.hash = previous = link(row, position=position, digest=row.digest, previous=previous)
        await AuditEntry.bulk_update(rows, fields=["position", "hash", "salt", "digest"])
    return len(rows)


async def seal_all(rng: Random) -> None:
    """Chain everything that is committed now."""
    while await seal(rng) == BATCH:
        pass


async def erase(external_id: str, *, reason: str, actor: str, now: datetime) -> int:
    """Take from the sealed audit rows of an account what they say about a person; return of how many rows.

    Who acted as a customer, the reasons and the values before and after are gone for good, with the salt without which
    their digest tells nothing. What happened to which object and when stays, and so does the chain. The erasure is a
    row itself. Rows younger than a second or two are not sealed yet: they are left for another call.
    """
    told = required_reason(reason)
    account = await Account.get_or_none(external_id=external_id)
    if account is None:
        raise refusal(RefusalCode.NOT_FOUND, f"there is no account {external_id}", "account")
    async with in_transaction():
        # An erasure's own row says nothing about the customer, and has to go on saying how much was taken and why.
        standing = AuditEntry.filter(account_id=account.id, position__isnull=False, erased_at=None).exclude(
            kind=KIND_ERASED
        )
        gone = {"erased_at": now, "salt": None, "reason": ERASED_REASON, "before": None, "after": None}
        rows = await standing.filter(actor__startswith="customer:").update(**gone, actor=ERASED_ACTOR)
        rows += await standing.update(**gone)
        await audit.record(
            KIND_ERASED,
            ("Account", account.id),
            at=now,
            actor=actor,
            reason=told,
            account_id=account.id,
            after={"rows": rows},
        )
    return rows
