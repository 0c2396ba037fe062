"""What is kept about a person is gone for good when it is to be; what the ladder and the books rest on stays."""

import random
from typing import Any

import pytest

from billing import audit, audit_seal, erasing, notices_again, work_queue
from billing.audit_verify import verify
from billing.erasing import ERASED
from billing.models import Account, AuditEntry, EventState, Notice, StripeEvent, WorkItem
from billing.refusal import RefusalCode, RefusalError
from billing.rules.terms import NoticeState

pytestmark = pytest.mark.usefixtures("database")
PERSON = "Kim Example"


async def lives(factory: Any, clock: Any) -> Account:
    """Make an account that left its name everywhere; return it."""
    account: Account = await factory.account(stripe_customer_id="cus_1", external_id=f"x-{random.random()}")
    now = clock.now()
    await audit.record(
        "x", ("Account", account.id), at=now, actor="customer:kim", reason=PERSON, account_id=account.id
    )
    await audit_seal.seal_all(random.Random(1))
    for state, at in ((NoticeState.DELIVERED, now), (NoticeState.FAILED, None), (NoticeState.PENDING, None)):
        await factory.notice(
            account, state=state, delivered_at=at, recipient="kim@example.org", subject=PERSON, body=PERSON
        )
    for state in (EventState.DONE, EventState.PENDING):
        await factory.stripe_event(stripe_customer_id="cus_1", payload={"name": PERSON}, state=state)
    for key in ("closed", "open"):
        await work_queue.open_item("x", key, at=now, title=PERSON, detail=PERSON, account_id=account.id)
    await work_queue.resolve("closed", at=now, by="x", resolution=PERSON)
    return account


async def test_it_empties_all_that_is_over(factory: Any, clock: Any) -> None:
    """What is still needed is counted and left; the chain is whole, and the erasure itself is a row of it."""
    account = await lives(factory, clock)
    other = await factory.account()
    kept = await factory.notice(other, body=PERSON, state=NoticeState.FAILED)

    found = await erasing.erase(account.external_id, reason="a letter", actor="operator:cli", now=clock.now())

    assert (found.audit_rows, found.letters, found.events, found.work_items, found.left) == (1, 2, 1, 1, 3)
    letters = await Notice.filter(account_id=account.id).exclude(state=NoticeState.PENDING).order_by("id")
    assert {(one.recipient, one.subject, one.body) for one in letters} == {(None, ERASED, ERASED)}
    assert letters[0].delivered_at == clock.now()
    assert (await StripeEvent.get(state=EventState.DONE)).payload == {}
    closed = await WorkItem.get(dedupe_key="closed")
    assert (closed.title, closed.detail, closed.resolution) == (ERASED,) * 3
    assert (await Notice.get(id=kept.id)).body == PERSON
    assert not await AuditEntry.filter(reason=PERSON).exists()
    await audit_seal.seal_all(random.Random(2))
    assert (await verify(())).erased == 1


async def test_an_erased_letter_is_never_sent_again(factory: Any, clock: Any) -> None:
    """Nobody gets a mail without words."""
    account = await factory.account()
    await factory.notice(account, state=NoticeState.FAILED)
    await erasing.erase(account.external_id, reason="a letter", actor="operator:cli", now=clock.now())
    assert await notices_again.send_again(account.id, now=clock.now()) == 0


async def test_it_refuses_an_account_that_is_not_there_and_an_empty_reason(factory: Any, clock: Any) -> None:
    """Nothing is emptied then."""
    account = await lives(factory, clock)
    for whom, reason, code in (
        ("nobody", "r", RefusalCode.NOT_FOUND),
        (account.external_id, " ", RefusalCode.REASON_REQUIRED),
    ):
        with pytest.raises(RefusalError) as refused:
            await erasing.erase(whom, reason=reason, actor="x", now=clock.now())
        assert refused.value.problems[0].code is code
    assert not await Notice.filter(body=ERASED).exists()
