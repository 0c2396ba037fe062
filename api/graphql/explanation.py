"""Why a server is in its state: the evaluation of the rules in words, for the portal and for support.

Owns the sentences. Names no amounts: they are the invoices' to tell, to those who may read them.
"""

from __future__ import annotations

from datetime import datetime

import strawberry

from api.graphql.context import Context
from api.graphql.invoices import invoice_by_key
from api.graphql.nodes import HoldCause, Node, Power, ServerStatus
from api.graphql.overrides import show_overrides
from api.graphql.policies import in_order
from api.graphql.server_facts import ServerFacts
from api.graphql.subjects import account_subject
from reconciler.hold_effects import effects_of
from reconciler.models import Hold, Step
from reconciler.rules.terms import StepState


@strawberry.type
class Reason:
    """One rule that applies, in words."""

    rule: str
    text: str
    value: str | None = None
    since: datetime | None = None
    by: str | None = None
    ref: Node | None = None


_STATES = {
    ServerStatus.DELETED: "It has been retired; nothing is done to it any more.",
    ServerStatus.PROVISIONING: "It is still being set up.",
    ServerStatus.FAILED: "Setting it up failed.",
    ServerStatus.MISSING: "Its site was read completely and did not show it; nothing is done to it until it is back.",
}
_UNDONE_BY = {
    HoldCause.BILLING: "Paying the overdue invoices lifts it at once and brings the server back by itself.",
    HoldCause.CUSTOMER: "Its owner switched it off, and switches it on again.",
    HoldCause.ABUSE: "Staff lifts it once the matter is settled; a payment does not.",
    HoldCause.MAINTENANCE: "It ends with the maintenance; a payment does not lift it.",
    HoldCause.ADMIN: "Staff lifts it; a payment does not.",
}


async def explain(context: Context, facts: ServerFacts) -> list[Reason]:
    """Return every rule that applies to the server, the strongest first; one that says so when none does."""
    reasons = [Reason(rule="state", text=_STATES[facts.status])] if facts.status in _STATES else []
    reasons += [await _hold(context, facts, hold) for hold in facts.holds]
    reasons += await _overrides(context, facts)
    if facts.row.free:
        reasons.append(Reason(rule="free", text="It is free of charge and takes no billing hold."))
    reasons += _difference(facts)
    reasons += await _open_step(facts)
    return reasons or [
        Reason(rule="none", text="Nothing restricts it; whether it runs is its owner's business.")
    ]


async def _hold(context: Context, facts: ServerFacts, hold: Hold) -> Reason:
    ref = None
    if hold.cause is HoldCause.BILLING and context.sees_money:
        debt = (await account_subject(context, facts.row.account_id)).eligibility.debt
        ref = await invoice_by_key(context, debt.anchor_id) if debt is not None else None
    until = f" It ends by itself at {hold.expires_at.isoformat()}." if hold.expires_at else ""
    return Reason(
        rule=f"hold.{hold.cause.lower()}",
        text=f"{hold.reason.rstrip('.')}. {_UNDONE_BY[hold.cause]}{until}",
        value=" ".join(in_order(effects_of(hold))),
        since=hold.since,
        by=context.actor(hold.placed_by),
        ref=ref,
    )


async def _overrides(context: Context, facts: ServerFacts) -> list[Reason]:
    rows = await context.overrides.load(facts.row.account_id)
    mine = [row for row in rows if row.server_id in {None, facts.row.id}]
    return [
        Reason(
            rule=f"override.{shown.kind.lower()}",
            text=f"{shown.reason.rstrip('.')}."
            + (f" Until {shown.expires_at.isoformat()}." if shown.expires_at else ""),
            since=shown.placed_at,
            by=shown.placed_by,
            ref=shown,
        )
        for shown in await show_overrides(context, mine)
    ]


def _difference(facts: ServerFacts) -> list[Reason]:
    """Say where what was read differs from what is asked for."""
    at = facts.observation.observed_at if facts.observation else None
    if facts.restoring:
        return [Reason(rule="restoring", text="What was taken from it is being given back.", since=at)]
    if facts.desired.stop and facts.power is not Power.STOPPED and not facts.in_sync:
        text = "It is to be stopped; it was last read differently."
        return [Reason(rule="not_in_sync.power", text=text, value=facts.power.value, since=at)]
    if facts.desired.lock_backups and facts.backups_locked is not True and not facts.in_sync:
        return [
            Reason(rule="not_in_sync.backups", text="Its backups are to be locked and are not yet.", since=at)
        ]
    if not facts.desired.stop and facts.power is Power.STOPPED:
        return [Reason(rule="off", text="It is off although nothing of ours asks for it.", since=at)]
    return []


async def _open_step(facts: ServerFacts) -> list[Reason]:
    step = await Step.get_or_none(server_id=facts.row.id, state__in=(StepState.DISPATCHED, StepState.UNKNOWN))
    if step is None:
        return []
    text = {
        StepState.DISPATCHED: "A change is under way.",
        StepState.UNKNOWN: "How a change ended is not known; it is read again before anything else happens.",
    }[step.state]
    return [Reason(rule="step", text=text, value=step.kind.value, since=step.dispatched_at)]
