"""When too many become eligible at once nobody is restricted further, until two persons have looked at the plan."""

from dataclasses import replace
from datetime import timedelta

import pytest

from billing.accounts import note_fact
from billing.approvals import Voter
from billing.models import Account, AuditEntry, Episode, Invoice, Notice, WorkItem
from billing.refusal import RefusalCode, RefusalError
from billing.rules.approvals import ApprovalState, SecondPerson
from billing.rules.policy import GuardPolicy, Limit
from billing.rules.terms import NoticeState, OverrideKind, Stage
from reconciler import breaker, pause
from reconciler.guard_models import BreakerCover
from reconciler.models import PlanSnapshot, ReconcilerState
from reconciler.rules.terms import StepKind

ANNA, BEN = (Voter(actor=f"admin:{name}", person=name) for name in ("anna", "ben"))
DAY = timedelta(days=1)
#: One account a pass: four at once are more than three times the limit.
ONE = GuardPolicy(max_new_per_pass=Limit(count=1, percent=0), max_new_per_day=Limit(count=90, percent=0))


@pytest.fixture
def crowd(lite, debtor):
    """Makes so many debtors, brings them to their last hour before the final notice, and returns the stand."""
    lite.policies["standard"] = replace(lite.policies["standard"], guard=ONE)

    async def make(count, *, hours=72):
        for _ in range(count):
            await debtor()
        await lite.settle()
        lite.clock.advance(timedelta(hours=hours))
        return lite

    return make


async def vote(stand, voter, digest=None, rule=None):
    return await breaker.vote(
        digest or stand.last.plan.digest,
        voter,
        reason="a month's end",
        rule=rule or SecondPerson(),
        now=stand.clock.now(),
    )


async def release(stand):
    digest = stand.last.plan.digest
    await vote(stand, ANNA, digest)
    return await vote(stand, BEN, digest)


async def is_open():
    return (await ReconcilerState.get(id=1)).breaker_open_at is not None


async def at(stage):
    return await Episode.filter(ended_at=None, admitted=stage).count()


def held(stand):
    return [step.held_back_by for step in stand.last.plan.steps if step.kind is StepKind.ADVANCE]


async def test_opens_when_more_than_three_times_the_limit_become_eligible(crowd):
    """Nobody climbs, staff are told once, and it stays open though nobody new comes."""
    stand = await crowd(4)

    await stand.settle()
    stand.clock.advance(2 * DAY)
    await stand.settle()

    assert await is_open()
    assert held(stand) == ["BREAKER"] * 4
    assert await at(Stage.PAST_DUE) == 4
    assert await Notice.filter(channel="staff").count() == 1
    assert (await WorkItem.get(kind="breaker")).state == "OPEN"
    assert (await AuditEntry.get(kind="breaker.opened")).reason.startswith("4 accounts became eligible")


async def test_stays_closed_at_three_times_the_limit(crowd):
    """They go one a pass, as the limit says."""
    stand = await crowd(3)

    await stand.settle()

    assert not await is_open()
    assert await at(Stage.FINAL_NOTICE) == 3


async def one_by_one(lite, crowd, debtor):
    """Let four debts begin ten minutes apart, and each come to its final notice in a pass of its own."""
    await crowd(0)
    for _ in range(4):
        await debtor()
        await lite.settle()
        lite.clock.advance(timedelta(minutes=10))
    lite.clock.advance(timedelta(hours=72) - timedelta(minutes=40))
    for _ in range(4):
        await lite.settle()
        lite.clock.advance(timedelta(minutes=10))


async def test_opens_for_a_crowd_that_comes_one_by_one(lite, crowd, debtor):
    """Each debt has its own minute and its own pass; within an hour they are a crowd all the same."""
    await one_by_one(lite, crowd, debtor)

    assert await is_open()
    assert await at(Stage.FINAL_NOTICE) == 3


async def test_does_not_take_a_queue_for_a_crowd(lite, crowd, debtor):
    """Who gathered over days behind a pause has been seen before, and goes on within the limit."""
    await crowd(0)
    for _ in range(4):
        await debtor()
        await lite.settle()
        lite.clock.advance(timedelta(hours=2))
    await pause.pause(reason="r", actor="admin:anna", now=lite.clock.now())
    lite.clock.advance(timedelta(hours=64))
    for _ in range(6):
        await lite.settle()
        lite.clock.advance(timedelta(hours=2))
    assert await at(Stage.FINAL_NOTICE) == 0
    await pause.resume(reason="r", actor="admin:anna", now=lite.clock.now())

    await lite.settle()

    assert not await is_open()
    assert await at(Stage.FINAL_NOTICE) == 4


@pytest.mark.parametrize("paused", [False, True])
async def test_counts_anew_who_fell_or_was_held_by_the_ladder_again(crowd, factory, paused):
    """What was seen before is no excuse after it, whether the stage was reached or only waited for."""
    stand = await crowd(1)
    if paused:
        await pause.pause(reason="r", actor="admin:anna", now=stand.clock.now())
    await stand.settle()
    assert (await Episode.get()).awaits is Stage.FINAL_NOTICE
    account = await Account.get()
    now = stand.clock.now()
    await factory.override(account, kind=OverrideKind.EXTEND_GRACE, expires_at=now + DAY)
    await note_fact(account.id, now=now)

    await stand.settle()

    assert (await Episode.get()).awaits_since is None


async def test_forgets_what_was_awaited_at_a_stage_that_adds_nothing(lite, delinquent):
    """Else it would look as if it still waited for a stage that it has left behind."""
    account, _, _ = await delinquent()
    now = lite.clock.now()
    await Episode.filter(account_id=account.id).update(awaits=Stage.SUSPENDED, awaits_since=now)
    lite.clock.advance(40 * DAY)

    await lite.settle()

    episode = await Episode.get(account_id=account.id)
    assert (episode.admitted, episode.awaits, episode.awaits_since) == (Stage.RETAINED, None, None)


async def test_two_persons_release_whom_the_plan_held_back(stand, debtor):
    """They climb one a pass, all of them, and the breaker does not open for them again."""
    stand.policies["standard"] = replace(stand.policies["standard"], guard=ONE)
    for _ in range(4):
        await debtor()
    await stand.settle()
    stand.clock.advance(timedelta(hours=72))
    await stand.settle()
    waiting = await vote(stand, ANNA)
    assert (waiting.state, await is_open()) == (ApprovalState.PENDING, True)

    given = await vote(stand, BEN, waiting.subject_id)
    assert (given.state, await is_open()) == (ApprovalState.GIVEN, False)
    await stand.turn()
    assert await at(Stage.FINAL_NOTICE) == 1
    await stand.settle()

    assert (await at(Stage.FINAL_NOTICE), await is_open()) == (4, False)
    assert (await WorkItem.get(kind="breaker")).state == "RESOLVED"


async def test_a_release_covers_nobody_who_came_later(crowd, debtor):
    """Newcomers count anew: a second crowd opens it again, and the released ones go on."""
    stand = await crowd(4)
    await stand.settle()
    digest = stand.last.plan.digest
    new = [await debtor() for _ in range(4)]
    for account, _, _ in new:
        await Account.filter(id=account.id).update(next_change_at=stand.clock.now())
    await stand.settle()
    stand.clock.advance(timedelta(hours=20))
    await vote(stand, ANNA, digest)
    await vote(stand, BEN, digest)
    stand.clock.advance(timedelta(hours=52))

    await stand.settle()

    assert await is_open()
    assert {step.account_id for step in stand.last.plan.steps if step.held_back_by == "BREAKER"} == {
        account.id for account, _, _ in new
    }
    released = await Episode.filter(ended_at=None).exclude(account_id__in=[one.id for one, _, _ in new])
    assert {episode.admitted for episode in released} == {Stage.FINAL_NOTICE}


async def test_a_release_counts_anew_whom_nobody_has_looked_at(crowd, debtor, factory):
    """Who gathered behind the open breaker after that plan is a crowd of its own, however long it has waited."""
    stand = await crowd(4)
    await stand.settle()
    digest = stand.last.plan.digest
    for account, _, _ in [await debtor() for _ in range(4)]:
        late = stand.clock.now() - timedelta(hours=73)
        episode = await Episode.create(
            account_id=account.id, started_at=late, admitted=Stage.PAST_DUE, admitted_at=late
        )
        invoice = await Invoice.get(account_id=account.id)
        await Invoice.filter(id=invoice.id).update(overdue_at=late, overdue_seen_at=late)
        await factory.notice(
            account, episode_id=episode.id, invoice_ids=[invoice.id], created_at=late,
            state=NoticeState.DELIVERED, delivered_at=late,
        )  # fmt: skip
    await stand.settle()
    assert held(stand) == ["BREAKER"] * 8
    stand.clock.advance(timedelta(hours=3))
    await vote(stand, ANNA, digest)
    await vote(stand, BEN, digest)

    await stand.settle()

    assert await is_open()
    assert held(stand) == ["BREAKER"] * 4


async def test_a_release_settles_the_count_of_whom_it_let_through(lite, crowd, debtor):
    """Those who had passed before it opened were looked at too: one more account is no crowd."""
    await one_by_one(lite, crowd, debtor)
    assert (await at(Stage.FINAL_NOTICE), await is_open()) == (3, True)
    await release(lite)
    await lite.settle()
    assert await at(Stage.FINAL_NOTICE) == 4

    view = await lite.passes._survey.world([], lite.mode, lite.clock.now(), policies=lite.policies)
    sudden = (await breaker.read(view, lite.clock.now())).sudden

    assert not any(sudden.values())


async def test_a_release_covers_nobody_whom_another_brake_held_back(crowd):
    """In a plan of a paused time nobody could see whom the breaker would hold."""
    stand = await crowd(4)
    await stand.settle()
    await pause.pause(reason="r", actor="admin:anna", now=stand.clock.now())
    await stand.turn()
    assert held(stand) == ["PAUSED"] * 4

    await release(stand)

    assert await BreakerCover.all().count() == 0


async def test_a_release_covers_no_other_reason(crowd, factory):
    """Whose debt was paid and replaced by another one waits again while the breaker is open."""
    stand = await crowd(4)
    await stand.settle()
    await release(stand)
    account = await Account.all().order_by("id").first()
    old = await Invoice.get(account_id=account.id)
    await factory.invoice(account, overdue_at=stand.clock.now() - 4 * DAY)
    await stand.pay(old)
    await breaker.trip("again", stand.clock.now())

    await stand.settle()
    stand.clock.advance(4 * DAY)
    await stand.settle()

    stages = {row.account_id: row.admitted for row in await Episode.filter(ended_at=None)}
    assert stages.pop(account.id) is Stage.PAST_DUE
    assert set(stages.values()) == {Stage.SUSPENDED}


@pytest.mark.parametrize(("later", "code"), [(7 * DAY - timedelta(seconds=1), None), (7 * DAY, "BREAKER")])
async def test_a_release_lasts_seven_days(crowd, later, code):
    """To the second; then an open breaker holds them back like everybody else."""
    stand = await crowd(4)
    await stand.settle()
    await release(stand)
    await pause.pause(reason="r", actor="admin:anna", now=stand.clock.now())
    await stand.settle()
    await breaker.trip("again", stand.clock.now())
    stand.clock.advance(later)
    await pause.resume(reason="r", actor="admin:anna", now=stand.clock.now())

    await stand.turn()

    assert (held(stand)[0] if code else None) == code
    assert await at(Stage.FINAL_NOTICE) == (0 if code else 1)


async def test_refuses_a_plan_that_is_stale_or_unknown(crowd):
    """Older than a day and followed by others; or none at all. A closed breaker waits for nothing."""
    stand = await crowd(4)
    with pytest.raises(RefusalError) as refused:
        await vote(stand, ANNA)
    assert refused.value.problems[0].code is RefusalCode.CONFLICT
    await stand.settle()
    digest = stand.last.plan.digest
    for unknown in ("0" * 64, "0" * 12):
        with pytest.raises(RefusalError) as refused:
            await vote(stand, ANNA, unknown)
        assert refused.value.problems[0].code is RefusalCode.STALE_PLAN
    stand.clock.advance(2 * DAY)
    await vote(stand, ANNA, digest)  # nothing has changed since: it still is the plan
    await note_fact((await Account.first()).id, now=stand.clock.now())
    await stand.settle()
    assert stand.last.plan.digest != digest

    with pytest.raises(RefusalError) as refused:
        await vote(stand, BEN, digest)

    assert refused.value.problems[0].code is RefusalCode.STALE_PLAN
    assert await is_open()


async def test_takes_the_beginning_of_a_digest_as_its_plan_shows_it(crowd):
    """Both votes are about the whole one, also when only a vote still knows the plan."""
    stand = await crowd(4)
    await stand.settle()
    digest = stand.last.plan.digest
    shown = (await PlanSnapshot.get(digest=digest)).text.split()[1]

    waiting = await vote(stand, ANNA, f" {shown.upper()} ")
    assert (shown, waiting.subject_id) == (digest[:12], digest)
    await PlanSnapshot.all().delete()
    given = await vote(stand, BEN, shown[:8])

    assert (given.id, given.state, await is_open()) == (waiting.id, ApprovalState.GIVEN, False)
    assert await BreakerCover.all().count() == 4


@pytest.mark.parametrize(
    ("others", "given"),
    [(1, 12), (0, 7), (0, 0)],
    ids=["of two plans", "too short", "no digest"],
)
async def test_takes_no_beginning_that_could_be_another_plans(crowd, others, given):
    """Nobody releases a plan that was not looked at; the whole digest still names one."""
    stand = await crowd(4)
    await stand.settle()
    digest = stand.last.plan.digest
    kept = await PlanSnapshot.get(digest=digest)
    for _ in range(others):
        other = digest[:12] + digest[12:].translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
        values = {"at": kept.at, "mode": kept.mode, "content": kept.content, "text": kept.text}
        await PlanSnapshot.create(digest=other, **values)

    with pytest.raises(RefusalError) as refused:
        await vote(stand, ANNA, digest[:given] or "%" * 12)

    assert [(one.code, one.path) for one in refused.value.problems] == [
        (RefusalCode.INVALID, ("planDigest",))
    ]
    assert (await vote(stand, ANNA, digest)).subject_id == digest


async def test_lets_the_second_person_join_although_the_plan_is_no_longer_kept(crowd):
    """What was voted on is kept with the vote."""
    stand = await crowd(4)
    await stand.settle()
    digest = stand.last.plan.digest
    await vote(stand, ANNA, digest)
    await PlanSnapshot.all().delete()

    given = await vote(stand, BEN, digest)

    assert given.state is ApprovalState.GIVEN
    assert await BreakerCover.all().count() == 4


async def test_is_released_by_one_person_after_the_delay_where_that_is_the_rule(crowd):
    """The pass carries it out."""
    stand = await crowd(4)
    await stand.settle()
    rule = stand.passes.second_person = SecondPerson(wait=DAY)
    await vote(stand, ANNA, rule=rule)

    stand.clock.advance(DAY)
    await stand.settle()

    assert (await at(Stage.FINAL_NOTICE), await is_open()) == (4, False)


async def test_delays_neither_notices_nor_anything_that_is_given_back(crowd, delinquent, debtor, platform):
    """A first notice goes out, and a payment brings servers back, however open it is."""
    _, invoice, (server,) = await delinquent()
    stand = await crowd(0)
    assert platform.guests[server.guest].power == "stopped"
    await breaker.trip("too many", stand.clock.now())
    newcomer, _, _ = await debtor()

    await stand.pay(invoice)
    await stand.settle()

    assert platform.guests[server.guest].power == "running"
    assert (await Episode.get(account_id=newcomer.id)).admitted is Stage.PAST_DUE
    assert await is_open()
