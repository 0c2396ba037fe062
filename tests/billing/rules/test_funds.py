"""What money is good for: new servers, the running ones, and for how long."""

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rules.funds import (
    Funds,
    OpenInvoice,
    lacks_means,
    left,
    may_deploy,
    money_trouble,
    needs_card,
    outlook,
    runs_short,
    runway,
    shortfall,
    without_amounts,
)
from billing.rules.gates import GateQuestion, gate
from billing.rules.metering import Span
from billing.rules.money import Money
from billing.rules.policy import Policy
from billing.rules.runway import COMING_MONTH, OpenUsage, cost_until
from billing.rules.settlement import Payable, Purses
from billing.rules.terms import GateAction, GateCode, Stage
from billing.rules.words import english

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
#: 7.30 EUR for 730 hours: a cent an hour.
CENT = 1_000_000
OPEN = gate(GateQuestion(action=GateAction.DEPLOY))


def running(*rates: int, since: datetime = NOW) -> OpenUsage:
    """Return the usage of servers that run on; what was before November is invoiced."""
    return OpenUsage(
        invoiced_until=datetime(2026, 11, 1, tzinfo=UTC),
        month=date(2026, 11, 1),
        zone="UTC",
        spans=tuple(
            Span(server_id=n, server_name="web", sku="small", rate=rate, started_at=since, ended_at=None)
            for n, rate in enumerate(rates)
        ),
    )


def funds(voucher: int = 0, balance: int = 0, **given: object) -> Funds:
    """Return the funds of an account that pays in euros."""
    return Funds(currency="EUR", purses=Purses(voucher=voucher, balance=balance), **given)  # type: ignore[arg-type]


def invoice(ident: int, amount: int, due: datetime | None = NOW + 5 * DAY, **given: object) -> OpenInvoice:
    """Return an open invoice that is overdue in five days."""
    values: dict[str, object] = {"id": ident, "total": amount, "due_on": None, "amount_due": amount}
    return OpenInvoice(payable=Payable(**(values | given)), overdue_at=due)  # type: ignore[arg-type]


# -- may it deploy? ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "rate", "code", "missing"),
    [
        (funds(has_card=True), CENT, GateCode.OK, None),
        (funds(), CENT, GateCode.NO_PAYMENT_METHOD, 730),
        # The balance is no means to deploy with: a card or a voucher is.
        (funds(balance=10_000), CENT, GateCode.NO_PAYMENT_METHOD, 730),
        (funds(voucher=730), CENT, GateCode.OK, None),
        (funds(voucher=729), CENT, GateCode.INSUFFICIENT_FUNDS, 1),
        (funds(voucher=1460, usage=running(CENT)), CENT, GateCode.OK, None),
        (funds(voucher=1459, usage=running(CENT)), CENT, GateCode.INSUFFICIENT_FUNDS, 1),
        # Ten hours that were used already are to be paid too.
        (
            funds(voucher=1460, usage=running(CENT, since=NOW - timedelta(hours=10))),
            CENT,
            GateCode.INSUFFICIENT_FUNDS,
            10,
        ),
        (funds(voucher=730, invoices=(invoice(1, 30),)), CENT, GateCode.INSUFFICIENT_FUNDS, 30),
        (funds(voucher=10, invoices=(invoice(1, 30),)), CENT, GateCode.INSUFFICIENT_FUNDS, 750),
        # What was taken back is owed in cash, and takes no voucher.
        (funds(voucher=730, invoices=(invoice(1, 30, takes_vouchers=False),)), CENT, GateCode.OK, None),
        (funds(), 0, GateCode.OK, None),
        (funds(usage=running(CENT)), 0, GateCode.OK, None),
        (funds(has_card=True), None, GateCode.UNKNOWN_SKU, None),
        (funds(voucher=10**6), None, GateCode.UNKNOWN_SKU, None),
    ],
)
def test_it_deploys_with_a_card_or_a_voucher_for_the_coming_month(
    held: Funds, rate: int | None, code: GateCode, missing: int | None
) -> None:
    """Otherwise it says what is missing, to the cent."""
    answer = may_deploy(OPEN, held, rate, NOW)
    assert (answer.code, answer.allowed) == (code, code is GateCode.OK)
    assert answer.missing == (Money(missing, "EUR") if missing else None)
    assert answer.allowed or answer.remedy


def test_it_tells_how_much_is_missing() -> None:
    """In words for those who may know, and in none of the words for the others."""
    answer = may_deploy(OPEN, funds(voucher=500), CENT, NOW)
    assert "2.30 EUR" in english(answer.message)
    assert "2.30 EUR" in english(answer.remedy)
    plain = without_amounts(answer)
    assert (plain.code, plain.missing) == (GateCode.INSUFFICIENT_FUNDS, None)
    assert "2.30" not in english(plain.message) + english(plain.remedy)
    assert without_amounts(OPEN) == OPEN


@pytest.mark.parametrize(
    "question",
    [
        GateQuestion(action=GateAction.DEPLOY, stage=Stage.PAST_DUE),
        GateQuestion(action=GateAction.DEPLOY, uncollected=True),
    ],
)
def test_a_closed_gate_stays_closed_whatever_the_funds(question: GateQuestion) -> None:
    """What is overdue comes before money and prices."""
    closed = gate(question)
    for rate in (None, 0, CENT):
        assert may_deploy(closed, funds(has_card=True, voucher=10**9), rate, NOW) == closed
    assert closed.code is GateCode.PAYMENT_OVERDUE


rates = st.sampled_from([0, 1, 685_000, CENT, 8_219_178])
open_usages = st.none() | st.builds(
    lambda rates, hours: running(*rates, since=NOW - timedelta(hours=hours)),
    st.lists(rates, max_size=4),
    st.integers(0, 400),
)
open_invoices = st.lists(
    st.builds(
        invoice,
        st.integers(1, 10_000),
        st.integers(1, 5_000),
        st.none() | st.integers(-20, 20).map(lambda days: NOW + days * DAY),
        takes_vouchers=st.booleans(),
        takes_parts=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda one: one.payable.id,
).map(tuple)
any_funds = st.builds(
    funds,
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    has_card=st.just(False),
    invoices=open_invoices,
    usage=open_usages,
)


@settings(max_examples=100, deadline=None)
@given(held=any_funds, rate=st.integers(1, 10**8))
def test_what_is_missing_is_enough_and_one_cent_less_is_not(held: Funds, rate: int) -> None:
    """A voucher over the shortfall opens the gate, and one over a cent less leaves one cent missing."""
    missing = shortfall(held, rate, NOW)

    def with_voucher(more: int) -> Funds:
        # As it comes: what is open was settled before.
        return replace(_settled(held), purses=_plus(_settled(held).purses, more))

    assert shortfall(with_voucher(missing), rate, NOW) == 0
    assert may_deploy(OPEN, with_voucher(missing), rate, NOW).allowed
    if missing:
        assert shortfall(with_voucher(missing - 1), rate, NOW) == 1


def _plus(purses: Purses, more: int) -> Purses:
    return replace(purses, voucher=purses.voucher + more)


def _settled(held: Funds) -> Funds:
    """The same account when settling had its turn."""
    after = left(held)
    rest = tuple(
        replace(
            one,
            payable=replace(one.payable, set_aside=one.payable.amount_due - after.lacking[one.payable.id]),
        )
        for one in held.invoices
        if one.payable.id in after.lacking
    )
    return replace(held, purses=Purses(voucher=after.voucher, balance=after.balance), invoices=rest)


def _enough(held: Funds, rate: int, more: int) -> bool:
    """Whether so much more voucher would do, told once more: coin by coin, then hour by hour, then the price."""
    voucher, balance = held.purses.voucher, held.purses.balance
    lacks = {}
    for one in sorted((one.payable for one in held.invoices), key=lambda one: (one.total, one.id)):
        lacks[one.id] = one.amount_due
        while lacks[one.id] and (balance or (voucher and one.takes_vouchers)):
            if voucher and one.takes_vouchers:
                voucher -= 1
            else:
                balance -= 1
            lacks[one.id] -= 1
        if not one.takes_vouchers:
            lacks[one.id] = 0
    voucher += more - sum(lacks.values())
    for span in held.usage.spans if held.usage else ():
        hours: dict[int, int] = defaultdict(int)
        at = span.started_at
        while at < NOW + 730 * HOUR:
            hours[at.month] += 1
            at += HOUR
        voucher -= sum(_rounded(each * span.rate) for each in hours.values())
    return voucher >= _rounded(730 * rate)


def _rounded(parts: int) -> int:
    """Millionths of a cent as cents, half up."""
    return int(Fraction(parts, 10**6) + Fraction(1, 2))


@settings(max_examples=60, deadline=None)
@given(
    voucher=st.integers(0, 60),
    balance=st.integers(0, 30),
    rates=st.lists(st.sampled_from([1, 685, 20_000, 35_000]), max_size=3),
    hours=st.integers(0, 200),
    open_=st.lists(
        st.tuples(st.integers(1, 25), st.booleans()), max_size=3, unique_by=lambda amount: amount[0]
    ),
    rate=st.sampled_from([685, 20_000, 35_000]),
)
def test_it_agrees_with_vouchers_tried_cent_by_cent(
    voucher: int, balance: int, rates: list[int], hours: int, open_: list[tuple[int, bool]], rate: int
) -> None:
    """The first voucher that is enough, tried from none on."""
    held = funds(
        voucher,
        balance,
        usage=running(*rates, since=NOW - hours * HOUR),
        invoices=tuple(
            invoice(ident, amount, takes_vouchers=takes) for ident, (amount, takes) in enumerate(open_)
        ),
    )
    assert shortfall(held, rate, NOW) == next(more for more in range(1000) if _enough(held, rate, more))


@settings(max_examples=100, deadline=None)
@given(held=any_funds, rate=st.integers(1, 10**8))
def test_it_answers_the_same_before_and_after_settling(held: Funds, rate: int) -> None:
    """Nobody has to wait for settling to get a right answer."""
    after = _settled(held)
    assert shortfall(held, rate, NOW) == shortfall(after, rate, NOW)
    assert runway(held, NOW) == runway(after, NOW)
    assert needs_card(held, NOW) == needs_card(after, NOW)


@settings(max_examples=100, deadline=None)
@given(held=any_funds, rate=st.integers(1, 10**8), more=st.integers(0, 10_000))
def test_a_voucher_more_never_makes_it_worse(held: Funds, rate: int, more: int) -> None:
    """Neither the shortfall nor the runway nor the need of a card."""
    richer = replace(held, purses=_plus(held.purses, more))
    assert shortfall(richer, rate, NOW) <= shortfall(held, rate, NOW)
    assert needs_card(richer, NOW) <= needs_card(held, NOW)
    before, after = runway(held, NOW), runway(richer, NOW)
    assert (before is None) == (after is None)
    assert before is None or after is None or before <= after


# -- do the purses cover what runs? --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "needed"),
    [
        (funds(), False),
        (funds(usage=running()), False),
        (funds(usage=running(0)), False),
        (funds(usage=running(CENT)), True),
        (funds(voucher=730, usage=running(CENT)), False),
        (funds(voucher=729, usage=running(CENT)), True),
        (funds(voucher=400, balance=330, usage=running(CENT)), False),
        (funds(balance=1000, usage=running(CENT), invoices=(invoice(1, 300),)), True),
        (funds(has_card=True, usage=running(CENT)), True),
    ],
)
def test_it_needs_a_card_for_what_no_purse_covers(held: Funds, needed: bool) -> None:
    """Both purses together, for the coming month, after what is open."""
    assert needs_card(held, NOW) is needed


@settings(max_examples=100, deadline=None)
@given(held=any_funds)
def test_a_card_is_needed_where_the_money_lasts_less_than_the_coming_month(held: Funds) -> None:
    """The two rules are one: covered means that the runway is as long."""
    until = runway(held, NOW)
    covered = until is None or until >= NOW + COMING_MONTH - timedelta(seconds=1)
    if until is not None and abs(until - NOW - COMING_MONTH) <= timedelta(seconds=1):
        return  # the runway is cut to whole seconds of its month
    if held.usage and left(held).money < 0 and not cost_until(held.usage, NOW + COMING_MONTH):
        return  # nothing that costs a cent, and not even that is there
    assert needs_card(held, NOW) is not covered


@pytest.mark.parametrize(
    ("held", "lacking"),
    [
        (funds(usage=running(CENT)), True),
        (funds(balance=10**6, usage=running(CENT)), True),
        (funds(voucher=1, usage=running(CENT)), False),
        (funds(has_card=True, usage=running(CENT)), False),
        (funds(usage=running(0)), False),
        (funds(), False),
    ],
)
def test_it_lacks_means_with_servers_and_neither_card_nor_voucher(held: Funds, lacking: bool) -> None:
    """Servers that cost nothing here ask for nothing."""
    assert lacks_means(held) is lacking


# -- until when? ---------------------------------------------------------------------------------------------------


def test_the_runway_counts_both_purses_after_what_is_open() -> None:
    """What is left of 5.00 and 3.00 after an invoice of 2.00 pays for 600 hours."""
    held = funds(voucher=500, balance=300, usage=running(CENT), invoices=(invoice(1, 200),))
    until = runway(held, NOW)
    assert until is not None
    assert timedelta(0) <= until - NOW - timedelta(hours=600) < timedelta(hours=1)


def test_a_card_has_no_runway() -> None:
    """Nothing ends where a card pays."""
    assert runway(funds(has_card=True, usage=running(CENT)), NOW) is None
    assert runway(funds(voucher=5), NOW) is None


def test_the_outlook_counts_from_the_month_that_the_tolerance_does_not_forgive(standard: Policy) -> None:
    """Half a euro too little in November is forgiven; December's invoice is the debt."""
    until_december = cost_until(running(CENT), datetime(2026, 12, 1, tzinfo=UTC))
    held = funds(voucher=until_december - 50, usage=running(CENT))
    seen = outlook(held, standard, NOW)
    assert seen is not None
    assert seen.lasts_until < datetime(2026, 12, 1, tzinfo=UTC)
    assert seen.follows.overdue_at == datetime(2027, 1, 16, tzinfo=UTC)
    strict = replace(standard, tolerance={})
    unforgiving = outlook(held, strict, NOW)
    assert unforgiving is not None
    assert unforgiving.follows.overdue_at == datetime(2026, 12, 16, tzinfo=UTC)


def test_the_outlook_counts_from_an_open_invoice_that_the_purses_do_not_pay(standard: Policy) -> None:
    """Its own day comes first; two small ones may exceed the tolerance together."""
    small, late = invoice(1, 80), invoice(2, 70, NOW + 9 * DAY)
    held = funds(usage=running(CENT), invoices=(late, small, invoice(3, 10**6, None)))
    seen = outlook(held, standard, NOW)
    assert seen is not None
    assert seen.follows.overdue_at == NOW + 9 * DAY
    assert seen.follows.stopped_at == NOW + 14 * DAY


@pytest.mark.parametrize(
    ("held", "short"),
    [
        (funds(voucher=700, usage=running(CENT)), True),
        (funds(balance=700, usage=running(CENT)), True),
        (funds(voucher=730, usage=running(CENT)), False),
        (funds(usage=running(CENT)), False),
        (funds(voucher=1, has_card=True, usage=running(CENT)), False),
        (funds(voucher=1), False),
    ],
)
def test_it_runs_short_when_the_money_ends_within_the_span_of_the_policy(
    standard: Policy, held: Funds, short: bool
) -> None:
    """30 days by default; without money there is nothing that could end."""
    assert (runs_short(held, standard, NOW) is not None) is short
    assert runs_short(held, replace(standard, before_runway_end=None), NOW) is None


@pytest.mark.parametrize(
    ("held", "ends"),
    [
        (funds(voucher=700, usage=running(CENT)), True),
        (funds(usage=running(CENT)), False),
        # Cash that lasts is no voucher money: a card is asked for all the same.
        (funds(balance=10**6, usage=running(CENT)), False),
        (funds(voucher=10**6, usage=running(CENT)), None),
        (funds(has_card=True, usage=running(CENT)), None),
        (funds(usage=running(0)), None),
        (funds(), None),
    ],
)
def test_it_says_which_trouble_there_is(standard: Policy, held: Funds, ends: bool | None) -> None:
    """Money that ends, or neither a card nor a voucher; nothing where all is paid for."""
    trouble = money_trouble(held, standard, NOW)
    assert (trouble.ends if trouble else None) is ends


def test_trouble_begins_at_an_instant_that_stays(standard: Policy) -> None:
    """The span of the policy before the end; without money, with the first server that runs."""
    for now in (NOW, NOW + 3 * DAY):
        short = money_trouble(funds(voucher=700, usage=running(CENT)), standard, now)
        assert short is not None
        assert short.since == short.outlook.lasts_until - 30 * DAY
        lacking = money_trouble(funds(usage=running(0, CENT, since=NOW - DAY)), standard, now)
        assert lacking is not None
        assert lacking.since == NOW - DAY
