"""What customers are told ahead of trouble: once, only where something would follow, and with the dates."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.advance_notices import queue_ahead
from billing.clock import ManualClock
from billing.models import Account, Notice
from billing.money_models import Card
from billing.rules.policy import Policy
from billing.rules.terms import NoticeState, OverrideKind
from billing.settling import Means, Occasion, settle

on_both = pytest.mark.usefixtures("database")
on_sqlite = pytest.mark.usefixtures("sqlite_database")

DAY = timedelta(days=1)
#: A cent an hour.
CENT = 1_000_000


@pytest.fixture
def means(clock: ManualClock, policies: Mapping[str, Policy]) -> Means:
    """Settling without Stripe."""
    return Means(clock=clock, policies=policies)


async def _told(account: Account) -> list[Notice]:
    return await Notice.filter(account_id=account.id).order_by("id")


# -- money that ends -----------------------------------------------------------------------------------------------


@on_both
async def test_it_tells_whose_money_ends_and_what_follows(
    factory: Any, wallet: Any, clock: ManualClock, means: Means
) -> None:
    """Until when, the servers, the date of the stop and the one after which removal is reviewed; and once."""
    account, rich = await factory.account(), await factory.account()
    for one, voucher in ((account, 300), (rich, 10_000)):
        server = await factory.metered_server(one)
        await wallet.voucher(one, voucher)
    server = await factory.metered_server(account, rate=2 * CENT)
    assert await queue_ahead(means) == 1
    [notice] = await _told(account)
    assert (notice.template, notice.state, notice.stage) == ("funds_low", NoticeState.PENDING, None)
    # 3.00 at three cents an hour: 100 hours from the 20th at 10:00 in Berlin.
    assert notice.subject == "Your money lasts until 24 November 2026"
    assert server.name in notice.body
    body = " ".join(notice.body.split())
    assert "stopped, not before 21 December 2026." in body
    assert "After 16 March 2027 our staff" in body
    assert await queue_ahead(means) == 0
    assert await _told(rich) == []


@on_sqlite
async def test_it_is_told_again_only_when_the_end_moves_to_another_day(
    factory: Any, wallet: Any, clock: ManualClock, means: Means
) -> None:
    """Not by time, not by an invoice that is settled, and at most once a day."""
    account = await factory.account()
    await factory.metered_server(account)
    await wallet.voucher(account, 600)
    assert await queue_ahead(means) == 1
    clock.advance(2 * DAY)
    await factory.invoice(account, total=1, amount_due=1, overdue_at=clock.now() + DAY, overdue_seen_at=None)
    await wallet.cash(account, 1)
    await settle(account.id, occasion=Occasion(), means=means)
    assert await queue_ahead(means) == 0
    await factory.metered_server(account, rate=3 * CENT)
    assert await queue_ahead(means) == 1
    await wallet.voucher(account, 200)
    assert await queue_ahead(means) == 0
    clock.advance(DAY)
    assert await queue_ahead(means) == 1
    assert len(await _told(account)) == 3


@on_sqlite
async def test_it_says_when_the_money_is_used_up(
    factory: Any, wallet: Any, clock: ManualClock, means: Means
) -> None:
    """Whoever was not told before is told then."""
    account = await factory.account()
    await factory.metered_server(account)
    await wallet.voucher(account, 300)
    clock.advance(timedelta(hours=301))
    assert await queue_ahead(means) == 1
    [notice] = await _told(account)
    assert notice.subject == "Your money is used up"


@on_sqlite
@pytest.mark.parametrize(
    "why", ["card", "free plan", "exempt", "in debt", "no address", "no money", "nothing runs", "policy"]
)
async def test_nobody_is_told_where_nothing_would_follow(
    factory: Any, wallet: Any, clock: ManualClock, means: Means, why: str
) -> None:
    """A card pays, staff or the plan hold the ladder, the ladder speaks already, or nobody could be reached."""
    account = await factory.account(
        free_plan=why == "free plan", email=None if why == "no address" else "a@example.org"
    )
    if why != "nothing runs":
        await factory.metered_server(account)
    if why != "no money":
        await wallet.voucher(account, 300)
    if why == "card":
        await factory.card(account, exp_year=2030, exp_month=11)
    if why == "exempt":
        await factory.override(account)
    if why == "in debt":
        await factory.episode(account)
    if why == "policy":
        quiet = {name: replace(one, before_runway_end=None) for name, one in means.policies.items()}
        means = replace(means, policies=quiet)
    assert await queue_ahead(means) == 0
    assert await _told(account) == []


@on_sqlite
async def test_an_exemption_that_is_over_or_of_one_server_holds_nothing(
    factory: Any, wallet: Any, clock: ManualClock, means: Means
) -> None:
    """Only one of the whole account that is in force does; and another kind does not."""
    account = await factory.account()
    server = await factory.metered_server(account)
    await wallet.voucher(account, 300)
    await factory.override(account, revoked_at=clock.now(), revoked_by="anna")
    await factory.override(account, placed_at=clock.now() - DAY, expires_at=clock.now())
    await factory.override(account, server_id=server.id)
    await factory.override(account, kind=OverrideKind.ALLOW_BACKUPS)
    assert await queue_ahead(means) == 1


@on_sqlite
async def test_it_reads_page_after_page(
    factory: Any, wallet: Any, clock: ManualClock, means: Means, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is left out, whatever the size of a page."""
    monkeypatch.setattr("billing.advance_notices.PAGE", 2)
    for _ in range(5):
        account = await factory.account()
        await factory.metered_server(account)
        await factory.metered_server(account)
        await wallet.voucher(account, 300)
        await wallet.cash(account, 10)
    assert await queue_ahead(means) == 5


# -- cards that expire ---------------------------------------------------------------------------------------------


@on_both
async def test_it_tells_before_a_card_expires(factory: Any, clock: ManualClock, means: Means) -> None:
    """By the span of each account's policy, with the last day on which it can be charged; and once."""
    account, gentle, later = (
        await factory.account(),
        await factory.account(policy="considerate"),
        await factory.account(),
    )
    await factory.card(account, exp_month=11, exp_year=2026)
    await factory.card(gentle, exp_month=12, exp_year=2026)
    await factory.card(later, exp_month=12, exp_year=2026)
    assert await queue_ahead(means) == 1
    [notice] = await _told(account)
    assert notice.template == "card_expiring"
    assert notice.subject == "Your card ending in 4242 expires soon"
    assert "30 November 2026" in notice.body
    clock.advance(13 * DAY)
    assert await queue_ahead(means) == 1
    assert ([one.template for one in await _told(gentle)], await _told(later)) == (["card_expiring"], [])
    clock.advance(14 * DAY)
    assert await queue_ahead(means) == 1
    assert len(await _told(later)) == 1


@on_sqlite
async def test_a_renewed_card_is_told_of_anew(factory: Any, clock: ManualClock, means: Means) -> None:
    """The same row with another expiry; a removed one is told of no more."""
    account = await factory.account()
    card = await factory.card(account, exp_month=11, exp_year=2026)
    assert await queue_ahead(means) == 1
    await Card.filter(id=card.id).update(exp_month=12, version=2)
    assert await queue_ahead(means) == 0
    clock.advance(datetime(2026, 12, 20, tzinfo=UTC) - clock.now())
    assert await queue_ahead(means) == 1
    other = await factory.account()
    await factory.card(other, exp_month=12, removed_at=clock.now(), exp_year=2026)
    assert await queue_ahead(means) == 0


@on_sqlite
async def test_a_policy_may_keep_quiet_about_cards(factory: Any, clock: ManualClock, means: Means) -> None:
    """For its own accounts, or altogether."""
    await factory.card(await factory.account(), exp_month=11, exp_year=2026)
    quiet = replace(means.policies["standard"], before_card_expiry=None)
    some = replace(means, policies={**means.policies, "standard": quiet})
    assert await queue_ahead(some) == 0
    assert await queue_ahead(replace(means, policies={"standard": quiet})) == 0
    assert await queue_ahead(means) == 1
