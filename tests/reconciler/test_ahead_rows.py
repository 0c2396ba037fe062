"""A forecast rests on the facts that the passes rest on."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from billing.models import Account, Episode, Subscription
from billing.rules.facts import AccountFacts
from billing.rules.terms import Effect, NoticeState, OverrideKind, Stage
from reconciler import ahead_rows, subjects
from reconciler.models import Observation, ReconcilerState, Server

DAY, HALF = timedelta(days=1), timedelta(hours=12)
AGE = timedelta(minutes=15)


async def population(factory: Any, now: Any) -> None:
    """Make accounts with everything that facts are made of, and some that owe nothing."""
    await ReconcilerState.filter(id=1).update(notices_void_before=now - 50 * DAY)
    for number in range(8):
        account = await factory.account(policy=["standard", "considerate", "gone"][number % 3])
        if number in (1, 2):
            await Account.filter(id=account.id).update(
                email=None,
                billing_emails=["a@example.org"] if number == 1 else [],
                notices_void_before=now - DAY,
            )
        if number == 7:
            continue
        first = await factory.invoice(account, overdue_at=now - (number - 3) * DAY, amount_paid=300)
        if number % 2:
            for ended in (None, now - HALF, now - 2 * DAY):
                await factory.dispute(first, opened_at=now - 3 * DAY, closed_at=ended)
        await factory.invoice(account, overdue_at=None)
        await factory.override(account, kind=OverrideKind.FREEZE, expires_at=now + 9 * DAY)
        for site in ("demo", "demo", "other"):
            server = await factory.server(account, site=site)
            await factory.observation(server, observed_at=now - (2 * AGE if number == 4 else AGE))
        await factory.server(account, retired_at=now - DAY)
        if number > 3:
            episode = await factory.episode(account, started_at=now - DAY, admitted=Stage.PAST_DUE)
            await Episode.filter(id=episode.id).update(
                awaits=Stage.FINAL_NOTICE,
                awaits_since=now - DAY,
                granted=[None, "", "LOCK_BACKUPS STOP_SERVERS"][number % 3],
                fell_silently=number % 2 == 0,
            )
            for state, arrived in ((NoticeState.DELIVERED, now), (NoticeState.FAILED, None)):
                await factory.notice(
                    account,
                    episode_id=episode.id,
                    stage=Stage.PAST_DUE,
                    state=state,
                    delivered_at=arrived,
                    invoice_ids=[first.id],
                )
    account = await factory.account()
    server = await factory.server(account)
    await Server.filter(id=server.id).update(stripe_subscription_id="sub_1")
    await Subscription.create(
        stripe_subscription_id="sub_1", account=account, status="canceled", ended_at=now - DAY, fetched_at=now
    )


@pytest.mark.usefixtures("database")
async def test_it_reads_the_facts_of_the_passes(factory: Any, clock: Any, policies: Any) -> None:
    """Account by account and server by server, with the ladder, the zone and the stage; nobody else is read."""
    now = clock.now()
    await population(factory, now)

    found = await ahead_rows.read(policies, max_age=AGE, now=now, until=now + 2 * DAY)

    every = [int(key) for (key,) in await Account.all().values_list("id")]
    passes = {
        (one.account.id, one.server.id if one.server else None): one
        for one in await subjects.load(every, policies, now)
    }
    late = await Observation.filter(observed_at__lt=now - AGE).values_list("server__account_id", flat=True)
    read = {(one.account_id, one.server_id): one for one in found}
    assert len(read) == len(found) == 7
    for key, one in read.items():
        same = passes[key]
        assert _staged(one.facts) == _staged(same.facts)
        assert (one.policy, one.time_zone, one.admitted) == (
            same.policy.name,
            same.account.time_zone,
            same.admitted,
        )
        assert one.granted == subjects.granted_by(same.episode)
        assert one.awaits is (same.episode.awaits if same.episode else None)
        # The server that climbs alone was never read.
        assert one.unread is (one.server_id is not None or one.account_id in late)
        assert one.account == same.account.external_id
        assert (one.servers, one.sites) == ((1, {"demo"}) if one.server_id else (3, {"demo", "other"}))
    assert {one.granted for one in found} == {
        None,
        frozenset(),
        frozenset(set(Effect) - {Effect.LOCK_ACCOUNT}),
    }
    left = [one for key, one in passes.items() if key not in read]
    assert all(one.facts.invoices == () or one.eligibility.debt is None for one in left)


def _staged(facts: Any) -> Any:
    """Return what a stage rests on: neither which servers a letter names nor which mail brought an invoice."""
    found = replace(facts, notices=tuple(replace(one, server_ids=frozenset()) for one in facts.notices))
    if isinstance(found, AccountFacts):
        found = replace(found, invoices=tuple(replace(one, announced_at=None) for one in found.invoices))
    return found
