"""Why a server or an account is in its state: the evaluated rules as a tree, for the portal, support and terminals.

Owns how the story is gathered, in bulk, and what of it each reader may know; the words are the rules'.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import strawberry

from api.graphql.context import Context
from api.graphql.gates import server_answers
from api.graphql.invoices import invoice_by_key
from api.graphql.nodes import GateAction, Node
from api.graphql.overrides import show_overrides, word_for_word
from api.graphql.policies import in_order
from api.graphql.server_facts import ServerFacts
from api.graphql.standing import StageChange, next_of, since_of
from api.graphql.subjects import account_subject, coverage_subject
from api.graphql.words import words_about
from billing.rules import reasons as rules
from billing.rules.climb import NextStage
from billing.rules.reasons import Noun
from reconciler.hold_effects import effects_of
from reconciler.models import Step
from reconciler.rules import explain as tree
from reconciler.rules.explain import HoldTold, OverrideTold, ServerStory, StepTold, Waiting
from reconciler.rules.terms import StepKind, StepState
from reconciler.subjects import Subject


@strawberry.type
class Reason:
    """One rule that applies, in words, with those that it rests on."""

    rule: str
    text: str
    value: str | None
    since: datetime | None
    until: datetime | None = strawberry.field(
        description="When it ends or changes by itself; null when that is not known."
    )
    by: str | None
    ref: Node | None
    because: list[Reason]


async def explain(context: Context, facts: ServerFacts) -> list[Reason]:
    """Return every rule that applies to the server, the strongest first; one that says so when none does."""
    return await _show(context, facts.row.account_id, await server_reasons(context, facts))


async def explain_account(context: Context, account_id: int) -> list[Reason]:
    """Return why the account stands where it does, and what staff decided about it."""
    return await _show(context, account_id, await account_reasons(context, account_id))


async def server_reasons(context: Context, facts: ServerFacts) -> list[rules.Reason]:
    """Return the tree about a server, as this principal may know it."""
    account_id, key = facts.row.account_id, facts.row.id
    subject = await account_subject(context, account_id)
    coverage = await coverage_subject(context, account_id, key)
    waiting = await _waiting(context, account_id)
    debt = subject.eligibility.debt
    story = ServerStory(
        status=facts.status,
        free=facts.row.free,
        holds=tuple(_hold(context, hold) for hold in facts.holds),
        overrides=await _overrides(context, account_id, key),
        record=facts.record,
        restoring=facts.restoring,
        in_sync=facts.in_sync,
        power=facts.power,
        backups_locked=facts.backups_locked,
        observed_at=facts.observation.observed_at if facts.observation else None,
        marked_at=facts.observation.marked_at if facts.observation else None,
        step=_step(context, await context.machinery.steps.load(key)),
        waiting=tuple(one for of, one in waiting if of == key and one.kind is not StepKind.ADVANCE),
        gates=tuple(await server_answers(context, facts, GateAction)),
        account=_standing(context, subject, waiting),
        coverage=_standing(context, coverage, waiting) if coverage is not None else None,
        account_restricts=_restricts(subject),
        coverage_restricts=coverage is not None and _restricts(coverage),
        anchor=(Noun.INVOICE, debt.anchor_id) if debt is not None else None,
    )
    return tree.explain(story)


def _restricts(subject: Subject) -> bool:
    return bool(subject.effects_at(subject.standing))


async def account_reasons(context: Context, account_id: int) -> list[rules.Reason]:
    """Return the tree about an account, as this principal may know it."""
    subject = await account_subject(context, account_id)
    waiting = await _waiting(context, account_id)
    decided = await _overrides(context, account_id, None)
    return [_standing(context, subject, waiting), *(tree.override(one) for one in decided)]


def _standing(
    context: Context, subject: Subject, waiting: Sequence[tuple[int | None, Waiting]]
) -> rules.Reason:
    key = subject.server.id if subject.server else None
    following = next_of(context, subject)
    held: tuple[rules.Reason, ...] = ()
    if following is not None and following.waiting_for == "guard":
        held = tree.climbs_held_back(tuple(one for of, one in waiting if of == key))
    return rules.standing(
        rules.StandingQuestion(
            facts=subject.facts,
            policy=subject.policy,
            found=subject.eligibility,
            stage=subject.standing,
            since=since_of(context, subject),
            following=_with_dispute(subject, following),
            held_back=held,
        )
    )


def _with_dispute(subject: Subject, following: StageChange | None) -> NextStage | None:
    """Return the climb that follows, with the dispute that holds it back beside what it waits for."""
    if following is None:
        return None
    coming = subject.eligibility.next
    same = coming is not None and coming.stage is following.stage
    return NextStage(
        stage=following.stage,
        at=following.at,
        waiting_for=following.waiting_for,
        disputed_until=coming.disputed_until if coming is not None and same else None,
    )


def _hold(context: Context, hold: Any) -> HoldTold:
    return HoldTold(
        cause=hold.cause,
        effects=tuple(in_order(effects_of(hold))),
        reason=hold.reason if context.reads_about_servers else None,
        since=hold.since,
        by=context.actor(hold.placed_by),
        expires_at=hold.expires_at,
    )


async def _overrides(context: Context, account_id: int, server_id: int | None) -> tuple[OverrideTold, ...]:
    rows = await context.overrides.load(account_id)
    return tuple(
        OverrideTold(
            key=row.id,
            kind=row.kind,
            reason=word_for_word(context, row),
            by_customer=row.by_customer,
            since=row.placed_at,
            by=context.actor(row.placed_by),
            expires_at=row.expires_at,
        )
        for row in rows
        if row.server_id in {None, server_id}
    )


async def _waiting(context: Context, account_id: int) -> list[tuple[int | None, Waiting]]:
    """Return the held-back and skipped steps of the last plan, by server; of restrictions only staff hears."""
    told = [
        (
            row["server_id"],
            Waiting(
                kind=StepKind(row["kind"]),
                code=row["held_back_by"],
                reason=str(row["held_back_reason"]).rstrip(".") if context.reads_about_servers else None,
                until=datetime.fromisoformat(until) if (until := row.get("held_back_until")) else None,
                skipped=row["state"] == StepState.SKIPPED,
            ),
        )
        for row in await context.machinery.held_back.load(account_id)
    ]
    return [(server, one) for server, one in told if context.reads_about_servers or not one.kind.restricts]


def _step(context: Context, row: Step | None) -> StepTold | None:
    if row is None:
        return None
    message = row.message if context.reads_about_servers else ""
    return StepTold(kind=row.kind, state=row.state, since=row.dispatched_at, message=message)


async def _show(context: Context, account_id: int, reasons: Sequence[rules.Reason]) -> list[Reason]:
    words = words_about(context, (await account_subject(context, account_id)).account)
    return [
        Reason(
            rule=one.rule,
            text=" ".join(part if isinstance(part, str) else words.say(part) for part in one.said),
            value=one.value,
            since=one.since,
            until=one.until,
            by=one.by,
            ref=await _ref(context, account_id, one.ref),
            because=await _show(context, account_id, one.because),
        )
        for one in reasons
    ]


async def _ref(context: Context, account_id: int, ref: tuple[Noun, int] | None) -> Node | None:
    """Return what a reason leads to, for those who may see it."""
    if ref is None or not context.sees_money:
        return None
    noun, key = ref
    if noun is Noun.INVOICE:
        return await invoice_by_key(context, key)
    rows = [row for row in await context.overrides.load(account_id) if row.id == key]
    return next(iter(await show_overrides(context, rows)), None)
