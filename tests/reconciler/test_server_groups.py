"""A banner counts of servers what a letter says of each."""

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from billing.models import Episode, Override, Subscription
from billing.notice_request import Fate, HeldOn
from billing.rules.announced_servers import NO_SERVERS, AnnouncedServers
from billing.rules.terms import Stage
from reconciler import server_groups, subjects, told_servers
from reconciler.hold_effects import in_force
from reconciler.models import Hold, RestorePart, Server

DAY = timedelta(days=1)


async def counted(account, policies, clock):
    """Return what the banner counts, and the account with its uncovered servers."""
    own = await subjects.load([account.id], policies, clock.now())
    groups = await server_groups.read([account.id])
    return server_groups.counts(groups[account.id], own, clock.now()), own


async def every_fate(account, servers, factory, clock, known_off, uncover):
    """Let of each of ten held servers something else be so; returns how they are counted."""
    ran, found_off, switched_off, abuse, until, over, ended, ended_off, exempt, freed = servers
    await known_off("what we found", found_off, ran=ran)
    await known_off("its owner's switch", switched_off, ran=ran)
    await factory.hold(abuse, cause="ABUSE", stops_server=True)
    await factory.hold(abuse, cause="ADMIN", stops_server=True, expires_at=clock.now() - DAY)
    await factory.hold(until, cause="MAINTENANCE", stops_server=True, expires_at=clock.now() + DAY)
    await factory.hold(over, cause="ABUSE", stops_server=True, expires_at=clock.now())
    await factory.hold(over, cause="ADMIN", stops_server=True, lifted_at=clock.now(), lifted_by="anna")
    earlier = {"server_id": over.id, "site": over.site, "step_id": 1, "taken_at": clock.now() - DAY}
    await RestorePart.create(
        part="power", found="STOPPED", closed_at=clock.now(), closed_because="restored", **earlier
    )
    await uncover(ended)
    await uncover(ended_off)
    await factory.observation(ended_off, power="STOPPED")
    await factory.override(account, server_id=exempt.id)
    await factory.override(
        account, server_id=ran.id, placed_at=clock.now() - 60 * DAY, expires_at=clock.now() - 50 * DAY
    )
    await Server.filter(id=freed.id).update(free=True)
    await Hold.filter(server_id__in=[exempt.id, freed.id]).update(lifted_at=clock.now(), lifted_by="x")
    gone = await factory.server(account, retired_at=clock.now())
    await factory.hold(gone)
    await factory.server(account, missing_since=clock.now())
    await factory.server(account, joined_at=clock.now())
    return AnnouncedServers(
        there=12, untouched=4, reached=9, stopped=3, off=3, locked=8, kept=2, uncovered=2
    )  # ran, over, ended; the three that were off; abuse, until


async def test_it_counts_what_the_letter_of_the_stage_says(
    database, delinquent, factory, settle, policies, clock, known_off, uncover
):
    """Of every server as the letter does, on both databases; of nobody else's."""
    account, _, servers = await delinquent(10)
    await settle(account)
    await factory.hold(await factory.server())
    expected = await every_fate(account, servers, factory, clock, known_off, uncover)

    found, own = await counted(account, policies, clock)

    assert found == expected
    named = await told_servers.under_stage(own[0], account_restricts=True, now=clock.now())
    fates = Counter(one.fate for one in named if one.held_on is not HeldOn.KEPT)
    held_on = Counter(one.held_on for one in named)
    assert (fates[Fate.ALIKE], fates[Fate.OFF], fates[Fate.LATER]) == (found.stopped, found.off, 1)
    assert (held_on[HeldOn.KEPT], held_on[HeldOn.UNCOVERED]) == (found.kept, found.uncovered)
    assert len(named) == found.reached


async def test_it_counts_a_server_by_what_is_so_now(
    sqlite_database, delinquent, factory, settle, policies, clock
):
    """An exemption that was taken back and a subscription that goes on change nothing."""
    account, _, servers = await delinquent(2)
    await settle(account)
    await factory.override(account, server_id=servers[0].id)
    alike = AnnouncedServers(there=2, reached=2, stopped=2, locked=2)
    assert (await counted(account, policies, clock))[0] == replace(alike, reached=1, stopped=1, locked=1)
    await Override.all().update(revoked_at=clock.now(), revoked_by="anna")
    assert (await counted(account, policies, clock))[0] == alike


async def test_it_counts_of_an_account_in_good_standing_its_uncovered_servers(
    sqlite_database, factory, settle, policies, clock, uncover
):
    """What else is held there is no part of that announcement."""
    account = await factory.account()
    ran, off, covered, _, held = [await factory.server(account) for _ in range(5)]
    for server in (ran, off, covered):
        await uncover(server)
    await settle(account)
    await factory.observation(off, power="STOPPED")
    await factory.hold(held, cause="ABUSE", stops_server=True)
    await Subscription.filter(stripe_subscription_id=f"sub_{covered.id}").update(ended_at=None)

    found, _ = await counted(account, policies, clock)

    assert found == AnnouncedServers(there=5, untouched=1, reached=2, stopped=1, off=1, locked=2, uncovered=2)


async def test_it_counts_nothing_where_there_is_nothing(sqlite_database, debtor, policies, clock):
    """An account without servers."""
    account, _, _ = await debtor(0)
    assert (await counted(account, policies, clock))[0] == NO_SERVERS


async def some_fleet(chance, account, factory, clock):
    """Give an account up to eight servers, of each of which any mixture of things is so."""
    for _ in range(chance.randint(1, 8)):
        off, ours, theirs, late, alone, spared = (chance.random() < 0.3 for _ in range(6))
        joined = clock.now() - (timedelta(hours=1) if late else 90 * DAY)
        server = await factory.server(account, joined_at=joined)
        await factory.observation(server, power="STOPPED" if off else "RUNNING")
        if ours:
            await factory.hold(server, cause="CUSTOMER", stops_server=True, locks_backups=False)
        if theirs:
            cause = chance.choice(["ABUSE", "ADMIN", "MAINTENANCE"])
            ends = chance.choice([None, clock.now(), clock.now() + DAY])
            await factory.hold(server, cause=cause, stops_server=True, expires_at=ends)
        if alone:
            await factory.uncovered(server)
            stage = chance.choice([Stage.PAST_DUE, Stage.FINAL_NOTICE, Stage.SUSPENDED])
            await Episode.filter(server_id=server.id).update(admitted=stage)
            await Server.filter(id=server.id).update(joined_at=joined)
        if spared:
            odd = chance.choice(["free", "missing", "exempt"])
            if odd == "exempt":
                await factory.override(account, server_id=server.id)
            await Server.filter(id=server.id).update(
                free=odd == "free", missing_since=clock.now() if odd == "missing" else None
            )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stage", [Stage.PAST_DUE, Stage.SUSPENDED])
async def test_it_counts_of_any_fleet_what_holds_and_letters_say(
    database, delinquent, factory, settle, policies, clock, seed, stage
):
    """After a pass, stopped and locked is what a billing hold stops and locks, and each counts as its letter tells."""
    account, _, [first] = await delinquent()
    await Server.filter(id=first.id).update(retired_at=clock.now())
    await Episode.all().update(admitted=stage)
    await some_fleet(random.Random(seed), account, factory, clock)
    await settle(account)

    found, own = await counted(account, policies, clock)

    held = await Hold.filter(in_force(clock.now()), server__account_id=account.id)
    billed = [hold for hold in held if hold.cause == "BILLING"]
    theirs = {hold.server_id for hold in held if hold.cause not in ("BILLING", "CUSTOMER")}
    stopped = {hold.server_id for hold in billed if hold.stops_server}
    assert found.locked == len([hold for hold in billed if hold.locks_backups])
    assert found.stopped + found.off == len(stopped - theirs)
    live = await Server.filter(account_id=account.id, retired_at=None).values_list("id", flat=True)
    assert (found.there, found.untouched) == (len(live), len(set(live) - stopped - theirs))
    named = await told_servers.under_stage(
        own[0], account_restricts=stage is Stage.SUSPENDED, now=clock.now()
    )
    fates = Counter(one.fate for one in named if one.id in stopped - theirs)
    held_on = Counter(one.held_on for one in named)
    assert (fates[Fate.ALIKE], fates[Fate.OFF], fates[Fate.LATER]) == (found.stopped, found.off, 0)
    assert (held_on[HeldOn.KEPT], held_on[HeldOn.UNCOVERED]) == (found.kept, found.uncovered)
    later = {one.id for one in named if one.fate is Fate.LATER}
    assert len(named) == found.reached
    assert stage is not Stage.SUSPENDED or {one.id for one in named} - theirs - later == stopped - theirs
