"""What the demo says: how to reach it, what to type to make something happen, and what its plans change.

Owns these words and the file of settings for a second terminal. Prints nothing itself and asks nobody.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from api.demo.installation import CHECKOUT, TOKEN_VARIABLE, Installation
from api.models import Role
from reconciler.rules.terms import Mode
from simulators.proxmox.sample import ACCOUNTS, STORY, TOKEN_SECRET

#: What a reader types to walk an account up and down; README.md shows the same lines.
YOURSELF = (
    (
        "INVOICE=$(curl -s $STRIPE/create_invoice -d "
        """'{"customer": "'$STORY'", "amount": 2900, "due_date": "'$DUE'"}' | grep -o 'in_[0-9A-Za-z]*' | head -1)"""
    ),
    """curl -s $API -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d "$LOOK"; echo""",
    "abeyance explain $SERVER",
    """curl -s $STRIPE/pay_invoice -o /dev/null -d '{"invoice": "'$INVOICE'", "out_of_band": true}'""",
)
_LOOK = (
    '{"query": "{ viewer { account { standing { stage } servers { edges { node { name status } } } } } }"}'
)
#: What the command line has no use for: it answers nobody, and ages are the usual ones.
_LEFT_OUT = frozenset({"listen", "facts_max_age"})

#: Of one plan: who is concerned by what, the stage that it leads to, and whether it waits.
Change = tuple[str, str, str | None, bool]


def introduction(scene: Installation, speed: str, settings: Path) -> list[str]:
    """Return how to reach a demo that runs; `settings` is the file for a second terminal."""
    return [
        "Abeyance runs on simulators; nothing here is real, and nothing is left behind.",
        f"  GraphQL and its page   {scene.url}/graphql",
        f"  health, metrics        {scene.url}/readyz  {scene.url}/metrics",
        f"  simulated Proxmox VE   {scene.outside.site_url}/_simulator/state",
        f"  simulated Stripe       {scene.outside.stripe_url}/_simulator/state",
        f"  time                   {speed}: the 120 hours until suspension pass in seconds",
        "One token per role (Authorization: Bearer ...); the customer's is of acct-story:",
        *(f"  {role.lower():<9} {token}" for role, token in scene.tokens.items()),
        "",
        "Make it happen yourself: in another terminal take over the settings, let acct-story owe 29.00 EUR,",
        "look how it is warned, locked and stopped, ask why, then pay and see it come back:",
        f"  . {shlex.quote(str(settings))}",
        *(f"  {line}" for line in YOURSELF),
        "",
    ]


def settings_for_a_terminal(scene: Installation, customer: str, now: datetime) -> str:
    """Return a shell script that sets what the command line and `YOURSELF` need; `customer` is the story's."""
    given = {name: getattr(scene.settings, name) for name in scene.settings.model_fields_set - _LEFT_OUT}
    variables = {f"ABEYANCE_{name.upper()}": _plain(value) for name, value in sorted(given.items()) if value}
    variables |= {
        TOKEN_VARIABLE: TOKEN_SECRET,
        "API": f"{scene.url}/graphql",
        "STRIPE": f"{scene.outside.stripe_url}/_simulator/script",
        "TOKEN": scene.tokens[Role.CUSTOMER],
        "STORY": customer,
        "SERVER": f"{STORY}-{ACCOUNTS[STORY][0]}",
        "DUE": (now.astimezone(UTC) - timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "LOOK": _LOOK,
    }
    path = f"export PATH={shlex.quote(str(CHECKOUT / '.venv/bin'))}:$PATH"
    return "\n".join(
        [path, *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()), ""]
    )


def changes(steps: Iterable[Mapping[str, Any]], before: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line for everything of a plan that the one before it did not have, servers of an account together."""
    known, lines = set(map(_change, before)), []
    grouped: dict[Change, list[Mapping[str, Any]]] = {}
    for step in steps:
        grouped.setdefault(_change(step), []).append(step)
    for change, found in grouped.items():
        if change not in known:
            lines.append(_line(change, found))
    return lines


def _change(step: Mapping[str, Any]) -> Change:
    return step["kind"], step["account"], step["to_stage"], step["held_back_by"] is not None


def _line(change: Change, steps: Sequence[Mapping[str, Any]]) -> str:
    kind, account, stage, waits = change
    what = f"{kind} to {stage} {account}" if stage else f"{kind} {account}"
    servers = sum(step["server"] is not None for step in steps)
    number = f", {servers} server{'s' if servers > 1 else ''}" if servers else ""
    why = f"waits: {steps[0]['held_back_reason']}" if waits else steps[0]["reason"].rstrip(".")
    return f"{'·' if waits else '+'} {what}{number}: {why}"


def _plain(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value.value.lower() if isinstance(value, Mode) else str(value)
