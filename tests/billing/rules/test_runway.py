"""How long money lasts: to the second and the cent what the invoices will say, and what follows."""

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rules.metering import Span
from billing.rules.months import start_of
from billing.rules.policy import Policy
from billing.rules.runway import (
    HORIZON,
    OpenUsage,
    after_month,
    consequences,
    cost_until,
    lasts_until,
)
from billing.rules.terms import Stage

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
#: 1.00 EUR an hour.
EURO = 100_000_000


def span(server: int = 1, rate: int = EURO, since: datetime = NOW, until: datetime | None = None) -> Span:
    """Return the usage of one server, from now on and without end."""
    return Span(server_id=server, server_name="web", sku="small", rate=rate, started_at=since, ended_at=until)


def usage(*spans: Span, zone: str = "Europe/Berlin", month: date = date(2026, 11, 1)) -> OpenUsage:
    """Return usage of which everything before November is invoiced."""
    return OpenUsage(invoiced_until=start_of(month, zone), month=month, zone=zone, spans=spans)


def test_money_lasts_for_the_hours_it_pays() -> None:
    """Two servers of 1.00 an hour use 10.00 up in five hours."""
    found = lasts_until(usage(span(1), span(2)), 1000, now=NOW)
    assert found is not None
    # The last line is rounded down for a while: half a cent of each is not a cent yet.
    assert timedelta(0) <= found.at - (NOW + 5 * HOUR) < 36 * SECOND
    assert found.month_ends_at == datetime(2026, 11, 30, 23, tzinfo=UTC)


def test_what_was_used_already_comes_first() -> None:
    """A server that is gone, and the hours until now, have taken their part."""
    gone = span(2, since=NOW - 10 * HOUR, until=NOW - 4 * HOUR)
    found = lasts_until(usage(span(1, since=NOW - 3 * HOUR), gone), 1000, now=NOW)
    assert found is not None
    assert found.at - NOW < HOUR + 36 * SECOND


def test_money_that_is_used_up_lasted_until_an_instant_in_the_past() -> None:
    """The instant stays the same, whenever it is asked for."""
    open_usage = usage(span(since=NOW - 100 * HOUR))
    found = lasts_until(open_usage, 1000, now=NOW)
    assert found == lasts_until(open_usage, 1000, now=NOW + 5 * HOUR)
    assert found is not None
    assert found.at < NOW - 89 * HOUR


@pytest.mark.parametrize("money", [0, -500])
def test_no_money_lasts_until_the_first_cent_is_used(money: int) -> None:
    """Half a cent is none; what is lacking elsewhere makes it no earlier."""
    found = lasts_until(usage(span()), money, now=NOW)
    assert found is not None
    assert found.at == NOW + 17 * SECOND


@pytest.mark.parametrize(
    "open_usage",
    [usage(), usage(span(until=NOW)), usage(span(rate=0))],
    ids=["nothing", "nothing any more", "nothing that costs"],
)
def test_where_nothing_runs_nothing_ends(open_usage: OpenUsage) -> None:
    """There is no instant to name."""
    assert lasts_until(open_usage, 0, now=NOW) is None


def test_it_looks_no_further_than_its_horizon() -> None:
    """So much money lasts as long as anybody looks ahead."""
    found = lasts_until(usage(span(rate=1)), 10**12, now=NOW)
    assert found is not None
    assert found.at == NOW + HORIZON


def _model(spans: tuple[Span, ...], zone: str, until: datetime) -> int:
    """The cost by an instant, told once more: local months by their wall clocks, exact fractions, a line each."""
    local = ZoneInfo(zone)
    cents = 0
    year, month = 2026, 11
    while True:
        since = datetime(year, month, 1, tzinfo=local).astimezone(UTC)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        end = min(datetime(year, month, 1, tzinfo=local).astimezone(UTC), until)
        lines: dict[tuple[int, int], timedelta] = defaultdict(timedelta)
        for one in spans:
            lines[one.server_id, one.rate] += max(
                timedelta(0), min(one.ended_at or end, end) - max(one.started_at, since)
            )
        for (_, rate), time in lines.items():
            exact = Fraction(int(time.total_seconds()) * rate, 3_600_000_000)
            cents += int(exact + Fraction(1, 2))
        if end >= until:
            return cents


rates = st.sampled_from([1, 685_000, 8_219_178, EURO, 7 * EURO])
zones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"])


@st.composite
def histories(draw: st.DrawFn) -> OpenUsage:
    """Usage of a few servers since the month began: ended, going on, resized."""
    zone = draw(zones)
    spans: list[Span] = []
    for server in range(draw(st.integers(1, 4))):
        since = start_of(date(2026, 11, 1), zone) + draw(st.integers(0, 400)) * HOUR
        if draw(st.booleans()):
            until = since + draw(st.integers(1, 30)) * HOUR + draw(st.integers(0, 3599)) * SECOND
            spans.append(span(server, draw(rates), since, until))
            since = until
        if draw(st.booleans()) or server == 0:
            spans.append(span(server, draw(rates), since))
    return usage(*spans, zone=zone)


@settings(max_examples=80, deadline=None)
@given(open_usage=histories(), days=st.integers(0, 120), seconds=st.integers(0, 86_399))
def test_the_cost_is_what_the_invoices_will_say(open_usage: OpenUsage, days: int, seconds: int) -> None:
    """By any instant it is the sum of every month's lines, each rounded once."""
    until = NOW + timedelta(days=days, seconds=seconds)
    assert cost_until(open_usage, until) == _model(open_usage.spans, open_usage.zone, until)


@settings(max_examples=80, deadline=None)
@given(open_usage=histories(), money=st.integers(0, 200_000))
def test_it_is_the_last_second_that_the_money_pays(open_usage: OpenUsage, money: int) -> None:
    """Everything until then is paid, and a second more is not."""
    found = lasts_until(open_usage, money, now=NOW)
    assert found is not None
    if found.at == NOW + HORIZON:
        return
    assert _model(open_usage.spans, open_usage.zone, found.at) <= money
    assert _model(open_usage.spans, open_usage.zone, found.at + SECOND) > money


@settings(max_examples=100, deadline=None)
@given(open_usage=histories(), money=st.integers(0, 50_000), more=st.integers(0, 50_000))
def test_more_money_never_ends_sooner(open_usage: OpenUsage, money: int, more: int) -> None:
    """A voucher more only moves the end away."""
    less = lasts_until(open_usage, money, now=NOW)
    longer = lasts_until(open_usage, money + more, now=NOW)
    assert less is not None
    assert longer is not None
    assert less.at <= longer.at


def test_it_names_what_follows_from_an_unpaid_month(standard: Policy) -> None:
    """The invoice after the month, its term, then the ladder: 120 hours to the stop, 90 days to the review."""
    month_ends_at = datetime(2026, 11, 30, 23, tzinfo=UTC)
    follows = after_month(month_ends_at, standard, zone="Europe/Berlin", now=NOW)
    overdue = datetime(2026, 12, 15, 23, tzinfo=UTC)  # the end of the fifteenth in Berlin
    assert follows.overdue_at == overdue
    assert follows.stopped_at == overdue + timedelta(hours=120)
    assert follows.reviewed_at == overdue + timedelta(days=90)


def test_an_invoice_that_is_late_is_due_after_its_term_all_the_same(standard: Policy) -> None:
    """A month that ended long ago and is not invoiced yet has its whole term before it."""
    follows = after_month(NOW - timedelta(days=50), standard, zone="UTC", now=NOW)
    assert follows.overdue_at == datetime(2026, 12, 5, tzinfo=UTC)


def test_each_notice_on_the_way_takes_its_time(standard: Policy) -> None:
    """Where the stages follow closely, the warnings between them decide."""
    close = tuple(
        replace(rung, after=timedelta(hours=rung.stage.rank), min_notice=timedelta(days=rung.stage.rank - 1))
        for rung in standard.stages
    )
    follows = consequences(NOW, replace(standard, stages=close))
    assert follows.stopped_at == NOW + timedelta(hours=1, days=1 + 2)


def test_a_policy_without_a_review_names_none(standard: Policy) -> None:
    """Nothing is announced that cannot come."""
    short = tuple(rung for rung in standard.stages if rung.stage is not Stage.DECOMMISSION_REVIEW)
    assert consequences(NOW, replace(standard, stages=short)).reviewed_at is None
    harmless = tuple(replace(rung, effects=frozenset()) for rung in standard.stages)
    assert consequences(NOW, replace(standard, stages=harmless)).stopped_at is None
