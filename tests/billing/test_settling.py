"""How the purses and the cards settle invoices of ours, on both databases."""

from datetime import date, timedelta
from typing import Any

import pytest

from billing import cards as saved_cards
from billing import ledger, settling_sweep
from billing.charge_rows import InvoiceCharge
from billing.charges import Outcome
from billing.models import Account, AuditEntry, Invoice
from billing.money_models import (
    Card,
    Charge,
    ChargeState,
    InvoicePart,
    LedgerKind,
    LedgerTransaction,
    PartSource,
    Reservation,
    ReservationState,
    TransactionKind,
)
from billing.rules.cards import NotAsked
from billing.rules.settlement import Purse
from billing.rules.terms import InvoiceOrigin, InvoiceStatus
from billing.settling import Means, Occasion, pay_from_purses, settle
from billing.settling_sweep import settle_due

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def means(clock: Any, policies: Any) -> Means:
    """Without Stripe and without cards."""
    return Means(clock=clock, policies=policies)


@pytest.fixture
async def account(database: str, factory: Any) -> Account:
    """Somebody who owes nothing yet."""
    return await factory.account()


async def due(account: Account) -> list[int]:
    """What is due of each invoice of the account."""
    rows = Invoice.filter(account_id=account.id).order_by("id")
    return [amount for (amount,) in await rows.values_list("amount_due")]


async def parts(invoice: Invoice) -> list[tuple[PartSource, int]]:
    """What paid an invoice."""
    rows = await InvoicePart.filter(invoice_id=invoice.id).order_by("id")
    return [(row.source, row.amount) for row in rows]


async def run(account: Account, means: Means, **given: Any) -> Any:
    """Settle because time passed."""
    return await settle(account.id, occasion=Occasion(**given), means=means)


async def test_it_pays_an_invoice_from_both_purses(factory, wallet, means, account):
    """Vouchers first, then cash; the invoice is closed and everything is written down with it."""
    invoice = await factory.invoice(account, total=500, amount_due=500)
    await wallet.voucher(account, 200)
    await wallet.cash(account, 400)
    before = (await Account.get(id=account.id)).facts_version
    await run(account, means)
    paid = await Invoice.get(id=invoice.id)
    assert (paid.status, paid.amount_due, paid.amount_paid) == (InvoiceStatus.PAID, 0, 500)
    assert (paid.paid_at, paid.overdue_seen_at) == (means.clock.now(), None)
    assert await parts(invoice) == [(PartSource.VOUCHER, 200), (PartSource.BALANCE, 300)]
    assert await wallet.holds(account) == ledger.Purses(currency="EUR", balance=100)
    assert (await Account.get(id=account.id)).facts_version > before
    kinds = await AuditEntry.filter(subject_type="Invoice").order_by("id").values_list("kind", flat=True)
    assert kinds == ["invoice.paid_in_part", "invoice.settled"]
    assert await ledger.proven() == []


async def test_it_pays_the_smallest_total_first_and_the_last_in_part(factory, wallet, means, account):
    """Overdue or not makes no difference to a purse."""
    later = means.clock.now() + timedelta(days=9)
    await factory.invoice(account, total=900, amount_due=900)
    await factory.invoice(account, total=300, amount_due=300, overdue_at=later, due_on=date(2026, 12, 1))
    await wallet.cash(account, 500)
    await run(account, means)
    assert await due(account) == [700, 0]


async def test_it_changes_nothing_the_second_time(factory, wallet, means, account):
    """Neither a row nor the version of the facts."""
    await factory.invoice(account, total=900, amount_due=900)
    await wallet.cash(account, 500)
    await run(account, means)
    before = (await Account.get(id=account.id)).facts_version, await LedgerTransaction.all().count()
    assert (await run(account, means)).steps == 0
    assert ((await Account.get(id=account.id)).facts_version, await LedgerTransaction.all().count()) == before


@pytest.mark.parametrize("status", [InvoiceStatus.DRAFT, InvoiceStatus.VOID, InvoiceStatus.UNCOLLECTIBLE])
async def test_it_pays_open_invoices_alone(factory, wallet, means, account, status):
    """What is closed, or not issued yet, takes nothing."""
    await factory.invoice(account, status=status, amount_due=0)
    await wallet.cash(account, 500)
    await run(account, means)
    assert (await wallet.holds(account)).balance == 500


async def test_it_leaves_invoices_of_another_currency_alone(factory, wallet, means, account):
    """Money in euros pays euros."""
    await factory.invoice(account, currency="USD")
    await wallet.cash(account, 900)
    await run(account, means)
    assert (await due(account), (await wallet.holds(account)).balance) == ([500], 900)


async def test_it_spends_no_voucher_on_an_adjustment_unless_its_customer_asks(
    factory, wallet, means, account
):
    """Money that was taken back is owed in cash; the customer may decide otherwise."""
    invoice = await factory.invoice(account, origin=InvoiceOrigin.ADJUSTMENT)
    await wallet.voucher(account, 800)
    await run(account, means)
    assert await due(account) == [500]
    await pay_from_purses(invoice.id, {Purse.VOUCHER}, actor="customer", means=means)
    assert (await due(account), (await wallet.holds(account)).voucher) == ([0], 300)


async def test_it_pays_the_invoice_that_its_customer_named_first(factory, wallet, means, account):
    """From the purses that were named, whatever the order would be."""
    await factory.invoice(account, total=100, amount_due=100)
    named = await factory.invoice(account, total=900, amount_due=900)
    await wallet.cash(account, 400)
    await wallet.voucher(account, 50)
    await pay_from_purses(named.id, {Purse.BALANCE}, actor="customer", means=means)
    assert (await due(account), (await wallet.holds(account)).voucher) == ([100, 500], 50)


# -- invoices that take no part


@pytest.fixture
async def whole(database: str, factory: Any) -> Account:
    """A purse pays an invoice of this account whole or not at all."""
    return await factory.account(policy="whole")


async def test_it_sets_money_aside_until_the_whole_is_together(factory, wallet, means, whole):
    """What is set aside is neither spent nor free; with the last part the invoice is paid at once."""
    invoice = await factory.invoice(whole, total=500, amount_due=500)
    await wallet.voucher(whole, 100)
    await wallet.cash(whole, 250)
    await run(whole, means)
    assert await due(whole) == [500]
    assert await wallet.holds(whole) == ledger.Purses(
        currency="EUR", voucher_reserved=100, balance_reserved=250
    )
    await wallet.cash(whole, 200)
    await run(whole, means)
    assert await due(whole) == [0]
    assert await parts(invoice) == [(PartSource.VOUCHER, 100), (PartSource.BALANCE, 400)]
    assert await wallet.holds(whole) == ledger.Purses(currency="EUR", balance=50)
    assert await ledger.proven() == []


async def test_it_keeps_set_aside_money_from_a_smaller_invoice_that_comes_later(
    factory, wallet, means, whole
):
    """The smaller one waits for new money."""
    await factory.invoice(whole, total=500, amount_due=500)
    await wallet.cash(whole, 450)
    await run(whole, means)
    await factory.invoice(whole, total=100, amount_due=100)
    await run(whole, means)
    assert await due(whole) == [500, 100]
    await wallet.cash(whole, 100)
    await run(whole, means)
    assert (await due(whole), (await wallet.holds(whole)).balance_reserved) == ([500, 0], 450)


async def test_it_frees_what_was_set_aside_for_an_invoice_that_was_paid_otherwise(
    factory, wallet, means, whole
):
    """And the sweep finds it without any other fact."""
    invoice = await factory.invoice(whole, total=500, amount_due=500)
    await wallet.cash(whole, 450)
    await run(whole, means)
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.VOID, amount_due=0)
    assert await settle_due(means) == 1
    assert await wallet.holds(whole) == ledger.Purses(currency="EUR", balance=450)
    assert [row.state for row in await Reservation.all()] == [ReservationState.FREED]


async def test_it_pays_with_what_was_set_aside_when_less_is_due_by_now(factory, wallet, means, whole):
    """What is too much goes back to its purse, where it came from."""
    invoice = await factory.invoice(whole, total=500, amount_due=500)
    await wallet.voucher(whole, 450)
    await run(whole, means)
    await Invoice.filter(id=invoice.id).update(amount_due=400)
    await run(whole, means)
    assert (await due(whole), await wallet.holds(whole)) == ([0], ledger.Purses(currency="EUR", voucher=50))


async def test_it_pays_parts_again_after_a_change_of_policy(factory, wallet, means, whole):
    """What was set aside pays at once."""
    await factory.invoice(whole, total=500, amount_due=500)
    await wallet.cash(whole, 450)
    await run(whole, means)
    await Account.filter(id=whole.id).update(policy="standard")
    await run(whole, means)
    assert (await due(whole), await wallet.holds(whole)) == ([50], ledger.Purses(currency="EUR"))


async def test_it_sweeps_only_accounts_that_something_can_be_done_for(factory, wallet, means, account):
    """Money without an invoice and an invoice without money wait."""
    await wallet.cash(account, 100)
    await factory.invoice(await factory.account())
    assert await settle_due(means) == 0
    await factory.invoice(account)
    assert await settle_due(means) == 1
    assert await due(account) == [400]


# -- cards


class Bank:
    """Answers for cards: what each says, and what was asked."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.answers: dict[int, ChargeState | NotAsked] = {}
        self.asked: list[tuple[int, int, int, str]] = []

    async def __call__(self, wanted: InvoiceCharge) -> Outcome:
        self.asked.append((wanted.invoice_id, wanted.card_id, wanted.amount, wanted.occasion))
        number = len(self.asked)
        answer = self.answers[wanted.card_id]
        if isinstance(answer, NotAsked):
            return Outcome(charge=None, not_asked=answer)
        invoice = await Invoice.get(id=wanted.invoice_id)
        charge = await Charge.create(
            account_id=invoice.account_id, invoice_id=invoice.id, card_id=wanted.card_id, card_version=1,
            amount=wanted.amount, currency="EUR", on_session=False, occasion=f"{wanted.occasion}-{number}",
            idempotency_key=f"key-{number}", state=answer, created_at=self.clock.now(),
            updated_at=self.clock.now(), stripe_payment_intent_id=f"pi_{number}",
        )  # fmt: skip
        if answer is ChargeState.SUCCEEDED:
            await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)
        return Outcome(charge=charge)


@pytest.fixture
def bank(clock: Any) -> Bank:
    """The banks of all cards."""
    return Bank(clock)


async def card(account: Account, clock: Any, **given: Any) -> Card:
    """A saved card."""
    number = await Card.all().count()
    values = {
        "account_id": account.id, "stripe_payment_method_id": f"pm_{number}", "fingerprint": f"print-{number}",
        "brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2030, "added_at": clock.now(),
        "to_settle": False,
    }  # fmt: skip
    return await Card.create(**(values | given))


async def test_it_asks_cards_for_what_the_purses_leave(factory, wallet, clock, policies, account, bank):
    """The default first, then the others, until one pays."""
    invoice = await factory.invoice(account, total=500, amount_due=500)
    await wallet.cash(account, 100)
    other = await card(account, clock)
    default = await card(account, clock, is_default=True)
    third = await card(account, clock)
    bank.answers = {
        default.id: ChargeState.FAILED,
        other.id: ChargeState.SUCCEEDED,
        third.id: ChargeState.SUCCEEDED,
    }
    done = await run(account, Means(clock=clock, policies=policies, ask_card=bank), fact="card:9:1")
    assert bank.asked == [(invoice.id, default.id, 400, "card:9:1"), (invoice.id, other.id, 400, "card:9:1")]
    assert len(done.outcomes) == 2
    assert (await saved_cards.in_order(account.id, now=clock.now()))[0].id == default.id


@pytest.mark.parametrize(
    "answer", [ChargeState.PROCESSING, ChargeState.REQUIRES_ACTION, NotAsked.IN_FLIGHT, NotAsked.NOT_OPEN]
)
async def test_it_asks_no_second_card_while_the_first_may_still_pay(
    factory, clock, policies, account, bank, answer
):
    """Two cards never pay the same invoice."""
    await factory.invoice(account)
    first, second = await card(account, clock), await card(account, clock)
    bank.answers = {first.id: answer, second.id: ChargeState.SUCCEEDED}
    await run(account, Means(clock=clock, policies=policies, ask_card=bank))
    assert [asked[1] for asked in bank.asked] == [first.id]


async def test_it_asks_cards_for_overdue_invoices_alone(factory, clock, policies, account, bank):
    """And by the schedule of each when nothing else happened."""
    await factory.invoice(account, overdue_at=clock.now() + timedelta(days=1), overdue_seen_at=None)
    overdue = await factory.invoice(account, overdue_at=clock.now() - timedelta(days=4))
    saved = await card(account, clock)
    bank.answers = {saved.id: ChargeState.FAILED}
    means = Means(clock=clock, policies=policies, ask_card=bank)
    await run(account, means)
    assert bank.asked == [(overdue.id, saved.id, 500, "schedule:2")]
    assert await settle_due(means) == 0
    clock.advance(timedelta(days=3))
    assert await settle_due(means) == 1


async def test_it_frees_set_aside_money_when_a_card_pays_the_whole(
    factory, wallet, clock, policies, whole, bank
):
    """A purse pays whole or not at all, so the card is asked for all of it."""
    await factory.invoice(whole, total=500, amount_due=500)
    await wallet.cash(whole, 100)
    saved = await card(whole, clock)
    bank.answers = {saved.id: ChargeState.SUCCEEDED}
    await run(whole, Means(clock=clock, policies=policies, ask_card=bank))
    assert [asked[2] for asked in bank.asked] == [500]
    assert await wallet.holds(whole) == ledger.Purses(currency="EUR", balance=100)


async def test_it_leaves_cards_alone_where_the_occasion_says_so(factory, clock, policies, account, bank):
    """A voucher is no reason to charge a card."""
    await factory.invoice(account)
    await card(account, clock)
    await run(account, Means(clock=clock, policies=policies, ask_card=bank), cards=False)
    assert bank.asked == []


async def test_it_books_every_share_as_one_fact(factory, wallet, means, account):
    """The entries of the ledger name the invoice that they paid."""
    invoice = await factory.invoice(account)
    await wallet.cash(account, 500)
    await run(account, means)
    booked = await LedgerTransaction.get(kind=TransactionKind.INVOICE_PAID)
    assert booked.invoice_id == invoice.id
    assert (await booked.transfers.all().prefetch_related("debit"))[0].debit.kind is LedgerKind.BALANCE


# -- the sweep


async def test_it_settles_once_for_a_card_that_is_new_or_has_changed(factory, clock, policies, account, bank):
    """Whoever saved it, and whatever the schedule says; what was asked on this occasion is not asked again."""
    invoice = await factory.invoice(account, overdue_at=clock.now() - timedelta(days=1))
    saved = await card(account, clock, to_settle=True)
    bank.answers = {saved.id: ChargeState.FAILED}
    means = Means(clock=clock, policies=policies, ask_card=bank)
    assert [await settle_due(means), await settle_due(means)] == [1, 0]
    await Card.filter(id=saved.id).update(version=2, to_settle=True)
    assert [await settle_due(means), await settle_due(means)] == [1, 0]
    assert bank.asked == [(invoice.id, saved.id, 500, f"card:{saved.id}:{version}") for version in (1, 2)]


async def test_it_keeps_a_new_card_for_later_while_no_card_is_asked(factory, clock, means, account):
    """What could help still does when cards are asked again."""
    await factory.invoice(account)
    await card(account, clock, to_settle=True)
    assert await settle_due(means) == 0
    assert (await Card.get()).to_settle


async def test_it_settles_those_alone_whom_a_fact_was_about(factory, wallet, means, account):
    """The others wait for the next look at everybody."""
    other = await factory.account()
    for one in (account, other):
        await factory.invoice(one)
        await wallet.cash(one, 500)
    assert await settle_due(means, account_ids={other.id}) == 1
    assert (await due(account), await due(other)) == ([500], [0])
    assert await settle_due(means, account_ids=()) == 0
    assert await settle_due(means) == 1


async def test_it_lets_no_account_keep_the_others_waiting(factory, wallet, means, account, monkeypatch):
    """One that cannot be settled is logged; it is tried again with the next turn."""
    others = [await factory.account() for _ in range(7)]
    for one in (account, *others):
        await factory.invoice(one)
        await wallet.cash(one, 500)

    async def breaks(account_id: int, **given: Any) -> Any:
        if account_id == account.id:
            raise RuntimeError("broken")
        return await settle(account_id, **given)

    monkeypatch.setattr(settling_sweep, "settle", breaks)
    await settle_due(means)
    assert await due(account) == [500]
    assert [await due(one) for one in others] == [[0]] * 7


async def test_it_asks_no_more_cards_while_stripe_says_nothing(factory, clock, policies, bank):
    """Each would leave an intent whose end nobody knows; purses pay all the same."""
    for _ in range(20):
        account = await factory.account()
        await factory.invoice(account)
        bank.answers[(await card(account, clock)).id] = ChargeState.INTENDED
    await settle_due(Means(clock=clock, policies=policies, ask_card=bank))
    assert 3 <= len(bank.asked) < 3 + settling_sweep.AT_ONCE
