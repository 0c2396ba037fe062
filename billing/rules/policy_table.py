"""A policy as a table for people: each stage, when it comes, what the customer sees, what is closed and what is open.

Pure. Owns the words alone: what is closed is asked of the gates, what is shown of the announcements, so that the table
cannot say anything else than the product does.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from billing.rules.announced_servers import AnnouncedServers
from billing.rules.announcements import AnnouncedStanding, announcement
from billing.rules.gates import GateHold, GateQuestion, gate
from billing.rules.policy import Policy, StagePolicy
from billing.rules.terms import Effect, GateAction, HoldCause, Stage
from billing.rules.words import english

_ACTIONS = {
    GateAction.START: "starting",
    GateAction.RESTART: "restarting",
    GateAction.STOP: "stopping",
    GateAction.DEPLOY: "new servers",
    GateAction.RESIZE: "resizing",
    GateAction.REINSTALL: "reinstalling",
    GateAction.DELETE_SERVER: "deleting servers",
    GateAction.EDIT_ACCOUNT: "changing the account",
    GateAction.REPAIR: "automatic repairs",
    GateAction.CREATE_BACKUP: "making backups",
    GateAction.RESTORE_BACKUP: "restoring backups",
    GateAction.DELETE_BACKUP: "deleting backups",
    GateAction.PRUNE_BACKUP: "pruning backups",
    GateAction.EXPORT_BACKUP: "exporting backups",
    GateAction.READ_FILES: "reading files",
    GateAction.WRITE_FILES: "writing files",
}
_BACKUPS = frozenset(action for action in _ACTIONS if action.endswith("_BACKUP"))
_HEAD = ("stage", "when", "what the customer sees", "what is closed", "what stays open")
_ANY = datetime(2026, 1, 1, tzinfo=UTC)


def table(policy: Policy) -> str:
    """Return the policy's ladder as a Markdown table, one row a stage; paying is open at every one of them."""
    rows = [_HEAD, tuple("---" for _ in _HEAD)]
    closed: list[GateAction] = []
    effects: frozenset[Effect] = frozenset()
    for rung in policy.stages:
        now_closed = [action for action in _ACTIONS if not _is_open(action, rung)]
        rows.append(
            (
                f"`{rung.stage}`",
                _when(rung),
                _seen(rung),
                _closed(now_closed, closed, rung.effects - effects),
                f"paying, {_named(action for action in _ACTIONS if action not in now_closed)}",
            )
        )
        closed, effects = now_closed, rung.effects
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _is_open(action: GateAction, rung: StagePolicy) -> bool:
    holds = (GateHold(cause=HoldCause.BILLING, effects=rung.effects),) if rung.effects else ()
    return gate(GateQuestion(action=action, stage=rung.stage, effects=rung.effects, holds=holds)).allowed


def _when(rung: StagePolicy) -> str:
    if not rung.after:
        return "at once when an invoice is overdue"
    told = (
        f"; the notice before was delivered at least {_span(rung.min_notice)} ago" if rung.min_notice else ""
    )
    return f"{_span(rung.after)} overdue{told}"


def _seen(rung: StagePolicy) -> str:
    standing = AnnouncedStanding(
        stage=rung.stage, since=_ANY, effects=rung.effects, servers=AnnouncedServers(there=2)
    )
    said = announcement(standing, _ANY)
    again = f", again every {_span(rung.remind_every)}" if rung.remind_every else ""
    banner = f"banner “{english(said.title)}”; " if said else ""
    review = (
        f"; {_span(rung.approve_after)} after its delivery two persons may approve decommissioning by hand"
        if rung.stage is Stage.DECOMMISSION_REVIEW and rung.approve_after
        else ""
    )
    return f"{banner}mail `{rung.notice}`{again}{review}"


def _closed(now: Iterable[GateAction], before: Iterable[GateAction], effects: frozenset[Effect]) -> str:
    """Return what a stage closes beside the one before it."""
    stopped = "servers are stopped; " if Effect.STOP_SERVERS in effects else ""
    added = _named(action for action in now if action not in before)
    return f"{stopped}{'also ' if before else ''}{added}" if added else stopped.rstrip("; ") or "as before"


def _named(actions: Iterable[GateAction]) -> str:
    """Return the actions in words; everything that can be done with backups is one thing."""
    wanted = list(actions)
    if not _BACKUPS.issubset(wanted):
        return ", ".join(_ACTIONS[action] for action in wanted)
    rest = [_ACTIONS[action] for action in wanted if action not in _BACKUPS]
    return ", ".join([*rest, "backups (making, restoring, deleting, pruning, exporting)"])


def _span(length: timedelta) -> str:
    """Return a length as people say it: hours up to a week, days from then on."""
    if length >= timedelta(days=7) and not length % timedelta(days=1):
        return f"{length // timedelta(days=1)} days"
    if not length % timedelta(hours=1):
        return f"{length // timedelta(hours=1)} h"
    return f"{length / timedelta(seconds=1):g} s"
