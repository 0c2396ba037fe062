"""What decisions of staff do to the ladder."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.rules.facts import AccountFacts, EpisodeFact, InvoiceFact, NoticeFact, OverrideFact
from billing.rules.ladder import Eligibility, eligible
from billing.rules.overrides import ends_at, is_active, strongest
from billing.rules.policy import Policy
from billing.rules.terms import OverrideKind, Stage

T = datetime(2026, 11, 2, 8, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
STAGES = (Stage.PAST_DUE, Stage.FINAL_NOTICE, Stage.SUSPENDED, Stage.RETAINED)


def placed(kind: OverrideKind, at: datetime, until: datetime | None = None, **more: object) -> OverrideFact:
    """Return an account-wide override."""
    return OverrideFact(kind=kind, placed_at=at, expires_at=until, **more)


def told(*at: datetime) -> tuple[NoticeFact, ...]:
    """Return notices of every stage, delivered at once."""
    return tuple(
        NoticeFact(stage=stage, template="any", sent_at=when, delivered_at=when, invoice_ids=frozenset({1}))
        for when in at
        for stage in STAGES
    )


def standing(
    policy: Policy,
    admitted: Stage,
    now: datetime,
    *overrides: OverrideFact,
    notices: tuple[NoticeFact, ...] | None = None,
) -> Eligibility:
    """Return where an account stands that has been overdue since `T` and was told of everything."""
    facts = AccountFacts(
        account_id=1,
        currency="EUR",
        invoices=(InvoiceFact(id=1, currency="EUR", amount_due=5000, overdue_at=T, counts_from=T),),
        overrides=overrides,
        episode=EpisodeFact(started_at=T, admitted=admitted, admitted_at=T),
        notices=told(T) if notices is None else notices,
    )
    return eligible(facts, policy, now)


def test_it_holds_from_its_placing_up_to_its_end() -> None:
    """The end is the earlier of expiry and revocation, and does not belong to it."""
    override = placed(OverrideKind.FREEZE, T, T + DAY, revoked_at=T + HOUR)
    assert ends_at(override) == T + HOUR
    assert [is_active(override, T + at) for at in (-SECOND, timedelta(0), HOUR - SECOND, HOUR)] == [
        False,
        True,
        True,
        False,
    ]


def test_it_counts_the_longest_of_a_kind() -> None:
    """One without end beats every other."""
    short, long = placed(OverrideKind.FREEZE, T, T + DAY), placed(OverrideKind.FREEZE, T, T + 2 * DAY)
    endless = placed(OverrideKind.FREEZE, T)
    assert strongest((long, short), OverrideKind.FREEZE, T) is long
    assert strongest((long, endless, short), OverrideKind.FREEZE, T) is endless
    assert strongest((long,), OverrideKind.EXEMPT, T) is None


@pytest.mark.parametrize(
    ("kind", "admitted", "stage", "code"),
    [
        (OverrideKind.EXEMPT, Stage.SUSPENDED, Stage.CURRENT, "exempt"),
        (OverrideKind.EXTEND_GRACE, Stage.SUSPENDED, Stage.PAST_DUE, "extended_grace"),
        (OverrideKind.EXTEND_GRACE, Stage.CURRENT, Stage.PAST_DUE, "overdue"),
        (OverrideKind.FREEZE, Stage.SUSPENDED, Stage.SUSPENDED, "frozen"),
        (OverrideKind.FREEZE, Stage.FINAL_NOTICE, Stage.FINAL_NOTICE, "frozen"),
        (OverrideKind.FREEZE, Stage.CURRENT, Stage.CURRENT, "frozen"),
        (OverrideKind.ALLOW_BACKUPS, Stage.SUSPENDED, Stage.RETAINED, "overdue"),
        (OverrideKind.SUSPEND_NOW, Stage.PAST_DUE, Stage.SUSPENDED, "suspend_now"),
    ],
)
def test_it_does_what_its_row_of_the_table_says(
    standard: Policy, kind: OverrideKind, admitted: Stage, stage: Stage, code: str
) -> None:
    """Forty days overdue, everybody told: each kind decides the stage, and its end would decide it anew."""
    now = T + 40 * DAY
    reached = standing(standard, admitted, now, placed(kind, T, now + SECOND))
    assert (reached.stage, reached.reason_code) == (stage, code)
    assert reached.next_change_at == now + SECOND
    assert reached.in_episode


@pytest.mark.parametrize("kind", [OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE, OverrideKind.FREEZE])
def test_it_is_mercy_that_wins_over_suspend_now(standard: Policy, kind: OverrideKind) -> None:
    """While any of the three holds, `SUSPEND_NOW` suspends nobody, whoever placed it and in whatever order."""
    force = placed(OverrideKind.SUSPEND_NOW, T + 2 * HOUR)
    for by_customer in (False, True):
        mercy = placed(kind, T + HOUR, T + 2 * DAY, by_customer=by_customer)
        reached = standing(standard, Stage.PAST_DUE, T + DAY, mercy, force)
        assert reached.stage.rank <= Stage.PAST_DUE.rank


def test_it_suspends_at_once_without_any_notice(standard: Policy) -> None:
    """`SUSPEND_NOW` passes notices and waiting, from the second it was placed, and keeps what it reached."""
    force = placed(OverrideKind.SUSPEND_NOW, T + HOUR)
    assert standing(standard, Stage.PAST_DUE, T + HOUR - SECOND, force, notices=()).stage is Stage.PAST_DUE
    for admitted in (Stage.CURRENT, Stage.PAST_DUE, Stage.FINAL_NOTICE, Stage.SUSPENDED):
        assert standing(standard, admitted, T + HOUR, force, notices=()).stage is Stage.SUSPENDED
    later = standing(standard, Stage.SUSPENDED, T + 400 * DAY, force, notices=())
    assert later.stage is Stage.SUSPENDED
    assert standing(standard, Stage.RETAINED, T + 29 * DAY, force).stage is Stage.SUSPENDED


def test_it_keeps_a_frozen_account_suspended_that_was_suspended_by_force(standard: Policy) -> None:
    """`FREEZE` lifts nothing: what is restricted stays so."""
    force, freeze = placed(OverrideKind.SUSPEND_NOW, T), placed(OverrideKind.FREEZE, T + HOUR, T + DAY)
    assert standing(standard, Stage.SUSPENDED, T + 2 * HOUR, force, freeze).stage is Stage.SUSPENDED
    assert standing(standard, Stage.FINAL_NOTICE, T + 2 * HOUR, force, freeze).stage is Stage.FINAL_NOTICE


@pytest.mark.parametrize("kind", [OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE])
def test_it_ends_suspend_now_for_good_when_staff_shows_mercy(standard: Policy, kind: OverrideKind) -> None:
    """After the mercy itself has ended, the ladder goes on by age and notice alone."""
    force, mercy = placed(OverrideKind.SUSPEND_NOW, T), placed(kind, T + HOUR, T + 2 * HOUR)
    assert standing(standard, Stage.PAST_DUE, T + 3 * HOUR, force, mercy).stage is Stage.PAST_DUE
    customers = placed(kind, T + HOUR, T + 2 * HOUR, by_customer=True)
    assert standing(standard, Stage.PAST_DUE, T + 3 * HOUR, force, customers).stage is Stage.SUSPENDED


def test_it_forgets_a_suspend_now_of_an_earlier_episode(standard: Policy) -> None:
    """It ends with the episode in which it was placed."""
    old = placed(OverrideKind.SUSPEND_NOW, T - DAY)
    assert standing(standard, Stage.PAST_DUE, T + HOUR, old).stage is Stage.PAST_DUE


def test_it_suspends_nobody_by_force_without_an_address(standard: Policy) -> None:
    """An account that nothing can be delivered to stays at `PAST_DUE`, whoever decides otherwise."""
    facts = AccountFacts(
        account_id=1,
        currency="EUR",
        has_address=False,
        invoices=(InvoiceFact(id=1, currency="EUR", amount_due=5000, overdue_at=T, counts_from=T),),
        overrides=(placed(OverrideKind.SUSPEND_NOW, T),),
        episode=EpisodeFact(started_at=T, admitted=Stage.PAST_DUE, admitted_at=T),
    )
    assert eligible(facts, standard, T + DAY).stage is Stage.PAST_DUE


@pytest.mark.parametrize("kind", [OverrideKind.EXEMPT, OverrideKind.EXTEND_GRACE, OverrideKind.FREEZE])
@pytest.mark.parametrize("ended_by", ["expiry", "revocation"])
def test_it_asks_for_a_fresh_notice_when_it_ended(
    standard: Policy, kind: OverrideKind, ended_by: str
) -> None:
    """Old notices no longer open the next stage: a new one has to be delivered for `min_notice` first."""
    end = T + 10 * DAY
    ended = (
        placed(kind, T + HOUR, end)
        if ended_by == "expiry"
        else placed(kind, T + HOUR, end + DAY, revoked_at=end)
    )
    before = told(T, end - SECOND)
    waiting = standing(standard, Stage.PAST_DUE, end + 30 * DAY, ended, notices=before)
    assert waiting.stage is Stage.PAST_DUE
    assert waiting.next is not None
    assert waiting.next.waiting_for == "notice_delivery"
    fresh = (*before, *told(end))
    assert (
        standing(standard, Stage.PAST_DUE, end + 48 * HOUR - SECOND, ended, notices=fresh).stage
        is Stage.PAST_DUE
    )
    assert (
        standing(standard, Stage.PAST_DUE, end + 48 * HOUR, ended, notices=fresh).stage is Stage.FINAL_NOTICE
    )


@pytest.mark.parametrize("kind", [OverrideKind.ALLOW_BACKUPS, OverrideKind.SUSPEND_NOW])
def test_it_resets_nothing_when_it_never_held_the_climb(standard: Policy, kind: OverrideKind) -> None:
    """The end of an `ALLOW_BACKUPS`, or of a revoked `SUSPEND_NOW`, asks for no fresh notice."""
    ended = placed(kind, T, T + HOUR)
    assert standing(standard, Stage.PAST_DUE, T + 72 * HOUR, ended).stage is Stage.FINAL_NOTICE


def test_it_holds_while_any_of_several_does(standard: Policy) -> None:
    """The climb is held up to the last end, and only notices since then count."""
    first, second = (
        placed(OverrideKind.FREEZE, T, T + 5 * DAY),
        placed(OverrideKind.FREEZE, T + DAY, T + 9 * DAY),
    )
    between = told(T + 6 * DAY)
    assert (
        standing(standard, Stage.PAST_DUE, T + 8 * DAY, first, second, notices=between).stage
        is Stage.PAST_DUE
    )
    assert (
        standing(standard, Stage.PAST_DUE, T + 30 * DAY, first, second, notices=between).stage
        is Stage.PAST_DUE
    )


def test_it_says_when_the_climb_goes_on_after_it(standard: Policy) -> None:
    """The forecast under an override waits for its end and a fresh notice, and names what it waits for."""
    freeze = placed(OverrideKind.FREEZE, T, T + 10 * DAY)
    following = standing(standard, Stage.PAST_DUE, T + DAY, freeze).next
    assert following is not None
    assert (following.stage, following.at, following.waiting_for) == (
        Stage.FINAL_NOTICE,
        T + 12 * DAY,
        "freeze",
    )
    assert standing(standard, Stage.PAST_DUE, T + DAY, placed(OverrideKind.FREEZE, T)).next is None


def test_it_leaves_an_override_of_one_server_to_that_server(standard: Policy) -> None:
    """An exempt server keeps its account on the ladder."""
    one = placed(OverrideKind.EXEMPT, T, server_id=7)
    assert standing(standard, Stage.PAST_DUE, T + 72 * HOUR, one).stage is Stage.FINAL_NOTICE
