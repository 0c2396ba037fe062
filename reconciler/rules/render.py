"""A plan as people and programs read it: text, JSON.

Pure. Owns the wording and the keys; the same plan always renders to the same text.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.rules.plan import Plan, Step
from reconciler.rules.terms import StepKind, StepState


@dataclass(frozen=True, kw_only=True)
class Names:
    """The external names that a rendered plan uses, and the money at stake by invoice."""

    accounts: Mapping[int, str]
    servers: Mapping[int, str]
    #: Invoice id to (minor units due, currency).
    dues: Mapping[int, tuple[int, str]]


def state_of(step: Step) -> StepState:
    """Return the state that a proposed step is shown with; drift is kept apart from changes."""
    if step.state is StepState.PLANNED and step.drift:
        return StepState.DRIFT
    return step.state


def content(plan: Plan, names: Names) -> dict[str, object]:
    """Return the plan as plain data: digest, summary, steps."""
    return {
        "digest": plan.digest,
        "at": plan.at.isoformat(),
        "mode": str(plan.mode),
        "summary": summary(plan, names),
        "steps": [_entry(step, names) for step in plan.steps],
    }


def summary(plan: Plan, names: Names) -> dict[str, object]:
    """Return the counts by kind, the accounts concerned, and the money that the steps are about, by currency."""
    counts = Counter(step.kind for step in plan.steps if step.held_back_by is None)
    money: dict[str, int] = defaultdict(int)
    for invoice_id in {invoice_id for step in plan.steps for invoice_id in step.invoice_ids}:
        if invoice_id in names.dues:
            minor, currency = names.dues[invoice_id]
            money[currency] += minor
    return {
        "advance": counts[StepKind.ADVANCE],
        "stop": counts[StepKind.STOP],
        "start": counts[StepKind.START],
        "lock_backups": counts[StepKind.LOCK_BACKUPS],
        "unlock_backups": counts[StepKind.UNLOCK_BACKUPS],
        "held_back": sum(step.held_back_by is not None for step in plan.steps),
        "drift": sum(state_of(step) is StepState.DRIFT for step in plan.steps),
        "accounts": len({step.account_id for step in plan.steps}),
        "money_at_stake": [{"minor": money[currency], "currency": currency} for currency in sorted(money)],
    }


def text(plan: Plan, names: Names) -> str:
    """Return the plan as lines: one a step, with its reason and, where it waits, why."""
    if not plan.steps:
        return f"Nothing to do (mode {plan.mode.lower()}).\n"
    number = f"{len(plan.steps)} step{'s' if len(plan.steps) > 1 else ''}"
    lines = [f"Plan {plan.digest[:12]} (mode {plan.mode.lower()}), {number}", ""]
    lines += [_line(step, names) for step in plan.steps]
    return "\n".join(lines) + "\n"


def command(step: Step, names: Names) -> str | None:
    """Return the one command with which an operator does the same by hand; a restriction has none."""
    actions = {StepKind.START: "start_guests", StepKind.UNLOCK_BACKUPS: "unlock_backups"}
    if step.kind not in actions or step.server_id is None:
        return None
    return f"abeyance action {actions[step.kind]} {names.servers.get(step.server_id, step.server_id)}"


def _entry(step: Step, names: Names) -> dict[str, object]:
    return {
        "kind": str(step.kind),
        "state": str(state_of(step)),
        "account_id": step.account_id,
        "account": names.accounts.get(step.account_id),
        "server_id": step.server_id,
        "server": names.servers.get(step.server_id) if step.server_id is not None else None,
        "site": step.site,
        "node": step.node,
        "to_stage": str(step.to_stage) if step.to_stage else None,
        "reason": step.reason,
        "invoice_ids": list(step.invoice_ids),
        "held_back_by": step.held_back_by,
        "held_back_reason": step.held_back_reason,
        "command": command(step, names),
    }


def _line(step: Step, names: Names) -> str:
    account = names.accounts.get(step.account_id, f"account {step.account_id}")
    server = names.servers.get(step.server_id, "") if step.server_id is not None else ""
    whom = f"{account}/{server}" if server else account
    what = f"{step.kind} to {step.to_stage}" if step.to_stage else str(step.kind)
    where = f" on {step.site}/{step.node}" if step.site else ""
    mark = {StepState.HELD_BACK: "·", StepState.DRIFT: "!"}.get(state_of(step), "+")
    line = f"{mark} {what} {whom}{where}: {step.reason}"
    if step.held_back_by:
        line += f"\n    waits ({step.held_back_by}): {step.held_back_reason}"
    return line
