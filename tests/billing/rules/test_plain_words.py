"""Every kind of what staff decides, holds and records has a plain sentence for customers."""

import ast
from collections.abc import Iterator
from pathlib import Path

from billing.rules.plain_words import HOLDS, OVERRIDES, recorded
from billing.rules.terms import HoldCause, OverrideKind

ROOT = Path(__file__).resolve().parents[3]
#: What is recorded about no account, and so never read by a customer.
FLEET = {
    "apply", "breaker", "enforcement", "mode", "policy", "price", "reconcile", "run", "safe_mode", "stripe",
    "token", "vouchers",
}  # fmt: skip


def _kinds() -> Iterator[str]:
    """Yield every kind that is written out where something is recorded."""
    for package in ("api", "billing", "reconciler"):
        for file in (ROOT / package).rglob("*.py"):
            for call in ast.walk(ast.parse(file.read_text())):
                named = isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2]
                if (
                    isinstance(call, ast.Call)
                    and named in {"record", "_record", "_note", "_audit"}
                    and call.args
                ):
                    kind = call.args[1 if named == "_note" and len(call.args) > 1 else 0]
                    if isinstance(kind, ast.Constant) and isinstance(kind.value, str) and "." in kind.value:
                        yield kind.value


def test_every_kind_has_a_sentence() -> None:
    """Overrides, holds, and whatever is recorded about accounts; what nobody knows is told as just that."""
    assert OVERRIDES.keys() == set(OverrideKind)
    assert HOLDS.keys() == set(HoldCause)
    kinds = {kind for kind in _kinds() if kind.partition(".")[0] not in FLEET}
    assert {"override.placed", "hold.lifted", "server.missing", "notice.delivered", "card.added"} <= kinds
    unknown = recorded("nobody.knows")
    assert [kind for kind in sorted(kinds) if recorded(kind) is unknown] == []


def test_a_kind_without_its_own_is_told_as_its_noun() -> None:
    """What comes later is not silent."""
    assert recorded("card.polished") is recorded("card.changed")
    assert recorded("card.added") is not recorded("card.changed")
