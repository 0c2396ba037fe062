"""The outbox: notices queued in the transaction of their cause, sent afterwards, recorded when they arrived.

The only writer of `notice`. Decides neither what is due (`billing.rules.notices`) nor what follows from a delivery: a
delivery is a fact of the account, and wakes it.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from tortoise.expressions import F, Q
from tortoise.transactions import in_transaction

from billing import audit, work_queue
from billing.clock import Clock
from billing.mail import Letter, MailDelayedError, Mailer, MailRefusedError, usable
from billing.models import Account, Notice
from billing.notice_recheck import still_asks
from billing.notice_request import NoticeRequest, content_of
from billing.notice_text import shipped
from billing.refusal import RefusalCode, refusal, required_reason
from billing.rules.terms import NoticeState
from billing.staff import Staff, StaffUnreachableError

log = structlog.get_logger(__name__)

MAIL = "mail"
STAFF = "staff"
ACTOR = "system:notices"

#: How long a claim holds. Longer than any channel's patience, so that only a dead process loses its claim.
LEASE = timedelta(minutes=5)
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=4)
#: After this a message that was put off again and again is given up, and a person is asked.
GIVE_UP_AFTER = timedelta(days=5)
#: Attempts after which a person is told that a message is still waiting; it is tried on.
ATTEMPTS_UNTIL_TOLD = 3
AT_ONCE = 8


#: Whether a notice that is about to be sent would be queued now, in the same words.
StillDue = Callable[[Notice], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """What one turn of deliveries works with."""

    clock: Clock
    mailer: Mailer | None
    staff: Staff | None
    rng: random.Random
    still_due: StillDue | None
    gate: asyncio.Semaphore


def known_templates() -> frozenset[str]:
    """Return the names that a policy may give as a notice. Raises `TemplatesInvalid` when one of them is broken."""
    return shipped().names


async def queue(request: NoticeRequest, *, now: datetime) -> Notice:
    """Put a notice into the outbox, worded as of now; return it, or the one that this cause queued before.

    Belongs inside the transaction of its cause. An account without a usable address gets a notice that has failed and
    a work item: nobody was told, so nothing follows from it.
    """
    account = request.account
    text = shipped().render(request.template, content_of(request))
    addresses = _addresses_of(account)
    values = {
        "account_id": account.id,
        "episode_id": request.episode_id,
        "server_id": request.ended_server.id if request.ended_server else None,
        "channel": MAIL,
        "template": request.template,
        "stage": request.stage,
        "invoice_ids": sorted(invoice.id for invoice in request.invoices),
        "server_ids": sorted(server.id for server in request.named),
        "recipient": ", ".join(addresses) or None,
        "subject": text.subject,
        "body": text.body,
        "state": NoticeState.PENDING if addresses else NoticeState.FAILED,
        "error": None if addresses else "the account has no address that mail can be sent to",
        "created_at": now,
        "next_attempt_at": now,
    }
    notice, _ = await Notice.get_or_create(values, dedupe_key=_key(request.dedupe_key))
    if notice.state is NoticeState.FAILED and not addresses:
        await _ask_person(notice, notice.error or "", now=now)
    return notice


async def queue_staff(
    subject: str, body: str, *, dedupe_key: str, now: datetime, account_id: int | None = None
) -> Notice:
    """Put a message to staff into the outbox; return it, or the one that this cause queued before."""
    values = {
        "account_id": account_id,
        "channel": STAFF,
        "template": STAFF,
        "subject": subject,
        "body": body,
        "created_at": now,
        "next_attempt_at": now,
    }
    notice, _ = await Notice.get_or_create(values, dedupe_key=_key(dedupe_key))
    return notice


async def deliver_due(
    clock: Clock,
    mailer: Mailer | None,
    staff: Staff | None,
    *,
    rng: random.Random,
    limit: int = 100,
    only: Collection[str] | None = None,
    still_due: StillDue | None = None,
) -> int:
    """Send at most `limit` due notices, oldest first, and return how many arrived; `only` names the templates sent now.

    One that is not true any more, or of which `still_due` says so, is withdrawn instead of sent.
    Without a mailer or without staff's channel their notices wait: nobody was told, so nobody climbs. A notice is sent
    twice only when the process dies between the server's yes and the commit; both copies have the same Message-ID.
    Never call it inside a transaction.
    """
    channels = [MAIL] * (mailer is not None) + [STAFF] * (staff is not None)
    due = (
        await Notice.filter(
            *([Q(template__in=list(only))] if only is not None else []),
            state=NoticeState.PENDING,
            next_attempt_at__lte=clock.now(),
            channel__in=channels,
        )
        .order_by("next_attempt_at", "id")
        .limit(limit)
    )
    gate = asyncio.Semaphore(AT_ONCE)
    turn = _Turn(clock=clock, mailer=mailer, staff=staff, rng=rng, still_due=still_due, gate=gate)
    return sum(await asyncio.gather(*(_deliver(notice, turn) for notice in due)))


async def mark_delivered(notice: Notice, *, by: str, reason: str, now: datetime) -> bool:
    """Record that a person told the customer by other means; return whether that was news.

    Refuses an empty reason and a message that was not meant for a customer.
    """
    told = required_reason(reason)
    if notice.channel != MAIL:
        raise refusal(
            RefusalCode.INVALID, "this is a message to staff, no customer was meant to get it", "noticeId"
        )
    return await _record_delivery(notice, by=by, reason=told, now=now)


async def _record_delivery(
    notice: Notice, *, by: str, reason: str, now: datetime, recipient: str | None = None
) -> bool:
    """Make a notice delivered, once: with its audit row, and as a new fact of its account; return whether it was."""
    async with in_transaction():
        changes = {"recipient": recipient} if recipient else {}
        changed = await (
            Notice.filter(id=notice.id)
            .exclude(state=NoticeState.DELIVERED)
            .update(state=NoticeState.DELIVERED, delivered_at=now, error=None, **changes)
        )
        if not changed:
            return False
        if notice.account_id is not None:
            await Account.filter(id=notice.account_id).update(
                facts_version=F("facts_version") + 1, next_change_at=now
            )
        await work_queue.resolve(_trouble(notice), at=now, by=by, resolution="a notice was delivered")
        await _audit("notice.delivered", notice, by=by, reason=reason, now=now)
    return True


async def _record_failure(notice: Notice, reason: str, *, now: datetime, needs_person: bool = True) -> bool:
    """Give a notice up, with its audit row and a work item where a person can help; return whether it was waiting."""
    async with in_transaction():
        changed = await Notice.filter(id=notice.id, state=NoticeState.PENDING).update(
            state=NoticeState.FAILED, error=reason
        )
        if not changed:
            return False
        if notice.account_id is not None:
            await Account.filter(id=notice.account_id).update(
                facts_version=F("facts_version") + 1, next_change_at=now
            )
        if needs_person:
            await _ask_person(notice, reason, now=now)
        await _audit("notice.failed", notice, by=ACTOR, reason=reason, now=now)
    return True


async def _withdraw(notice: Notice, now: datetime) -> None:
    """Give up what is not so any more, and let its cause be told anew if it comes again."""
    async with in_transaction():
        reason = "not sent: what it tells is not so any more"
        if await _record_failure(notice, reason, now=now, needs_person=False):
            key = _key(f"withdrawn:{notice.id}:{notice.dedupe_key}")
            await Notice.filter(id=notice.id).update(dedupe_key=key)


async def _ask_person(notice: Notice, reason: str, *, now: datetime) -> None:
    """Put the trouble with an account's notices into the work queue, once while it lasts."""
    await work_queue.open_item(
        "notice_refused",
        _trouble(notice),
        at=now,
        title=f"A notice did not arrive: {notice.template.replace('_', ' ')}",
        detail=f"{notice.recipient or 'no address'}: {reason}. Mend the address, or tell the customer by other means "
        "and record it; until then the account climbs no further.",
        account_id=notice.account_id,
    )


def _addresses_of(account: Account) -> tuple[str, ...]:
    """Return the addresses that an account's notices go to, each once."""
    return tuple(usable([*([account.email] if account.email else []), *account.billing_emails]))


def _letter_key(notice: Notice) -> str:
    """Return what makes a notice's letter recognisable, the same for every attempt, in this database and no other."""
    mark = hashlib.sha256(f"{notice.dedupe_key} {notice.created_at.isoformat()}".encode()).hexdigest()
    return f"notice-{notice.id}-{mark[:16]}"


def _key(dedupe_key: str) -> str:
    """Return the key as it fits its column: a longer one by its digest, which is as unique."""
    return dedupe_key if len(dedupe_key) <= 200 else hashlib.sha256(dedupe_key.encode()).hexdigest()


def _trouble(notice: Notice) -> str:
    return f"notice_refused:{notice.account_id or 'staff'}"


async def _audit(kind: str, notice: Notice, *, by: str, reason: str, now: datetime) -> None:
    await audit.record(
        kind,
        ("Notice", notice.id),
        at=now,
        actor=by,
        reason=reason,
        account_id=notice.account_id,
        after={"template": notice.template, "stage": notice.stage, "channel": notice.channel},
    )


def _wait_before(attempt: int, rng: random.Random) -> timedelta:
    """Return how long to wait after the n-th failed attempt: doubling up to a cap, spread by a quarter either way."""
    doubled = FIRST_WAIT * (1 << min(attempt - 1, 20))
    return min(doubled, LONGEST_WAIT) * (0.75 + rng.random() / 2)


async def _deliver(notice: Notice, turn: _Turn) -> bool:
    async with turn.gate:
        try:
            if not await _claim(notice, turn.clock.now()):
                return False
            if not await still_asks(notice, turn.clock.now()):
                reason = "not sent: what it asks for was settled meanwhile"
                await _record_failure(notice, reason, now=turn.clock.now(), needs_person=False)
                return False
            if turn.still_due is not None and not await turn.still_due(notice):
                await _withdraw(notice, turn.clock.now())
                return False
            return await _attempt(notice, turn)
        except Exception:
            # The row keeps its lease and is tried again; the others go on.
            log.exception("notice.not_handled", notice=notice.id)
            return False


async def _claim(notice: Notice, now: datetime) -> bool:
    """Make the row ours for a while; of several processes that read it, one succeeds."""
    mine = await Notice.filter(
        id=notice.id,
        state=NoticeState.PENDING,
        attempts=notice.attempts,
        next_attempt_at=notice.next_attempt_at,
    ).update(attempts=notice.attempts + 1, next_attempt_at=now + LEASE)
    notice.attempts += 1
    return mine == 1


async def _attempt(notice: Notice, turn: _Turn) -> bool:
    try:
        recipient = await _send(notice, turn)
    except MailRefusedError as error:
        await _record_failure(notice, str(error), now=turn.clock.now())
        return False
    except (MailDelayedError, StaffUnreachableError) as error:
        await _put_off(notice, str(error), turn)
        return False
    except Exception as error:  # noqa: BLE001 - a channel is somebody else's code: whatever it raises, try again later
        await _put_off(notice, f"the channel failed: {type(error).__name__}", turn)
        return False
    return await _record_delivery(
        notice,
        by=ACTOR,
        reason="accepted by the first hop",
        now=turn.clock.now(),
        recipient=recipient,
    )


async def _send(notice: Notice, turn: _Turn) -> str | None:
    """Send through the notice's channel and return who took it; the addresses are those of now, not of the queueing."""
    if notice.channel == STAFF:
        if turn.staff is None:
            raise StaffUnreachableError("no channel to staff is set up")
        await turn.staff.tell(notice.subject, notice.body)
        return None
    account = await Account.get(id=notice.account_id)
    to = _addresses_of(account)
    if not to:
        raise MailRefusedError("the account has no address that mail can be sent to")
    if turn.mailer is None:
        raise MailDelayedError("mail is not set up")
    letter = Letter(
        key=_letter_key(notice), to=to, subject=notice.subject, body=notice.body, at=turn.clock.now()
    )
    return ", ".join(await turn.mailer.send(letter))


async def _put_off(notice: Notice, reason: str, turn: _Turn) -> None:
    now = turn.clock.now()
    if now - notice.created_at >= GIVE_UP_AFTER:
        await _record_failure(notice, f"given up after {notice.attempts} attempts: {reason}", now=now)
        return
    again_at = now + _wait_before(notice.attempts, turn.rng)
    # Only while the claim is still ours: another process may have taken over after a long stall.
    ours = Notice.filter(id=notice.id, state=NoticeState.PENDING, attempts=notice.attempts)
    async with in_transaction():
        if (
            await ours.update(next_attempt_at=again_at, error=reason)
            and notice.attempts >= ATTEMPTS_UNTIL_TOLD
        ):
            told = f"put off {notice.attempts} times, and tried on: {reason}"
            await _ask_person(notice, told, now=now)
