"""A ladder that becomes shorter begins with a fresh notice, whether its file was changed or another one assigned."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from billing import accounts
from billing.accounts import AccountChange
from billing.models import Account, AuditEntry, Episode, Notice
from billing.refusal import RefusalCode, RefusalError
from billing.rules.terms import Effect, Stage
from reconciler import policy_changes
from reconciler.guard_models import LadderInForce
from reconciler.models import Admission, Hold

DAY = timedelta(days=1)


def with_after(policy, stage, after, **changes):
    """Return the policy with another age at one stage."""
    rungs = tuple(
        replace(rung, after=after, **changes) if rung.stage is stage else rung for rung in policy.stages
    )
    return replace(policy, stages=rungs)


@pytest.fixture
def gentle(lite):
    """A reconciler with another ladder, on which everything but the first notice comes later."""
    later = with_after(lite.policies["standard"], Stage.FINAL_NOTICE, timedelta(hours=100))
    lite.policies["gentle"] = replace(later, name="gentle")
    return lite


async def stage(account):
    return (await Episode.get(account_id=account.id, ended_at=None)).admitted


async def assign(stand, account, policy, reason="agreed"):
    return await accounts.assign_policy(
        account.id, policy, policies=stand.policies, reason=reason, actor="admin:anna", now=stand.clock.now()
    )


async def warnings():
    return await Notice.filter(channel="mail", stage=Stage.PAST_DUE).count()


async def test_warns_anew_when_the_file_became_shorter(stand, debtor):
    """The old warning opens no stage, the new one does after its full time."""
    account, _, _ = await debtor()
    await stand.settle()
    stand.clock.advance(timedelta(hours=71))
    await stand.settle()
    short = with_after(stand.policies["standard"], Stage.FINAL_NOTICE, timedelta(hours=50))
    stand.policies["standard"] = short

    await stand.settle()
    assert await stage(account) is Stage.PAST_DUE
    assert await warnings() == 2
    assert (await AuditEntry.get(kind="policy.shortened")).subject_id == "standard"
    stand.clock.advance(timedelta(hours=47))
    await stand.settle()
    assert await stage(account) is Stage.PAST_DUE
    stand.clock.advance(timedelta(hours=1))
    await stand.settle()
    assert await stage(account) is Stage.FINAL_NOTICE


async def test_does_not_warn_anew_when_the_file_became_longer(lite, debtor):
    """A longer wait needs no new word."""
    account, _, _ = await debtor()
    await lite.settle()
    longer = with_after(lite.policies["standard"], Stage.FINAL_NOTICE, timedelta(hours=80))
    lite.policies["standard"] = longer
    lite.clock.advance(timedelta(hours=80))

    await lite.settle()

    assert await stage(account) is Stage.FINAL_NOTICE
    assert await warnings() == 1
    assert not await AuditEntry.filter(kind="policy.shortened").exists()


async def test_admits_nobody_in_the_pass_that_sees_the_change(lite, debtor):
    """Who would climb by the new ladder on the old warning does not, not even once."""
    account, _, _ = await debtor()
    await lite.settle()
    lite.clock.advance(timedelta(hours=60))
    await lite.turn()
    lite.policies["standard"] = with_after(lite.policies["standard"], Stage.FINAL_NOTICE, timedelta(hours=50))
    await Account.filter(id=account.id).update(next_change_at=lite.clock.now())

    await lite.act()

    assert await stage(account) is Stage.PAST_DUE


@pytest.mark.usefixtures("sqlite_database")
async def test_leaves_accounts_of_other_policies_and_without_debt_alone(factory, policies, clock):
    """Only who walks the ladder that changed; who follows the standard one because its own is gone walks that."""
    named = {name: await factory.account(policy=name) for name in ("standard", "considerate", "gone")}
    idle = await factory.account()
    for account in named.values():
        await factory.episode(account)
    await policy_changes.follow(policies, clock.now())
    clock.advance(DAY)
    changed = {**policies, "standard": with_after(policies["standard"], Stage.SUSPENDED, timedelta(hours=73))}

    await policy_changes.follow(changed, clock.now())
    await policy_changes.follow(changed, clock.now() + DAY)

    void = {name: (await Account.get(id=one.id)).notices_void_before for name, one in named.items()}
    assert void == {"standard": clock.now(), "considerate": None, "gone": clock.now()}
    assert (await Account.get(id=idle.id)).notices_void_before is None
    assert await LadderInForce.all().count() == len(policies)


@pytest.mark.usefixtures("sqlite_database")
async def test_takes_a_policy_that_is_gone_for_a_change_to_the_standard_one(factory, policies, clock):
    """Its accounts walk the standard ladder from now on, which here is shorter."""
    account = await factory.account(policy="considerate")
    await factory.episode(account)
    await policy_changes.follow(policies, clock.now())

    await policy_changes.follow({"standard": policies["standard"]}, clock.now())

    assert (await Account.get(id=account.id)).notices_void_before == clock.now()
    assert await LadderInForce.all().values_list("name", flat=True) == ["standard"]


@pytest.mark.parametrize(("before", "after", "told"), [("gentle", "standard", 2), ("standard", "gentle", 1)])
async def test_warns_anew_who_is_assigned_a_shorter_ladder(gentle, debtor, before, after, told):
    """A longer one needs no new word."""
    account, _, _ = await debtor(policy=before)
    await gentle.settle()
    gentle.clock.advance(timedelta(hours=30))

    assigned = await assign(gentle, account, after)
    await gentle.settle()

    assert (assigned.policy, await warnings()) == (after, told)
    assert (await AuditEntry.get(kind="account.policy_assigned")).reason == "agreed"
    assert await stage(account) is Stage.PAST_DUE


async def test_warns_anew_whom_the_control_plane_gives_a_shorter_ladder(gentle, debtor):
    """Whichever door it comes through."""
    account, _, _ = await debtor(policy="gentle")
    await gentle.settle()
    gentle.clock.advance(timedelta(hours=30))
    change = AccountChange(
        external_id=account.external_id, name=account.name, currency="EUR", policy="standard"
    )

    await accounts.upsert(change, policies=gentle.policies, actor="control:panel", now=gentle.clock.now())
    await gentle.settle()

    assert await warnings() == 2


async def test_refuses_a_policy_or_an_account_that_is_not_there(gentle, factory):
    """With the field; the same policy again changes nothing."""
    account = await factory.account()
    for whom, policy, reason, code in (
        (account.id, "nice", "r", RefusalCode.INVALID),
        (99, "standard", "r", RefusalCode.NOT_FOUND),
        (account.id, "standard", " ", RefusalCode.REASON_REQUIRED),
    ):
        with pytest.raises(RefusalError) as refused:
            await accounts.assign_policy(
                whom, policy, policies=gentle.policies, reason=reason, actor="a", now=gentle.clock.now()
            )
        assert refused.value.problems[0].code is code
    await assign(gentle, account, "standard")
    assert not await AuditEntry.filter(kind="account.policy_assigned").exists()


@pytest.mark.usefixtures("sqlite_database")
async def test_writes_down_what_a_file_says_otherwise(policies, clock):
    """Only what differs, with what it was before; the first state that is ever seen is no change."""
    assert not await policy_changes.follow(policies, clock.now())
    kinder = replace(
        with_after(policies["standard"], Stage.FINAL_NOTICE, timedelta(hours=80)), tolerance={"EUR": 500}
    )

    changed = {**policies, "standard": kinder, "new": replace(kinder, name="new")}
    assert await policy_changes.follow(changed, clock.now())
    assert not await policy_changes.follow(changed, clock.now())
    await policy_changes.follow({**policies, "standard": kinder}, clock.now())

    told = await AuditEntry.filter(kind="policy.changed").get()
    assert told.subject_id == "standard"
    assert json.loads(told.before) == {
        "stages.final_notice.after": "3 days, 0:00:00", "tolerance.EUR": "100", "tolerance.USD": "100"
    }  # fmt: skip
    assert json.loads(told.after) == {"stages.final_notice.after": "3 days, 8:00:00", "tolerance.EUR": "500"}
    others = AuditEntry.filter(subject_id="new").order_by("id")
    assert await others.values_list("kind", flat=True) == ["policy.added", "policy.removed"]


async def test_a_kinder_policy_helps_at_once_whom_it_concerns(lite, debtor):
    """A debt that is within the new tolerance ends its episode in the next pass, not in the next day."""
    account, _, _ = await debtor()
    await lite.settle()
    assert await stage(account) is Stage.PAST_DUE
    lite.policies["standard"] = replace(lite.policies["standard"], tolerance={"EUR": 10**9})

    await lite.settle()

    assert not await Episode.filter(account_id=account.id, ended_at=None).exists()


async def test_a_pass_walks_one_ladder_from_its_first_step_to_its_last(lite, debtor, monkeypatch):
    """A file that changes meanwhile is for the next pass, which voids the old warnings first."""
    account, _, _ = await debtor()
    await lite.settle()
    lite.clock.advance(timedelta(hours=60))
    await Account.filter(id=account.id).update(next_change_at=lite.clock.now())
    short = with_after(lite.policies["standard"], Stage.FINAL_NOTICE, timedelta(hours=50))
    follow = policy_changes.follow

    async def followed(policies, now):
        found = await follow(policies, now)
        lite.policies["standard"] = short
        return found

    monkeypatch.setattr(policy_changes, "follow", followed)

    await lite.turn()

    assert await stage(account) is Stage.PAST_DUE


def with_effects(policy, stage, *added):
    """Return the policy with more at one stage."""
    rungs = tuple(
        replace(rung, effects=rung.effects | {*added}) if rung.stage is stage else rung
        for rung in policy.stages
    )
    return replace(policy, stages=rungs)


@pytest.mark.parametrize("by", ["file", "assignment"])
async def test_takes_nothing_behind_anybodys_back(lite, debtor, platform, by):
    """What a policy does more at a stage is not done to who stood there; the next climb does it, under the guard."""
    account, _, [server] = await debtor()
    await lite.settle()
    lite.clock.advance(timedelta(hours=72))
    await lite.settle()
    harsher = with_effects(lite.policies["standard"], Stage.FINAL_NOTICE, Effect.STOP_SERVERS)
    if by == "file":
        lite.policies["standard"] = harsher
    else:
        lite.policies["harsher"] = replace(harsher, name="harsher")
        await assign(lite, account, "harsher")

    await lite.settle()
    assert await stage(account) is Stage.FINAL_NOTICE
    assert not await Hold.filter(server_id=server.id, stops_server=True, lifted_at=None).exists()
    assert platform.guests[str(server.guest)].power == "running"
    lite.clock.advance(timedelta(hours=48))
    await lite.settle()

    assert await stage(account) is Stage.SUSPENDED
    assert (await Admission.filter(account_id=account.id).order_by("-id").first()).larger
    assert platform.guests[str(server.guest)].power == "stopped"


async def test_gives_back_at_once_what_a_policy_does_no_longer(lite, debtor, platform):
    """A kinder file needs no climb and no fall."""
    account, _, [server] = await debtor()
    for hours in (0, 72, 48):
        lite.clock.advance(timedelta(hours=hours))
        await lite.settle()
    assert platform.guests[str(server.guest)].power == "stopped"
    standard = lite.policies["standard"]
    kinder = tuple(replace(rung, effects=rung.effects - {Effect.STOP_SERVERS}) for rung in standard.stages)
    lite.policies["standard"] = replace(standard, stages=kinder)

    await lite.settle()

    assert await stage(account) is Stage.SUSPENDED
    assert platform.guests[str(server.guest)].power == "running"


async def test_takes_nothing_from_who_fell_because_it_was_once_taken(lite, debtor, factory, platform):
    """A stage that does more since does it to nobody who came down to it, whatever a higher one did before."""
    account, _, [server] = await debtor()
    for hours in (0, 72, 48):
        lite.clock.advance(timedelta(hours=hours))
        await lite.settle()
    await factory.override(account, kind="EXTEND_GRACE")
    await accounts.note_fact(account.id, now=lite.clock.now())
    await lite.settle()
    assert await stage(account) is Stage.PAST_DUE
    lite.policies["standard"] = with_effects(lite.policies["standard"], Stage.PAST_DUE, Effect.STOP_SERVERS)

    await lite.settle()

    assert await stage(account) is Stage.PAST_DUE
    assert platform.guests[str(server.guest)].power == "running"
