"""Two persons, once each, on the same facts: whatever takes two takes two, on both databases and at the same moment."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from billing import approvals
from billing.approval_models import Approval, ApprovalVote
from billing.approvals import Ask, Voter
from billing.clock import ManualClock
from billing.models import Account, AuditEntry, Notice, WorkItem
from billing.refusal import RefusalCode, RefusalError, refusal
from billing.rules.approvals import ApprovalKind, ApprovalState, SecondPerson

ANNA, BEN, CARL = (Voter(actor=f"admin:{name}", person=name) for name in ("anna", "ben", "carl"))
DAY = timedelta(hours=24)


class Matter:
    """Something that takes two persons and can be done once."""

    def __init__(self, clock: ManualClock, account_id: int) -> None:
        self.clock, self.rule = clock, SecondPerson()
        self.ask = Ask(
            kind=ApprovalKind.SUSPEND_NOW,
            subject=("Account", account_id),
            account_id=account_id,
            what="do it",
            about={"episode": 1},
        )
        self.done: list[int] = []
        self.impossible = False

    async def examine(self) -> Ask:
        await Account.filter(id=self.ask.account_id).select_for_update(no_key=True).first()
        if self.done:
            raise refusal(RefusalCode.CONFLICT, "done already")
        return self.ask

    async def effect(self, approval: Approval) -> None:
        if self.impossible:
            raise refusal(RefusalCode.CONFLICT, "the debt is gone")
        self.done.append(approval.id)

    async def vote(self, voter: Voter, reason: str = "long overdue") -> Approval:
        return await approvals.vote(
            self.examine, self.effect, voter, reason=reason, rule=self.rule, now=self.clock.now()
        )

    async def code(self, voter: Voter, reason: str = "long overdue") -> RefusalCode:
        with pytest.raises(RefusalError) as refused:
            await self.vote(voter, reason)
        return refused.value.problems[0].code

    async def tick(self) -> None:
        """What the pass does."""
        await approvals.expire_due(self.clock.now())
        for one in await approvals.ripe(self.rule, self.clock.now()):
            await approvals.give_alone(one, self.effect, now=self.clock.now())


@pytest.fixture
async def matter(clock: ManualClock, factory: Any, request: pytest.FixtureRequest) -> Matter:
    """A matter of one account; the database is the test's own."""
    request.getfixturevalue(
        next(name for name in ("database", "sqlite_database") if name in request.fixturenames)
    )
    return Matter(clock, (await factory.account()).id)


async def _states() -> list[str]:
    return [str(one.state) for one in await Approval.all().order_by("id")]


@pytest.mark.usefixtures("database")
async def test_it_is_given_by_the_second_person(matter: Matter, clock: ManualClock) -> None:
    """The first vote asks, tells staff and does nothing; the second does it, once, with an audit row for each turn."""

    asked = await matter.vote(ANNA)
    assert (asked.state, matter.done) == (ApprovalState.PENDING, [])
    assert (await WorkItem.get(kind="approval")).state == "OPEN"
    assert "admin:anna asks to do it: long overdue" in (await Notice.get(channel="staff")).body

    given = await matter.vote(BEN)

    assert (given.id, given.state, matter.done) == (asked.id, ApprovalState.GIVEN, [asked.id])
    assert [row.person for row in await ApprovalVote.all().order_by("id")] == ["anna", "ben"]
    assert (await WorkItem.get(kind="approval")).state == "RESOLVED"
    kinds = [row.kind for row in await AuditEntry.all().order_by("id")]
    assert kinds == ["approval.requested", "approval.voted", "approval.voted", "approval.given"]


@pytest.mark.usefixtures("sqlite_database")
async def test_it_refuses_the_same_person_and_nobody(matter: Matter, clock: ManualClock) -> None:
    """Another token of the same person is the same person; a token without one counts for nobody."""
    await matter.vote(ANNA)

    assert await matter.code(replace(ANNA, actor="admin:another-token")) is RefusalCode.SAME_PERSON
    assert await matter.code(Voter(actor="admin:robot", person=None)) is RefusalCode.FORBIDDEN
    assert await matter.code(BEN, " ") is RefusalCode.REASON_REQUIRED
    assert (matter.done, await ApprovalVote.all().count()) == ([], 1)


@pytest.mark.usefixtures("database")
async def test_it_is_done_once_when_everybody_votes_at_the_same_moment(
    matter: Matter, clock: ManualClock
) -> None:
    """Of many votes at once, from two persons and more, one pair does it and the rest is refused."""
    voters = [ANNA, BEN, CARL, ANNA, BEN, CARL]

    answers = await asyncio.gather(*(matter.vote(voter) for voter in voters), return_exceptions=True)

    assert all(isinstance(answer, Approval | RefusalError) for answer in answers), answers
    for voter in (ANNA, BEN):
        if not matter.done:
            await asyncio.gather(matter.vote(voter), return_exceptions=True)
    assert len(matter.done) == 1
    assert (await _states()).count("GIVEN") == 1
    assert await ApprovalVote.filter(approval_id=matter.done[0]).count() == 2


@pytest.mark.usefixtures("sqlite_database")
async def test_it_begins_anew_when_the_facts_have_changed(matter: Matter, clock: ManualClock) -> None:
    """A vote on other facts joins nobody's."""
    await matter.vote(ANNA)
    matter.ask = replace(matter.ask, about={"episode": 2})

    again = await matter.vote(BEN)

    assert (again.state, matter.done, await _states()) == (ApprovalState.PENDING, [], ["VOID", "PENDING"])


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("swept", [False, True])
async def test_it_expires_after_thirty_days(matter: Matter, clock: ManualClock, *, swept: bool) -> None:
    """A vote that nobody joined in time does not help the next one, whether or not anybody swept."""
    asked = await matter.vote(ANNA)
    clock.advance(30 * DAY - timedelta(seconds=1))
    await matter.tick()
    assert await _states() == ["PENDING"]
    clock.advance(timedelta(seconds=1))
    assert approvals.shown_state(asked, clock.now()) is ApprovalState.EXPIRED

    if swept:
        await matter.tick()
    await matter.vote(BEN)

    assert (matter.done, await _states()) == ([], ["EXPIRED", "PENDING"])


@pytest.mark.usefixtures("sqlite_database")
async def test_it_is_withdrawn_by_one_person(matter: Matter, clock: ManualClock) -> None:
    """What waits ends; what was carried out does not, and is told so."""
    asked = await matter.vote(ANNA)

    withdrawn = await approvals.withdraw(asked.id, reason="paid by phone", actor="admin:ben", now=clock.now())
    assert withdrawn.state is ApprovalState.WITHDRAWN
    await matter.vote(BEN)
    given = await matter.vote(CARL)

    for approval_id, code in ((asked.id, "CONFLICT"), (given.id, "CONFLICT"), (99, "NOT_FOUND")):
        with pytest.raises(RefusalError) as refused:
            await approvals.withdraw(approval_id, reason="r", actor="admin:ben", now=clock.now())
        assert refused.value.problems[0].code == code


@pytest.mark.usefixtures("sqlite_database")
async def test_it_lets_one_person_decide_after_the_delay_where_that_is_the_rule(
    matter: Matter, clock: ManualClock
) -> None:
    """Staff are told when it will count; until then the person is told to wait, then it counts by itself."""
    matter.rule = SecondPerson(wait=DAY)
    await matter.vote(ANNA)
    assert "counts alone from 2026-11-21 09:00 UTC" in (await Notice.get(channel="staff")).body

    clock.advance(DAY - timedelta(seconds=1))
    await matter.tick()
    assert await matter.code(ANNA) is RefusalCode.SAME_PERSON
    clock.advance(timedelta(seconds=1))
    await matter.tick()

    assert (len(matter.done), await _states()) == (1, ["GIVEN"])
    await matter.tick()
    assert len(matter.done) == 1


@pytest.mark.usefixtures("sqlite_database")
async def test_it_takes_two_again_as_soon_as_the_rule_is_changed_back(
    matter: Matter, clock: ManualClock
) -> None:
    """A request under the old rule counts alone no more."""
    matter.rule = SecondPerson(wait=DAY)
    await matter.vote(ANNA)
    matter.rule = SecondPerson()
    clock.advance(9 * DAY)

    await matter.tick()

    assert (matter.done, await _states()) == ([], ["PENDING"])


@pytest.mark.usefixtures("sqlite_database")
async def test_it_is_void_when_it_cannot_be_done_any_more(matter: Matter, clock: ManualClock) -> None:
    """Nothing is half done, and it is not tried for ever."""
    matter.rule = SecondPerson(wait=DAY)
    await matter.vote(ANNA)
    matter.impossible = True
    clock.advance(DAY)

    await matter.tick()

    assert await _states() == ["VOID"]
    assert (await AuditEntry.get(kind="approval.void")).reason == "the debt is gone"


@pytest.mark.usefixtures("sqlite_database")
async def test_it_ends_with_its_ground(matter: Matter, clock: ManualClock) -> None:
    """Only approvals of the named kinds about that account."""
    await matter.vote(ANNA)

    assert not await approvals.void(
        matter.ask.account_id, {ApprovalKind.DECOMMISSION}, reason="paid", by="x", now=clock.now()
    )
    assert not await approvals.void(99, set(ApprovalKind), reason="paid", by="x", now=clock.now())
    assert await approvals.void(
        matter.ask.account_id, set(ApprovalKind), reason="paid", by="x", now=clock.now()
    )
    assert await _states() == ["VOID"]
