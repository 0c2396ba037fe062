"""A plan as people and programs read it: text, Markdown, JSON.

Pure. Owns the wording and the keys; the same plan always renders to the same text.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.rules.money import format_amount
from reconciler.rules.plan import Plan, Step
from reconciler.rules.terms import StepKind, StepState

#: So many names in one line, and the number of all others.
MOST_NAMES = 20


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
    money = _stakes(plan, names)
    return {
        "advance": counts[StepKind.ADVANCE],
        "stop": counts[StepKind.STOP],
        "start": counts[StepKind.START],
        "lock_backups": counts[StepKind.LOCK_BACKUPS],
        "unlock_backups": counts[StepKind.UNLOCK_BACKUPS],
        "held_back": sum(state_of(step) is StepState.HELD_BACK for step in plan.steps),
        "drift": sum(state_of(step) is StepState.DRIFT for step in plan.steps),
        "skipped": sum(step.state is StepState.SKIPPED for step in plan.steps),
        "accounts": len({step.account_id for step in _proposed(plan)}),
        "money_at_stake": [{"minor": money[currency], "currency": currency} for currency in sorted(money)],
    }


def _proposed(plan: Plan) -> list[Step]:
    """Return the steps without those that are listed only to say that a server is passed over."""
    return [step for step in plan.steps if step.state is not StepState.SKIPPED]


def _stakes(plan: Plan, names: Names) -> dict[str, int]:
    """Return what is owed by the invoices that the steps are about, each once, by currency."""
    money: dict[str, int] = defaultdict(int)
    for invoice_id in {invoice_id for step in plan.steps for invoice_id in step.invoice_ids}:
        if invoice_id in names.dues:
            minor, currency = names.dues[invoice_id]
            money[currency] += minor
    return money


def eased(names: Sequence[str]) -> str:
    """Return the line about who gets something back before the plan, by the next pass; nothing where nobody does."""
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (
        f"The next pass first gives back what no longer stands against {', '.join(names[:MOST_NAMES])}{more}: "
        "`abeyance serve` makes passes, `abeyance apply` makes one.\n"
    )


def text(plan: Plan, names: Names) -> str:
    """Return the plan as lines: a sum, then one a step with its reason; what drifted, waits or is skipped apart."""
    mode = f"(mode {plan.mode.lower()})"
    if not plan.steps:
        return f"Nothing to do {mode}.\n"
    head = f"Plan {plan.digest[:12]} {mode}, {_sum(plan, names)}"
    lines = [head if _proposed(plan) else f"Nothing to do {mode}.", ""]
    for place, (title, steps) in enumerate(_sections(plan)):
        lines += [*([""] if place and title else []), *([title] if title else [])]
        lines += [_line(step, names) for step in steps]
    return "\n".join(lines) + "\n"


def markdown(plan: Plan, names: Names) -> str:
    """Return the plan as Markdown, for a ticket or a chat: the sum, and a table for each of its parts."""
    lines = [f"## Plan `{plan.digest[:12]}`, mode {plan.mode.lower()}", ""]
    if not plan.steps:
        return "\n".join([*lines, "Nothing to do."]) + "\n"
    told = _sum(plan, names) if _proposed(plan) else "nothing to do"
    lines += [f"As of {_instant(plan.at)}: {told}.", ""]
    for title, steps in _sections(plan):
        waits = any(step.held_back_by for step in steps)
        why = "skipped because" if steps[0].state is StepState.SKIPPED else "waits for"
        head = ["step", "whom", "where", "why", *([why, "until"] if waits else [])]
        lines += [f"### {title or 'To be done'}", "", _row(head), _row("---" for _ in head)]
        lines += [_row(map(_cell, _cells(step, names, waits=waits))) for step in steps]
        lines.append("")
    return "\n".join(lines)


def _sections(plan: Plan) -> list[tuple[str, list[Step]]]:
    """Return what is to be done, what drifted, what waits and who is passed over, each under its title."""
    of: dict[StepState, list[Step]] = defaultdict(list)
    for step in plan.steps:
        of[state_of(step)].append(step)
    titles = {
        StepState.PLANNED: "",
        StepState.DRIFT: "Came undone without us:",
        StepState.HELD_BACK: "Held back:",
        StepState.SKIPPED: "Skipped:",
    }
    return [(title, of[state]) for state, title in titles.items() if of[state]]


def _sum(plan: Plan, names: Names) -> str:
    """Return what the plan comes to in one line, with the money that it is about."""
    told = summary(plan, names)
    kinds = Counter(step.kind for step in plan.steps if state_of(step) is StepState.PLANNED)
    parts = [f"{number} {kind.lower().replace('_', ' ')}" for kind, number in sorted(kinds.items())]
    parts += [f"{told['drift']} drifted"] if told["drift"] else []
    parts += [f"{told['held_back']} held back"] if told["held_back"] else []
    parts += [f"{told['skipped']} skipped"] if told["skipped"] else []
    steps = len(_proposed(plan))
    number = f"{steps} step{'s' if steps > 1 else ''}: {', '.join(parts)}"
    stakes = " and ".join(
        f"{format_amount(minor, currency)} {currency}"
        for currency, minor in sorted(_stakes(plan, names).items())
    )
    return f"{number}; at stake {stakes}" if stakes else number


def _cells(step: Step, names: Names, *, waits: bool) -> list[str]:
    cells = [_what(step), _whom(step, names), _where(step), step.reason]
    if waits:
        until = _instant(step.held_back_until) if step.held_back_until else ""
        cells += [f"{step.held_back_by}: {step.held_back_reason}", until]
    return cells


def _cell(text: str) -> str:
    """Return a text that stays within its cell, whatever a person wrote as a reason."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


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
        "held_back_until": step.held_back_until.isoformat() if step.held_back_until else None,
        "command": command(step, names),
    }


def _line(step: Step, names: Names) -> str:
    where = f" on {_where(step)}" if step.site else ""
    mark = {StepState.HELD_BACK: "·", StepState.SKIPPED: "-", StepState.DRIFT: "!"}.get(state_of(step), "+")
    line = f"{mark} {_what(step)} {_whom(step, names)}{where}: {step.reason}"
    if step.held_back_by:
        until = f" until {_instant(step.held_back_until)}" if step.held_back_until else ""
        what = "skipped" if step.state is StepState.SKIPPED else "waits"
        line += f"\n    {what} ({step.held_back_by}){until}: {step.held_back_reason}"
    return line


def _where(step: Step) -> str:
    """Return the site and the node; the site alone while no node is known."""
    return "/".join(part for part in (step.site, step.node) if part)


def _what(step: Step) -> str:
    return f"{step.kind} to {step.to_stage}" if step.to_stage else str(step.kind)


def _whom(step: Step, names: Names) -> str:
    account = names.accounts.get(step.account_id, f"account {step.account_id}")
    server = names.servers.get(step.server_id, "") if step.server_id is not None else ""
    return f"{account}/{server}" if server else account
