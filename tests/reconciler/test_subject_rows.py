"""One statement reads everything that the subjects of many accounts are made of."""

from datetime import timedelta
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from billing.models import Episode, Invoice, Subscription
from billing.money_models import MeteredAccount
from billing.rules.facts import DisputeFact, InvoiceFact, NoticeFact, OverrideFact
from billing.rules.terms import InvoiceOrigin, InvoiceStatus, NoticeState, OverrideKind, Stage
from reconciler.models import ReconcilerState
from reconciler.subject_rows import read

DAY = timedelta(days=1)
HALF = timedelta(microseconds=500_000)


async def test_it_gives_each_account_its_open_invoices(database: str, clock: Any, factory: Any) -> None:
    """Of every origin, with something left to pay; in the order of their ids; nothing for others."""
    first, second, third = [await factory.account() for _ in range(3)]
    one = await factory.invoice(first, amount_due=300, amount_paid=700, disputed_amount=100)
    two = await factory.invoice(first, origin=InvoiceOrigin.STRIPE)
    await factory.invoice(first, status=InvoiceStatus.PAID, amount_due=0)
    await factory.invoice(first, amount_due=0)
    await factory.invoice(second)
    await factory.invoice(third, status=InvoiceStatus.UNCOLLECTIBLE, amount_due=0)
    found = await read([first.id, third.id], now=clock.now())
    assert list(found.invoices) == [first.id]
    assert [fact.id for fact in found.invoices[first.id]] == [one.id, two.id]
    assert found.invoices[first.id][0] == InvoiceFact(
        id=one.id,
        currency="EUR",
        amount_due=300,
        amount_paid=700,
        disputed_amount=100,
        overdue_at=one.overdue_at,
        counts_from=one.overdue_at,
        announced_at=one.issued_at,
    )
    assert found.invoices[first.id][1].announced_at is None  # Stripe's own mail is Stripe's


async def test_it_counts_from_the_later_of_overdue_and_seen(database: str, clock: Any, factory: Any) -> None:
    """Seen late, it counts late; not overdue yet, it counts from nothing; the last second included.

    Once it was seen it stays seen, also after the clock went back.
    """
    account = await factory.account()
    now = clock.now()
    await factory.invoice(
        account, overdue_at=now - timedelta(days=9), overdue_seen_at=now - timedelta(days=2)
    )
    await factory.invoice(account, overdue_at=now + timedelta(seconds=1), overdue_seen_at=None)
    await factory.invoice(account, overdue_at=now, overdue_seen_at=None)
    await factory.invoice(account, overdue_at=None, overdue_seen_at=None)
    facts = (await read([account.id], now=now)).invoices[account.id]
    assert [fact.counts_from for fact in facts] == [now - timedelta(days=2), None, now, None]
    facts = (await read([account.id], now=now - timedelta(days=20))).invoices[account.id]
    assert [fact.counts_from for fact in facts] == [now - timedelta(days=2), None, None, None]


async def test_it_reads_the_disputes_of_an_episode(database: str, clock: Any, factory: Any) -> None:
    """Those that are open, of paid invoices too, and those that ended within it; none of an earlier one."""
    account, other, now = await factory.account(), await factory.account(), clock.now()
    await factory.episode(account, started_at=now - 9 * DAY)
    paid = await factory.invoice(account, status=InvoiceStatus.PAID, amount_due=0, amount_paid=300)
    await factory.dispute(paid, opened_at=now - 20 * DAY, closed_at=now - 10 * DAY)
    await factory.dispute(paid, opened_at=now - 8 * DAY, closed_at=now - HALF)
    await factory.dispute(await factory.invoice(account, amount_paid=50), opened_at=now - 3 * DAY)
    await factory.dispute(await factory.invoice(other, amount_paid=7), opened_at=now + DAY)
    await factory.dispute(await factory.invoice(await factory.account(), amount_paid=9))
    assert (await read([account.id, other.id], now=now)).disputes == {
        account.id: [
            DisputeFact(amount=300, opened_at=now - 8 * DAY, closed_at=now - HALF),
            DisputeFact(amount=50, opened_at=now - 3 * DAY),
        ],
        # By the clock of Stripe, which is ahead: one that is known is open.
        other.id: [DisputeFact(amount=7, opened_at=now)],
    }


async def test_it_reads_what_staff_decided(database: str, clock: Any, factory: Any) -> None:
    """All of it, ended or not, of the account and of its servers, to the microsecond."""
    account = await factory.account()
    server = await factory.server(account)
    now = clock.now()
    await factory.override(account, placed_at=now - HALF, revoked_at=now, revoked_by="anna", by_customer=True)
    await factory.override(
        account, kind=OverrideKind.ALLOW_BACKUPS, server_id=server.id, placed_at=now, expires_at=None
    )
    await factory.override(await factory.account())
    assert (await read([account.id], now=now)).overrides == {
        account.id: [
            OverrideFact(
                kind=OverrideKind.EXEMPT,
                placed_at=now - HALF,
                expires_at=now + timedelta(days=30),
                revoked_at=now,
                by_customer=True,
            ),
            OverrideFact(
                kind=OverrideKind.ALLOW_BACKUPS, server_id=server.id, placed_at=now, expires_at=None
            ),
        ]
    }


async def test_it_reads_the_open_episodes_with_their_mails(database: str, clock: Any, factory: Any) -> None:
    """Of the account and of its servers; neither what has ended nor what was told to staff."""
    account = await factory.account()
    now = clock.now()
    ended = await factory.episode(account, started_at=now - timedelta(days=9), ended_at=now - HALF)
    await factory.episode(account, started_at=now - timedelta(days=9), ended_at=now - timedelta(days=2))
    own = await factory.episode(account, admitted=Stage.SUSPENDED, awaits=Stage.RETAINED, awaits_since=now)
    uncovered = await factory.episode(account, server_id=7, shielded_for=3, shielded_since=now)
    await factory.notice(account, episode_id=ended.id)
    await factory.notice(account, episode_id=own.id, channel="staff")
    await factory.notice(
        account, episode_id=own.id, stage=None, state=NoticeState.FAILED, invoice_ids=[3, 4], server_ids=[5]
    )
    await factory.notice(
        account, episode_id=uncovered.id, state=NoticeState.DELIVERED, delivered_at=now + HALF
    )
    found = await read([account.id], now=now)
    columns = Episode._meta.db_fields
    assert {
        key: [getattr(row, one) for one in columns] for key, row in found.episodes[account.id].items()
    } == {
        row.server_id: [getattr(row, one) for one in columns] for row in await Episode.filter(ended_at=None)
    }
    assert found.last_ended == {account.id: now - HALF}
    told = {"template": "payment_overdue", "sent_at": now}
    assert found.notices == {
        own.id: [
            NoticeFact(
                **told,
                stage=None,
                delivered_at=None,
                failed=True,
                invoice_ids=frozenset({3, 4}),
                server_ids=frozenset({5}),
            )
        ],
        uncovered.id: [NoticeFact(**told, stage=Stage.PAST_DUE, delivered_at=now + HALF)],
    }


async def test_it_knows_which_servers_are_uncovered(database: str, clock: Any, factory: Any) -> None:
    """Those under an ended subscription of their own account: live, not free, and ended by now."""
    account, other = await factory.account(), await factory.account()
    now = clock.now()
    for name, owner, ended_at in (
        ("ended", account, now),
        ("ends", account, now + HALF),
        ("lives", account, None),
        ("theirs", other, now),
    ):
        await Subscription.create(
            stripe_subscription_id=name, account=owner, status="x", ended_at=ended_at, fetched_at=now
        )
    server = await factory.server(account, stripe_subscription_id="ended")
    await factory.server(account, stripe_subscription_id="ended", free=True)
    await factory.server(account, stripe_subscription_id="ended", retired_at=now)
    for name in ("ends", "lives", "theirs", "unknown", None):
        await factory.server(account, stripe_subscription_id=name)
    assert (await read([account.id, other.id], now=now)).uncovered == {account.id: {server.id: now}}
    # Also after the clock went back, once its own episode has begun.
    assert (await read([account.id], now=now - HALF)).uncovered == {}
    await factory.episode(account, server_id=server.id)
    assert (await read([account.id], now=now - HALF)).uncovered == {account.id: {server.id: now}}


async def test_it_knows_who_is_metered_and_who_gave_up_paying(
    database: str, clock: Any, factory: Any
) -> None:
    """An uncollectible invoice that was paid after all is none."""
    account, other = await factory.account(), await factory.account()
    now = clock.now()
    for paid in (0, 0, 500):
        for one in (account,) if paid == 0 else (account, other):
            await factory.invoice(one, status=InvoiceStatus.UNCOLLECTIBLE, amount_due=0, amount_paid=paid)
    await MeteredAccount.create(account=other, month=now.date(), invoiced_until=now, due_at=now)
    found = await read([account.id, other.id], now=now)
    assert (found.uncollected, found.metered) == ({account.id}, {other.id})


async def test_it_knows_from_when_notices_count(database: str, clock: Any, factory: Any) -> None:
    """One instant for the whole fleet, or none."""
    account = await factory.account()
    assert (await read([account.id], now=clock.now())).void_before is None
    await ReconcilerState.filter(id=1).update(notices_void_before=clock.now() + HALF)
    assert (await read([account.id], now=clock.now())).void_before == clock.now() + HALF


async def test_it_reads_what_its_own_transaction_wrote(database: str, clock: Any, factory: Any) -> None:
    """It is no connection beside the one that decides."""
    account = await factory.account()
    async with in_transaction():
        await factory.invoice(account)
        assert (await read([account.id], now=clock.now())).invoices[account.id]
        await Invoice.all().update(amount_due=0)
        assert not (await read([account.id], now=clock.now())).invoices[account.id]


@pytest.mark.usefixtures("sqlite_database")
async def test_it_answers_for_more_accounts_than_one_statement_takes(clock: Any, factory: Any) -> None:
    """Asked about a hundred thousand at once, and about nobody."""
    account = await factory.account()
    await factory.invoice(account)
    assert list((await read(range(100_000), now=clock.now())).invoices) == [account.id]
    assert not (await read([], now=clock.now())).invoices
