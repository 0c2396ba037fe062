"""The outbox: queued once, sent once, retried with patience, and never in the way of another."""

import asyncio
import random
from datetime import timedelta

import pytest
from tortoise.transactions import in_transaction

from billing import notices
from billing.mail import Letter, SmtpMailer
from billing.models import Account, AuditEntry, Invoice, Notice, WorkItem, WorkState
from billing.notice_request import NamedServer, NoticeRequest
from billing.notices import deliver_due, mark_delivered, queue, queue_staff
from billing.refusal import RefusalError
from billing.rules.terms import Effect, InvoiceStatus, NoticeState, Stage

SENDER = "Billing <billing@hoster.example>"


async def _request(account: Account, key: str = "k", **given: object) -> NoticeRequest:
    values = {
        "account": account,
        "template": "payment_overdue",
        "stage": Stage.PAST_DUE,
        "dedupe_key": key,
        "invoices": await Invoice.filter(account_id=account.id),
    }
    return NoticeRequest(**(values | given))


async def test_it_queues_a_worded_notice_once(overdue, clock):
    """The same cause in a second transaction finds the first notice; another cause gets its own."""
    async with in_transaction():
        first = await queue(
            await _request(
                overdue,
                episode_id=3,
                servers=(NamedServer(id=7, name="web"),),
                effects=frozenset({Effect.STOP_SERVERS}),
            ),
            now=clock.now(),
        )
    clock.advance(timedelta(hours=1))
    async with in_transaction():
        again = await queue(await _request(overdue), now=clock.now())
        other = await queue(await _request(overdue, "k2"), now=clock.now())
    assert again.id == first.id
    assert other.id != first.id
    row = await Notice.get(id=first.id)
    invoice = await Invoice.get()
    assert (row.state, row.stage, row.episode_id, row.channel) == (
        NoticeState.PENDING,
        Stage.PAST_DUE,
        3,
        "mail",
    )
    assert (row.invoice_ids, row.server_ids, row.server_id) == ([invoice.id], [7], None)
    assert row.recipient == overdue.email
    assert row.subject == "Payment overdue: €5.00"
    assert "A-1: €5.00, due 19 November 2026" in row.body
    assert "This server is stopped: web." in row.body
    assert row.created_at == row.next_attempt_at == clock.now() - timedelta(hours=1)


async def test_it_queues_nothing_when_its_cause_is_rolled_back(overdue, clock):
    """The notice belongs to the transaction of its cause."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the error must leave the transaction
        async with in_transaction():
            await queue(await _request(overdue), now=clock.now())
            raise ZeroDivisionError
    assert await Notice.all().count() == 0


async def test_it_queues_once_for_causes_at_the_same_moment(overdue, clock):
    """Two passes with the same cause leave one row, and neither fails."""

    async def cause() -> int:
        async with in_transaction():
            return (await queue(await _request(overdue), now=clock.now())).id

    assert len(set(await asyncio.gather(*(cause() for _ in range(5))))) == 1
    assert await Notice.all().count() == 1


async def test_it_names_the_server_whose_subscription_ended(overdue, clock):
    """Such a notice is about that server alone."""
    request = await _request(overdue, invoices=(), ended_server=NamedServer(id=9, name="db-1"))
    row = await queue(request, now=clock.now())
    assert (row.server_id, row.server_ids, row.invoice_ids) == (9, [9], [])
    assert row.subject == "Subscription ended: db-1"


async def test_it_delivers_and_makes_the_delivery_a_fact(overdue, clock, turn, postbox):
    """The letter arrives, the row says so, the account is looked at again, the trail has it."""
    notice = await queue(await _request(overdue), now=clock.now())
    clock.advance(timedelta(seconds=5))
    before = (await Account.get(id=overdue.id)).facts_version
    assert await turn() == 1
    [letter] = postbox.letters
    assert letter["Subject"] == "Payment overdue: €5.00"
    assert letter["Message-ID"].startswith(f"<notice-{notice.id}-")
    row = await Notice.get(id=notice.id)
    assert (row.state, row.delivered_at, row.attempts) == (NoticeState.DELIVERED, clock.now(), 1)
    account = await Account.get(id=overdue.id)
    assert (account.facts_version, account.next_change_at) == (before + 1, clock.now())
    [entry] = await AuditEntry.filter(kind="notice.delivered")
    assert (entry.subject_id, entry.account_id, entry.at) == (str(notice.id), overdue.id, clock.now())
    assert await turn() == 0
    assert len(postbox.letters) == 1


async def test_it_sends_to_every_address_and_is_content_with_one(overdue, clock, turn, postbox):
    """Delivered means: one of the account's addresses accepted it; the row says which."""
    await Account.filter(id=overdue.id).update(billing_emails=["books@example.org", "dead@example.org"])
    postbox.replies["dead@example.org"] = "550 no such person"
    notice = await queue(await _request(await Account.get(id=overdue.id)), now=clock.now())
    assert await turn() == 1
    assert postbox.envelopes[0].rcpt_tos == [overdue.email, "books@example.org"]
    assert (await Notice.get(id=notice.id)).recipient == f"{overdue.email}, books@example.org"


async def test_it_uses_the_address_of_now(overdue, clock, turn, postbox):
    """An address that was mended meanwhile is the one that counts."""
    await queue(await _request(overdue), now=clock.now())
    await Account.filter(id=overdue.id).update(email="new@example.org")
    assert await turn() == 1
    assert postbox.envelopes[0].rcpt_tos == ["new@example.org"]


async def test_it_gives_a_refused_notice_to_a_person(overdue, clock, turn, postbox):
    """A permanent refusal is failed, audited, in the work queue once, and not tried again."""
    postbox.replies[overdue.email] = "550 no such person"
    first = await queue(await _request(overdue), now=clock.now())
    await queue(await _request(overdue, "k2"), now=clock.now())
    assert await turn() == 0
    row = await Notice.get(id=first.id)
    assert (row.state, row.delivered_at) == (NoticeState.FAILED, None)
    assert "550 no such person" in row.error
    [item] = await WorkItem.all()
    assert (item.kind, item.account_id, item.state) == ("notice_refused", overdue.id, WorkState.OPEN)
    assert overdue.email in item.detail
    assert await AuditEntry.filter(kind="notice.failed").count() == 2
    clock.advance(timedelta(days=1))
    postbox.replies.clear()
    assert await turn() == 0
    assert postbox.letters == []


async def test_it_closes_the_work_item_when_a_later_notice_arrives(overdue, clock, turn, postbox):
    """The trouble is over once the account can be reached again."""
    postbox.replies[overdue.email] = "550 no such person"
    await queue(await _request(overdue), now=clock.now())
    await turn()
    postbox.replies.clear()
    await queue(await _request(overdue, "k2"), now=clock.now())
    assert await turn() == 1
    assert (await WorkItem.get()).state is WorkState.RESOLVED


@pytest.mark.parametrize("email", [None, "", "not an address", "a@b.example\nBcc: thief@example.org"])
async def test_it_asks_a_person_about_an_account_without_an_address(overdue, clock, turn, email):
    """Nobody was told: the notice has failed from the start, and nothing follows from it."""
    await Account.filter(id=overdue.id).update(email=email)
    notice = await queue(await _request(await Account.get(id=overdue.id)), now=clock.now())
    assert notice.state is NoticeState.FAILED
    assert (await WorkItem.get()).kind == "notice_refused"
    assert await turn() == 0
    assert (await Notice.get(id=notice.id)).delivered_at is None


async def test_it_tries_a_delayed_notice_again_with_growing_patience(overdue, clock, turn, postbox):
    """Doubling from a minute up to four hours, a quarter off either way; delivered as soon as the server takes it."""
    postbox.replies[overdue.email] = "451 greylisted"
    notice = await queue(await _request(overdue), now=clock.now())
    waits = []
    for _ in range(11):
        assert await turn() == 0
        row = await Notice.get(id=notice.id)
        assert row.state is NoticeState.PENDING
        assert "451 greylisted" in row.error
        waits.append((row.next_attempt_at - clock.now()) / timedelta(minutes=1))
        clock.advance(row.next_attempt_at - clock.now() - timedelta(seconds=1))
        assert await turn() == 0
        assert (await Notice.get(id=notice.id)).attempts == row.attempts
        clock.advance(timedelta(seconds=1))
    for attempt, wait in enumerate(waits):
        full = min(2.0**attempt, 240)
        assert 0.75 * full <= wait <= 1.25 * full
    postbox.replies.clear()
    assert await turn() == 1
    row = await Notice.get(id=notice.id)
    assert (row.state, row.attempts, row.error) == (NoticeState.DELIVERED, 12, None)


async def test_it_gives_up_after_five_days(overdue, clock, turn, postbox):
    """What no server took for days goes to a person instead of being sent when it is no longer true."""
    postbox.replies[overdue.email] = "451 greylisted"
    notice = await queue(await _request(overdue), now=clock.now())
    await turn()
    clock.advance(timedelta(days=5))
    assert await turn() == 0
    row = await Notice.get(id=notice.id)
    assert row.state is NoticeState.FAILED
    assert "given up after 2 attempts" in row.error
    assert await WorkItem.all().count() == 1


async def test_it_does_not_send_what_was_settled_meanwhile(overdue, clock, turn, postbox):
    """Who has paid is not dunned by a mail that waited; thanks are sent all the same."""
    await queue(await _request(overdue), now=clock.now())
    await queue(await _request(overdue, "k2", template="restored", stage=None), now=clock.now())
    await Invoice.filter(account_id=overdue.id).update(status=InvoiceStatus.PAID, amount_due=0)
    assert await turn() == 1
    assert [letter["Subject"] for letter in postbox.letters] == ["Everything is open again"]
    row = await Notice.get(dedupe_key="k")
    assert (row.state, row.delivered_at) == (NoticeState.FAILED, None)
    assert await WorkItem.all().count() == 0


async def test_it_sends_once_with_several_deliverers(overdue, clock, turn, postbox, factory):
    """Four turns at the same moment send each notice once."""
    for number in range(12):
        await queue(await _request(overdue, f"k{number}"), now=clock.now())
    assert sum(await asyncio.gather(*(turn() for _ in range(4)))) == 12
    assert len({letter["Message-ID"] for letter in postbox.letters}) == len(postbox.letters) == 12
    account = await Account.get(id=overdue.id)
    assert account.facts_version == 13


async def test_it_lets_one_of_two_processes_claim_a_row_that_both_have_read(overdue, clock):
    """The claim is a conditional update; only its winner sends."""
    notice = await queue(await _request(overdue), now=clock.now())
    copies = [await Notice.get(id=notice.id) for _ in range(5)]
    claims = await asyncio.gather(*(notices._claim(copy, clock.now()) for copy in copies))
    assert sorted(claims) == [False, False, False, False, True]


async def test_it_takes_over_from_a_process_that_died(overdue, clock, turn, postbox):
    """A claim ends by itself; the second letter has the Message-ID of the first."""
    await queue(await _request(overdue), now=clock.now())
    sent: list[Letter] = []

    class Dies:
        async def send(self, letter):
            sent.append(letter)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await turn(mailer=Dies())
    assert await turn() == 0
    clock.advance(notices.LEASE)
    assert await turn() == 1
    assert postbox.letters[0]["Message-ID"] == f"<{sent[0].key}@hoster.example>"


async def test_it_lets_one_that_fails_stop_no_other(overdue, clock, turn, postbox):
    """Among ten there is one that hangs, one that raises what nobody expects, one whose row cannot be read."""
    for number in range(10):
        await queue(await _request(overdue, f"k{number}"), now=clock.now())
    await Notice.filter(dedupe_key="k3").update(invoice_ids={"not": "a list"})

    class Odd:
        async def send(self, letter):
            if letter.key.startswith(f"notice-{hanging.id}-"):
                await asyncio.sleep(0.2)
                raise TimeoutError
            if letter.key.startswith(f"notice-{odd.id}-"):
                raise KeyError("a bug of theirs")
            return await turn.mailer.send(letter)

    hanging, odd = await Notice.get(dedupe_key="k1"), await Notice.get(dedupe_key="k2")
    assert await turn(mailer=Odd()) == 7
    assert await Notice.filter(state=NoticeState.PENDING).count() == 3
    assert (await Notice.get(id=odd.id)).error == "the channel failed: KeyError"


async def test_it_sends_mail_while_the_chat_is_down_and_the_chat_while_mail_is_down(
    overdue, clock, turn, postbox
):
    """The channels know nothing of each other."""
    await queue(await _request(overdue), now=clock.now())
    await queue_staff("The breaker is open", "12 accounts wait.", dedupe_key="s", now=clock.now())
    turn.staff.down = True
    assert await turn() == 1
    turn.staff.down = False
    await queue(await _request(overdue, "k2"), now=clock.now())
    clock.advance(timedelta(minutes=2))
    assert await turn(mailer=SmtpMailer("smtp://127.0.0.1:1", SENDER)) == 1
    assert turn.staff.told == [("The breaker is open", "12 accounts wait.")]


async def test_it_keeps_notices_waiting_while_a_channel_is_not_set_up(overdue, clock, turn):
    """Nothing is lost, nothing counts as told, no attempt is spent."""
    notice = await queue(await _request(overdue), now=clock.now())
    await queue_staff("x", "y", dedupe_key="s", now=clock.now())
    assert await turn(mailer=None, staff=None) == 0
    row = await Notice.get(id=notice.id)
    assert (row.state, row.attempts) == (NoticeState.PENDING, 0)
    assert await turn() == 2


async def test_it_sends_the_oldest_first_and_no_more_than_asked(overdue, clock, turn, postbox):
    """A long outbox is worked off in turns."""
    ids = []
    for number in range(3):
        ids.append((await queue(await _request(overdue, f"k{number}"), now=clock.now())).id)
        clock.advance(timedelta(seconds=1))
    assert await turn(limit=2) == 2
    assert [row.id for row in await Notice.filter(state=NoticeState.PENDING)] == ids[2:]


@pytest.mark.parametrize("state", [NoticeState.PENDING, NoticeState.FAILED])
async def test_it_records_that_a_customer_was_told_by_other_means(overdue, clock, turn, postbox, state):
    """A person's word makes it delivered, once, with the reason in the trail; nothing is mailed after it."""
    if state is NoticeState.FAILED:
        await Account.filter(id=overdue.id).update(email=None)
    notice = await queue(await _request(await Account.get(id=overdue.id)), now=clock.now())
    assert await mark_delivered(notice, by="anna", reason="told on the phone", now=clock.now())
    assert not await mark_delivered(notice, by="ben", reason="told again", now=clock.now())
    row = await Notice.get(id=notice.id)
    assert (row.state, row.delivered_at) == (NoticeState.DELIVERED, clock.now())
    account = await Account.get(id=overdue.id)
    assert (account.facts_version, account.next_change_at) == (2, clock.now())
    [entry] = await AuditEntry.filter(kind="notice.delivered")
    assert (entry.actor, entry.reason) == ("anna", "told on the phone")
    assert await WorkItem.filter(state=WorkState.OPEN).count() == 0
    assert await turn() == 0
    assert postbox.letters == []


async def test_it_wants_a_reason_and_a_customer_for_that(overdue, clock):
    """An empty reason and a message to staff are refused, and nothing changes."""
    notice = await queue(await _request(overdue), now=clock.now())
    with pytest.raises(RefusalError, match="say why"):
        await mark_delivered(notice, by="anna", reason="  ", now=clock.now())
    internal = await queue_staff("x", "y", dedupe_key="s", now=clock.now())
    with pytest.raises(RefusalError, match="staff"):
        await mark_delivered(internal, by="anna", reason="because", now=clock.now())
    assert await Notice.filter(state=NoticeState.PENDING).count() == 2


async def test_it_shortens_a_long_key_without_losing_its_meaning(overdue, clock):
    """Two long keys that differ at the end stay two."""
    first = await queue(await _request(overdue, "k" * 300), now=clock.now())
    same = await queue(await _request(overdue, "k" * 300), now=clock.now())
    other = await queue(await _request(overdue, "k" * 300 + "!"), now=clock.now())
    assert first.id == same.id != other.id


async def test_it_sends_only_the_templates_that_it_is_let(database, factory, clock, turn):
    """What is not among them waits, untried."""
    account = await factory.account(email="anna@example.org")
    dunning = await factory.notice(account, template="payment_overdue", dedupe_key="one")
    good_news = await factory.notice(account, template="restored", dedupe_key="two")
    assert await deliver_due(clock, turn.mailer, None, rng=random.Random(1), only={"restored"}) == 1
    assert (await Notice.get(id=good_news.id)).state is NoticeState.DELIVERED
    waiting = await Notice.get(id=dunning.id)
    assert (waiting.state, waiting.attempts) == (NoticeState.PENDING, 0)
