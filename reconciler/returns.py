"""The letters that tell a customer that something is given back.

Owns which of them is due, in the transaction in which it comes back: at the end of an episode, at a fall to a milder
stage, and for single servers that staff or their price spares. Wording and sending are `billing.notices`'. Outside
`APPLY` they are sent where something comes back.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from billing import notices
from billing.models import Invoice
from billing.notice_content import Relief, ReliefReason
from billing.rules import notices as rules
from billing.rules.facts import OverrideFact
from billing.rules.notices import GIVEN_BACK, SERVER_GIVEN_BACK
from billing.rules.overrides import ends_at, strongest
from billing.rules.terms import Effect, HoldCause, OverrideKind, Stage
from reconciler import letters, relief, told_servers
from reconciler.hold_effects import effects_of
from reconciler.models import Hold, Server
from reconciler.rules.terms import Mode
from reconciler.subjects import Subject


async def at_the_end(subject: Subject, mode: Mode, *, account_restricts: bool, now: datetime) -> None:
    """Tell that it is over; outside `APPLY` only where servers come back, and nobody of a server that is gone."""
    due = rules.restored_notice(subject.facts, subject.policy)
    gone = subject.server is not None and subject.server.retired_at is not None
    silent = mode is not Mode.APPLY and not subject.effects_at(subject.admitted)
    if due is None or mode is Mode.OFF or gone or silent:
        return
    why, left = await relief.at_the_end(subject, now)
    servers = await told_servers.reached(subject, now)
    named = await told_servers.given_back(subject, servers, account_restricts=account_restricts, now=now)
    letter = await letters.about(subject, named, due.template, f"{_episode(subject)}:{due.dedupe}")
    # The good news tells what is given back: what the stage had taken.
    told = Relief(why=why, returned=letters.shown(subject.effects_at(subject.admitted), letter))
    await notices.queue(replace(letter, invoices=left, relief=told), now=now)


async def of_a_fall(
    subject: Subject, stage: Stage, mode: Mode, *, account_restricts: bool, now: datetime
) -> bool:
    """Tell what a milder stage gives back, with what stays and what comes next; return whether anybody was told.

    It is that stage's letter, too: who gets it gets no other. Outside `APPLY` it opens no further stage.
    """
    returned = subject.effects_at(subject.admitted) - subject.effects_at(stage)
    if stage.rank >= subject.admitted.rank or not returned or not subject.facts.has_address:
        return False
    why, until = relief.while_overdue(subject, now)
    servers = await told_servers.reached(subject, now)
    named = await told_servers.given_back(subject, servers, account_restricts=account_restricts, now=now)
    key = f"{_episode(subject)}:{GIVEN_BACK}:{now.isoformat()}"
    letter = letters.with_stage(await letters.about(subject, named, GIVEN_BACK, key), subject, stage, now)
    told = Relief(why=why, until=until, returned=letters.shown(returned, letter))
    if not told.returned:
        return False
    debt = subject.eligibility.debt
    owed = await Invoice.filter(id__in=list(debt.invoice_ids if debt else ())).order_by("overdue_at", "id")
    opens = stage if mode is Mode.APPLY and stage is not Stage.CURRENT else None
    await notices.queue(replace(letter, stage=opens, invoices=owed, relief=told), now=now)
    return True


async def of_spared_servers(subjects: Sequence[Subject], now: datetime) -> None:
    """Tell of single servers that come back, exempt or free of charge, while their account stays restricted."""
    account = subjects[0]
    own = {subject.server.id for subject in subjects if subject.server is not None}
    lifted = Hold.filter(
        server__account_id=account.account.id,
        cause=HoldCause.BILLING,
        lifted_at=now,
    )
    held = {hold.server_id: hold for hold in await lifted.order_by("id") if hold.server_id not in own}
    if not held or not account.facts.has_address:
        return
    rows = await Server.filter(id__in=list(held)).order_by("id")
    free = [row for row in rows if row.free]
    exempt = [row for row in rows if not row.free and _exemption(account, row, now)]
    for servers in (free, exempt):
        if servers:
            returned = frozenset[Effect]().union(*(effects_of(held[row.id]) for row in servers))
            await _spared(account, servers, returned, now=now)


async def _spared(
    account: Subject, servers: Sequence[Server], returned: frozenset[Effect], *, now: datetime
) -> None:
    named = await told_servers.given_back(account, servers, account_restricts=True, now=now)
    ids = "-".join(str(server.id) for server in servers)
    key = f"{_episode(account)}:{SERVER_GIVEN_BACK}:{ids}:{now.isoformat()}"
    letter = await letters.about(account, named, SERVER_GIVEN_BACK, key)
    told = Relief(why=ReliefReason.FREE, returned=returned)
    if not servers[0].free:
        told = Relief(why=ReliefReason.EXEMPT, until=_exempt_until(account, servers, now), returned=returned)
    await notices.queue(replace(letter, relief=told), now=now)


def _exempt_until(account: Subject, servers: Sequence[Server], now: datetime) -> datetime | None:
    """Return until when all of these are exempt, at least."""
    found = [_exemption(account, server, now) for server in servers]
    return min((end for one in found if one and (end := ends_at(one))), default=None)


def _exemption(account: Subject, server: Server, now: datetime) -> OverrideFact | None:
    own = (one for one in account.overrides if one.server_id == server.id)
    return strongest(own, OverrideKind.EXEMPT, now)


def _episode(subject: Subject) -> str:
    return f"episode:{subject.episode.id if subject.episode else 'none'}"
