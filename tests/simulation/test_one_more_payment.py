"""One more payment never ends with a worse stage: random lives lived twice, through the real money and the real ladder.

Of each pair of twins one is paid for once more than the other. Both are settled and walk the ladder day by day, and on
no day does the one who has more stand worse. Cards are asked as the product asks them, by a bank with a limit.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tortoise.transactions import in_transaction

from billing import adjustments, charge_rows, invoice_parts, invoices, settling
from billing.accounts import note_fact
from billing.adjustments import Loss, LossKind
from billing.charge_rows import InvoiceCharge, NotAskedError
from billing.charges import Outcome
from billing.clock import ManualClock
from billing.models import Account, Episode, Invoice, Notice
from billing.money_back import BankPayment, record_payment
from billing.notices import known_templates
from billing.policy_files import PolicyBook
from billing.rules import ladder
from billing.rules.money import Money
from billing.rules.policy import Policy
from billing.rules.settlement import Payable, Purses, Settlement, settlement
from billing.rules.terms import InvoiceStatus, NoticeState, Stage
from billing.settling import Means, Occasion, settle
from billing.stripe.card_gateway import PaymentReading, PaymentState
from reconciler import standing, subjects
from reconciler.rules.terms import Mode

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
DAYS = 40


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens on a day: an invoice, money, a card, or money that was taken back."""

    day: int
    what: str
    #: Minor units; of a card, the most that its bank allows at once.
    amount: int
    #: How many days later an invoice is overdue; which invoice a transfer names.
    number: int = 0


@dataclass(kw_only=True)
class Twin:
    """One account and what was issued to it, oldest first."""

    account: Account
    issued: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class Lives:
    """All twins of a search, in one database and on one clock."""

    clock: ManualClock
    factory: Any
    wallet: Any
    policies: dict[str, Policy]
    limits: dict[int, int] = field(default_factory=dict)
    told: int = 0

    @property
    def means(self) -> Means:
        """What settling works with."""
        return Means(clock=self.clock, policies=self.policies, ask_card=self.ask)

    async def ask(self, wanted: InvoiceCharge) -> Outcome:
        """Charge a card as the product does; its bank knows nothing but the limit."""
        now = self.clock.now()
        try:
            charge = await charge_rows.intend_for_invoice(wanted, now=now)
        except NotAskedError as error:
            return Outcome(charge=None, not_asked=error.why)
        good = charge.amount <= self.limits[wanted.card_id]
        payment = PaymentReading(
            id=f"pi_{charge.id}", customer_id=None, state=PaymentState.SUCCEEDED if good else PaymentState.DECLINED,
            amount_received=charge.amount if good else 0, currency=charge.currency, payment_method_id=None,
            decline_code=None if good else "insufficient_funds", advice_code=None,
            charge_key=charge.idempotency_key, client_secret=None,
        )  # fmt: skip
        return Outcome(charge=await charge_rows.apply(charge, payment, now=now))

    async def happen(self, twin: Twin, event: Event) -> None:
        """Let an event come true for one twin, and settle."""
        fact = None
        match event.what:
            case "invoice":
                overdue_at = self.clock.now() + event.number * DAY
                row = await self.factory.invoice(
                    twin.account, total=event.amount, amount_due=event.amount, overdue_at=overdue_at,
                    overdue_seen_at=None, currency=twin.account.currency,
                )  # fmt: skip
                twin.issued.append(row.id)
                await note_fact(twin.account.id, now=self.clock.now())
            case "voucher":
                await self.wallet.voucher(twin.account, event.amount)
            case "transfer":
                await self._transfer(twin, event)
            case "card":
                card = await self.factory.card(twin.account)
                self.limits[card.id] = event.amount
                fact = f"card:{card.id}:1"
            case "loss":
                await self._lose(twin, event.amount)
        occasion = Occasion(fact=fact, cards=fact is not None)
        await settle(twin.account.id, occasion=occasion, means=self.means)

    async def _transfer(self, twin: Twin, event: Event) -> None:
        named = twin.issued[event.number] if event.number < len(twin.issued) else None
        if named is not None and not await Invoice.exists(id=named, status=InvoiceStatus.OPEN):
            named = None
        self.told += 1
        asked = BankPayment(
            account_id=twin.account.id, amount=Money(event.amount, twin.account.currency), invoice_id=named,
            reference=f"RF {self.told}", received_at=self.clock.now(),
        )  # fmt: skip
        await record_payment(asked, actor="anna", means=self.means)

    async def _lose(self, twin: Twin, amount: int) -> None:
        self.told += 1
        loss = Loss(
            kind=LossKind.DISPUTE, account_id=twin.account.id, amount=amount, description=f"lost {self.told}",
            fact=("stripe_dispute", f"dp_{self.told}"),
        )  # fmt: skip
        async with in_transaction():
            await invoice_parts.hold(twin.account.id)
            await adjustments.lose(loss, actor="stripe", now=self.clock.now())
        await adjustments.issue_drafts(self.clock, self.policies, account_id=twin.account.id)

    async def walk(self, ids: Sequence[int]) -> dict[int, Stage]:
        """Let the day's schedule ask the cards, fall at once, climb by one, be told of it; return where each stands."""
        now = self.clock.now()
        await invoices.note_overdue(ids, now=now)
        for ident in ids:
            await settle(ident, occasion=Occasion(), means=self.means)
        for subject in await subjects.load(ids, self.policies, now):
            await standing.settle([subject], mode=Mode.APPLY, now=now)
        for subject in await subjects.load(ids, self.policies, now):
            if subject.eligibility.stage.rank > subject.admitted.rank:
                stage = subject.eligibility.stage
                assert await standing.admit(subject, [subject], stage, plan_digest="0" * 64, now=now)
        await Notice.filter(state=NoticeState.PENDING).update(state=NoticeState.DELIVERED, delivered_at=now)
        found = await subjects.load(ids, self.policies, now)
        return {subject.account.id: subject.standing for subject in found}


def life(rng: random.Random) -> tuple[list[Event], Event]:
    """What happens to both twins, and the payment that only one of them has."""
    events = []
    for _ in range(rng.randint(1, 4)):
        total = rng.choice([130, 150, 300, 300, 500, 1000])
        events.append(
            Event(day=rng.randint(0, 20), what="invoice", amount=total, number=rng.choice([0, 0, 3, 8]))
        )
    events += [_money(rng) for _ in range(rng.randint(0, 3))]
    if rng.random() < 0.4:
        events.append(Event(day=rng.randint(0, 25), what="card", amount=rng.choice([100, 300, 400, 10_000])))
    if rng.random() < 0.2:
        events.append(Event(day=rng.randint(5, 25), what="loss", amount=rng.choice([100, 400])))
    return sorted(events, key=lambda event: event.day), _money(rng)


def _money(rng: random.Random) -> Event:
    what = rng.choice(["voucher", "transfer"])
    amount = rng.choice([20, 120, 150, 200, 270, 300, 450, 470, 980])
    # 9: it names none.
    return Event(day=rng.randint(0, 30), what=what, amount=amount, number=rng.choice([0, 1, 2, 9]))


def _event(day: int, what: str, amount: int, number: int = 0) -> Event:
    return Event(day=day, what=what, amount=amount, number=number)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What two twins have in common, and the payment that only one of them has."""

    events: tuple[Event, ...]
    more: Event
    currency: str = "CHF"  # no policy tolerates a debt in it
    policy: str = "standard"


#: The payment leaves less than a card can be charged.
A_REST = Pair(
    events=(_event(0, "card", 10_000), _event(1, "invoice", 300)), more=_event(1, "transfer", 270, number=0)
)
#: The payment makes what is due later the smaller one.
A_SMALLER_ONE = Pair(
    events=(_event(0, "invoice", 300), _event(0, "invoice", 320, number=30), _event(1, "voucher", 300)),
    more=_event(0, "transfer", 30, number=1),
)


def at_random(seed: int) -> Pair:
    """A pair of twins of any currency and policy."""
    events, more = life(random.Random(seed))
    return Pair(
        events=tuple(events),
        more=more,
        currency="CHF" if seed % 2 else "EUR",
        policy="whole" if seed % 3 == 0 else "standard",
    )


async def worsened(lives: Lives, pairs: Sequence[Pair], *, days: int = DAYS) -> list[Pair]:
    """Return the pairs of which the richer one ever stood worse."""
    twins = []
    for pair in pairs:
        given = {"currency": pair.currency, "policy": pair.policy}
        poor, rich = [Twin(account=await lives.factory.account(**given)) for _ in range(2)]
        twins += [(poor, rich, pair)]
    ids = [twin.account.id for poor, rich, _ in twins for twin in (poor, rich)]
    found = []
    for day in range(days):
        for poor, rich, pair in twins:
            for twin, lived in ((poor, pair.events), (rich, (*pair.events, pair.more))):
                for event in lived:
                    if event.day == day:
                        await lives.happen(twin, event)
        stands = await lives.walk(ids)
        for poor, rich, pair in twins:
            if stands[rich.account.id].rank > stands[poor.account.id].rank and pair not in found:
                found.append(pair)
        lives.clock.advance(DAY)
    return found


@pytest.fixture
def lives(sqlite_database: str, clock: ManualClock, factory: Any, wallet: Any) -> Lives:
    """Nobody yet."""
    book = PolicyBook.of_folder(ROOT / "billing/policies", templates=known_templates())
    standard = book.get("standard")
    whole = replace(standard, billing=replace(standard.billing, partial_from_purses=False))
    return Lives(clock=clock, factory=factory, wallet=wallet, policies={"standard": standard, "whole": whole})


@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(6, 100), marks=pytest.mark.nightly)])
async def test_it_never_ends_worse(lives: Lives, seeds: range) -> None:
    """Vouchers, transfers with and without a name, cards with limits, lost disputes; on every day of forty."""
    pairs = [A_REST, A_SMALLER_ONE, *map(at_random, seeds)]
    assert await worsened(lives, pairs) == []
    assert await Episode.filter(admitted=Stage.RETAINED).exists(), "some of them climb"


async def test_it_would_end_worse_if_every_rest_were_debt(
    lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rest that the card cannot be charged suspends who would have been well without the payment."""
    monkeypatch.setattr(ladder, "chargeable", lambda owed, currency: owed)
    assert await worsened(lives, [A_REST], days=8) == [A_REST]


def _by_remainder(payables: Sequence[Payable], purses: Purses) -> Settlement:
    return settlement([replace(one, total=one.amount_due) for one in payables], purses)


async def test_it_would_end_worse_if_what_is_left_decided_the_order(
    lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a payment could draw the next one away from what is overdue."""
    monkeypatch.setattr(settling, "settlement", _by_remainder)
    assert await worsened(lives, [A_SMALLER_ONE], days=3) == [A_SMALLER_ONE]
