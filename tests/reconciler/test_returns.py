"""Whoever gets something back is told what, why, and until when; once, and nothing that is not so."""

from datetime import timedelta

import pytest

from billing.accounts import note_fact
from billing.models import Account, Episode, Invoice, Notice, Override, Subscription
from billing.rules.terms import InvoiceStatus, NoticeState, Stage
from reconciler.models import Server
from reconciler.rules.terms import Mode, Power

pytestmark = pytest.mark.usefixtures("sqlite_database")


@pytest.fixture
def suspended(delinquent, settle):
    """Makes a suspended account whose servers billing holds, as a pass leaves it."""

    async def make(servers=1, **given):
        account, invoice, rows = await delinquent(servers, **given)
        await settle(account)
        return account, invoice, rows

    return make


async def pay(invoice, left=0):
    """Pay an invoice but for what is left of it."""
    status = InvoiceStatus.OPEN if left else InvoiceStatus.PAID
    await Invoice.filter(id=invoice.id).update(
        status=status, amount_due=left, amount_paid=invoice.total - left
    )


# -- the end of an episode --------------------------------------------------------------------------------------------


async def test_sends_no_good_news_to_who_was_never_told(debtor, factory, settle, clock):
    """An episode that disturbed nobody ends in silence."""
    account, invoice, _ = await debtor()
    await factory.episode(account)
    await type(invoice).filter(id=invoice.id).update(status="PAID", amount_due=0)

    await settle(account)

    assert not await Notice.all().exists()
    assert (await Episode.get()).ended_at == clock.now()


async def test_good_news_tells_of_what_is_given_back(delinquent, settle, newest):
    """The stage that ends had stopped a server and locked backups."""
    account, invoice, [server] = await delinquent()
    await type(invoice).filter(id=invoice.id).update(status="PAID", amount_due=0)

    await settle(account)

    told = (await newest()).body
    assert f"This is about your server {server.name}. What was running when we stopped it" in told
    assert "Your backups are open again." in told


async def test_good_news_of_a_warning_speaks_of_no_stop(debtor, factory, settle, clock, newest):
    """Who was only told of a debt is not frightened afterwards by servers that never stopped."""
    account, invoice, _ = await debtor()
    episode = await factory.episode(account)
    await factory.notice(
        account,
        stage=Stage.PAST_DUE,
        episode_id=episode.id,
        invoice_ids=[invoice.id],
        state=NoticeState.DELIVERED,
        delivered_at=clock.now(),
    )
    await type(invoice).filter(id=invoice.id).update(status="PAID", amount_due=0)

    await settle(account)

    told = await newest()
    assert told.template == "restored"
    assert "Nothing of yours is stopped or locked for money." in told.body
    assert "started again" not in told.body


async def test_good_news_names_apart_what_somebody_else_keeps_restricted(
    delinquent, factory, settle, clock, newest
):
    """Who has paid is not told that all is open while a server stays off for abuse."""
    account, invoice, [open_again, kept] = await delinquent(2)
    await factory.hold(kept, cause="ABUSE", stops_server=True)
    await factory.hold(open_again, cause="MAINTENANCE", stops_server=True, expires_at=clock.now())
    await Invoice.filter(id=invoice.id).update(status="PAID", amount_due=0)
    await note_fact(account.id, now=clock.now())

    await settle(account)

    told = await newest()
    assert (told.template, told.subject) == ("restored", "What you owed is settled")
    body = told.body
    assert f"This is about your server {open_again.name}." in body
    assert f"Server {kept.name} stays restricted for another reason" in body


@pytest.mark.parametrize("known_by", ["its owner's switch", "what we found", "what was read"])
async def test_good_news_says_that_a_server_that_was_off_stays_off(
    suspended, settle, newest, known_off, known_by
):
    """What its owner had switched off is not promised to be started."""
    account, invoice, [ran, off] = await suspended(2)
    await known_off(known_by, off, ran=ran)
    await pay(invoice)

    await settle(account)

    told = (await newest()).body
    assert f"This is about your server {ran.name}. What was running" in told
    assert f"This server was off before, and stays off until you start it: {off.name}." in told


async def test_good_news_of_a_server_alone_says_that_it_stays_off(factory, settle, newest, uncover):
    """The same where a subscription had ended."""
    account = await factory.account()
    server = await factory.server(account)
    subscription = await uncover(server)
    await settle(account)
    await factory.observation(server, power=Power.STOPPED)
    await Subscription.filter(id=subscription.id).update(ended_at=None)

    await settle(account)

    told = await newest()
    assert (told.template, told.subject) == ("restored", f"Server {server.name}: this is settled")
    assert f"stays off until you start it: {server.name}." in told.body
    assert "started again" not in told.body


async def test_good_news_promises_nothing_of_a_server_whose_subscription_has_ended(
    suspended, factory, settle, newest, clock, uncover
):
    """What the account owed is paid; this one stays stopped for a reason of its own."""
    account, invoice, [back, server] = await suspended(2)
    await uncover(server)
    await pay(invoice)

    await settle(account)

    told = await Notice.get(template="restored")
    body = " ".join(told.body.split())
    assert told.subject == "What you owed is settled"
    assert f"This is about your server {back.name}." in body
    assert f"Server {server.name} stays restricted because its subscription has ended." in body


async def test_good_news_to_a_server_says_what_its_account_still_owes(
    suspended, factory, settle, newest, clock, uncover
):
    """Its subscription is well again, and it stays stopped with the account's other servers."""
    account, _, [_, server] = await suspended(2)
    subscription = await uncover(server)
    await settle(account)
    await Subscription.filter(id=subscription.id).update(ended_at=None)

    await settle(account)

    told = await Notice.get(template="restored")
    body = " ".join(told.body.split())
    assert f"Server {server.name} stays restricted until what your account owes is settled." in body
    assert "started again" not in body
    assert "open again" not in told.subject + body


async def test_good_news_says_what_little_stays_open(suspended, settle, newest):
    """Settled is what leaves nothing; what is tolerated is told with its amount."""
    account, invoice, _ = await suspended()
    await pay(invoice, left=40)

    await settle(account)

    told = await newest()
    assert told.template == "restored"
    assert "What is left is so little that nothing is restricted for it." in told.body
    assert "This stays open; please pay it together with your next invoice:" in told.body
    assert "€0.40" in told.body
    assert "settled" not in told.subject + told.body


@pytest.mark.parametrize(
    ("changed", "said", "open_still"),
    [
        ({"status": "PAID", "amount_due": 0}, "Thank you, this is settled.", False),
        ({"status": "VOID", "amount_due": 0}, "Thank you, this is settled.", False),
        (
            {"status": "UNCOLLECTIBLE", "amount_due": 0},
            "closed what you owed without a payment. New servers wait until it is paid",
            False,
        ),
        ({"disputed_amount": 500}, "While a payment of yours is in dispute", True),
        ({"overdue_at": "later"}, "What you owe is not due yet", True),
    ],
)
async def test_good_news_says_why_it_is_over(suspended, settle, newest, clock, changed, said, open_still):
    """Only what is paid or taken back is settled."""
    account, invoice, _ = await suspended()
    if "overdue_at" in changed:
        changed = {"overdue_at": clock.now() + timedelta(days=3), "overdue_seen_at": None}
    await Invoice.filter(id=invoice.id).update(**changed)

    await settle(account)

    told = await newest()
    assert told.template == "restored"
    assert said in told.body
    assert ("This stays open: Invoice" in told.body) is open_still
    assert ("this is settled" in told.body) is said.startswith("Thank")


async def test_good_news_to_a_free_account_does_not_call_its_debt_settled(suspended, settle, newest):
    """It is asked for nothing more, and its invoice stays open."""
    account, _, _ = await suspended()
    await Account.filter(id=account.id).update(free_plan=True)

    await settle(account)

    told = (await newest()).body
    assert "Your account is free of charge now." in told
    assert "This stays open: Invoice" in told
    assert "settled" not in told


# -- a milder stage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", ["en", "de"])
async def test_an_extension_is_told_with_its_end_and_with_what_comes_after(
    suspended, factory, settle, newest, clock, locale
):
    """One letter, which is that of the milder stage, too; none more at the next look."""
    account, invoice, [server] = await suspended(locale=locale, time_zone="Europe/Vienna")
    before = await Notice.all().count()
    until = clock.now() + timedelta(days=10)
    await factory.override(account, kind="EXTEND_GRACE", expires_at=until)

    for _ in range(2):
        await settle(account)

    told = await newest()
    assert await Notice.all().count() == before + 1
    assert (told.template, told.stage, told.invoice_ids) == ("given_back", Stage.PAST_DUE, [invoice.id])
    for said in {
        "en": (
            "We have given you more time to pay until 30 November 2026, 10:00 CET.",
            f"This is about your server {server.name}. What was running when we stopped it is started again",
            "Your backups are open again.",
            "New servers and changes of size wait until the payment has arrived.",
            "this comes next, not before 2 December 2026, 10:00 CET: - Your backups will be locked",
        ),
        "de": (
            "Wir haben Ihnen bis zum 30. November 2026, 10:00 Uhr MEZ mehr Zeit zum Zahlen gegeben.",
            "Ihre Backups sind wieder frei.",
            "nicht vor dem 2. Dezember 2026, 10:00 Uhr MEZ: - Ihre Backups werden gesperrt",
        ),
    }[locale]:
        assert said in told.body


async def test_more_time_announces_no_lock_of_backups_that_staff_lets_be_made(
    suspended, factory, settle, newest, clock
):
    """What comes after the extension is told as it will be."""
    account, _, _ = await suspended()
    await factory.override(account, kind="ALLOW_BACKUPS", expires_at=clock.now() + timedelta(days=60))
    await factory.override(account, kind="EXTEND_GRACE", expires_at=clock.now() + timedelta(days=10))

    await settle(account)

    told = (await newest()).body
    assert "Making and exporting them stays open for now." in told
    assert "you cannot make" not in told


async def test_an_extension_and_a_payment_at_once_are_told_once(suspended, factory, settle, clock):
    """What is settled needs no more time."""
    account, invoice, _ = await suspended()
    before = await Notice.all().count()
    await factory.override(account, kind="EXTEND_GRACE")
    await pay(invoice)

    await settle(account)

    assert [one.template for one in await Notice.all().order_by("id").offset(before)] == ["restored"]


async def test_a_payment_after_an_extension_promises_nothing_twice(suspended, factory, settle, newest, clock):
    """The second letter says that it is settled, and no more that servers come back."""
    account, invoice, _ = await suspended()
    await factory.override(account, kind="EXTEND_GRACE")
    await settle(account)
    clock.advance(timedelta(hours=1))
    await pay(invoice)

    await settle(account)

    told = await newest()
    assert told.template == "restored"
    assert "Thank you, this is settled. Nothing of yours is stopped or locked for money." in told.body


async def test_a_second_extension_is_told_as_well(suspended, factory, settle, newest, clock):
    """What is given back again is news again."""
    account, _, _ = await suspended()
    first = await factory.override(account, kind="EXTEND_GRACE")
    await settle(account)
    clock.advance(timedelta(hours=1))
    await Override.filter(id=first.id).update(revoked_at=clock.now(), revoked_by="anna")
    await Episode.filter(account_id=account.id).update(
        admitted=Stage.SUSPENDED, admitted_at=clock.now(), granted=None
    )
    await factory.override(account, kind="EXTEND_GRACE", expires_at=clock.now() + timedelta(days=3))

    await settle(account)

    assert await Notice.filter(template="given_back").count() == 2
    assert "until 23 November 2026" in (await newest()).body


async def test_an_extension_that_gives_nothing_back_is_no_letter(debtor, factory, settle, clock):
    """Whom nothing was taken from is told of the stage alone."""
    account, invoice, _ = await debtor()
    episode = await factory.episode(account, started_at=clock.now() - timedelta(days=1))
    await factory.notice(account, episode_id=episode.id, invoice_ids=[invoice.id])
    await factory.override(account, kind="EXTEND_GRACE")

    await settle(account)

    assert await Notice.all().count() == 1


async def test_an_exemption_is_told_without_a_word_of_removal(suspended, factory, settle, newest, clock):
    """Staff's mercy is not delivered with a threat; what is open stays named."""
    account, invoice, _ = await suspended()
    await factory.override(account, kind="EXEMPT", expires_at=clock.now() + timedelta(days=20))

    await settle(account)

    told = await newest()
    assert (told.template, told.stage, told.invoice_ids) == ("given_back", None, [invoice.id])
    assert "nothing is restricted for what is open until 10 December 2026, 10:00 CET." in told.body
    assert "removed" not in told.body
    assert "New servers" not in told.body


async def test_a_milder_stage_after_a_part_payment_says_what_stays_locked(
    suspended, factory, settle, newest, clock
):
    """The oldest debt is paid: servers run again, while the next oldest keeps the backups locked."""
    account, invoice, _ = await suspended()
    newer = await factory.invoice(account, overdue_at=clock.now() - timedelta(hours=80))
    episode = await Episode.get(account_id=account.id)
    await factory.notice(
        account,
        stage=Stage.PAST_DUE,
        episode_id=episode.id,
        invoice_ids=[invoice.id, newer.id],
        created_at=clock.now() - timedelta(hours=79),
        delivered_at=clock.now() - timedelta(hours=79),
        state=NoticeState.DELIVERED,
    )
    await pay(invoice)

    await settle(account)

    told = await newest()
    assert (told.template, told.stage) == ("given_back", Stage.FINAL_NOTICE)
    assert "is started again" in told.body
    assert "until this is settled you cannot make, restore, export or delete any" in told.body
    assert "Your backups are open again" not in told.body
    assert "more time" not in told.body


async def test_in_plan_it_is_told_too_and_opens_no_stage(suspended, factory, settle, newest):
    """A customer hears that servers are back in every mode in which they come back."""
    account, _, _ = await suspended()
    await factory.override(account, kind="EXTEND_GRACE")

    await settle(account, Mode.PLAN)

    told = await newest()
    assert (told.template, told.stage) == ("given_back", None)


async def test_nobody_without_an_address_is_told(suspended, factory, settle):
    """Nothing is queued that could not be sent."""
    account, _, [server] = await suspended()
    await Account.filter(id=account.id).update(email=None, billing_emails=[])
    await factory.override(account, server_id=server.id)
    await settle(account)
    await factory.override(account, kind="EXTEND_GRACE")

    await settle(account)

    assert not await Notice.filter(template__contains="given_back").exists()


async def test_an_account_without_servers_gets_nothing_back_that_it_never_had(
    delinquent, factory, settle, newest, clock
):
    """Of a final notice, which locks backups alone, such an account has felt nothing."""
    account, _, [server] = await delinquent()
    await Server.filter(id=server.id).update(retired_at=clock.now())
    await Episode.filter(account_id=account.id).update(admitted=Stage.FINAL_NOTICE)
    await factory.override(account, kind="EXTEND_GRACE")

    await settle(account)

    told = await newest()
    assert (told.template, told.stage) == ("payment_overdue", Stage.PAST_DUE)
    assert "Only new servers wait until the payment has arrived." in told.body


# -- single servers ---------------------------------------------------------------------------------------------------


async def test_an_exempt_server_is_told_of_alone(suspended, factory, settle, newest, clock):
    """It comes back until then; the other ones, and what is owed, stay as they are."""
    account, _, [spared, other] = await suspended(2)
    await factory.override(account, server_id=spared.id, expires_at=clock.now() + timedelta(days=20))
    clock.advance(timedelta(minutes=1))

    for _ in range(2):
        await settle(account)

    told = await newest()
    assert await Notice.filter(template="server_given_back").count() == 1
    assert (told.template, told.stage, told.server_ids) == ("server_given_back", None, [spared.id])
    assert f"does not restrict this server until 10 December 2026, 10:00 CET: {spared.name}." in told.body
    assert "Its backups are open again." in told.body
    assert other.name not in told.body


async def test_a_free_server_is_told_of_as_free(suspended, settle, newest, clock):
    """Nobody decided an exemption; it costs nothing."""
    account, _, [free, _] = await suspended(2)
    await Server.filter(id=free.id).update(free=True)
    clock.advance(timedelta(minutes=1))

    await settle(account)

    told = await newest()
    assert told.template == "server_given_back"
    assert f"This server is free of charge now: {free.name}." in told.body


@pytest.mark.parametrize("gone", ["missing_since", "retired_at"])
async def test_a_server_that_is_gone_does_not_come_back(suspended, settle, clock, gone):
    """Its hold is lifted, and nobody is told that it runs again."""
    account, _, [server, _] = await suspended(2)
    clock.advance(timedelta(minutes=1))
    await Server.filter(id=server.id).update(**{gone: clock.now()})
    await note_fact(account.id, now=clock.now())

    await settle(account)

    assert not await Notice.filter(template="server_given_back").exists()


async def test_a_server_that_abuse_holds_does_not_come_back_by_an_exemption(
    suspended, factory, settle, newest, clock
):
    """The letter says so instead of promising it."""
    account, _, [server, _] = await suspended(2)
    await factory.hold(server, cause="ABUSE", stops_server=True)
    await factory.override(account, server_id=server.id)
    clock.advance(timedelta(minutes=1))

    await settle(account)

    told = (await newest()).body
    assert f"Server {server.name} stays restricted for another reason" in told
    assert "started again" not in told
    assert "open again" not in told
