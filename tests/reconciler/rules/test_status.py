"""What a server is to its owner."""

from itertools import product

import pytest

from billing.rules.terms import Effect, HoldCause
from reconciler.rules.status import server_status
from reconciler.rules.terms import Deployment, ServerStatus

STOP, LOCK = frozenset({Effect.STOP_SERVERS}), frozenset({Effect.LOCK_BACKUPS})
#: From the strongest to the weakest: each holds whatever of the later ones holds too.
ORDER = [
    (ServerStatus.DELETED, {"retired": True}),
    (ServerStatus.PROVISIONING, {"deployment": Deployment.IN_PROGRESS}),
    (ServerStatus.FAILED, {"deployment": Deployment.FAILED}),
    (ServerStatus.MISSING, {"missing": True}),
    (ServerStatus.HELD, {"holds": {HoldCause.ABUSE: STOP}}),
    (ServerStatus.HELD, {"holds": {HoldCause.ADMIN: STOP}}),
    (ServerStatus.HELD, {"holds": {HoldCause.MAINTENANCE: STOP}}),
    (ServerStatus.DELINQUENT, {"holds": {HoldCause.BILLING: STOP}}),
    (ServerStatus.INACTIVE, {"holds": {HoldCause.CUSTOMER: STOP}}),
    (ServerStatus.ACTIVE, {}),
]
NOTHING = {"retired": False, "deployment": Deployment.SUCCEEDED, "missing": False, "holds": {}}


def merged(*facts: dict[str, object]) -> dict[str, object]:
    """Return the facts of several lines at once; of two deployments the first stands."""
    all_of: dict[str, object] = {**NOTHING, "holds": {}}
    for fact in reversed(facts):
        all_of.update({key: value for key, value in fact.items() if key != "holds"})
        all_of["holds"] = {**all_of["holds"], **fact.get("holds", {})}  # type: ignore[dict-item]
    return all_of


@pytest.mark.parametrize(("first", "second"), list(product(range(len(ORDER)), repeat=2)))
def test_it_is_the_first_that_applies(first: int, second: int) -> None:
    """Any two facts at once, in both orders: the stronger one gives the status."""
    strong, weak = sorted((first, second))
    assert server_status(**merged(ORDER[strong][1], ORDER[weak][1])) is ORDER[strong][0]  # type: ignore[arg-type]


@pytest.mark.parametrize("cause", [cause for cause in HoldCause if cause is not HoldCause.CUSTOMER])
def test_it_stays_active_under_a_hold_that_does_not_stop(cause: HoldCause) -> None:
    """Locked backups are no other status."""
    assert server_status(**{**NOTHING, "holds": {cause: LOCK}}) is ServerStatus.ACTIVE  # type: ignore[arg-type]
