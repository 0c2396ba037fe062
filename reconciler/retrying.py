"""Trying again now what waits after a try that came to nothing.

Owns the end of such waiting and decides nothing: whether a change is still wanted and allowed is the next pass's word.
"""

from datetime import datetime

from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from billing.accounts import look_at
from billing.audit import record
from billing.refusal import RefusalCode, refusal, required_reason
from reconciler import servers
from reconciler.models import Server, Step
from reconciler.rules.terms import StepKind, StepState

_OPEN = (StepState.DISPATCHED, StepState.UNKNOWN)


async def wait_no_longer(owner: Q, **given: object) -> int:
    """Let the steps of an owner be tried again at once; return how many waited. What is under way stays as it is."""
    waiting = Step.filter(owner, retry_at__isnull=False, **given).exclude(state__in=_OPEN)
    return await waiting.update(retry_at=None)


def of_server(server: Server) -> Q:
    """Return the condition that a step is the server's, or about its account's access on its site."""
    access = Q(server_id=None, account_id=server.account_id, site=server.site)
    return Q(server_id=server.id) | access


async def retry(server_id: int, *, reason: str, actor: str, now: datetime) -> Server:
    """Let everything that waits on a server be tried again at once.

    Refused for a retired server, while a step on it is under way, and when nothing waits.
    """
    told = required_reason(reason)
    async with in_transaction():
        server = await servers.live_server(server_id)
        await look_at(server.account_id, now=now)
        await servers.refuse_running_step(server.id)
        waiting = Step.filter(of_server(server), retry_at__gt=now).exclude(state__in=_OPEN)
        kinds: list[StepKind] = [kind for (kind,) in await waiting.distinct().values_list("kind")]
        if not kinds:
            raise refusal(RefusalCode.CONFLICT, "nothing of this server waits for another try", "serverId")
        await wait_no_longer(of_server(server))
        await record(
            "step.retried",
            ("Server", server.id),
            at=now,
            actor=actor,
            reason=told,
            account_id=server.account_id,
            after={"steps": sorted(kinds)},
        )
    return server
