"""How purse money is spread, and that one more payment never leaves anybody worse off, by random search."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rules.facts import AccountFacts, EpisodeFact, InvoiceFact, NoticeFact
from billing.rules.ladder import eligible
from billing.rules.policy import Policy
from billing.rules.settlement import (
    Payable,
    Purse,
    Purses,
    Settlement,
    Share,
    Use,
    in_order,
    settlement,
)
from billing.rules.terms import Stage

T = datetime(2026, 11, 2, tzinfo=UTC)
DAY = timedelta(days=1)

Spread = Callable[[Sequence[Payable], Purses], Settlement]


def invoice(ident: int, total: int = 100, **given: object) -> Payable:
    """An open invoice of which nothing is paid."""
    values: dict[str, object] = {
        "id": ident,
        "total": total,
        "due_on": date(2026, 11, 1),
        "amount_due": total,
    }
    return Payable(**(values | given))  # type: ignore[arg-type]


def test_it_settles_the_smallest_total_first_then_the_earliest_due_then_the_lowest_id() -> None:
    """The order is of what never changes about an invoice."""
    small, early, late, later_id = (
        invoice(9, 50, due_on=date(2027, 1, 1)),
        invoice(8, due_on=date(2026, 10, 1)),
        invoice(1, due_on=date(2026, 11, 1)),
        invoice(2, due_on=date(2026, 11, 1)),
    )
    undated = invoice(3, due_on=None)
    for given_order in permutations([small, early, late, later_id, undated]):
        assert in_order(given_order) == [small, early, late, later_id, undated]


def test_it_orders_by_the_total_whatever_was_paid_already() -> None:
    """A large invoice that is nearly paid does not overtake a small one."""
    nearly = invoice(1, 1000, amount_due=1)
    assert [one.id for one in in_order([nearly, invoice(2, 900)])] == [2, 1]


def test_it_spends_vouchers_before_the_balance_and_pays_parts() -> None:
    """One invoice may be paid from both purses, and the last one in part."""
    done = settlement([invoice(1), invoice(2)], Purses(voucher=70, balance=60))
    assert done.shares == (
        Share(invoice_id=1, purse=Purse.VOUCHER, amount=70, use=Use.PAY),
        Share(invoice_id=1, purse=Purse.BALANCE, amount=30, use=Use.PAY),
        Share(invoice_id=2, purse=Purse.BALANCE, amount=30, use=Use.PAY),
    )
    assert (done.rest, done.uncovered, done.ready) == (Purses(), {2: 70}, ())


def test_it_leaves_what_no_invoice_takes() -> None:
    """Unallocated money stays the customer's."""
    assert settlement([invoice(1)], Purses(voucher=30, balance=100)).rest == Purses(balance=30)


def test_it_sets_money_aside_for_an_invoice_that_takes_no_part() -> None:
    """The money waits as if it had paid a part."""
    done = settlement([invoice(1, takes_parts=False), invoice(2, 500)], Purses(balance=60))
    assert done.shares == (Share(invoice_id=1, purse=Purse.BALANCE, amount=60, use=Use.SET_ASIDE),)
    assert (done.ready, done.uncovered) == ((), {1: 40, 2: 500})


def test_it_pays_with_what_was_set_aside_once_the_whole_is_together() -> None:
    """The last missing part makes it ready."""
    waiting = invoice(1, takes_parts=False, set_aside=60)
    assert settlement([waiting], Purses(voucher=39)).ready == ()
    done = settlement([waiting], Purses(voucher=50))
    assert (done.ready, done.rest) == ((1,), Purses(voucher=10))


def test_it_does_not_take_set_aside_money_back_for_a_smaller_invoice() -> None:
    """A smaller invoice that comes later finds only what is free."""
    waiting = invoice(1, 1000, takes_parts=False, set_aside=900)
    assert settlement([waiting, invoice(2, 10)], Purses()).shares == ()


def test_it_pays_with_set_aside_money_when_the_invoice_takes_parts_by_now() -> None:
    """A change of policy frees the way."""
    assert settlement([invoice(1, set_aside=10)], Purses()).ready == (1,)


def test_it_waits_for_money_on_its_way_before_it_pays_a_whole() -> None:
    """What is on its way changes what the whole is."""
    assert settlement([invoice(1, takes_parts=False, set_aside=70, reserved=30)], Purses()).ready == ()


def test_it_spends_no_voucher_on_money_that_was_taken_back() -> None:
    """Only cash pays an adjustment."""
    done = settlement([invoice(1, takes_vouchers=False)], Purses(voucher=100, balance=40))
    assert (done.rest, done.uncovered) == (Purses(voucher=100), {1: 60})


payables = st.builds(
    Payable,
    id=st.integers(1, 10_000),
    total=st.integers(1, 10**7),
    due_on=st.none() | st.dates(date(2026, 1, 1), date(2026, 12, 1)),
    amount_due=st.integers(0, 10**7),
    reserved=st.integers(0, 500),
    set_aside=st.integers(0, 500),
    takes_parts=st.booleans(),
    takes_vouchers=st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(
    invoices=st.lists(payables, max_size=8, unique_by=lambda one: one.id),
    purses=st.builds(Purses, voucher=st.integers(0, 10**7), balance=st.integers(0, 10**7)),
    seed=st.randoms(use_true_random=False),
)
def test_it_spends_each_unit_exactly_once(
    invoices: list[Payable], purses: Purses, seed: random.Random
) -> None:
    """Shares and rest are the purses, no share is more than what is missing, whatever order is given."""
    done = settlement(invoices, purses)
    for purse, there, rest in (
        (Purse.VOUCHER, purses.voucher, done.rest.voucher),
        (Purse.BALANCE, purses.balance, done.rest.balance),
    ):
        assert sum(share.amount for share in done.shares if share.purse is purse) + rest == there
    for one in invoices:
        mine = sum(share.amount for share in done.shares if share.invoice_id == one.id)
        missing = max(0, one.amount_due - one.reserved - one.set_aside)
        assert mine + done.uncovered.get(one.id, 0) == missing
    assert all(share.amount > 0 for share in done.shares)
    seed.shuffle(invoices)
    assert settlement(invoices, purses) == done


# One more payment


@dataclass(frozen=True)
class Event:
    """Something that happens on a day: an invoice is issued, or money arrives."""

    day: int
    issues: Payable | None = None
    overdue_day: int = 0
    brings: Purses = field(default_factory=Purses)
    #: Shrinks this invoice by a credit note; what of it was paid already comes back as balance.
    credits: tuple[int, int] | None = None


@dataclass
class World:
    """An account that is settled after each event and walks the ladder once a day."""

    spread: Spread
    policy: Policy
    #: Whether what is set aside stays so.
    keeps: bool = True
    open: dict[int, Payable] = field(default_factory=dict)
    overdue: dict[int, datetime] = field(default_factory=dict)
    purses: Purses = field(default_factory=Purses)
    aside: dict[int, Purses] = field(default_factory=dict)
    episode: EpisodeFact | None = None
    notices: list[NoticeFact] = field(default_factory=list)

    def happen(self, event: Event) -> None:
        """Take the event in and settle."""
        if event.issues is not None:
            self.open[event.issues.id] = event.issues
            self.overdue[event.issues.id] = T + event.overdue_day * DAY
        if event.credits is not None and event.credits[0] in self.open:
            one = self.open[event.credits[0]]
            reduction = min(event.credits[1], one.total)
            returned = max(0, reduction - one.amount_due)
            self.open[one.id] = replace(one, amount_due=max(0, one.amount_due - reduction))
            self.purses = replace(self.purses, balance=self.purses.balance + returned)
        self.purses = Purses(
            voucher=self.purses.voucher + event.brings.voucher,
            balance=self.purses.balance + event.brings.balance,
        )
        if not self.keeps:
            for ident in list(self.aside):
                self._free(ident)
        self._settle()

    def _settle(self) -> None:
        """Until nothing moves, as the product does: money freed by one invoice goes to the next."""
        while True:
            done = self.spread([one for one in self.open.values() if one.amount_due], self.purses)
            self.purses = done.rest
            for share in done.shares:
                one = self.open[share.invoice_id]
                if share.use is Use.PAY:
                    self.open[one.id] = replace(one, amount_due=one.amount_due - share.amount)
                    continue
                self.open[one.id] = replace(one, set_aside=one.set_aside + share.amount)
                there = self.aside.get(one.id, Purses())
                voucher, balance = (share.amount, 0) if share.purse is Purse.VOUCHER else (0, share.amount)
                self.aside[one.id] = Purses(voucher=there.voucher + voucher, balance=there.balance + balance)
            for ident in done.ready:
                self._spend(ident)
            closed = [ident for ident, one in self.open.items() if not one.amount_due and one.set_aside]
            for ident in closed:
                self._free(ident)
            if not closed and not done.shares:
                return

    def _spend(self, ident: int) -> None:
        one, held = self.open[ident], self.aside[ident]
        voucher = min(held.voucher, one.amount_due)
        balance = min(held.balance, one.amount_due - voucher)
        self.aside[ident] = Purses(voucher=held.voucher - voucher, balance=held.balance - balance)
        left = self.aside[ident].voucher + self.aside[ident].balance
        self.open[ident] = replace(one, amount_due=one.amount_due - voucher - balance, set_aside=left)

    def _free(self, ident: int) -> None:
        held = self.aside.pop(ident)
        self.open[ident] = replace(self.open[ident], set_aside=0)
        self.purses = Purses(
            voucher=self.purses.voucher + held.voucher, balance=self.purses.balance + held.balance
        )

    def walk(self, now: datetime) -> Stage:
        """Fall at once, climb by one, be told of it, and return the stage."""
        for _ in range(4):
            facts = self._facts(now)
            found = eligible(facts, self.policy, now)
            if not found.in_episode:
                self.episode, self.notices = None, []
                return Stage.CURRENT
            if self.episode is None:
                self.episode = EpisodeFact(started_at=now, admitted=Stage.CURRENT, admitted_at=now)
            elif found.stage is self.episode.admitted:
                self._tell(facts, now, always=False)
                return found.stage
            else:
                self.episode = replace(self.episode, admitted=found.stage, admitted_at=now)
                self._tell(facts, now, always=True)
        assert self.episode is not None
        return self.episode.admitted

    def _tell(self, facts: AccountFacts, now: datetime, *, always: bool) -> None:
        named = frozenset(one.id for one in facts.invoices if one.counts_from)
        told = {ident for notice in self.notices for ident in notice.invoice_ids}
        assert self.episode is not None
        if always or named - told:
            self.notices.append(
                NoticeFact(
                    stage=self.episode.admitted,
                    template="any",
                    sent_at=now,
                    delivered_at=now,
                    invoice_ids=named,
                )
            )

    def _facts(self, now: datetime) -> AccountFacts:
        owed = [one for one in self.open.values() if one.amount_due]
        return AccountFacts(
            account_id=1,
            currency="EUR",
            episode=self.episode,
            notices=tuple(self.notices),
            invoices=tuple(
                InvoiceFact(
                    id=one.id,
                    currency="EUR",
                    amount_due=one.amount_due,
                    overdue_at=self.overdue[one.id],
                    counts_from=self.overdue[one.id] if self.overdue[one.id] <= now else None,
                )
                for one in owed
            ),
        )


def stages(
    events: Sequence[Event], policy: Policy, *, spread: Spread = settlement, keeps: bool = True
) -> list[Stage]:
    """The stage on each of fifty days."""
    world = World(spread=spread, policy=policy, keeps=keeps)
    seen = []
    for day in range(50):
        for event in events:
            if event.day == day:
                world.happen(event)
        seen.append(world.walk(T + day * DAY))
    return seen


def history(rng: random.Random) -> tuple[list[Event], Event]:
    """A history, and the payment that is added to it."""
    events = []
    for ident in range(1, rng.randint(2, 5)):
        total = rng.choice([150, 300, 300, 500, 1000])
        day = rng.randint(0, 30)
        events.append(
            Event(
                day=day,
                issues=invoice(
                    ident,
                    total,
                    takes_parts=rng.random() < 0.5,
                    takes_vouchers=rng.random() < 0.8,
                    due_on=(T + day * DAY).date(),
                ),
                overdue_day=day + rng.choice([0, 0, 3, 10]),
            )
        )
        if rng.random() < 0.2:
            events.append(Event(day=day + rng.randint(0, 10), credits=(ident, rng.choice([50, 300]))))
    events += [_money(rng) for _ in range(rng.randint(0, 4))]
    rng.shuffle(events)
    return events, _money(rng)


def _money(rng: random.Random) -> Event:
    amount = rng.choice([20, 150, 200, 300, 450, 500, 1000])
    brings = Purses(voucher=amount) if rng.random() < 0.5 else Purses(balance=amount)
    return Event(day=rng.randint(0, 35), brings=brings)


def worsened(
    policy: Policy, seeds: Iterable[int], *, spread: Spread = settlement, keeps: bool = True
) -> int | None:
    """The first seed whose additional payment ever leaves a worse stage; null when there is none."""
    for seed in seeds:
        events, more = history(random.Random(seed))
        without = stages(events, policy, spread=spread, keeps=keeps)
        richer = stages([more, *events], policy, spread=spread, keeps=keeps)
        if any(rich.rank > poor.rank for rich, poor in zip(richer, without, strict=True)):
            return seed
    return None


#: Seeds around those with which the rules below do harm, so that both searches see the same histories.
HARMED = [*range(680, 690), *range(10_165, 10_175)]


def test_it_never_worsens_a_stage_by_one_more_payment(standard: Policy) -> None:
    """Whatever happened before and after, on every day of fifty."""
    assert worsened(standard, [*range(300), *HARMED]) is None


def by_remainder(invoices: Sequence[Payable], purses: Purses) -> Settlement:
    """What must not be: the order of what is left to pay."""
    return settlement([replace(one, total=one.amount_due) for one in invoices], purses)


def skipping(invoices: Sequence[Payable], purses: Purses) -> Settlement:
    """What must not be: an invoice that takes no part is passed over until one turn covers the whole."""
    spendable = []
    for one in in_order(invoices):
        covered = settlement([*spendable, one], purses).uncovered.get(one.id, 0) == 0
        if one.takes_parts or covered:
            spendable.append(one)
    return settlement(spendable, purses)


@pytest.mark.parametrize(
    ("spread", "keeps"),
    [(by_remainder, True), (skipping, True), (settlement, False)],
    ids=["by remainder", "skipping", "taking back"],
)
def test_it_would_worsen_a_stage_if_it_settled_otherwise(
    standard: Policy, spread: Spread, keeps: bool
) -> None:
    """The same search finds a payment that harms, once a rule is left out."""
    assert worsened(standard, HARMED, spread=spread, keeps=keeps) is not None
