"""Eligibility, edge by edge, on the shipped policy."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.rules.due import end_of_day, overdue_at
from billing.rules.facts import AccountFacts, DisputeFact, EpisodeFact, InvoiceFact, NoticeFact, OverrideFact
from billing.rules.ladder import REASONS, debt, eligible
from billing.rules.policy import Policy
from billing.rules.terms import OverrideKind, Stage

T = datetime(2026, 11, 2, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def invoice(ident: int = 1, *, at: datetime = T, amount: int = 5000, **more: object) -> InvoiceFact:
    """Return an invoice that is overdue and counts from `at`."""
    known = {"currency": "EUR", "overdue_at": at, "counts_from": at}
    return InvoiceFact(id=ident, amount_due=amount, **{**known, **more})


def notice(stage: Stage | None, at: datetime, *invoices: int, **more: object) -> NoticeFact:
    """Return a notice that was sent and delivered at `at` and names these invoices, else the first."""
    named = frozenset(invoices or (1,))
    return NoticeFact(
        **{"stage": stage, "template": "any", "sent_at": at, "delivered_at": at, "invoice_ids": named, **more}
    )


def override(kind: OverrideKind, at: datetime, until: datetime | None = None, **more: object) -> OverrideFact:
    """Return an account-wide override."""
    return OverrideFact(kind=kind, placed_at=at, expires_at=until, **more)


def account(admitted: Stage = Stage.CURRENT, *, since: datetime = T, **more: object) -> AccountFacts:
    """Return an account whose episode runs since `since`, with one invoice overdue since `T` unless told otherwise."""
    known = {
        "invoices": (invoice(),),
        "episode": EpisodeFact(started_at=since, admitted=admitted, admitted_at=since),
    }
    return AccountFacts(account_id=1, currency="EUR", **{**known, **more})


def told(*stages: Stage, at: datetime = T) -> tuple[NoticeFact, ...]:
    """Return one delivered notice per stage, all at `at`."""
    return tuple(notice(stage, at) for stage in stages)


LADDER = [
    (Stage.CURRENT, Stage.PAST_DUE, timedelta(0)),
    (Stage.PAST_DUE, Stage.FINAL_NOTICE, timedelta(hours=72)),
    (Stage.FINAL_NOTICE, Stage.SUSPENDED, timedelta(hours=120)),
    (Stage.SUSPENDED, Stage.RETAINED, timedelta(days=30)),
    (Stage.RETAINED, Stage.DECOMMISSION_REVIEW, timedelta(days=90)),
]


@pytest.mark.parametrize(("present", "following", "after"), LADDER)
@pytest.mark.parametrize("due", ["with a due date", "without a due date"])
@pytest.mark.parametrize("late", [-SECOND, timedelta(0), SECOND])
def test_it_climbs_exactly_when_the_debt_is_old_enough(
    standard: Policy, present: Stage, following: Stage, after: timedelta, due: str, late: timedelta
) -> None:
    """Every threshold, one second before, on it and after it, for both ways in which an invoice becomes overdue."""
    if due == "with a due date":
        begins = overdue_at(due_on=datetime(2026, 10, 24, tzinfo=UTC).date(), zone="Europe/Berlin")
        assert begins == datetime(
            2026, 10, 24, 22, tzinfo=UTC
        )  # the night in which the clocks go back comes after it
    else:
        begins = overdue_at(due_on=None, zone="UTC", unsuccessful_attempts=[T + DAY, T])
    facts = account(present, since=begins, invoices=(invoice(at=begins),), notices=told(present, at=begins))
    now = begins + after + late
    reached = eligible(facts, standard, now)
    assert reached.stage is (following if late >= timedelta(0) else present)
    if following is not Stage.PAST_DUE:
        assert reached.next is not None
        assert (reached.next.stage, reached.next.at, reached.next.waiting_for) == (
            following,
            begins + after,
            None,
        )
        assert reached.next_change_at == (begins + after if late < timedelta(0) else None)


@pytest.mark.parametrize(("present", "following", "after"), LADDER[1:])
@pytest.mark.parametrize("late", [-SECOND, timedelta(0), SECOND])
def test_it_climbs_exactly_when_the_notice_is_old_enough(
    standard: Policy, present: Stage, following: Stage, after: timedelta, late: timedelta
) -> None:
    """A notice that was delivered late delays the next stage by exactly `min_notice` from its delivery."""
    rung = standard.at(following)
    assert rung is not None
    sent = T + after
    delivered = sent + HOUR
    facts = account(
        present, notices=(notice(present, sent, delivered_at=delivered), notice(Stage.PAST_DUE, T))
    )
    if present is Stage.PAST_DUE:
        facts = replace(facts, notices=facts.notices[:1])
    reached = eligible(facts, standard, delivered + rung.min_notice + late)
    assert reached.stage is (following if late >= timedelta(0) else present)


def test_it_needs_no_notice_for_the_first_stage(standard: Policy) -> None:
    """Being past due is itself the first thing that anybody is told."""
    assert eligible(account(episode=None), standard, T).stage is Stage.PAST_DUE


def test_it_never_jumps_after_a_long_outage(standard: Policy) -> None:
    """A debt of a year still begins at the first stage, and is never more than one stage above the admitted one."""
    now = T + timedelta(days=365)
    assert eligible(account(episode=None), standard, now).stage is Stage.PAST_DUE
    facts = account(Stage.PAST_DUE, notices=told(Stage.PAST_DUE))
    assert eligible(facts, standard, now).stage is Stage.FINAL_NOTICE


def test_it_counts_the_age_from_the_start_of_the_episode(standard: Policy) -> None:
    """An old invoice that only now exceeds the tolerance together with another starts its waiting now."""
    begins = T + timedelta(days=10)
    facts = account(Stage.PAST_DUE, since=begins, notices=told(Stage.PAST_DUE, at=begins))
    assert eligible(facts, standard, begins + 72 * HOUR - SECOND).stage is Stage.PAST_DUE
    assert eligible(facts, standard, begins + 72 * HOUR).stage is Stage.FINAL_NOTICE


def test_it_counts_an_invoice_from_when_it_was_seen(standard: Policy) -> None:
    """An invoice that we learned of late, or that was reopened, counts from then and not from its due date."""
    seen = T + timedelta(days=10)
    facts = account(
        Stage.PAST_DUE, invoices=(invoice(counts_from=seen),), notices=told(Stage.PAST_DUE, at=seen)
    )
    assert eligible(facts, standard, seen + 72 * HOUR - SECOND).stage is Stage.PAST_DUE
    assert eligible(facts, standard, seen + 72 * HOUR).stage is Stage.FINAL_NOTICE


@pytest.mark.parametrize(
    "useless",
    [
        notice(Stage.PAST_DUE, T, delivered_at=None),
        notice(Stage.PAST_DUE, T, delivered_at=None, failed=True),
        notice(Stage.PAST_DUE, T, 2),
        notice(None, T),
        notice(Stage.PAST_DUE, T - SECOND),
    ],
    ids=["on its way", "refused", "naming another invoice", "a reminder", "of an earlier episode"],
)
def test_it_waits_for_a_notice_that_counts(standard: Policy, useless: NoticeFact) -> None:
    """No notice of this episode that names the anchor and belongs to a stage was delivered: no next stage, ever."""
    reached = eligible(account(Stage.PAST_DUE, notices=(useless,)), standard, T + timedelta(days=400))
    assert reached.stage is Stage.PAST_DUE
    assert reached.next is not None
    assert reached.next.waiting_for == "notice_delivery"
    assert reached.next_change_at is None


def test_it_takes_a_notice_of_a_later_stage_for_the_present_one(standard: Policy) -> None:
    """After a fall, what the customer was told at the later stage goes on counting: a fall restarts no waiting."""
    facts = account(Stage.PAST_DUE, notices=told(Stage.SUSPENDED))
    assert eligible(facts, standard, T + 72 * HOUR).stage is Stage.FINAL_NOTICE
    milder = account(Stage.FINAL_NOTICE, notices=told(Stage.PAST_DUE))
    assert eligible(milder, standard, T + timedelta(days=20)).stage is Stage.FINAL_NOTICE


def test_it_falls_to_past_due_when_nobody_was_told_of_the_anchor(standard: Policy) -> None:
    """A paid anchor hands over to an invoice that no delivered notice named: servers come back until it was."""
    facts = account(
        Stage.SUSPENDED,
        invoices=(invoice(2),),
        notices=told(Stage.PAST_DUE, Stage.FINAL_NOTICE, Stage.SUSPENDED),
    )
    reached = eligible(facts, standard, T + timedelta(days=40))
    assert (reached.stage, reached.reason_code) == (Stage.PAST_DUE, "not_named")


def test_it_takes_no_notice_of_an_earlier_episode_for_a_name(standard: Policy) -> None:
    """Whoever was told a year ago of an invoice that was reopened since has to be told again."""
    facts = account(Stage.SUSPENDED, notices=told(Stage.SUSPENDED, at=T - SECOND))
    assert eligible(facts, standard, T + timedelta(days=10)).stage is Stage.PAST_DUE


def test_it_takes_no_delivery_of_tomorrow_for_one(standard: Policy) -> None:
    """A clock that was set back proves nothing: the notice names the anchor once its delivery is past."""
    now = T + timedelta(days=10)
    facts = account(Stage.SUSPENDED, notices=(notice(Stage.SUSPENDED, T, delivered_at=now + HOUR),))
    reached = eligible(facts, standard, now)
    assert (reached.stage, reached.next_change_at) == (Stage.PAST_DUE, now + HOUR)


def test_it_looks_again_when_a_younger_anchor_reaches_the_age_of_its_stage(standard: Policy) -> None:
    """Named by a reminder alone it opens nothing, but it still supports what was admitted once it is old enough."""
    facts = account(Stage.SUSPENDED, notices=(notice(None, T),))
    assert eligible(facts, standard, T + 100 * HOUR).stage is Stage.FINAL_NOTICE
    assert eligible(facts, standard, T + 100 * HOUR).next_change_at == T + 120 * HOUR


def test_it_hands_a_paid_anchor_over_to_the_next_oldest(standard: Policy) -> None:
    """The younger invoice was named, so the stage follows its age: no stage is skipped and none jumps down."""
    younger = invoice(2, at=T + 60 * HOUR)
    both = notice(Stage.FINAL_NOTICE, T + 72 * HOUR, 1, 2)
    facts = account(Stage.SUSPENDED, invoices=(younger,), notices=(both,))
    assert eligible(facts, standard, T + 60 * HOUR + 100 * HOUR).stage is Stage.FINAL_NOTICE
    assert eligible(facts, standard, T + 60 * HOUR + 120 * HOUR).stage is Stage.SUSPENDED


def test_it_ignores_a_part_payment_of_the_anchor(standard: Policy) -> None:
    """Paying a part that leaves more than the tolerance changes neither the anchor nor the stage."""
    facts = account(Stage.SUSPENDED, notices=told(Stage.SUSPENDED))
    partly = replace(facts, invoices=(invoice(amount=101),))
    now = T + timedelta(days=10)
    assert eligible(partly, standard, now).stage is eligible(facts, standard, now).stage is Stage.SUSPENDED


@pytest.mark.parametrize(
    ("amount", "stage"), [(100, Stage.CURRENT), (101, Stage.SUSPENDED), (0, Stage.CURRENT)]
)
def test_it_tolerates_what_the_policy_tolerates(standard: Policy, amount: int, stage: Stage) -> None:
    """A debt up to the tolerance is none; one minor unit more is."""
    facts = account(Stage.SUSPENDED, invoices=(invoice(amount=amount),), notices=told(Stage.SUSPENDED))
    reached = eligible(facts, standard, T + timedelta(days=10))
    assert reached.stage is stage
    assert reached.in_episode is (stage is not Stage.CURRENT)


@pytest.mark.parametrize(
    "nothing",
    [
        invoice(overdue_at=None, counts_from=None),
        invoice(at=T + timedelta(days=100)),
        invoice(amount=-5000),
        invoice(currency="USD"),
        invoice(disputed_amount=5000),
    ],
    ids=["not attempted", "not due", "negative", "of another currency", "wholly disputed"],
)
def test_it_takes_nothing_else_for_debt(standard: Policy, nothing: InvoiceFact) -> None:
    """What is not due, not positive, not in the account's currency or disputed restricts nobody."""
    facts = account(Stage.SUSPENDED, invoices=(nothing,), notices=told(Stage.SUSPENDED))
    reached = eligible(facts, standard, T + timedelta(days=10))
    assert (reached.stage, reached.debt, reached.in_episode) == (Stage.CURRENT, None, False)


def test_it_frees_an_account_on_a_free_plan(standard: Policy) -> None:
    """A free plan has no ladder, and no old episode that could be taken up again."""
    reached = eligible(account(Stage.SUSPENDED, free_plan=True), standard, T + timedelta(days=10))
    assert (reached.stage, reached.reason_code, reached.in_episode) == (Stage.CURRENT, "free_plan", False)


def test_it_waits_at_past_due_without_an_address(standard: Policy) -> None:
    """Nobody climbs who cannot be told; who is suspended already is not freed by losing the mailbox."""
    facts = account(Stage.PAST_DUE, has_address=False, notices=told(Stage.PAST_DUE))
    reached = eligible(facts, standard, T + timedelta(days=400))
    assert reached.stage is Stage.PAST_DUE
    assert reached.next is not None
    assert reached.next.waiting_for == "address"
    suspended = account(Stage.SUSPENDED, has_address=False, notices=told(Stage.SUSPENDED))
    assert eligible(suspended, standard, T + timedelta(days=10)).stage is Stage.SUSPENDED


def test_it_falls_to_the_nearest_stage_that_the_policy_has(standard: Policy) -> None:
    """A stage that another policy lacks is left for the one below it, and nobody climbs in the same step."""
    lean = replace(standard, stages=tuple(r for r in standard.stages if r.stage is not Stage.RETAINED))
    facts = account(Stage.RETAINED, notices=told(Stage.RETAINED))
    assert eligible(facts, lean, T + timedelta(days=400)).stage is Stage.SUSPENDED
    fallen = account(Stage.SUSPENDED, notices=told(Stage.RETAINED))
    assert eligible(fallen, lean, T + timedelta(days=400)).stage is Stage.DECOMMISSION_REVIEW


def test_it_stops_counting_notices_that_were_declared_void(standard: Policy) -> None:
    """After a long time outside `apply` the present stage's notice counts as not sent, but takes no stage away."""
    facts = account(
        Stage.FINAL_NOTICE, notices=told(Stage.PAST_DUE, Stage.FINAL_NOTICE), notices_void_before=T + DAY
    )
    now = T + timedelta(days=20)
    assert eligible(facts, standard, now).stage is Stage.FINAL_NOTICE
    again = replace(facts, notices=(*facts.notices, notice(Stage.FINAL_NOTICE, T + DAY)))
    assert eligible(again, standard, now).stage is Stage.SUSPENDED


def test_it_tells_when_the_first_stage_comes_before_anything_is_overdue(standard: Policy) -> None:
    """The invoice with which the open ones together exceed the tolerance decides."""
    first, second = T + timedelta(days=3), T + timedelta(days=5)
    open_ones = (
        invoice(2, at=second, amount=60, counts_from=None),
        invoice(1, at=first, amount=60, counts_from=None),
    )
    reached = eligible(account(episode=None, invoices=open_ones), standard, T)
    assert reached.next is not None
    assert (reached.next.stage, reached.next.at) == (Stage.PAST_DUE, second)
    assert reached.next_change_at == first


@pytest.mark.parametrize(("present", "following", "after"), LADDER[1:])
@pytest.mark.parametrize("back", [SECOND, 5 * HOUR, 400 * DAY])
def test_it_undoes_nothing_when_the_clock_goes_back(
    standard: Policy, present: Stage, following: Stage, after: timedelta, back: timedelta
) -> None:
    """Before the debt, its notices or the stage itself began: what supported the stage still does, and no more."""
    reached = T + after
    facts = account(
        following,
        episode=EpisodeFact(started_at=T, admitted=following, admitted_at=reached),
        notices=(*told(present, at=T + SECOND), notice(following, reached)),
    )
    found = eligible(facts, standard, reached - back)
    assert (found.stage, found.in_episode) == (following, True)
    assert found.next is None or found.next.at > reached


def test_it_goes_by_every_fact_and_every_mercy_after_the_clock_went_back(standard: Policy) -> None:
    """A payment frees, an older debt takes over, and what staff grants counts by the clock as it is."""
    reached, now = T + 5 * DAY, T - DAY
    facts = account(
        Stage.SUSPENDED,
        episode=EpisodeFact(started_at=T, admitted=Stage.SUSPENDED, admitted_at=reached),
        notices=told(Stage.FINAL_NOTICE),
    )
    assert eligible(facts, standard, now).stage is Stage.SUSPENDED
    assert eligible(replace(facts, invoices=()), standard, now).stage is Stage.CURRENT
    younger = replace(facts, invoices=(invoice(2, at=T + DAY),), notices=(notice(Stage.PAST_DUE, T, 2),))
    assert eligible(younger, standard, now).stage is Stage.FINAL_NOTICE
    for kind, stage in ((OverrideKind.EXEMPT, Stage.CURRENT), (OverrideKind.EXTEND_GRACE, Stage.PAST_DUE)):
        granted = replace(facts, overrides=(override(kind, now, now + DAY),))
        assert eligible(granted, standard, now).stage is stage
    forced = replace(
        facts,
        episode=EpisodeFact(started_at=T, admitted=Stage.SUSPENDED, admitted_at=T + HOUR),
        overrides=(override(OverrideKind.SUSPEND_NOW, T + HOUR),),
    )
    assert eligible(forced, standard, now).stage is Stage.SUSPENDED


def test_it_names_the_whole_debt_and_its_anchor(standard: Policy) -> None:
    """The debt is the sum of what is overdue and undisputed; the anchor counts longest."""
    facts = account(
        invoices=(
            invoice(3, at=T + DAY),
            invoice(2, at=T, disputed_amount=1000),
            invoice(1, at=T - DAY, counts_from=T + 2 * DAY),
            invoice(4, at=T + timedelta(days=9)),
        )
    )
    owed = debt(facts, T + 3 * DAY)
    assert owed is not None
    assert (owed.amount, owed.currency, owed.anchor_id, owed.invoice_ids) == (14_000, "EUR", 2, (1, 2, 3))
    assert (owed.anchor_overdue_at, owed.age_from) == (T, T)


def test_it_ends_the_day_in_the_zone_of_the_invoice(standard: Policy) -> None:
    """The last second of the due day, where the customer lives, is still in time."""
    day = datetime(2026, 11, 20, tzinfo=UTC).date()
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles"):
        begins = end_of_day(day, zone)
        facts = account(episode=None, invoices=(invoice(at=begins, counts_from=None),))
        assert eligible(facts, standard, begins - SECOND).stage is Stage.CURRENT
        assert eligible(facts, standard, begins).stage is Stage.PAST_DUE


def test_it_has_words_for_every_code(standard: Policy) -> None:
    """Each reason is one line of plain words without a placeholder left."""
    reasons = [
        eligible(account(Stage.PAST_DUE, overrides=(override(kind, T, T + DAY),)), standard, T)
        for kind in OverrideKind
    ]
    assert {reached.reason_code for reached in reasons} == {
        "exempt",
        "extended_grace",
        "frozen",
        "overdue",
        "suspend_now",
    }
    assert all(reached.reason_code in REASONS and "{" not in reached.reason for reached in reasons)


@pytest.mark.parametrize(
    ("due", "paid", "disputed", "owed"),
    [
        (
            5000,
            5000,
            5000,
            5000,
        ),  # half was paid by card, and that charge is disputed: the other half is owed
        (5000, 5000, 2000, 5000),
        (2000, 8000, 5000, 2000),
        (5000, 5000, 7000, 3000),  # what is contested beyond the payments shields
        (5000, 5000, 10_000, 0),
        (5000, 0, 1000, 4000),
    ],
)
def test_it_takes_from_the_debt_only_what_is_disputed_beyond_what_was_paid(
    due: int, paid: int, disputed: int, owed: int
) -> None:
    """What is left to pay leaves out what was paid already, so a dispute over that part takes nothing more."""
    found = debt(
        account(invoices=(invoice(amount=due, amount_paid=paid, disputed_amount=disputed),)), T + DAY
    )
    assert (found.amount if found else 0) == owed


def test_it_shields_by_the_whole_of_what_is_disputed(standard: Policy) -> None:
    """The unpaid rest climbs, and while the paid part is in dispute goes no further than the final notice."""
    half = invoice(amount=5000, amount_paid=5000, disputed_amount=5000)
    facts = account(
        Stage.FINAL_NOTICE,
        invoices=(half,),
        notices=told(Stage.PAST_DUE, Stage.FINAL_NOTICE),
        disputes=(DisputeFact(amount=5000, opened_at=T),),
    )
    reached = eligible(facts, standard, T + timedelta(days=20))
    assert (reached.stage, reached.next and reached.next.waiting_for) == (Stage.FINAL_NOTICE, "dispute")


@pytest.mark.parametrize("kind", [OverrideKind.FREEZE, OverrideKind.EXTEND_GRACE])
def test_it_dates_a_step_by_the_override_where_a_dispute_holds_it_back_as_well(
    standard: Policy, kind: OverrideKind
) -> None:
    """The dispute may be over tomorrow: its latest end is not the earliest day."""
    now, until = T + timedelta(days=5), T + timedelta(days=12)
    policy = replace(standard, stages=tuple(s for s in standard.stages if s.stage is not Stage.FINAL_NOTICE))
    base = Stage.PAST_DUE if kind is OverrideKind.EXTEND_GRACE else Stage.SUSPENDED
    placed = (override(kind, now - HOUR, until),)
    facts = account(base, notices=told(Stage.PAST_DUE, base), overrides=placed)
    disputed = replace(facts, disputes=(DisputeFact(amount=5000, opened_at=T),))
    alone = eligible(facts, policy, now).next
    assert alone is not None
    assert alone.at > until
    both = replace(alone, disputed_until=T + timedelta(days=60))
    assert eligible(disputed, policy, now).next == both


def test_it_suspends_nobody_without_waiting_before_an_episode(standard: Policy) -> None:
    """What two persons decided in an earlier episode reaches no new one, not even in the instant in which it begins."""
    facts = replace(account(), episode=None, overrides=(override(OverrideKind.SUSPEND_NOW, T),))
    assert eligible(facts, standard, T).stage is Stage.PAST_DUE


@pytest.mark.parametrize(
    ("left", "currency", "owed"), [(49, "EUR", 0), (50, "EUR", 50), (9, "KWD", 0), (10, "KWD", 10)]
)
def test_it_counts_no_rest_that_a_card_cannot_be_charged(left: int, currency: str, owed: int) -> None:
    """However many such rests there are: a payment that left one must not be worse than none."""
    rests = tuple(invoice(number, amount=left, currency=currency) for number in range(1, 6))
    found = debt(replace(account(invoices=rests), currency=currency), T + DAY)
    assert (found.amount if found else 0) == 5 * owed
