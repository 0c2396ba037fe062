"""Gates: "may this customer do this now?" as the portal and the control plane ask it.

Owns how the question's facts are gathered, in bulk; the answer is `billing.rules.gates`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import strawberry

from api.graphql.context import Context
from api.graphql.nodes import GateAction, GateCode
from api.graphql.scalars import Money
from api.graphql.server_facts import ServerFacts
from api.graphql.subjects import account_among, account_subject, coverage_among
from api.graphql.words import words_about
from billing.rules import gates as rules
from billing.rules.gates import GateQuestion
from billing.rules.overrides import is_active
from billing.rules.terms import OverrideKind
from billing.words import Words
from reconciler.holds import as_gate_hold
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
    return rules.gate(GateQuestion(action=action, **_of_billing(subject, None, context.now)))


async def server_gates(context: Context, facts: ServerFacts, actions: Sequence[GateAction]) -> list[Gate]:
    """Return the gates of actions on one server."""
    return gates_of(context, facts, await context.subjects.load(facts.row.account_id), actions)


def gates_of(
    context: Context, facts: ServerFacts, subjects: Sequence[Subject], actions: Sequence[GateAction]
) -> list[Gate]:
    """Return the same, its account's subjects at hand. Servers of one situation have one answer, worked out once."""
    subject = account_among(subjects)
    server_id = facts.row.id
    decided = any(one.server_id == server_id for one in subject.overrides)
    coverage = coverage_among(subjects, server_id)
    # Of servers of one account, what they differ in; then whatever decides, which others may have in common.
    own = (
        facts.row.account_id,
        server_id if decided else None,
        tuple(map(as_gate_hold, facts.holds)),
        coverage.standing if coverage is not None else None,
        facts.is_gone,
        *actions,
    )
    known = context.gates.get(own)
    if known is None:
        words = words_about(context, subject.account)
        rest = _rest_of_question(facts, subjects, context.now)
        shared = (words, *rest.values(), *actions)
        known = context.gates.get(shared)
        if known is None:
            answers = _answers(tuple(actions), tuple(rest.items()))
            known = context.gates[shared] = [Gate.of(answer, context.now, words) for answer in answers]
        context.gates[own] = known
    return known


async def server_answers(
    context: Context, facts: ServerFacts, actions: Iterable[GateAction]
) -> list[rules.Gate]:
    """Return the answers of the rules for actions on one server."""
    rest = _rest_of_question(facts, await context.subjects.load(facts.row.account_id), context.now)
    return list(_answers(tuple(actions), tuple(rest.items())))


@lru_cache(maxsize=1024)
def _answers(actions: tuple[GateAction, ...], rest: tuple[tuple[str, Any], ...]) -> tuple[rules.Gate, ...]:
    """Return the answers of the rules. Nearly all customers are in one of a few situations, so most are known."""
    return tuple(rules.gate(GateQuestion(action=action, **dict(rest))) for action in actions)


def _rest_of_question(facts: ServerFacts, subjects: Sequence[Subject], now: datetime) -> dict[str, Any]:
    """Return what the gates of a server rest on, beside the action."""
    coverage = coverage_among(subjects, facts.row.id)
    return _of_billing(account_among(subjects), facts.row.id, now) | {
        "holds": tuple(map(as_gate_hold, facts.holds)),
        "coverage_stage": coverage.standing if coverage is not None else None,
        "gone": facts.is_gone,
    }


def _of_billing(subject: Subject, server_id: int | None, now: datetime) -> dict[str, Any]:
    """Return the part of a question that the account's standing, overrides and invoices answer."""
    decided = [one for one in subject.overrides if one.server_id in {None, server_id} and is_active(one, now)]
    opened = [one for one in decided if one.kind is OverrideKind.ALLOW_BACKUPS]
    ends = [one.expires_at for one in opened if one.expires_at is not None]
    stage = subject.standing
    return {
        "stage": stage,
        "effects": subject.effects_at(stage),
        "exempt": any(one.kind is OverrideKind.EXEMPT for one in decided),
        "allow_backups": bool(opened),
        "allow_backups_until": max(ends) if opened and len(ends) == len(opened) else None,
        "uncollected": subject.uncollected,
    }
