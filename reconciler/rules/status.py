"""What a server is to its owner.

Owns the order of the answers alone. It follows the holds, never the observation, and knows no stage.
"""

from collections.abc import Collection, Mapping

from billing.rules.terms import Effect, HoldCause
from reconciler.rules.terms import Deployment, ServerStatus

_BEFORE_DEPLOYMENT = {
    Deployment.IN_PROGRESS: ServerStatus.PROVISIONING,
    Deployment.FAILED: ServerStatus.FAILED,
}
_STOPPED_BY_US = (HoldCause.ABUSE, HoldCause.ADMIN, HoldCause.MAINTENANCE)


def server_status(
    *, retired: bool, deployment: Deployment, missing: bool, holds: Mapping[HoldCause, Collection[Effect]]
) -> ServerStatus:
    """Return the first that applies: deleted, not deployed, missing, held, delinquent, inactive, active.

    `holds` are the effects of the holds that stand now, by cause; one that does not stop the server changes no status,
    except the customer's own wish to have it off.
    """
    if retired:
        return ServerStatus.DELETED
    if deployment in _BEFORE_DEPLOYMENT:
        return _BEFORE_DEPLOYMENT[deployment]
    if missing:
        return ServerStatus.MISSING
    stopping = {cause for cause, effects in holds.items() if Effect.STOP_SERVERS in effects}
    if stopping.intersection(_STOPPED_BY_US):
        return ServerStatus.HELD
    if HoldCause.BILLING in stopping:
        return ServerStatus.DELINQUENT
    return ServerStatus.INACTIVE if HoldCause.CUSTOMER in holds else ServerStatus.ACTIVE
