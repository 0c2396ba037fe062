"""Which notices are due, and when the next one is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from billing.rules.facts import (
    AccountFacts,
    CoverageFacts,
    EpisodeFact,
    InvoiceFact,
    NoticeFact,
    OverrideFact,
)
from billing.rules.ladder import eligible
from billing.rules.notices import (
    NoticeDue,
    NoticeKind,
    due_coverage_notices,
    due_notices,
    next_notice_at,
    restored_notice,
)
from billing.rules.policy import Policy
from billing.rules.terms import OverrideKind, Stage

T = datetime(2026, 11, 2, 8, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


def invoice(ident: int, at: datetime = T, amount: int = 5000) -> InvoiceFact:
    """Return an invoice that counts from `at`."""
    return InvoiceFact(id=ident, currency="EUR", amount_due=amount, overdue_at=at, counts_from=at)


def sent(
    stage: Stage | None, at: datetime, *invoices: int, delivered: bool = True, **more: object
) -> NoticeFact:
    """Return a notice that was queued at `at`."""
    named = frozenset(invoices or (1,))
    known = {"template": "any", "delivered_at": at if delivered else None, "invoice_ids": named}
    return NoticeFact(stage=stage, sent_at=at, **{**known, **more})


def account(admitted: Stage, *notices: NoticeFact, entered: datetime = T, **more: object) -> AccountFacts:
    """Return an account in an episode since `T` that entered its stage at `entered`."""
    known = {
        "invoices": (invoice(1),),
        "episode": EpisodeFact(started_at=T, admitted=admitted, admitted_at=entered),
        "notices": notices,
    }
    return AccountFacts(account_id=1, currency="EUR", **{**known, **more})


def fell_silently(facts: AccountFacts) -> AccountFacts:
    """Return the same account as if it had come to its stage by a fall outside `APPLY`."""
    assert facts.episode is not None
    return replace(facts, episode=replace(facts.episode, fell_silently=True))


def due(policy: Policy, facts: AccountFacts, now: datetime) -> list[NoticeDue]:
    """Return what is due at the admitted stage."""
    assert facts.episode is not None
    return list(due_notices(facts, policy, facts.episode.admitted, now))


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.CURRENT])
def test_it_sends_the_notice_of_a_stage_when_it_is_entered(standard: Policy, stage: Stage) -> None:
    """The template is the policy's, and every overdue invoice is named."""
    both = (invoice(2, T + HOUR), invoice(1))
    rung = standard.at(stage)
    assert rung is not None
    assert due(standard, account(stage, invoices=both), T + DAY) == [
        NoticeDue(
            kind=NoticeKind.STAGE,
            template=rung.notice,
            stage=stage,
            invoice_ids=(1, 2),
            dedupe=f"stage:{stage}:1",
        )
    ]


def test_it_is_silent_once_the_notice_is_on_its_way(standard: Policy) -> None:
    """Queued is enough: the outbox delivers it, and tries again by itself."""
    assert not due(standard, account(Stage.PAST_DUE, sent(Stage.PAST_DUE, T, delivered=False)), T + HOUR)


def test_it_is_silent_at_current(standard: Policy) -> None:
    """Before anything was admitted, and within the tolerance, nobody is told anything."""
    assert not due(standard, account(Stage.CURRENT), T + DAY)
    assert not due_notices(AccountFacts(account_id=1, currency="EUR"), standard, Stage.CURRENT, T)


def test_it_is_silent_without_an_address(standard: Policy) -> None:
    """As soon as there is one, the notice is due."""
    facts = account(Stage.PAST_DUE, has_address=False)
    assert not due(standard, facts, T + 30 * DAY)
    assert next_notice_at(facts, standard, Stage.PAST_DUE, T) is None
    assert due(standard, replace(facts, has_address=True), T + 30 * DAY)


def test_it_sends_it_anew_after_a_fall(standard: Policy) -> None:
    """Back at a milder stage, that stage's notice goes out again, however many were sent on the way up."""
    climbed = (
        sent(Stage.PAST_DUE, T),
        sent(Stage.FINAL_NOTICE, T + 3 * DAY),
        sent(Stage.SUSPENDED, T + 5 * DAY),
    )
    fallen = account(Stage.FINAL_NOTICE, *climbed, entered=T + 6 * DAY)
    assert [one.dedupe for one in due(standard, fallen, T + 6 * DAY)] == ["stage:FINAL_NOTICE:2"]


def test_it_sends_none_for_a_fall_outside_apply(standard: Policy) -> None:
    """Notices of falls that happened in another mode are never sent later; reminders go on."""
    climbed = (sent(Stage.PAST_DUE, T), sent(Stage.FINAL_NOTICE, T + 3 * DAY))
    told = account(Stage.PAST_DUE, *climbed, entered=T + 6 * DAY)
    silent = fell_silently(told)
    assert not due(standard, silent, T + 7 * DAY)
    assert [one.kind for one in due(standard, told, T + 7 * DAY)] == [NoticeKind.STAGE]
    assert next_notice_at(silent, standard, Stage.PAST_DUE, T + 7 * DAY) == T + 10 * DAY
    assert [one.kind for one in due(standard, silent, T + 10 * DAY)] == [NoticeKind.REMINDER]


@pytest.mark.parametrize(
    "lacking",
    [
        {"notices_void_before": T + 6 * DAY},
        {"invoices": (invoice(1), invoice(2, T + DAY))},
        {"notices": (sent(Stage.PAST_DUE, T, failed=True), sent(Stage.FINAL_NOTICE, T + 3 * DAY))},
        {"notices": (sent(Stage.FINAL_NOTICE, T + 3 * DAY),)},
        {
            "overrides": (
                OverrideFact(kind=OverrideKind.FREEZE, placed_at=T + 4 * DAY, expires_at=T + 5 * DAY),
            )
        },
    ],
    ids=["void", "another invoice", "refused", "never sent", "after an override"],
)
def test_it_sends_one_after_such_a_fall_where_the_climb_takes_no_earlier_one(
    standard: Policy, lacking: dict[str, object]
) -> None:
    """Nobody waits for ever, and nobody climbs untold, because a fall was silent."""
    climbed = (sent(Stage.PAST_DUE, T), sent(Stage.FINAL_NOTICE, T + 3 * DAY))
    fallen = fell_silently(account(Stage.PAST_DUE, *climbed, entered=T + 6 * DAY))
    assert not due(standard, fallen, T + 7 * DAY)
    changed = replace(fallen, **lacking)
    assert [one.kind for one in due(standard, changed, T + 7 * DAY)] == [NoticeKind.STAGE]


def test_it_sends_it_anew_for_an_invoice_that_it_does_not_name(standard: Policy) -> None:
    """Another invoice became overdue: a fresh notice names both, at most one a day."""
    facts = account(Stage.PAST_DUE, sent(Stage.PAST_DUE, T), invoices=(invoice(1), invoice(2, T + HOUR)))
    assert not due(standard, facts, T + DAY - SECOND)
    assert next_notice_at(facts, standard, Stage.PAST_DUE, T + 2 * HOUR) == T + DAY
    assert [one.invoice_ids for one in due(standard, facts, T + DAY)] == [(1, 2)]
    assert due_notices(facts, replace(standard, repeat_every=HOUR), Stage.PAST_DUE, T + 2 * HOUR)
    told = replace(facts, notices=(*facts.notices, sent(Stage.PAST_DUE, T + DAY, 1, 2)))
    assert not due(standard, told, T + 2 * DAY)


@pytest.mark.parametrize("kind", [OverrideKind.EXTEND_GRACE, OverrideKind.FREEZE, OverrideKind.EXEMPT])
def test_it_sends_it_anew_when_an_override_ended(standard: Policy, kind: OverrideKind) -> None:
    """Not while it, or another that holds the climb, lasts; and `ALLOW_BACKUPS` asks for none."""
    ended = OverrideFact(kind=kind, placed_at=T + HOUR, expires_at=T + 5 * DAY)
    facts = account(Stage.PAST_DUE, sent(Stage.PAST_DUE, T), overrides=(ended,))
    assert not due(standard, facts, T + 5 * DAY - SECOND)
    assert [one.kind for one in due(standard, facts, T + 5 * DAY)] == [NoticeKind.STAGE]
    another = replace(
        facts, overrides=(ended, replace(ended, kind=OverrideKind.FREEZE, expires_at=T + 6 * DAY))
    )
    assert not due(standard, another, T + 5 * DAY)
    backups = replace(facts, overrides=(replace(ended, kind=OverrideKind.ALLOW_BACKUPS),))
    assert not due(standard, backups, T + 5 * DAY)


def test_it_sends_it_anew_when_notices_were_declared_void(standard: Policy) -> None:
    """After a long time outside `apply` everybody is told again before anybody climbs."""
    facts = account(Stage.FINAL_NOTICE, sent(Stage.FINAL_NOTICE, T), notices_void_before=T + 5 * DAY)
    assert [one.kind for one in due(standard, facts, T + 5 * DAY)] == [NoticeKind.STAGE]


def test_it_sends_it_anew_when_it_was_given_up(standard: Policy) -> None:
    """A notice that could not be delivered is not left at that, but not tried more than daily either."""
    facts = account(Stage.PAST_DUE, sent(Stage.PAST_DUE, T, delivered=False, failed=True))
    assert not due(standard, facts, T + DAY - SECOND)
    assert [one.dedupe for one in due(standard, facts, T + DAY)] == ["stage:PAST_DUE:2"]


@pytest.mark.parametrize("stage", [Stage.PAST_DUE, Stage.SUSPENDED, Stage.DECOMMISSION_REVIEW])
def test_it_reminds_weekly_through_all_stages(standard: Policy, stage: Stage) -> None:
    """A reminder names the invoices, uses the stage's words and belongs to no stage."""
    facts = account(stage, sent(stage, T))
    assert not due(standard, facts, T + 7 * DAY - SECOND)
    assert next_notice_at(facts, standard, stage, T + DAY) == T + 7 * DAY
    (reminder,) = due(standard, facts, T + 7 * DAY)
    assert (reminder.kind, reminder.stage, reminder.invoice_ids) == (NoticeKind.REMINDER, None, (1,))
    reminded = replace(facts, notices=(*facts.notices, sent(None, T + 7 * DAY)))
    assert not due(standard, reminded, T + 14 * DAY - SECOND)
    assert [one.dedupe for one in due(standard, reminded, T + 14 * DAY)] == ["reminder:3"]


def test_it_stops_reminding_where_the_policy_says_never(standard: Policy) -> None:
    """`remind_every: never` ends it."""
    quiet = replace(standard, stages=tuple(replace(rung, remind_every=None) for rung in standard.stages))
    facts = account(Stage.PAST_DUE, sent(Stage.PAST_DUE, T))
    assert not due(quiet, facts, T + 400 * DAY)
    assert next_notice_at(facts, quiet, Stage.PAST_DUE, T + DAY) is None


def test_it_gives_the_same_cause_the_same_key(standard: Policy) -> None:
    """Asked twice before the notice is queued, it answers alike; the next cause has another key."""
    facts = account(Stage.PAST_DUE)
    assert due(standard, facts, T) == due(standard, facts, T + 3 * HOUR)
    again = replace(facts, notices=(sent(Stage.PAST_DUE, T, delivered=False, failed=True),))
    assert due(standard, again, T + DAY)[0].dedupe != due(standard, facts, T)[0].dedupe


def test_it_opens_the_next_stage_by_what_it_sends(standard: Policy) -> None:
    """Queue and deliver whatever is due, hour by hour: the ladder is climbed to its top by these notices alone."""
    facts = account(Stage.CURRENT, episode=None)
    reached: dict[Stage, timedelta] = {}
    for hour in range(100 * 24):
        now = T + hour * HOUR
        stage = eligible(facts, standard, now).stage
        if facts.episode is None or stage is not facts.episode.admitted:
            reached[stage] = now - T
            begun = facts.episode.started_at if facts.episode else now
            facts = replace(facts, episode=EpisodeFact(started_at=begun, admitted=stage, admitted_at=now))
        for one in due_notices(facts, standard, stage, now):
            facts = replace(facts, notices=(*facts.notices, sent(one.stage, now, *one.invoice_ids)))
    assert reached == {
        Stage.PAST_DUE: timedelta(0),
        Stage.FINAL_NOTICE: 72 * HOUR,
        Stage.SUSPENDED: 120 * HOUR,
        Stage.RETAINED: 30 * DAY,
        Stage.DECOMMISSION_REVIEW: 90 * DAY,
    }
    gaps = [later.sent_at - one.sent_at for one, later in zip(facts.notices, facts.notices[1:], strict=False)]
    assert min(gaps) >= DAY
    assert max(gaps) <= 7 * DAY


def test_it_announces_an_invoice_before_it_is_due(standard: Policy) -> None:
    """Three days before the end of the due day, once per invoice, to accounts in good standing too."""
    facts = AccountFacts(account_id=1, currency="EUR", invoices=(invoice(4, T), invoice(5, T, amount=0)))
    assert not due_notices(facts, standard, Stage.CURRENT, T - 3 * DAY - SECOND)
    assert next_notice_at(facts, standard, Stage.CURRENT, T - 9 * DAY) == T - 3 * DAY
    expected = NoticeDue(
        kind=NoticeKind.BEFORE_DUE, template="before_due", invoice_ids=(4,), dedupe="before_due:4"
    )
    for now in (T - 3 * DAY, T - SECOND):
        assert due_notices(facts, standard, Stage.CURRENT, now) == (expected,)
    assert not due_notices(facts, standard, Stage.CURRENT, T)
    assert not due_notices(replace(facts, free_plan=True), standard, Stage.CURRENT, T - DAY)
    assert not due_notices(facts, replace(standard, before_due=None), Stage.CURRENT, T - DAY)


@pytest.mark.parametrize(("days", "again"), [(14, True), (4, True), (3.9, False), (3, False), (1, False)])
def test_it_announces_no_invoice_twice_within_a_day(standard: Policy, days: float, again: bool) -> None:
    """One whose own mail has just named the day, as after a lost dispute, is not announced once more."""
    told = replace(invoice(4, T), announced_at=T - days * DAY)
    facts = AccountFacts(account_id=1, currency="EUR", invoices=(told,))
    assert bool(due_notices(facts, standard, Stage.CURRENT, T - SECOND)) is again
    assert (next_notice_at(facts, standard, Stage.CURRENT, T - 9 * DAY) is not None) is again


@pytest.mark.parametrize(
    ("facts", "owed"),
    [
        (account(Stage.SUSPENDED), True),
        (account(Stage.PAST_DUE), False),
        (account(Stage.PAST_DUE, sent(Stage.PAST_DUE, T, delivered=False)), False),
        (account(Stage.PAST_DUE, sent(Stage.PAST_DUE, T)), True),
        (account(Stage.PAST_DUE, sent(None, T)), False),
        (account(Stage.PAST_DUE, sent(Stage.PAST_DUE, T - DAY)), False),
        (account(Stage.CURRENT, sent(Stage.SUSPENDED, T, delivered=False)), True),
        (account(Stage.CURRENT, episode=None), False),
    ],
    ids=[
        "effects",
        "untold",
        "not delivered",
        "told",
        "reminded",
        "told before",
        "fallen from effects",
        "no episode",
    ],
)
def test_it_tells_those_whom_it_had_disturbed_that_all_is_well(
    standard: Policy, facts: AccountFacts, owed: bool
) -> None:
    """Who had effects or was told of a stage hears of the end of it; nobody else does."""
    found = restored_notice(facts, standard)
    assert (found is not None) is owed
    if found:
        assert (found.kind, found.stage, found.template) == (NoticeKind.RESTORED, None, "restored")


def test_it_speaks_of_an_uncovered_server_by_the_same_rules(standard: Policy) -> None:
    """The notice names the server, is sent anew after its exemption ended, and reminds weekly."""
    episode = EpisodeFact(started_at=T, admitted=Stage.PAST_DUE, admitted_at=T)
    facts = CoverageFacts(server_id=7, ended_at=T, seen_at=T, episode=episode)
    (first,) = due_coverage_notices(facts, standard, Stage.PAST_DUE, T)
    assert (first.kind, first.stage, first.server_ids, first.invoice_ids) == (
        NoticeKind.STAGE,
        Stage.PAST_DUE,
        (7,),
        (),
    )
    queued = NoticeFact(
        stage=Stage.PAST_DUE, template="any", sent_at=T, delivered_at=T, server_ids=frozenset({7})
    )
    told = replace(facts, notices=(queued,))
    assert not due_coverage_notices(told, standard, Stage.PAST_DUE, T + 7 * DAY - SECOND)
    assert next_notice_at(told, standard, Stage.PAST_DUE, T) == T + 7 * DAY
    (reminder,) = due_coverage_notices(told, standard, Stage.PAST_DUE, T + 7 * DAY)
    assert (reminder.kind, reminder.server_ids) == (NoticeKind.REMINDER, (7,))
    elsewhere = replace(facts, notices=(replace(queued, server_ids=frozenset({8})),))
    assert due_coverage_notices(elsewhere, standard, Stage.PAST_DUE, T + DAY)[0].kind is NoticeKind.STAGE
    exempt = OverrideFact(kind=OverrideKind.EXEMPT, server_id=7, placed_at=T, expires_at=T + 2 * DAY)
    (again,) = due_coverage_notices(replace(told, overrides=(exempt,)), standard, Stage.PAST_DUE, T + 2 * DAY)
    assert again.kind is NoticeKind.STAGE
    assert not due_coverage_notices(replace(facts, has_address=False), standard, Stage.PAST_DUE, T)
    assert restored_notice(told, standard) == NoticeDue(
        kind=NoticeKind.RESTORED, template="restored", server_ids=(7,), dedupe="restored"
    )
