"""Gates: "may this customer do this now?" as the portal and the control plane ask it.

Owns how the question's facts are gathered, in bulk; the answer is `billing.rules.gates`'.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import strawberry

from api.graphql.context import Context
from api.graphql.nodes import GateAction, GateCode
from api.graphql.scalars import Money
from api.graphql.server_facts import ServerFacts
from api.graphql.subjects import account_subject, coverage_subject
from api.graphql.words import words_about
from billing import models
from billing.rules import gates as rules
from billing.rules.gates import GateQuestion
from billing.rules.terms import OverrideKind
from billing.words import Words
from reconciler.holds import as_gate_hold
from reconciler.rules.terms import ServerStatus
from reconciler.subjects import Subject


@strawberry.type
class Gate:
    """The answer to "may this be done now?"; it may be kept for 30 seconds."""

    action: GateAction
    allowed: bool
    code: GateCode
    message: str
    remedy: str | None = strawberry.field(description="What the customer can do about it.")
    until: datetime | None
    checked_at: datetime
    missing: Money | None = strawberry.field(description="How much voucher balance is missing to deploy.")

    @classmethod
    def of(cls, answer: rules.Gate, now: datetime, words: Words) -> Gate:
        """Return an answer as it goes on the wire, in these words."""
        return cls(
            action=answer.action,
            allowed=answer.allowed,
            code=answer.code,
            message=words.say(answer.message),
            remedy=words.say(answer.remedy) if answer.remedy else None,
            until=answer.until,
            checked_at=now,
            missing=Money.of(answer.missing.minor, answer.missing.currency) if answer.missing else None,
        )


async def account_gate(context: Context, account_id: int, action: GateAction) -> Gate:
    """Return the gate of an action on an account."""
    words = words_about(context, (await account_subject(context, account_id)).account)
    return Gate.of(await account_answer(context, account_id, action), context.now, words)


async def account_answer(context: Context, account_id: int, action: GateAction) -> rules.Gate:
    """Return the answer of the rules for an action on an account; funds are left out."""
    subject = await account_subject(context, account_id)
    overrides = [row for row in await context.overrides.load(account_id) if row.server_id is None]
    question = replace(
        _of_billing(subject, overrides, action), uncollected=await context.uncollected.load(account_id)
    )
    return rules.gate(question)


async def server_gates(context: Context, facts: ServerFacts, actions: Iterable[GateAction]) -> list[Gate]:
    """Return the gates of actions on one server."""
    words = words_about(context, (await account_subject(context, facts.row.account_id)).account)
    return [Gate.of(answer, context.now, words) for answer in await server_answers(context, facts, actions)]


async def server_answers(
    context: Context, facts: ServerFacts, actions: Iterable[GateAction]
) -> list[rules.Gate]:
    """Return the answers of the rules for actions on one server."""
    row = facts.row
    subject = await account_subject(context, row.account_id)
    coverage = await coverage_subject(context, row.account_id, row.id)
    overrides = [
        override
        for override in await context.overrides.load(row.account_id)
        if override.server_id in {None, row.id}
    ]
    uncollected = await context.uncollected.load(row.account_id)
    question = replace(
        _of_billing(subject, overrides, GateAction.START),
        holds=tuple(as_gate_hold(hold) for hold in facts.holds),
        coverage_stage=coverage.standing if coverage is not None else None,
        gone=facts.status in {ServerStatus.DELETED, ServerStatus.MISSING},
        uncollected=uncollected,
    )
    return [rules.gate(replace(question, action=action)) for action in actions]


def _of_billing(subject: Subject, overrides: list[models.Override], action: GateAction) -> GateQuestion:
    """Return the part of the question that the account's standing and the overrides answer."""
    opened = [row for row in overrides if row.kind is OverrideKind.ALLOW_BACKUPS]
    ends = [row.expires_at for row in opened if row.expires_at is not None]
    return GateQuestion(
        action=action,
        stage=subject.standing,
        effects=subject.policy.effects_at(subject.standing),
        exempt=any(row.kind is OverrideKind.EXEMPT for row in overrides),
        allow_backups=bool(opened),
        allow_backups_until=max(ends) if opened and len(ends) == len(opened) else None,
    )
