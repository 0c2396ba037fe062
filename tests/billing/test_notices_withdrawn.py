"""What waited in the outbox and is not true any more is withdrawn, and told anew when it comes true again."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from billing.advance_notices import queue_ahead, still_due
from billing.clock import ManualClock
from billing.models import Account, Episode, Notice, Override, WorkItem
from billing.money_models import Card
from billing.notice_request import NamedServer, NoticeRequest
from billing.notices import queue
from billing.rules.policy import Policy
from billing.rules.terms import NoticeState, Stage
from billing.settling import Means

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def means(clock: ManualClock, policies: Mapping[str, Policy]) -> Means:
    """Settling without Stripe."""
    return Means(clock=clock, policies=policies)


@pytest.fixture
def deliver(turn: Any, means: Means) -> Any:
    """Sends what is due and still so."""
    return partial(turn, still_due=partial(still_due, means=means))


@pytest.fixture
async def short(factory: Any, wallet: Any) -> Account:
    """An account in Vienna whose voucher pays for its server for some more days."""
    account: Account = await factory.account(locale="de-AT", time_zone="Europe/Vienna")
    await factory.metered_server(account, rate=3_000_000)
    await wallet.voucher(account, 300)
    return account


@pytest.mark.parametrize(
    "joined", ["nothing", "a card", "a voucher", "an exemption", "a debt", "a free plan"]
)
async def test_money_that_lasts_again_is_told_of_no_more(
    short: Account,
    factory: Any,
    wallet: Any,
    clock: ManualClock,
    means: Means,
    deliver: Any,
    postbox: Any,
    joined: str,
) -> None:
    """Also when a letter waited for its server: whether it is so is looked at again just before it is sent."""
    assert await queue_ahead(means) == 1
    postbox.data_reply = "451 later"
    assert await deliver() == 0
    match joined:
        case "a card":
            await factory.card(short)
        case "a voucher":
            await wallet.voucher(short, 100_000)
        case "an exemption":
            await factory.override(short)
        case "a debt":
            await factory.episode(short)
        case "a free plan":
            await Account.filter(id=short.id).update(free_plan=True)
    postbox.data_reply = "250 taken"
    clock.advance(timedelta(minutes=5))
    assert await deliver() == (joined == "nothing")
    notice = await Notice.get()
    if joined == "nothing":
        [letter] = postbox.letters
        assert letter["Subject"] == "Ihr Guthaben reicht bis zum 24. November 2026"
        assert "Guten Tag" in letter.get_content()
        return
    assert postbox.letters == []
    assert (notice.state, notice.error) == (NoticeState.FAILED, "not sent: what it tells is not so any more")
    assert not await WorkItem.all().exists()


async def test_what_was_withdrawn_is_told_when_it_comes_true_again(
    short: Account, factory: Any, clock: ManualClock, means: Means, deliver: Any, postbox: Any
) -> None:
    """The same day at the end of the money, and a card that came and went."""
    assert await queue_ahead(means) == 1
    card = await factory.card(short)
    assert await deliver() == 0
    assert await queue_ahead(means) == 0
    await Card.filter(id=card.id).update(removed_at=clock.now(), version=2)
    assert await queue_ahead(means) == 1
    assert (await deliver(), await deliver()) == (1, 0)
    assert len(postbox.letters) == 1
    assert await queue_ahead(means) == 0


async def test_an_end_that_has_moved_is_told_with_its_new_day(
    short: Account, wallet: Any, clock: ManualClock, means: Means, deliver: Any, postbox: Any
) -> None:
    """Nobody reads a date that was true yesterday."""
    assert await queue_ahead(means) == 1
    await wallet.voucher(short, 300)
    assert await deliver() == 0
    assert await queue_ahead(means) == 1
    assert await deliver() == 1
    assert [letter["Subject"] for letter in postbox.letters] == [
        "Ihr Guthaben reicht bis zum 28. November 2026"
    ]


async def test_a_card_that_was_replaced_is_told_of_no_more(
    factory: Any, clock: ManualClock, means: Means, deliver: Any, postbox: Any
) -> None:
    """Removed or renewed; one that still expires is told of."""
    removed, renewed, left = [await factory.account() for _ in range(3)]
    cards = [await factory.card(one, exp_month=11, exp_year=2026) for one in (removed, renewed, left)]
    assert await queue_ahead(means) == 3
    await Card.filter(id=cards[0].id).update(removed_at=clock.now(), version=2)
    await Card.filter(id=cards[1].id).update(exp_year=2029, version=2)
    assert await deliver() == 1
    assert [letter["To"] for letter in postbox.letters] == [left.email]


async def test_what_belongs_to_an_episode_is_not_sent_after_it(
    factory: Any, clock: ManualClock, deliver: Any, postbox: Any
) -> None:
    """A server that is covered again, a debt that was forgiven; the good news is sent all the same."""
    account = await factory.account()
    episode = await factory.episode(account)
    server = await factory.server(account)
    of = {
        "account": account,
        "episode_id": episode.id,
        "ended_server": NamedServer(id=server.id, name=server.name),
    }
    for template, stage in (("payment_overdue", Stage.PAST_DUE), ("restored", None)):
        asked = NoticeRequest(template=template, dedupe_key=template, stage=stage, **of)
        await queue(asked, now=clock.now())
    await Episode.filter(id=episode.id).update(ended_at=clock.now())
    assert await deliver() == 1
    assert [letter["Subject"] for letter in postbox.letters] == [f"Server {server.name}: this is settled"]


@pytest.mark.parametrize("moved", [False, True])
async def test_what_tells_of_a_stage_is_not_sent_once_it_is_another_one(
    factory: Any, clock: ManualClock, deliver: Any, postbox: Any, moved: bool
) -> None:
    """Written as suspended, and brought back before the mail server took it: the letter, and its reminder."""
    account = await factory.account()
    invoice = await factory.invoice(account)
    due = await factory.invoice(account, number="A-9")
    episode = await factory.episode(account, admitted=Stage.SUSPENDED)
    asked = {"account": account, "episode_id": episode.id}
    for template, stage, named in (
        ("suspended", Stage.SUSPENDED, invoice), ("suspended", None, invoice), ("before_due", None, due),
    ):  # fmt: skip
        key = f"{template}:{stage}"
        wanted = NoticeRequest(template=template, dedupe_key=key, stage=stage, invoices=[named], **asked)
        await queue(wanted, now=clock.now())
    clock.advance(timedelta(minutes=1))
    if moved:
        await Episode.filter(id=episode.id).update(admitted=Stage.PAST_DUE, admitted_at=clock.now())
    assert await deliver() == (1 if moved else 3)
    told = {letter["Subject"].partition(":")[0] for letter in postbox.letters}
    assert ("Your account is suspended" in told) is not moved
    assert not await WorkItem.exists()


async def test_a_notice_that_is_still_true_is_sent(
    factory: Any, clock: ManualClock, deliver: Any, postbox: Any
) -> None:
    """What is looked at again is not lost: an invoice that is open, of an episode that is."""
    account = await factory.account(locale="de")
    invoice = await factory.invoice(account, number="A-1", total=1234560, amount_due=1234560)
    episode = await factory.episode(account)
    asked = NoticeRequest(
        account=account, template="payment_overdue", dedupe_key="k", stage=Stage.PAST_DUE, episode_id=episode.id,
        invoices=[invoice],
    )  # fmt: skip
    await queue(asked, now=clock.now())
    assert await deliver() == 1
    [letter] = postbox.letters
    assert letter["Subject"] == "Zahlung überfällig: 12.345,60 €"
    assert "A-1: 12.345,60 €, fällig am" in letter.get_content()


@pytest.mark.parametrize("template", ["given_back", "server_given_back"])
@pytest.mark.parametrize(
    ("ended", "sent"), [("not", True), ("revoked", False), ("over", False), ("long before", True)]
)
async def test_what_staff_took_back_is_told_to_nobody(
    factory: Any, clock: ManualClock, deliver: Any, postbox: Any, template: str, ended: str, sent: bool
) -> None:
    """More time that ended, or was taken back, while the letter waited; what had ended before was never in it."""
    account = await factory.account()
    invoice = await factory.invoice(account)
    episode = await factory.episode(account)
    given = await factory.override(account, kind="EXTEND_GRACE", expires_at=clock.now() + timedelta(hours=1))
    if ended == "long before":
        clock.advance(timedelta(days=1))
        await Override.filter(id=given.id).update(revoked_at=clock.now(), revoked_by="anna")
        clock.advance(timedelta(days=1))
    asked = NoticeRequest(
        account=account, template=template, dedupe_key="k", episode_id=episode.id, invoices=[invoice],
        servers=[NamedServer(id=1, name="web")],
    )  # fmt: skip
    await queue(asked, now=clock.now())
    clock.advance(timedelta(minutes=5))
    if ended == "revoked":
        await Override.filter(id=given.id).update(revoked_at=clock.now(), revoked_by="anna")
    if ended == "over":
        clock.advance(timedelta(hours=1))
    assert await deliver() == sent
    assert len(postbox.letters) == sent


@pytest.mark.parametrize(("taken_from", "sent"), [("web", False), ("mail", True)])
async def test_what_staff_took_back_from_another_server_withdraws_nothing(
    factory: Any, clock: ManualClock, deliver: Any, postbox: Any, taken_from: str, sent: bool
) -> None:
    """A letter about one server waits for nothing that happens to another."""
    account = await factory.account()
    servers = {name: await factory.server(account, name=name) for name in ("web", "mail")}
    given = {name: await factory.override(account, server_id=one.id) for name, one in servers.items()}
    asked = NoticeRequest(
        account=account, template="server_given_back", dedupe_key="k",
        episode_id=(await factory.episode(account)).id,
        servers=[NamedServer(id=servers["web"].id, name="web")],
    )  # fmt: skip
    await queue(asked, now=clock.now())
    clock.advance(timedelta(minutes=5))
    await Override.filter(id=given[taken_from].id).update(revoked_at=clock.now(), revoked_by="anna")
    assert await deliver() == sent
    assert len(postbox.letters) == sent


async def test_a_spared_server_is_told_of_though_its_account_climbs_on(
    factory: Any, clock: ManualClock, deliver: Any, postbox: Any
) -> None:
    """No other letter tells of that server."""
    account = await factory.account()
    episode = await factory.episode(account)
    asked = NoticeRequest(
        account=account, template="server_given_back", dedupe_key="k", episode_id=episode.id,
        servers=[NamedServer(id=1, name="web")],
    )  # fmt: skip
    await queue(asked, now=clock.now())
    clock.advance(timedelta(minutes=5))
    await Episode.filter(id=episode.id).update(admitted=Stage.RETAINED, admitted_at=clock.now())
    assert await deliver() == 1
    [letter] = postbox.letters
    assert "web" in letter.get_content()
