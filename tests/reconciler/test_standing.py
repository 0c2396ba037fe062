"""Standings are made durable in one transaction each, bound to the facts that they were decided from."""

from datetime import timedelta

import pytest

from billing.accounts import note_fact
from billing.models import Account, AuditEntry, Episode, Invoice, Notice, Subscription
from billing.rules.terms import InvoiceStatus, NoticeState, Stage
from reconciler import billing_holds, standing, subjects
from reconciler.models import Admission, Hold, Server
from reconciler.rules.terms import Mode


async def read(account, policies, clock):
    """Return the account's subjects as of now."""
    return await subjects.load([account.id], policies, clock.now())


async def settle(account, policies, clock, mode=Mode.APPLY):
    """Read and settle the account."""
    return await standing.settle(await read(account, policies, clock), mode=mode, now=clock.now())


async def episode_of(account):
    """Return the account's own episode, open or not."""
    return await Episode.get_or_none(account_id=account.id, server_id=None)


@pytest.mark.usefixtures("database")
async def test_begins_an_episode_silently(debtor, policies, clock):
    """An episode begins at `CURRENT`: nobody is told or held before the guard let it climb."""
    account, _, _ = await debtor()

    assert await settle(account, policies, clock)

    episode = await episode_of(account)
    assert (episode.admitted, episode.started_at, episode.ended_at) == (Stage.CURRENT, clock.now(), None)
    assert await Notice.all().count() == await Hold.all().count() == 0
    assert await AuditEntry.filter(kind="episode.began", account_id=account.id).count() == 1


@pytest.mark.usefixtures("database")
async def test_admits_one_stage_with_its_notice_and_audit_row(debtor, policies, clock):
    """A climb is one transaction: the stage, the admission, the notice, the audit row."""
    account, invoice, (server,) = await debtor()
    await settle(account, policies, clock)
    own = await read(account, policies, clock)

    assert await standing.admit(own[0], own, Stage.PAST_DUE, plan_digest="0" * 64, now=clock.now())

    assert (await episode_of(account)).admitted is Stage.PAST_DUE
    notice = await Notice.get()
    assert (notice.stage, notice.invoice_ids, notice.server_ids) == (
        Stage.PAST_DUE,
        [invoice.id],
        [server.id],
    )
    admission = await Admission.get()
    assert (admission.from_stage, admission.to_stage, admission.larger) == (
        Stage.CURRENT,
        Stage.PAST_DUE,
        False,
    )
    assert await AuditEntry.filter(kind="stage.admitted").count() == 1


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("back", [timedelta(seconds=1), timedelta(minutes=4), timedelta(days=900)])
async def test_undoes_nothing_when_the_clock_goes_back(delinquent, factory, policies, clock, back):
    """No fall, no hold lifted, no mail: not of an account, a server that joined late, or one that climbs alone."""
    account, _, (server,) = await delinquent()
    late, lone = await factory.server(account), await factory.server()
    await Server.filter(id=lone.id).update(stripe_subscription_id="sub_1")
    await Subscription.create(
        stripe_subscription_id="sub_1", account_id=lone.account_id, status="canceled",
        ended_at=clock.now(), fetched_at=clock.now(),
    )  # fmt: skip
    told = {"created_at": clock.now(), "delivered_at": clock.now(), "state": NoticeState.DELIVERED}
    own = await episode_of(account)
    await factory.notice(account, stage=Stage.SUSPENDED, episode_id=own.id, server_ids=[late.id], **told)
    begun = await factory.episode(
        await lone.account, server_id=lone.id, admitted=Stage.FINAL_NOTICE, started_at=clock.now(),
        admitted_at=clock.now() + timedelta(days=3),
    )  # fmt: skip
    for stage in (Stage.PAST_DUE, Stage.FINAL_NOTICE):
        await factory.notice(
            await lone.account, stage=stage, episode_id=begun.id, server_ids=[lone.id], **told
        )
    clock.advance(timedelta(days=3))
    owners = [account, await lone.account]
    for one in owners:
        await settle(one, policies, clock)
    assert {hold.server_id for hold in await Hold.filter(lifted_at=None)} == {server.id, late.id, lone.id}

    async def rows():
        return [await table.all().order_by("id").values() for table in (Episode, Hold, Notice, AuditEntry)]

    before, now = await rows(), clock.now() - back
    for one in owners:
        assert await standing.settle(await subjects.load([one.id], policies, now), mode=Mode.APPLY, now=now)

    assert await rows() == before


@pytest.mark.usefixtures("database")
async def test_admits_nobody_on_facts_that_have_moved(debtor, policies, clock):
    """A fact between reading and admitting: nothing happens, and the account stays due."""
    account, _, _ = await debtor()
    await settle(account, policies, clock)
    own = await read(account, policies, clock)
    await note_fact(account.id, now=clock.now())

    assert not await standing.admit(own[0], own, Stage.PAST_DUE, plan_digest="", now=clock.now())

    assert (await episode_of(account)).admitted is Stage.CURRENT
    assert await Admission.all().count() == await Notice.all().count() == 0
    assert (await Account.get(id=account.id)).next_change_at == clock.now()


@pytest.mark.usefixtures("database")
async def test_admits_nobody_twice(debtor, policies, clock):
    """Another pass that admitted meanwhile leaves nothing to do for this one."""
    account, _, _ = await debtor()
    await settle(account, policies, clock)
    own = await read(account, policies, clock)

    first = await standing.admit(own[0], own, Stage.PAST_DUE, plan_digest="", now=clock.now())
    second = await standing.admit(own[0], own, Stage.PAST_DUE, plan_digest="", now=clock.now())

    assert (first, second) == (True, False)
    assert await Admission.all().count() == await Notice.all().count() == 1


@pytest.mark.usefixtures("database")
async def test_admits_to_no_other_stage_than_the_eligible_one(debtor, policies, clock):
    """Whatever a plan says, one stage at a time."""
    account, _, _ = await debtor()
    await settle(account, policies, clock)
    own = await read(account, policies, clock)

    assert not await standing.admit(own[0], own, Stage.SUSPENDED, plan_digest="", now=clock.now())
    assert (await episode_of(account)).admitted is Stage.CURRENT


@pytest.mark.usefixtures("database")
async def test_settles_nothing_on_facts_that_have_moved(delinquent, policies, clock):
    """A payment between reading and settling: nothing of the old reading is written, and the account stays due."""
    account, invoice, (server,) = await delinquent()
    own = await read(account, policies, clock)
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)
    await note_fact(account.id, now=clock.now())

    assert not await standing.settle(own, mode=Mode.APPLY, now=clock.now())

    assert not await Hold.filter(server_id=server.id).exists()
    assert (await Account.get(id=account.id)).next_change_at == clock.now()


@pytest.mark.usefixtures("database")
async def test_settles_nothing_on_stages_that_another_pass_changed(delinquent, policies, clock):
    """A reading of a lower stage does not lift what another process placed meanwhile; the account stays due."""
    account, _, (server,) = await delinquent()
    episode = Episode.filter(account_id=account.id)
    await episode.update(admitted=Stage.FINAL_NOTICE)
    stale = await read(account, policies, clock)
    await episode.update(admitted=Stage.SUSPENDED)
    await settle(account, policies, clock)

    assert not await standing.settle(stale, mode=Mode.APPLY, now=clock.now())

    assert (await Hold.get(server_id=server.id)).stops_server
    assert (await Account.get(id=account.id)).next_change_at <= clock.now()


@pytest.mark.usefixtures("database")
async def test_begins_an_episode_once_for_two_readers(debtor, policies, clock):
    """Two passes that both saw no episode begin one."""
    account, _, _ = await debtor()
    first, second = [await read(account, policies, clock) for _ in range(2)]

    await standing.settle(first, mode=Mode.APPLY, now=clock.now())
    await standing.settle(second, mode=Mode.APPLY, now=clock.now())

    assert await Episode.all().count() == 1


@pytest.mark.usefixtures("database")
async def test_ends_the_episode_and_lifts_every_hold_with_the_payment(delinquent, policies, clock):
    """Falling needs nobody: the episode ends, the hold is lifted and the good news queued, at once."""
    account, invoice, (server,) = await delinquent()
    await settle(account, policies, clock)
    assert await Hold.filter(server_id=server.id, lifted_at=None).exists()
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)
    await note_fact(account.id, now=clock.now())

    await settle(account, policies, clock)

    assert (await episode_of(account)).ended_at == clock.now()
    assert not await Hold.filter(lifted_at=None).exists()
    assert await Notice.filter(template="restored").count() == 1
    assert await AuditEntry.filter(kind__in=["episode.ended", "hold.lifted"]).count() == 2


@pytest.mark.usefixtures("database")
async def test_falls_at_once_with_an_override(delinquent, factory, policies, clock):
    """More time to pay lowers the admitted stage in the same transaction, so nothing climbs back without the guard."""
    account, _, (server,) = await delinquent()
    await settle(account, policies, clock)
    await factory.override(account, kind="EXTEND_GRACE")
    await note_fact(account.id, now=clock.now())

    await settle(account, policies, clock)

    episode = await episode_of(account)
    assert (episode.admitted, episode.admitted_at, episode.ended_at) == (Stage.PAST_DUE, clock.now(), None)
    assert not await Hold.filter(server_id=server.id, lifted_at=None).exists()
    assert await AuditEntry.filter(kind="stage.fell").count() == 1


@pytest.mark.usefixtures("sqlite_database")
async def test_queues_each_notice_once(delinquent, policies, clock):
    """Settling again and again on the same facts tells nobody anything twice."""
    account, _, _ = await delinquent()
    for _ in range(3):
        await settle(account, policies, clock)

    assert await Notice.all().count() == 3


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize(("mode", "told"), [(Mode.APPLY, 1), (Mode.PLAN, 1), (Mode.OFF, 0)])
async def test_tells_that_servers_are_back_in_every_mode_but_off(delinquent, policies, clock, mode, told):
    """`PLAN` may tell of servers that come back; `OFF` does nothing at all."""
    account, invoice, _ = await delinquent()
    await settle(account, policies, clock)
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)
    await note_fact(account.id, now=clock.now())

    await settle(account, policies, clock, mode)

    assert await Notice.filter(template="restored").count() == told
    assert await Hold.filter(lifted_at=None).exists() is (mode is Mode.OFF)


@pytest.mark.usefixtures("sqlite_database")
async def test_tells_nobody_in_plan_of_the_end_of_a_debt_that_stopped_nothing(
    debtor, factory, policies, clock
):
    """Outside `APPLY` only servers that come back are worth a word."""
    account, invoice, _ = await debtor()
    episode = await factory.episode(account)
    await factory.notice(
        account, episode_id=episode.id, state=NoticeState.DELIVERED, delivered_at=clock.now()
    )
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)

    await settle(account, policies, clock, Mode.PLAN)

    assert (await episode_of(account)).ended_at == clock.now()
    assert not await Notice.filter(template="restored").exists()


@pytest.mark.usefixtures("sqlite_database")
@pytest.mark.parametrize("mode", [Mode.PLAN, Mode.OFF])
async def test_is_silent_and_places_nothing_outside_apply(delinquent, policies, clock, mode):
    """In `PLAN` the same facts place no hold and send no notice, whatever was admitted earlier."""
    account, _, _ = await delinquent()
    told = await Notice.all().count()
    await Episode.filter(account_id=account.id).update(admitted=Stage.PAST_DUE)
    clock.advance(timedelta(days=9))
    await settle(account, policies, clock, mode)
    await Episode.filter(account_id=account.id).update(admitted=Stage.SUSPENDED)
    await settle(account, policies, clock, mode)

    assert (await Notice.all().count(), await Hold.all().count()) == (told, 0)


@pytest.mark.usefixtures("sqlite_database")
async def test_looks_at_everybody_again_within_a_day(factory, policies, clock):
    """The rolling audit: even an account without a debt is derived anew within 24 h."""
    account = await factory.account(next_change_at=clock.now())

    await settle(account, policies, clock)

    assert (await Account.get(id=account.id)).next_change_at == clock.now() + timedelta(hours=24)


@pytest.mark.usefixtures("sqlite_database")
async def test_keeps_a_climb_that_waits_due(debtor, policies, clock):
    """Somebody whom the guard holds back is looked at in every pass."""
    account, _, _ = await debtor()
    await settle(account, policies, clock)

    await settle(account, policies, clock)

    assert (await Account.get(id=account.id)).next_change_at == clock.now()


@pytest.mark.usefixtures("database")
async def test_rolls_everything_back_when_a_part_of_it_fails(delinquent, policies, clock, monkeypatch):
    """No hold without its notice, no end of an episode without its lifted hold."""
    account, invoice, _ = await delinquent()
    await settle(account, policies, clock)
    await Invoice.filter(id=invoice.id).update(status=InvoiceStatus.PAID, amount_due=0)
    await note_fact(account.id, now=clock.now())

    async def breaks(*_, **__):
        raise RuntimeError("the database said no")

    monkeypatch.setattr(billing_holds, "_lift", breaks)
    with pytest.raises(RuntimeError):
        await settle(account, policies, clock)

    assert (await episode_of(account)).ended_at is None
    assert not await Notice.filter(template="restored").exists()
    assert (await Account.get(id=account.id)).next_change_at == clock.now()
