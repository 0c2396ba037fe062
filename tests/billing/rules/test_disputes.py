"""How long a dispute shields, and what it does to the ladder."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.rules.disputes import LONGEST_SHIELD, shielded_until
from billing.rules.facts import AccountFacts, DisputeFact, EpisodeFact, InvoiceFact, NoticeFact, OverrideFact
from billing.rules.ladder import eligible
from billing.rules.policy import Policy
from billing.rules.terms import OverrideKind, Stage

T = datetime(2026, 11, 2, 8, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


def facts(admitted: Stage, *disputes: DisputeFact, **more: object) -> AccountFacts:
    """Return an account that was told of everything and is overdue since `T`."""
    notices = tuple(
        NoticeFact(stage=stage, template="any", sent_at=T, delivered_at=T, invoice_ids=frozenset({1}))
        for stage in (Stage.PAST_DUE, Stage.FINAL_NOTICE, Stage.SUSPENDED)
    )
    known: dict[str, object] = {
        "invoices": (InvoiceFact(id=1, currency="EUR", amount_due=5000, overdue_at=T, counts_from=T),),
        "episode": EpisodeFact(started_at=T, admitted=admitted, admitted_at=T),
        "notices": notices,
        "disputes": disputes,
    }
    return AccountFacts(account_id=1, currency="EUR", **{**known, **more})


@pytest.mark.parametrize(("amount", "stage"), [(100, Stage.SUSPENDED), (101, Stage.FINAL_NOTICE)])
def test_it_keeps_other_debts_at_the_final_notice(standard: Policy, amount: int, stage: Stage) -> None:
    """The climb goes up to `FINAL_NOTICE` while more than the tolerance is disputed."""
    now = T + 20 * DAY
    open_dispute = DisputeFact(amount=amount, opened_at=T + DAY)
    assert eligible(facts(Stage.PAST_DUE, open_dispute), standard, now).stage is Stage.FINAL_NOTICE
    reached = eligible(facts(Stage.FINAL_NOTICE, open_dispute), standard, now)
    assert reached.stage is stage
    if stage is Stage.FINAL_NOTICE:
        assert reached.next is not None
        assert (reached.next.stage, reached.next.waiting_for) == (Stage.SUSPENDED, "dispute")
        assert reached.next_change_at == T + DAY + LONGEST_SHIELD


@pytest.mark.parametrize(("late", "stage"), [(-SECOND, Stage.FINAL_NOTICE), (timedelta(0), Stage.SUSPENDED)])
def test_it_shields_for_sixty_days_of_the_episode_in_all(
    standard: Policy, late: timedelta, stage: Stage
) -> None:
    """Time under an earlier dispute of the same episode counts, time between the two does not."""
    earlier = DisputeFact(amount=5000, opened_at=T - 5 * DAY, closed_at=T + 20 * DAY)
    present = DisputeFact(amount=5000, opened_at=T + 30 * DAY)
    assert eligible(facts(Stage.FINAL_NOTICE, earlier, present), standard, T + 70 * DAY + late).stage is stage


def test_it_frees_nobody_who_is_suspended_already(standard: Policy) -> None:
    """Only what it takes from the debt does."""
    dispute = DisputeFact(amount=5000, opened_at=T + 10 * DAY)
    suspended = facts(Stage.SUSPENDED, dispute)
    assert eligible(suspended, standard, T + 11 * DAY).stage is Stage.SUSPENDED
    whole = replace(suspended, invoices=(replace(suspended.invoices[0], disputed_amount=5000),))
    assert eligible(whole, standard, T + 11 * DAY).stage is Stage.CURRENT


def test_it_yields_to_suspend_now(standard: Policy) -> None:
    """`SUSPEND_NOW` is the one way past `FINAL_NOTICE`, and goes no further than `SUSPENDED`."""
    dispute = DisputeFact(amount=5000, opened_at=T)
    force = OverrideFact(kind=OverrideKind.SUSPEND_NOW, placed_at=T, expires_at=None)
    forced = facts(Stage.FINAL_NOTICE, dispute, overrides=(force,))
    assert eligible(forced, standard, T + DAY).stage is Stage.SUSPENDED
    beyond = facts(Stage.SUSPENDED, dispute, overrides=(force,))
    assert eligible(beyond, standard, T + 40 * DAY).stage is Stage.SUSPENDED


@pytest.mark.parametrize(("late", "stage"), [(-SECOND, Stage.FINAL_NOTICE), (timedelta(0), Stage.SUSPENDED)])
def test_it_shields_for_as_long_however_late_in_the_episode(
    standard: Policy, late: timedelta, stage: Stage
) -> None:
    """A dispute that is opened on the two hundredth day shields for sixty days of its own, not for none."""
    opened_at = T + 200 * DAY
    facing = facts(Stage.FINAL_NOTICE, DisputeFact(amount=5000, opened_at=opened_at))
    assert eligible(facing, standard, opened_at + LONGEST_SHIELD + late).stage is stage


def test_it_shields_nobody_for_ever_by_dispute_after_dispute(standard: Policy) -> None:
    """However many there are, the ladder loses sixty days of an episode to them and no more."""
    many = [
        DisputeFact(amount=5000, opened_at=T + 10 * n * DAY, closed_at=T + (10 * n + 8) * DAY)
        for n in range(40)
    ]
    days = [day for day in range(400) if shielded_until(many, tolerance=100, since=T, now=T + day * DAY)]
    assert (len(days), days[-1]) == (60, 73)
    assert eligible(facts(Stage.FINAL_NOTICE, *many), standard, T + 81 * DAY).stage is Stage.SUSPENDED


def test_it_adds_up_only_what_is_open_together() -> None:
    """Two small disputes shield together, not one after the other."""
    small = [
        DisputeFact(amount=60, opened_at=T, closed_at=T + 2 * DAY),
        DisputeFact(amount=60, opened_at=T + DAY, closed_at=T + 3 * DAY),
    ]
    until = [
        shielded_until(small, tolerance=100, since=T, now=T + hours * DAY / 24)
        for hours in (0, 24, 36, 48, 72)
    ]
    assert until == [None, T + DAY + LONGEST_SHIELD, T + DAY + LONGEST_SHIELD, None, None]
